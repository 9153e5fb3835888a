package scheduler

import (
	"maps"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// SetSources says which sources this node may use now; nil is all that policy
// has. Sessions of others get nothing any more and are told to end (Crowded),
// and mail of pools without any waits, stranded, for one to come, for its
// expiry, or for Stranded's caller to hand it to another node. A source that
// comes to this node begins with empty buckets: what was sent from it elsewhere
// until a moment ago is not known here.
func (s *Scheduler) SetSources(now time.Time, held map[string]bool) {
	t := at(now)
	came := func(name string) bool { return s.held != nil && !s.held[name] && held[name] }
	for key, l := range s.limits.links {
		if key.source != "" && came(key.source) {
			l.rate.empty(t)
			l.connRate.empty(t)
		}
	}
	s.held = nil
	if held != nil {
		s.held = maps.Clone(held)
	}
	changed := map[string]bool{}
	for name := range s.set.Pools {
		if ms := s.membersOf(name); !sameMembers(ms, s.pools[name]) {
			s.pools[name], changed[name] = ms, true
		}
	}
	s.around.each(func(st *site) bool {
		away := false
		for _, l := range st.lanes {
			l.away = !s.usable(l.key.Source)
			away = away || l.away
		}
		st.regroup(s, changed)
		if away {
			s.wakeSite(st)
		}
		return true
	})
	s.dropOpenings(t)
	s.inLine.each(func(q *queue) bool {
		if changed[q.key.Pool] {
			s.place(q, t)
		}
		return true
	})
}

func sameMembers(a, b []poolMember) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].name != b[i].name || a[i].weight != b[i].weight {
			return false
		}
	}
	return true
}

// usable reports whether this node may use a source.
func (s *Scheduler) usable(source string) bool { return s.held == nil || s.held[source] }

// membersOf are the sources of a pool that may be used here.
func (s *Scheduler) membersOf(name string) []poolMember {
	var ms []poolMember
	for _, m := range s.set.Pools[name].Sources {
		if src := s.set.Sources[m.Name]; src != nil && !src.Disabled && s.usable(m.Name) {
			ms = append(ms, poolMember{name: m.Name, weight: max(1, m.Weight)})
		}
	}
	return ms
}

// HasSources reports whether this node may use a source of a pool, at some
// carrier.
func (s *Scheduler) HasSources(pool string) bool { return len(s.pools[pool]) > 0 }

// elsewhere reports whether a pool without a usable source has one that
// another node may have.
func (s *Scheduler) elsewhere(pool string) bool {
	p := s.set.Pools[pool]
	if p == nil || s.held == nil {
		return false
	}
	for _, m := range p.Sources {
		if src := s.set.Sources[m.Name]; src != nil && !src.Disabled {
			return true
		}
	}
	return false
}

// dropOpenings takes back what was asked for and nobody has been told of yet.
func (s *Scheduler) dropOpenings(now instant) {
	kept := s.out[:0]
	var gone []*lane
	for _, a := range s.out {
		if l := s.lanes[a.Lane]; a.Kind == Open && l != nil && (l.away || l.own.rests > now) {
			gone = append(gone, l)
			continue
		}
		kept = append(kept, a)
	}
	clear(s.out[len(kept):])
	s.out = kept
	for _, l := range gone {
		s.SessionClosed(now.time(), l.key, false, nil)
	}
}

// strands are the queues whose mail is due and has no source on this node. They
// are offered by class and tenant in turn, and inside a tenant in turn.
type strands struct {
	classes [message.Priorities]strandClass
	turns   int
	n       int // queues
}

type strandClass struct {
	ring   ring[*strand]
	byName map[string]*strand
}

// strand is one tenant's stranded queues of a class.
type strand struct {
	place  place[*strand]
	queues ring[*queue]
}

func (x *strands) add(q *queue) {
	c := &x.classes[min(q.key.Priority, message.Low)]
	st := c.byName[q.key.Tenant]
	if st == nil {
		if c.byName == nil {
			c.byName = map[string]*strand{}
		}
		st = &strand{}
		c.byName[q.key.Tenant] = st
	}
	st.queues.add(&q.spot, q)
	c.ring.add(&st.place, st)
	x.n++
}

func (x *strands) remove(q *queue) {
	c := &x.classes[min(q.key.Priority, message.Low)]
	st := c.byName[q.key.Tenant]
	if st.queues.remove(&q.spot); st.queues.n == 0 {
		c.ring.remove(&st.place)
		delete(c.byName, q.key.Tenant)
	}
	x.n--
}

// Stranded names at most max queues with mail that is due and that no source of
// this node may carry, though one of another node might. Each call goes on where
// the last one ended.
func (s *Scheduler) Stranded(now time.Time, max int) []message.QueueKey {
	s.fire(at(now))
	x, seen := &s.stranded, map[*queue]bool{}
	var out []message.QueueKey
	for len(out) < max {
		var q *queue
		for _, p := range orderOf(x.turns) {
			if q = x.classes[p].next(seen); q != nil {
				break
			}
		}
		if q == nil {
			break
		}
		x.turns++
		out = append(out, q.key)
	}
	return out
}

// next is the queue whose turn it is among those that have not been seen.
func (c *strandClass) next(seen map[*queue]bool) *queue {
	for range c.ring.n {
		st, _ := c.ring.first()
		c.ring.rotate()
		if q, _ := st.queues.first(); !seen[q] {
			st.queues.rotate()
			seen[q] = true
			return q
		}
	}
	return nil
}

// strand puts a queue among the stranded if it is one.
func (s *Scheduler) strand(q *queue, now instant) {
	strands := s.anyStrandable(q, now) && !s.heldAtAll(q, now) && (q.key.Job == "" || !s.limits.paused(jobKey{q.key.Tenant, q.key.Job}))
	switch {
	case !strands:
		s.unready(q)
	case !q.stranded: // else it keeps its turn
		s.unready(q)
		q.stranded = true
		s.stranded.add(q)
	}
}

// SourceBacklogs counts for each source the mail that is due and that it could
// carry, as far as Demand.Backlog counts it. Mail of a pool counts for all of
// its sources, also for those that this node does not have.
func (s *Scheduler) SourceBacklogs(time.Time) map[string]int64 {
	out := map[string]int64{}
	for pool, n := range s.waiting {
		if p := s.set.Pools[pool]; p != nil && *n > 0 {
			for _, m := range p.Sources {
				out[m.Name] += *n
			}
		}
	}
	return out
}

// maxBrake is how long one warning stops a source at a carrier.
const maxBrake = instant(time.Minute)

// Brake stops a source at a carrier until a time, at most a minute ahead: no new
// connection and no mail. It is for what other nodes have seen and is only a
// hint, so names that policy does not know are ignored, and the default carrier
// too, which is not one provider.
func (s *Scheduler) Brake(now time.Time, carrier, source string, until time.Time) {
	if carrier == policy.DefaultName || s.set.Carriers[carrier] == nil || s.set.Sources[source] == nil {
		return
	}
	t := at(now)
	l := s.limits.link(t, linkKey{carrier: carrier, source: source})
	l.brake = max(l.brake, min(at(until), t+maxBrake))
}
