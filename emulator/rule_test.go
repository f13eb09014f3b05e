package emulator

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"persistor/emulator/internal/wire"
)

// ruleSample is a message with something of every kind.
func ruleSample(t testing.TB) *ruleMessage {
	t.Helper()
	sent := &amqp.Message{
		Header:      &amqp.MessageHeader{Durable: true, TTL: time.Minute},
		Annotations: amqp.Annotations{"x-opt-partition-key": "pk"},
		Properties: &amqp.MessageProperties{
			MessageID: "id-1", CorrelationID: uint64(7), To: ptrTo("stock"), Subject: ptrTo("order-new"), GroupID: ptrTo("s1"),
			ContentType: ptrTo("text/plain"),
		},
		ApplicationProperties: map[string]any{
			"color": "red", "quantity": int32(10), "price": 2.5, "paid": true, "empty": "", "nothing": nil, "percent": "50%_off",
			"customer id": "c", "Exact": "E", "exact": "e", "huge": uint64(math.MaxUint64), "raw": []byte{1}, "least": int64(math.MinInt64),
			"when": time.UnixMilli(1_000_000).UTC(), "later": time.UnixMilli(1_060_000).UTC(), "nan": math.NaN(),
		},
		Data: [][]byte{[]byte("body")},
	}
	encoded, err := sent.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return &ruleMessage{message: encoded, sequence: 42, enqueued: time.UnixMilli(1_000_000).UTC(), expires: time.UnixMilli(1_060_000).UTC()}
}

func ptrTo[T any](v T) *T { return &v }

// match tests a filter on the sample.
func match(t *testing.T, f Filter) bool {
	t.Helper()
	test, err := f.compile()
	if err != nil {
		t.Fatalf("%#v: %v", f, err)
	}
	return test(ruleSample(t))
}

