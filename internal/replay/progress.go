package replay

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"persistor/internal/record"
	"persistor/internal/selection"
)

// progress knows what was sent and what is under way, and keeps that. Its methods may be called concurrently.
type progress struct {
	keeper Keeper

	mu       sync.Mutex
	state    *state
	places   map[int64]place  // of the messages that are not sent yet, by the number that publish has for them
	flights  map[int64]flight // batches under way, by the number of their first message
	problems []string
	now      int64 // messages sent since the start

	// A save has all that changed before it began, so one serves many batches.
	changed *sync.Cond
	changes int64 // so far
	kept    int64 // those that are saved
	saveErr error // ends the saving
	closed  bool
	saver   sync.WaitGroup
}

// place is where a message is stored.
type place struct {
	entry *entry
	index int64
	bytes int64 // of its body
}

// flight is a batch under way.
type flight map[*entry]*record.Sequences

// openProgress takes up what the keeper has, or begins anew. What was under way counts as uncertain from now on.
func openProgress(keeper Keeper, task Task) (*progress, error) {
	p := &progress{keeper: keeper, places: map[int64]place{}, flights: map[int64]flight{}}
	p.changed = sync.NewCond(&p.mu)
	text, err := keeper.Load()
	if err != nil {
		return nil, err
	}
	if text == nil {
		p.state = newState(task)
	} else if p.state, err = parseState(text, task); err != nil {
		return nil, err
	}
	for _, e := range p.state.Blobs {
		p.state.Uncertain += e.Sending.Len()
		e.Sending = numbers{}
	}
	p.saver.Go(p.saveAll)
	if err := p.save(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// begin begins a portion with these blobs, in the order of the list, and returns what is known of each.
func (p *progress) begin(blobs []selection.Blob) []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := map[string]*entry{}
	for _, e := range p.state.Blobs {
		known[e.Name] = e
	}
	p.state.Blobs = nil
	clear(p.places)
	for i := range blobs {
		e := known[blobs[i].Name]
		if e == nil {
			e = &entry{Name: blobs[i].Name, Records: -1}
		}
		if e.Size != blobs[i].Size {
			e.Size, e.Records = blobs[i].Size, -1 // it grew: there are more to be read
		}
		p.state.Blobs = append(p.state.Blobs, e)
	}
	return p.state.Blobs
}

// put notes where the message is stored to which publish gives a number.
func (p *progress) put(number int64, at place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[number] = at
}

// place says in words where a message is stored.
func (p *progress) place(number int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.places[number]
	if at.entry == nil {
		return fmt.Sprintf("message %d", number)
	}
	return fmt.Sprintf("blob %s: selected record %d", at.entry.Name, at.index)
}

// skip notes records that needn't be sent.
func (p *progress) skip(e *entry, deselected []int64, unreadable []int64, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, index := range deselected {
		e.Done.Add(index)
		p.state.Deselected++
	}
	for _, index := range unreadable {
		e.Done.Add(index)
		p.state.Unreadable++
	}
	p.tell(problem)
}

// damaged notes that records may be missing from a blob, once.
func (p *progress) damaged(e *entry, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.Damaged {
		e.Damaged = true
		p.state.Unreadable++
	}
	p.tell(problem)
}

// miss notes blobs that came too late to be sent, among those that are passed.
func (p *progress) miss(blobs int64, now passed, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Missed += blobs
	p.state.Passed = now
	p.tell(problem)
}

// tell keeps a problem, "" for none, under mu.
func (p *progress) tell(problem string) {
	if problem != "" && len(p.problems) < MaxProblems {
		p.problems = append(p.problems, problem)
	}
}

// read notes that all of a blob's records were read.
func (p *progress) read(e *entry, records int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.Records = records
}

// sending notes a batch that is about to be sent, and returns when that is saved.
func (p *progress) sending(batch []int64) error {
	p.mu.Lock()
	f := flight{}
	for _, number := range batch {
		at := p.places[number]
		if f[at.entry] == nil {
			f[at.entry] = new(record.Sequences)
		}
		f[at.entry].Add(at.index)
	}
	p.flights[batch[0]] = f
	p.mu.Unlock()
	return p.save()
}

// sent notes that the target has accepted a batch, which is saved soon.
func (p *progress) sent(batch []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, number := range batch {
		at := p.places[number]
		at.entry.Done.Add(at.index)
		p.state.Bytes += at.bytes
		delete(p.places, number)
	}
	delete(p.flights, batch[0])
	p.state.Sent += int64(len(batch))
	p.now += int64(len(batch))
	p.change()
}

// pass leaves a portion behind, all of which is done.
func (p *progress) pass(done portion) error {
	p.mu.Lock()
	for i := range done {
		if e := done[i].entry; !e.isDone() {
			p.mu.Unlock()
			return fmt.Errorf("blob %s: of %d records %d were sent", e.Name, e.Records, e.Done.Len())
		}
		p.state.Passed.add(&done[i].Blob)
	}
	p.state.Blobs = nil
	p.mu.Unlock()
	return p.save()
}

// end saves what there is last.
func (p *progress) end(complete bool) error {
	p.mu.Lock()
	p.state.Complete = complete
	p.mu.Unlock()
	defer p.close()
	return p.save()
}

// close ends the saving.
func (p *progress) close() {
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.saver.Wait()
}

func (p *progress) result() Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	return Result{
		Sent: s.Sent, Bytes: s.Bytes, Uncertain: s.Uncertain, Deselected: s.Deselected, Unreadable: s.Unreadable,
		Missed: s.Missed, Problems: p.problems, Complete: s.Complete, Now: p.now,
	}
}

// change notes a change, under mu.
func (p *progress) change() int64 {
	p.changes++
	p.changed.Broadcast()
	return p.changes
}

// save returns when all changes made before it was called are saved, or can't be.
func (p *progress) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for mine := p.change(); p.kept < mine && p.saveErr == nil; {
		p.changed.Wait()
	}
	return p.saveErr
}

// saveAll saves whenever there is something new.
func (p *progress) saveAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.saveErr == nil {
		if p.kept == p.changes {
			if p.closed {
				return
			}
			p.changed.Wait()
			continue
		}
		has, text := p.changes, p.encode()
		p.mu.Unlock()
		err := p.keeper.Save(text)
		p.mu.Lock()
		p.kept, p.saveErr = has, err
		p.changed.Broadcast()
	}
}

// encode is the state as it is kept.
func (p *progress) encode() []byte {
	s := *p.state
	s.Saved = time.Now().UTC().Format(time.RFC3339)
	under := map[*entry]*record.Sequences{}
	for _, f := range p.flights {
		for e, indexes := range f {
			if under[e] == nil {
				under[e] = new(record.Sequences)
			}
			for n := range indexes.All() {
				under[e].Add(n)
			}
		}
	}
	s.Blobs = nil
	for _, e := range p.state.Blobs {
		saved := *e
		if sending := under[e]; sending != nil {
			saved.Sending = numbers{*sending}
		}
		if saved.isBegun() {
			s.Blobs = append(s.Blobs, &saved)
		}
	}
	text, err := json.Marshal(&s)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return append(text, '\n')
}
