package steer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// source is one whose name is s and a number.
func source(name string) policy.Resource {
	return policy.Resource{Kind: policy.KindSource, Name: name, Spec: &policy.Source{Address: "192.0.2." + name[1:]}}
}

func perHour(v float64) *policy.Rate { return &policy.Rate{N: int64(v * 3600), Per: time.Hour} }

// gmx is a policy with one carrier and one source that begins at a rate.
func gmx(t testing.TB, start float64) *policy.Set {
	return mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Start: perHour(start)}}))
}

// drive is a controller that is fed by hand.
type drive struct {
	t    testing.TB
	c    *steer.Controller
	now  time.Time
	list []keyspace.Decision
}

func newDrive(t testing.TB, set *policy.Set) *drive {
	return &drive{t: t, c: steer.New(set, epoch), now: epoch}
}

// tick is a second in which one node saw the rows.
func (d *drive) tick(rows ...exchange.Tally) {
	d.now = d.now.Add(time.Second)
	d.c.Observe(d.now, "node-1", rows, nil)
	d.list = append(d.list, d.c.Decide(d.now)...)
}

func (d *drive) ticks(n int, rows ...exchange.Tally) {
	for range n {
		d.tick(rows...)
	}
}

func row(carrier, source, category string, n uint32) exchange.Tally {
	return exchange.Tally{Carrier: carrier, Source: source, Tenant: "acme", Category: category, N: n}
}

// course is what is in force on a source; nil is nothing.
func (d *drive) course(carrier, source string) *policy.Course {
	for _, l := range d.c.Steering(carrier).Lanes {
		if l.Source == source {
			return &l.Course
		}
	}
	return nil
}

// actions are the decisions so far, as "slow/throttled".
func actions(list []keyspace.Decision) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s/%s ", d.Action, d.Rule)
	}
	return strings.TrimSpace(b.String())
}

func rateOf(c *policy.Course) float64 {
	if c == nil || c.Rate == nil {
		return 0
	}
	return float64(c.Rate.N) / c.Rate.Per.Seconds()
}

// plants have the shape of carriers that are known; the limits are a second's.
var plants = map[string]plant{
	"forgiving":   {limit: 100, burst: 20, forgive: 1, deferAt: 0, blockAt: 0},
	"gmail":       {limit: 100, burst: 20, forgive: 1, deferAt: 30, blockAt: 100, blockFor: 60},
	"gmx":         {limit: 20, burst: 5, forgive: 10, deferAt: 5, blockAt: 20, blockFor: 120},
	"au":          {limit: 10, burst: 2, forgive: 5, blockAt: 20, blockFor: 120},
	"slow":        {limit: 0.5, burst: 3, forgive: 30, deferAt: 15, blockAt: 45, blockFor: 3600},
	"very slow":   {limit: 0.1, burst: 2, forgive: 60, deferAt: 10, blockAt: 30, blockFor: 3600},
	"with chance": {limit: 20, burst: 5, forgive: 1, deferAt: 30, blockAt: 100, blockFor: 60, chance: 0.003},
}

// TestConverges: from half of the hidden limit, under three times as much mail as
// the carrier takes, the controller is near the limit within an hour, stays there
// without a block, and does not decide all the time.
func TestConverges(t *testing.T) {
	for name, p := range plants {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, gmx(t, p.limit/2), &p, 3*p.limit)
			l.run(time.Hour)
			before, decided := p.delivered, len(l.list)
			l.run(2 * time.Hour)
			part := (p.delivered - before) / (2 * 3600 * p.limit)
			if part < 0.9 {
				t.Errorf("%.3f of the limit is used", part)
			}
			if p.blocks > 0 {
				t.Errorf("%d blocks", p.blocks)
			}
			if n := len(l.list) - decided; n > 2*20 {
				t.Errorf("%d decisions in two hours", n)
			}
			t.Logf("%.3f of the limit, %.1f decisions an hour", part, float64(len(l.list)-decided)/2)
		})
	}
}

// TestWithoutSteering is the control of TestConverges: the same carriers block who
// is not steered, and take far less from him.
func TestWithoutSteering(t *testing.T) {
	for _, name := range []string{"gmail", "gmx", "au"} {
		p := plants[name]
		l := newLoop(t, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Mode: policy.ModeOff, Start: perHour(p.limit / 2)}})), &p, 3*p.limit)
		l.run(time.Hour)
		if part := p.delivered / (3600 * p.limit); p.blocks == 0 || part > 0.5 {
			t.Errorf("%s: %d blocks, %.2f of the limit: nothing is put to the test", name, p.blocks, part)
		}
	}
}

