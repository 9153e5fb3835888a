package scheduler

import (
	"slices"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
)

// scope is the budget of one thing: messages by rate and by day. Where several
// nodes share the limit, this is what of it is this node's (grants.go).
type scope struct {
	rate    bucket
	day     dayCount
	perDay  int64    // the whole limit of a day; 0 is none
	keeps   int64    // of it, what the 24 hours' count may reach without permits
	permits *permits // on top; nil where none was ever given
	backlog int64    // see claim
	used    int64    // taken and not given back, since Demands told last
	list    *waitList
}

// ready is when the scope can spend again; now or earlier means now.
func (c *scope) ready(now instant) instant {
	at := c.rate.ready(now)
	if c.perDay > 0 && at <= now {
		at = max(at, c.dayReady(now))
	}
	return at
}

func (c *scope) dayReady(now instant) instant {
	switch {
	case c.permits != nil && c.permits.left(now) > 0:
		return now
	case c.keeps == 0:
		return never
	}
	return c.day.ready(now, c.keeps)
}

// available is how many could be spent at once.
func (c *scope) available(now instant) int64 {
	n := c.rate.available(now)
	if c.perDay > 0 {
		n = min(n, c.dayAvailable(now))
	}
	return n
}

func (c *scope) dayAvailable(now instant) int64 {
	n := max(0, c.keeps-c.day.count(now))
	if c.permits != nil {
		n += c.permits.left(now)
	}
	return n
}

// take spends one.
func (c *scope) take(now instant) dayPart {
	c.rate.take(now)
	c.used++
	switch {
	case c.perDay == 0:
		return byNone
	case c.permits != nil && c.permits.left(now) > 0:
		c.permits.spent++
		return byPermit
	}
	c.day.take(now)
	return byCount
}

// giveBack undoes the take of an instant: what was a permit then is one again,
// and what was not counted does not make others uncounted.
func (c *scope) giveBack(now, taken instant, by dayPart) {
	c.rate.giveBack(now, taken)
	c.used--
	switch {
	case by == byPermit && c.permits != nil:
		c.permits.giveBack(now, taken)
	case by == byCount:
		c.day.giveBack(now, taken)
	}
}

func (c *scope) idle(now instant) bool {
	return c.rate.idle(now) && (c.perDay == 0 || c.day.idle(now))
}

// limited reports whether policy bounds the scope at all.
func (c *scope) limited() bool { return c.rate.limited() || c.perDay > 0 }

// links is the budget of connections on top: a carrier as a whole, the sources
// of a pool at it, or one source.
type links struct {
	// For a source: nothing goes before, since others were refused, or since that
	// was decided, and what was decided in whole; nil is nothing.
	brake, rests instant
	course       *policy.Course

	limit    int // of connections, by policy; 0 is none
	maxConns int // of them, this node's; without a limit no matter
	conns    int // open and opening
	leaving  int // of those, told to end

	scope
	connRate bucket

	// At a carrier as a whole: its sites that want a connection and could not
	// have one, and how many of them are still to be asked about one that has
	// come free.
	full   fifo[*site]
	lately lately
	offers int
	eased  bool // during regrant: it can do something earlier than before
	// During SetSteering: a source that has come to rest, and a carrier of which
	// a source's course has changed.
	halted, steered bool
}

// ready is scope.ready, and not while somebody has seen the peer refuse, or the
// source rests.
func (l *links) ready(now instant) instant { return max(l.scope.ready(now), l.stopped()) }

// excess is how many sessions are to end that have not been told yet.
func (l *links) excess() int {
	if l.limit == 0 {
		return 0
	}
	return l.conns - l.leaving - l.maxConns
}

func (l *links) limited() bool {
	return l.scope.limited() || l.limit > 0 || l.connRate.limited()
}

// job is a job's own rate, and whether it is paused.
type job struct {
	scope
	control JobControl
}

// poolLinks is the budget of a pool's sources at a carrier, with its name.
type poolLinks struct {
	pool string
	*links
}

