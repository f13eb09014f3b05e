package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/work"
)

const most = 100 * time.Second

func TestBatchSizeIsCutAsTheOriginalDid(t *testing.T) {
	for _, query := range []string{"batch_store_size=10000", "batch_store_size=10001", "batch_store_size=2000000000"} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		pull, err1 := parsePull(values)
		run, err2 := parseInvocation(values, nil, most)
		if err1 != nil || err2 != nil || pull.Batch.Count != maxBatchCount || run.Batch.Count != maxBatchCount {
			t.Errorf("%s: %d, %d, %v, %v", query, pull.Batch.Count, run.Batch.Count, err1, err2)
		}
	}
}

func TestParseInvocation(t *testing.T) {
	for _, c := range []struct{ query, body, says string }{
		{"", "", ""},
		{"N=1", "", ""},
		{"N=1024&N_per_func=256&batch_store_size=10000", "", ""},
		{"batch_store_size=20000", "", ""},
		{"N=4", `{"N":4}`, ""},
		{"", `{"N":4,"batch":{"count":7},"batch_store_size":7}`, ""},
		{"", `{"from":{"position":"time","time":"2026-11-24T04:05:09Z"}}`, ""},
		{"code=x&clientId=y", "{}", ""},
		{"", `{"budget_seconds":0.5}`, ""},
		{"exclusive=false", "", ""},
		{"exclusive=true", `{"exclusive":true}`, ""},

		{"exclusive=FALSE", "", `exclusive is "FALSE": want true or false`},
		{"exclusive=", "", `exclusive is ""`},
		{"exclusive=true", `{"exclusive":false}`, "exclusive is true and false"},
		{"", `{"exclusive":"false"}`, "exclusive is of type string: want true or false"},
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
		{"", `{"N":"4"}`, "N is of type string: want a whole number"},
		{"N=4", `{"N":5}`, "N is 4 and 5"},
		{"N=4&N=5", "", "N is 4 and 5"},
		{"N_per_func=257", "", "N_per_func"},
		{"batch_store_size=99999999999", "", "batch_store_size"},
		{"batch_store_size=0", "", "batch_store_size"},
		{"batch_store_size=5", `{"batch":{"count":6}}`, "batch.count is 6"},
		{"n=4", "", `query parameter "n": want N, N_per_func, batch_store_size`},
		{"N=0&batch_store_size=0", "", "; batch_store_size"},
		{"", `{"hub":"other"}`, `unknown field "hub"`},
		{"", `{"batch":{"size":1}}`, `unknown field "size"`},
		{"", `{} {}`, "something follows"},
		{"", `[1]`, "it is of type array: want an object"},
		{"", `nonsense`, "at byte 2"},
		{"", `{"partitions":["0","0"]}`, "twice"},
		{"", `{"partitions":["../x"]}`, `"../x"`},
		{"", `{"partitions":[""]}`, `partitions has ""`},
		{"", `{"sessions":["a","","a b/\u0000é"]}`, ""},
		{"", `{"sessions":["` + strings.Repeat("é", 128) + `"]}`, ""},
		{"", `{"sessions":["` + strings.Repeat("é", 129) + `"]}`, "of 129 characters: want ids of at most 128"},
		{"", `{"sessions":["a","b","a"]}`, `sessions has "a" twice`},
		{"", `{"sessions":["",""]}`, `sessions has "" twice`},
		{"", `{"sessions":["` + strings.Repeat("\\u0000", 120) + `","` + strings.Repeat("\\u0000", 120) + `"]}`, "twice"},
		{"", `{"sessions":` + list(maxSessions, "") + `}`, ""},
		{"", `{"sessions":` + list(maxSessions+1, "") + `}`, "sessions has 10001: want at most 10000"},
		{"", `{"sessions":[1]}`, "sessions is of type number: want a string"},
		{"", `{"sessions":"a"}`, "sessions is of type string: want a list"},
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

func TestExclusive(t *testing.T) {
	for query, beside := range map[string]bool{"": false, "exclusive=true": false, "exclusive=false": true, "exclusive=false&exclusive=false": true} {
		values, _ := url.ParseQuery(query)
		if req, err := parseInvocation(values, nil, most); err != nil || req.Beside != beside {
			t.Errorf("%q: beside %v, %v", query, req.Beside, err)
		}
	}
	for body, beside := range map[string]bool{`{}`: false, `{"exclusive": true}`: false, `{"exclusive": false}`: true} {
		if req, err := ParseMessage([]byte(body), most); err != nil || req.Beside != beside {
			t.Errorf("%s: beside %v, %v", body, req.Beside, err)
		}
	}
	if _, err := ParseMessage(make([]byte, maxBody+1), most); err == nil {
		t.Error("a message has no bound")
	}
}

func TestParseUnit(t *testing.T) {
	testParseUnit(t, work.Partitions, []unitCase{
		{unitJSON, ""},
		{`{"run":"r","partitions":["0"]}`, ""},
		{`{}`, "run is"},
		{`{"run":"a b","partitions":["0"]}`, `run is "a b"`},
		{`{"run":"r"}`, "partitions is empty: this worker drains an Event Hub"},
		{`{"run":"r","tasks":2}`, "partitions is empty: this worker drains an Event Hub"},
		{`{"run":"r","sessions":["a"]}`, "sessions was given: this worker drains an Event Hub"},
		{`{"run":"r","partitions":["0"],"sessions":["a"]}`, "sessions was given"},
		{`{"run":"r","partitions":["0"],"only_sessions":true}`, "sessions was given"},
		{`{"run":"r","partitions":["0"],"unit":-1}`, "unit is -1"},
		{`{"run":"r","partitions":["0"],"unit":1024}`, "0 to 1023"},
		{`{"run":"r","partitions":["0"],"tasks":257}`, "tasks is 257"},
		{`{"run":"r","partitions":["0"],"owner_level":-1}`, "owner_level"},
		{`{"run":"r","partitions":["0"],"budget_seconds":-1}`, "budget_seconds"},
		{`{"run":"r","partitions":["0"],"container":"x"}`, `unknown field "container"`},
		{`{"run":"r","partitions":["` + strings.Repeat("1", 33) + `"]}`, "1 to 32"},
		{`{"run":"r","partitions":["a/b"]}`, `"a/b"`},
	})
}

func TestParseUnitOfCells(t *testing.T) {
	unit := func(cells string, more ...string) string {
		return `{"run":"r","cells":[` + cells + `]` + strings.Join(more, "") + `}`
	}
	many := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"partition":"0","from":%d,"to":%d}`, i*record.CellSize, (i+1)*record.CellSize-1))
		}
		return strings.Join(all, ",")
	}
	const cell = `{"partition":"7","from":5,"to":9}`
	testParseUnit(t, work.Partitions, []unitCase{
		{unit(cell), ""},
		{unit(cell, `,"tasks":2,"tracked":true,"budget_seconds":9,"batch":{"count":5}`), ""},
		{unit(many(fanout.MaxCells)), ""},
		{unit(cell + `,{"partition":"7","from":10,"to":10},{"partition":"8","from":5,"to":9}`), ""},
		{unit(many(fanout.MaxCells + 1)), "cells has 257: want at most 256"},
		{unit(cell + "," + cell), `cells has partition 7 from 5 twice`},
		{unit(cell + `,{"partition":"7","from":5,"to":6}`), `cells has partition 7 from 5 twice`},
		{unit(cell, `,"partitions":["0"]`), "partitions and cells were given"},
		{unit(cell, `,"owner_level":7`), "owner_level was given with cells"},
		{unit(cell, `,"from":{"position":"latest"}`), "from was given with cells"},
		{unit(cell, `,"sessions":["a"]`), "sessions was given"},
		{unit(``), "partitions is empty"},
		{unit(`{"partition":"7","from":9,"to":5}`), "cells has 9 to 5"},
		{unit(`{"partition":"7","from":-1,"to":5}`), "cells has -1 to 5"},
		{unit(`{"partition":"7","from":262143,"to":262144}`), "between two multiples of 262144"},
		{unit(`{"partition":"a/b","from":5,"to":9}`), `"a/b"`},
		{unit(`{"from":5,"to":9}`), "cells has partition"},
		{unit(`{"partition":"7","from":5,"to":9,"hub":"x"}`), `unknown field "hub"`},
	})
	for _, kind := range []work.Kind{work.Receivers, work.Sessions} {
		testParseUnit(t, kind, []unitCase{
			{unit(cell), "cells was given: this worker drains Service Bus"},
			{`{"run":"r","tracked":true}`, ""},
		})
	}
}

func TestParseQueueUnit(t *testing.T) {
	both := []unitCase{
		{`{"run":"r"}`, ""},
		{`{"run":"r","unit":1023,"tasks":256,"budget_seconds":1.5,"batch":{"count":5}}`, ""},
		{`{"run":"r","owner_level":0,"partitions":[],"sessions":[]}`, ""},
		{`{"run":"r","partitions":["0"]}`, "partitions was given: this worker drains Service Bus (its SERVICE_TYPE is SERVICE_BUS_PULL)"},
		{unitJSON, "partitions was given: this worker drains Service Bus"},
		{`{"run":"r","from":{"position":"latest"}}`, "from was given: this worker drains Service Bus"},
		{`{"run":"r","owner_level":7}`, "owner_level was given: this worker drains Service Bus"},
		{`{"unit":2000}`, "run is"},
		{`{"run":"r","tasks":257}`, "tasks is 257"},
		{`{"run":"r","queue":"x"}`, `unknown field "queue"`},
		{`{"run":"r","only_sessions":true}`, "sessions"},
	}
	testParseUnit(t, work.Receivers, append(both, []unitCase{
		{`{"run":"r","sessions":["a"]}`, "sessions was given: this worker drains without sessions (its SERVICE_BUS_SESSIONS is FALSE"},
		{`{"run":"r","only_sessions":true}`, "SERVICE_BUS_SESSIONS"},
	}...))
	testParseUnit(t, work.Sessions, append(both, []unitCase{
		{`{"run":"r","sessions":["a","","\u0000é"]}`, ""},
		{`{"run":"r","sessions":["a"],"only_sessions":true,"tasks":4}`, ""},
		{`{"run":"r","sessions":["a","a"]}`, "twice"},
		{`{"run":"r","sessions":["` + strings.Repeat("é", 129) + `"]}`, "of 129 characters"},
		{`{"run":"r","sessions":` + list(fanout.MaxSessions, strings.Repeat("x", 124)) + `}`, ""},
		{`{"run":"r","sessions":` + list(fanout.MaxSessions+1, "") + `}`, "sessions has 2001: want at most 2000"},
		{`{"run":"r","sessions":` + list(1500, strings.Repeat("é", 120)) + `}`, "in all: want at most 262144"},
		{`{"run":"r","only_sessions":true}`, "only_sessions was given, and sessions is empty"},
	}...))
}

// Every unit that a plan of sessions may hold is one that a worker takes.
func TestPlannedSessionsAreTaken(t *testing.T) {
	var ids []string
	for i := range 20_000 {
		ids = append(ids, strconv.Itoa(i)+strings.Repeat([]string{"x", "<", "\x00", "é"}[i%4], i%120))
	}
	for _, n := range []int{1, 7, 16} {
		plan, err := fanout.NewSessionPlan(fanout.NewRun(time.Now()), ids, true, fanout.Request{N: n, PerFunc: 2, Batch: work.Batch{Count: 5}})
		if err != nil || len(plan.Units) != n {
			t.Fatalf("%d units, error %v", len(plan.Units), err)
		}
		for _, u := range plan.Units {
			body, err := json.Marshal(u)
			if err != nil || len(body) > maxBody/2 {
				t.Errorf("a unit of %d bytes, error %v", len(body), err)
			}
			got, err := parseUnit(nil, body, work.Sessions)
			if diff := cmp.Diff(u, got); err != nil || diff != "" {
				t.Errorf("error %v: %s", err, diff)
			}
		}
	}
}

type unitCase struct{ body, says string }

func testParseUnit(t *testing.T, kind work.Kind, cases []unitCase) {
	t.Helper()
	for _, c := range cases {
		_, err := parseUnit(nil, []byte(c.body), kind)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%.100s: error %v, want %q", c.body, err, c.says)
		}
	}
}

// list is a list of so many session ids, in JSON.
func list(n int, end string) string {
	var ids []string
	for i := range n {
		ids = append(ids, strconv.Itoa(i)+end)
	}
	b, _ := json.Marshal(ids)
	return string(b)
}

// FuzzRequests: whatever comes in, the answer is an error of one bounded line, or something in range.
func FuzzRequests(f *testing.F) {
	f.Add("N=4&batch_store_size=7", `{"N":4,"from":{"position":"time","time":"2026-11-24T04:05:09Z"}}`)
	f.Add("", unitJSON)
	f.Add("N=0", `{"partitions":["0","0"],"batch":{"count":-1}}`)
	f.Add("", `{"run":"r-1","sessions":["a","","b\u0000é"],"only_sessions":true,"tasks":2}`)
	f.Add("N=2", `{"sessions":["a"]}`)
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
			req.Batch.Count > maxBatchCount || req.Budget < 0 || req.Budget > most || len(req.Sessions) > maxSessions) {
			t.Errorf("request %+v", req)
		}
		for _, kind := range []work.Kind{work.Partitions, work.Receivers, work.Sessions} {
			unit, err := parseUnit(query, []byte(body), kind)
			check(err)
			if err != nil {
				continue
			}
			hub, named := kind == work.Partitions, len(unit.Sessions) > 0 || unit.OnlySessions
			if hub == (len(unit.Partitions) == 0) || unit.Tasks < 0 || unit.BudgetSeconds < 0 || unit.Batch.Bytes < 0 ||
				named && kind != work.Sessions || !hub && (unit.From != nil || unit.OwnerLevel != 0) ||
				len(unit.Sessions) > fanout.MaxSessions || unit.OnlySessions && len(unit.Sessions) == 0 {
				t.Errorf("unit %+v of kind %d", unit, kind)
			}
			for _, id := range unit.Sessions {
				if !utf8.ValidString(id) || utf8.RuneCountInString(id) > fanout.MaxSessionID {
					t.Errorf("session %q", id)
				}
			}
		}
		_, err = parsePull(query)
		check(err)
	})
}
