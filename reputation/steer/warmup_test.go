package steer_test

import (
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

func warming(t testing.TB, w policy.WarmUp, more ...policy.Resource) *policy.Set {
	w.Source = "s1"
	return mustSet(t, append(more, source("s1"), carrierOf("gmx", policy.Carrier{}), policy.Resource{Kind: policy.KindWarmUp, Name: "new", Spec: &w})...)
}

// day sends so many messages over the next 24 hours, in a row each hour.
func (d *drive) day(delivered, signs int) {
	for hour := range 24 {
		if hour < 20 {
			d.tick(row("gmx", "s1", "delivered", uint32(delivered/20)))
			if hour == 3 && signs > 0 {
				d.ticks(3, row("gmx", "s1", "delivered", 1), row("gmx", "s1", "rate", uint32(signs)))
			}
		}
		next := epoch.Add(d.now.Sub(epoch).Truncate(time.Hour) + time.Hour)
		for d.now.Before(next) {
			d.now = d.now.Add(time.Minute)
			if d.now.After(next) {
				d.now = next
			}
			d.list = append(d.list, d.c.Decide(d.now)...)
		}
	}
}

func (d *drive) perDay() int64 {
	if x := d.course("gmx", "s1"); x != nil {
		return x.PerDay
	}
	return 0
}

// warmUps are the decisions about warm-ups.
func warmUps(list []keyspace.Decision) string {
	var only []keyspace.Decision
	for _, d := range list {
		if strings.HasPrefix(d.Action, "warm-up") {
			only = append(only, d)
		}
	}
	return actions(only)
}

// TestAWarmUp goes day by day to its end.
func TestAWarmUp(t *testing.T) {
	d := newDrive(t, warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200, 400}}))
	if x := d.course("gmx", "s1"); x == nil || x.State != policy.StateWarming || x.PerDay != 100 {
		t.Fatalf("before the first mail: %+v", x)
	}
	for i, want := range []int64{200, 400, 0} {
		d.day([]int{100, 200, 400}[i], 0)
		if got := d.perDay(); got != want {
			t.Errorf("after day %d: %d a day, want %d; %s", i+1, got, want, warmUps(d.list))
		}
	}
	if got := warmUps(d.list); got != "warm-up-day/day-went-well warm-up-day/day-went-well warm-up-done/last-day-went-well" {
		t.Error(got)
	}
	if p := d.c.Progress(d.now); len(p) != 1 || !p[0].Done || p[0].Days != 3 {
		t.Errorf("%+v", p)
	}
}

// TestADayThatDoesNotCount is had again.
func TestADayThatDoesNotCount(t *testing.T) {
	d := newDrive(t, warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200, 400}}))
	d.day(100, 0)
	d.day(60, 0) // less than half
	if got := d.perDay(); got != 200 || !strings.HasSuffix(warmUps(d.list), "warm-up-hold/too-little-mail") {
		t.Errorf("%d a day after a day that was hardly used: %s", got, warmUps(d.list))
	}
	d.day(200, 40)
	if got := d.perDay(); got != 200 || !strings.HasSuffix(warmUps(d.list), "warm-up-hold/bad-signs") {
		t.Errorf("%d a day after a day with signs of throttling: %s", got, warmUps(d.list))
	}
	if p := d.c.Progress(d.now); p[0].Day != 2 || p[0].Sent != 0 {
		t.Errorf("%+v", p)
	}
	d.day(200, 0)
	if got := d.perDay(); got != 400 {
		t.Errorf("%d a day after a good one", got)
	}
}

// TestABlockGoesBackADay at once.
func TestABlockGoesBackADay(t *testing.T) {
	d := newDrive(t, warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200, 400}}))
	d.day(100, 0)
	d.day(200, 0)
	d.tick(row("gmx", "s1", "delivered", 20))
	d.tick(row("gmx", "s1", "blocked", 5))
	x := d.course("gmx", "s1")
	if x == nil || x.State != policy.StateBlocked || x.PerDay != 200 || !strings.HasSuffix(warmUps(d.list), "warm-up-back/blocked") {
		t.Fatalf("%+v; %s", x, warmUps(d.list))
	}
	d.day(200, 0)
	if got := d.perDay(); got != 200 {
		t.Errorf("%d a day after the day of the block", got)
	}
}

// TestAPausedWarmUp keeps its day.
func TestAPausedWarmUp(t *testing.T) {
	d := newDrive(t, warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200}, Paused: true}))
	d.day(100, 0)
	if got := d.perDay(); got != 100 {
		t.Errorf("%d a day", got)
	}
	d.c.SetPolicy(d.now, warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200}}))
	d.day(100, 0)
	if got := d.perDay(); got != 200 {
		t.Errorf("%d a day after it went on", got)
	}
	d.c.SetPolicy(d.now, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{})))
	if x := d.course("gmx", "s1"); x != nil {
		t.Errorf("without the resource: %+v", x)
	}
}

// TestEachSiteOfTheDefaultCarrierIsWarmedUp: what holds for all sites holds also
// at one for which more was decided, and the busiest counts.
func TestEachSiteOfTheDefaultCarrierIsWarmedUp(t *testing.T) {
	set := warming(t, policy.WarmUp{Carriers: []string{policy.DefaultName}, Days: []int64{100, 200}})
	d := newDrive(t, set)
	at := func(site, category string, n uint32) {
		r := row(policy.DefaultName, "s1", category, n)
		r.Site = site
		d.tick(r)
	}
	for range 10 {
		at("mx.one.example", "delivered", 6)
		at("mx.two.example", "delivered", 3)
	}
	at("mx.two.example", "rate", 5)
	lanes := d.c.Steering(policy.DefaultName).Lanes
	if len(lanes) != 2 || lanes[0].Site != "" || lanes[0].PerDay != 100 || lanes[1].Site != "mx.two.example" || lanes[1].PerDay != 100 {
		t.Fatalf("%+v", lanes)
	}
	if p := d.c.Progress(d.now); p[0].Sent != 60 || p[0].Held == "" {
		t.Errorf("%+v", p)
	}
}

// TestAWarmUpSurvivesFailures: over three days with a new leader every few hours,
// whose snapshot is hours old or lost, the day never is a later one than it would
// have been, so nothing in force ever exceeds the curve.
func TestAWarmUpSurvivesFailures(t *testing.T) {
	set := warming(t, policy.WarmUp{Carriers: []string{"gmx"}, Days: []int64{100, 200, 400, 800}, Start: policy.At(epoch)})
	for name, keep := range map[string]bool{"with snapshots": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t, set)
			var kept []byte
			for hour := range 80 {
				most := []int64{100, 200, 400, 800}[min(hour/24, 3)]
				if got := d.perDay(); got > most || got == 0 {
					t.Fatalf("hour %d: %d a day, the curve has %d", hour, got, most)
				}
				d.tick(row("gmx", "s1", "delivered", uint32(d.perDay()/22)))
				kept = d.c.Snapshot("gmx") // an hour old when it is needed
				d.now = epoch.Add(time.Duration(hour+1) * time.Hour)
				d.list = append(d.list, d.c.Decide(d.now)...)
				if hour%7 == 6 {
					force := d.c.Steering("gmx")
					d.c = steer.New(set, d.now)
					if keep {
						if err := d.c.Restore("gmx", kept); err != nil {
							t.Fatal(err)
						}
					}
					d.c.Adopt("gmx", force)
				}
			}
			if got := d.perDay(); keep && got < 200 {
				t.Errorf("after three days with snapshots it is still at %d a day: %s", got, warmUps(d.list))
			}
		})
	}
}
