package emulator_test

import (
	"fmt"
	"testing"

	"persistor/emulator"
)

// Clients say in different ways where they want the reply to a request: the address of the target that
// they receive on, the name of the link that they receive on, or nothing when there is only one. Two
// connections may well use the same words, and each must get its own reply.
func TestWhereRepliesGo(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	for _, c := range []struct {
		name    string
		target  described
		replyTo any
	}{
		{"to an address", described{codeTarget, []any{"answers"}}, "answers"},
		{"to a link's name", described{codeTarget, []any{}}, "cbs-in"},
		{"to the node", described{codeTarget, []any{"$cbs"}}, nil},
		{"to a link without a target", described{codeTarget, []any{nil}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			clients := []*raw{openRaw(t, e), openRaw(t, e)}
			for _, client := range clients {
				client.attachToCBS(0, c.target)
			}
			for i, client := range clients {
				id := []string{"first", "second"}[i]
				client.askCBS(0, c.replyTo, id)
				if got := correlationID(t, client.expect(codeTransfer).payload); got != id {
					t.Errorf("client %s got the reply to %v", id, got)
				}
			}
		})
	}
}

// Replies go out in a session of their own, if that is where the client receives.
func TestReplyInAnotherSession(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := openRaw(t, e)
	c.begin(4, 5000, 5000)
	c.attachCBSReceiver(4, described{codeTarget, []any{"answers"}})
	c.attachCBSSender(0)
	c.askCBS(0, "answers", "id")
	if f := c.expect(codeTransfer); f.channel != 4 || correlationID(t, f.payload) != "id" {
		t.Errorf("the reply came on channel %d", f.channel)
	}
}

// A client that receives on several links gets each reply on the one that it asked for, and on one of
// the same session when it did not say.
func TestWhichLinkGetsTheReply(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := openRaw(t, e)
	c.begin(4, 5000, 5000)
	for _, channel := range []uint16{0, 4} {
		for handle, name := range []string{"a", "b"} {
			name = fmt.Sprint(name, channel)
			c.send(channel, codeAttach, "link "+name, uint32(handle+2), true, uint8(1), uint8(0), described{codeSource, []any{"$cbs"}}, described{codeTarget, []any{name}})
			c.expect(codeAttach)
			c.send(channel, codeFlow, nil, uint32(5000), uint32(0), uint32(5000), uint32(handle+2), uint32(0), uint32(10))
		}
		c.attachCBSSender(channel)
	}
	for i, want := range []struct {
		from    uint16
		replyTo any
		channel uint16
		handle  any // nil is any
	}{
		{0, "a0", 0, uint32(2)}, {0, "b0", 0, uint32(3)}, {0, "a4", 4, uint32(2)}, {0, "b4", 4, uint32(3)}, {0, "link b4", 4, uint32(3)},
		{4, "a0", 0, uint32(2)}, {4, "b0", 0, uint32(3)}, {4, "link a0", 0, uint32(2)},
		{0, nil, 0, nil}, {4, nil, 4, nil},
	} {
		c.askCBS(want.from, want.replyTo, fmt.Sprint(i))
		f := c.expect(codeTransfer)
		if f.channel != want.channel || want.handle != nil && f.field(0) != want.handle || correlationID(t, f.payload) != fmt.Sprint(i) {
			t.Errorf("a reply from channel %d to %v came on channel %d, handle %v", want.from, want.replyTo, f.channel, f.field(0))
		}
	}
}

// correlationID takes the correlation-id out of an encoded message.
func correlationID(t *testing.T, message []byte) any {
	t.Helper()
	for len(message) > 0 {
		v, rest, err := decode(message)
		if err != nil {
			t.Fatal(err)
		}
		section, _ := v.(described)
		if fields, _ := section.value.([]any); section.code == 0x73 && len(fields) > 5 {
			return fields[5]
		}
		message = rest
	}
	return nil
}
