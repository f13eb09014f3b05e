package hosttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxJSON bounds each file that is read of a function app, in bytes.
const maxJSON = 1 << 20

// functionApp is a folder as it is on disk.
type functionApp struct {
	folder    string
	host      hostJSON
	functions []*function
	settings  settings
	timeout   time.Duration // of a function; 0: without end
	start     time.Duration // for the handler to listen
}

// hostJSON is what the double heeds of host.json. The host ignores names that it doesn't know.
type hostJSON struct {
	Version         string
	FunctionTimeout *string
	ExtensionBundle *struct{ ID, Version string }
	CustomHandler   *struct {
		Description struct {
			DefaultExecutablePath string
			WorkingDirectory      string
			Arguments             []string
		}
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
		EnableProxyingHTTPRequest   bool `json:"enableProxyingHttpRequest"`
		InitializationTimeout       *string
		HTTP                        json.RawMessage `json:"http"`
	}
	Extensions struct {
		HTTP       httpOptions
		EventHubs  eventHubOptions
		ServiceBus serviceBusOptions
		Queues     queueOptions
	}
}

// function is a folder with a function.json.
type function struct {
	name     string
	trigger  binding
	outputs  []binding
	retry    *retry
	disabled bool
}

// binding is what the triggers and outputs have in function.json. Strings are expanded, but for Connection.
type binding struct {
	Type        string
	Direction   string
	Name        string
	Connection  string
	Cardinality string
	DataType    string

	AuthLevel string   // httpTrigger
	Methods   []string // httpTrigger
	Route     *string  // httpTrigger

	Schedule string // timerTrigger

	EventHubName  string // eventHubTrigger
	ConsumerGroup string // eventHubTrigger

	QueueName        string // queueTrigger, serviceBusTrigger
	TopicName        string // serviceBusTrigger
	SubscriptionName string // serviceBusTrigger
	Sessions         bool   `json:"isSessionsEnabled"` // serviceBusTrigger

	Path string // blob
}

func (b binding) many() bool   { return strings.EqualFold(b.Cardinality, "many") }
func (b binding) binary() bool { return strings.EqualFold(b.DataType, "binary") }
func (b binding) text() bool   { return strings.EqualFold(b.DataType, "string") }

// readApp reads a folder as the host does, and refuses what the host would not start. Every problem is told at once.
func readApp(folder string, overrides map[string]string) (*functionApp, error) {
	app := &functionApp{folder: folder}
	var err error
	if app.settings, err = readSettings(folder, overrides); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(folder, "host.json"), &app.host); err != nil {
		return nil, err
	}
	problems := []error{app.checkHost()}
	paths, err := filepath.Glob(filepath.Join(folder, "*", "function.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		problems = append(problems, errors.New("no function: want a function.json in a folder of its own"))
	}
	for _, path := range paths {
		f, err := readFunction(path, app.settings)
		if err == nil {
			err = app.check(f)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("function %s: %w", filepath.Base(filepath.Dir(path)), err))
			continue
		}
		if !f.disabled && !strings.EqualFold(app.settings["AzureWebJobs."+f.name+".Disabled"], "true") {
			app.functions = append(app.functions, f)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("read function app %s: %w", folder, err)
	}
	return app, nil
}

// checkHost checks host.json and takes its times.
func (a *functionApp) checkHost() error {
	var problems []error
	fail := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("host.json: "+format, args...))
	}
	if a.host.Version != "2.0" {
		fail("version is %q: want 2.0", a.host.Version)
	}
	a.timeout, a.start = 30*time.Minute, 30*time.Second
	if text := a.host.FunctionTimeout; text != nil && *text == "-1" {
		a.timeout = 0
	} else if err := timeSpan(text, &a.timeout); err != nil {
		fail("functionTimeout: %w", err)
	}
	handler := a.host.CustomHandler
	switch {
	case handler == nil:
		fail("customHandler is missing")
	case handler.Description.DefaultExecutablePath == "":
		fail("customHandler.description.defaultExecutablePath is missing")
	case len(handler.HTTP) > 0:
		fail("customHandler.http can't be used beside function.json")
	default:
		if err := timeSpan(handler.InitializationTimeout, &a.start); err != nil {
			fail("customHandler.initializationTimeout: %w", err)
		}
	}
	if bundle := a.host.ExtensionBundle; bundle != nil {
		if bundle.ID != "Microsoft.Azure.Functions.ExtensionBundle" {
			fail("extensionBundle.id is %q: want Microsoft.Azure.Functions.ExtensionBundle", bundle.ID)
		}
		if !bundleOf4(bundle.Version) {
			fail("extensionBundle.version is %q: want a range with versions 4, such as [4.*, 5.0.0)", bundle.Version)
		}
	}
	return errors.Join(problems...)
}

var bundleRange = regexp.MustCompile(`^\[\s*4(\.\*|(\.\d+){1,2})\s*,\s*5(\.0){0,2}\s*\)$`)

func bundleOf4(version string) bool { return bundleRange.MatchString(version) }

// timeSpan reads a .NET TimeSpan of the form [d.]hh:mm:ss[.fff] into d; nil leaves d as it is.
func timeSpan(text *string, d *time.Duration) error {
	if text == nil {
		return nil
	}
	m := timeSpanForm.FindStringSubmatch(*text)
	if m == nil {
		return fmt.Errorf("%q is no time span: want hh:mm:ss", *text)
	}
	span, err := time.ParseDuration(m[2] + "h" + m[3] + "m" + m[4] + "s")
	if err != nil {
		return fmt.Errorf("%q is no time span: %w", *text, err)
	}
	if m[1] != "" {
		days, err := time.ParseDuration(strings.TrimSuffix(m[1], ".") + "h")
		if err != nil {
			return fmt.Errorf("%q is no time span: %w", *text, err)
		}
		span += 24 * days
	}
	*d = span
	return nil
}