// TestFindsARaisedLimit: what the carrier takes has doubled; at the latest after
// the longest wait between probes and the steps up, it is used.
func TestFindsARaisedLimit(t *testing.T) {
	for _, name := range []string{"forgiving", "gmail", "au", "slow"} {
		t.Run(name, func(t *testing.T) {
			p := plants[name]
			l := newLoop(t, gmx(t, p.limit/2), &p, 6*p.limit)
			l.run(3 * time.Hour)
			p.limit *= 2
			for took := time.Duration(0); ; took += 5 * time.Minute {
				before := p.delivered
				l.run(5 * time.Minute)
				if p.delivered-before >= 0.9*300*p.limit {
					t.Logf("after %s", took)
					break
				}
				if took > 40*time.Minute {
					t.Fatalf("after %s %.3f of the new limit is used", took, (p.delivered-before)/300/p.limit)
				}
			}
			if p.blocks > 0 {
				t.Errorf("%d blocks", p.blocks)
			}
		})
	}
}

// TestObeysALoweredLimit: within ten seconds of the first refusals there is no
// more mail than the carrier takes.
func TestObeysALoweredLimit(t *testing.T) {
	p := plants["forgiving"]
	l := newLoop(t, gmx(t, 50), &p, 300)
	l.run(2 * time.Hour)
	p.limit /= 2
	l.run(10 * time.Second)
	l.offered = 0
	l.run(20 * time.Second)
	if l.offered > 20*p.limit {
		t.Errorf("%.1f/s are offered to a limit of %v/s", l.offered/20, p.limit)
	}
}

// TestSignsOfMailBeforeACutCountOnce: what was sent before a decrease goes on to be
// refused for some seconds, and means nothing new.
func TestSignsOfMailBeforeACutCountOnce(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.ticks(60, row("gmx", "s1", "delivered", 100))
	for range 5 {
		d.tick(row("gmx", "s1", "delivered", 50), row("gmx", "s1", "rate", 50))
	}
	if got := actions(d.list); got != "slow/throttled" {
		t.Errorf("decided %s", got)
	}
	// It goes on although the decrease has had its time.
	for range 8 {
		d.tick(row("gmx", "s1", "delivered", 50), row("gmx", "s1", "rate", 50))
	}
	if got := actions(d.list); got != "slow/throttled slow/throttled" {
		t.Errorf("then %s", got)
	}
}

// TestADecreaseStartsFromWhatWasTaken, not from what policy allows.
func TestADecreaseStartsFromWhatWasTaken(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{PerSource: policy.Limits{Rate: &policy.Rate{N: 10_000, Per: time.Second}}, Steering: &policy.Steer{Decrease: 60}})))
	d.ticks(60, row("gmx", "s1", "delivered", 100))
	d.tick(row("gmx", "s1", "delivered", 50), row("gmx", "s1", "rate", 50))
	if got := rateOf(d.course("gmx", "s1")); got < 29 || got > 31 {
		t.Errorf("%v/s after 50/s were taken; want 60 %% of them", got)
	}
}

// TestNodesAddUp: one source is one address, wherever its signs were seen.
func TestNodesAddUp(t *testing.T) {
	set := mustSet(t, carrierOf("gmx", policy.Carrier{}))
	var got [2]string
	for i := range got {
		c := steer.New(set, epoch)
		now := epoch
		for s := range 120 {
			now = now.Add(time.Second)
			n := uint32(10)
			rows := []exchange.Tally{row("gmx", "s1", "delivered", 2*n)}
			if s > 60 {
				rows = append(rows, row("gmx", "s1", "rate", n))
			}
			if i == 0 {
				c.Observe(now, "node-1", rows, nil)
			} else {
				for k := range rows {
					rows[k].N /= 2
				}
				c.Observe(now, "node-1", rows, nil)
				c.Observe(now, "node-1", rows, nil)
			}
			for _, d := range c.Decide(now) {
				got[i] += d.ID + d.Action + d.From + d.To + d.Why + "\n"
			}
		}
	}
	if got[0] != got[1] || got[0] == "" {
		t.Errorf("one node:\n%stwo nodes:\n%s", got[0], got[1])
	}
}