// limitTable holds every budget.
type limitTable struct {
	set     *policy.Set
	tenants map[string]*scope
	streams map[streamKey]*scope
	jobs    map[jobKey]*job
	atOne   map[tenantKey]*scope // tenants at carriers, where policy bounds that
	links   map[linkKey]*links
	kept    map[exchange.Scope][]DaySlot // daily counts of before a restart, for budgets to come
	grants  grantTable
	days    []DayUse // of the last dispatch

	// Whether policy bounds any of these, so that nobody need look for them.
	anyPool, anyAtOne, anyJob, anySourceDay bool
}

func (t *limitTable) init() {
	t.tenants, t.streams = map[string]*scope{}, map[streamKey]*scope{}
	t.jobs, t.links = map[jobKey]*job{}, map[linkKey]*links{}
	t.atOne, t.kept = map[tenantKey]*scope{}, map[exchange.Scope][]DaySlot{}
	t.grants.init()
}

// apply brings every budget to the policy and grants in force, keeping debts.
func (t *limitTable) apply(now instant, set *policy.Set) {
	t.set = set
	t.note(set)
	for key, j := range t.jobs {
		if j.control == (JobControl{}) && !t.anyJob {
			delete(t.jobs, key)
		}
	}
	t.each(func(x exchange.Scope, c *scope, l *links) {
		if l != nil {
			t.setLinks(now, x, l)
		} else {
			t.setScope(now, x, c)
		}
	})
}

// note looks which of the rarer limits policy has.
func (t *limitTable) note(set *policy.Set) {
	t.anyPool, t.anyAtOne, t.anyJob, t.anySourceDay = false, false, false, false
	for _, c := range set.Carriers {
		t.anyPool = t.anyPool || len(c.PerPool) > 0
		t.anySourceDay = t.anySourceDay || c.PerSource.PerDay > 0
	}
	for _, te := range set.Tenants {
		t.anyAtOne = t.anyAtOne || len(te.Carriers) > 0
	}
	t.anySourceDay = t.anySourceDay || len(set.WarmUps) > 0
	if x := set.Steering(); x != nil {
		for _, c := range x.Lanes {
			t.anySourceDay = t.anySourceDay || c.PerDay > 0
		}
	}
	for _, th := range set.Throttles {
		t.anyPool = t.anyPool || th.Pool != ""
		t.anyAtOne = t.anyAtOne || th.Tenant != "" && th.Carrier != ""
		t.anyJob = t.anyJob || th.Job != ""
		t.anySourceDay = t.anySourceDay || th.Source != "" && th.PerDay > 0
	}
}

// each calls fn for every budget, in no order; l is nil where there are no
// connections to count.
func (t *limitTable) each(fn func(x exchange.Scope, c *scope, l *links)) {
	t.eachOfTenants(fn)
	for key, l := range t.links {
		fn(key.scope(), &l.scope, l)
	}
}

func (t *limitTable) eachOfTenants(fn func(x exchange.Scope, c *scope, l *links)) {
	for name, c := range t.tenants {
		fn(tenantScope(name), c, nil)
	}
	for key, c := range t.streams {
		fn(key.scope(), c, nil)
	}
	for key, j := range t.jobs {
		fn(key.scope(), &j.scope, nil)
	}
	for key, c := range t.atOne {
		fn(key.scope(), c, nil)
	}
}

// eachShared is each, but for what other nodes have no part in. The sources of
// all carriers are far the most budgets, and seldom shared.
func (t *limitTable) eachShared(fn func(x exchange.Scope, c *scope, l *links)) {
	t.eachOfTenants(fn)
	for key, l := range t.links {
		if key.source == "" || t.anySourceDay && l.perDay > 0 {
			fn(key.scope(), &l.scope, l)
		}
	}
}

