package steer

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// SetPolicy takes a new policy. What was learnt stays; what policy no longer
// names is forgotten.
func (c *Controller) SetPolicy(now time.Time, set *policy.Set) {
	t := c.forward(now)
	before := c.set
	c.set = set
	c.rows.clear()
	for _, name := range slices.Sorted(maps.Keys(set.Carriers)) {
		k := c.carriers[name]
		if k == nil {
			k = &carrier{name: name, replies: map[string]*replies{}}
			c.carriers[name] = k
		}
		k.follow(set)
	}
	for e := c.lanes.root.next; e != &c.lanes.root; {
		next := e.next
		if set.Carriers[e.key.carrier] == nil || before != nil && before.Sources[e.key.source] != nil && set.Sources[e.key.source] == nil {
			c.mark(e)
			c.lanes.remove(e)
		} else if e.value.at.mode == policy.ModeOff {
			e.value.reset()
		} else {
			e.value.fit()
		}
		e = next
	}
	for name := range c.carriers {
		if set.Carriers[name] == nil {
			delete(c.carriers, name)
		}
		c.dirty[name] = true // modes, and what is warming, may have changed
	}
	c.dirty[keyspace.TenantSteering] = true
	c.setStarts()
	c.setWarmUps(t)
}

// follow takes what policy says of a carrier.
func (k *carrier) follow(set *policy.Set) {
	p := set.Carriers[k.name]
	k.cfg = set.SteerOf(k.name)
	k.mode = lowerMode(set.Reputation.Mode, k.cfg.Mode)
	k.floor = perSecond(k.cfg.Floor)
	k.ceiling = perSecond(p.PerSource.Rate)
	k.most = perSecond(k.cfg.Ceiling)
	if k.most > 0 && (k.ceiling == 0 || k.most < k.ceiling) {
		k.ceiling = k.most
	} else {
		k.most = 0
	}
	k.conns = p.PerSource.Connections
	k.start = perSecond(k.cfg.Start)
	if k.ceiling > 0 && (k.start >= k.ceiling || k.start == 0) {
		k.start = k.most
	}
}

// lowerMode is the more cautious of two modes.
func lowerMode(a, b string) string {
	for _, m := range [...]string{policy.ModeOff, policy.ModeDryRun} {
		if a == m || b == m {
			return m
		}
	}
	return policy.ModeOn
}

// reset forgets what was decided about a lane.
func (l *lane) reset() {
	l.state, l.pilot, l.valve, l.penalty = healthy, pilot{}, valve{}, penalty{}
	l.seen, l.seenCon = evidence{}, evidence{}
	l.decision, l.reason = "", ""
}

// welcome makes a lane that may be new complete.
func (c *Controller) welcome(e *laneEntry) {
	if e.value.at == nil {
		c.made++
		e.value.at, e.value.nth = c.carriers[e.key.carrier], c.made
		e.value.seen.from, e.value.seenCon.from = c.now, c.now
		e.value.begin(c.now)
	}
}

// begin starts a lane of which nothing is known.
func (l *lane) begin(t instant) {
	if l.at.start > 0 && l.at.mode != policy.ModeOff && l.state == healthy && l.lastSign == 0 {
		l.state, l.perSecond, l.changed = slowed, l.at.start, t
		l.reason = "start: nothing is known yet of what the carrier takes from the source"
	}
}

// fit keeps a lane within the bounds of a new policy.
func (l *lane) fit() {
	if l.state != healthy && l.perSecond > 0 {
		l.perSecond = max(l.perSecond, l.at.floor)
	}
	if most := l.at.most; most > 0 && (l.perSecond == 0 || l.perSecond > most) {
		l.perSecond = most
		if l.state == healthy {
			l.state = slowed
		}
	}
}

// setStarts bounds sources at carriers at which they have to begin slowly, before
// their first mail. At the default carrier that is for all sites; what is learnt
// about one goes before it.
func (c *Controller) setStarts() {
	for _, name := range slices.Sorted(maps.Keys(c.carriers)) {
		if k := c.carriers[name]; k.start == 0 || k.mode == policy.ModeOff {
			continue
		}
		for _, source := range slices.Sorted(maps.Keys(c.set.Sources)) {
			if e := c.lanes.get(laneKey{carrier: name, source: source}, c.ticks); e != nil {
				c.welcome(e)
				e.value.begin(c.now)
				e.value.fit()
				if e.value.state != healthy && c.hasRoom(e) {
					c.mark(e)
				}
			}
		}
	}
}

// hasRoom reports whether a lane can be bounded: a carrier's record has an end.
func (c *Controller) hasRoom(e *laneEntry) bool {
	if e.value.bound || e.value.at.bound < keyspace.MaxSteered {
		return true
	}
	c.metrics.Unsteered++
	return false
}

// steerAll decides about all lanes that were used or wait for a time.
func (c *Controller) steerAll(t instant) {
	before := c.bound
	c.bound = c.bound[:0]
	for _, e := range before {
		if e.gone {
			e.value.at.bound--
			continue
		}
		e.value.steered = c.ticks
		c.steerLane(e, t)
		if l := &e.value; l.state == healthy && l.warm == nil {
			l.bound, e.pinned = false, false
			l.at.bound--
			continue
		}
		c.bound = append(c.bound, e)
	}
	for _, e := range c.touchedLanes {
		e.value.touched = false
		if !e.gone && e.value.steered != c.ticks {
			c.steerLane(e, t)
		}
	}
	c.touchedLanes = c.touchedLanes[:0]
}