// TestWhatIsNoSign: replies that say nothing about how fast the source is.
func TestWhatIsNoSign(t *testing.T) {
	for _, category := range []string{"unknown-user", "mailbox-full", "filtered", "content", "auth", "size", "policy", "per-connection", "greylist", "protocol", "no-mail"} {
		d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{}), policy.Resource{Kind: policy.KindReputation, Name: policy.DefaultName, Spec: &policy.Reputation{Guard: &policy.Guard{Mode: policy.ModeOff}}}))
		d.ticks(300, row("gmx", "s1", "delivered", 10), row("gmx", "s1", category, 10))
		if len(d.list) > 0 {
			t.Errorf("%s: %s", category, actions(d.list))
		}
	}
}

// TestOneRecipientIsNotTheSource: a few recipients that get too much are theirs;
// when it is said of many it is the source.
func TestOneRecipientIsNotTheSource(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	for i := range 600 {
		rows := []exchange.Tally{row("gmx", "s1", "delivered", 10)}
		if i%10 == 0 {
			rows = append(rows, row("gmx", "s1", "rcpt-rate", 1))
		}
		d.tick(rows...)
	}
	if len(d.list) > 0 {
		t.Fatalf("for one in a hundred: %s", actions(d.list))
	}
	d.ticks(60, row("gmx", "s1", "delivered", 5), row("gmx", "s1", "rcpt-rate", 5))
	if !strings.Contains(actions(d.list), "slow") {
		t.Errorf("for every second: %s", actions(d.list))
	}
}

// TestGreylistingOfAKnownSource is a sign, unlike that of first contact.
func TestGreylistingOfAKnownSource(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.ticks(1800, row("gmx", "s1", "delivered", 5))
	d.ticks(1200, row("gmx", "s1", "delivered", 1), row("gmx", "s1", "greylist", 9))
	if !strings.Contains(actions(d.list), "slow") && !strings.Contains(actions(d.list), "rest") {
		t.Errorf("decided %q", actions(d.list))
	}
}

// TestAnOutageIsNoVerdict: when nobody gets through, sources are slowed, never
// rested, and what was before goes on when it is over.
func TestAnOutageIsNoVerdict(t *testing.T) {
	for _, category := range []string{"temporary", "network"} {
		d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
		all := func(category string, n uint32) (rows []exchange.Tally) {
			for _, s := range []string{"s1", "s2", "s3"} {
				rows = append(rows, row("gmx", s, category, n))
			}
			return rows
		}
		d.ticks(60, all("delivered", 20)...)
		d.ticks(20, all(category, 20)...)
		d.ticks(1200, all(category, 1)...)
		if got := actions(d.list); strings.Contains(got, "rest") || strings.Contains(got, "block") || !strings.Contains(got, "slow/carrier-in-trouble") {
			t.Errorf("%s: %s", category, got)
		}
		d.ticks(600, all("delivered", 20)...)
		for _, s := range []string{"s1", "s2", "s3"} {
			if x := d.course("gmx", s); x != nil {
				t.Errorf("%s: ten minutes after it %s is still %s at %v", category, s, x.State, x.Rate)
			}
		}
	}
}

// TestASourceThatIsCutOff while others get through is a throttle without a reply.
func TestASourceThatIsCutOff(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.ticks(60, row("gmx", "s1", "delivered", 20), row("gmx", "s2", "delivered", 20))
	d.ticks(5, row("gmx", "s1", "network", 20), row("gmx", "s2", "delivered", 20))
	if len(d.list) == 0 || d.list[0].Source != "s1" || d.list[0].Action != "slow" || !strings.Contains(d.list[0].Why, "other sources get through") {
		t.Errorf("decided %+v", d.list)
	}
	if d.course("gmx", "s2") != nil {
		t.Error("the source that gets through is bounded too")
	}
}

// TestConnectionSignsLowerConnections, and leave the rate alone; later they rise.
func TestConnectionSignsLowerConnections(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{PerSource: policy.Limits{Connections: 8}})))
	d.ticks(10, row("gmx", "s1", "delivered", 20))
	d.ticks(2, row("gmx", "s1", "delivered", 20), row("gmx", "s1", "connections", 4))
	x := d.course("gmx", "s1")
	if x == nil || x.Connections != 4 || x.Rate != nil || x.State != policy.StateSlowed {
		t.Fatalf("the course is %+v after %s", x, actions(d.list))
	}
	for n := 0; n < 4*3600 && d.course("gmx", "s1") != nil; n++ {
		d.tick(row("gmx", "s1", "delivered", 20))
	}
	if x := d.course("gmx", "s1"); x != nil {
		t.Errorf("after four hours without a sign the course is %+v", x)
	}
}

