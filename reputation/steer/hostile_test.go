package steer_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// TestAbsurdCounts: a node that is broken, or lies, reports counts near the end of
// their range. Sums must not go round to small ones: who was refused four thousand
// million times was not delivered for.
func TestAbsurdCounts(t *testing.T) {
	const half, most = 1 << 31, math.MaxUint32
	d := newDrive(t, mustSet(t, source("s1"), source("s2"), carrierOf("gmx", policy.Carrier{})))
	for range 5 {
		d.now = d.now.Add(time.Second)
		for _, node := range []string{"a", "b"} {
			d.c.Observe(d.now, node, []exchange.Tally{row("gmx", "s2", "delivered", 5), row("gmx", "s1", "rate", half), row("gmx", "s1", "temporary", most), row("gmx", "s1", "complained", most)}, nil)
		}
		d.list = append(d.list, d.c.Decide(d.now)...)
	}
	if c := d.course("gmx", "s1"); c == nil || c.State == policy.StateHealthy || rateOf(c) > 1 {
		t.Errorf("%s: %+v", actions(d.list), c)
	}
	if c := d.course("gmx", "s2"); c != nil {
		t.Errorf("the other source: %+v", c)
	}
	for _, s := range d.c.Scores(d.now, steer.Filter{Source: "s1"}) {
		for _, w := range s.Windows {
			if n := w.Counts["rate"]; n < 1_000_000 {
				t.Errorf("%d throttled in %s: the count went round", n, w.Span)
			}
		}
		if s.Score > 10 {
			t.Errorf("score %d", s.Score)
		}
	}
	// What is true afterwards counts again, within the days that counts are kept.
	d.now = d.now.Add(4 * 24 * time.Hour)
	d.ticks(2000, row("gmx", "s1", "delivered", 10))
	if s := d.c.Scores(d.now, steer.Filter{Source: "s1"}); len(s) != 1 || s[0].Windows[2].Counts["rate"] > 0 {
		t.Errorf("%+v", s)
	}
}

// TestAClockThatGoesBack: nothing is decided twice, no rest grows, and what comes
// when the clock is right again is seen.
func TestAClockThatGoesBack(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{})))
	d.ticks(30, row("gmx", "s1", "delivered", 20))
	d.tick(row("gmx", "s1", "blocked", 20))
	before := *d.course("gmx", "s1")
	n := len(d.list)
	back := d.now
	for i := range 300 {
		d.now = back.Add(-time.Hour + time.Duration(i)*time.Second)
		d.c.Observe(d.now, "node-1", nil, nil)
		d.list = append(d.list, d.c.Decide(d.now)...)
	}
	if after := d.course("gmx", "s1"); len(d.list) != n || !reflect.DeepEqual(*after, before) {
		t.Errorf("%s, %+v, was %+v", actions(d.list[n:]), after, before)
	}
	d.now = before.Rests.Time()
	d.ticks(2)
	if got := d.course("gmx", "s1"); got.State != policy.StateTrial {
		t.Errorf("%s: %+v", actions(d.list), got)
	}
	seen := map[string]bool{}
	for _, x := range d.list {
		if seen[x.ID] {
			t.Errorf("%s twice", x.ID)
		}
		seen[x.ID] = true
	}
}
