package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"persistor/internal/work"
)

// value is where a setting's text goes, as package flag has it: parse checks the text and stores what it
// means. The error of parse never repeats the text; errMismatch says no more than "not what was expected".
type value struct {
	expected string // ends the sentence "expected ..."
	parse    func(text string) error
}

var errMismatch = errors.New("not what was expected")

// quotable bounds the values that a problem repeats to the reader, in bytes. A worker key has at least
// minKey bytes and an Azure key more, so that none pasted into the wrong setting can show.
const quotable = 12

const minKey = 16

func got(text string) string {
	if len(text) <= quotable {
		return fmt.Sprintf("got %q", text)
	}
	return fmt.Sprintf("got a value of %d bytes", len(text))
}

func boolean(into *bool) value {
	return value{"TRUE or FALSE", func(text string) error {
		switch strings.ToUpper(text) {
		case "TRUE", "1":
			*into = true
		case "FALSE", "0":
			*into = false
		default:
			return errMismatch
		}
		return nil
	}}
}

// refused is a boolean that may be given, but not as TRUE.
func refused(why func() string) value {
	return value{"FALSE", func(text string) error {
		var on bool
		if err := boolean(&on).parse(text); err != nil {
			return err
		}
		if on {
			return errors.New(why())
		}
		return nil
	}}
}

func whole(into *int, lowest, highest int) value {
	expected := fmt.Sprintf("a whole number from %s to %s", grouped(lowest), grouped(highest))
	return value{expected, func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < lowest || n > highest {
			return errMismatch
		}
		*into = n
		return nil
	}}
}

// seconds takes a number of seconds ("0.25", as the original's settings have it) or a Go duration ("1m30s").
func seconds(into *time.Duration, lowest, highest time.Duration) value {
	expected := fmt.Sprintf("seconds, or a duration such as 90s or 2m, from %s to %s", brief(lowest), brief(highest))
	return value{expected, func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			number, err := strconv.ParseFloat(text, 64)
			if err != nil || !(math.Abs(number) <= highest.Seconds()) { // also false for NaN
				return errMismatch
			}
			d = time.Duration(number * float64(time.Second))
		}
		if d < lowest || d > highest {
			return errMismatch
		}
		*into = d
		return nil
	}}
}

// days takes whole days.
func days(into *time.Duration, lowest, highest int) value {
	var n int
	v := whole(&n, lowest, highest)
	return value{v.expected, func(text string) error {
		err := v.parse(text)
		*into = time.Duration(n) * 24 * time.Hour
		return err
	}}
}

// orZero takes 0 beside what v takes.
func orZero(into *time.Duration, v value) value {
	return value{"0, or " + v.expected, func(text string) error {
		if number, err := strconv.ParseFloat(strings.TrimSuffix(text, "s"), 64); err == nil && number == 0 {
			*into = 0
			return nil
		}
		return v.parse(text)
	}}
}

// size takes a number of bytes, with a binary or decimal unit after it or none.
func size(into *int, lowest, highest int) value {
	expected := fmt.Sprintf("bytes, or a size such as 512KiB or 4MiB, from %s to %s", binary(lowest), binary(highest))
	return value{expected, func(text string) error {
		digits := strings.TrimRightFunc(text, func(r rune) bool { return !unicode.IsDigit(r) })
		unit, known := units[strings.ToUpper(strings.TrimSpace(text[len(digits):]))]
		n, err := strconv.Atoi(digits)
		if err != nil || !known || n > highest/unit || n*unit < lowest {
			return errMismatch
		}
		*into = n * unit
		return nil
	}}
}

var units = map[string]int{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9,
	"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
}

// matching takes text that the whole of pattern matches.
func matching(into *string, pattern *regexp.Regexp, expected string) value {
	return value{expected, func(text string) error {
		if !pattern.MatchString(text) {
			return errMismatch
		}
		*into = text
		return nil
	}}
}

