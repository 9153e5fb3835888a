package carriers_test

import (
	"strings"
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

// TestPaceShortensWaits: gmx's hour after "too much" is a minute in a world that is
// 60 times as quick, in a policy that stands; at its own pace there is no rule.
func TestPaceShortensWaits(t *testing.T) {
	profiles, err := carriers.Named("gmx", "yahoo", "docomo")
	if err != nil {
		t.Fatal(err)
	}
	f := farm(t, carriers.FarmOptions{Profiles: profiles})
	for pace, want := range map[int]bool{0: false, 60: true} {
		text, err := f.Policy(carriers.PolicyOptions{Pace: pace, Retry: []policy.Duration{1e9}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), "gmx-quicker-1") && strings.Contains(string(text), "retry_after: 1m"); got != want {
			t.Errorf("at the pace %d there is a rule of a minute: %t, want %t\n%s", pace, got, want, text)
		}
	}
}

// TestQuicker: ten messages a minute at a pace of 60 are ten a second, what is held
// against a source is forgiven in a 60th of the time, and the shipped profile stays
// as it was.
func TestQuicker(t *testing.T) {
	profiles, err := carriers.Named("gmx", "icloud")
	if err != nil {
		t.Fatal(err)
	}
	gmx, icloud := profiles[0], profiles[1]
	was := *gmx.PerSource.Rate
	q, i := gmx.Quicker(60), icloud.Quicker(60)
	if got := q.PerSource.Rate; got.N != 60*was.N || got.Per != was.Per || got.BurstOrDefault() != was.BurstOrDefault() || *gmx.PerSource.Rate != was {
		t.Errorf("%v is %v, and %v after it", was, got, gmx.PerSource.Rate)
	}
	if got, want := q.Punish.Block.For, gmx.Punish.Block.For/60; got != want || q.Punish.Block.Strikes != gmx.Punish.Block.Strikes {
		t.Errorf("a block of %d strikes is %s, want %s", q.Punish.Block.Strikes, got, want)
	}
	if q.Punish.Forgive != gmx.Punish.Forgive/60 || q.Greylist.Wait != gmx.Greylist.Wait/60 || q.Latency.Dot.Median != gmx.Latency.Dot.Median {
		t.Errorf("forgives in %s, greylists for %s, answers in %s", q.Punish.Forgive, q.Greylist.Wait, q.Latency.Dot.Median)
	}
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		at   time.Duration
		slow bool
	}{{0, true}, {2 * time.Second, true}, {4 * time.Second, false}, {59 * time.Second, false}, {61 * time.Second, true}} {
		if got := i.TopOfHour.In(noon.Add(tt.at)); got != tt.slow {
			t.Errorf("%s past the hour: in its first moments %t, want %t", tt.at, got, tt.slow)
		}
	}
	if one := gmx.Quicker(1); one != gmx {
		t.Error("a pace of 1 made another profile")
	}
}
