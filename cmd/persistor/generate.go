package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"persistor/internal/generate"
)

func newGenerate() *cobra.Command {
	var g generation
	cmd := &cobra.Command{
		Use:   "generate -f FILE",
		Short: "Write function app folders, ready to be deployed",
		Long: `Generate writes a folder for each function app that FILE asks for: the program ("handler"),
host.json, a folder for each function, local.settings.json with all settings, and .funcignore.
FILE is YAML or JSON with "apps", or generator_config.json of the original Persistor as it is;
docs/generate.md describes both.

On folders that are there already it adds settings that are missing and changes those that FILE
chooses. It brings the handler and its own function.json files up to date, leaves host.json,
.funcignore and everything else as it is, and deletes nothing. --plan shows all of it before.

The handlers are built with "go build" from the source of this program, which is looked for from
the working directory upwards.

Exit status: 0 all is written, or planned, be there changes or not; 1 not all is, and to run it
again is to go on; 2 wrong arguments or a wrong FILE, and nothing was begun.`,
		Example: `  persistor generate -f generator_config.json --plan
  persistor generate -f apps.yaml -o function-apps --zip
  persistor generate -f apps.yaml --arch arm64 --source ~/src/persistor
  persistor generate -f apps.yaml --handler ./built     # ./built/worker, ./built/invoker, ./built/push`,
		GroupID: groupPrograms,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.run(cmd.Context(), streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&g.file, "file", "f", "", "`FILE` that says what to write; - is standard input")
	flags.StringVarP(&g.Output, "output", "o", "", "`DIR` that the folders go to, in place of the one in FILE; "+generate.DefaultOutput+" if neither says")
	flags.BoolVar(&g.Plan, "plan", false, "show what would change, and write nothing")
	flags.BoolVar(&g.Zip, "zip", false, "make a deployment package of each folder, NAME.zip beside it")
	flags.BoolVar(&g.Lenient, "lenient", false, "drop options and values that don't exist with a warning, as the original did")
	flags.StringVar(&g.Handler, "handler", "", "`PATH` of a handler that is built, or of a folder with worker, invoker and push")
	flags.StringVar(&g.Arch, "arch", "amd64", "processor to build for, amd64 or `arm64`")
	flags.StringVar(&g.Source, "source", "", "`DIR` with the source to build from")
	flags.BoolVar(&g.json, "json", false, "print one JSON document, and progress on standard error")
	return cmd
}

// generation is what the flags say.
type generation struct {
	generate.Options
	file string
	json bool
}

func (g *generation) run(ctx context.Context, s streams) error {
	content, err := g.read(s.in)
	if err != nil {
		return usageError{err}
	}
	g.Config, g.Progress = content, s.err
	report, err := generate.Run(ctx, g.Options)
	if wrong := (*generate.Error)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", g.file, err)
	}
	if err != nil {
		return err
	}
	if g.json {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	var b bytes.Buffer
	printGeneration(&b, report)
	_, err = b.WriteTo(s.out)
	return err
}

// read reads the file, or standard input.
func (g *generation) read(stdin io.Reader) ([]byte, error) {
	switch g.file {
	case "":
		return nil, errors.New("-f FILE is missing: it says which function apps to write; see persistor generate --help")
	case "-":
		return io.ReadAll(io.LimitReader(stdin, generate.MaxConfig+1))
	}
	f, err := os.Open(g.file)
	if err != nil {
		return nil, fmt.Errorf("open --file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, generate.MaxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read --file: %w", err)
	}
	return content, nil
}

// printGeneration tells a reader what was done.
func printGeneration(w io.Writer, report generate.Report) {
	for _, a := range report.Apps {
		fmt.Fprintf(w, "%s  (%s)\n", a.Folder, a.Variant)
		for _, action := range []generate.Action{generate.Create, generate.Update, generate.Keep} {
			var paths []string
			for _, f := range a.Files {
				if f.Action == action {
					paths = append(paths, f.Path)
				}
			}
			if len(paths) > 0 {
				fmt.Fprintf(w, "  %-7s %s\n", action, strings.Join(paths, ", "))
			}
		}
		printSettings(w, a.Settings)
		if a.Package != "" {
			fmt.Fprintf(w, "  package %s\n", a.Package)
		}
		for _, text := range a.Warnings {
			fmt.Fprintf(w, "  note    %s\n", text)
		}
	}
	for _, text := range report.Warnings {
		fmt.Fprintf(w, "note: %s\n", text)
	}
	if report.Planned {
		fmt.Fprintln(w, "nothing is written: this was the plan")
	}
}

// printSettings tells changes one by one, and what is new in two lists: with values, and to be filled in.
func printSettings(w io.Writer, changes []generate.SettingChange) {
	var added, empty []string
	for _, c := range changes {
		switch {
		case c.Action == "change":
			fmt.Fprintf(w, "  change  %s: %q -> %q\n", c.Name, c.Old, c.New)
		case c.New != "":
			added = append(added, c.Name+"="+c.New)
		default:
			empty = append(empty, c.Name)
		}
	}
	for _, list := range []struct {
		title string
		items []string
	}{{"settings added", added}, {"settings added empty", empty}} {
		if len(list.items) > 0 {
			fmt.Fprintf(w, "  %s: %s\n", list.title, strings.Join(list.items, ", "))
		}
	}
}
