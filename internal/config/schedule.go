package config

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schedule takes what the timer of the Functions host takes: an NCRONTAB expression of six fields, or of five
// without that of seconds; or a .NET TimeSpan.
// https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer
func schedule() value {
	return value{"an NCRONTAB expression of six fields, {second} {minute} {hour} {day} {month} {day of week}, such as \"0 */15 * * * *\" for every 15 minutes, or a time between runs such as 00:15:00", func(text string) error {
		fields := strings.Fields(text)
		switch {
		case len(fields) == 1 && longDay.MatchString(text):
			return errors.New(`is a number of days to the host, which reads hours up to 23: for a day write "1.00:00:00" or "0 0 0 * * *"`)
		case len(fields) == 1 && timeSpan.MatchString(text) && strings.Trim(text, "0:.") != "":
			return nil
		case len(fields) == 5:
			fields = append([]string{"0"}, fields...)
		case len(fields) != len(cronFields):
			return errMismatch
		}
		for i, field := range fields {
			if !cronFields[i].takes(field) {
				return errMismatch
			}
		}
		return nil
	}}
}

var (
	// A TimeSpan in its constant form: [d.]hh:mm[:ss].
	timeSpan = regexp.MustCompile(`^(\d{1,7}\.)?([01]?\d|2[0-3]):[0-5]?\d(:[0-5]?\d)?$`)
	// "24:00:00" is 24 days: .NET takes a first number that is no hour for days.
	longDay = regexp.MustCompile(`^(2[4-9]|[3-9]\d|\d{3,7}):\d{1,2}:\d{1,2}$`)
)

// cronField is one field of an NCRONTAB expression: its range, and the names that stand for numbers, from
// first on.
type cronField struct {
	first, last int
	names       []string
}

var cronFields = []cronField{
	{0, 59, nil}, {0, 59, nil}, {0, 23, nil}, {1, 31, nil},
	{1, 12, []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}},
	{0, 6, []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}},
}

// takes reports whether a field is a list of *, numbers and ranges, each of the last two perhaps with a step.
func (f cronField) takes(field string) bool {
	for part := range strings.SplitSeq(field, ",") {
		values, step, stepped := strings.Cut(part, "/")
		if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1 || n > f.last+1) {
			return false
		}
		if values == "*" {
			continue
		}
		from, to, ranged := strings.Cut(values, "-")
		first, ok := f.number(from)
		last := first
		if ok && ranged {
			last, ok = f.number(to)
		}
		if !ok || first > last {
			return false
		}
	}
	return true
}

// number reads a number or a name, of which three letters are enough.
func (f cronField) number(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	if err != nil && len(text) >= 3 {
		i := slices.IndexFunc(f.names, func(name string) bool { return strings.HasPrefix(name, strings.ToLower(text)) })
		return f.first + i, i >= 0
	}
	return n, err == nil && f.first <= n && n <= f.last
}
