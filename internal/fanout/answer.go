package fanout

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"persistor/internal/work"
)

// maxAnswer caps a worker's answer, in bytes: a report of 1,024 partitions is a tenth of it.
const maxAnswer = 4 << 20

// take judges an answer. A worker answers 200, or another status when the unit failed or was cut short,
// and in each case its report is the body.
func (c *call) take(resp *http.Response, body []byte) error {
	from := c.row.Worker
	if len(body) > maxAnswer {
		return fmt.Errorf("read answer of %s: it is longer than %d bytes: FUNC_TO_INVOKE must be the worker's /api/pull", from, maxAnswer)
	}
	report, err := c.parse(body)
	switch {
	case err == nil:
		c.row.add(report)
	case resp.StatusCode >= http.StatusInternalServerError: // a gateway's, in place of a worker that died
		c.row.Unheard++
	}
	switch {
	case resp.StatusCode == http.StatusOK && err != nil:
		return fmt.Errorf("read answer of %s: %w: FUNC_TO_INVOKE must be the worker's /api/pull", from, err)
	case err == nil && report.Status == Failed:
		return fmt.Errorf("call %s: %w: %s", from, errDrain, reasons(report))
	case resp.StatusCode == http.StatusOK:
		return nil
	case err == nil:
		return fmt.Errorf("call %s: status %d: the worker was told to stop before the unit was done", from, resp.StatusCode)
	}
	return fmt.Errorf("call %s: %s", from, explain(resp, body))
}

// parse reads a worker's report and checks that it answers this unit.
func (c *call) parse(body []byte) (work.Report, error) {
	var r work.Report
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("it is not a report: %w", err)
	}
	switch {
	case r.Run != c.unit.Run || r.Unit != c.unit.Unit:
		return r, fmt.Errorf("it is for run %q unit %d, want run %q unit %d", cut(r.Run), r.Unit, c.unit.Run, c.unit.Unit)
	case r.Status != OK && r.Status != Failed:
		return r, fmt.Errorf("its status is %q, want %q or %q", cut(r.Status), OK, Failed)
	case r.Messages < 0 || r.Bytes < 0 || r.Blobs < 0:
		return r, errors.New("it counts less than nothing")
	}
	asked := rowsOf(c.unit)
	missing := slices.Clone(asked)
	for _, s := range r.Sources {
		name := s.Name()
		i := slices.Index(missing, name)
		switch {
		case i >= 0:
			missing = slices.Delete(missing, i, i+1)
		case slices.Contains(asked, name):
			return r, fmt.Errorf("it is about %s twice", name)
		default:
			return r, fmt.Errorf("it is about %q, which was not asked for", cut(name))
		}
		if s.Cell != nil {
			if err := c.checkCell(s); err != nil {
				return r, err
			}
		}
		if !s.Ended.OK() {
			r.Status = Failed
		}
	}
	if r.Status == OK && len(missing) > 0 {
		return r, fmt.Errorf("it says nothing about %s", missing[0])
	}
	return r, nil
}

// checkCell checks that a row is about a cell of the unit, and a place in it: a checkpoint may be made of that.
func (c *call) checkCell(s work.Source) error {
	if !slices.Contains(c.unit.Cells, work.Cell{Partition: s.Partition, Range: *s.Cell}) {
		return fmt.Errorf("it is about %q to %d, which was not asked for", cut(s.Name()), s.Cell.To)
	}
	if s.Checkpoint < s.Cell.From-1 || s.Checkpoint > s.Cell.To {
		return fmt.Errorf("it says that %s to %d is stored up to %d", s.Name(), s.Cell.To, s.Checkpoint)
	}
	return nil
}

// rowsOf names the rows that the report of a unit has: one of each partition or cell, or of each receiver.
func rowsOf(unit work.Unit) []string {
	var names []string
	for _, id := range unit.Partitions {
		names = append(names, work.Source{Partition: id}.Name())
	}
	for _, c := range unit.Cells {
		names = append(names, rowOf(c).Name())
	}
	for i := range receiversOf(unit) {
		names = append(names, work.Source{Receiver: &i}.Name())
	}
	return names
}

// explain says what an answer without a report means, and what to change.
func explain(resp *http.Response, body []byte) string {
	advice := ""
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		advice = ": WORKER_KEY must be the same for the invoker and the worker, or the function's key"
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed || code >= 300 && code < 400:
		advice = ": FUNC_TO_INVOKE must be the worker's /api/pull"
	case code == http.StatusTooManyRequests:
		advice = ": every worker is busy: use more workers, a higher WORKER_CONCURRENCY or a smaller N"
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		advice = fmt.Sprintf(": it says %q", cut(said.Error)) + advice
	}
	return fmt.Sprintf("status %d %s%s", resp.StatusCode, http.StatusText(resp.StatusCode), advice)
}

// reasons lists what failed in a report, each text once.
func reasons(r work.Report) string {
	var all []string
	for _, s := range r.Sources {
		if s.Ended.OK() {
			continue
		}
		if text := fmt.Sprintf("%s: %s", cut(s.Name()), cut(s.Error)); len(all) < 4 {
			all = append(all, text)
		}
	}
	if len(all) == 0 {
		return "the report says failed, and not why"
	}
	return strings.Join(all, "; ")
}

// retryAfter reads a Retry-After header, seconds or a date (RFC 9110, 10.2.3), as a time; the zero time
// when there is none or it can't be read.
func retryAfter(value string, now time.Time) time.Time {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return now.Add(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return time.Time{}
	}
	return at
}

// redact is a URL without the parts that hold secrets: Azure puts a function's key into the query.
func redact(u *url.URL) string {
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// cut bounds a worker's words, which end up in a report.
func cut(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
