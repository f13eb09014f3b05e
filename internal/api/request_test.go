package api

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

const most = 100 * time.Second

func TestParseInvocation(t *testing.T) {
	for _, c := range []struct{ query, body, says string }{
		{"", "", ""},
		{"N=1", "", ""},
		{"N=1024&N_per_func=256&batch_store_size=10000", "", ""},
		{"N=4", `{"N":4}`, ""},
		{"", `{"N":4,"batch":{"count":7},"batch_store_size":7}`, ""},
		{"", `{"from":{"position":"time","time":"2026-11-24T04:05:09Z"}}`, ""},
		{"code=x&clientId=y", "{}", ""},
		{"", `{"budget_seconds":0.5}`, ""},

		{"N=0", "", `N is "0": want a whole number from 1 to 1024`},
		{"N=-1", "", `N is "-1"`},
		{"N=abc", "", `N is "abc"`},
		{"N=1000000000", "", `N is "1000000000"`},
		{"N=99999999999999999999", "", "want a whole number"},
		{"N=", "", `N is ""`},
		{"N=1.5", "", `N is "1.5"`},
		{"N=" + strings.Repeat("9", 5000), "", "…"},
		{"", `{"N":0}`, `N is "0"`},
		{"", `{"N":1000000000}`, "1 to 1024"},
		{"", `{"N":"4"}`, "cannot unmarshal"},
		{"N=4", `{"N":5}`, "N is 4 and 5"},
		{"N=4&N=5", "", "N is 4 and 5"},
		{"N_per_func=257", "", "N_per_func"},
		{"batch_store_size=10001", "", "1 to 10000"},
		{"batch_store_size=0", "", "batch_store_size"},
		{"batch_store_size=5", `{"batch":{"count":6}}`, "batch.count is 6"},
		{"n=4", "", `query parameter "n": want N, N_per_func, batch_store_size`},
		{"N=0&batch_store_size=0", "", "; batch_store_size"},
		{"", `{"hub":"other"}`, `unknown field "hub"`},
		{"", `{"batch":{"size":1}}`, `unknown field "size"`},
		{"", `{} {}`, "something follows"},
		{"", `[1]`, "cannot unmarshal"},
		{"", `nonsense`, "invalid character"},
		{"", `{"partitions":["0","0"]}`, "twice"},
		{"", `{"partitions":["../x"]}`, `"../x"`},
		{"", `{"partitions":[""]}`, `partitions has ""`},
		{"", `{"from":{"position":"middle"}}`, `"middle"`},
		{"", `{"from":{"position":"time"}}`, "from.time is missing"},
		{"", `{"from":{"position":"latest","time":"2026-11-24T04:05:09Z"}}`, "from.time goes with"},
		{"", `{"batch":{"count":-1,"bytes":-1,"age_seconds":-1}}`, "batch.age_seconds"},
		{"", `{"batch":{"bytes":1000000000}}`, "batch.bytes"},
		{"", `{"budget_seconds":0}`, "INVOKER_TIMEOUT"},
		{"", `{"budget_seconds":101}`, "at most 100"},
		{"", `{"budget_seconds":1e400}`, "read body"},
	} {
		query, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseInvocation(query, []byte(c.body), most)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s %s: %v", c.query, c.body, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 500):
			t.Errorf("%.40s %s: error %v, want one line with %q", c.query, c.body, err, c.says)
		}
	}
}

func TestParseUnit(t *testing.T) {
	for _, c := range []struct{ body, says string }{
		{unitJSON, ""},
		{`{"run":"r","partitions":["0"]}`, ""},
		{`{}`, "run is"},
		{`{"run":"a b","partitions":["0"]}`, `run is "a b"`},
		{`{"run":"r"}`, "partitions is empty"},
		{`{"run":"r","partitions":["0"],"unit":-1}`, "unit is -1"},
		{`{"run":"r","partitions":["0"],"unit":1024}`, "0 to 1023"},
		{`{"run":"r","partitions":["0"],"tasks":257}`, "tasks is 257"},
		{`{"run":"r","partitions":["0"],"owner_level":-1}`, "owner_level"},
		{`{"run":"r","partitions":["0"],"budget_seconds":-1}`, "budget_seconds"},
		{`{"run":"r","partitions":["0"],"container":"x"}`, `unknown field "container"`},
		{`{"run":"r","partitions":["` + strings.Repeat("1", 33) + `"]}`, "1 to 32"},
		{`{"run":"r","partitions":["a/b"]}`, `"a/b"`},
	} {
		_, err := parseUnit(nil, []byte(c.body))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: error %v, want %q", c.body, err, c.says)
		}
	}
}

// FuzzRequests: whatever comes in, the answer is an error of one bounded line, or something in range.
func FuzzRequests(f *testing.F) {
	f.Add("N=4&batch_store_size=7", `{"N":4,"from":{"position":"time","time":"2026-11-24T04:05:09Z"}}`)
	f.Add("", unitJSON)
	f.Add("N=0", `{"partitions":["0","0"],"batch":{"count":-1}}`)
	f.Fuzz(func(t *testing.T, rawQuery, body string) {
		query, _ := url.ParseQuery(rawQuery)
		check := func(err error) {
			if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 2000) {
				t.Errorf("error %q", err)
			}
		}
		req, err := parseInvocation(query, []byte(body), most)
		check(err)
		if err == nil && (req.N < 0 || req.N > 1024 || req.PerFunc < 0 || req.PerFunc > 256 || req.Batch.Count < 0 ||
			req.Batch.Count > maxBatchCount || req.Budget < 0 || req.Budget > most) {
			t.Errorf("request %+v", req)
		}
		unit, err := parseUnit(query, []byte(body))
		check(err)
		if err == nil && (len(unit.Partitions) == 0 || unit.Tasks < 0 || unit.BudgetSeconds < 0 || unit.Batch.Bytes < 0) {
			t.Errorf("unit %+v", unit)
		}
		_, err = parsePull(query)
		check(err)
	})
}
