package reputation

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The kinds of weather: what befalls carriers beside their moods.
const (
	// Halving is every limit at half for every second hour, from one second to the
	// next.
	Halving = "halving"
	// Shrinking is every limit falling, all at once, to two fifths in the course of
	// the day.
	Shrinking = "shrinking"
	// Shut is the busiest carrier taking next to nothing for one hour in four.
	Shut = "shut"
)

// weathers give the part of a carrier's limits that is left at a time.
var weathers = map[string]func(carrier int, at, span time.Duration) float64{
	Halving: func(_ int, at, _ time.Duration) float64 {
		if at/time.Hour%2 == 1 {
			return 0.5
		}
		return 1
	},
	Shrinking: func(_ int, at, span time.Duration) float64 { return 1 - 0.6*float64(at)/float64(span) },
	Shut: func(carrier int, at, _ time.Duration) float64 {
		if carrier == 0 && at/time.Hour%4 == 1 {
			return 0.001
		}
		return 1
	},
}

// weatherEvery is how often it changes.
const weatherEvery = 20 * time.Minute

// under draws the moods, and lets the weather have its part of them.
func under(weather string, m Moods) ([]Mood, error) {
	moods := m.Draw()
	left := weathers[weather]
	switch {
	case weather == "":
		return moods, nil
	case left == nil:
		return nil, fmt.Errorf("there is no weather of the name %q", weather)
	}
	type lane struct{ carrier, source int }
	last := map[lane]Mood{}
	var all []Mood
	add := func(x Mood) {
		if r := x.Limits.Rate; r != nil {
			rate := *r
			rate.N = max(1, int64(float64(rate.N)*left(x.Carrier, x.After, m.Span)))
			x.Limits.Rate = &rate
		}
		all = append(all, x)
	}
	next := 0
	for at := weatherEvery; ; at += weatherEvery {
		for ; next < len(moods) && moods[next].After < at; next++ {
			x := moods[next]
			last[lane{x.Carrier, x.Source}] = x
			add(x)
		}
		if at >= m.Span {
			break
		}
		for _, x := range last {
			x.After = at
			add(x)
		}
	}
	slices.SortStableFunc(all, func(a, b Mood) int {
		if a.After != b.After || a.After%weatherEvery != 0 {
			return cmp.Compare(a.After, b.After)
		}
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source))
	})
	return all, nil
}
