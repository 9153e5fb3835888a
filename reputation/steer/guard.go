package steer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// The guard's own bounds; the rest is policy.Guard.
const (
	// leastSample is the fewest recipients that say anything. Below a full sample
	// the ratio counts by its lower bound: it is that high with 99.5 % confidence.
	leastSample = 50
	confidence  = 2.576
	// leastComplaints are the fewest that hold anybody.
	leastComplaints = 5
	sampleChunks    = 12
	// leastRest is the fewest other recipients that can say that it is not the job.
	leastRest = 20
	maxJobs   = 64 // of a tenant at a carrier that are told apart
	warnEvery = time.Hour
)

// scope is what is known of a tenant, a tenant at a carrier, a job at a carrier
// or a sender domain.
type scope struct {
	cur     counts
	touched bool
	win     window
	sample  sample
	excused part // of cur: recipients of jobs that are held already
	jobs    []*scopeEntry
	held    bool
	warned  instant
}

// part is a number of recipients, and how many of them had what is watched.
type part struct{ n, unknown, auth uint32 }

func (p *part) add(o part) {
	p.n, p.unknown, p.auth = p.n+o.n, p.unknown+o.unknown, p.auth+o.auth
}

func partOf(n *counts) part {
	return part{n: n.replies() - n[network] - n[theirs], unknown: n[unknownUser], auth: n[auth]}
}

// sample is the last recipients: at least as many as asked for, once there are,
// and at most a chunk more.
type sample struct {
	chunks [sampleChunks + 1]part
	first  int
	count  int
	sum    part
}

// add takes in more recipients, and lets the oldest go.
func (s *sample) add(p part, size int) {
	if p.n == 0 {
		return
	}
	last := &s.chunks[(s.first+s.count+len(s.chunks)-1)%len(s.chunks)]
	if s.count == 0 || int(last.n) >= size/sampleChunks {
		if s.count == len(s.chunks) {
			s.drop()
		}
		last = &s.chunks[(s.first+s.count)%len(s.chunks)]
		*last = part{}
		s.count++
	}
	last.add(p)
	s.sum.add(p)
	for s.count > 1 && int(s.sum.n-s.chunks[s.first].n) >= size {
		s.drop()
	}
}

func (s *sample) drop() {
	o := s.chunks[s.first]
	s.sum.n, s.sum.unknown, s.sum.auth = s.sum.n-o.n, s.sum.unknown-o.unknown, s.sum.auth-o.auth
	s.first = (s.first + 1) % len(s.chunks)
	s.count--
}

// atLeast is how high the ratio hits/n certainly is: itself for a full sample,
// else the lower end of Wilson's interval; 0 for too few.
func atLeast(hits, n uint32, full int) float64 {
	switch {
	case n < leastSample:
		return 0
	case int(n) >= full:
		return float64(hits) / float64(n)
	}
	return wilson(hits, n)
}

// wilson is the lower end of Wilson's score interval (1927).
func wilson(hits, n uint32) float64 {
	const z2 = confidence * confidence
	p, m := float64(hits)/float64(n), float64(n)
	return max(0, (p+z2/(2*m)-confidence*math.Sqrt(p*(1-p)/m+z2/(4*m*m)))/(1+z2/m))
}

// fold takes what came since the last Decide.
func (s *scope) fold(t instant, size int) {
	s.win.add(t, &s.cur)
	p := partOf(&s.cur)
	x := &s.excused
	p.n, p.unknown, p.auth = p.n-min(p.n, x.n), p.unknown-min(p.unknown, x.unknown), p.auth-min(p.auth, x.auth)
	s.sample.add(p, size)
	s.cur, s.excused, s.touched = counts{}, part{}, false
}

// hold is one that is in force.
type hold struct {
	on       policy.Selector
	until    instant
	decision string
	reason   string
	dryRun   bool
	at       scopeKey
}

