package emulator

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

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
