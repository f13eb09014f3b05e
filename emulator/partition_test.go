package emulator

import (
	"strconv"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// logOf is a log whose events carry their sequence number as their body, a second apart from Unix time 0 on.
func logOf(events, keep int) *storedLog {
	l := &storedLog{count: keep, now: func() time.Time { return time.Unix(1e6, 0) }}
	for i := range events {
		l.mu.Lock()
		l.appendAt([]event{{rest: wire.AppendBinary(wire.AppendSection(nil, wire.SectionData), []byte(strconv.Itoa(i)))}}, int64(i)*1000)
		l.mu.Unlock()
	}
	return l
}

// TestStoredLogChunks keeps events across the bounds of chunks, and forgets chunks that are over the retention.
func TestStoredLogChunks(t *testing.T) {
	for _, c := range []struct {
		events, keep, first, chunks int
	}{
		{1, 0, 0, 1}, {chunkSize, 0, 0, 1}, {chunkSize + 1, 0, 0, 2},
		{chunkSize, 1, chunkSize - 1, 1}, {chunkSize + 1, 1, chunkSize, 1}, {3*chunkSize + 5, 10, 3*chunkSize - 5, 2},
	} {
		l := logOf(c.events, c.keep)
		info := l.info()
		if info.First != int64(c.first) || info.Last != int64(c.events-1) || len(l.chunks) != c.chunks {
			t.Errorf("%d events of which %d are kept: first %d, last %d, %d chunks; want %d, %d, %d",
				c.events, c.keep, info.First, info.Last, len(l.chunks), c.first, c.events-1, c.chunks)
		}
		next := int64(0)
		for sequence := info.First; sequence <= info.Last; sequence++ {
			message, got, ok := l.read(nil, next)
			if body := string(bodyOf(t, message)); !ok || got != sequence || body != strconv.FormatInt(sequence, 10) {
				t.Fatalf("%d events of which %d are kept: read %d: got %d, %q, want %d", c.events, c.keep, next, got, body, sequence)
			}
			next = got + 1
		}
		if _, _, ok := l.read(nil, next); ok {
			t.Errorf("%d events: there is one behind the last", c.events)
		}
	}
}

// TestTrimAll leaves an empty partition that goes on where it was.
func TestTrimAll(t *testing.T) {
	l := logOf(2*chunkSize, 0)
	l.trimTo(l.end)
	if info := l.info(); !info.Empty || info.First != 2*chunkSize || info.Last != 2*chunkSize-1 || len(l.chunks) != 0 {
		t.Errorf("after trimming all: %+v, %d chunks", info, len(l.chunks))
	}
	l.append([]event{{rest: dataMessage("next")}})
	if message, sequence, ok := l.read(nil, 0); !ok || sequence != 2*chunkSize || string(bodyOf(t, message)) != "next" {
		t.Errorf("the next event: got %d, %v", sequence, ok)
	}
}

// TestSeek looks for every event by each of its fields, in both logs, from both sides.
func TestSeek(t *testing.T) {
	synthetic, err := newSyntheticLog(Synthetic{Events: 50, First: time.Unix(0, 0), Interval: time.Second}, "0")
	if err != nil {
		t.Fatal(err)
	}
	stored := logOf(60, 50)
	for name, log := range map[string]eventLog{"stored": stored, "synthetic": synthetic} {
		first := log.info().First
		for sequence := first; sequence < first+50; sequence++ {
			offset := synthetic.offset(sequence)
			if name == "stored" {
				offset = stored.at(sequence).offset
			}
			for _, s := range []selector{
				{field: bySequenceNumber, number: sequence},
				{field: byEnqueuedTime, number: sequence * 1000},
				{field: byOffset, offset: strconv.FormatInt(offset, 10)},
			} {
				if got, err := log.find(s); err != nil || got != sequence+1 {
					t.Errorf("%s: behind %+v: got %d, %v, want %d", name, s, got, err, sequence+1)
				}
				s.inclusive = true
				if got, err := log.find(s); err != nil || got != sequence {
					t.Errorf("%s: from %+v: got %d, %v, want %d", name, s, got, err, sequence)
				}
			}
		}
		if got, err := log.find(selector{field: byEnqueuedTime, number: -5}); err != nil || got != first {
			t.Errorf("%s: from before time: got %d, %v, want %d", name, got, err, first)
		}
		if got, err := log.find(selector{field: bySequenceNumber, number: first + 50}); err == nil {
			t.Errorf("%s: behind an event that there is not: got %d, want an error", name, got)
		}
		if got, err := log.find(selector{field: byOffset, offset: "1:2:3"}); err == nil {
			t.Errorf("%s: from an offset of another kind: got %d, want an error", name, got)
		}
	}
}

// TestClockBehind dates an event like the one before it when the clock was set back.
func TestClockBehind(t *testing.T) {
	now := time.Unix(100, 0)
	l := &storedLog{now: func() time.Time { return now }}
	for range 3 {
		l.append([]event{{rest: dataMessage("x")}})
		now = now.Add(-time.Second)
	}
	for sequence := range int64(3) {
		if got := l.at(sequence).enqueued; got != 100_000 {
			t.Errorf("event %d is of %d ms, want 100000", sequence, got)
		}
	}
}
