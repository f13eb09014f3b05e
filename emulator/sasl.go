package emulator

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"

	"persistor/emulator/internal/wire"
)

// mechanisms are those that the service offers, in its order. MSSBCBS and ANONYMOUS leave it to $cbs to authorize;
// EXTERNAL does the same here, where there are no client certificates.
var mechanisms = []string{"MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"}

// handshake exchanges the protocol headers and the SASL frames. Nothing is sent that was not asked for: the AMQP header
// goes out only after the client's came, and so never in one write with the SASL outcome, which rhea would stumble
// over. A client may send ahead.
func (c *connection) handshake() error {
	if err := c.header(wire.HeaderSASL); err != nil {
		return err
	}
	if err := c.send(wire.AppendSASLFrame(nil, &wire.Mechanisms{Names: mechanisms})); err != nil {
		return err
	}
	f, err := wire.ReadFrame(c.r, wire.MinMaxFrameSize*16, &c.frame)
	if err != nil {
		return err
	}
	p, _, err := wire.Parse(f.Body)
	if err != nil {
		return err
	}
	init, ok := p.(*wire.Init)
	if !ok || f.Type != wire.TypeSASL {
		return fmt.Errorf("sasl-init is expected, got %s", wire.Name(p))
	}
	const ok0, failed = 0, 1
	if !c.authenticate(init) {
		_ = c.send(wire.AppendSASLFrame(nil, &wire.Outcome{Code: failed}))
		return errors.New("the SASL name and password are wrong")
	}
	if err := c.send(wire.AppendSASLFrame(nil, &wire.Outcome{Code: ok0})); err != nil {
		return err
	}
	return c.header(wire.HeaderAMQP)
}

// header reads the client's protocol header and answers with the one that is wanted. If they differ, that is all the
// client gets to know, part 2.2 of the standard.
func (c *connection) header(want string) error {
	var got [len(wire.HeaderAMQP)]byte
	if _, err := io.ReadFull(c.r, got[:]); err != nil {
		return err
	}
	if err := c.send([]byte(want)); err != nil {
		return err
	}
	if string(got[:]) != want {
		return fmt.Errorf("protocol header %q is expected, got %q", want, got)
	}
	return nil
}

// authenticate checks the name and password of PLAIN if there are any, which then stand for a token for everything.
// Clients that go on to $cbs leave them out.
func (c *connection) authenticate(init *wire.Init) bool {
	if init.Mechanism != "PLAIN" {
		return true
	}
	parts := bytes.Split(init.Response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return true
	}
	key, known := c.e.rights[string(parts[1])]
	if !c.e.options.AllowAnyToken {
		if subtle.ConstantTimeCompare([]byte(key.Value), parts[2]) != 1 || !known {
			return false
		}
	} else {
		key.Send, key.Listen = true, true
	}
	c.claims[""] = claim{send: key.Send, listen: key.Listen, expires: time.Unix(maxUnixSeconds, 0)}
	return true
}
