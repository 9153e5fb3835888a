package steer

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Bounds of what is remembered. A lane takes about 3.4 KB, 0.9 KB until it is
// used, and a scope 2.9 KB: 120 MB when all is full.
const (
	maxLanes  = 24_000
	maxScopes = 16_000
	maxRows   = 1 << 15 // rows of reports whose lanes and scopes are known
)

// instant is nanoseconds since 1970.
type instant int64

func at(t time.Time) instant { return instant(t.UnixNano()) }

func (i instant) time() time.Time { return time.Unix(0, int64(i)).UTC() }

func (i instant) add(d time.Duration) instant { return i + instant(d) }

func (i instant) since(j instant) time.Duration { return time.Duration(i - j) }

// laneKey names a source at a carrier; at the default carrier, at one site.
type laneKey struct{ carrier, site, source string }

// scopeKey names what else is counted: a tenant, a tenant at a carrier, a job at
// a carrier, a sender domain.
type scopeKey struct{ tenant, carrier, job, domain string }

// Controller turns tallies into decisions. It has no clock and no lock: its
// owner calls it from one goroutine at a time, with a time that does not go back.
type Controller struct {
	set   *policy.Set
	now   instant
	last  instant // of the last Decide
	ticks int64
	made  int64         // lanes so far
	span  time.Duration // of this Decide

	carriers map[string]*carrier
	lanes    *table[laneKey, lane]
	scopes   *table[scopeKey, scope]
	rows     *rows

	touchedLanes  []*laneEntry
	touchedScopes []*scopeEntry
	judged        []*scopeEntry // those of this tick
	bound         []*laneEntry  // lanes that are steered, or wait for a time

	holds       map[policy.Selector]*hold
	nextRelease instant
	pending     []keyspace.Decision // of this Decide, and of calls since the last
	numbers     int                 // of decisions in the millisecond stamp
	stamp       int64
	dirty       map[string]bool
	metrics     Metrics
}

type (
	laneEntry  = entry[laneKey, lane]
	scopeEntry = entry[scopeKey, scope]
)

// Metrics count since the controller was made; the gauges are as of now.
type Metrics struct {
	Rows, Decisions, Undone int64
	// LostLanes and LostScopes gave way to others, or found no room.
	LostLanes, LostScopes int64
	Lanes, Scopes, Bound  int
	// Unsteered are lanes that should have been bounded when a carrier's record
	// was full.
	Unsteered int64
}

// New makes a controller under a policy.
func New(set *policy.Set, now time.Time) *Controller {
	c := &Controller{
		carriers: map[string]*carrier{},
		lanes:    newTable[laneKey, lane](maxLanes),
		scopes:   newTable[scopeKey, scope](maxScopes),
		rows:     newRows(),
		holds:    map[policy.Selector]*hold{},
		dirty:    map[string]bool{},
	}
	c.last, c.nextRelease = at(now), math.MaxInt64
	c.SetPolicy(now, set)
	return c
}

// forward keeps the time from going back: what is decided by differences of it
// must not see a negative one.
func (c *Controller) forward(now time.Time) instant {
	c.now = max(c.now, at(now))
	return c.now
}

// Observe takes a node's report. Each must come once; the reports of several
// nodes add up.
func (c *Controller) Observe(now time.Time, node string, tallies []exchange.Tally, samples []exchange.Sample) {
	t := c.forward(now)
	c.metrics.Rows += int64(len(tallies))
	for i := range tallies {
		y := &tallies[i]
		cl, ok := classOf(y.Category)
		if !ok || y.N == 0 {
			continue
		}
		r := c.row(rowKey{y.Carrier, y.Site, y.Source, y.Tenant, y.Job, y.Domain})
		if e := r.lane; e != nil {
			if !e.value.touched {
				e.value.touched = true
				c.lanes.touch(e, c.ticks)
				c.touchedLanes = append(c.touchedLanes, e)
			}
			e.value.cur.bump(cl, y.N)
			if isSign[cl] {
				e.value.node = node
			}
		}
		c.count(r.tenant, cl, y.N)
		c.count(r.tenantCarrier, cl, y.N)
		c.count(r.domain, cl, y.N)
		c.count(r.work, cl, y.N)
		if r.work != nil && r.work.value.held && r.tenantCarrier != nil {
			var n counts
			n.bump(cl, y.N)
			r.tenantCarrier.value.excused.add(partOf(&n))
		}
	}
	c.keepReplies(t, samples)
}

func (c *Controller) count(e *scopeEntry, cl class, n uint32) {
	if e == nil {
		return
	}
	if !e.value.touched {
		e.value.touched = true
		c.scopes.touch(e, c.ticks)
		c.touchedScopes = append(c.touchedScopes, e)
	}
	e.value.cur.bump(cl, n)
}

// row finds where a tally counts.
func (c *Controller) row(k rowKey) *row {
	s := c.rows.find(k)
	// While nothing leaves the tables, the entries need not be looked at, each of
	// which is in no cache.
	if r := s.row; r != nil && (r.removals == c.removals() || !r.stale()) {
		r.removals = c.removals()
		return r
	}
	before := c.removals() // a new entry may push others out
	r := c.newRow(k)
	r.removals = before
	c.rows.put(s, r)
	return r
}

// removals rises when an entry leaves a table.
func (c *Controller) removals() int64 { return c.lanes.removals + c.scopes.removals }

