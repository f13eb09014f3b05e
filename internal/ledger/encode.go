package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"persistor/internal/document"
)

const (
	// maxUnits is how many units a document names: fanout.MaxUnits.
	maxUnits = 1024
	// maxError is the longest that an error is, in bytes.
	maxError = 500
)

// encode bounds what a run names, and writes it as a line of JSON. A run that is too large for a document all the same
// has its units that are done named without what they had to do.
func encode(run *Run) ([]byte, error) {
	run.bound()
	body, err := json.Marshal(run)
	if err == nil && len(body) >= document.MaxBody {
		for i := range run.Units {
			if u := &run.Units[i]; u.State == UnitDone {
				u.Partitions, u.Cells = nil, nil
			}
		}
		body, err = json.Marshal(run)
	}
	if err == nil && len(body) >= document.MaxBody {
		err = fmt.Errorf("its document has %d bytes, and at most %d are kept: ask for fewer partitions, or for fewer units", len(body), document.MaxBody-1)
	}
	if err != nil {
		return nil, err
	}
	return append(body, '\n'), nil
}

// bound cuts lists and texts to their maxima, and times to the millisecond, in UTC.
func (r *Run) bound() {
	// What the caller holds too is left as it is.
	r.Units = slices.Clone(r.Units[:min(len(r.Units), maxUnits)])
	r.Waves = slices.Clone(r.Waves[max(0, len(r.Waves)-MaxWaves):])
	r.Errors = slices.Clone(r.Errors[max(0, len(r.Errors)-MaxErrors):])
	r.Partitions = slices.Clone(r.Partitions)
	r.Notes = r.Notes[:min(len(r.Notes), MaxNotes)]
	for i := range r.Units {
		r.Units[i].Error = cut(r.Units[i].Error)
	}
	for i := range r.Errors {
		r.Errors[i].Error = cut(r.Errors[i].Error)
		r.Errors[i].Time = inMilliseconds(r.Errors[i].Time)
	}
	for i := range r.Waves {
		r.Waves[i].Began = inMilliseconds(r.Waves[i].Began)
		r.Waves[i].Ended = inMilliseconds(r.Waves[i].Ended)
	}
	for i := range r.Partitions {
		r.Partitions[i].Offsets = maps.Clone(r.Partitions[i].Offsets)
		r.Partitions[i].pruneOffsets()
	}
	for _, t := range []*time.Time{&r.Created, &r.Updated, &r.Ended, &r.Alive, &r.NextAsked, &r.LockedUntil, &r.CancelRequested, &r.Request.From.Time, &r.Request.Until.Time} {
		*t = inMilliseconds(*t)
	}
}

func inMilliseconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}

// cut makes a text one line of at most maxError bytes.
func cut(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError-3], "") + "..."
	}
	return text
}
