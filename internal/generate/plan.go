package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"persistor/functions"
)

// maxFile bounds the files of a folder that are read, in bytes.
const maxFile = 1 << 20

// plan compares an app with what is in its folder. A root of nil is a folder that isn't there.
func plan(root *os.Root, output string, a App) (AppReport, error) {
	r := AppReport{
		Name: a.Name, Variant: a.Variant, Program: functions.Program(a.Variant),
		Folder: filepath.Join(output, a.Name),
	}
	f := folder{root, a.Name}
	handler := File{Path: functions.Handler, Action: Create, mode: 0o755}
	if there, err := f.has(functions.Handler); err != nil {
		return r, err
	} else if there {
		handler.Action = Update // unless it turns out to be the same
	}
	r.Files = append(r.Files, handler)
	preset, err := functions.Files(a.Variant)
	if err != nil {
		return r, err
	}
	err = fs.WalkDir(preset, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(preset, name)
		if err != nil {
			return err
		}
		planned, err := f.plan(name, content, a, &r)
		r.Files = append(r.Files, planned)
		return err
	})
	if err != nil {
		return r, err
	}
	r.Warnings, err = f.warnings(a)
	return r, err
}

// folder is the folder of an app.
type folder struct {
	root *os.Root
	name string
}

// plan decides what becomes of a file of the preset.
func (f folder) plan(name string, content []byte, a App, r *AppReport) (File, error) {
	existing, err := f.read(name)
	if err != nil {
		return File{}, err
	}
	file := File{Path: name, Action: Keep, mode: 0o644}
	switch path.Base(name) {
	case functions.SettingsFile:
		file.mode = 0o600 // it has connection strings, sooner or later
		filled, err := folder{f.root, a.Workers}.filledIn()
		if err != nil {
			return File{}, err
		}
		if content, r.Settings, err = mergeSettings(existing, a, filled); err != nil {
			return File{}, fmt.Errorf("update %s: %w", filepath.Join(f.name, name), err)
		}
	case functions.FunctionFile:
	default: // host.json and .funcignore belong to the user, once they are there
		if existing != nil {
			return file, nil
		}
	}
	switch {
	case existing == nil:
		file.Action = Create
	case !bytes.Equal(existing, content):
		file.Action = Update
	}
	file.content = content
	return file, nil
}

// filledIn are the settings in a folder that have a value.
func (f folder) filledIn() ([]Setting, error) {
	if f.name == "" {
		return nil, nil
	}
	content, err := f.read(functions.SettingsFile)
	if content == nil {
		return nil, err
	}
	var file struct{ Values map[string]any }
	if err := json.Unmarshal(bytes.TrimPrefix(content, mark), &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(f.name, functions.SettingsFile), err)
	}
	var filled []Setting
	for name, value := range file.Values {
		if text, ok := value.(string); ok && text != "" {
			filled = append(filled, Setting{name, text})
		}
	}
	slices.SortFunc(filled, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return filled, nil
}

// has reports whether there is a file by a name. A link is refused, since it would be replaced rather than what
// it leads to; so is a pipe, since to open it is to wait.
func (f folder) has(name string) (bool, error) {
	if f.root == nil {
		return false, nil
	}
	info, err := f.root.Lstat(filepath.Join(f.name, filepath.FromSlash(name)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read function app %s: %w", f.name, err)
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("read function app %s: %s is no regular file: put a file there, or remove it", f.name, name)
	}
	return true, nil
}

// functions are the folders with a function.json.
func (f folder) functions() ([]string, error) {
	dirs, err := subfolders(f.root, f.name)
	return slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := f.root.Stat(filepath.Join(f.name, dir, functions.FunctionFile))
		return err != nil
	}), err
}

// read returns a file's content, nil when there is none.
func (f folder) read(name string) ([]byte, error) {
	if there, err := f.has(name); !there {
		return nil, err
	}
	file, err := f.root.Open(filepath.Join(f.name, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("read function app %s: %w", f.name, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read function app %s: %w", f.name, err)
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("read function app %s: %s is larger than %d bytes", f.name, name, maxFile)
	}
	if content == nil {
		content = []byte{}
	}
	return content, nil
}

// warnings tell of what is in the folder, stays there, and wouldn't work with the handler.
func (f folder) warnings(a App) ([]string, error) {
	if f.root == nil {
		return nil, nil
	}
	var warnings []string
	hostFile, err := f.read(functions.HostFile)
	if err != nil {
		return nil, err
	}
	if hostFile != nil && !startsHandler(hostFile) {
		warnings = append(warnings, fmt.Sprintf(`host.json is kept, and doesn't name the handler, so the host would not start it: add "customHandler" as the file of variant %s has it, or remove host.json and generate again`, a.Variant))
	}
	others, err := f.functions()
	if err != nil {
		return nil, fmt.Errorf("look for functions of %s: %w", f.name, err)
	}
	own := functions.Names()[functions.Program(a.Variant)]
	others = slices.DeleteFunc(others, func(name string) bool { return slices.Contains(own, name) })
	if len(others) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s stay beside %s, and the handler doesn't serve them: move them out, for the host would call it for them, too",
			strings.Join(others, ", "), strings.Join(own, ", ")))
	}
	return warnings, nil
}

// startsHandler reports whether a host.json names the handler.
func startsHandler(content []byte) bool {
	var host struct {
		CustomHandler struct {
			Description struct{ DefaultExecutablePath string }
		}
	}
	err := json.Unmarshal(bytes.TrimPrefix(content, mark), &host)
	return err == nil && host.CustomHandler.Description.DefaultExecutablePath == functions.Handler
}
