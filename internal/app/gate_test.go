package app

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// gate stands between a client and Azurite, and can be shut: then connections break, and no new ones
// are let in.
type gate struct {
	mu       sync.Mutex
	shut     bool
	left     int // connections or chunks to let pass before it shuts; below 0: it stays open
	conns    map[net.Conn]struct{}
	upstream string
}

func newGate(t *testing.T, connection string) (*gate, string) {
	t.Helper()
	_, rest, ok := strings.Cut(connection, "BlobEndpoint=http://")
	if !ok {
		t.Fatal("the connection string has no BlobEndpoint")
	}
	upstream, _, _ := strings.Cut(rest, "/")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{left: -1, conns: map[net.Conn]struct{}{}, upstream: upstream}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				serving.Go(func() { g.serve(c) })
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.close()
		serving.Wait()
	})
	return g, strings.Replace(connection, "BlobEndpoint=http://"+upstream, "BlobEndpoint=http://"+l.Addr().String(), 1)
}

func (g *gate) serve(c net.Conn) {
	up, err := net.Dial("tcp", g.upstream)
	if err != nil || !g.enter(c, up) {
		c.Close()
		if up != nil {
			up.Close()
		}
		return
	}
	defer g.leave(c, up)
	go func() {
		_, _ = io.Copy(c, up)
		c.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := c.Read(buffer)
		if err != nil || !g.pass() {
			return
		}
		if _, err := up.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (g *gate) enter(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		g.conns[c] = struct{}{}
	}
	return !g.shut
}

func (g *gate) leave(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(g.conns, c)
	}
}

func (g *gate) pass() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left > 0 {
		g.left--
		if g.left == 0 {
			g.shutNow()
		}
	}
	return !g.shut
}

func (g *gate) shutAfter(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = n
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shutNow()
}

func (g *gate) shutNow() {
	g.shut = true
	for c := range g.conns {
		c.Close()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.left = false, -1
}
