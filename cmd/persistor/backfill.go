package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/ledger"
	"persistor/internal/remote"
	"persistor/internal/selection"
)

func newBackfill() *cobra.Command {
	var b backfill
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Store a backlog, however long that takes, and watch",
		Long: `Backfill has the invoker store a backlog that outlasts any function's timeout, in waves, and
shows how far it is: bars on a terminal, a line each ten seconds elsewhere. Ctrl-C ends the
watching; the run goes on, and persistor runs watch comes back to it. With --local there is
nobody else to go on: Ctrl-C cancels the run in good order, and persistor runs resume --local
goes on with it.

--from is where to begin: checkpoint, behind what is stored (the default), earliest, or a TIME
or a sequence NUMBER; what is stored already is not stored again. --until is where to end: now,
with what is there at the beginning (the default), follow, which goes on until it is cancelled,
or a TIME or a NUMBER. What was enqueued at --until is left out, the message with the number
--until is not. Service Bus is drained as a whole: there --from, --until and --partition mean
nothing.

` + timeHelp + `

` + reachHelp + `

Exit status: 0 the run has succeeded, or with --detach has begun; 1 it failed, was cancelled or
abandoned, or is no longer watched; 2 wrong arguments or settings, nothing was begun.`,
		Example: `  persistor backfill --url https://my-invoker.azurewebsites.net
  persistor backfill --from 2026-03-09T04:00 --until 2026-03-09T06:00 --partition 0,3
  persistor backfill --from earliest --until follow --detach
  persistor backfill --local -N 4 --per-func 8 --json`,
		GroupID: groupOperate,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := b.request(time.Now(), cmd.Flags().Changed)
			if err != nil {
				return err
			}
			if b.detach && b.local {
				return usagef("--detach and --local exclude each other: the run would end with this process")
			}
			return b.use(cmd, func(ctx context.Context, i invoker, s streams) error { return b.run(ctx, i, req, s) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&b.from, "from", "", "`checkpoint|earliest|TIME|NUMBER` to begin at")
	flags.StringVar(&b.until, "until", "", "`now|follow|TIME|NUMBER` to end at")
	flags.StringSliceVar(&b.req.Partitions, "partition", nil, "`ID`s of partitions, and no others")
	flags.StringArrayVar(&b.req.Sessions, "session", nil, "`ID` of a session, and no others; repeat it for more")
	flags.IntVarP(&b.req.N, "units", "N", 0, "units that a wave is dealt out in (default chosen by the backlog)")
	flags.IntVar(&b.req.PerFunc, "per-func", 0, "loops that run at once in each unit (default 1)")
	flags.Int64Var(&b.req.MaxMessages, "max-messages", 0, "end once so many messages are stored, after the wave that stores them")
	flags.IntVar(&b.req.MaxWaves, "max-waves", 0, "end after so many waves")
	flags.IntVar(&b.req.Batch.Count, "batch-count", 0, "messages of a blob at most (default the workers' BATCH_COUNT)")
	flags.IntVar(&b.req.Batch.Bytes, "batch-bytes", 0, "bytes of a blob, about, at most (default the workers' BATCH_BYTES)")
	flags.Float64Var(&b.req.Batch.AgeSeconds, "batch-age", 0, "seconds after which a batch is stored (default the workers' BATCH_AGE)")
	flags.BoolVarP(&b.detach, "detach", "d", false, "start the run and leave it, rather than watch it")
	flags.BoolVar(&b.json, "json", false, "write lines of JSON, the last with the whole run")
	b.flags(flags)
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]string{"checkpoint", "earliest"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions([]string{"now", "follow"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// backfill is what the flags say.
type backfill struct {
	reach
	from, until  string
	req          ledger.Request
	detach, json bool
}

// request is what is to be asked of the invoker, which checks it further; given tells which flags were given.
func (b *backfill) request(now time.Time, given func(flag string) bool) (ledger.Request, error) {
	req := b.req
	var err error
	if req.From, err = parseEnd(b.from, now, "checkpoint", "earliest"); err != nil {
		return req, usagef("--from: %w", err)
	}
	if req.Until, err = parseEnd(b.until, now, "now", "follow"); err != nil {
		return req, usagef("--until: %w", err)
	}
	for flag, n := range map[string]int64{"units": int64(req.N), "per-func": int64(req.PerFunc), "max-messages": req.MaxMessages, "max-waves": int64(req.MaxWaves), "batch-count": int64(req.Batch.Count), "batch-bytes": int64(req.Batch.Bytes)} {
		if n < 1 && given(flag) {
			return req, usagef("--%s is %d, expected 1 or more", flag, n)
		}
	}
	if age := req.Batch.AgeSeconds; (!(age > 0) || math.IsInf(age, 1)) && given("batch-age") {
		return req, usagef("--batch-age is %v, expected a number of seconds above 0", age)
	}
	return req, nil
}

// parseEnd reads one end of a backfill's range.
func parseEnd(text string, now time.Time, positions ...string) (ledger.Bound, error) {
	if text == "" {
		return ledger.Bound{}, nil
	}
	for _, position := range positions {
		if text == position {
			return ledger.Bound{Position: position}, nil
		}
	}
	at, number, err := selection.ParseBound(text, now)
	if err != nil {
		return ledger.Bound{}, fmt.Errorf("%w, or %s or %s", err, positions[0], positions[1])
	}
	return ledger.Bound{Time: at, SequenceNumber: number}, nil
}

func (b *backfill) run(ctx context.Context, i invoker, req ledger.Request, s streams) error {
	run, err := i.Start(ctx, req)
	if remote.Unanswered(err) {
		if ctx.Err() != nil {
			err = errors.New("backfill: interrupted")
		}
		return fmt.Errorf("%w; persistor runs shows whether it has begun all the same", err)
	}
	if err != nil {
		return err
	}
	switch {
	case b.detach && b.json:
		return printJSON(s, run)
	case b.detach:
		fmt.Fprintf(s.out, "%s: begun; persistor runs watch %s shows how far it is\n", run.ID, run.ID)
		return nil
	}
	return watch(ctx, i, run.ID, newView(s, b.json), s)
}