// find is the budget of a scope, if there is one yet.
func (t *limitTable) find(x *exchange.Scope) (*scope, *links) {
	switch x.Kind {
	case exchange.Tenant:
		return t.tenants[x.Tenant], nil
	case exchange.Stream:
		return t.streams[streamKey{x.Tenant, x.Stream}], nil
	case exchange.TenantCarrier:
		return t.atOne[tenantKey{x.Tenant, x.Carrier}], nil
	case exchange.Job:
		if j := t.jobs[jobKey{x.Tenant, x.Job}]; j != nil {
			return &j.scope, nil
		}
	case exchange.Carrier, exchange.CarrierPool, exchange.CarrierSource:
		if l := t.links[linkKey{x.Carrier, x.Site, x.Source, x.Pool}]; l != nil {
			return &l.scope, l
		}
	}
	return nil, nil
}

// limitsOf are the limits in force on a scope. The rate that an operator gave a
// job counts as the job's own, which a throttle overrules as it does others.
func (t *limitTable) limitsOf(now instant, x *exchange.Scope) policy.Limits {
	l := t.set.LimitsAtSite(now.time(), selectorOf(x), x.Site)
	if x.Kind == exchange.Job && l.Rate == nil {
		if j := t.jobs[jobKey{x.Tenant, x.Job}]; j != nil {
			l.Rate = j.control.Rate
		}
	}
	return l
}

func (t *limitTable) setScope(now instant, x exchange.Scope, c *scope) {
	t.setBudget(now, &x, c, t.limitsOf(now, &x))
}

func (t *limitTable) setBudget(now instant, x *exchange.Scope, c *scope, p policy.Limits) {
	t.grants.setRate(now, x, &c.rate, p.Rate, messageBurst)
	c.perDay, c.keeps, c.permits = p.PerDay, t.keepsOf(x, p.PerDay), nil
	if c.perDay > 0 {
		c.permits = t.grants.permits[*x]
	}
}

func (t *limitTable) setLinks(now instant, x exchange.Scope, l *links) {
	t.setCourse(linkKey{x.Carrier, x.Site, x.Source, x.Pool}, l)
	p := t.limitsOf(now, &x)
	t.setBudget(now, &x, &l.scope, p)
	t.grants.setRate(now, &x, &l.connRate, p.ConnectionRate, linkBurst)
	l.limit, l.maxConns = p.Connections, t.grants.connectionsOf(now, &x, p.Connections)
}

// keepsOf is what this node may spend of a daily limit without permits. What is
// counted on a source that can move must go with it, so there it is permits
// alone, unless this node is all there is: then there is nowhere to go, and the
// leader gives none (controlplane/allocate/budgets counts the same way).
func (t *limitTable) keepsOf(x *exchange.Scope, perDay int64) int64 {
	switch {
	case !t.grants.Spanning:
		return perDay
	case x.Kind == exchange.CarrierSource:
		if src := t.set.Sources[x.Source]; src != nil && src.Movable() && t.grants.Floor < exchange.FullShare {
			return 0
		}
		return perDay
	}
	return exchange.PartOf(perDay, t.grants.Floor)
}

// tenant, stream and job find or make a budget. They are bounded by what
// policy and the queues name.
func (t *limitTable) tenant(now instant, name string) *scope {
	c := t.tenants[name]
	if c == nil {
		c = &scope{}
		t.tenants[name] = c
		t.setScope(now, tenantScope(name), c)
	}
	return c
}

func (t *limitTable) stream(now instant, key streamKey) *scope {
	c := t.streams[key]
	if c == nil {
		c = &scope{}
		t.streams[key] = c
		t.setScope(now, key.scope(), c)
	}
	return c
}

// at finds or makes the budget of a tenant at one carrier; nil where policy has
// none.
func (t *limitTable) at(now instant, key tenantKey) *scope {
	if !t.anyAtOne {
		return nil
	}
	c := t.atOne[key]
	if c == nil && !t.set.LimitsAt(now.time(), policy.Selector{Tenant: key.tenant, Carrier: key.carrier}).IsZero() {
		c = &scope{}
		t.atOne[key] = c
		t.setScope(now, key.scope(), c)
		t.reload(now, key.scope(), c)
	}
	return c
}

