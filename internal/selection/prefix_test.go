package selection

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Whatever the range: each of its days begins with exactly one of the texts, and no other day with any.
func TestCover(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 1))
	begin := time.Date(1998, 1, 1, 0, 0, 0, 0, time.UTC)
	var days []string
	for day := begin; day.Year() < 2050; day = day.AddDate(0, 0, 1) {
		days = append(days, day.Format(dayLayout))
	}
	for range 50 {
		first := random.IntN(12_000)
		last := first + random.IntN(1+random.IntN(4000))
		found := cover(nil, "", days[first], days[last])
		for i, day := range days {
			n := 0
			for _, text := range found {
				if strings.HasPrefix(day, text) {
					n++
				}
			}
			within := first <= i && i <= last
			if within && n != 1 || !within && n != 0 {
				t.Fatalf("from %s to %s: %s begins with %d of %q", days[first], days[last], day, n, found)
			}
		}
		if len(found) > 120 {
			t.Errorf("%d lists for a range", len(found))
		}
	}
}
