package audit_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"persistor/internal/audit"
	"persistor/internal/message"
	"persistor/internal/record"
	"persistor/internal/work"
)

// link is a blob of a made-up chain, as the oracle knows it.
type link struct {
	hub, partition     string
	day                int
	from, to, after    int64
	apart, unspeakable bool // below _failed/; with metadata that can't be read
}

// FuzzChains damages random chains in random ways, and compares with an oracle that counts number by number.
func FuzzChains(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		var links []link
		for range 1 + random.IntN(3) {
			links = append(links, chainOf(random)...)
		}
		links = damage(random, links)
		s := make(memory)
		names := map[string]bool{}
		links = slices.DeleteFunc(links, func(l link) bool { // of two with one name there is one
			name := l.put(s)
			before := names[name]
			names[name] = true
			return before
		})
		if len(links) == 0 {
			return
		}
		clear(s)
		for _, l := range links {
			l.put(s)
		}
		found := verify(t, s, audit.Scope{}, audit.Expectation{})
		if got, want := summed(found), judged(links); !maps.Equal(got, want) {
			t.Errorf("seed %d: of %+v\n got %v\nwant %v\n%+v", seed, links, got, want, found)
		}
	})
}

// chainOf is an unbroken chain of one partition over some days.
func chainOf(random *rand.Rand) (links []link) {
	l := link{hub: []string{ridesHub, otherHub}[random.IntN(2)], partition: strconv.Itoa(random.IntN(3)), from: random.Int64N(4), after: -1}
	for range 1 + random.IntN(8) {
		l.to = l.from + random.Int64N(5)
		links = append(links, l)
		l.after, l.from, l.day = l.to, l.to+1, l.day+random.IntN(2)
	}
	return links
}

// damage removes, doubles, moves and changes some of them.
func damage(random *rand.Rand, links []link) []link {
	for range random.IntN(5) {
		if len(links) == 0 {
			break
		}
		i := random.IntN(len(links))
		l := &links[i]
		switch random.IntN(7) {
		case 0:
			links = slices.Delete(links, i, i+1)
		case 1: // retention was faster
			l.from += random.Int64N(l.to - l.from + 1)
		case 2: // written again, cut elsewhere
			again := *l
			again.from += random.Int64N(again.to - again.from + 1)
			again.after = again.from - 1
			links = append(links, again)
		case 3:
			again := *l
			again.day += 1 + random.IntN(3)
			links = append(links, again)
		case 4:
			l.apart = true
		case 5:
			l.unspeakable = true
		case 6: // says that nothing was there before
			l.after = max(-1, l.after-random.Int64N(6))
		}
	}
	return links
}

func (l link) put(s memory) string {
	in := folder
	if l.apart {
		in = "_failed/" + folder
	}
	var messages []*message.Message
	for n := l.from; n <= l.to; n++ {
		messages = append(messages, event(l.partition, n))
	}
	name := s.putIn(in, l.hub, l.after, later(l.day, messages)...)
	if l.unspeakable {
		s.edit(name, "count", "")
	}
	return name
}

// judged is what the oracle says: by hub and partition which numbers are missing, lost, or stored apart, and how many are
// stored again.
func judged(links []link) map[string]string {
	type place struct {
		apart          bool
		hub, partition string
	}
	held, skipped := map[place]map[int64]int{}, map[place]map[int64]bool{}
	for _, l := range links {
		p := place{l.apart, l.hub, l.partition}
		if l.unspeakable {
			p.hub = "" // nothing that it says is believed
		}
		if held[p] == nil {
			held[p], skipped[p] = map[int64]int{}, map[int64]bool{}
		}
		for n := l.from; n <= l.to && !l.unspeakable; n++ {
			held[p][n]++
		}
		for n := l.after + 1; n < l.from && !l.unspeakable; n++ {
			skipped[p][n] = true
		}
	}
	all := map[string]string{}
	for p, numbers := range held {
		if len(numbers) == 0 {
			continue
		}
		var missing, lost, apart, again int64
		for n := slices.Min(slices.Collect(maps.Keys(numbers))); n <= slices.Max(slices.Collect(maps.Keys(numbers))); n++ {
			switch {
			case numbers[n] > 0:
				again += int64(numbers[n] - 1)
			case p.apart:
			case skipped[p][n]:
				lost++
			case held[place{true, p.hub, p.partition}][n] > 0:
				apart++
			default:
				missing++
			}
		}
		all[fmt.Sprint(p)] = fmt.Sprint(missing, lost, apart, again)
	}
	return all
}

// summed is the same of what an audit found.
func summed(found audit.Summary) map[string]string {
	count := func(all []work.Range) (n int64) {
		for _, r := range all {
			n += r.To - r.From + 1
		}
		return n
	}
	all := map[string]string{}
	for _, r := range found.Folders {
		for _, p := range r.Partitions {
			if p.To >= 0 {
				key := fmt.Sprint(struct {
					apart          bool
					hub, partition string
				}{r.Failed, p.Hub, p.Partition})
				all[key] = fmt.Sprint(count(p.Gaps), count(p.LostToRetention), count(p.Apart), p.Duplicates)
			}
		}
	}
	return all
}

// TestQueuesAgreeWithAnOracle has random receivers store random numbers, some of them twice.
func TestQueuesAgreeWithAnOracle(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		s, times := make(memory), map[int64]int{}
		stored := map[string]bool{}
		for range 1 + random.IntN(6) {
			var numbers record.Sequences
			for range 1 + random.IntN(8) {
				numbers.Add(1 + random.Int64N(30))
			}
			if name := s.putQueue(orders(slices.Collect(numbers.All())...)...); stored[name] {
				continue
			} else {
				stored[name] = true
			}
			for n := range numbers.All() {
				times[n]++
			}
		}
		again := 0
		for _, n := range times {
			again += n - 1
		}
		found := verify(t, s, audit.Scope{}, audit.Expectation{})
		e := found.Folders[0].Entities[0]
		if found.Complete != (again == 0) || found.Duplicates != int64(again) || e.Messages != int64(len(times)) || e.From != slices.Min(slices.Collect(maps.Keys(times))) {
			t.Errorf("seed %d: %+v, want %d again of %v", seed, found, again, times)
		}
	}
}
