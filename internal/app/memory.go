package app

import (
	"os"
	"runtime/debug"
)

// Memory is how a worker's memory is shared out, in bytes.
type Memory struct {
	Batches  int // for all batches of one unit
	Prefetch int // for the events that the client of one unit has received ahead
}

// ShareMemory shares out what all units together may hold (MEMORY_LIMIT): half for batches, half for
// events received ahead.
func ShareMemory(limit, units int) Memory {
	return Memory{Batches: limit / 2 / units, Prefetch: limit / 2 / units}
}

// processMemory is what a worker takes beside the messages that it holds, in bytes: the program, its
// connections, and garbage that is not collected yet.
const processMemory = 40 << 20

// TuneMemory sets the garbage collector up for draining. What is alive are a few batches and the events
// received ahead, while garbage comes at several KB an event; collecting whenever the heap has doubled,
// as is the default, costs a fifth of the time. So the heap may grow to five times what is alive, but
// under a limit that keeps the process small: near it the collector works harder. GOGC and GOMEMLIMIT in
// the environment take precedence.
func TuneMemory(limit int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(processMemory + int64(limit))
	}
}
