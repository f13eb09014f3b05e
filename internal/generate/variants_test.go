package generate

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variant is one of the original's, as its generator's configuration asks for it.
type variant struct {
	name    string
	golden  string // the file of what it is expected to store
	kind    string
	options string
}

// variants are the seven of the original; where there is a choice, with each.
var variants = []variant{
	{"1 event grid", "event-grid", "EVENT_GRID_BINDING", ``},
	{"2 event hub, one", "event-hub-one", "EVENT_HUB_BINDING", `"cardinality": "one"`},
	{"2 event hub, many", "event-hub-many", "EVENT_HUB_BINDING", `"cardinality": "many"`},
	{"3 event hub pull", "event-hub-pull", "EVENT_HUB_PULL", ``},
	{"4 event hub pull with invoker", "event-hub-pull", "EVENT_HUB_PULL", `"invoker": "true"`},
	{"5 queue", "queue", "SERVICE_BUS_BINDING", `"sb_type": "queue"`},
	{"5 topic", "topic", "SERVICE_BUS_BINDING", `"sb_type": "topic"`},
	{"6 queue pull", "queue-pull", "SERVICE_BUS_PULL", `"sb_type": "queue"`},
	{"6 topic pull", "topic-pull", "SERVICE_BUS_PULL", `"sb_type": "topic"`},
	{"7 queue pull with invoker", "queue-pull", "SERVICE_BUS_PULL", `"sb_type": "queue", "invoker": "true"`},
	{"7 topic pull with invoker", "topic-pull", "SERVICE_BUS_PULL", `"sb_type": "topic", "invoker": "true"`},
}

// appending are variants whose blobs grow.
var appending = []variant{
	{"event hub, append", "event-hub-append", "EVENT_HUB_BINDING", `"append": "true"`},
	{"event hub, timed append", "event-hub-timed-append", "EVENT_HUB_BINDING", `"cardinality": "many", "timed_append": "true"`},
	{"event hub pull, append", "event-hub-pull-append", "EVENT_HUB_PULL", `"append": "true"`},
	{"event hub pull, timed append", "event-hub-pull-timed-append", "EVENT_HUB_PULL", `"timed_append": "true"`},
}

func init() {
	for _, list := range [][]variant{variants, appending} {
		for n := range list {
			list[n].options = strings.TrimSuffix(`"metadata": "true", `+list[n].options, ", ")
		}
	}
}

func (v variant) grid() bool    { return strings.HasPrefix(v.kind, "EVENT_GRID") }
func (v variant) hub() bool     { return strings.HasPrefix(v.kind, "EVENT_HUB") }
func (v variant) bus() bool     { return strings.HasPrefix(v.kind, "SERVICE_BUS") }
func (v variant) pulls() bool   { return strings.HasSuffix(v.kind, "_PULL") }
func (v variant) invoked() bool { return strings.Contains(v.options, "invoker") }
func (v variant) many() bool    { return strings.Contains(v.options, "many") }

// entity is what a variant of Service Bus reads.
func (v variant) entity() string {
	if strings.Contains(v.options, "topic") {
		return subscription
	}
	return "orders"
}

// goldenQuery has a worker store two messages in a blob. One loop takes all messages of a queue in their order; of a hub
// each partition has its own.
func (v variant) goldenQuery() string {
	if v.hub() && !v.invoked() {
		return "N=2&batch_store_size=2"
	}
	return "N=1&batch_store_size=2"
}