var timeSpanForm = regexp.MustCompile(`^(\d{1,3}\.)?([01]?\d|2[0-3]):([0-5]?\d):([0-5]?\d(?:\.\d{1,7})?)$`)

// readFunction reads a function.json, and expands %NAME% in every string but those of connection.
func readFunction(path string, s settings) (*function, error) {
	var tree struct {
		Bindings []map[string]any
		Disabled any
		Retry    *retryJSON
	}
	if err := readJSON(path, &tree); err != nil {
		return nil, err
	}
	f := &function{name: filepath.Base(filepath.Dir(path)), disabled: tree.Disabled == true}
	for n, raw := range tree.Bindings {
		b, err := readBinding(raw, s)
		if err != nil {
			return nil, fmt.Errorf("binding %d: %w", n, err)
		}
		switch {
		case b.Direction == "in" && strings.HasSuffix(b.Type, "Trigger"):
			if f.trigger.Type != "" {
				return nil, errors.New("it has several triggers")
			}
			f.trigger = b
		case b.Direction == "out":
			f.outputs = append(f.outputs, b)
		default:
			return nil, fmt.Errorf("binding %q: type %q with direction %q is not known", b.Name, b.Type, b.Direction)
		}
	}
	if f.trigger.Type == "" {
		return nil, errors.New("it has no trigger")
	}
	var err error
	f.retry, err = tree.Retry.policy()
	return f, err
}

func readBinding(raw map[string]any, s settings) (b binding, err error) {
	for key, value := range raw {
		text, ok := value.(string)
		if !ok {
			continue
		}
		if strings.EqualFold(key, "connection") {
			if strings.Contains(text, "%") {
				return b, fmt.Errorf("connection is %q: want a setting's name, without %%", text)
			}
			continue
		}
		if raw[key], err = s.expand(text); err != nil {
			return b, fmt.Errorf("%s: %w", key, err)
		}
	}
	encoded, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(encoded, &b)
	}
	if err == nil && b.Direction == "" && strings.HasSuffix(b.Type, "Trigger") {
		b.Direction = "in"
	}
	if err == nil && b.Name == "" {
		err = errors.New("name is missing")
	}
	return b, err
}

// Types of bindings that the double carries out, and what each needs.
var (
	triggers = map[string]func(binding) string{
		"httpTrigger":       func(b binding) string { return "" },
		"timerTrigger":      func(b binding) string { return missing("schedule", b.Schedule) },
		"queueTrigger":      func(b binding) string { return missing("queueName", b.QueueName) },
		"eventHubTrigger":   func(b binding) string { return missing("eventHubName", b.EventHubName) },
		"eventGridTrigger":  func(b binding) string { return "" },
		"serviceBusTrigger": missingEntity,
	}
	withoutBundle = []string{"httpTrigger", "timerTrigger", "http"}
)

func missing(name, value string) string {
	if value == "" {
		return name + " is missing or empty"
	}
	return ""
}

func missingEntity(b binding) string {
	switch {
	case b.QueueName != "" && b.TopicName != "":
		return "both queueName and topicName are given"
	case b.QueueName == "" && (b.TopicName == "" || b.SubscriptionName == ""):
		return "want queueName, or topicName and subscriptionName"
	}
	return ""
}

// check refuses a function that the host could not index.
func (a *functionApp) check(f *function) error {
	if !functionName.MatchString(f.name) {
		return errors.New("the name must begin with a letter, and hold letters, digits, - and _")
	}
	needs, known := triggers[f.trigger.Type]
	if !known {
		return fmt.Errorf("trigger %q is not known", f.trigger.Type)
	}
	if problem := needs(f.trigger); problem != "" {
		return errors.New(problem)
	}
	bindings := append([]binding{f.trigger}, f.outputs...)
	for n, b := range bindings {
		if a.host.ExtensionBundle == nil && !slices.Contains(withoutBundle, b.Type) {
			return fmt.Errorf("binding type %s needs extensionBundle in host.json", b.Type)
		}
		if n > 0 && b.Type != "http" && b.Type != "blob" {
			return fmt.Errorf("output %q is not known", b.Type)
		}
		if b.Type == "blob" {
			if _, err := parseTemplate(b.Path); err != nil {
				return fmt.Errorf("output %s: path: %w", b.Name, err)
			}
		}
		if !oneOf(b.Cardinality, "", "one", "many") || !oneOf(b.DataType, "", "string", "binary", "stream") {
			return fmt.Errorf("binding %s: cardinality %q or dataType %q is not known", b.Name, b.Cardinality, b.DataType)
		}
	}
	if f.trigger.Type != "httpTrigger" && a.settings["AzureWebJobsStorage"] == "" && !a.settings.identity("AzureWebJobsStorage") {
		return errors.New("setting AzureWebJobsStorage is missing: every trigger but HTTP's needs it")
	}
	return nil
}

var functionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,126}$`)

func oneOf(value string, all ...string) bool {
	return slices.ContainsFunc(all, func(s string) bool { return strings.EqualFold(s, value) })
}

func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxJSON {
		err = fmt.Errorf("it is longer than %d bytes", maxJSON)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