// mark says that a lane's course has changed, and keeps the lane as long as it
// has one.
func (c *Controller) mark(e *laneEntry) {
	c.dirty[e.key.carrier] = true
	if !e.value.bound && !e.gone {
		e.value.bound, e.pinned = true, true
		e.value.at.bound++
		c.bound = append(c.bound, e)
	}
}

// decided records a decision about a lane and puts it in force.
func (c *Controller) decided(e *laneEntry, t instant, d keyspace.Decision) {
	l := &e.value
	d.Carrier, d.Site, d.Source = e.key.carrier, e.key.site, e.key.source
	d.DryRun = l.at.mode == policy.ModeDryRun
	d.Replies = l.at.repliesOf(e.key.source)
	if l.node != "" && d.Action != "recover" && d.Action != "raise" {
		d.Why += "; last told by " + l.node
	}
	switch d.Action {
	case "slow", "rest", "block":
		if d.Rule != "carrier-in-trouble" {
			c.chill(e, t, &d)
		}
	}
	l.decision = c.decide(t, d)
	l.reason = d.Rule + ": " + d.Why
	c.mark(e)
}

// replies are the last that were seen of a source at a carrier, latest first.
type replies struct {
	texts  []string
	hint   time.Duration // how long the carrier asked to wait
	hintAt instant
}

const (
	maxReplies = 5
	maxText    = 300
)

// keepReplies keeps what may explain a decision.
func (c *Controller) keepReplies(t instant, samples []exchange.Sample) {
	for i := range samples {
		s := &samples[i]
		cl, ok := classOf(s.Category)
		k := c.carriers[c.carrierOf(s.Carrier)]
		if !ok || !isSign[cl] || k == nil || s.Source == "" {
			continue
		}
		r := k.replies[s.Source]
		if r == nil {
			if len(k.replies) >= keyspace.MaxSteered {
				clear(k.replies)
			}
			r = &replies{}
			k.replies[s.Source] = r
		}
		r.keep(sampleText(s))
		if h := hintIn(s.Text); h > 0 {
			r.hint, r.hintAt = h, t
		}
	}
}

// keep puts a text first.
func (r *replies) keep(text string) {
	if i := slices.Index(r.texts, text); i >= 0 {
		r.texts = slices.Delete(r.texts, i, i+1)
	} else if len(r.texts) == maxReplies {
		r.texts = r.texts[:maxReplies-1]
	}
	r.texts = slices.Insert(r.texts, 0, text)
}

func (k *carrier) repliesOf(source string) []string {
	if r := k.replies[source]; r != nil {
		return slices.Clone(r.texts)
	}
	return nil
}

// hintFor is how long a hint counts.
const hintFor = 2 * time.Minute

// hintIn is how long a reply asks to wait, as "try again in 30 minutes"; 0 when
// it does not.
func hintIn(text string) time.Duration {
	words := strings.FieldsFunc(strings.ToLower(text[:min(len(text), maxText)]), func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9')
	})
	asks := false
	for i, w := range words {
		switch w {
		case "again", "retry", "wait", "later":
			asks = true
		}
		if !asks || i+1 == len(words) || len(w) > 6 {
			continue
		}
		n, err := strconv.Atoi(w)
		if err != nil || n <= 0 {
			continue
		}
		for _, u := range hintUnits {
			if strings.HasPrefix(words[i+1], u.word) {
				return min(time.Duration(n)*u.span, policy.MaxRest)
			}
		}
	}
	return 0
}

var hintUnits = [...]struct {
	word string
	span time.Duration
}{{"sec", time.Second}, {"min", time.Minute}, {"hour", time.Hour}, {"hr", time.Hour}}

// asked is how long a carrier has just asked a source to wait.
func (k *carrier) asked(source string, t instant) time.Duration {
	if r := k.replies[source]; r != nil && r.hint > 0 && t.since(r.hintAt) < hintFor {
		return r.hint
	}
	return 0
}

// sampleText is a reply as people write it.
func sampleText(s *exchange.Sample) string {
	b := make([]byte, 0, maxText)
	if s.Code != 0 {
		b = strconv.AppendUint(b, uint64(s.Code), 10)
		b = append(b, ' ')
	}
	if s.Enhanced != "" {
		b = append(append(b, s.Enhanced...), ' ')
	}
	b = append(b, s.Text[:min(len(s.Text), maxText-40)]...)
	if s.Phase != "" {
		b = append(append(append(b, " ("...), s.Phase[:min(len(s.Phase), 20)]...), ')')
	}
	return string(b)
}

// byKey orders lanes.
func byKey(a, b *laneEntry) int {
	return cmp.Or(cmp.Compare(a.key.carrier, b.key.carrier), cmp.Compare(a.key.site, b.key.site), cmp.Compare(a.key.source, b.key.source))
}
