package backfill

import (
	"context"
	"testing"
	"time"

	"persistor/internal/fanout"
	"persistor/internal/ledger"
)

// away is storage that is out of reach: it is asked again until ctx ends.
type away struct{ ledger.Storage }

func (away) Read(ctx context.Context, _ string) ([]byte, string, error) {
	<-ctx.Done()
	return nil, "", ctx.Err()
}

// A wave whose document can't be read gives up in time, for its message to come again.
func TestWaveWithoutStorage(t *testing.T) {
	dispatcher, err := fanout.NewDispatcher(fanout.Options{Workers: []string{"http://127.0.0.1:1/"}, Budget: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Ledger: ledger.New(away{}, "source", ledger.Retention{}), Chain: NewLocal(nil), Dispatcher: dispatcher})
	ended := make(chan error, 1)
	go func() {
		_, err := e.Wave(t.Context(), Message{Run: "20261125T120000Z-aaaaaa", Wave: 1})
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the message won't come again")
		}
	case <-time.After(10 * time.Second):
		t.Error("the wave hangs")
	}
}
