package servicebus

import "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

// appetite chooses how many messages one receive call asks for: as many as fit into a number of bytes,
// going by the largest that came lately. The client takes in whatever it has asked for, and a message may
// have 100 MB; so a loop begins with one message, and asks for a few times more with every call, as long as
// what comes is small. A loop that has seen only small messages and then meets large ones holds as many of
// those, once, as it had asked for.
type appetite struct {
	fixed int // chosen by the user; 0 for none
	bytes int
	large float64 // bytes of the largest message lately
	calls int     // that returned messages
}

const (
	mostMessages = 1000 // more in one call gain nothing
	// messageOverhead is what a message takes in memory beside its body, in bytes.
	messageOverhead = 4000
	// settlingOverhead is what is left of a message to settle it by, when it is in a batch.
	settlingOverhead = 2000
	// forgetting is how fast large messages are forgotten, with every call that returns none.
	forgetting = 0.8
)

func (a *appetite) count(n int) int {
	fits := int(float64(a.bytes) / (a.large + messageOverhead))
	growth := 1 << min(2*a.calls, 20) // 1, 4, 16, 64 ...
	if a.fixed > 0 {
		growth = a.fixed
	}
	return max(min(n, fits, growth, mostMessages), 1)
}

// room is how many messages a batch may hold. There are two of them, to which as much memory is given as to
// what is received.
func (a *appetite) room() int { return max(a.bytes/2/settlingOverhead, 1) }

// observe learns from what was received.
func (a *appetite) observe(messages []*azservicebus.ReceivedMessage) {
	a.calls++
	a.large *= forgetting
	for _, m := range messages {
		size := 0
		for _, section := range m.RawAMQPMessage.Body.Data {
			size += len(section)
		}
		a.large = max(a.large, float64(size))
	}
}
