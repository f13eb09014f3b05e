package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"persistor/functions"
	"persistor/internal/config"
)

// SettingChange is what becomes of one setting in local.settings.json.
type SettingChange struct {
	Name string `json:"name"`
	// Action is "add" for one that isn't there yet, "change" for one that the configuration chose otherwise.
	Action string `json:"action"`
	// Old and New are "[redacted]" where they may be secrets.
	Old string `json:"old,omitempty"`
	New string `json:"new"`
}

// byKind are settings that the kind of an app decides, so that a folder can become another kind.
var byKind = []string{"FUNCTIONS_WORKER_RUNTIME", "SERVICE_TYPE", "BINDING_SERVICE"}

// mergeSettings adds to a local.settings.json what an app needs and it lacks, and sets what the
// configuration chose. What it lacks has its value from those filled in elsewhere, if it is there, or the
// variant's default. Everything else in it stays, in its order. Without a change it returns existing itself.
// An existing of nil is a file that isn't there.
func mergeSettings(existing []byte, a App, filled []Setting) (merged []byte, changes []SettingChange, err error) {
	file := existing
	if file == nil {
		file = []byte(`{"IsEncrypted": false, "Values": {}}`)
	}
	document, err := parseObject(file)
	if err != nil {
		return nil, nil, err
	}
	if i := document.find("IsEncrypted"); i >= 0 && string(document[i].value) == "true" {
		return nil, nil, errors.New(`its values are encrypted: run "func settings decrypt" first`)
	}
	at := document.find("Values")
	if at < 0 {
		document = append(document, member{"Values", json.RawMessage("{}")})
		at = len(document) - 1
	}
	values, err := parseObject(document[at].value)
	if err != nil {
		return nil, nil, fmt.Errorf("read Values: %w", err)
	}
	if values, changes, err = values.apply(a, filled); err != nil {
		return nil, nil, err
	}
	if existing != nil && len(changes) == 0 {
		return existing, nil, nil
	}
	document[at].value = values.encode()
	var b bytes.Buffer
	if err := json.Indent(&b, document.encode(), "", "  "); err != nil {
		return nil, nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), changes, nil
}

// apply sets the values of an app.
func (o object) apply(a App, filled []Setting) (object, []SettingChange, error) {
	var changes []SettingChange
	all := a.settings(filled)
	identities := map[string]bool{} // connections that an identity makes
	for _, m := range o {
		identities[connectionOf(m.name)] = true
	}
	for _, want := range all {
		identities[connectionOf(want.Name)] = true
	}
	for _, want := range all {
		i := o.find(want.Name)
		if i < 0 && identities[want.Name] && !want.chosen {
			continue // a connection string would go before the identity
		}
		if i < 0 {
			if alias := aliases()[want.Name]; alias != "" && o.find(alias) >= 0 && !want.chosen {
				continue
			}
			o = append(o, member{want.Name, encodeString(want.Value)})
			changes = append(changes, SettingChange{Name: want.Name, Action: "add", New: shown(a.Variant, want.Name, want.Value)})
			continue
		}
		if !want.chosen {
			continue
		}
		var old string
		if err := json.Unmarshal(o[i].value, &old); err != nil {
			return nil, nil, fmt.Errorf("read Values: %s is no string: correct it", want.Name)
		}
		if old == want.Value || slices.Contains(byKind, want.Name) && strings.EqualFold(old, want.Value) {
			continue
		}
		o[i].value = encodeString(want.Value)
		changes = append(changes, SettingChange{Name: want.Name, Action: "change", Old: shown(a.Variant, want.Name, old), New: shown(a.Variant, want.Name, want.Value)})
	}
	return o, changes, nil
}

// wanted is a setting that an app needs.
type wanted struct {
	Setting
	chosen bool // it replaces what is there
}