var (
	// Event Hubs: 256 characters at most, letters, digits, periods, hyphens and underscores, with a
	// letter or digit at both ends.
	hubName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,254}[A-Za-z0-9])?$`)
	// Service Bus: 50 characters at most.
	subscriptionName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,50}$`)
	// Event Hubs: the same as a hub, or "$Default".
	groupName = regexp.MustCompile(`^(?i:\$default)$|^[A-Za-z0-9]([A-Za-z0-9._-]{0,254}[A-Za-z0-9])?$`)
	// Blob Storage: 3 to 63 lower-case letters, digits and single hyphens, no hyphen at either end. The
	// length is asserted apart, for package regexp has no look-ahead.
	containerName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	// A host name or an address, with or without a port.
	hostPort = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})(:[0-9]{1,5})?$`)
)

// maxEntity is how many characters the name of a queue or topic has at most.
const maxEntity = 260

var entityCharacters = regexp.MustCompile(`^[A-Za-z0-9._/-]*$`)

// isEntityName reports whether the name may be a queue's or a topic's. The service is stricter; it can
// say so itself, while a name that is refused here can't be drained at all.
func isEntityName(name string) bool {
	if len(name) > maxEntity || !entityCharacters.MatchString(name) {
		return false
	}
	for segment := range strings.SplitSeq(name, "/") {
		if strings.Trim(segment, ".") == "" {
			return false
		}
	}
	return true
}

// entityName takes the name of a queue or topic. Paths of what lies within one are common mistakes.
func entityName(into *string, noun string) value {
	expected := fmt.Sprintf("a %s's name: up to %d letters, digits, periods, hyphens, underscores and slashes", noun, maxEntity)
	return value{expected, func(text string) error {
		switch path := strings.ToLower(text); {
		case strings.Contains(path, "/$"):
			return fmt.Errorf("is the path of a sub-queue: expected the name before it, and %s=deadletter for the dead-letter queue", subqueueSetting)
		case strings.Contains(path, "/subscriptions/"):
			return fmt.Errorf("is the path of a subscription: expected %s=TOPIC, and the names apart, in %s and %s", entitySetting, topicSetting, subscriptionSetting)
		case !isEntityName(text):
			return errMismatch
		}
		*into = text
		return nil
	}}
}

func container(into *string) value {
	return value{"a container's name: 3 to 63 lower-case letters, digits and single hyphens", func(text string) error {
		if len(text) < 3 || len(text) > 63 || !containerName.MatchString(text) {
			return errMismatch
		}
		*into = text
		return nil
	}}
}

// storageQueue takes the name of a queue of Queue Storage, which has the rules of a container's.
func storageQueue(into *string) value {
	return value{"a storage queue's name: 3 to 63 lower-case letters, digits and single hyphens", container(into).parse}
}

const maxFolder = 256

func folder(into *string) value {
	expected := fmt.Sprintf(`a path of 1 to %d bytes without "..", backslashes and control characters`, maxFolder)
	return value{expected, func(text string) error {
		path := strings.Trim(text, "/")
		odd := func(r rune) bool { return unicode.IsControl(r) || r == '\\' || r == utf8.RuneError }
		if path == "" || len(path) > maxFolder || strings.ContainsFunc(path, odd) {
			return errMismatch
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "" || segment == "." || segment == ".." {
				return errMismatch
			}
		}
		*into = path
		return nil
	}}
}

// choice takes one of the words, in any case, and stores what it stands for.
func choice[T any](into *T, words []string, meanings ...T) value {
	return value{anyOf(words), func(text string) error {
		i := slices.IndexFunc(words, func(word string) bool { return strings.EqualFold(word, text) })
		if i < 0 {
			return errMismatch
		}
		*into = meanings[i]
		return nil
	}}
}

func level(into *slog.Level) value {
	return choice(into, []string{"debug", "info", "warn", "error"},
		slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError)
}

func start(into *work.From) value {
	return value{"earliest, latest, or a time such as 2026-01-31T08:00:00Z", func(text string) error {
		switch position := strings.ToLower(text); position {
		case "earliest", "latest":
			*into = work.From{Position: position}
			return nil
		}
		at, err := time.Parse(time.RFC3339, strings.ToUpper(text))
		if err != nil {
			return errMismatch
		}
		*into = work.From{Position: "time", Time: at.UTC()}
		return nil
	}}
}

// service takes the three that the original knew, and refuses the one that this program can't run.
func service(into *Service) value {
	pulls := []string{string(EventHub), string(ServiceBus)}
	known := choice(into, pulls, EventHub, ServiceBus)
	return value{known.expected, func(text string) error {
		if strings.EqualFold(text, "BINDING") {
			return fmt.Errorf("BINDING is what the push program runs: this one runs %s", anyOf(pulls))
		}
		return known.parse(text)
	}}
}

// key takes a shared key that travels in an HTTP header.
func key(into *Secret) value {
	expected := fmt.Sprintf("%d to 512 printable ASCII characters without blanks", minKey)
	return value{expected, func(text string) error {
		odd := func(r rune) bool { return r <= ' ' || r > '~' }
		if len(text) < minKey || len(text) > 512 || strings.ContainsFunc(text, odd) {
			return errMismatch
		}
		*into = Secret(text)
		return nil
	}}
}

// text stores what it is given: connections are checked as a whole, once all their settings are read.
func text[S ~string](into *S, expected string) value {
	return value{expected, func(text string) error { *into = S(text); return nil }}
}

// port listens on one address of the host, or on all of them when host is "".
func port(into *string, host string) value {
	var n int
	number := whole(&n, 1, 65535)
	return value{number.expected, func(text string) error {
		if err := number.parse(text); err != nil {
			return err
		}
		*into = net.JoinHostPort(host, strconv.Itoa(n))
		return nil
	}}
}

// noting also says whether the setting was given.
func noting(given *bool, v value) value {
	return value{v.expected, func(text string) error {
		*given = true
		return v.parse(text)
	}}
}

func address(into *string) value {
	return value{"HOST:PORT, such as 127.0.0.1:8080; port 0 takes a free one", func(text string) error {
		host, digits, err := net.SplitHostPort(text)
		if err != nil {
			return errMismatch
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || strings.ContainsFunc(host, unicode.IsSpace) {
			return errMismatch
		}
		*into = net.JoinHostPort(host, strconv.FormatUint(n, 10))
		return nil
	}}
}

const maxTargets = 256

// targets takes the URLs of worker functions, separated by commas.
func targets(into *[]Target) value {
	expected := "the URL of the worker's function, or several separated by commas, such as https://my-worker.azurewebsites.net/api/pull"
	return value{expected, func(text string) error {
		var all []Target
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			target, problem := parseTarget(one)
			if problem != "" {
				return fmt.Errorf("URL %d of the list %s: expected %s", len(all)+1, problem, expected)
			}
			all = append(all, target)
		}
		if len(all) == 0 {
			return errMismatch
		}
		if len(all) > maxTargets {
			return fmt.Errorf("has %d URLs: expected at most %d", len(all), maxTargets)
		}
		*into = all
		return nil
	}}
}

// Target is the URL of a worker's function. Its query may carry a function key (?code=), so that it
// prints without one.
type Target struct {
	Base  string // scheme, host and path
	Query Secret // "" or what follows the question mark
}

// URL returns the whole URL, with a key that may be in its query.
func (t Target) URL() string {
	if t.Query == "" {
		return t.Base
	}
	return t.Base + "?" + t.Query.Reveal()
}

func (t Target) String() string { return t.Base }

// defaultPath is the worker's pull function, for a URL that names only a host.
const defaultPath = "/api/pull"

func parseTarget(text string) (_ Target, problem string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Target{}, "is not a URL" // url.Error would repeat it
	case u.Scheme != "http" && u.Scheme != "https":
		return Target{}, "does not begin with http:// or https://"
	case u.Hostname() == "":
		return Target{}, "has no host"
	case u.User != nil:
		return Target{}, "has a user or password in it"
	case u.Fragment != "":
		return Target{}, "has a fragment (#) in it"
	}
	query := Secret(u.RawQuery)
	u.RawQuery, u.ForceQuery = "", false
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	return Target{Base: u.String(), Query: query}, ""
}

func anyOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// grouped writes thousands apart: 262,144.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// brief is a duration in its largest whole unit.
func brief(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if d >= unit.length && d%unit.length == 0 {
			return fmt.Sprintf("%d %s", d/unit.length, unit.name)
		}
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// binary is a size in its largest whole binary unit.
func binary(bytes int) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n := units[strings.ToUpper(unit)]; bytes >= n && bytes%n == 0 {
			return fmt.Sprintf("%d %s", bytes/n, unit)
		}
	}
	return grouped(bytes) + " bytes"
}