func (c *Controller) newRow(k rowKey) *row {
	name, site := c.carrierOf(k.carrier), k.site
	if name != policy.DefaultName {
		site = ""
	}
	r := &row{}
	// At the default carrier each site is for itself; what a node had no room to
	// tell the site of says nothing about any.
	if name != "" && k.source != "" && (name != policy.DefaultName || site != "") {
		if r.lane = c.lanes.get(laneKey{name, site, k.source}, c.ticks); r.lane != nil {
			c.welcome(r.lane)
		}
	}
	if k.tenant != "" {
		r.tenant = c.scopes.get(scopeKey{tenant: k.tenant}, c.ticks)
		if name != "" {
			r.tenantCarrier = c.scopes.get(scopeKey{tenant: k.tenant, carrier: name}, c.ticks)
			if k.job != "" {
				r.work = c.job(r.tenantCarrier, scopeKey{tenant: k.tenant, carrier: name, job: k.job})
			}
		}
	}
	if k.domain != "" {
		r.domain = c.scopes.get(scopeKey{domain: k.domain}, c.ticks)
	}
	return r
}

// job finds the scope of a job and tells its tenant's at the carrier of it.
func (c *Controller) job(of *scopeEntry, k scopeKey) *scopeEntry {
	e := c.scopes.get(k, c.ticks)
	if e == nil || of == nil || slices.Contains(of.value.jobs, e) {
		return e
	}
	of.value.jobs = slices.DeleteFunc(of.value.jobs, gone)
	if len(of.value.jobs) == maxJobs {
		of.value.jobs = slices.Delete(of.value.jobs, 0, 1)
	}
	of.value.jobs = append(of.value.jobs, e)
	return e
}

// carrierOf is the carrier under whose limits mail counts: the default one for
// those that policy does not name. "" stays, a node had no room to tell it.
func (c *Controller) carrierOf(name string) string {
	if name != "" && c.set.Carriers[name] == nil {
		return policy.DefaultName
	}
	return name
}

// Decide says what follows from what was observed. It is called each second;
// what it returns has to be stored, with the Steering of the carriers that Dirty
// names.
func (c *Controller) Decide(now time.Time) []keyspace.Decision {
	t := c.forward(now)
	c.span = min(max(t.since(c.last), 100*time.Millisecond), time.Minute)
	c.last = t
	c.ticks++
	c.fold(t)
	c.steerAll(t)
	c.guardAll(t)
	c.warmAll(t)
	return c.take()
}

// fold puts what was observed since the last Decide into the windows.
func (c *Controller) fold(t instant) {
	for _, e := range c.touchedLanes {
		if !e.gone {
			n := int64(e.value.cur[delivered])
			e.value.fold(t, c.ticks, c.span)
			if w := c.warmthOf(e); w != nil {
				w.value.warm.count(&e.value.today, n)
			}
		}
	}
	for _, e := range c.touchedScopes {
		if !e.gone {
			e.value.fold(t, c.set.GuardOf(e.key.tenant).Sample)
		}
	}
	c.judged, c.touchedScopes = c.touchedScopes, c.judged[:0]
}

// take hands out what was decided.
func (c *Controller) take() []keyspace.Decision {
	list := c.pending
	c.pending = nil
	c.metrics.Decisions += int64(len(list))
	return list
}

// decide records a decision and returns its id, which rises with time: the
// millisecond and a number within it.
func (c *Controller) decide(t instant, d keyspace.Decision) string {
	if ms := int64(t) / int64(time.Millisecond); ms != c.stamp {
		c.stamp, c.numbers = ms, 0
	}
	c.numbers++
	d.At = t.time()
	d.ID = d.At.Format("20060102T150405.000") + "-" + pad(c.numbers)
	c.pending = append(c.pending, d)
	return d.ID
}

func pad(n int) string {
	s := strconv.Itoa(n)
	for len(s) < 5 {
		s = "0" + s
	}
	return s
}

// Dirty names the carriers whose Steering has changed since the last call, and
// keyspace.TenantSteering for holds, in order.
func (c *Controller) Dirty() []string {
	names := make([]string, 0, len(c.dirty))
	for name := range c.dirty {
		names = append(names, name)
	}
	slices.Sort(names)
	clear(c.dirty)
	return names
}

// Steering is what is in force at a carrier, or for tenants
// (keyspace.TenantSteering).
func (c *Controller) Steering(name string) keyspace.Steering {
	if name == keyspace.TenantSteering {
		return keyspace.Steering{Holds: c.holdRecords()}
	}
	var s keyspace.Steering
	for _, e := range c.bound {
		if e.key.carrier != name || e.gone {
			continue
		}
		if course, ok := c.course(e); ok {
			s.Lanes = append(s.Lanes, keyspace.SteeredLane{Site: e.key.site, Source: e.key.source, Course: course})
		}
	}
	slices.SortFunc(s.Lanes, func(a, b keyspace.SteeredLane) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Source, b.Source))
	})
	return s
}

// Metrics are the counts so far.
func (c *Controller) Metrics() Metrics {
	m := c.metrics
	m.LostLanes, m.LostScopes = c.lanes.lost, c.scopes.lost
	m.Lanes, m.Scopes, m.Bound = len(c.lanes.entries), len(c.scopes.entries), len(c.bound)
	return m
}
