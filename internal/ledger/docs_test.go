package ledger_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"persistor/internal/ledger"
)

// The documentation's example is a run, all of it, and the documentation names every field.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	example, _, _ := strings.Cut(rest, "```")
	var run ledger.Run
	strict := json.NewDecoder(strings.NewReader(example))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&run); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, []byte(example)); err != nil || want.String() != string(got) {
		t.Errorf("the example reads as\n%s\nand is\n%s", got, want.String())
	}
	p := run.Partitions[0]
	if sequence, _, ok := p.Mark(); ok || p.Remaining() != p.Counts.Remaining {
		t.Errorf("the example's partition has %d remaining, and a mark %d, %v", p.Remaining(), sequence, ok)
	}
	seen := map[string]bool{}
	fields(reflect.TypeFor[ledger.Run](), seen)
	fields(reflect.TypeFor[ledger.Progress](), seen)
	for field := range seen {
		if !strings.Contains(string(text), "`"+field+"`") {
			t.Errorf("field %s is not documented", field)
		}
	}
	for _, state := range []ledger.State{ledger.Queued, ledger.Running, ledger.Cancelled, ledger.Succeeded, ledger.Failed, ledger.Abandoned, ledger.Unreadable} {
		if !strings.Contains(string(text), string(state)) {
			t.Errorf("state %s is not documented", state)
		}
	}
}

// fields notes the names that the fields of a type have in JSON, and those of the types in it.
func fields(of reflect.Type, seen map[string]bool) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice:
		fields(of.Elem(), seen)
	case reflect.Struct:
		if of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			field := of.Field(i)
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				seen[name] = true
			}
			fields(field.Type, seen)
		}
	}
}
