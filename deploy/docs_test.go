package deploy_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// original are the app settings of the Python Persistor.
var original = strings.Fields(`SERVICE_TYPE PERSISTOR_STORAGE_CONNECTION_STRING PERSISTOR_CONTAINER_NAME APPEND TIMED_APPEND GET_METADATA
	PERSISTOR_OUTPUT_BINDING BINDING_SERVICE STORE_PARAM EVENT_HUB_NAME_BINDING EVENT_HUB_BINDING_CONNECTION_STR CONSUMER_GROUP
	SERVICE_BUS_BINDING_QUEUE_NAME SERVICE_BUS_BINDING_TOPIC_NAME SERVICE_BUS_BINDING_SUB_NAME SERVICE_BUS_BINDING_CONNECTION_STRING
	EVENT_HUB_CONN_STRING EVENT_HUB_NAME EVENT_HUB_CONSUMER_GROUP EVENT_HUB_IDLE_TIMEOUT EVENT_HUB_RECEIVE_DURATION EVENT_HUB_PREFETCH
	EVENT_HUB_PULL_MAX_BATCH EVENT_HUB_PULL_BATCH_SIZE EVENT_HUB_CHECKPOINT_STORAGE_CONN_STRING EVENT_HUB_CHECKPOINT_CONTAINER
	EVENT_HUB_CHECKPOINT_UPDATE_RATE SERVICE_BUS_CONNECTION_STRING SERVICE_BUS_TYPE SERVICE_BUS_QUEUE_NAME SERVICE_BUS_TOPIC_NAME
	SERVICE_BUS_SUB_NAME SERVICE_BUS_IDLE_TIMEOUT SERVICE_BUS_RECEIVE_DURATION SERVICE_BUS_PREFETCH FUNC_TO_INVOKE DELAY_BETWEEN_FUNCS
	INVOKER_TIMEOUT`)

// Every setting of the original has a row, once, and in the original's order.
func TestMigrationNamesEverySetting(t *testing.T) {
	var rows []string
	_, table, _ := strings.Cut(read(t, "../docs/migrate.md"), "\n## Settings\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		rows = append(rows, m[1])
	}
	for _, name := range original {
		if !slices.Contains(rows, name) {
			t.Errorf("docs/migrate.md: the settings have no row for %s", name)
		}
	}
	if len(rows) == len(original) && !slices.Equal(rows, original) {
		t.Errorf("docs/migrate.md: the rows are %v, want %v", rows, original)
	}
	for _, name := range rows {
		if !slices.Contains(original, name) {
			t.Errorf("docs/migrate.md: %s is no setting of the original", name)
		}
	}
}

var (
	// settingName is an app setting as pages write it, between backquotes, maybe with a value.
	settingName = regexp.MustCompile("`((?:PERSISTOR|EVENT_HUB|SERVICE_BUS|WORKER|INVOKER|BATCH|RECORD|FUNC|MEMORY|STORE|APPEND|TIMED|GET|BINDING|CONSUMER|DELAY)_[A-Z_]+(?:__\\w+)?)(?:=[^`]*)?`")
	link        = regexp.MustCompile(`\]\(([^)#:]+)(?:#[\w-]+)?\)`)
	// inTree is a path of this repository within a command.
	inTree = regexp.MustCompile(`(?m)(?:^|[ =])((?:deploy|cmd|docs)/[\w./-]+)`)
)

// azdVariables are no app settings, but what deploy/flex/main.bicepparam reads.
var azdVariables = regexp.MustCompile(`readEnvironmentVariable\('(\w+)'`)

