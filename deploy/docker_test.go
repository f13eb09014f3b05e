package deploy_test

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile, with its continuation lines joined.
type instruction struct{ name, args string }

func dockerfile(text string) (all []instruction) {
	for _, line := range lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		all = append(all, instruction{name, strings.TrimSpace(args)})
	}
	return all
}

// The image is static, small, runs as nobody, and listens where the manifests look for it.
func TestDockerfile(t *testing.T) {
	all := dockerfile(read(t, "docker/Dockerfile"))
	last := 0
	for i, in := range all {
		if !slices.Contains(strings.Fields("FROM WORKDIR COPY RUN ARG USER ENV EXPOSE ENTRYPOINT"), in.name) {
			t.Errorf("docker/Dockerfile: there is no instruction %s", in.name)
		}
		if in.name == "FROM" {
			last = i
		}
	}
	build, image := all[:last], all[last:]
	has := func(stage []instruction, want instruction) bool { return slices.Contains(stage, want) }
	for _, want := range []instruction{
		{"FROM", "scratch"},
		{"COPY", "--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/"},
		{"COPY", "--from=build /out/persistor /persistor"},
		{"USER", "65532:65532"},
		{"ENV", "PORT=8080"},
		{"EXPOSE", "8080"},
		{"ENTRYPOINT", `["/persistor"]`},
	} {
		if !has(image, want) {
			t.Errorf("docker/Dockerfile: the image has no %s %s", want.name, want.args)
		}
	}
	compile := build[len(build)-1].args
	for _, want := range []string{"CGO_ENABLED=0", "-trimpath", "-o /out/persistor", "./cmd/$PROGRAM"} {
		if !strings.Contains(compile, want) {
			t.Errorf("docker/Dockerfile: built by %q, without %s", compile, want)
		}
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	if from := build[0].args; !strings.Contains(from, "golang:"+language+" ") {
		t.Errorf("docker/Dockerfile: built from %q; go.mod has Go %s", from, language)
	}
}

// The context of the build has every package that the programs are made of.
func TestDockerContextIsComplete(t *testing.T) {
	ignored := lines(read(t, "docker/Dockerfile.dockerignore"))
	for _, needed := range []string{"go.mod", "go.sum"} {
		if !slices.Contains(ignored, "!"+needed) {
			t.Errorf("docker/Dockerfile.dockerignore: %s doesn't come along", needed)
		}
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}", "persistor/cmd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimPrefix(imported, "persistor/"), "/")
		if !slices.Contains(ignored, "!"+top) {
			t.Errorf("docker/Dockerfile.dockerignore: %s doesn't come along, for %s", top, path.Base(imported))
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
