package emulator

import "time"

// Limits bound what clients can make the emulator hold, and say after what time it loses its patience. Zero is the
// default, which is the service's own where that is known; a negative time is never.
type Limits struct {
	Connections           int    // 1,000
	SessionsPerConnection int    // 5,000, as channel-max 4999 says
	LinksPerSession       int    // 256, as handle-max 255 says
	FrameSize             uint32 // bytes of the largest frame, 512 and more; 65,536
	Readers               int    // without an owner level, of a partition in a consumer group; 5

	Handshake      time.Duration // from the connection to its open; 15 s
	Token          time.Duration // from the open to the first valid token; 20 s
	FirstLink      time.Duration // from the open to the first link; 60 s
	ConnectionIdle time.Duration // without any link after that; 5 min
	LinkIdle       time.Duration // without a transfer or a flow; 10 min
	Silence        time.Duration // without any frame from the client, advertised as idle-time-out; 4 min
	Write          time.Duration // for a write to a client that does not read; 1 min
}

// connectionsToRefuse is how many connections above the limit are refused in AMQP's words at a time.
const connectionsToRefuse = 16

func (l Limits) withDefaults() Limits {
	setDefault(&l.Connections, 1000)
	setDefault(&l.SessionsPerConnection, 5000)
	setDefault(&l.LinksPerSession, 256)
	setDefault(&l.FrameSize, 65536)
	setDefault(&l.Readers, 5)
	setDefault(&l.Handshake, 15*time.Second)
	setDefault(&l.Token, 20*time.Second)
	setDefault(&l.FirstLink, 60*time.Second)
	setDefault(&l.ConnectionIdle, 5*time.Minute)
	setDefault(&l.LinkIdle, 10*time.Minute)
	setDefault(&l.Silence, 4*time.Minute)
	setDefault(&l.Write, time.Minute)
	l.FrameSize = max(l.FrameSize, 512)
	l.SessionsPerConnection = min(l.SessionsPerConnection, 65536)
	return l
}

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// passed reports whether a time that began at since is over its limit, which negative ones never are.
func passed(since, now time.Time, limit time.Duration) bool {
	return limit > 0 && now.Sub(since) >= limit
}
