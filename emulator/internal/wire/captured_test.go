package wire

// captured is filled from a session of the real client.
var captured []string
