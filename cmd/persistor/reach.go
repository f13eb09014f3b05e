package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"persistor/internal/app"
	"persistor/internal/config"
	"persistor/internal/ledger"
	"persistor/internal/remote"
	"persistor/internal/terminal"
)

// Where an invoker is, and the key to it, unless flags say so.
const (
	urlEnv = "PERSISTOR_URL"
	keyEnv = "PERSISTOR_KEY"
)

// reachHelp explains in a command's help how it finds an invoker.
const reachHelp = `The invoker is the one at --url or PERSISTOR_URL; its key is in PERSISTOR_KEY or --key-file.
With --local there is no other program: this one is invoker and worker, by the worker's settings
(docs/settings.md).`

// reach are the flags that lead to an invoker.
type reach struct {
	url, key, keyFile string
	local             bool
}

func (r *reach) flags(flags *pflag.FlagSet) {
	flags.StringVar(&r.url, "url", "", "`URL` of the invoker, such as https://my-invoker.azurewebsites.net (default "+urlEnv+")")
	flags.StringVar(&r.keyFile, "key-file", "", "`FILE` that holds the invoker's key, - for standard input (default "+keyEnv+")")
	flags.StringVar(&r.key, "key", "", "the invoker's `KEY`; here it shows in the system's list of processes")
	flags.BoolVar(&r.local, "local", false, "do it in this process, by the worker's settings")
}

// invoker is an invoker that was reached, and how to give it back.
type invoker struct {
	*remote.Invoker
	local bool
	close func()
}

// open makes an invoker of what the flags say, or else the environment. One that is local lasts until close, whatever
// becomes of ctx.
func (r *reach) open(ctx context.Context, s streams) (invoker, error) {
	if r.local {
		return r.openLocal(ctx, s)
	}
	o, err := r.options(s.in)
	if err != nil {
		return invoker{}, err
	}
	i, err := remote.New(o)
	if err != nil {
		return invoker{}, usageError{err}
	}
	if i.InClear() {
		fmt.Fprintf(s.err, "persistor: the key goes to %s in clear: the URL begins with http://\n", i.Host())
	}
	return invoker{Invoker: i, close: func() {}}, nil
}

func (r *reach) options(stdin io.Reader) (remote.Options, error) {
	o := remote.Options{URL: r.url, Key: config.Secret(r.key)}
	if o.URL == "" {
		o.URL = os.Getenv(urlEnv)
	}
	switch {
	case o.URL == "":
		return o, usagef("no invoker is named: give --url or set %s, or do it here with --local", urlEnv)
	case r.key != "" && r.keyFile != "":
		return o, usagef("--key and --key-file exclude each other")
	case r.keyFile != "":
		key, err := readKey(r.keyFile, stdin)
		if err != nil {
			return o, usageError{fmt.Errorf("--key-file: %w", err)}
		}
		o.Key = key
	case r.key == "":
		o.Key = config.Secret(strings.TrimSpace(os.Getenv(keyEnv)))
	}
	return o, nil
}

// maxKey bounds a key's file, in bytes.
const maxKey = 4 << 10

func readKey(file string, stdin io.Reader) (config.Secret, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	content, err := io.ReadAll(io.LimitReader(from, maxKey+1))
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(content))
	if key == "" || len(content) > maxKey {
		return "", fmt.Errorf("%s is empty, or longer than a key", file)
	}
	return config.Secret(key), nil
}

// localClosing bounds how long a local invoker takes to store what it holds.
const localClosing = 2 * time.Minute

func (r *reach) openLocal(ctx context.Context, s streams) (invoker, error) {
	if r.url != "" || r.key != "" || r.keyFile != "" {
		return invoker{}, usagef("--local excludes --url, --key and --key-file: nobody else is called")
	}
	logs := s.err
	if terminal.Width(logs) > 0 && os.Getenv("LOG_LEVEL") == "" {
		logs = io.Discard // they would run into the bars, and the run tells its errors
	}
	url, key, closing, err := app.OpenLocal(context.WithoutCancel(ctx), os.LookupEnv, logs)
	if err != nil {
		return invoker{}, err
	}
	i, err := remote.New(remote.Options{URL: url, Key: config.Secret(key)})
	if err != nil {
		return invoker{}, err
	}
	return invoker{Invoker: i, local: true, close: func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), localClosing)
		defer cancel()
		if err := closing(ctx); err != nil {
			fmt.Fprintln(s.err, "persistor: end the local invoker:", err)
		}
	}}, nil
}

// latest stands for the id of the run that was begun last.
const latest = "latest"

// find is the id that an argument names.
func (i invoker) find(ctx context.Context, id string) (string, error) {
	if id != latest {
		return id, nil
	}
	runs, err := i.Runs(ctx, 1, "")
	if err != nil {
		return "", err
	}
	if len(runs) == 0 {
		return "", errors.New("there is no run yet: persistor backfill starts one")
	}
	return runs[0].ID, nil
}

// completionTimeout bounds how long a person waits for the shell to complete a run's id.
const completionTimeout = 2 * time.Second

// completeRuns completes ids of the invoker's last runs, of those in one of the states alone, where any are given.
func (r *reach) completeRuns(states ...ledger.State) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || r.local || r.keyFile == "-" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		o, err := r.options(nil)
		o.Timeout = completionTimeout
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		i, err := remote.New(o)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		runs, _ := i.Runs(cmd.Context(), 50, "") // without an answer there is nothing to complete
		found := []string{latest + "\tthe run begun last"}
		for _, run := range runs {
			if len(states) == 0 || slices.Contains(states, run.State) {
				found = append(found, fmt.Sprintf("%s\t%s %s", run.ID, run.Kind, run.State))
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
