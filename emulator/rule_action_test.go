package emulator

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"persistor/emulator/internal/wire"
)

func TestActions(t *testing.T) {
	t.Parallel()
	type change func(*amqp.Message)
	set := func(name string, v any) change {
		return func(m *amqp.Message) { m.ApplicationProperties[name] = v }
	}
	remove := func(name string) change {
		return func(m *amqp.Message) { delete(m.ApplicationProperties, name) }
	}
	for action, changes := range map[string][]change{
		"SET color = 'blue'":                           {set("color", "blue")},
		"set COLOR = 'blue';":                          {set("color", "blue")},
		"SET user.shade = 'dark'":                      {set("shade", "dark")},
		"SET [a name] = 1; SET b = 1.5 SET c = TRUE":   {set("a name", int64(1)), set("b", 1.5), set("c", true)},
		"SET quantity = quantity / 2; REMOVE paid;":    {set("quantity", int32(5)), remove("paid")},
		"SET quantity = quantity * 1000000000":         {set("quantity", int64(10_000_000_000))},
		"SET quantity = 'many'":                        {set("quantity", "many")},
		"SET price = 3":                                {set("price", int64(3))},
		"SET a = 1; SET b = a + 1; REMOVE a":           {set("b", int64(2))},
		"SET a = missing":                              {set("a", nil)},
		"SET a = quantity / 0":                         {set("a", nil)},
		"SET a = raw; SET b = when; SET c = quantity":  {set("a", []byte{1}), set("b", time.UnixMilli(1_000_000).UTC()), set("c", int32(10))},
		"SET a = sys.EnqueuedTimeUtc":                  {set("a", time.UnixMilli(1_000_000).UTC())},
		"SET huge = 5":                                 {set("huge", uint64(5))},
		"SET huge = -5":                                {set("huge", int64(-5))},
		"REMOVE missing;;":                             nil,
		"REMOVE color REMOVE user.[customer id]":       {remove("color"), remove("customer id")},
		"SET exact = 'x'":                              {set("exact", "x")},
		"SET set = 1; REMOVE remove":                   {set("set", int64(1))},
		"SET sys.Label = 'x' ; SET sys.SessionId='s2'": {func(m *amqp.Message) { m.Properties.Subject, m.Properties.GroupID = ptrTo("x"), ptrTo("s2") }},
		"SET sys.CorrelationId = quantity":             {func(m *amqp.Message) { m.Properties.CorrelationID = "10" }},
		"SET sys.To = price; SET sys.ReplyTo = paid":   {func(m *amqp.Message) { m.Properties.To, m.Properties.ReplyTo = ptrTo("2.5"), ptrTo("true") }},
		"SET sys.MessageId = when":                     {func(m *amqp.Message) { m.Properties.MessageID = "1970-01-01T00:16:40Z" }},
		"REMOVE sys.ContentType; SET sys.To = missing": {func(m *amqp.Message) { m.Properties.ContentType, m.Properties.To = nil, nil }},
		"SET sys.ReplyToSessionId = sys.SessionId":     {func(m *amqp.Message) { m.Properties.ReplyToGroupID = ptrTo("s1") }},
	} {
		m := ruleSample(t)
		original := string(m.message)
		plain, out := testRules(t, []Rule{{Name: "rule", Action: action}}).route(m)
		if plain || len(out) != 1 {
			t.Errorf("%s: the message itself: %v, and %d copies", action, plain, len(out))
			continue
		}
		got, want := decodeMessage(t, out[0]), decodeMessage(t, m.message)
		want.ApplicationProperties["RuleName"] = "rule"
		for _, change := range changes {
			change(want)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(amqp.Message{}), cmp.Comparer(sameFloat)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", action, diff)
		}
		if string(m.message) != original {
			t.Errorf("%s changed the message that was sent", action)
		}
	}
}

func sameFloat(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// A number keeps the type of the one it replaces if it fits, whatever the type.
func TestActionKeepsTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		old  any
		set  string
		want any
	}{
		{int8(1), "127", int8(127)}, {int8(1), "128", int64(128)}, {int16(1), "-32768", int16(-32768)}, {int16(1), "32768", int64(32768)},
		{int32(1), "2147483647", int32(2147483647)}, {int64(1), "2", int64(2)}, {uint8(1), "255", uint8(255)}, {uint8(1), "-1", int64(-1)},
		{uint16(1), "65535", uint16(65535)}, {uint32(1), "4294967295", uint32(4294967295)}, {uint32(1), "4294967296", int64(4294967296)},
		{uint64(1), "2", uint64(2)}, {float32(1), "0.5", float32(0.5)}, {float32(1), "0.1", 0.1}, {float64(1), "0.1", 0.1}, {int32(1), "0.5", 0.5},
		{"text", "1", int64(1)}, {true, "1", int64(1)}, {float64(1), "1", int64(1)},
		{true, "n", true}, {wire.Symbol("s"), "n", wire.Symbol("s")}, {wire.UUID{1}, "n", wire.UUID{1}}, {wire.Char('c'), "n", wire.Char('c')},
		{int32(1), "later - when", wire.Described{Descriptor: wire.Symbol("com.microsoft:timespan"), Value: int64(600_000_000)}},
	} {
		message := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{
			{Key: "n", Value: c.old}, {Key: "when", Value: wire.Timestamp(0)}, {Key: "later", Value: wire.Timestamp(60_000)},
		})
		compiled, err := compileRule(Rule{Name: "r", Action: "SET n = " + c.set})
		if err != nil {
			t.Fatal(err)
		}
		changed := &ruleMessage{message: (&ruleMessage{message: message}).changed(compiled)}
		if got, _ := changed.property("n"); got != c.want {
			t.Errorf("%T SET to %s: %T %v, want %T %v", c.old, c.set, got, got, c.want, c.want)
		}
	}
}

