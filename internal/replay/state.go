package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"persistor/internal/record"
	"persistor/internal/selection"
)

// maxRecords bounds the records of a blob: none is shorter than {"DATA":""}.
const maxRecords = selection.MaxRecord / 8

// stateVersion is that of the form of state.
const stateVersion = 1

// state is a replay's progress as it is kept.
type state struct {
	Version int    `json:"version"`
	Digest  string `json:"replay"` // of the task
	Task    Task   `json:"task"`   // for who reads it
	Begun   string `json:"begun"`
	Saved   string `json:"saved"`
	// Passed are the blobs with which the replay is done, all up to one in the order of the list. Blobs are those behind
	// it of which messages were sent, or are under way.
	Passed passed   `json:"passed"`
	Blobs  []*entry `json:"blobs,omitempty"`
	counts
	Complete bool `json:"complete"`
}

type counts struct {
	Sent       int64 `json:"sent"`
	Bytes      int64 `json:"bytes"`
	Uncertain  int64 `json:"uncertain"`
	Deselected int64 `json:"deselected"`
	Unreadable int64 `json:"unreadable"`
	Missed     int64 `json:"missed_blobs"`
}

// passed says which blobs a replay has behind it.
type passed struct {
	Through string `json:"through"` // name of the last one; "" for none
	Blobs   int64  `json:"blobs"`
	Bytes   int64  `json:"bytes"`
	Digest  string `json:"digest"` // of their names and sizes
}

// add passes a blob.
func (p *passed) add(b *selection.Blob) {
	hash := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", p.Digest, b.Name, b.Size))
	p.Through, p.Digest = b.Name, hex.EncodeToString(hash[:16])
	p.Blobs++
	p.Bytes += b.Size
}

// entry is a blob that a replay is in the middle of. Its records are counted from 0, those alone that the selection
// selects.
type entry struct {
	Name string `json:"name"`
	Size int64  `json:"bytes"`
	// Records is how many there are, -1 as long as they weren't all read.
	Records int64 `json:"records"`
	// Done are those that the target has accepted, or that needn't be sent; Sending those under way.
	Done    numbers `json:"done,omitzero"`
	Sending numbers `json:"sending,omitzero"`
	// Damaged says that records may be missing from the blob, and that it is counted as unreadable.
	Damaged bool `json:"damaged,omitempty"`
}

// isDone reports whether all of the blob is done.
func (e *entry) isDone() bool { return e.Records >= 0 && e.Done.Len() == e.Records }

// isBegun reports whether there is something to keep.
func (e *entry) isBegun() bool { return e.Records >= 0 || e.Done.Len() > 0 || e.Sending.Len() > 0 }

// numbers is a set that is written as a list of [first, last].
type numbers struct{ record.Sequences }

// MarshalJSON implements [json.Marshaler].
func (n numbers) MarshalJSON() ([]byte, error) {
	text := []byte{'['}
	for first, last := range n.Runs() {
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(append(text, '['), first, 10)
		text = strconv.AppendInt(append(text, ','), last, 10)
		text = append(text, ']')
	}
	return append(text, ']'), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (n *numbers) UnmarshalJSON(text []byte) error {
	var runs [][2]int64
	if err := json.Unmarshal(text, &runs); err != nil {
		return err
	}
	*n = numbers{}
	for _, run := range runs {
		if run[0] < 0 || run[1] < run[0] || run[0] <= n.Last() || run[1] >= maxRecords {
			return fmt.Errorf("%v is no row of records, or out of order", run)
		}
		for i := run[0]; i <= run[1]; i++ {
			n.Add(i)
		}
	}
	return nil
}

// Digest is 16 hexadecimal digits that tell a task from any other.
func (t Task) Digest() string {
	if t.Selected != "" {
		t.Selection = selection.Selection{}
	}
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return digest(string(text))
}

func newState(task Task) *state {
	now := time.Now().UTC().Format(time.RFC3339)
	return &state{Version: stateVersion, Digest: task.Digest(), Task: task, Begun: now, Saved: now}
}

// parseState reads a state that is there, and makes sure that it is of this task.
func parseState(text []byte, task Task) (*state, error) {
	var s state
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("read progress: %w: %w", ErrDamaged, err)
	}
	switch {
	case s.Version != stateVersion:
		return nil, fmt.Errorf("read progress: it has the form %d, expected %d: it was written by another version of this program", s.Version, stateVersion)
	case s.Digest != task.Digest():
		return nil, fmt.Errorf("read progress: %w: %s", ErrOther, difference(s.Task, task))
	case s.Complete:
		return nil, fmt.Errorf("read progress: %w: %d messages were sent by %s; remove the progress to send them again", ErrComplete, s.Sent, s.Saved)
	}
	for _, e := range s.Blobs {
		if e == nil || e.Name == "" {
			return nil, fmt.Errorf("read progress: %w: a blob has no name", ErrDamaged)
		}
	}
	return &s, nil
}

// selected is the selection in words, if there are any.
func selected(t Task) any {
	if t.Selected != "" {
		return t.Selected
	}
	return t.Selection
}

// difference says in what two tasks differ.
func difference(was, is Task) string {
	for _, each := range []struct {
		name    string
		was, is any
	}{
		{"source", was.Source, is.Source},
		{"target", was.Target, is.Target},
		{"selection", selected(was), selected(is)},
		{"jq expression", was.Expression, is.Expression},
	} {
		old, _ := json.Marshal(each.was)
		now, _ := json.Marshal(each.is)
		if !bytes.Equal(old, now) {
			return fmt.Sprintf("its %s is %.300s, not %.300s", each.name, old, now)
		}
	}
	return "it places or marks messages otherwise"
}