func TestSQLFilter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"1=1": true, "1=0": false, "TRUE": true, "false": false, "paid": true, "NOT paid": false, "color": false,

		"color = 'red'": true, "color = 'Red'": false, "COLOR = 'red'": true, "user.color='red'": true, `"color" = 'red'`: true,
		"[customer id] = 'c'": true, `user."customer id" = 'c'`: true, "Exact = 'E'": true, "exact = 'e'": true, "EXACT = 'E' OR EXACT = 'e'": true,
		"color <> 'blue'": true, "color != 'blue'": true, "color < 'ree'": true, "color >= 'red'": true, "color > 'red'": false,
		"empty = ''": true, "color = 'it''s'": false, "'it''s' = 'it''s'": true,

		"quantity = 10": true, "quantity <> 10": false, "quantity > 9 AND quantity <= 10": true, "quantity = 10.0": true, "10 = quantity": true,
		"price = 2.5": true, "price < 3": true, "price > 25e-1": false, "price = 0.25E1": true, "paid = TRUE": true, "paid <> true": false,
		"huge > 9223372036854775807": true, "least = -9223372036854775808": true,

		"quantity + 5 * 2 = 20": true, "(quantity + 5) * 2 = 30": true, "quantity / 4 = 2": true, "quantity / 4.0 = 2.5": true,
		"quantity % 4 = 2": true, "-quantity = -10": true, "- -quantity = 10": true, "+quantity = 10": true, "10 - 3 - 2 = 5": true,
		"price * quantity = 25": true, "later - when <= sys.TimeToLive": true, "when + (later - when) = later": true, "5.5 % 2 = 1.5": true,
		"price - 1 = 1.5": true, "1 - price = -1.5": true, "price / 2 = 1.25": true, "price + quantity = 12.5": true, "7 - 9 = -2": true,
		"later - sys.TimeToLive = when": true, "later - when + (later - when) > sys.TimeToLive": true, "when < later": true,
		"0 * 9223372036854775807 = 0": true, "-1 * 5 = -5": true, "later - when <> sys.TimeToLive": false,

		"color IN ('blue', 'red')": true, "color IN ('blue')": false, "color NOT IN ('blue')": true, "quantity IN (1, 10.0)": true,
		"quantity IN (5 + 5)": true, "NOT color IN ('red')": false,

		"color LIKE 'r%'": true, "color LIKE 'r_d'": true, "color LIKE '_'": false, "color LIKE '%'": true, "color LIKE 'R%'": false,
		"color NOT LIKE 'b%'": true, "color LIKE '%e%d%'": true, "color LIKE '%x%'": false, "empty LIKE ''": true, "empty LIKE '%%'": true,
		`percent LIKE '50\%\_off' ESCAPE '\'`: true, `percent LIKE '51\%%' ESCAPE '\'`: false, "percent LIKE '50%off'": true,
		`percent LIKE '50!%%' ESCAPE '!'`: true, "color LIKE 'red!' ESCAPE '!'": false,

		"EXISTS(color)": true, "EXISTS ( user.Missing )": false, "NOT EXISTS(missing)": true, "EXISTS(nothing)": true, "exists([customer id])": true,
		"EXISTS(sys.Label)": true, "EXISTS(sys.ReplyTo)": false,
		"missing IS NULL": true, "nothing IS NULL": true, "color IS NULL": false, "color IS NOT NULL": true, "missing is not null": false,
		"sys.ReplyTo IS NULL": true, "raw IS NOT NULL": true,

		"sys.Label = 'order-new'": true, "sys.subject LIKE 'order-%'": true, "SYS.MESSAGEID = 'id-1'": true, "sys.CorrelationId = '7'": true,
		"sys.To IN ('stock')": true, "sys.SessionId = 's1'": true, "sys.ContentType = 'text/plain'": true, "sys.[Label] = 'order-new'": true,
		"sys.SequenceNumber = 42": true, "sys.EnqueuedTimeUtc = when": true, "sys.ExpiresAtUtc = later": true, "sys.DeliveryCount = 0": true,
		"sys.PartitionKey = 'pk'": true, "sys.ExpiresAtUtc - sys.EnqueuedTimeUtc = sys.TimeToLive": true, "sys.Size > 10": true,
		"sys.LockToken IS NULL AND sys.LockedUntilUtc IS NULL": true,

		"property('color') = 'red'": true, "p('customer id') = 'c'": true, "newid() <> newid()": true,
		"newid() LIKE '________-____-4___-____-____________'": true, "set = 1 OR color = 'red'": true,

		// OR after AND, NOT before both, comparisons before all.
		"TRUE OR FALSE AND FALSE": true, "(TRUE OR FALSE) AND FALSE": false, "NOT FALSE AND FALSE": false, "NOT (FALSE AND FALSE)": true,
		"NOT NOT paid": true, "((quantity)) = ((10))": true, "NOT quantity = 9": true,
	} {
		if got := match(t, SQLFilter{text}); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// What is unknown is neither true nor false.
func TestSQLFilterUnknown(t *testing.T) {
	t.Parallel()
	for _, unknown := range []string{
		"missing = 1", "missing <> 1", "missing < 1", "nothing = NULL", "NULL = NULL", "NULL <> 1", "missing LIKE '%'", "color LIKE missing",
		"quantity LIKE '1%'", "missing NOT LIKE 'a'", "missing IN (1)", "missing NOT IN (1)", "quantity NOT IN (1, NULL)", "quantity IN (1, missing)",
		"color = 1", "color <> 1", "quantity = '10'", "paid = 1", "paid > FALSE", "raw = raw", "color = TRUE", "when = '1970-01-01'",
		"missing + 1 = 2", "-missing = 1", "color + 'x' = 'redx'", "+color = 'red'", "-color = 'red'", "quantity / 0 = 1", "quantity % 0 = 1",
		"least / -1 = 1", "-least > 0", "least - 1 < 0", "9223372036854775807 + 1 > 0", "least * -1 > 0", "4611686018427387904 * 2 > 0",
		"when * 2 = later", "when + later = when", "(later - when) * (later - when) > sys.TimeToLive", "color", "quantity = 10 AND missing = 1",
		"FALSE OR missing = 1", "color = 'blue' OR missing", "p(quantity) = 1", "p('missing') = 1", "EXISTS(color) AND color > 5",
	} {
		for _, text := range []string{unknown, "NOT (" + unknown + ")"} {
			if match(t, SQLFilter{text}) {
				t.Errorf("%s matches", text)
			}
		}
		// It is not false either: what is false or unknown is not known, but what is true or unknown is.
		if !match(t, SQLFilter{"(" + unknown + ") OR TRUE"}) || !match(t, SQLFilter{"NOT ((" + unknown + ") AND FALSE)"}) {
			t.Errorf("%s: one side is enough to tell", unknown)
		}
	}
	// Nothing is more, less or equal to a number that is none.
	for text, want := range map[string]bool{"nan = nan": false, "nan < 1": false, "nan > 1": false, "nan <> nan": true, "nan >= 1": false, "1 <= nan": false} {
		if got := match(t, SQLFilter{text}); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestSQLLogic(t *testing.T) {
	t.Parallel()
	const T, F, U = "TRUE", "FALSE", "missing = 1"
	for _, c := range []struct{ a, b, and, or string }{
		{T, T, T, T}, {T, F, F, T}, {T, U, U, T},
		{F, T, F, T}, {F, F, F, F}, {F, U, F, U},
		{U, T, U, T}, {U, F, F, U}, {U, U, U, U},
	} {
		for text, want := range map[string]string{c.a + " AND " + c.b: c.and, c.a + " OR " + c.b: c.or} {
			if got := match(t, SQLFilter{text}); got != (want == T) {
				t.Errorf("%s: %v, want %s", text, got, want)
			}
			if got := match(t, SQLFilter{"NOT (" + text + ")"}); got != (want == F) {
				t.Errorf("NOT (%s): %v, with %s in parentheses", text, got, want)
			}
		}
	}
}

func TestSQLFilterErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "at character 1: a value is expected, not the end",
		"  ":                                   "at character 3: a value is expected, not the end",
		"color":                                "",
		"color =":                              "at character 8: a value is expected, not the end",
		"color = 'red":                         "at character 9: the closing ' is missing",
		"[color = 'red'":                       "at character 1: the closing ] is missing",
		`ünïcödé = "x`:                         `at character 11: the closing " is missing`,
		"color == 'red'":                       `at character 8: a value is expected, not "="`,
		"color = 'red' 'x'":                    "at character 15: an operator or the end is expected, not a text",
		"color = 'red')":                       `at character 14: an operator or the end is expected, not ")"`,
		"(color = 'red'":                       "at character 15: ) is expected, not the end",
		"color = @color":                       "at character 9: parameters such as @name are not supported",
		"1":                                    "at character 1: a condition is expected, not a value",
		"NOT 1":                                "at character 5: a condition is expected, not a value",
		"a = 1 AND 'x'":                        "at character 11: a condition is expected",
		"'x' OR a = 1":                         "at character 1: a condition is expected",
		"(a = 1) + 2 = 3":                      "at character 1: a value is expected, not a condition",
		"a = (b = 1)":                          "at character 5: a value is expected, not a condition",
		"a = 1 = 2":                            `at character 7: an operator or the end is expected, not "="`,
		"-(a = 1) = 2":                         "a value is expected, not a condition",
		"(a = 1) IN (1)":                       "a value is expected, not a condition",
		"a IN ((b = 1))":                       "a value is expected, not a condition",
		"a LIKE (b = 1)":                       "a value is expected, not a condition",
		"a IN 1":                               `at character 6: ( is expected, not "1"`,
		"a IN ()":                              "at character 7: a value is expected",
		"a IN (1,)":                            "at character 9: a value is expected",
		"a IN (1":                              ") is expected, not the end",
		"a NOT = 1":                            "at character 7: IN or LIKE is expected",
		"a IS 1":                               `NULL is expected, not "1"`,
		"a IS NOT":                             "NULL is expected, not the end",
		"1 IS NULL":                            "at character 1: only a property can be asked whether it IS NULL",
		"(a) IS NULL":                          "only a property can be asked",
		"p('a') IS NULL":                       "only a property can be asked",
		"EXISTS a":                             `( is expected, not "a"`,
		"EXISTS('a')":                          "the name of a property is expected, not a text",
		"EXISTS(a":                             ") is expected",
		"a LIKE 'x' ESCAPE 'xy'":               "at character 19: a text of one character is expected",
		"a LIKE 'x' ESCAPE 1":                  "a text of one character is expected",
		"sys.Colour = 1":                       `at character 5: there is no system property "Colour"`,
		"sys. = 1":                             `the name of a property is expected, not "="`,
		"order.id = 1":                         `at character 1: "order" is no scope; want sys or user`,
		"_a = 1":                               `a value is expected, not "_"`,
		"lower(a) = 'x'":                       `at character 1: there is no function "lower"`,
		"newid(1) = 'x'":                       ") is expected",
		"p((a = 1)) = 2":                       "a value is expected, not a condition",
		"a = 9223372036854775808":              `at character 5: "9223372036854775808" does not fit into 64 bits`,
		"a = -9223372036854775809":             "does not fit into 64 bits",
		"a = 1e999":                            "does not fit into 64 bits",
		"a = 1.":                               `an operator or the end is expected, not "."`,
		"a = .5":                               `a value is expected, not "."`,
		"a = 1x":                               `an operator or the end is expected, not "x"`,
		"a = \xff":                             "it is not UTF-8",
		"SET a = 1":                            `an operator or the end is expected, not "a"`,
		"a = 1; REMOVE b":                      `an operator or the end is expected, not ";"`,
		strings.Repeat("(", 33) + "a":          "at character 34: it nests deeper than 32",
		strings.Repeat("NOT ", 33) + "a":       "it nests deeper than 32",
		"a = " + strings.Repeat("-", 33) + "b": "it nests deeper than 32",
		"a = '" + strings.Repeat("ü", 1018):    "the closing ' is missing",
		"a = '" + strings.Repeat("ü", 1019):    "the closing ' is missing",
		"a = '" + strings.Repeat("ü", 1019) + "'": "it has 1025 characters, more than 1024",
	} {
		_, err := SQLFilter{text}.compile()
		switch {
		case want == "" && err != nil:
			t.Errorf("%.60s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.60s: got %v, want an error with %q", text, err, want)
		case err != nil && strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("%.60s: the error has more than one line: %v", text, err)
		}
	}
	// The nesting is that of a place, not of the whole.
	if _, err := (SQLFilter{strings.Repeat("(a = 1) AND ", 80) + "NOT b = 1"}).compile(); err != nil {
		t.Error(err)
	}
}

// LIKE takes no time beyond the product of lengths, however many wildcards there are, and none for a long text.
func TestLikeIsBounded(t *testing.T) {
	t.Parallel()
	pattern := parseLike(strings.Repeat("%a", 300)+"b", 0, false)
	start := time.Now()
	if pattern.matches(strings.Repeat("a", maxLikeText)) {
		t.Error("it matches")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	encoded, err := (&amqp.Message{ApplicationProperties: map[string]any{"long": strings.Repeat("a", maxLikeText+1)}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	test, err := SQLFilter{"long LIKE 'a%'"}.compile()
	if err != nil {
		t.Fatal(err)
	}
	if test(&ruleMessage{message: encoded}) {
		t.Error("a text that is too long matches")
	}
}

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

// Whatever comes in, the parsers return in time with a filter, or an error of one line.
func FuzzSQL(f *testing.F) {
	for _, seed := range []string{
		"sys.Label LIKE '%bus%' OR user.tag IN ('queue', 'topic')", "a NOT LIKE 'x!%' ESCAPE '!' AND NOT EXISTS([b ]]c])",
		"-(a + 1.5e-3) * b / 2 % 7 >= 0", `"a" IS NOT NULL AND p('x') = newid()`, "SET a = b + 1; REMOVE sys.Label", "a <> @p", "((((a))))",
		strings.Repeat("NOT ", 40), strings.Repeat("a = 1 OR ", 100), "a IN (1, 'x', NULL, TRUE)", "\x00\xff", "[", "'", "9223372036854775808",
	} {
		f.Add(seed)
	}
	m := ruleSample(f)
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		test, err := SQLFilter{text}.compile()
		if err == nil {
			test(m)
		} else if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("the error has more than one line: %q", err)
		}
		rule, err := compileRule(Rule{Name: "r", Action: text})
		if err == nil {
			for _, err := range wire.Sections(m.changed(rule)) {
				if err != nil {
					t.Fatalf("the action made what is no message: %v", err)
				}
			}
		} else if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("the error has more than one line: %q", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
