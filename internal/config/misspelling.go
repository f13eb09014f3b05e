package config

import (
	"fmt"
	"slices"
	"strings"
)

// Misspellings warns of environment variables that look like settings and are none: of a known prefix,
// one or two letters away from a setting's name. Environ is as [os.Environ] has it. Values are not
// looked at.
func Misspellings(environ []string) []string {
	var warnings []string
	known := knownNames()
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if len(name) > maxName || slices.Contains(known, name) || !familiar(name) {
			continue
		}
		for _, setting := range known {
			if distance(name, setting) <= 2 {
				warnings = append(warnings, fmt.Sprintf("%s is not a setting and ignored: did you mean %s?", name, setting))
				break
			}
		}
	}
	return warnings
}

// maxName bounds the names that are compared, for the work of it grows with their length.
const maxName = 128

// familiar reports whether a name is of this program's kind, so that nobody else's variables are
// warned of.
func familiar(name string) bool {
	name = strings.ToUpper(name)
	for _, prefix := range []string{"PERSISTOR_", "EVENT_HUB_", "SERVICE_BUS_", "WORKER_", "INVOKER_", "FUNC_", "BATCH_", "BINDING_", "FAILED_", "APPEND_"} {
		for n := len(prefix) - 1; n <= min(len(prefix)+1, len(name)); n++ {
			if distance(name[:n], prefix) <= 1 {
				return true
			}
		}
	}
	return false
}

func knownNames() []string {
	var names []string
	for _, s := range Settings() {
		names = append(names, s.Name)
		if s.Alias != "" {
			names = append(names, s.Alias)
		}
	}
	return names
}

// distance counts the letters to insert, remove or exchange to make one name of the other (Levenshtein),
// and is more than 2 at once when their lengths are.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			exchanged := diagonal
			if a[i] != b[j] {
				exchanged++
			}
			diagonal = row[j+1]
			row[j+1] = min(exchanged, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