// settings are those of the variant, filled in or with what was chosen in their places, and then what was
// chosen besides.
func (a App) settings(filled []Setting) []wanted {
	var all []wanted
	for _, s := range presets()[a.Variant] {
		if slices.Contains(a.Omit, s.Name) {
			continue
		}
		w := wanted{s, slices.Contains(byKind, s.Name)}
		i := slices.IndexFunc(filled, func(f Setting) bool { return f.Name == s.Name })
		if i >= 0 && !w.chosen && s.Name != targets {
			w.Value = filled[i].Value
		}
		all = append(all, w)
	}
	for _, s := range filled { // a connection by identity is known by what comes after its name
		if slices.ContainsFunc(all, func(w wanted) bool { return w.Name == connectionOf(s.Name) }) {
			all = append(all, wanted{s, false})
		}
	}
	for _, s := range a.Set {
		i := slices.IndexFunc(all, func(w wanted) bool { return w.Name == s.Name })
		if i < 0 {
			all = append(all, wanted{s, true})
			continue
		}
		all[i] = wanted{s, true}
	}
	return all
}

// connectionOf is the connection that a setting of an identity is about; "" for any other setting.
func connectionOf(name string) string {
	if base, form, _ := strings.Cut(name, "__"); slices.Contains(identityForms, form) {
		return base
	}
	return ""
}

// targets is the setting that tells where the workers are. In a folder of the original it names a function
// that they don't have.
const targets = "FUNC_TO_INVOKE"

// presets are the settings of each variant, in their order.
var presets = sync.OnceValue(func() map[string][]Setting {
	all := map[string][]Setting{}
	for _, variant := range functions.Variants() {
		settings, err := readPreset(variant)
		if err != nil {
			panic(err) // the presets are part of this program
		}
		all[variant] = settings
	}
	return all
})

func readPreset(variant string) ([]Setting, error) {
	files, err := functions.Files(variant)
	if err != nil {
		return nil, err
	}
	content, err := fs.ReadFile(files, functions.SettingsFile)
	if err != nil {
		return nil, err
	}
	document, err := parseObject(content)
	if err != nil {
		return nil, err
	}
	values, err := parseObject(document[document.find("Values")].value)
	if err != nil {
		return nil, err
	}
	var all []Setting
	for _, m := range values {
		s := Setting{Name: m.name}
		if err := json.Unmarshal(m.value, &s.Value); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// aliases are the other names of settings that have two, both ways.
var aliases = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	for _, s := range config.Settings() {
		if s.Alias != "" {
			names[s.Name], names[s.Alias] = s.Alias, s.Name
		}
	}
	return names
})

// open are the settings that are known not to be secrets.
var open = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	for _, s := range config.Settings() {
		names[s.Name], names[s.Alias] = !s.Secret, !s.Secret
	}
	for _, name := range byOption {
		names[name] = true
	}
	return names
})

// shown is a value as a report may show it: as it is only where it is known not to be a secret, or is the
// default that everybody has.
func shown(variant, name, value string) string {
	if open()[name] || strings.HasPrefix(name, "AzureWebJobs.") || slices.Contains(presets()[variant], Setting{name, value}) {
		return value
	}
	return config.Secret(value).String()
}

// object is a JSON object that keeps the order of its members, and what it doesn't understand.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// mark is the byte order mark, with which some editors begin files.
var mark = []byte("\xef\xbb\xbf")

func parseObject(content []byte) (object, error) {
	content = bytes.TrimPrefix(content, mark)
	if !json.Valid(content) {
		var v any
		err := json.Unmarshal(content, &v)
		line := 1
		if wrong := (*json.SyntaxError)(nil); errors.As(err, &wrong) {
			line += bytes.Count(content[:wrong.Offset], []byte("\n"))
		}
		return nil, fmt.Errorf("it is no JSON: line %d: %w: correct it, or move the file away to have it written anew", line, err)
	}
	d := json.NewDecoder(bytes.NewReader(content))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("expected a JSON object")
	}
	var o object
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		o = append(o, member{name.(string), value})
	}
	return o, nil
}

// find returns where a member is, or -1; the host takes names in any case.
func (o object) find(name string) int {
	return slices.IndexFunc(o, func(m member) bool { return strings.EqualFold(m.name, name) })
}

func (o object) encode() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encodeString(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// encodeString writes JSON without the escapes that only HTML needs.
func encodeString(s string) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // strings can always be written
	}
	return bytes.TrimSpace(b.Bytes())
}
