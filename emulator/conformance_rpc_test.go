package emulator_test

import (
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