// guardAll judges the tenants that sent something, and ends holds.
func (c *Controller) guardAll(t instant) {
	for _, e := range c.judged {
		if !e.gone && e.key.carrier != "" && e.key.job == "" {
			c.judge(e, t)
		}
	}
	c.judged = c.judged[:0]
	if t < c.nextRelease {
		return
	}
	c.nextRelease = math.MaxInt64
	for _, h := range c.sortedHolds() {
		if t < h.until {
			c.nextRelease = min(c.nextRelease, h.until)
			continue
		}
		c.release(t, h, "release", "hold-is-over", "it was held until "+h.until.time().Format(time.RFC3339))
	}
}

// judge looks at a tenant at a carrier.
func (c *Controller) judge(e *scopeEntry, t instant) {
	g := c.set.GuardOf(e.key.tenant)
	if lowerMode(c.set.Reputation.Mode, g.Mode) == policy.ModeOff || e.value.held {
		return
	}
	s := &e.value.sample.sum
	unknown, refused := 100*atLeast(s.unknown, s.n, g.Sample), 100*atLeast(s.auth, s.n, g.Sample)
	switch {
	case g.UnknownPause > 0 && unknown >= g.UnknownPause:
		c.holdGuilty(e, t, g, keyspace.Decision{
			Rule: "unknown-users",
			Why:  fmt.Sprintf("%d unknown users among the last %d recipients, at least %.1f %%; the bound is %g %%", s.unknown, s.n, unknown, g.UnknownPause),
		}, func(p part) uint32 { return p.unknown }, g.UnknownPause)
	case g.AuthPause > 0 && refused >= g.AuthPause:
		c.holdGuilty(e, t, g, keyspace.Decision{
			Rule: "authentication",
			Why:  fmt.Sprintf("%d of the last %d recipients refused for SPF, DKIM or DMARC or for the rate of their sender, at least %.1f %%; the bound is %g %%", s.auth, s.n, refused, g.AuthPause),
		}, func(p part) uint32 { return p.auth }, g.AuthPause)
	case c.complaints(e, t, g):
	case g.UnknownWarn > 0 && unknown >= g.UnknownWarn && (e.value.warned == 0 || t.since(e.value.warned) >= warnEvery):
		e.value.warned = t
		c.decide(t, keyspace.Decision{
			Tenant: e.key.tenant, Carrier: e.key.carrier, Action: "warn", Rule: "unknown-users", DryRun: c.guardDry(g),
			Why: fmt.Sprintf("%d unknown users among the last %d recipients, at least %.1f %%; at %g %% the tenant's mail for the carrier is held", s.unknown, s.n, unknown, g.UnknownPause),
		})
	}
}

// complaints holds a tenant at a carrier where too many complain. They come
// hours after the mail, so three days count.
func (c *Controller) complaints(e *scopeEntry, t instant, g *policy.Guard) bool {
	if g.ComplaintPause <= 0 || e.value.win.open[0][complained] == 0 {
		return false
	}
	n := e.value.win.total(windows - 1)
	if n[complained] < leastComplaints || int(n[delivered]) < leastSample {
		return false
	}
	part := 100 * atLeast(min(n[complained], n[delivered]), n[delivered], g.Sample)
	if part < g.ComplaintPause {
		return false
	}
	c.hold(t, policy.Selector{Tenant: e.key.tenant, Carrier: e.key.carrier}, e.key, g, keyspace.Decision{
		Rule: "complaints",
		Why:  fmt.Sprintf("%d complaints about %d delivered in three days, at least %.2f %%; the bound is %g %%", n[complained], n[delivered], part, g.ComplaintPause),
	})
	return true
}