// job is nil for a job that nobody has slowed: most have no budget of their own.
func (t *limitTable) job(key jobKey) *scope {
	if j := t.jobs[key]; j != nil {
		return &j.scope
	}
	return nil
}

// jobFor is job, and makes the budget if a throttle is on the job.
func (t *limitTable) jobFor(now instant, key jobKey) *scope {
	if c := t.job(key); c != nil {
		return c
	}
	if !t.throttled(now, key) {
		return nil
	}
	return &t.makeJob(now, key).scope
}

func (t *limitTable) makeJob(now instant, key jobKey) *job {
	j := &job{}
	t.jobs[key] = j
	t.setScope(now, key.scope(), &j.scope)
	t.reload(now, key.scope(), &j.scope)
	return j
}

func (t *limitTable) paused(key jobKey) bool {
	j := t.jobs[key]
	return j != nil && j.control.Paused
}

func (t *limitTable) setJob(now instant, key jobKey, c JobControl) {
	j := t.jobs[key]
	switch {
	case c == (JobControl{}) && !t.throttled(now, key):
		delete(t.jobs, key)
		return
	case j == nil:
		j = t.makeJob(now, key)
	}
	j.control = c
	t.setScope(now, key.scope(), &j.scope)
}

// throttled reports whether policy itself bounds the job.
func (t *limitTable) throttled(now instant, key jobKey) bool {
	return t.anyJob && !t.set.LimitsAt(now.time(), policy.Selector{Tenant: key.tenant, Job: key.job}).IsZero()
}

// link finds or makes a carrier's budget.
func (t *limitTable) link(now instant, key linkKey) *links {
	l := t.links[key]
	if l == nil {
		l = &links{}
		t.links[key] = l
		t.setLinks(now, key.scope(), l)
		t.reload(now, key.scope(), &l.scope)
	}
	return l
}

// keyOf is the budget's key for a site and a source.
func keyOf(st *site, source string) linkKey {
	k := linkKey{carrier: st.carrier, source: source}
	if st.carrier == policy.DefaultName {
		k.site = st.name
	}
	return k
}

func poolKeyOf(st *site, pool string) linkKey {
	k := keyOf(st, "")
	k.pool = pool
	return k
}

// bind points a lane at its budgets. A source of several pools spends from all
// of them: the limit is on what its sources send, whatever pool the mail is of.
func (t *limitTable) bind(now instant, l *lane, pools []string) {
	l.all, l.own = t.link(now, keyOf(l.site, "")), t.link(now, keyOf(l.site, l.key.Source))
	for _, p := range l.pools {
		p.count(-(l.open + l.opening), -l.leaving)
	}
	l.pools = nil
	if !t.anyPool {
		return
	}
	for _, pool := range pools {
		on := policy.Selector{Carrier: l.site.carrier, Pool: pool}
		if !t.set.LimitsAt(now.time(), on).IsZero() {
			l.pools = append(l.pools, poolLinks{pool, t.link(now, poolKeyOf(l.site, pool))})
		}
	}
	for _, p := range l.pools {
		p.count(l.open+l.opening, l.leaving)
	}
}

// count keeps the number of connections, and of those that have been told to end.
func (l *links) count(conns, leaving int) {
	l.conns += conns
	l.leaving += leaving
}

// forgettable reports whether a site's budgets of its own hold no debt.
func (t *limitTable) forgettable(st *site, now instant) bool {
	if st.carrier != policy.DefaultName {
		return true
	}
	for _, l := range st.lanes {
		if !l.own.idle(now) || !l.all.idle(now) || slices.ContainsFunc(l.pools, func(p poolLinks) bool { return !p.idle(now) }) {
			return false
		}
	}
	return true
}

func (t *limitTable) forgetSite(st *site) {
	if st.carrier != policy.DefaultName {
		return
	}
	delete(t.links, keyOf(st, ""))
	for _, l := range st.lanes {
		delete(t.links, keyOf(st, l.key.Source))
		for _, p := range l.pools {
			delete(t.links, poolKeyOf(st, p.pool))
		}
	}
}