// What the pages name is there: settings, files, links.
func TestPagesNameWhatThereIs(t *testing.T) {
	var variables []string
	for _, m := range azdVariables.FindAllStringSubmatch(read(t, "flex/main.bicepparam"), -1) {
		variables = append(variables, m[1])
	}
	for _, page := range []string{"../docs/deploy.md", "../docs/migrate.md"} {
		text := read(t, page)
		for _, m := range settingName.FindAllStringSubmatch(text, -1) {
			if !known(m[1]) && !slices.Contains(variables, m[1]) && !slices.Contains(others, m[1]) {
				t.Errorf("%s: no program reads the setting %s", page, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !exists(path.Join(path.Dir(page), m[1])) {
				t.Errorf("%s: there is no %s", page, m[1])
			}
		}
		for _, m := range inTree.FindAllStringSubmatch(text, -1) {
			if name := strings.TrimRight(m[1], "."); !exists("../"+name) && !strings.HasPrefix(name, "deploy/dist") {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
		for _, m := range regexp.MustCompile(`azd env set (\w+)`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(variables, m[1]) && m[1] != "PERSISTOR_SOURCE" {
				t.Errorf("%s: azd's environment has no use for %s", page, m[1])
			}
		}
	}
}

// others look like settings: values of SERVICE_TYPE.
var others = []string{"EVENT_HUB_PULL", "SERVICE_BUS_PULL"}

// Parameters that the pages give to az are parameters of the templates.
func TestPagesGiveKnownParameters(t *testing.T) {
	text := strings.ReplaceAll(read(t, "../docs/deploy.md"), "\\\n", " ")
	seen := 0
	for _, command := range regexp.MustCompile(`(?m)--template-file (deploy/\S+) .*$`).FindAllStringSubmatch(text, -1) {
		main := bicep(t)[strings.TrimPrefix(command[1], "deploy/")]
		if main == nil {
			t.Fatalf("docs/deploy.md: there is no %s", command[1])
		}
		for _, given := range regexp.MustCompile(`[ ](\w+)=`).FindAllStringSubmatch(command[0], -1) {
			if seen++; !main.names[given[1]] {
				t.Errorf("docs/deploy.md: %s takes no %s", main.file, given[1])
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d parameters were found: the pattern has gone blind", seen)
	}
}

// routes are the sections of docs/deploy.md that a reader goes through, one after the other.
var routes = [][]string{
	{"### By azd", "### A run"},
	{"### By az alone", "### A run"},
	{"### Pushed instead of pulled"},
	{"### Two identities", "### Images and manifests"},
	{"## Premium"},
	{"## Removing"},
}

var (
	shell     = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	variable  = regexp.MustCompile(`\$\{?([A-Za-z_]\w*)`)
	assigned  = regexp.MustCompile(`(?m)^(?:export )?([A-Za-z_]\w*)=`)
	outputs   = regexp.MustCompile(`(?m)^output (\w+)`)
	allOfThem = []string{"properties.outputs", "azd env get-values"} // what makes variables of a template's outputs
)

// On every route a variable has its value before a command uses it.
func TestVariablesAreSetBeforeTheyAreUsed(t *testing.T) {
	page := read(t, "../docs/deploy.md")
	for _, route := range routes {
		known := map[string]bool{}
		uses := 0
		for _, title := range route {
			for _, block := range shell.FindAllStringSubmatch(section(t, page, title), -1) {
				for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
					for _, m := range variable.FindAllStringSubmatch(line, -1) {
						if uses++; !known[m[1]] {
							t.Errorf("docs/deploy.md, %v: nothing has set %s before: %s", route, m[1], line)
						}
					}
					for _, m := range assigned.FindAllStringSubmatch(line, -1) {
						known[m[1]] = true
					}
					if slices.ContainsFunc(allOfThem, func(text string) bool { return strings.Contains(line, text) }) {
						for _, m := range outputs.FindAllStringSubmatch(read(t, "flex/main.bicep"), -1) {
							known[m[1]] = true
						}
						known["AZURE_RESOURCE_GROUP"] = known["AZURE_RESOURCE_GROUP"] || strings.Contains(line, "azd env")
					}
				}
			}
		}
		if uses == 0 {
			t.Errorf("docs/deploy.md, %v: no variable is used: the pattern has gone blind", route)
		}
	}
}

// section is the text from a title up to the next one of any level.
func section(t *testing.T, page, title string) string {
	t.Helper()
	_, text, found := strings.Cut(page, "\n"+title+"\n")
	if !found {
		t.Fatalf("docs/deploy.md has no section %q", title)
	}
	text, _, _ = strings.Cut(text, "\n#")
	return text
}
