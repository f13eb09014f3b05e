package app

import (
	"os"
	"runtime/debug"
)

// TuneMemory sets the garbage collector up for draining: what is alive are a few batches and the events
// that the client prefetched, while garbage comes at several KB an event, so that collecting at twice
// the live heap, as is the default, would cost a fifth of the time. Instead the heap may grow to five
// times that, but the memory limit keeps the process small: near it the collector works harder. GOGC
// and GOMEMLIMIT in the environment take precedence.
func TuneMemory(batchBytes int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(baseMemory + batchesInMemory*int64(batchBytes))
	}
}

// baseMemory is what a worker takes without its batches, prefetched events included.
const baseMemory = 56 << 20

// PrefetchBytes is the part of it that prefetched events may take.
const PrefetchBytes = 20 << 20
