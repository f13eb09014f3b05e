package app

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"

	"persistor/internal/config"
)

// openFragilePush is OpenPush, but for KILL_AT, as [openFragileWorker] has it.
func openFragilePush(ctx context.Context, lookup config.Lookup, logs io.Writer) (*Program, error) {
	step, count, ok := strings.Cut(os.Getenv("KILL_AT"), ":")
	if !ok {
		return OpenPush(ctx, lookup, logs)
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return nil, err
	}
	c, err := config.ReadPush(lookup)
	if err != nil {
		return nil, err
	}
	o, err := pushOptions(ctx, c, newLog(logs, c.Server.LogLevel, "push"))
	if err != nil {
		return nil, err
	}
	k := &killer{step: step}
	k.left.Store(n)
	o.Sink = sink{fragileStore{o.Sink.(sink).Store, k}}
	return newPush(c, o, o.Log), nil
}
