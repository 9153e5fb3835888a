package reputation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Options of a comparison. Zero fields are the defaults.
type Options struct {
	Seed uint64
	// Messages of a whole day; default 300,000. Rates do not scale with it: it
	// is the pressure.
	Messages int
	// Sources in the pool; default 4.
	Sources int
	// Begin is the time of the day at which it starts, Span how long it is.
	// Default 06:00 and 24 hours, past midnight.
	Begin, Span time.Duration
	// Quick is the world of the real minutes (quick.go): Span is minutes, and
	// Messages come in it.
	Quick bool
	// Weather makes the day harder for all, by name (weather.go); default none.
	Weather string
	// Minds are those to compare, by name; default all.
	Minds []string
	// Parallel is how many run at once; default 2.
	Parallel int
	// Progress is called with the name of each mind that has ended, one call at a
	// time.
	Progress func(mind string)
}

// The names of the minds.
const (
	Unlimited = "unlimited"
	Fixed     = "fixed limits"
	TextRules = "text rules"
	Ours      = "ours"
	Oracle    = "oracle"
	// Unsteered reads replies as ours does and never slows down: the control
	// that shows what steering is worth.
	Unsteered = "ours, not steering"
)

// Minds are those that are compared by default, in the order of the table.
var Minds = []string{Unlimited, Fixed, TextRules, Ours, Oracle}

// Result of a comparison.
type Result struct {
	Options Options
	Start   time.Time
	Models  []string // of each carrier, in words
	Runs    []*Run   // one for each mind
}

// Run of one mind.
type Run struct {
	Mind     string
	Carriers []*Account // in the order of the world
	Total    *Account
	// Decisions is how often the steering changed.
	Decisions int
	Took      time.Duration // of real time
}

// Of finds the run of a mind, nil if it was not asked for.
func (r *Result) Of(mind string) *Run {
	for _, x := range r.Runs {
		if x.Mind == mind {
			return x
		}
	}
	return nil
}

// Compare runs each mind through the same day.
func Compare(ctx context.Context, o Options) (*Result, error) {
	o = o.filled()
	w, err := newWorld(o)
	if err != nil {
		return nil, err
	}
	res := &Result{Options: o, Start: w.start, Runs: make([]*Run, len(o.Minds))}
	for _, p := range w.profiles {
		res.Models = append(res.Models, p.Description)
	}
	errs := make([]error, len(o.Minds))
	var wg sync.WaitGroup
	var told sync.Mutex // of Progress
	slots := make(chan struct{}, o.Parallel)
	for i, name := range o.Minds {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			res.Runs[i], errs[i] = w.run(ctx, name)
			if o.Progress != nil && errs[i] == nil {
				told.Lock()
				o.Progress(name)
				told.Unlock()
			}
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Minds[i], err)
		}
	}
	return res, nil
}

func (o Options) filled() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Messages, 300_000)
	def(&o.Sources, 4)
	def(&o.Parallel, 2)
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Span == 0 {
		o.Span = 24 * time.Hour
	}
	if o.Begin == 0 {
		o.Begin = 6 * time.Hour
	}
	if len(o.Minds) == 0 {
		o.Minds = slices.Clone(Minds)
	}
	return o
}
