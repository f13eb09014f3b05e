package demo

import (
	"fmt"
	"testing"
	"unicode/utf8"

	"persistor/internal/audit"
)

func TestTelemetryIsAFunctionOfSeedAndNumber(t *testing.T) {
	for n := range 200 {
		a, b := audit.DigestOf(Telemetry{Seed: 7}.Event(n)), audit.DigestOf(Telemetry{Seed: 7}.Event(n))
		if a != b {
			t.Fatalf("event %d differs when made again", n)
		}
		if a == audit.DigestOf(Telemetry{Seed: 8}.Event(n)) {
			t.Fatalf("event %d does not depend on the seed", n)
		}
		if got, ok := Number(Telemetry{Seed: 7}.Event(n)); !ok || got != n {
			t.Fatalf("event %d: its number is %d, %t", n, got, ok)
		}
	}
}

func TestMachinesSendInTurn(t *testing.T) {
	const machines = 1000
	last := make(map[string]int)
	for n := range 3 * machines {
		key := *Telemetry{Seed: 7, Machines: machines}.Event(n).PartitionKey
		if before, seen := last[key]; seen != (n >= machines) || seen && n != before+machines {
			t.Fatalf("event %d is of %s, as was event %d (%t)", n, key, before, seen)
		}
		last[key] = n
	}
}

// The demo promises a mixture; these bounds are wide enough for any seed.
func TestTelemetryIsVaried(t *testing.T) {
	const events = 20_000
	var bytes, binary, wide, empty, keyed, largest int
	keys, types := make(map[string]bool), make(map[string]bool)
	for n := range events {
		m := Telemetry{Seed: 1}.Event(n)
		body := m.Body.Data[0]
		bytes += len(body)
		largest = max(largest, len(body))
		switch {
		case len(body) == 0:
			empty++
		case !utf8.Valid(body):
			binary++
		case utf8.RuneCount(body) < len(body):
			wide++
		}
		if m.PartitionKey != nil {
			keyed++
			keys[*m.PartitionKey] = true
		}
		for name, value := range m.Properties {
			if !utf8.ValidString(name) {
				t.Fatalf("event %d: the client can't send the property name %q", n, name)
			}
			types[fmt.Sprintf("%T", value)] = true
		}
		types[fmt.Sprintf("correlation id %T", m.CorrelationID)] = true
	}
	for what, c := range map[string]struct{ got, low, high int }{
		"mean body size, bytes":  {bytes / events, 700, 1400},
		"largest body, bytes":    {largest, 3000, 16_384},
		"binary per thousand":    {1000 * binary / events, 35, 65},
		"non-ASCII per thousand": {1000 * wide / events, 100, 1000},
		"empty bodies":           {empty, 5, 200},
		"keyed per thousand":     {1000 * keyed / events, 750, 980},
		"partition keys":         {len(keys), 150, 240},
	} {
		if c.got < c.low || c.got > c.high {
			t.Errorf("%s: %d, expected %d to %d", what, c.got, c.low, c.high)
		}
	}
	for _, want := range []string{
		"<nil>", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
		"float32", "float64", "string", "[]uint8", "time.Time", "message.UUID",
		"correlation id <nil>", "correlation id string", "correlation id uint64",
		"correlation id message.UUID", "correlation id []uint8",
	} {
		if !types[want] {
			t.Errorf("no event carries a %s", want)
		}
	}
}

func BenchmarkTelemetry(b *testing.B) {
	var n int
	for b.Loop() {
		Telemetry{Seed: 1}.Event(n)
		n++
	}
}
