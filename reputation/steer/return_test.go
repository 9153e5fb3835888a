package steer_test

import (
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// TestComesBackAfterALongFall: a source that fell from favour, to less than the
// floor, for three hours, has half of its limit again two hours after it is liked
// as before, also if the fall came just after a probe. What a fall costs is not
// the price of a probe: it used to be counted as one, and then the next came six
// hours later.
func TestComesBackAfterALongFall(t *testing.T) {
	for minute := range 20 {
		p := plant{limit: 0.11, burst: 3, forgive: 60}
		set := mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Start: perHour(0.11), Ceiling: perHour(1)}}))
		l := newLoop(t, set, &p, 1)
		l.run(2*time.Hour + time.Duration(4*minute)*time.Minute)
		p.limit = 0.01
		l.run(3 * time.Hour)
		p.limit = 0.11
		l.run(2 * time.Hour)
		before := p.delivered
		l.run(time.Hour)
		if part := (p.delivered - before) / 3600 / p.limit; part < 0.5 {
			t.Errorf("a fall %d minutes later: %.2f of the limit two hours after it was over", 4*minute, part)
		}
	}
}

// TestASlowLaneFindsARaisedLimit: at two messages a minute, a limit ten times as
// high is found within an hour.
func TestASlowLaneFindsARaisedLimit(t *testing.T) {
	p := plant{limit: 2.0 / 60, burst: 2, forgive: 90, deferAt: 8, blockAt: 20, blockFor: 7200}
	l := newLoop(t, gmx(t, p.limit), &p, 1)
	l.run(3 * time.Hour)
	p.limit *= 10
	l.run(time.Hour)
	before := p.delivered
	l.run(30 * time.Minute)
	if part := (p.delivered - before) / 1800 / p.limit; part < 0.8 || p.blocks > 0 {
		t.Errorf("%.2f of the raised limit is used an hour later, %d blocks", part, p.blocks)
	}
}

// TestNoStepIsShorterThanTheWayRound: where policy makes steps of seconds, none is
// taken before the signs of the one before it can have come.
func TestNoStepIsShorterThanTheWayRound(t *testing.T) {
	p := plants["forgiving"]
	set := mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Start: perHour(10), Every: policy.Duration(3 * time.Second)}}))
	l := newLoop(t, set, &p, 300)
	var rose time.Time
	last, steps := 10.0, 0
	l.trace = func(l *loop, c *policy.Course, _ int, _ [4]int) {
		if v := rateOf(c); v > last*1.001 {
			if !rose.IsZero() && l.now.Sub(rose) < 5*time.Second {
				t.Errorf("a step %s after the one before it", l.now.Sub(rose))
			}
			rose = l.now
			steps++
		}
		last = rateOf(c)
	}
	l.run(2 * time.Minute)
	if steps < 10 {
		t.Errorf("only %d steps", steps)
	}
}

// TestWhatIsHardlyTriedIsNotTooFast: when all of a few are refused, at a rate far
// below the one in force, less would be refused too. The source rests, and the
// rate that was known is not forgotten.
func TestWhatIsHardlyTriedIsNotTooFast(t *testing.T) {
	d := newDrive(t, gmx(t, 10))
	d.ticks(30, row("gmx", "s1", "delivered", 10))
	d.ticks(2, row("gmx", "s1", "delivered", 6), row("gmx", "s1", "rate", 4))
	d.ticks(10)
	d.ticks(2, row("gmx", "s1", "rate", 1))
	if got := d.course("gmx", "s1"); got == nil || got.State != policy.StateResting {
		t.Errorf("%s: %+v", actions(d.list), got)
	}
	if s := d.c.Scores(d.now, steer.Filter{Source: "s1"}); len(s) != 1 || s[0].LastGood == nil || float64(s[0].LastGood.N)/s[0].LastGood.Per.Seconds() < 3 {
		t.Errorf("%+v", s)
	}
}

// TestRestsAreForgivenAtTheirPace: where rests are of a minute, those of an hour
// ago do not make the next one long.
func TestRestsAreForgivenAtTheirPace(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Every: policy.Duration(5 * time.Second), Rest: policy.Duration(time.Minute)}})))
	for range 4 {
		d.ticks(5, row("gmx", "s1", "rate", 20))
		d.ticks(61)
	}
	d.ticks(20*60, row("gmx", "s1", "delivered", 1))
	n := len(d.list)
	d.ticks(1, row("gmx", "s1", "rate", 50))
	for _, x := range d.list[n:] {
		if x.Action == "rest" && x.Until.Sub(x.At) < 15*time.Second {
			return
		}
	}
	t.Errorf("%+v", d.list[n:])
}
