package emulator

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"persistor/emulator/internal/wire"
)

// The management node's three operations on rules, with bodies as clients write them.
func TestRuleManagement(t *testing.T) {
	t.Parallel()
	r := testRules(t, nil)
	add := func(name string, description any) *reply {
		return r.addRule(wire.Map{{Key: "rule-name", Value: name}, {Key: "rule-description", Value: description}})
	}
	expression := func(text string) wire.Map { return wire.Map{{Key: "expression", Value: text}} }
	sql := func(text string) wire.Map {
		return wire.Map{{Key: "sql-filter", Value: expression(text)}, {Key: "sql-rule-action", Value: nil}}
	}
	correlation := wire.Map{
		{Key: "correlation-filter", Value: wire.Map{
			{Key: "correlation-id", Value: "c"}, {Key: "label", Value: "l"}, {Key: "session-id", Value: nil},
			{Key: "properties", Value: wire.Map{{Key: "n", Value: int32(5)}, {Key: wire.Symbol("s"), Value: wire.Symbol("x")}}},
		}},
		{Key: "sql-rule-action", Value: expression("SET a = 1")},
	}
	for name, description := range map[string]any{"sql": sql("color = 'red'"), "correlation": correlation} {
		if got := add(name, description); got.status != 200 {
			t.Errorf("add %s: %+v", name, got)
		}
	}
	withParameters := wire.Map{{Key: "sql-filter", Value: append(expression("a = @p"), wire.Pair{Key: "parameters", Value: wire.Map{{Key: "@p", Value: "x"}}})}}
	for name, c := range map[string]struct {
		got       *reply
		status    int32
		condition string
	}{
		"twice":          {add("SQL", sql("1=1")), 409, "com.microsoft:entity-already-exists"},
		"no description": {add("x", nil), 400, "com.microsoft:argument-error"},
		"neither":        {add("x", wire.Map{}), 400, "com.microsoft:argument-error"},
		"both":           {add("x", append(sql("1=1"), correlation...)), 400, "com.microsoft:argument-error"},
		"no name":        {add("", sql("1=1")), 400, "com.microsoft:argument-error"},
		"expression":     {add("x", sql("1=")), 400, "com.microsoft:argument-error"},
		"null filter":    {add("x", wire.Map{{Key: "sql-filter", Value: nil}}), 400, "com.microsoft:argument-error"},
		"action":         {add("x", append(sql("1=1")[:1], wire.Pair{Key: "sql-rule-action", Value: expression("x")})), 400, "com.microsoft:argument-error"},
		"parameters":     {add("x", withParameters), 501, wire.ConditionNotImplemented},
		"property name":  {add("x", wire.Map{{Key: "correlation-filter", Value: wire.Map{{Key: "properties", Value: wire.Map{{Key: true, Value: 1}}}}}}), 400, "com.microsoft:argument-error"},
		"property":       {add("x", wire.Map{{Key: "correlation-filter", Value: wire.Map{{Key: "properties", Value: wire.Map{{Key: "p", Value: nil}}}}}}), 400, "com.microsoft:argument-error"},
		"remove missing": {r.removeRule(wire.Map{{Key: "rule-name", Value: "x"}}), 404, wire.ConditionNotFound},
	} {
		if c.got.status != c.status || c.got.condition != c.condition || c.got.description == "" {
			t.Errorf("%s: %+v, want status %d and %s", name, c.got, c.status, c.condition)
		}
	}
	if got := r.removeRule(wire.Map{{Key: "rule-name", Value: "$default"}}); got.status != 200 {
		t.Errorf("remove: %+v", got)
	}
	if plain, changed := r.route(ruleSample(t)); !plain || len(changed) > 0 {
		t.Errorf("the message itself: %v, and %d copies; want it for the SQL rule", plain, len(changed))
	}
	for len(r.all()) < maxRules {
		if err := r.add(Rule{Name: fmt.Sprint(len(r.all()))}); err != nil {
			t.Fatal(err)
		}
	}
	if got := add("one too many", sql("1=1")); got.status != 403 || got.condition != wire.ConditionResourceLimitExceeded {
		t.Errorf("too many rules: %+v", got)
	}
}

// Rules are listed by pages, in described lists whose descriptors clients know.
func TestEnumerateRules(t *testing.T) {
	t.Parallel()
	r := testRules(t, []Rule{
		{Name: "all"}, {Name: "none", Filter: FalseFilter{}}, {Name: "sql", Filter: SQLFilter{"a = 1"}, Action: "SET b = 2"},
		{Name: "correlation", Filter: CorrelationFilter{
			CorrelationID: "1", MessageID: "2", To: "3", ReplyTo: "4", Subject: "5", SessionID: "6", ContentType: "8",
			Properties: map[string]any{"n": 9},
		}},
	})
	described := func(code uint64, fields ...any) wire.Described {
		return wire.Described{Descriptor: code, Value: append([]any{}, fields...)}
	}
	created, empty := wire.Timestamp(5000), described(1335734829061)
	want := []any{
		described(1335734829060, described(83483426823), empty, "all", created),
		described(1335734829060, described(83483426824), empty, "none", created),
		described(1335734829060, described(83483426822, "a = 1", int32(20)), described(1335734829062, "SET b = 2", int32(20)), "sql", created),
		described(1335734829060, described(83483426825, "1", "2", "3", "4", "5", "6", nil, "8", wire.Map{{Key: "n", Value: int64(9)}}), empty, "correlation", created),
	}
	list := func(body wire.Map) []any {
		t.Helper()
		answer := r.enumerateRules(body)
		if answer.body == nil {
			if answer.status != 204 {
				t.Errorf("status %d without a body", answer.status)
			}
			return nil
		}
		// Through the wire, as a client gets it.
		encoded, _ := wire.NewReader(wire.AppendAny(nil, answer.body)).Any().(wire.Map)
		var rules []any
		for _, rule := range encoded.Get("rules").([]any) {
			rules = append(rules, rule.(wire.Map).Get("rule-description"))
		}
		return rules
	}
	page := func(skip, top any) wire.Map { return wire.Map{{Key: "top", Value: top}, {Key: "skip", Value: skip}} }
	for name, c := range map[string]struct {
		body wire.Map
		want []any
	}{
		"all":      {page(int32(0), int32(100)), want},
		"no page":  {nil, want},
		"first":    {page(int32(0), int32(1)), want[:1]},
		"middle":   {page(uint32(1), int64(2)), want[1:3]},
		"past":     {page(int32(4), int32(100)), nil},
		"far past": {page(int64(math.MaxInt64), int64(math.MaxInt64)), nil},
		"negative": {page(int32(-1), int32(-1)), nil},
	} {
		if diff := cmp.Diff(c.want, list(c.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
