// Command persistor is the operator's tool: backfills and their runs, what is stored and what waits; a demonstration on
// this machine alone, an emulator of Event Hubs and Service Bus, a publisher; and the worker and invoker as plain
// processes. `persistor --help` says more.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; the second finds the default again, and ends at once.
	context.AfterFunc(ctx, stop)

	status := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(status)
}
