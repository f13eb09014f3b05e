package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"persistor/internal/fanout"
	"persistor/internal/record"
	"persistor/internal/work"
)

// What a request may ask for, at most.
const (
	maxBatchCount = 10_000          // messages, as in the original
	maxBatchBytes = 64 << 20        // a worker holds a few batches in memory
	maxBatchAge   = time.Hour       // an upload that waits longer helps nobody
	maxBudget     = 24 * time.Hour  // of a unit; the worker's own timeout is far below
	maxUnitNumber = fanout.MaxUnits // units count from 0
	maxPartitions = fanout.MaxUnits // of one hub
	maxPartition  = 32              // bytes of an id; Event Hubs numbers partitions from 0
	maxSessions   = 10_000          // that a caller names; a unit names fewer
)

// The query parameters of the original, which users' schedules and scripts have in them.
const (
	paramN         = "N"
	paramPerFunc   = "N_per_func"
	paramBatchSize = "batch_store_size"
)

// paramExclusive may be in the query or in the body.
const paramExclusive = "exclusive"

// Azure Functions takes its own out of the query, or not, depending on the host's version.
var hostParams = []string{"code", "clientId"}

var (
	runID       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	partitionID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,` + strconv.Itoa(maxPartition) + `}$`)
)

// invocation is the JSON that a caller may POST to the invoker. Each number, and exclusive, may also be in
// the query.
type invocation struct {
	N              *int       `json:"N"`
	PerFunc        *int       `json:"N_per_func"`
	BatchStoreSize *int       `json:"batch_store_size"`
	Partitions     []string   `json:"partitions"`
	Sessions       []string   `json:"sessions"`
	From           *work.From `json:"from"`
	Batch          work.Batch `json:"batch"`
	BudgetSeconds  *float64   `json:"budget_seconds"`
	Exclusive      *bool      `json:"exclusive"`
}

// ParseMessage reads a request for a run that comes as JSON alone, of 1 MiB at most: what a caller may POST
// to the invoker. budget is the most that may be asked for.
func ParseMessage(body []byte, budget time.Duration) (fanout.Request, error) {
	if len(body) > maxBody {
		return fanout.Request{}, fmt.Errorf("read request: it is longer than %d bytes", maxBody)
	}
	return parseInvocation(nil, body, budget)
}

// parseInvocation reads what the invoker is asked for. A number may be in the query or in the body;
// where it is in both, and they differ, neither is guessed to be meant: it is an error. budget is the
// most that may be asked for.
func parseInvocation(query url.Values, body []byte, budget time.Duration) (fanout.Request, error) {
	var in invocation
	if err := decode(body, &in); err != nil {
		return fanout.Request{}, err
	}
	if err := onlyParams(query, paramN, paramPerFunc, paramBatchSize, paramExclusive); err != nil {
		return fanout.Request{}, err
	}
	n, err1 := number(query, paramN, in.N, fanout.MaxUnits)
	perFunc, err2 := number(query, paramPerFunc, in.PerFunc, fanout.MaxTasks)
	size, err3 := batchSize(query, in.BatchStoreSize)
	exclusive, err4 := boolean(query, paramExclusive, in.Exclusive, true)
	req := fanout.Request{N: n, PerFunc: perFunc, Partitions: in.Partitions, Sessions: in.Sessions, From: in.From, Batch: in.Batch, Beside: !exclusive}
	err := errors.Join(err1, err2, err3, err4, checkPartitions(in.Partitions), checkSessions(in.Sessions, maxSessions, maxBody),
		checkFrom(in.From), checkBatch(in.Batch))
	switch {
	case size != 0 && in.Batch.Count != 0 && size != in.Batch.Count:
		err = errors.Join(err, fmt.Errorf("%s is %d and batch.count is %d: give one, or both the same", paramBatchSize, size, in.Batch.Count))
	case size != 0:
		req.Batch.Count = size
	}
	if s := in.BudgetSeconds; s != nil {
		if *s <= 0 || *s > budget.Seconds() {
			err = errors.Join(err, fmt.Errorf("budget_seconds is %v: want more than 0 and at most %v (INVOKER_TIMEOUT)", *s, budget.Seconds()))
		}
		req.Budget = time.Duration(*s * float64(time.Second))
	}
	return req, oneLine(err)
}

// parsePull reads what a plain pull is asked for: N tasks.
func parsePull(query url.Values) (fanout.Request, error) {
	if err := onlyParams(query, paramN, paramBatchSize); err != nil {
		return fanout.Request{}, err
	}
	tasks, err1 := number(query, paramN, nil, fanout.MaxTasks)
	size, err2 := batchSize(query, nil)
	return fanout.Request{N: 1, PerFunc: max(1, tasks), Batch: work.Batch{Count: size}}, oneLine(errors.Join(err1, err2))
}

// parseUnit reads a work unit of a kind. It has all there is to say: numbers in the query are an error.
func parseUnit(query url.Values, body []byte, kind work.Kind) (work.Unit, error) {
	var u work.Unit
	if err := decode(body, &u); err != nil {
		return u, err
	}
	if err := onlyParams(query); err != nil {
		return u, fmt.Errorf("a work unit was given: %w", err)
	}
	var errs []error
	if !runID.MatchString(u.Run) {
		errs = append(errs, fmt.Errorf("run is %s: want 1 to 64 of A-Z a-z 0-9 . _ -", quote(u.Run)))
	}
	if u.Unit < 0 || u.Unit >= maxUnitNumber {
		errs = append(errs, fmt.Errorf("unit is %d: want 0 to %d", u.Unit, maxUnitNumber-1))
	}
	if u.Tasks < 0 || u.Tasks > fanout.MaxTasks {
		errs = append(errs, fmt.Errorf("tasks is %d: want 0 to %d", u.Tasks, fanout.MaxTasks))
	}
	if u.OwnerLevel < 0 {
		errs = append(errs, fmt.Errorf("owner_level is %d: want 0 or more", u.OwnerLevel))
	}
	if s := u.BudgetSeconds; s < 0 || s > maxBudget.Seconds() {
		errs = append(errs, fmt.Errorf("budget_seconds is %v: want 0 to %v", s, maxBudget.Seconds()))
	}
	errs = append(errs, checkKind(u, kind), checkPartitions(u.Partitions), checkCells(u.Cells), checkSessions(u.Sessions, fanout.MaxSessions, fanout.MaxSessionBytes),
		checkFrom(u.From), checkBatch(u.Batch))
	return u, oneLine(errors.Join(errs...))
}

// checkKind refuses what a unit of the kind can't have. An invoker that sends it drains something else
// than its workers.
func checkKind(u work.Unit, kind work.Kind) error {
	const (
		hub      = "this worker drains an Event Hub (its SERVICE_TYPE is EVENT_HUB_PULL)"
		bus      = "this worker drains Service Bus (its SERVICE_TYPE is SERVICE_BUS_PULL): want none"
		sessions = "this worker drains without sessions (its SERVICE_BUS_SESSIONS is FALSE, or it drains a dead-letter queue): want none"
	)
	named := len(u.Sessions) > 0 || u.OnlySessions
	switch {
	case kind == work.Partitions && named:
		return fmt.Errorf("sessions was given: %s: want none", hub)
	case kind == work.Partitions && len(u.Cells) > 0:
		return checkCellUnit(u)
	case kind == work.Partitions && len(u.Partitions) == 0:
		return fmt.Errorf("partitions is empty: %s: want at least one, or cells", hub)
	case kind == work.Partitions:
		return nil
	case len(u.Cells) > 0:
		return fmt.Errorf("cells was given: %s", bus)
	case len(u.Partitions) > 0:
		return fmt.Errorf("partitions was given: %s", bus)
	case u.From != nil:
		return fmt.Errorf("from was given: %s", bus)
	case u.OwnerLevel != 0:
		return fmt.Errorf("owner_level was given: %s", bus)
	case kind == work.Receivers && named:
		return fmt.Errorf("sessions was given: %s", sessions)
	case u.OnlySessions && len(u.Sessions) == 0:
		return errors.New("only_sessions was given, and sessions is empty: want at least one")
	}
	return nil
}

// checkCellUnit refuses what a unit of cells can't have.
func checkCellUnit(u work.Unit) error {
	switch {
	case len(u.Partitions) > 0:
		return errors.New("partitions and cells were given: want one of them")
	case u.From != nil:
		return errors.New("from was given with cells, which say where they begin: leave it out")
	case u.OwnerLevel != 0:
		return errors.New("owner_level was given with cells, which are read beside each other: leave it out")
	}
	return nil
}

// decode reads one JSON value into v. An empty body leaves v as it is. A field that v doesn't have is
// an error: it is one that somebody relies on, or has misspelt.
func decode(body []byte, v any) error {
	if len(body) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read body as JSON: %s", cut(plainly(err)))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read body as JSON: something follows the object")
	}
	return nil
}

// plainly says what is wrong with JSON, without the words of this program's types.
func plainly(err error) string {
	var mistyped *json.UnmarshalTypeError
	var malformed *json.SyntaxError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	case errors.As(err, &mistyped) && mistyped.Field == "":
		return fmt.Sprintf("it is of type %s: want an object", mistyped.Value)
	case errors.As(err, &mistyped):
		return fmt.Sprintf("%s is of type %s: want %s", mistyped.Field, mistyped.Value, wanted(mistyped.Type))
	case errors.As(err, &malformed):
		return fmt.Sprintf("%s, at byte %d", malformed, malformed.Offset)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// wanted is what a field of a type takes, in JSON's words.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "an object"
}

// onlyParams refuses query parameters other than those named and the Functions host's own.
func onlyParams(query url.Values, names ...string) error {
	for name := range query {
		switch {
		case slices.Contains(hostParams, name) || slices.Contains(names, name):
		case len(names) == 0:
			return fmt.Errorf("query parameter %s: want none", quote(name))
		default:
			return fmt.Errorf("query parameter %s: want %s", quote(name), strings.Join(names, ", "))
		}
	}
	return nil
}

// number returns a number from 1 to most out of the query or the body; 0 when it is in neither.
func number(query url.Values, name string, body *int, most int) (int, error) {
	texts := query[name]
	if body != nil {
		texts = append(slices.Clone(texts), strconv.Itoa(*body))
	}
	found := 0
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 1 || n > most:
			return 0, fmt.Errorf("%s is %s: want a whole number from 1 to %d", name, quote(text), most)
		case found != 0 && found != n:
			return 0, fmt.Errorf("%s is %d and %d: give one, or the same in query and body", name, found, n)
		}
		found = n
	}
	return found, nil
}

// batchSize is a number of messages. The original cut what was too much to its own limit, which is the same here.
func batchSize(query url.Values, body *int) (int, error) {
	n, err := number(query, paramBatchSize, body, math.MaxInt32)
	return min(n, maxBatchCount), err
}

// boolean returns a truth value out of the query or the body, or otherwise when it is in neither.
func boolean(query url.Values, name string, body *bool, otherwise bool) (bool, error) {
	texts := query[name]
	if body != nil {
		texts = append(slices.Clone(texts), strconv.FormatBool(*body))
	}
	for i, text := range texts {
		switch {
		case text != "true" && text != "false":
			return false, fmt.Errorf("%s is %s: want true or false", name, quote(text))
		case i > 0 && text != texts[0]:
			return false, fmt.Errorf("%s is %s and %s: give one, or the same in query and body", name, texts[0], text)
		}
		otherwise = text == "true"
	}
	return otherwise, nil
}

func checkPartitions(ids []string) error {
	if len(ids) > maxPartitions {
		return fmt.Errorf("partitions has %d: want at most %d", len(ids), maxPartitions)
	}
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if !partitionID.MatchString(id) {
			return fmt.Errorf("partitions has %s: want ids of 1 to %d of A-Z a-z 0-9 _ -", quote(id), maxPartition)
		}
		if seen[id] {
			return fmt.Errorf("partitions has %q twice", id)
		}
		seen[id] = true
	}
	return nil
}

func checkCells(cells []work.Cell) error {
	if len(cells) > fanout.MaxCells {
		return fmt.Errorf("cells has %d: want at most %d", len(cells), fanout.MaxCells)
	}
	begun := make(map[string]bool, len(cells))
	for _, c := range cells {
		start := fmt.Sprintf("%s from %d", c.Partition, c.From)
		switch {
		case !partitionID.MatchString(c.Partition):
			return fmt.Errorf("cells has partition %s: want ids of 1 to %d of A-Z a-z 0-9 _ -", quote(c.Partition), maxPartition)
		case c.From < 0 || c.To < c.From || c.From/record.CellSize != c.To/record.CellSize:
			return fmt.Errorf("cells has %d to %d: want a range of sequence numbers between two multiples of %d", c.From, c.To, record.CellSize)
		case begun[start]:
			return fmt.Errorf("cells has partition %s twice", start)
		}
		begun[start] = true
	}
	return nil
}

// checkSessions takes any text for an id, also none.
func checkSessions(ids []string, most, mostBytes int) error {
	if len(ids) > most {
		return fmt.Errorf("sessions has %d: want at most %d", len(ids), most)
	}
	seen := make(map[string]bool, len(ids))
	bytes := 0
	for _, id := range ids {
		if n := utf8.RuneCountInString(id); n > fanout.MaxSessionID {
			return fmt.Errorf("sessions has %s, of %d characters: want ids of at most %d", quote(id), n, fanout.MaxSessionID)
		}
		if seen[id] {
			return fmt.Errorf("sessions has %s twice", quote(id))
		}
		seen[id] = true
		bytes += len(id)
	}
	if bytes > mostBytes {
		return fmt.Errorf("sessions has ids of %d bytes in all: want at most %d", bytes, mostBytes)
	}
	return nil
}

func checkFrom(f *work.From) error {
	switch {
	case f == nil:
	case f.Position == "time":
		if f.Time.IsZero() || f.Time.Year() > 9999 {
			return errors.New(`from.time is missing: from.position "time" wants one such as "2026-11-24T04:05:09Z"`)
		}
	case f.Position != "earliest" && f.Position != "latest":
		return fmt.Errorf(`from.position is %s: want "earliest", "latest" or "time"`, quote(f.Position))
	case !f.Time.IsZero():
		return fmt.Errorf("from.time goes with from.position \"time\" alone, which is %q", f.Position)
	}
	return nil
}

func checkBatch(b work.Batch) error {
	var errs []error
	if b.Count < 0 || b.Count > maxBatchCount {
		errs = append(errs, fmt.Errorf("batch.count is %d: want 1 to %d", b.Count, maxBatchCount))
	}
	if b.Bytes < 0 || b.Bytes > maxBatchBytes {
		errs = append(errs, fmt.Errorf("batch.bytes is %d: want 1 to %d", b.Bytes, maxBatchBytes))
	}
	if s := b.AgeSeconds; s < 0 || s > maxBatchAge.Seconds() {
		errs = append(errs, fmt.Errorf("batch.age_seconds is %v: want more than 0 and at most %v", s, maxBatchAge.Seconds()))
	}
	return errors.Join(errs...)
}

// oneLine joins the lines of a joined error.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// quote shows a caller's input, within bounds.
func quote(s string) string { return strconv.Quote(cut(s)) }

func cut(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
