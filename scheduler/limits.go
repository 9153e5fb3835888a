package scheduler

import "hikyaku/controlplane/policy"

// scope is the budget of one thing: messages by rate and by day.
type scope struct {
	rate   bucket
	day    dayCount
	perDay int64
	list   *waitList // who waits for it; nil until someone does
}

// ready is when the scope can spend again; now or earlier means now.
func (c *scope) ready(now instant) instant {
	at := c.rate.ready(now)
	if c.perDay > 0 && at <= now {
		at = max(at, c.day.ready(now, c.perDay))
	}
	return at
}

// available is how many could be spent at once.
func (c *scope) available(now instant) int64 {
	n := c.rate.available(now)
	if c.perDay > 0 {
		n = min(n, max(0, c.perDay-c.day.count(now)))
	}
	return n
}

func (c *scope) take(now instant) {
	c.rate.take(now)
	if c.perDay > 0 {
		c.day.take(now)
	}
}

func (c *scope) giveBack(now, taken instant) {
	c.rate.giveBack(now, taken)
	if c.perDay > 0 {
		c.day.giveBack(now, taken)
	}
}

func (c *scope) idle(now instant) bool {
	return c.rate.idle(now) && (c.perDay == 0 || c.day.idle(now))
}

// links is the budget of connections on top: a carrier as a whole, or one
// source at it.
type links struct {
	scope
	connRate bucket
	maxConns int
	conns    int // open and opening

	// At a carrier as a whole: its sites that want a connection and could not
	// have one, and how many of them are still to be asked about one that has
	// come free.
	full   fifo[*site]
	offers int
}

func (l *links) set(now instant, p *policy.Limits) {
	l.rate.set(now, p.Rate)
	l.perDay = p.PerDay
	l.connRate.set(now, p.ConnectionRate)
	l.maxConns = p.Connections
}

type (
	jobKey    struct{ tenant, job string }
	streamKey struct{ tenant, stream string }
	// linkKey names a carrier's budget; source "" is all sources together. The
	// default carrier is not one provider, so there each site has its own.
	linkKey struct{ carrier, site, source string }
)

// job is a job's own rate, and whether it is paused.
type job struct {
	scope
	paused bool
}

// limitTable holds every budget.
type limitTable struct {
	set     *policy.Set
	tenants map[string]*scope
	streams map[streamKey]*scope
	jobs    map[jobKey]*job
	links   map[linkKey]*links
	kept    map[linkKey][]DaySlot // daily counts of before a restart, for links to come
}

func (t *limitTable) init() {
	t.tenants, t.streams = map[string]*scope{}, map[streamKey]*scope{}
	t.jobs, t.links = map[jobKey]*job{}, map[linkKey]*links{}
	t.kept = map[linkKey][]DaySlot{}
}

// apply brings every budget to the new policy, keeping debts.
func (t *limitTable) apply(now instant, set *policy.Set) {
	t.set = set
	for name, c := range t.tenants {
		t.setTenant(now, name, c)
	}
	for key, c := range t.streams {
		t.setStream(now, key, c)
	}
	for key, l := range t.links {
		t.setLinks(now, key, l)
	}
}

func (t *limitTable) setTenant(now instant, name string, c *scope) {
	var rate *policy.Rate
	c.perDay = 0
	if p := t.set.Tenants[name]; p != nil {
		rate, c.perDay = p.Rate, p.PerDay
	}
	c.rate.set(now, rate)
}

func (t *limitTable) setStream(now instant, key streamKey, c *scope) {
	var rate *policy.Rate
	c.perDay = 0
	if p, _ := t.set.StreamOf(key.tenant, key.stream); p != nil {
		rate, c.perDay = p.Rate, p.PerDay
	}
	c.rate.set(now, rate)
}

func (t *limitTable) setLinks(now instant, key linkKey, l *links) {
	c := t.set.Carriers[key.carrier]
	if c == nil {
		c = t.set.Carriers[policy.DefaultName]
	}
	if key.source == "" {
		l.set(now, &c.Limits)
	} else {
		l.set(now, &c.PerSource)
	}
}

// tenant, stream and job find or make a budget. They are bounded by what
// policy and the queues name.
func (t *limitTable) tenant(now instant, name string) *scope {
	c := t.tenants[name]
	if c == nil {
		c = &scope{}
		t.setTenant(now, name, c)
		t.tenants[name] = c
	}
	return c
}

func (t *limitTable) stream(now instant, key streamKey) *scope {
	c := t.streams[key]
	if c == nil {
		c = &scope{}
		t.setStream(now, key, c)
		t.streams[key] = c
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

func (t *limitTable) paused(key jobKey) bool {
	j := t.jobs[key]
	return j != nil && j.paused
}

func (t *limitTable) setJob(now instant, key jobKey, c JobControl) {
	if c == (JobControl{}) {
		delete(t.jobs, key)
		return
	}
	j := t.jobs[key]
	if j == nil {
		j = &job{}
		t.jobs[key] = j
	}
	j.paused = c.Paused
	j.rate.set(now, c.Rate)
}

// link finds or makes a carrier's budget.
func (t *limitTable) link(now instant, key linkKey) *links {
	l := t.links[key]
	if l == nil {
		l = &links{}
		t.setLinks(now, key, l)
		t.links[key] = l
		if slots := t.kept[key]; slots != nil {
			l.day.load(now, slots)
			delete(t.kept, key)
		}
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

// bind points a lane at its budgets.
func (t *limitTable) bind(now instant, l *lane) {
	l.all, l.own = t.link(now, keyOf(l.site, "")), t.link(now, keyOf(l.site, l.key.Source))
}

// giveBack returns the tokens of a dispatch that was not attempted.
func (t *limitTable) giveBack(now instant, it *item) {
	it.lane.all.giveBack(now, it.taken)
	it.lane.own.giveBack(now, it.taken)
	k := &it.d.Queue
	if c := t.tenants[k.Tenant]; c != nil {
		c.giveBack(now, it.taken)
	}
	if c := t.streams[streamKey{k.Tenant, k.Stream}]; c != nil {
		c.giveBack(now, it.taken)
	}
	if c := t.job(jobKey{k.Tenant, k.Job}); c != nil {
		c.giveBack(now, it.taken)
	}
}

// forgettable reports whether a site's budgets of its own hold no debt.
func (t *limitTable) forgettable(st *site, now instant) bool {
	if st.carrier != policy.DefaultName {
		return true
	}
	for _, l := range st.lanes {
		if !l.own.idle(now) || !l.all.idle(now) {
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
	}
}