// each runs a test of every variant.
func each(t *testing.T, list []variant, test func(t *testing.T, v variant)) {
	for _, v := range list {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// Every variant stores what it should, with nothing but settings that the original knows; and what comes again,
// to the same process or to another, changes nothing.
func TestVariantsStoreWhatTheyShould(t *testing.T) {
	t.Parallel()
	each(t, slices.Concat(variants, appending), func(t *testing.T, v variant) {
		a := attach(t, v, true)
		a.create(t, a.container)
		a.feedGolden(t)
		a.start(t)
		if err := a.bring(t, v.goldenQuery()); err != nil {
			t.Fatal(err)
		}
		a.compare(t, false)
		for _, r := range a.host.Results() {
			if r.Err != nil {
				t.Errorf("%+v", r)
			}
		}
		if v.bus() { // which has nothing left
			return
		}
		before := a.listing(t)
		a.again(t, v.goldenQuery())
		if diff := cmp.Diff(before, a.listing(t)); diff != "" { // with who stored it
			t.Errorf("what came again changed what is stored: %s", diff)
		}
	})
}

// Messages of Service Bus come again that were stored and not completed: since their locks had run out, or the worker died.
func TestVariantsFindWhatComesAgain(t *testing.T) {
	t.Parallel()
	of := slices.DeleteFunc(slices.Clone(variants), func(v variant) bool { return !v.bus() })
	each(t, of, func(t *testing.T, v variant) {
		a := attach(t, v, true)
		a.create(t, a.container)
		a.feedGolden(t)
		a.gate.onStored(func() {
			if v.pulls() {
				if err := a.host.Kill(t.Context()); err != nil {
					t.Error(err)
				}
			}
			a.expireLocks(t)
		})
		a.start(t)
		err := a.bring(t, v.goldenQuery())
		if v.pulls() && !v.invoked() { // in other batches, so that names don't tell what is stored
			if err == nil {
				t.Error("the worker's call survived it")
			}
			a.bringAll(t, "N=1&batch_store_size=3")
			a.compareRecords(t)
		} else {
			a.bringAll(t, v.goldenQuery())
			a.compare(t, true)
		}
		info, err := a.emulator.Queue(a.entity())
		if err != nil || info.Active+info.Locked != 0 || !v.pulls() && len(a.host.Results()) <= len(goldenMessages) {
			t.Errorf("%+v, %v: %d invocations", info, err, len(a.host.Results()))
		}
	})
}

// Storage that takes nothing fails what comes, by the rule of each trigger; and when it takes blobs again everything is
// stored, once.
func TestVariantsTryAgain(t *testing.T) {
	t.Parallel()
	each(t, slices.Concat(variants, appending), func(t *testing.T, v variant) {
		a := attach(t, v, true)
		a.create(t, a.container)
		a.more = []string{"BINDING_TIMEOUT", "5"} // so that the host hears of it soon
		a.start(t)
		a.gate.shut(1 << 20)
		if v.invoked() {
			a.gate.shut(1) // the invoker tries again by itself
		}
		a.feedGolden(t)
		switch {
		case v.grid() || v.pulls():
			if err := a.bring(t, v.goldenQuery()); err == nil && !v.invoked() {
				t.Error("nothing failed")
			} else if err != nil && v.invoked() {
				t.Error(err)
			}
		default:
			awaitAnyhow(t, a.host, func() bool { return a.failed() || a.done(t) })
			if !a.failed() {
				t.Error("nothing failed")
			}
		}
		a.gate.open()
		a.bringAll(t, v.goldenQuery())
		if a.gate.refusals() == 0 {
			t.Error("storage refused nothing")
		}
		a.compare(t, true)
	})
}

// Handlers that `go build` makes run as the others do.
func TestVariantsOfBuiltPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	t.Parallel()
	each(t, []variant{variants[2], variants[3]}, func(t *testing.T, v variant) {
		a := attach(t, v, true, func(o *Options) { o.Handler, o.Source, o.Arch = "", "../..", runtime.GOARCH })
		a.create(t, a.container)
		a.feedGolden(t)
		a.start(t)
		if err := a.bring(t, v.goldenQuery()); err != nil {
			t.Fatal(err)
		}
		a.compare(t, false)
		a.again(t, v.goldenQuery())
		a.compare(t, true)
	})
}
