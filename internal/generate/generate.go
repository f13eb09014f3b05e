// Package generate writes function app folders: for each entry of a configuration the program, host.json,
// its functions, local.settings.json and .funcignore, from the presets of package functions.
//
//	configuration --> Parse --> []App --> plan, beside what is there --> write --> package
//	                                                  ^
//	                         go build, once for each program
//
// A folder that is there already is kept as far as the original's generator promised: settings are added
// where they are missing, and changed only where the configuration chooses them; host.json, .funcignore and
// functions of others are never touched; nothing is ever deleted. A function.json of our own follows the
// configuration. Each file is written beside its place and renamed, so that none is ever there by half.
package generate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"persistor/functions"
)

// Options are what a run is to do. Only Config is required.
type Options struct {
	// Config is the configuration's content.
	Config []byte
	// Output is the folder for the apps' folders; "" takes that of the configuration, or DefaultOutput.
	Output string
	// Lenient drops options and values that don't exist, and warns of them.
	Lenient bool
	// Plan finds out what would change, and writes nothing.
	Plan bool
	// Zip makes a deployment package, NAME.zip, of each folder.
	Zip bool
	// Handler is a file, or a folder with files named worker, invoker and push: programs that are built
	// already. "" builds them from Source.
	Handler string
	// Arch is amd64 or arm64, the processor that the programs are for; "" is amd64.
	Arch string
	// Source is a folder of this module; "" is the working directory.
	Source string
	// Progress takes a line about each thing that takes a while; nil drops them.
	Progress io.Writer
}

// DefaultOutput is where folders go when nothing says where.
const DefaultOutput = "function-apps"

// Architectures are those that function apps run on.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Report is what a run did, or would do.
type Report struct {
	Planned  bool        `json:"planned"` // nothing is written
	Output   string      `json:"output"`
	Apps     []AppReport `json:"apps"`
	Warnings []string    `json:"warnings,omitempty"`
}

// AppReport is what became of one function app.
type AppReport struct {
	Name    string `json:"name"`
	Variant string `json:"variant"`
	Program string `json:"program"` // the one that handles its functions
	Folder  string `json:"folder"`
	Package string `json:"package,omitempty"`
	// Files are all that the generator answers for.
	Files    []File          `json:"files"`
	Settings []SettingChange `json:"settings,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
}

// File is what becomes of one file of a folder.
type File struct {
	Path   string `json:"path"` // within the folder, with slashes
	Action Action `json:"action"`

	content []byte
	mode    os.FileMode
}

// Action is what becomes of a file.
type Action string

const (
	Create Action = "create"
	Update Action = "update"
	Keep   Action = "keep"
)

// ErrUsage is what errors wrap that are about how the generator was asked, so that nothing was begun.
var ErrUsage = errors.New("asked for what can't be done")

// usageError is an ErrUsage that doesn't say so.
type usageError struct{ error }

func (usageError) Is(target error) bool { return target == ErrUsage }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Run generates. It stops when ctx is done, between two files. An error may leave apps written and others
// not; to run again is to go on. Errors of the configuration are an [*Error].
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if !slices.Contains(Architectures(), o.Arch) {
		return Report{}, usagef("choose architecture: %q is none, expected amd64 or arm64", o.Arch)
	}
	c, warnings, err := Parse(o.Config, o.Lenient)
	if err != nil {
		return Report{}, err
	}
	output, err := filepath.Abs(cmp.Or(o.Output, c.Output, DefaultOutput))
	if err != nil {
		return Report{}, usagef("find output folder: %w", err)
	}
	programs := newPrograms(o)
	defer programs.close()
	if err := programs.check(needed(c.Apps)); err != nil {
		return Report{}, err
	}
	root, err := openOutput(output, o.Plan)
	if err != nil {
		return Report{}, err
	}
	if root != nil {
		defer root.Close()
	}
	report := Report{Planned: o.Plan, Output: output, Warnings: warnings}
	if report.Apps, err = planAll(root, output, c.Apps, programs); err != nil || o.Plan {
		return report, err
	}
	return report, write(ctx, root, programs, report.Apps)
}

// planAll plans all apps before anything is written.
func planAll(root *os.Root, output string, apps []App, programs *programs) ([]AppReport, error) {
	var reports []AppReport
	for _, a := range apps {
		r, err := plan(root, output, a)
		if err != nil {
			return nil, err
		}
		if err := programs.compare(root, &r); err != nil {
			return nil, err
		}
		if programs.options.Zip {
			r.Package = a.Name + ".zip"
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// openOutput opens the output folder, so that nothing leads out of it. It is nil for a plan when there is
// none yet.
func openOutput(output string, planned bool) (*os.Root, error) {
	if !planned {
		if err := os.MkdirAll(output, 0o777); err != nil {
			return nil, fmt.Errorf("create output folder: %w", err)
		}
	}
	root, err := os.OpenRoot(output)
	if planned && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open output folder: %w", err)
	}
	return root, nil
}

// needed are the programs that apps run.
func needed(apps []App) []string {
	var programs []string
	for _, a := range apps {
		if p := functions.Program(a.Variant); !slices.Contains(programs, p) {
			programs = append(programs, p)
		}
	}
	return programs
}
