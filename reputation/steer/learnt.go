package steer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// MaxSnapshot bounds a Snapshot in bytes. What is not in it any more is what was
// learnt about sources that nothing bounds; the counts go first.
const MaxSnapshot = 200_000

const learntVersion = 1

// learnt is what is kept of a carrier, or of tenants, for the next leader.
type learnt struct {
	Version int               `json:"v"`
	At      time.Time         `json:"at"`
	Lanes   []json.RawMessage `json:"lanes,omitempty"`
	Scopes  []json.RawMessage `json:"scopes,omitempty"`
}

// learntLane is a source at a carrier. Rates are messages a second.
type learntLane struct {
	Site     string     `json:"site,omitempty"`
	Source   string     `json:"source"`
	State    string     `json:"state"`
	Rate     float64    `json:"rate,omitempty"`
	Knee     float64    `json:"knee,omitempty"`
	Wait     int64      `json:"wait,omitempty"` // seconds
	Conns    int        `json:"conns,omitempty"`
	ConnKnee int        `json:"conn_knee,omitempty"`
	Rests    int        `json:"rests,omitempty"`
	Blocks   int        `json:"blocks,omitempty"`
	Until    time.Time  `json:"until,omitzero"`
	Calm     time.Time  `json:"calm,omitzero"`
	LastSign time.Time  `json:"last_sign,omitzero"`
	Decision string     `json:"decision,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Warm     *learntDay `json:"warm,omitempty"`
	Counts   [][]uint32 `json:"counts,omitempty"` // of hours and days, by class
}

// learntDay is a warm-up.
type learntDay struct {
	Name  string    `json:"name"`
	Start time.Time `json:"start"`
	Ends  time.Time `json:"ends"`
	Day   int       `json:"day"` // from 0
	Sent  int64     `json:"sent,omitempty"`
	Bad   string    `json:"bad,omitempty"`
	Done  bool      `json:"done,omitempty"`
}

// learntScope is a tenant, at a carrier or over all, or a sender domain.
type learntScope struct {
	Tenant  string     `json:"tenant,omitempty"`
	Carrier string     `json:"carrier,omitempty"`
	Domain  string     `json:"domain,omitempty"`
	Sample  [3]uint32  `json:"sample"` // recipients, unknown, refused for authentication
	Counts  [][]uint32 `json:"counts,omitempty"`
}

// Snapshot is what was learnt about a carrier, or about tenants
// (keyspace.TenantSteering), for the next leader; nil when it is nothing.
func (c *Controller) Snapshot(name string) []byte {
	x := learnt{Version: learntVersion, At: c.now.time()}
	if name == keyspace.TenantSteering {
		x.Scopes = c.learntScopes()
	} else {
		x.Lanes = c.learntLanes(name)
	}
	if len(x.Lanes)+len(x.Scopes) == 0 {
		return nil
	}
	b, err := json.Marshal(x)
	if err != nil {
		panic("BUG: a snapshot that cannot be encoded: " + err.Error())
	}
	return b
}

// room is what a snapshot has left, beside its head.
const room = MaxSnapshot - 200

func (c *Controller) learntLanes(name string) []json.RawMessage {
	var lanes []*laneEntry
	for _, e := range c.lanes.entries {
		if e.key.carrier == name && (e.value.state != healthy || e.value.warm != nil || e.value.knee > 0 || e.value.win != nil) {
			lanes = append(lanes, e)
		}
	}
	slices.SortFunc(lanes, func(a, b *laneEntry) int {
		return cmp.Or(cmp.Compare(b.value.worth(), a.value.worth()), cmp.Compare(b.value.lastSign, a.value.lastSign), byKey(a, b))
	})
	var list []json.RawMessage
	size := 0
	for i, e := range lanes {
		b := encode(learntOf(e, c.now, i < 200))
		if size += len(b) + 1; size > room {
			break
		}
		list = append(list, b)
	}
	return list
}

// worth orders lanes by what it costs to forget them.
func (l *lane) worth() int {
	switch {
	case l.warm != nil && !l.warm.done:
		return 3
	case l.state != healthy || l.warm != nil:
		return 2
	case l.knee > 0:
		return 1
	}
	return 0
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a record that cannot be encoded: " + err.Error())
	}
	return b
}

func learntOf(e *laneEntry, now instant, withCounts bool) learntLane {
	l := &e.value
	x := learntLane{
		Site: e.key.site, Source: e.key.source, State: l.state.String(), Rate: l.perSecond, Knee: l.knee, Wait: int64(l.wait / time.Second),
		Conns: l.conns, ConnKnee: l.connKnee, Rests: l.rests, Blocks: l.blocks, Until: l.until.orZero(), Calm: l.calm.orZero(),
		LastSign: l.lastSign.orZero(), Decision: l.decision, Reason: clip(l.reason),
	}
	if l.trouble { // it is no knowledge about the source
		x.State, x.Rate = policy.StateHealthy, l.ahead
		if l.ahead > 0 {
			x.State = policy.StateSlowed
		}
	}
	if w := l.warm; w != nil {
		x.Warm = &learntDay{Name: w.name, Start: w.start.time(), Ends: w.ends.time(), Day: w.day, Sent: w.sent, Bad: w.bad, Done: w.done}
	}
	if withCounts && l.win != nil {
		l.win.advance(now)
		x.Counts = l.win.learnt()
	}
	return x
}

const maxReason = 300

func clip(s string) string { return s[:min(len(s), maxReason)] }

// orZero is the zero time for what never was.
func (i instant) orZero() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return i.time()
}

// learnt are the counts of hours and days.
func (w *window) learnt() [][]uint32 {
	var list [][]uint32
	for i := 1; i < windows; i++ {
		n := w.total(i)
		list = append(list, n[:])
	}
	return list
}

// restore puts counts back, as if they had come in the slot before this one.
func (w *window) restore(t instant, list [][]uint32) {
	w.advance(t)
	for i, row := range list {
		if i+1 < windows && len(row) == int(classes) {
			slot := &w.slots[i+1][(w.at[i+1]+windowSlots-1)%windowSlots]
			for cl, n := range row {
				slot[cl] = min(n, maxSlot)
			}
		}
	}
}

func (c *Controller) learntScopes() []json.RawMessage {
	var scopes []*scopeEntry
	for _, e := range c.scopes.entries {
		if e.key.job == "" {
			scopes = append(scopes, e)
		}
	}
	slices.SortFunc(scopes, func(a, b *scopeEntry) int {
		return cmp.Or(cmp.Compare(b.used, a.used), cmp.Compare(a.key.tenant, b.key.tenant), cmp.Compare(a.key.carrier, b.key.carrier), cmp.Compare(a.key.domain, b.key.domain))
	})
	var list []json.RawMessage
	size := 0
	for _, e := range scopes {
		s := &e.value
		s.win.advance(c.now)
		b := encode(learntScope{
			Tenant: e.key.tenant, Carrier: e.key.carrier, Domain: e.key.domain,
			Sample: [3]uint32{s.sample.sum.n, s.sample.sum.unknown, s.sample.sum.auth}, Counts: s.win.learnt(),
		})
		if size += len(b) + 1; size > room {
			break
		}
		list = append(list, b)
	}
	return list
}

// Restore takes what an earlier leader learnt about a carrier, or about tenants.
// It comes before Adopt of the same, and before the first Observe.
func (c *Controller) Restore(name string, snapshot []byte) error {
	if len(snapshot) > MaxSnapshot {
		return fmt.Errorf("restore what was learnt about %q: %d bytes are too many: at most %d", name, len(snapshot), MaxSnapshot)
	}
	var x learnt
	if err := json.Unmarshal(snapshot, &x); err != nil {
		return fmt.Errorf("restore what was learnt about %q: %w", name, err)
	}
	if x.Version != learntVersion {
		return fmt.Errorf("restore what was learnt about %q: version %d is not known", name, x.Version)
	}
	var errs []error
	for _, b := range x.Lanes {
		var l learntLane
		if err := json.Unmarshal(b, &l); err != nil {
			errs = append(errs, err)
		} else if err := c.restoreLane(name, &l); err != nil {
			errs = append(errs, err)
		}
	}
	for _, b := range x.Scopes {
		var s learntScope
		if err := json.Unmarshal(b, &s); err != nil {
			errs = append(errs, err)
		} else {
			c.restoreScope(&s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restore what was learnt about %q, but for what is good in it: %w", name, err)
	}
	return nil
}

// plausible reports whether a rate is one.
func plausible(v float64) bool { return v >= 0 && v <= 1e9 && !math.IsNaN(v) }

func (x *learntLane) check() error {
	if stateOf(x.State) < 0 || !plausible(x.Rate) || !plausible(x.Knee) || x.Wait < 0 || x.Wait > 86400 ||
		x.Conns < 0 || x.Conns > 1e6 || x.ConnKnee < 0 || x.ConnKnee > 1e6 || x.Rests < 0 || x.Rests > 1000 || x.Blocks < 0 || x.Blocks > 1000 {
		return fmt.Errorf("source %.100q: its numbers make no sense", x.Source)
	}
	return nil
}

// stateOf is the state of a word; -1 for none.
func stateOf(word string) int { return slices.Index(stateWords[:], word) }

func (c *Controller) restoreLane(name string, x *learntLane) error {
	if err := x.check(); err != nil {
		return err
	}
	if c.carriers[name] == nil || c.set.Sources[x.Source] == nil || x.Site != "" && name != policy.DefaultName {
		return nil // policy has changed since
	}
	e := c.lanes.get(laneKey{name, x.Site, x.Source}, c.ticks)
	if e == nil {
		return nil
	}
	c.welcome(e)
	l := &e.value
	if l.win == nil {
		l.win = newWindow(l.nth)
	}
	l.win.restore(c.now, x.Counts)
	if x.Warm != nil && l.warm != nil && l.warm.name == x.Warm.Name {
		l.warm.restore(x.Warm, c.now)
		// Sites of the default carrier begin at nothing again: less counts than was.
		l.today = today{ends: l.warm.ends, n: l.warm.sent}
	}
	if l.at.mode == policy.ModeOff || !c.hasRoom(e) {
		return nil
	}
	l.state, l.perSecond, l.knee = state(stateOf(x.State)), x.Rate, x.Knee
	l.wait, l.conns, l.connKnee = time.Duration(x.Wait)*time.Second, x.Conns, x.ConnKnee
	l.rests, l.blocks, l.decision, l.reason = x.Rests, x.Blocks, x.Decision, x.Reason
	l.until, l.calm, l.lastSign = c.plausible(x.Until), c.plausible(x.Calm), min(c.plausible(x.LastSign), c.now)
	c.resume(e)
	return nil
}

// plausible is a time that was kept, at most the longest rest ahead; 0 for none.
func (c *Controller) plausible(t time.Time) instant {
	if t.IsZero() || t.Year() < 2000 || t.Year() > 2200 {
		return 0
	}
	return min(at(t), c.now.add(policy.MaxRest))
}

// resume makes a lane that was restored whole: its times begin now, and signs of
// the first seconds do not count, since they may be of mail before a decrease.
func (c *Controller) resume(e *laneEntry) {
	l := &e.value
	switch l.state {
	case trial, slowed:
		if l.perSecond == 0 && l.conns == 0 {
			l.state = healthy
			l.begin(c.now)
		}
		if l.state == trial && l.perSecond == 0 {
			l.perSecond = l.trialRate()
		}
	case healthy:
		l.perSecond, l.conns = 0, 0
		l.begin(c.now)
	}
	l.fit()
	l.settling, l.changed, l.clean = l.perSecond > 0, c.now, c.ticks
	l.seen, l.seenCon = evidence{from: c.now}, evidence{from: c.now}
	l.connSince, l.connSettle = c.now, l.conns > 0
	l.wait = max(l.wait, firstWait*l.at.cfg.Every.D())
	l.connWait = l.wait
	l.probeAt, l.connProbe = c.now.add(l.wait), c.now.add(l.wait)
	if l.state != healthy {
		c.mark(e)
	}
}

// restore takes the day that it was.
func (x *warming) restore(o *learntDay, now instant) {
	x.day = min(max(o.Day, 0), len(x.days)-1)
	x.sent, x.bad, x.done = max(o.Sent, 0), clip(o.Bad), o.Done
	if start := at(o.Start); !o.Start.IsZero() && start <= now && o.Start.Year() > 2000 {
		x.start = start
	}
	if ends := at(o.Ends); o.Ends.Year() > 2000 && ends < now.add(aDay) {
		x.ends = ends
	} else {
		x.ends = x.nextEnd(now)
	}
}

func (c *Controller) restoreScope(x *learntScope) {
	k := scopeKey{tenant: x.Tenant, carrier: x.Carrier, domain: x.Domain}
	if k.tenant == "" && k.domain == "" {
		return
	}
	e := c.scopes.get(k, c.ticks)
	if e == nil {
		return
	}
	e.value.win.restore(c.now, x.Counts)
	p := part{x.Sample[0], x.Sample[1], x.Sample[2]}
	if p.n <= 1e7 && p.unknown <= p.n && p.auth <= p.n && e.value.sample.sum.n == 0 {
		e.value.sample.add(p, c.set.GuardOf(k.tenant).Sample)
	}
}

// Adopt takes what the earlier leader had put in force: it is newer than any
// snapshot, and what nodes obey.
func (c *Controller) Adopt(name string, s keyspace.Steering) {
	if name == keyspace.TenantSteering {
		c.adoptHolds(s.Holds)
		return
	}
	if c.carriers[name] == nil {
		return
	}
	for i := range s.Lanes {
		x := &s.Lanes[i]
		if c.set.Sources[x.Source] == nil || x.Site != "" && name != policy.DefaultName {
			continue // a source that has left policy while nobody led: nobody could take back what stays of it
		}
		if e := c.lanes.get(laneKey{name, x.Site, x.Source}, c.ticks); e != nil {
			c.welcome(e)
			c.adoptLane(e, &x.Course)
		}
	}
}

func (c *Controller) adoptLane(e *laneEntry, x *policy.Course) {
	l := &e.value
	if l.warm != nil && x.PerDay > 0 {
		l.warm.adopt(x.PerDay)
		c.mark(e)
	}
	if l.at.mode == policy.ModeOff || !c.hasRoom(e) {
		return
	}
	word := x.State
	if word == policy.StateWarming {
		word = policy.StateSlowed // or healthy: resume sees
	}
	st := stateOf(word)
	if st < 0 {
		return
	}
	l.state = state(st)
	l.conns, l.perSecond = max(x.Connections, 0), perSecond(x.Rate)
	l.decision, l.reason = x.Decision, clip(x.Reason)
	switch l.state {
	case resting, blockedOut:
		// Rate and connections are those of the trial that follows.
		l.until = c.plausible(x.Rests.Time())
		l.conns = 0
		l.rests, l.blocks = max(l.rests, 1), max(l.blocks, 1)
	case trial:
		l.conns = 0
	}
	// Without a decision it is a start, of which nothing is known.
	if x.Decision != "" {
		if l.knee == 0 && l.perSecond > 0 {
			if l.knee = l.perSecond; l.state != slowed { // a trial's rate is a part of it (trialRate)
				l.knee /= trialPart
			}
		}
		if l.lastSign == 0 {
			l.lastSign = c.now
		}
	}
	c.resume(e)
}

// adopt takes the day from its count: the last one that is not above it.
func (x *warming) adopt(perDay int64) {
	i, _ := slices.BinarySearch(x.days, perDay+1)
	x.day, x.done = max(0, i-1), false
}

func (c *Controller) adoptHolds(holds []keyspace.SteeredHold) {
	for i := range holds {
		x := &holds[i]
		on := policy.Selector{Tenant: x.Tenant, Carrier: x.Carrier, Stream: x.Stream, Job: x.Job}
		until := c.until(x.Until)
		if x.Tenant == "" || len(c.holds) >= keyspace.MaxSteered || until <= c.now {
			c.dirty[keyspace.TenantSteering] = true
			continue
		}
		k := scopeKey{tenant: x.Tenant, carrier: x.Carrier, job: x.Job}
		c.holds[on] = &hold{on: on, until: until, decision: x.Decision, reason: clip(x.Reason), at: k}
		if e := c.scopes.get(k, c.ticks); e != nil {
			e.value.held, e.value.sample, e.pinned = true, sample{}, true
		}
		c.nextRelease = min(c.nextRelease, until)
	}
}

// until is the end of a hold.
func (c *Controller) until(i policy.Instant) instant {
	if y := i.Time().Year(); y < 2000 || y > 2200 {
		return 0
	}
	return at(i.Time())
}
