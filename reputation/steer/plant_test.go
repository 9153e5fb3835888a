package steer_test

import (
	"math"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

var epoch = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func mustSet(t testing.TB, rs ...policy.Resource) *policy.Set {
	t.Helper()
	set, problems := policy.New(rs)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func carrierOf(name string, c policy.Carrier) policy.Resource {
	if len(c.Domains) == 0 {
		c.Domains = []string{name + ".example"}
	}
	return policy.Resource{Kind: policy.KindCarrier, Name: name, Spec: &c}
}

// plant is a carrier that a source sends to: it takes so many a second, refuses
// what is more, and punishes. It is not a copy of bench/carriers, but has its
// shape: strikes that lapse with time, a step that defers everything, and a
// block that doubles.
type plant struct {
	limit, burst  float64 // messages a second
	forgive       float64 // seconds for each strike
	deferAt       float64 // strikes from which all is put off; 0 never
	blockAt       float64
	blockFor      float64 // seconds
	chance        float64 // part that is put off whatever the rate
	tokens        float64
	strikes       float64
	blockedUntil  float64
	blocks, row   int
	delivered     float64
	refusedTotal  float64
	carryD, carry float64
}

// send offers n messages in a second; what comes back are whole numbers of
// delivered, throttled, disliked, and blocked.
func (p *plant) send(now float64, n int) (taken, throttled, disliked, blocked int) {
	p.tokens = min(p.burst, p.tokens) + p.limit
	p.strikes = max(0, p.strikes-1/p.forgive)
	for range n {
		switch {
		case now < p.blockedUntil:
			blocked++
			p.strikes = min(p.strikes+1, 2*p.blockAt)
		case p.deferAt > 0 && p.strikes >= p.deferAt:
			disliked++
			p.strike(now)
		case p.tokens >= 1:
			p.tokens--
			p.carry += p.chance
			if p.carry >= 1 {
				p.carry--
				throttled++
				continue
			}
			taken++
		default:
			throttled++
			p.strike(now)
		}
	}
	p.delivered += float64(taken)
	return
}

func (p *plant) strike(now float64) {
	p.strikes = min(p.strikes+1, 2*max(p.deferAt, p.blockAt, 1))
	if p.blockAt > 0 && p.strikes >= p.blockAt {
		if now-p.blockedUntil > 900 {
			p.row = 0
		}
		span := p.blockFor * math.Pow(2, float64(p.row))
		p.row++
		p.blocks++
		p.blockedUntil = now + span
		p.strikes = p.blockAt / 2
	}
}

// loop is a source, its node and the control plane around a plant. What is
// decided holds from the second tick after: the report of a second, the decision,
// and the way back.
type loop struct {
	t       testing.TB
	c       *steer.Controller
	now     time.Time
	carrier string
	source  string
	demand  float64
	plant   *plant
	pending [2]*policy.Course
	carry   float64
	list    []keyspace.Decision
	offered float64
	trace   func(l *loop, course *policy.Course, sent int, k [4]int)
}

func (l *loop) step() {
	course := l.pending[0]
	rate := l.demand
	if course != nil {
		if course.Rate != nil {
			rate = min(rate, float64(course.Rate.N)/course.Rate.Per.Seconds())
		}
		if course.Resting(l.now) {
			rate = 0
		}
	}
	l.carry += rate
	n := int(l.carry)
	l.carry -= float64(n)
	taken, throttled, disliked, blocked := l.plant.send(l.now.Sub(epoch).Seconds(), n)
	l.offered += float64(n)
	l.now = l.now.Add(time.Second)
	var ts []exchange.Tally
	for cat, v := range map[string]int{"delivered": taken, "rate": throttled, "reputation": disliked, "blocked": blocked} {
		if v > 0 {
			ts = append(ts, exchange.Tally{Carrier: l.carrier, Source: l.source, Tenant: "acme", Category: cat, N: uint32(v)})
		}
	}
	l.c.Observe(l.now, "node-1", ts, nil)
	l.list = append(l.list, l.c.Decide(l.now)...)
	l.pending[0] = l.pending[1]
	l.hear()
	if l.trace != nil {
		l.trace(l, course, n, [4]int{taken, throttled, disliked, blocked})
	}
}

// hear takes what is in force.
func (l *loop) hear() {
	l.pending[1] = nil
	for _, s := range l.c.Steering(l.carrier).Lanes {
		if s.Source == l.source {
			l.pending[1] = &s.Course
		}
	}
}

func (l *loop) run(span time.Duration) {
	for end := l.now.Add(span); l.now.Before(end); {
		l.step()
	}
}

func newLoop(t testing.TB, set *policy.Set, p *plant, demand float64) *loop {
	l := &loop{t: t, c: steer.New(set, epoch), now: epoch, carrier: "gmx", source: "s1", demand: demand, plant: p}
	l.hear()
	l.pending[0] = l.pending[1]
	return l
}
