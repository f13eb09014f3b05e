package generate

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// module is the name of this module, by which its folder is found.
const module = "persistor"

// programs are the handlers' files, each built or found once.
type programs struct {
	options Options
	module  string            // the module's folder; "" with Options.Handler
	built   string            // a folder for what is built; "" while there is none
	files   map[string]string // by program
}

func newPrograms(o Options) *programs {
	return &programs{options: o, files: map[string]string{}}
}

// close removes what was built.
func (p *programs) close() {
	if p.built != "" {
		os.RemoveAll(p.built)
	}
}

// check finds out whether all the programs can be had, before anything is written.
func (p *programs) check(needed []string) error {
	if p.options.Handler != "" {
		return p.checkHandler(needed)
	}
	dir, err := findModule(p.options.Source)
	if err != nil {
		return err
	}
	p.module = dir
	for _, program := range needed {
		if _, err := os.Stat(filepath.Join(dir, "cmd", program)); err != nil {
			return usagef("find program %s: the module in %s has no cmd/%s: give a newer one with --source", program, dir, program)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		return usagef("find the go command, to build handlers: %w; install Go, or give built handlers with --handler", err)
	}
	return nil
}

// checkHandler looks for the programs in the folder, or at the file, that was named.
func (p *programs) checkHandler(needed []string) error {
	info, err := os.Stat(p.options.Handler)
	if err != nil {
		return usagef("find handler: %w", err)
	}
	if !info.IsDir() && len(needed) > 1 {
		return usagef("use handler %s: it is one program, and %d are needed: name a folder that has %s", p.options.Handler, len(needed), strings.Join(needed, ", "))
	}
	for _, program := range needed {
		file := p.options.Handler
		if info.IsDir() {
			file = filepath.Join(file, program)
		}
		if err := checkProgram(file, program, p.options.Arch); err != nil {
			return err
		}
		p.files[program] = file
	}
	return nil
}

// checkProgram finds out whether a function app could run a file, and that it is not another one of the programs.
func checkProgram(file, program, arch string) error {
	content, err := os.Open(file)
	if err != nil {
		return usagef("find handler: %w", err)
	}
	defer content.Close()
	f, err := elf.NewFile(content)
	if err != nil {
		return usagef("use handler %s: it is no Linux program: build it with GOOS=linux GOARCH=%s CGO_ENABLED=0", file, arch)
	}
	if build, err := buildinfo.Read(content); err == nil {
		if other, ours := strings.CutPrefix(build.Path, module+"/cmd/"); ours && other != program {
			return usagef("use handler %s: it is the program %s, and %s is needed: build ./cmd/%s", file, other, program, program)
		}
	}
	if machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != machine {
		return usagef("use handler %s: it is for %v, and --arch %s wants %v", file, f.Machine, arch, machine)
	}
	return nil
}

// findModule looks for the module's folder, from dir upwards.
func findModule(dir string) (string, error) {
	if dir == "" {
		dir = "."
	}
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", usagef("find source: %w", err)
	}
	for at := start; ; at = filepath.Dir(at) {
		if isModule(filepath.Join(at, "go.mod")) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", usagef("find the source of the handlers: neither %s nor a folder above it has Persistor's go.mod: name the source with --source, or built handlers with --handler", start)
		}
	}
}

// isModule reports whether a go.mod is this module's.
func isModule(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "module" {
			return strings.Trim(fields[1], `"`) == module
		}
	}
	return false
}

// file returns the file of a program, and builds it when that has to be.
func (p *programs) file(ctx context.Context, program string) (string, error) {
	if file := p.files[program]; file != "" {
		return file, nil
	}
	if p.built == "" {
		dir, err := os.MkdirTemp("", "persistor-generate-*")
		if err != nil {
			return "", fmt.Errorf("make a folder to build in: %w", err)
		}
		p.built = dir
	}
	file := filepath.Join(p.built, program)
	if err := p.build(ctx, program, file); err != nil {
		return "", err
	}
	p.files[program] = file
	return file, nil
}

// compare finds out whether an app has its program already, which can be told only of one that needs no building.
func (p *programs) compare(root *os.Root, a *AppReport) error {
	handler := &a.Files[0]
	file := p.files[a.Program]
	if file == "" || handler.Action != Update {
		return nil
	}
	source, err := os.Open(file)
	if err != nil {
		return usagef("read handler: %w", err)
	}
	defer source.Close()
	same, err := isSame(root, filepath.Join(a.Name, handler.Path), source)
	if same {
		handler.Action = Keep
	}
	return err
}

// stillBuilding is how often a build says that it goes on.
const stillBuilding = 10 * time.Second

func (p *programs) build(ctx context.Context, program, file string) error {
	begin := time.Now()
	what := fmt.Sprintf("%s for linux/%s", program, p.options.Arch)
	p.tell("building %s", what)
	ticker := time.NewTicker(stillBuilding)
	defer ticker.Stop()

	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./cmd/"+program)
	build.Dir = p.module
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+p.options.Arch)
	build.WaitDelay = 5 * time.Second
	output := &head{left: 2000}
	build.Stdout, build.Stderr = output, output
	done := make(chan error, 1)
	go func() { done <- build.Run() }()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("build %s: %w", what, context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("build %s in %s: %w: %s", what, p.module, err, output.line())
			}
			p.tell("built %s, %.0f s", what, time.Since(begin).Seconds())
			return nil
		case <-ticker.C:
			p.tell("still building %s, %.0f s", what, time.Since(begin).Seconds())
		}
	}
}

func (p *programs) tell(format string, args ...any) {
	if p.options.Progress != nil {
		fmt.Fprintf(p.options.Progress, format+"\n", args...)
	}
}

// head keeps the first bytes of what is written to it.
type head struct {
	bytes.Buffer
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.left -= n
	h.Buffer.Write(p[:n])
	return len(p), nil
}

// line is all of it in one line.
func (h *head) line() string { return strings.Join(strings.Fields(h.String()), " ") }
