package hosttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports to be given to handlers. Systems take those that they choose by themselves, for a listener on port 0 or at a
// caller's end, from 32768 up (Linux) or from 49152 up (RFC 6335), so none of these is taken between its choice and the
// handler's start.
const (
	firstPort = 20000
	ports     = 12000
)

// port is a TCP port of 127.0.0.1 that no other host is given, in this process or another, until it is released. What is
// sent to a port that two handlers were given is answered by whichever was sooner.
type port struct {
	number int
	claim  net.PacketConn // a UDP socket of the same number, which nobody else can have
}

func claimPort() (port, error) {
	for range 100 {
		address := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: firstPort + rand.IntN(ports)}
		claim, err := net.ListenPacket("udp4", address.String())
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp4", address.String()); err == nil {
			l.Close()
			return port{address.Port, claim}, nil
		}
		claim.Close()
	}
	return port{}, errors.New("no port of a hundred is free")
}

func (p port) release() { _ = p.claim.Close() }

// Port returns a TCP port of 127.0.0.1 that is free, and that no [Host] uses, until the test ends.
func Port(t testing.TB) int {
	t.Helper()
	p, err := claimPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	return p.number
}
