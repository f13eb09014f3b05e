package deploy_test

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"persistor/internal/generate"
)

// generated makes the packages that a file of apps/ asks for, as hooks/package.sh does, but with handlers that
// are no more than the head of a program: building them takes its time, and what they do is tested elsewhere.
func generated(t *testing.T, apps string) []generate.AppReport {
	t.Helper()
	handlers := t.TempDir()
	var head bytes.Buffer
	err := binary.Write(&head, binary.LittleEndian, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"worker", "invoker", "push"} {
		if err := os.WriteFile(filepath.Join(handlers, program), head.Bytes(), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	report, err := generate.Run(t.Context(), generate.Options{
		Config: []byte(read(t, "apps/"+apps+".json")), Output: t.TempDir(), Zip: true, Handler: handlers,
	})
	if err != nil || len(report.Warnings) > 0 {
		t.Fatalf("apps/%s.json: %v %v", apps, err, report.Warnings)
	}
	return report.Apps
}

// fromHost are the names that the host takes from app settings: %NAME% for a value, or a connection, whose
// setting is NAME with an ending, such as NAME__fullyQualifiedNamespace.
var fromHost = regexp.MustCompile(`%([A-Z_]+)%|"connection": "([A-Z_]+)"`)

// What the functions of a package want of the app's settings, the template gives to the app.
func TestPackagesFindTheirSettings(t *testing.T) {
	for _, c := range []struct {
		apps, source string
		topic        bool
		names        []string // of the apps
	}{
		{"eventhub", "eventHub", false, []string{"persistor", "persistor-invoker"}},
		{"servicebus", "serviceBus", false, []string{"persistor", "persistor-invoker"}},
		{"servicebus", "serviceBus", true, []string{"persistor", "persistor-invoker"}},
		{"push", "eventHub", false, []string{"push-event-hub"}},
		{"push", "serviceBus", false, []string{"push-queue"}},
		{"push", "serviceBus", true, []string{"push-topic"}},
		{"push", "eventGrid", false, []string{"push-event-grid"}},
	} {
		seen := 0
		for _, app := range generated(t, c.apps) {
			for _, name := range c.names {
				if app.Name != name {
					continue
				}
				seen++
				settings := appSettings(t, app.Program, c.source, c.topic)
				for _, m := range fromHost.FindAllStringSubmatch(functionFiles(t, app), -1) {
					if !given(settings, m[1], m[2]) {
						t.Errorf("apps/%s.json: %s: its functions want %s%s, which the template of %s doesn't set", c.apps, name, m[1], m[2], c.source)
					}
				}
			}
		}
		if seen != len(c.names) {
			t.Errorf("apps/%s.json: %d apps of %v", c.apps, seen, c.names)
		}
	}
}

// given tells whether there is a value, or an address for a connection: a namespace's, or a queue's.
func given(settings map[string]string, value, connection string) bool {
	return settings[value] != "" || settings[connection+"__fullyQualifiedNamespace"] != "" || settings[connection+"__queueServiceUri"] != ""
}

// functionFiles are the texts of a package's function.json files. The package has to have a handler that may
// be executed, and a host.json.
func functionFiles(t *testing.T, app generate.AppReport) string {
	t.Helper()
	r, err := zip.OpenReader(filepath.Join(filepath.Dir(app.Folder), app.Package))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all strings.Builder
	found := map[string]os.FileMode{}
	for _, f := range r.File {
		found[f.Name] = f.Mode()
		if path.Base(f.Name) != "function.json" {
			continue
		}
		content, err := f.Open()
		if err == nil {
			_, err = io.Copy(&all, content)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", app.Package, f.Name, err)
		}
	}
	if found["handler"]&0o111 == 0 || found["host.json"] == 0 || all.Len() == 0 {
		t.Errorf("%s holds %v", app.Package, found)
	}
	return all.String()
}
