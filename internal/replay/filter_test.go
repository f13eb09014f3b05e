package replay

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"persistor/internal/message"
)

func TestFilter(t *testing.T) {
	t.Setenv("REPLAY_TEST_SECRET", "secret")
	m := &message.Message{
		Body: message.Body{Data: [][]byte{[]byte(`{"speed":130,"big":18446744073709551615}`)}}, SequenceNumber: 42, EnqueuedTime: at, Partition: "3",
		Properties: map[string]any{"level": "error", "n": uint64(math.MaxUint64), "big": int64(1<<53 + 1)},
	}
	for expression, want := range map[string]bool{
		`.METADATA.level == "error"`:                          true,
		`.METADATA.level == "info"`:                           false,
		`select(.METADATA.level == "error")`:                  true,
		`select(.METADATA.level == "info")`:                   false,
		`.DATA | fromjson | .speed > 120`:                     true,
		`.DATA | test("speed")`:                               true,
		`.SYSTEM.sequence_number == 42`:                       true,
		`.SYSTEM.partition`:                                   true,
		`.SYSTEM.nothing`:                                     false,
		`0`:                                                   true, // as jq has it, only false and null are not
		`false, true`:                                         false,
		`empty`:                                               false,
		`.METADATA.n == 18446744073709551615`:                 true,
		`.METADATA.big == 9007199254740993`:                   true,
		`.METADATA.big == 9007199254740992`:                   false,
		`.TYPES.METADATA.n == "ulong"`:                        true,
		`.SYSTEM.enqueued_time | startswith("2026-03-09T04")`: true,
		`env | length > 0`:                                    false,
		`$ENV.REPLAY_TEST_SECRET`:                             false,
		`halt`:                                                false,
	} {
		f, err := NewFilter(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, err := f.Selects(t.Context(), m); got != want || err != nil {
			t.Errorf("%s: %t, %v", expression, got, err)
		}
	}
}

func TestFilterFails(t *testing.T) {
	m := &message.Message{Body: message.Body{Data: [][]byte{[]byte("x")}}}
	for _, expression := range []string{"", "(", "$unknown", "nosuch(1)", "input", "inputs", `import "a" as a; 1`, strings.Repeat(" ", MaxExpression) + "."} {
		if _, err := NewFilter(expression); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v", expression, err)
		}
	}
	for expression, want := range map[string]string{
		`.DATA.speed`: "expected an object", `error("no")`: "no", `.DATA | fromjson`: "fromjson",
	} {
		f, err := NewFilter(expression)
		if err != nil {
			t.Fatal(err)
		}
		if selected, err := f.Selects(t.Context(), m); selected || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %t, %v", expression, selected, err)
		}
	}
}

// An expression that would never end is ended.
func TestFilterThatTakesTooLong(t *testing.T) {
	f, err := NewFilter(`def f: f; f`)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = f.Selects(t.Context(), &message.Message{})
	if err == nil || !strings.Contains(err.Error(), "takes longer than 2s") || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestPace(t *testing.T) {
	for _, test := range []struct {
		rate     float64
		batch    int // messages of each
		want     time.Duration
		messages int
	}{
		{rate: 100, batch: 20, messages: 1000, want: 9800 * time.Millisecond},
		{rate: 1, batch: 1, messages: 10, want: 9 * time.Second},
		{rate: 0.5, batch: 1, messages: 3, want: 4 * time.Second},
		{rate: 0, batch: 1000, messages: 1e6, want: 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPace(test.rate)
			if p.batch > 0 && test.batch > p.batch {
				t.Fatalf("rate %g: batches of %d", test.rate, p.batch)
			}
			began := time.Now()
			for range test.messages / test.batch {
				if err := p.wait(t.Context(), test.batch); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began).Round(time.Millisecond); took != test.want {
				t.Errorf("%d messages at %g a second took %v, expected %v", test.messages, test.rate, took, test.want)
			}
		})
	}
}

func TestPaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		p := newPace(0.001)
		if err := p.wait(ctx, 1); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := p.wait(ctx, 1); err != cause {
			t.Errorf("%v", err)
		}
		if err := newPace(0).wait(ctx, 1); err != cause {
			t.Errorf("without a limit: %v", err)
		}
	})
}