// holdGuilty holds the job that causes it, if the tenant's other mail at the
// carrier is clean, else the tenant at the carrier.
func (c *Controller) holdGuilty(e *scopeEntry, t instant, g *policy.Guard, d keyspace.Decision, hits func(part) uint32, bound float64) {
	all := e.value.win.total(1)
	for _, j := range e.value.jobs {
		if j.gone || j.value.held {
			continue
		}
		n := j.value.win.total(1)
		own := partOf(&n)
		if 100*atLeast(hits(own), own.n, g.Sample) < bound {
			continue
		}
		rest := partOf(&all)
		rest.n, rest.unknown, rest.auth = rest.n-min(rest.n, own.n), rest.unknown-min(rest.unknown, own.unknown), rest.auth-min(rest.auth, own.auth)
		if rest.n >= leastRest && 100*float64(hits(rest)) >= bound*float64(rest.n) {
			continue
		}
		d.Why += fmt.Sprintf("; job %s alone has %d unknown and %d refused for authentication of %d, the rest is below the bound", j.key.job, own.unknown, own.auth, own.n)
		j.value.held, j.value.sample = true, sample{}
		c.hold(t, policy.Selector{Tenant: e.key.tenant, Job: j.key.job}, j.key, g, d)
		e.value.sample = sample{}
		return
	}
	c.hold(t, policy.Selector{Tenant: e.key.tenant, Carrier: e.key.carrier}, e.key, g, d)
}

func (c *Controller) guardDry(g *policy.Guard) bool {
	return lowerMode(c.set.Reputation.Mode, g.Mode) == policy.ModeDryRun
}

// hold puts a hold in force.
func (c *Controller) hold(t instant, on policy.Selector, k scopeKey, g *policy.Guard, d keyspace.Decision) {
	if len(c.holds) >= keyspace.MaxSteered {
		c.metrics.Unsteered++
		return
	}
	if e := c.scopes.get(k, c.ticks); e != nil {
		e.value.held, e.value.sample, e.pinned = true, sample{}, true
	}
	until := (t.add(g.Hold.D()) + instant(time.Second) - 1) / instant(time.Second) * instant(time.Second)
	d.Tenant, d.Carrier, d.Job = on.Tenant, k.carrier, on.Job
	d.Action, d.Until, d.DryRun = "hold", until.time(), c.guardDry(g)
	h := &hold{on: on, until: until, reason: d.Rule + ": " + d.Why, dryRun: d.DryRun, at: k}
	h.decision = c.decide(t, d)
	c.holds[on] = h
	c.nextRelease = min(c.nextRelease, until)
	c.dirty[keyspace.TenantSteering] = true
}

// release ends a hold. What was seen before it counts no more.
func (c *Controller) release(t instant, h *hold, action, rule, why string) {
	delete(c.holds, h.on)
	c.dirty[keyspace.TenantSteering] = true
	if e := c.scopes.entries[h.at]; e != nil {
		e.value.held, e.value.sample, e.pinned = false, sample{}, false
	}
	c.decide(t, keyspace.Decision{
		Tenant: h.on.Tenant, Carrier: h.at.carrier, Job: h.on.Job, Action: action, From: "held", To: "free", Rule: rule, Why: why, DryRun: h.dryRun,
	})
}

func (c *Controller) sortedHolds() []*hold {
	list := make([]*hold, 0, len(c.holds))
	for _, h := range c.holds {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *hold) int {
		return cmp.Or(strings.Compare(a.on.Tenant, b.on.Tenant), strings.Compare(a.on.Carrier, b.on.Carrier), strings.Compare(a.on.Job, b.on.Job))
	})
	return list
}

// holdRecords are the holds that nodes are to obey.
func (c *Controller) holdRecords() []keyspace.SteeredHold {
	var list []keyspace.SteeredHold
	for _, h := range c.sortedHolds() {
		if !h.dryRun {
			list = append(list, keyspace.SteeredHold{
				Tenant: h.on.Tenant, Carrier: h.on.Carrier, Job: h.on.Job,
				Held: policy.Held{Until: policy.At(h.until.time()), Decision: h.decision, Reason: h.reason},
			})
		}
	}
	return list
}