// TestSignsThatDoNotFollowTheRate are no reason to go down for ever.
func TestSignsThatDoNotFollowTheRate(t *testing.T) {
	p := plant{limit: 1000, burst: 100, forgive: 1, chance: 0.03}
	l := newLoop(t, gmx(t, 50), &p, 40)
	l.run(4 * time.Hour)
	before := p.delivered
	l.run(time.Hour)
	if part := (p.delivered - before) / 3600 / 40; part < 0.85 {
		t.Errorf("a carrier that puts off three of a hundred takes %.2f of the mail", part)
	}
}

// TestAStartIsInForceBeforeTheFirstMail, and grows where it is used.
func TestAStartIsInForceBeforeTheFirstMail(t *testing.T) {
	d := newDrive(t, gmx(t, 10))
	if got := rateOf(d.course("gmx", "s1")); got != 10 {
		t.Fatalf("a new source may send %v/s", got)
	}
	for range 600 {
		d.tick(row("gmx", "s1", "delivered", uint32(rateOf(d.course("gmx", "s1")))))
	}
	if got := rateOf(d.course("gmx", "s1")); got < 100 {
		t.Errorf("after ten minutes without a sign it is at %v/s", got)
	}
	if len(d.list) > 0 {
		t.Errorf("a start is no decision: %s", actions(d.list))
	}
	idle := newDrive(t, gmx(t, 10))
	idle.ticks(600, row("gmx", "s1", "delivered", 1))
	if got := rateOf(idle.course("gmx", "s1")); got != 10 {
		t.Errorf("a rate that is not used rose to %v/s", got)
	}
}

// TestTheCeiling holds from the first mail on, and after everything else.
func TestTheCeiling(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Ceiling: &policy.Rate{N: 10, Per: time.Second}}})))
	if x := d.course("gmx", "s1"); rateOf(x) != 10 || x.State != policy.StateHealthy {
		t.Fatalf("before the first mail: %+v", x)
	}
	d.ticks(60, row("gmx", "s1", "delivered", 10))
	d.ticks(3, row("gmx", "s1", "delivered", 5), row("gmx", "s1", "rate", 5))
	if x := d.course("gmx", "s1"); rateOf(x) > 5 || x.State != policy.StateSlowed {
		t.Errorf("after signs: %+v", x)
	}
	for range 4 * 3600 {
		d.tick(row("gmx", "s1", "delivered", uint32(rateOf(d.course("gmx", "s1"))+0.5)))
	}
	if x := d.course("gmx", "s1"); rateOf(x) != 10 || x.State != policy.StateHealthy {
		t.Errorf("hours later: %+v", x)
	}
}

// TestOneStraySignDoesNotHoldARate: a slow lane that comes back after a decrease
// meets one sign by chance. It waits as long as a step takes, and not for the hundred
// messages that make one sign usual.
func TestOneStraySignDoesNotHoldARate(t *testing.T) {
	p := plant{limit: 0.5, burst: 2, forgive: 5, blockAt: 100, blockFor: 600}
	l := newLoop(t, gmx(t, 2), &p, 10)
	slowed := func() bool { return len(l.list) > 0 && l.list[len(l.list)-1].Action == "slow" }
	for !slowed() {
		l.run(time.Second)
	}
	l.run(10 * time.Second) // mail that was under way is back
	p.carry = 1             // the next one is put off whatever the rate
	took := time.Duration(0)
	for ; took < 10*time.Minute && (l.pending[1].Rate == nil || rateOf(l.pending[1]) < 0.85*p.limit); took += time.Second {
		l.run(time.Second)
	}
	t.Logf("back after %s, %s", took, actions(l.list))
	if took > 2*time.Minute {
		t.Errorf("a stray sign held the rate for %s; want two steps", took)
	}
}

// TestSteadyCarriers: where nothing changes and there is more mail than may go, a
// source delivers nearly all of what the carrier takes, and what is decided about it
// fits on a page. Quicker probes find a new limit sooner, and are paid for here.
func TestSteadyCarriers(t *testing.T) {
	const hours, most = 6, 12
	for name, p := range plants {
		l := newLoop(t, gmx(t, p.limit/2), &p, 6*p.limit)
		l.run(3 * time.Hour)
		decided, delivered := len(l.list), p.delivered
		l.run(hours * time.Hour)
		each, part := float64(len(l.list)-decided)/hours, (p.delivered-delivered)/(3600*hours*p.limit)
		t.Logf("%s: %.1f decisions an hour, %.1f %% of the limit", name, each, 100*part)
		if each > most || part < 0.95 || p.blocks > 0 {
			t.Errorf("%s: %.1f decisions an hour, %.1f %% of the limit, %d blocks; want %d, 95 %% and none", name, each, 100*part, p.blocks, most)
		}
	}
}
