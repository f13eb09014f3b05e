package selection

import (
	"slices"
	"time"

	"persistor/internal/record"
)

// prefixes are what the names of all blobs that may be selected begin with, in an order in which those of a partition
// and of a session stay in theirs.
func (s Selection) prefixes() []string {
	if s.Folder == "" {
		return []string{""}
	}
	folder := record.EventHubFolder(s.Folder)
	if s.From.IsZero() && s.Until.IsZero() {
		return []string{folder}
	}
	first, last := earliestDay, latestDay
	if !s.From.IsZero() {
		first = s.From.UTC().Format(dayLayout)
	}
	if !s.Until.IsZero() {
		last = s.Until.UTC().Add(-1).Format(dayLayout)
	}
	var all []string
	for _, days := range cover(nil, "", first, last) {
		all = append(all, s.ofDays(folder, days)...)
	}
	return all
}

const (
	dayLayout   = "2006/01/02"
	earliestDay = "0000/00/00" // before all days, as text
	latestDay   = "9999/99/99" // behind all
)

// cover appends the fewest texts that the days from first to last begin with, and no others. It goes digit by digit:
// a text whose days all lie within is one, and one some of whose days do is looked into.
func cover(found []string, text, first, last string) []string {
	lowest, highest := text+earliestDay[len(text):], text+latestDay[len(text):]
	switch {
	case highest < first || lowest > last:
		return found
	case first <= lowest && highest <= last:
		return append(found, text)
	}
	if len(text) == len("2006") || len(text) == len("2006/01") {
		text += "/"
	}
	for _, digit := range digitsAfter(text) {
		found = cover(found, text+string(digit), first, last)
	}
	return found
}

// digitsAfter are the digits that may come next in a day.
func digitsAfter(text string) string {
	last := text[max(0, len(text)-1):]
	switch len(text) {
	case len("2006/"):
		return "01"
	case len("2006/01/"):
		return "0123"
	case len("2006/0"):
		if last == "1" {
			return "012"
		}
		return "123456789"
	case len("2006/01/0"):
		if last == "3" {
			return "01"
		}
	}
	return "0123456789"
}

// ofDays are the prefixes for what is selected of the days that begin with a text. Of a single day the partitions and the
// sessions are listed by themselves.
func (s Selection) ofDays(folder, days string) []string {
	day, err := time.Parse(dayLayout, days)
	if err != nil || len(s.Partitions)+len(s.Sessions) == 0 {
		return []string{folder + days}
	}
	var all []string
	for _, partition := range s.Partitions {
		all = append(all, record.EventHubDay(s.Folder, partition, day))
	}
	for _, session := range s.Sessions {
		all = append(all, record.SessionDay(s.Folder, session, day))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