// Values of any AMQP type are compared by what they mean.
func TestRuleValues(t *testing.T) {
	t.Parallel()
	for text, v := range map[string]any{
		"v = 5": int8(5), "v = 6": int16(6), "v = 7": uint8(7), "v = 8": uint16(8), "v = 9": uint32(9), "v = 10": uint64(10), "v = 0.5": float32(0.5),
		"v = 's'": wire.Symbol("s"), "v = 'ü'": wire.Char('ü'), "v = '01000000-0000-0000-0000-000000000002'": wire.UUID{0: 1, 15: 2},
	} {
		message := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{{Key: "v", Value: v}})
		test, err := SQLFilter{text}.compile()
		if err != nil {
			t.Fatal(err)
		}
		if !test(&ruleMessage{message: message}) {
			t.Errorf("%s does not match %T %v", text, v, v)
		}
	}
}

// A message without properties gets those that an action sets, and keeps everything else.
func TestActionOnBareMessage(t *testing.T) {
	t.Parallel()
	encoded, err := (&amqp.Message{Value: "v"}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]*amqp.Message{
		"SET sys.Label = 'x'":                            {Value: "v", Properties: &amqp.MessageProperties{Subject: ptrTo("x")}, ApplicationProperties: map[string]any{"RuleName": "r"}},
		"SET a = 1":                                      {Value: "v", ApplicationProperties: map[string]any{"RuleName": "r", "a": int64(1)}},
		"REMOVE RuleName":                                {Value: "v"},
		"SET a = sys.TimeToLive":                         {Value: "v", ApplicationProperties: map[string]any{"RuleName": "r", "a": nil}},
		"SET sys.To = sys.TimeToLive":                    {Value: "v", ApplicationProperties: map[string]any{"RuleName": "r"}},
		"SET a = sys.ExpiresAtUtc - sys.EnqueuedTimeUtc": {Value: "v", ApplicationProperties: map[string]any{"RuleName": "r", "a": nil}},
	} {
		_, out := testRules(t, []Rule{{Name: "r", Action: action}}).route(&ruleMessage{message: encoded})
		if diff := cmp.Diff(want, decodeMessage(t, out[0]), cmp.AllowUnexported(amqp.Message{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", action, diff)
		}
	}
}

func TestActionErrors(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]string{
		"x":                             `at character 1: SET or REMOVE is expected, not "x"`,
		"SET":                           "at character 4: the name of a property is expected, not the end",
		"SET a":                         "= is expected, not the end",
		"SET a = ":                      "a value is expected, not the end",
		"SET a = 1 AND 2":               "SET or REMOVE is expected",
		"SET a = (b = 1)":               "a value is expected, not a condition",
		"SET sys.Colour = 1":            "there is no system property",
		"SET sys.LockToken = 1":         "at character 5: this system property can't be changed; contenttype, correlationid, label,",
		"REMOVE sys.Size":               "this system property can't be changed",
		"REMOVE":                        "the name of a property is expected",
		"REMOVE 'a'":                    "the name of a property is expected, not a text",
		"; SET a = 1":                   "SET or REMOVE is expected",
		"SET a = @b":                    "parameters such as @name are not supported",
		"[SET] a = 1":                   "SET or REMOVE is expected",
		"UPDATE a = 1":                  "SET or REMOVE is expected",
		strings.Repeat("REMOVE a;", 33): "an action has at most 32 statements",
		"SET a = '" + strings.Repeat("x", 1024) + "'": "it has 1034 characters, more than 1024",
	} {
		_, err := compileRule(Rule{Name: "r", Action: action})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "SQL action") {
			t.Errorf("%.60s: got %v, want an error with %q", action, err, want)
		}
	}
	if _, err := compileRule(Rule{Name: "r", Action: strings.Repeat("REMOVE a;", 32)}); err != nil {
		t.Error(err)
	}
}
