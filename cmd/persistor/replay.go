package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/config"
	"persistor/internal/document"
	"persistor/internal/publish"
	"persistor/internal/replay"
	"persistor/internal/store"
)

func newReplay() *cobra.Command {
	var r resending
	cmd := &cobra.Command{
		Use:   "replay [CONTAINER] {--to-hub NAME | --to-queue NAME | --to-topic NAME}",
		Short: "Send stored messages back, to an Event Hub or to Service Bus",
		Long: `Replay sends stored messages to an Event Hub, a queue or a topic, with the bodies, ids,
properties and AMQP types that they had. How to reach the target, the settings say:
EVENT_HUB_CONN_STRING or SERVICE_BUS_CONNECTION_STRING, or an identity as docs/settings.md
has it.

Order is kept by partition key and by session; events without a key stay in the order of the
partition that they were in, and --keep-partition keeps all events of a partition together,
in the partition of the same number.

--jq takes an expression over a record as docs/record.md has it, and sends the records for
which it gives something other than false and null.

How far it is, is saved before and after every batch. A replay that was interrupted goes on
with the same command: no message is left out, and only those come twice whose batches were
under way when it was killed. docs/replay.md says more.

` + selectionHelp + `

Exit status: 0 all is sent; 1 it is not, or was interrupted, or records can't be read;
2 wrong arguments or settings, or there is nothing left to do.`,
		Example: `  persistor replay persistor-out/blobs --folder rides --to-hub rides --dry-run
  persistor replay persistor-out/blobs --folder rides --from 2h --to-hub rides --keep-partition --mark
  persistor replay --folder orders --jq '.METADATA.level == "error"' --to-queue orders --rate 100
  persistor replay persistor-out/blobs --jq '.DATA | fromjson? | .speed > 120' --to-topic alarms`,
		GroupID: groupStored,
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.run(cmd.Context(), container(args), streams{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&r.hub, "to-hub", "", "`NAME` of the Event Hub to send to")
	flags.StringVar(&r.queue, "to-queue", "", "`NAME` of the Service Bus queue to send to")
	flags.StringVar(&r.topic, "to-topic", "", "`NAME` of the Service Bus topic to send to")
	r.flags(flags)
	flags.StringVar(&r.jq, "jq", "", "send the records that this `EXPRESSION` selects")
	flags.BoolVar(&r.keepPartition, "keep-partition", false, "send each event to the partition of the number that it was in")
	flags.BoolVar(&r.anyPartition, "any-partition", false, "send events without a key to any partition, in no order")
	flags.BoolVar(&r.mark, "mark", false, "say in the property "+replay.MarkProperty+" where a message comes from")
	flags.Float64Var(&r.rate, "rate", 0, "send `N` messages a second at most (default as many as the target takes)")
	flags.StringVar(&r.progress, "progress", "", "`FILE` that says how far it is, or blob: one in the container (default persistor-replay-... in the working directory)")
	flags.BoolVar(&r.dryRun, "dry-run", false, "send nothing, and show what would be sent; needs no target's connection")
	flags.BoolVar(&r.json, "json", false, "write one JSON document, and progress on standard error")
	return cmd
}

// resending is what the flags say.
type resending struct {
	selecting
	hub, queue, topic           string
	jq                          string
	keepPartition, anyPartition bool
	mark, dryRun, json          bool
	rate                        float64
	progress                    string
}

func (r *resending) run(ctx context.Context, container string, s streams) error {
	task, filter, err := r.task(container)
	if err != nil {
		return usageError{err}
	}
	var to publish.Producer
	if !r.dryRun {
		if to, err = r.producer(&task); err != nil {
			return err
		}
		defer closeProducer(ctx, to)
	}
	from, err := openContainer(ctx, container)
	if err != nil {
		return err
	}
	if r.dryRun {
		p, err := replay.Look(ctx, from, task, filter)
		if err != nil {
			return err
		}
		return r.show(s, task, p)
	}
	keeper, err := r.keeper(from, task)
	if err != nil {
		return err
	}
	defer keeper.Close()
	line := newStatusLine(s.err)
	result, err := replay.Run(ctx, from, to, task, keeper, replay.Options{Filter: filter, Rate: r.rate, Report: line.report})
	line.end()
	return r.tell(s, task, keeper.String(), result, err)
}

// keeper keeps progress where it is to be kept.
type keeper interface {
	replay.Keeper
	fmt.Stringer
	Close() error
}

func (r *resending) keeper(from store.Store, task replay.Task) (keeper, error) {
	if r.progress != "blob" {
		return replay.OpenFile(cmp.Or(r.progress, "persistor-replay-"+task.Digest()+".json"))
	}
	documents, ok := from.(document.Storage)
	if !ok {
		return nil, errors.New("--progress blob: the container keeps no documents; name a file")
	}
	return replay.NewDocument(documents, task), nil
}

// task is what the flags ask for, and the filter that is part of it.
func (r *resending) task(container string) (replay.Task, *replay.Filter, error) {
	task := replay.Task{
		Expression: r.jq, KeepPartition: r.keepPartition, AnyPartition: r.anyPartition, Mark: r.mark,
		ToHub: r.hub != "", Target: r.target(),
	}
	if err := r.check(); err != nil {
		return task, nil, err
	}
	var err error
	if task.Selection, err = r.selection(time.Now()); err != nil {
		return task, nil, err
	}
	words, err := json.Marshal(map[string]any{"folder": r.folder, "partitions": r.partitions, "sessions": r.sessions, "from": r.from, "until": r.until})
	if err != nil {
		return task, nil, err
	}
	task.Selected = string(words)
	if task.Source, err = sourceName(container, os.LookupEnv); err != nil {
		return task, nil, err
	}
	var filter *replay.Filter
	if r.jq != "" {
		filter, err = replay.NewFilter(r.jq)
	}
	return task, filter, err
}

func (r *resending) target() string {
	switch {
	case r.hub != "":
		return "hub " + r.hub
	case r.queue != "":
		return "queue " + r.queue
	}
	return "topic " + r.topic
}

// check refuses flags that contradict each other.
func (r *resending) check() error {
	named := 0
	for _, name := range []string{r.hub, r.queue, r.topic} {
		if name != "" {
			named++
		}
	}
	switch {
	case named != 1:
		return errors.New("say where to send to, by one of --to-hub, --to-queue and --to-topic")
	case r.hub == "" && (r.keepPartition || r.anyPartition):
		return errors.New("--keep-partition and --any-partition are for an Event Hub: Service Bus chooses partitions itself")
	case r.keepPartition && r.anyPartition:
		return errors.New("--keep-partition and --any-partition exclude each other")
	case !(0 <= r.rate && r.rate <= 1e9): // NaN, too
		return fmt.Errorf("--rate is %g, expected a number of messages a second", r.rate)
	}
	return nil
}

// producer sends to the target, which it names in full in the task.
func (r *resending) producer(task *replay.Task) (publish.Producer, error) {
	p := publication{hub: r.hub, queue: r.queue, topic: r.topic}
	if r.hub != "" {
		hub, err := config.ReadHub(p.lookup)
		if err != nil {
			return nil, err
		}
		task.Target += " of " + hub.Connection.Namespace()
		return publish.ToHub(hub)
	}
	queue, err := config.ReadQueue(p.lookup)
	if err != nil {
		return nil, err
	}
	task.Target += " of " + queue.Connection.Namespace()
	return publish.ToQueue(queue)
}

func closeProducer(ctx context.Context, p publish.Producer) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	p.Close(closing) // everything sent has been answered
}

// sourceName names a container without a secret, so that the same one has the same name.
func sourceName(container string, lookup config.Lookup) (string, error) {
	scheme, rest, isURL := strings.Cut(container, "://")
	switch {
	case container == "":
		s, err := config.ReadStorage(lookup)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("container %s of %s", s.Container, account(s.Connection)), nil
	case isURL && scheme != "file":
		u, err := url.Parse(container)
		if err != nil {
			return "", errors.New("the container is no URL") // err would quote it
		}
		return u.Scheme + "://" + u.Host + u.Path, nil
	case isURL:
		container = rest
	}
	return filepath.Abs(container)
}

// account names a storage account without its key.
func account(c config.Connection) string {
	if c.BlobServiceURI != "" {
		uri, _, _ := strings.Cut(c.BlobServiceURI, "?")
		return uri
	}
	text := c.ConnectionString.Reveal()
	if strings.HasPrefix(text, "file:") {
		return text
	}
	for part := range strings.SplitSeq(text, ";") {
		if key, value, _ := strings.Cut(part, "="); strings.EqualFold(key, "AccountName") || strings.EqualFold(key, "BlobEndpoint") {
			return value
		}
	}
	return "the settings' storage"
}
