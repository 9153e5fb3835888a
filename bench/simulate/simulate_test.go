package simulate_test

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/simulate"
)

// world is one of the worlds that a seed stands for: two to ten nodes, calm or
// wild, now and then one whose runs last for days.
func world(seed uint64) simulate.Options {
	o := simulate.Options{Seed: seed}
	switch seed % 6 {
	case 1:
		o.Nodes = 3
	case 2:
		o.Nodes, o.Faults.Level = 10, 2
	case 3:
		o.Nodes, o.Carriers, o.Faults.Level = 4, 12, 3
	case 4:
		o.Nodes = 2
	case 5:
		o.Nodes, o.Sources, o.Faults.Level = 7, 60, 4
	}
	return o
}

func run(t *testing.T, o simulate.Options) *simulate.Result {
	t.Helper()
	r, err := simulate.Run(t.Context(), o)
	if err != nil {
		t.Error(err)
		return &simulate.Result{}
	}
	for _, v := range r.Violations {
		t.Errorf("%s: %s", r.Options, v)
	}
	if r.Sent == 0 || r.Reports == 0 || r.Elections == 0 {
		t.Errorf("%s: nothing happened: %+v", r.Options, r)
	}
	return r
}

func TestWorlds(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		run(t, world(seed))
	}
}

// TestQuietWorld: without faults nothing moves, and limits are used.
func TestQuietWorld(t *testing.T) {
	r := run(t, simulate.Options{Seed: 1, Nodes: 6, Duration: 3 * time.Minute, Faults: simulate.Faults{None: true}})
	if r.Elections != 1 || r.UseFull < 0.9 || r.UseTurns < 0.6 {
		t.Errorf("%d elections, use %.2f and %.2f", r.Elections, r.UseFull, r.UseTurns)
	}
	if len(r.Faults) != 0 || r.Aborted != 0 || r.Residue != 0 {
		t.Errorf("faults %v, %d aborted, %d left over", r.Faults, r.Aborted, r.Residue)
	}
}

func TestSameSeedSameRun(t *testing.T) {
	for _, seed := range []uint64{3, 8} {
		first := run(t, world(seed))
		again := run(t, world(seed))
		other := run(t, world(seed+6))
		if first.Hash != again.Hash || first.Events != again.Events {
			t.Errorf("seed %d: %s after %d events, then %s after %d", seed, first.Hash, first.Events, again.Hash, again.Events)
		}
		if other.Hash == first.Hash {
			t.Errorf("seeds %d and %d are the same run", seed, seed+6)
		}
	}
}

// TestNegativeControls: with a protection off, the check that it is for goes
// red.
func TestNegativeControls(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		off        simulate.Break
	}{
		{"trust the session", "I7", simulate.Break{TrustSession: true}},
		{"no quarantine", "I7", simulate.Break{NoQuarantine: true}},
		{"grants for ever", "I9", simulate.Break{GrantsForever: true}},
		{"shares raised unconfirmed", "I9", simulate.Break{RaiseUnconfirmed: true}},
		{"a leader that does not wait", "I9", simulate.Break{LeaderDoesNotWait: true}},
		{"permits that are not written", "I9", simulate.Break{PermitsUnwritten: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(150) {
				o := world(seed)
				o.Break = tt.off
				o.Faults.Level = max(o.Faults.Level, 4)
				r, err := simulate.Run(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range r.Violations {
					if strings.HasPrefix(v.What, tt.want) {
						t.Logf("seed %d: %s", seed, v)
						return
					}
				}
			}
			t.Errorf("150 worlds and %s never went red", tt.want)
		})
	}
}

// TestLongSeeds runs worlds beside each other: with HIKYAKU_LONG=1 a thousand,
// among them some of the largest kind and some that last for days, else a few.
func TestLongSeeds(t *testing.T) {
	count := uint64(7)
	if os.Getenv("HIKYAKU_LONG") == "1" {
		count = 1000
	}
	worlds := make(chan simulate.Options)
	go func() {
		defer close(worlds)
		for seed := range count {
			o := world(seed)
			switch {
			case seed%200 == 7:
				o = large(seed)
			case seed%50 == 11:
				o = simulate.Options{Seed: seed, Nodes: 50, Sources: 500, Carriers: 40, Reach: 20}
			case seed%100 == 23:
				o = simulate.Options{Seed: seed, Nodes: 3, Carriers: 3, Slow: true, Duration: 50 * time.Hour, Calm: 2 * time.Hour}
			}
			select {
			case worlds <- o:
			case <-t.Context().Done():
				return
			}
		}
	}()
	var all sync.WaitGroup
	for range max(1, runtime.NumCPU()-1) {
		all.Go(func() {
			for o := range worlds {
				if r := run(t, o); r.Options.Nodes >= 50 {
					tell(t, r)
				}
			}
		})
	}
	all.Wait()
}

func large(seed uint64) simulate.Options {
	return simulate.Options{Seed: seed, Nodes: 1000, Sources: 10_000, Carriers: 300, Reach: 30, Duration: 150 * time.Second, Calm: 75 * time.Second}
}

func tell(t *testing.T, r *simulate.Result) {
	t.Logf("%s: took %s for %d events; decisions mean %s, most %s; a report %s; %.1f etcd writes (%.1f records) a second, most %d; %d elections, %d takeovers, held again after %s; use %.3f, with turns %.3f",
		r.Options, r.Took.Round(time.Millisecond), r.Events, r.DecisionMean, r.DecisionMax, r.ReportMean,
		r.WritesPerSecond, r.RecordsPerSecond, r.MostWrites, r.Elections, r.Takeovers, r.HeldAfter, r.UseFull, r.UseTurns)
}

// BenchmarkLarge runs the largest world once each time and tells its figures.
func BenchmarkLarge(b *testing.B) {
	for b.Loop() {
		r, err := simulate.Run(b.Context(), large(7))
		if err != nil || r.Total > 0 {
			b.Fatal(err, r.Violations)
		}
		b.ReportMetric(float64(r.DecisionMean.Microseconds()), "µs/decision")
		b.ReportMetric(float64(r.DecisionMax.Microseconds()), "µs/decision-max")
		b.ReportMetric(float64(r.ReportMean.Nanoseconds()), "ns/report")
		b.ReportMetric(r.WritesPerSecond, "writes/s")
	}
}
