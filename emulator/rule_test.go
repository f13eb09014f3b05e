package emulator

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

func TestCorrelationFilter(t *testing.T) {
	t.Parallel()
	properties := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		filter CorrelationFilter
		want   bool
	}{
		{CorrelationFilter{}, true},
		{CorrelationFilter{Subject: "order-new"}, true},
		{CorrelationFilter{Subject: "Order-new"}, false},
		{CorrelationFilter{CorrelationID: "7", MessageID: "id-1", To: "stock", SessionID: "s1", ContentType: "text/plain"}, true},
		{CorrelationFilter{MessageID: "id-1", To: "else"}, false},
		{CorrelationFilter{ReplyTo: "x"}, false},
		{CorrelationFilter{ReplyToSessionID: "x"}, false},
		{CorrelationFilter{Properties: properties("color", "red")}, true},
		{CorrelationFilter{Properties: properties("Color", "red", "quantity", 10)}, true},
		{CorrelationFilter{Properties: properties("quantity", int64(10), "price", 2.5, "paid", true)}, true},
		{CorrelationFilter{Properties: properties("quantity", uint8(10))}, true},
		{CorrelationFilter{Properties: properties("quantity", "10")}, false},
		{CorrelationFilter{Properties: properties("quantity", 10.0)}, false},
		{CorrelationFilter{Properties: properties("price", float32(2.5))}, true},
		{CorrelationFilter{Properties: properties("paid", 1)}, false},
		{CorrelationFilter{Properties: properties("when", time.UnixMilli(1_000_000))}, true},
		{CorrelationFilter{Properties: properties("missing", "x")}, false},
		{CorrelationFilter{Properties: properties("nothing", "x")}, false},
		{CorrelationFilter{Subject: "order-new", Properties: properties("color", "blue")}, false},
	} {
		if got := match(t, c.filter); got != c.want {
			t.Errorf("%+v: %v, want %v", c.filter, got, c.want)
		}
	}
	for _, wrong := range []any{nil, []byte("x"), []any{1}, struct{}{}, math.NaN} {
		_, err := CorrelationFilter{Properties: properties("p", wrong)}.compile()
		if err == nil || !strings.Contains(err.Error(), `the property "p" is a`) {
			t.Errorf("%T: got %v", wrong, err)
		}
	}
}

// decodeMessage decodes a message with the client's own code.
func decodeMessage(t *testing.T, encoded []byte) *amqp.Message {
	t.Helper()
	var m amqp.Message
	if err := m.UnmarshalBinary(encoded); err != nil {
		t.Fatal(err)
	}
	return &m
}

func testRules(t *testing.T, given []Rule) *rules {
	t.Helper()
	e, err := Start(Options{Now: func() time.Time { return time.UnixMilli(5000) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	r, err := newRules(e, "topic/Subscriptions/sub", given)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Rules without an action give the message once, those with one a changed copy each.
func TestRoute(t *testing.T) {
	t.Parallel()
	no, red := FalseFilter{}, SQLFilter{"color = 'red'"}
	for name, c := range map[string]struct {
		rules []Rule
		want  []any // the RuleName of what comes, nil for the message itself
	}{
		"default":         {nil, []any{nil}},
		"none":            {[]Rule{}, nil},
		"no match":        {[]Rule{{Name: "a", Filter: no}, {Name: "b", Filter: no, Action: "SET x = 1"}}, nil},
		"any of three":    {[]Rule{{Name: "a", Filter: no}, {Name: "b", Filter: red}, {Name: "c"}}, []any{nil}},
		"action alone":    {[]Rule{{Name: "a", Action: "REMOVE color"}}, []any{"a"}},
		"empty action":    {[]Rule{{Name: "a", Action: "  "}}, []any{nil}},
		"three with five": {[]Rule{{Name: "a", Action: "SET x = 1"}, {Name: "b"}, {Name: "c", Filter: red}, {Name: "d", Filter: red, Action: "SET x = 2"}, {Name: "e"}}, []any{nil, "a", "d"}},
	} {
		m := ruleSample(t)
		var got []any
		plain, changed := testRules(t, c.rules).route(m)
		if plain {
			got = append(got, nil)
		}
		for _, routed := range changed {
			got = append(got, decodeMessage(t, routed).ApplicationProperties["RuleName"])
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A topic whose rules match all or nothing does not look into its messages.
func TestRouteLeavesMessagesAlone(t *testing.T) {
	t.Parallel()
	m := ruleSample(t)
	testRules(t, []Rule{{Name: "a"}, {Name: "b", Filter: FalseFilter{}}}).route(m)
	if m.apart {
		t.Error("the message was taken apart")
	}
}

func TestRuleErrors(t *testing.T) {
	t.Parallel()
	e := testRules(t, nil).e
	for name, c := range map[string]struct {
		rules []Rule
		want  string
	}{
		"no name":    {[]Rule{{}}, `rule "": the name must have 1 to 50 characters`},
		"long name":  {[]Rule{{Name: strings.Repeat("ü", 51)}}, "1 to 50 characters"},
		"slash":      {[]Rule{{Name: "a/b"}}, "no slash"},
		"twice":      {[]Rule{{Name: "a"}, {Name: "A"}}, `rule "A": there is a rule of this name`},
		"expression": {[]Rule{{Name: "a", Filter: SQLFilter{"x ="}}}, `rule "a": SQL filter "x =": at character 4: `},
		"action":     {[]Rule{{Name: "a", Action: "SET"}}, `rule "a": SQL action "SET": at character 4: `},
		"pointer":    {[]Rule{{Name: "a", Filter: &SQLFilter{"1=1"}}}, "not a *emulator.SQLFilter"},
	} {
		if _, err := newRules(e, "s", c.rules); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := newRules(e, "s", []Rule{{Name: strings.Repeat("ü", 50)}, {Name: defaultRule}}); err != nil {
		t.Error(err)
	}
	many := make([]Rule, maxRules+1)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	if _, err := newRules(e, "s", many); err == nil || !strings.Contains(err.Error(), "at most 2000 rules") {
		t.Errorf("too many rules: %v", err)
	}
}
