package steer_test

import (
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// pair is two sources at one carrier, each with its own limit there.
type pair struct {
	c      *steer.Controller
	now    time.Time
	plants [2]*plant
	sent   [2]float64
	rates  [2]float64 // in force
}

var pairNames = [2]string{"s1", "s2"}

func (p *pair) run(span time.Duration) {
	for end := p.now.Add(span); p.now.Before(end); {
		var ts []exchange.Tally
		for i, name := range pairNames {
			p.sent[i] += p.rates[i]
			n := int(p.sent[i])
			p.sent[i] -= float64(n)
			taken, throttled, disliked, blocked := p.plants[i].send(p.now.Sub(epoch).Seconds(), n)
			for _, t := range []struct {
				category string
				n        int
			}{{"delivered", taken}, {"rate", throttled}, {"reputation", disliked}, {"blocked", blocked}} {
				if t.n > 0 {
					ts = append(ts, exchange.Tally{Carrier: "gmx", Source: name, Tenant: "acme", Category: t.category, N: uint32(t.n)})
				}
			}
		}
		p.now = p.now.Add(time.Second)
		p.c.Observe(p.now, "node-1", ts, nil)
		p.c.Decide(p.now)
		for _, s := range p.c.Steering("gmx").Lanes {
			for i, name := range pairNames {
				if s.Source == name {
					p.rates[i] = rateOf(&s.Course)
				}
			}
		}
	}
}

// wake doubles both limits; it is how long each source takes to go a fifth beyond
// what it had, up to an hour.
func (p *pair) wake() (took [2]time.Duration) {
	had, from := [2]float64{p.plants[0].limit, p.plants[1].limit}, p.now
	for _, x := range p.plants {
		x.limit *= 2
	}
	for p.now.Sub(from) < time.Hour && (took[0] == 0 || took[1] == 0) {
		p.run(time.Second)
		for i := range took {
			if took[i] == 0 && p.rates[i] > 1.2*had[i] {
				took[i] = p.now.Sub(from)
			}
		}
	}
	return took
}

func newPair(t *testing.T, first, second plant) *pair {
	start := &policy.Rate{N: 20, Per: time.Second}
	set := mustSet(t, source("s1"), source("s2"), carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Start: start}}))
	p := &pair{c: steer.New(set, epoch), now: epoch, plants: [2]*plant{&first, &second}, rates: [2]float64{20, 20}}
	p.run(2 * time.Hour)
	return p
}

// TestOneSourceTellsTheOthers: when a carrier takes more from all, the source that
// is the last to look follows the first soon, and looks in vain once where it was
// the first alone.
func TestOneSourceTellsTheOthers(t *testing.T) {
	wary := plant{limit: 15, burst: 5, forgive: 5, blockAt: 100, blockFor: 600}
	var apart time.Duration
	for _, limit := range []float64{12, 11, 10, 9, 7, 6} { // they look at different moments
		other := wary
		other.limit = limit
		p := newPair(t, wary, other)
		took := p.wake()
		t.Logf("beside %v/s: found after %s and %s", limit, took[0], took[1])
		if took[0] == 0 || took[1] == 0 {
			t.Errorf("beside %v/s: found after %s and %s; never is 0", limit, took[0], took[1])
		}
		apart = max(apart, (took[1] - took[0]).Abs())
	}
	if apart > 90*time.Second {
		t.Errorf("one source found it %s after the other", apart)
	}

	p := newPair(t, wary, wary)
	p.plants[0].limit *= 2
	before := p.plants[1].delivered
	p.run(time.Hour)
	if got := (p.plants[1].delivered - before) / 3600; got < 0.9*wary.limit || p.plants[1].blocks > 0 {
		t.Errorf("the source that may not send more delivers %.1f/s of %v and was blocked %d times", got, wary.limit, p.plants[1].blocks)
	}
}
