package push

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/record"
)

// Grid stores the events that Event Grid delivers, each in a blob of its own, named by what identifies it: its
// source and its id there. Its methods are safe for concurrent use.
type Grid struct {
	Options
	outputs sync.Once // has told that events are no outputs

	mu       sync.Mutex
	journals map[string]*journal // by what the names of their blobs begin with
}

// NewGrid makes a Grid.
func NewGrid(o Options) *Grid {
	if o.Append != pull.Apart {
		o.Format.Metadata = true // so that a record says which event it is, should it be there twice
	}
	return &Grid{Options: o, journals: map[string]*journal{}}
}

const (
	// maxEvents bounds the events of one delivery; Event Grid sends 5,000 at most.
	// https://learn.microsoft.com/azure/event-grid/delivery-and-retry#output-batching
	maxEvents = 5000
	// maxEvent bounds an event, in bytes. Event Grid takes 1 MiB; the host may write it longer.
	maxEvent = 2 << 20
	// eventsAtOnce are how many events of a delivery are stored side by side.
	eventsAtOnce = 16
)

// Persist is the function: it stores the events of a delivery, or fails, and the whole delivery comes again.
func (g *Grid) Persist(ctx context.Context, i *host.Invocation) (host.Response, error) {
	_, last := g.budget(time.Now())
	if g.Output {
		g.outputs.Do(func() {
			g.log().Warn("events are stored by this program and not by the output binding, whose paths can't be made of what identifies an event")
		})
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), last) // who is told to end stores what he has
	defer cancel()
	deliveries, err := eventsOf(i)
	if err != nil {
		return host.Response{}, fmt.Errorf("read events: %w", err)
	}
	var events []event
	for _, raw := range deliveries {
		e, err := parseEvent(raw)
		if err != nil {
			// Whoever delivers it again delivers the same.
			m := &message.Message{Body: message.Body{Kind: message.JSON, JSON: raw}}
			if err := g.putApart(ctx, m, i.ID, fmt.Errorf("identify event: %w", err)); err != nil {
				return host.Response{}, err
			}
			continue
		}
		if e.folder = g.Folder; e.folder == "" {
			e.folder = e.subscription()
		}
		events = append(events, e)
	}
	if g.Append != pull.Apart {
		return host.Response{}, g.join(ctx, runID(i.ID), events)
	}
	return host.Response{}, g.storeApart(ctx, runID(i.ID), events)
}

// storeApart stores each event in a blob of its own.
func (g *Grid) storeApart(ctx context.Context, run string, events []event) error {
	var group errgroup.Group
	group.SetLimit(eventsAtOnce)
	for n := range events {
		group.Go(func() error { return g.store(ctx, run, &events[n]) })
	}
	return group.Wait()
}

// eventsOf are the events of a delivery, one or many, as JSON.
func eventsOf(i *host.Invocation) ([][]byte, error) {
	_, p, err := i.Payload()
	if err != nil {
		return nil, err
	}
	if one, err := p.JSON(); err == nil {
		return [][]byte{one}, nil
	}
	all, err := p.JSONs()
	if err != nil {
		return nil, err
	}
	if len(all) > maxEvents {
		return nil, fmt.Errorf("a delivery of %d events: expected at most %d", len(all), maxEvents)
	}
	events := make([][]byte, len(all))
	for n, raw := range all {
		events[n] = raw
	}
	return events, nil
}

// store stores one event, unless it is stored already.
func (g *Grid) store(ctx context.Context, run string, e *event) error {
	body := g.Format.Append(nil, &e.message)
	metadata := record.Event{Source: e.source, ID: e.id, Content: e.content, Count: 1, Bytes: int64(len(body)), Run: run}.Metadata()
	create := func(ctx context.Context, sink pull.Sink, folder string) error {
		name := record.EventName(folder, e.source, e.id, e.at)
		began := time.Now()
		held, err := sink.Create(ctx, name, body, metadata)
		g.stored(ctx, began, 1, len(body), held, err)
		if err == nil && held != nil {
			_, err = g.compare(ctx, e, name, held)
		}
		if err != nil {
			return fmt.Errorf("store event %.80q of %.80q: %w", e.id, e.source, err)
		}
		return nil
	}
	err := persevere(ctx, func(ctx context.Context) error { return create(ctx, g.Sink, e.folder) })
	if !errors.Is(err, pull.ErrForeign) {
		return err
	}
	where, refused := g.refuge(ctx, func(ctx context.Context, sink pull.Sink) error { return create(ctx, sink, apart(e.folder)) })
	if refused != nil {
		return fmt.Errorf("%w; %w", err, refused)
	}
	g.log().ErrorContext(ctx, "stored an event apart, since it could not be stored in its place",
		"source", e.source, "id", e.id, "folder", apart(e.folder), "in", where, "error", err)
	return nil
}

// compare looks at the metadata of the blob that has an event's name. An event of the same identity that holds something
// else stays where it is, and the new one is not stored: Event Grid promises that events don't change.
func (g *Grid) compare(ctx context.Context, e *event, name string, held map[string]string) (there record.Event, err error) {
	there, err = record.ParseEvent(held)
	switch {
	case err != nil:
		return there, fmt.Errorf("blob %s is there already, but not as Persistor writes it: %w: %w; move it away, or set STORE_PARAM to another folder", name, pull.ErrForeign, err)
	case !there.Of(e.source, e.id):
		return there, fmt.Errorf("blob %s is there already, and holds event %.80q of %.80q: %w; move it away", name, there.ID, there.Source, pull.ErrForeign)
	case there.Content != e.content:
		g.log().WarnContext(ctx, "an event came again with another content, and was left out", "source", e.source, "id", e.id, "blob", name)
	}
	return there, nil
}
