package scheduler

import (
	"fmt"
	"slices"

	"hikyaku/spool/message"
)

// check recounts everything that the scheduler keeps a count or a place of,
// and returns the first thing that is wrong.
func (s *Scheduler) check(now instant) error {
	for _, fn := range []func(instant) error{s.checkQueues, s.checkRings, s.checkSessions, s.checkFifos, s.checkTimers, s.checkCluster} {
		if err := fn(now); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scheduler) checkQueues(instant) error {
	loaded, flight, recent := 0, 0, 0
	flying := map[*queue]int32{}
	for id, it := range s.items {
		if it.d.ID != id || s.queues[it.q.key] != it.q {
			return fmt.Errorf("item %s is of a queue that is not known", id)
		}
		if it.flight {
			flying[it.q]++
			flight++
		}
	}
	for p := s.recent.root.next; p != nil && p != &s.recent.root; p = p.next {
		if recent++; p.q.loaded() == 0 {
			return fmt.Errorf("queue %v is among the recent and has no head", p.q.key)
		}
	}
	for key, q := range s.queues {
		loaded += q.loaded()
		if q.loaded() > 0 {
			recent--
		}
		for _, it := range q.head[q.first:] {
			if s.items[it.d.ID] != it || it.flight || it.q != q {
				return fmt.Errorf("the head of %v holds %s, which is not loaded", key, it.d.ID)
			}
		}
		switch {
		case q.flying != flying[q]:
			return fmt.Errorf("queue %v: %d flying, counted %d", key, flying[q], q.flying)
		case q.key != key || s.dests[key.Destination] != q.dest:
			return fmt.Errorf("queue %v has a destination that is not known", key)
		case q.flow == nil && q.counted != 0, q.flow != nil && int(q.counted) != q.loaded():
			return fmt.Errorf("queue %v: %d counted, %d loaded, ready %v", key, q.counted, q.loaded(), q.flow != nil)
		case !q.more && q.next != never && q.next != 0:
			return fmt.Errorf("queue %v: next without more", key)
		case q.loaded() == 0 && !q.more && q.flying == 0 && q.page == pageNone && !q.sweeping:
			return fmt.Errorf("queue %v is empty and still there", key)
		case (q.loaded() > 0 || q.more) && q.flow == nil && q.page == pageNone && q.timer.pos == 0 && !q.dest.asking && q.flying == 0 && !q.sweeping:
			return fmt.Errorf("queue %v waits for nothing that comes", key)
		}
	}
	if loaded != s.count.Loaded || flight != s.count.InFlight || loaded+flight != len(s.items) || recent != 0 {
		return fmt.Errorf("%d loaded (%d counted), %d in flight (%d counted), %d items, recent off by %d", loaded, s.count.Loaded, flight, s.count.InFlight, len(s.items), recent)
	}
	return nil
}

func (s *Scheduler) checkRings(instant) error {
	inRings := 0
	for _, st := range s.sites {
		site := 0
		for _, g := range st.groups {
			pool := 0
			for p := range g.classes {
				n, queues, err := s.checkClass(g, &g.classes[p], message.Priority(p))
				if err != nil {
					return fmt.Errorf("site %s pool %s class %d: %w", st.name, g.pool, p, err)
				}
				pool += n
				inRings += queues
			}
			if pool != g.backlog {
				return fmt.Errorf("site %s pool %s: backlog %d, counted %d", st.name, g.pool, pool, g.backlog)
			}
			site += pool
		}
		if site != st.backlog {
			return fmt.Errorf("site %s: backlog %d, counted %d", st.name, site, st.backlog)
		}
	}
	for _, q := range s.queues {
		if q.flow != nil {
			inRings--
			if q.flow.tenant.group.site != q.dest.site {
				return fmt.Errorf("queue %v is at a site that is not its own", q.key)
			}
		}
	}
	if inRings != 0 {
		return fmt.Errorf("%d more queues in rings than know of it", inRings)
	}
	return nil
}

func (s *Scheduler) checkClass(g *group, c *class, p message.Priority) (backlog, queues int, err error) {
	inRing := 0
	for name, tt := range c.byName {
		if tt.pos > 0 {
			inRing++
		}
		flows := 0
		for key, f := range tt.byKey {
			if f.pos > 0 {
				flows++
			}
			if (f.pos > 0) != (f.waits == nil) || f.queues.n == 0 || f.key != key || f.priority != p || f.spot.in() != (f.waits != nil) {
				return 0, 0, fmt.Errorf("flow %v of %s: in ring %v, waits %v, %d queues", key, name, (f.pos > 0), f.waits != nil, f.queues.n)
			}
			f.queues.each(func(q *queue) bool {
				queues++
				backlog += q.loaded()
				if q.flow != f || q.loaded() == 0 {
					err = fmt.Errorf("queue %v is in a flow that it does not know, or empty", q.key)
				}
				return true
			})
		}
		if flows != len(tt.flows.members) || (tt.pos > 0) != (tt.waits == nil && flows > 0) || len(tt.byKey) == 0 || tt.group != g || tt.spot.in() != (tt.waits != nil) {
			return 0, 0, fmt.Errorf("tenant %s: in ring %v, waits %v, %d flows (%d counted)", name, (tt.pos > 0), tt.waits != nil, flows, len(tt.flows.members))
		}
	}
	if inRing != len(c.line.members) {
		return 0, 0, fmt.Errorf("%d tenants in line, counted %d", inRing, len(c.line.members))
	}
	return backlog, queues, err
}

func (s *Scheduler) checkSessions(instant) error {
	open, doubtful, leaving, conns, told := 0, 0, 0, map[*links]int{}, map[*links]int{}
	for key, l := range s.lanes {
		if l.key != key || s.sites[key.Site] != l.site || l.open < 0 || l.opening < 0 || l.idle < 0 || l.idle > l.open || l.leaving > l.open+l.opening {
			return fmt.Errorf("lane %v: open %d, opening %d, idle %d", key, l.open, l.opening, l.idle)
		}
		doubtful += l.doubtful
		leaving += l.leaving
		of := []*links{l.own, l.all}
		for _, p := range l.pools {
			of = append(of, p.links)
		}
		for _, k := range of {
			conns[k] += l.open + l.opening
			told[k] += l.leaving
		}
		if l.away == s.usable(key.Source) {
			return fmt.Errorf("lane %v: its source is away: %v", key, l.away)
		}
		if l.all != l.site.all {
			return fmt.Errorf("lane %v spends from another budget than its site", key)
		}
	}
	for name, st := range s.sites {
		sessions, idle := 0, 0
		for _, l := range st.lanes {
			sessions += l.open + l.opening
			idle += l.idle
		}
		if st.rest.in() != (idle > 0) {
			return fmt.Errorf("site %s: %d idle, among the resting: %v", name, idle, st.rest.in())
		}
		if sessions != st.open || idle != st.idle || st.name != name {
			return fmt.Errorf("site %s: %d sessions (%d counted), %d idle (%d counted)", name, sessions, st.open, idle, st.idle)
		}
		open += sessions
		for _, g := range st.groups {
			n := 0
			for _, l := range st.lanes {
				if m := g.member(l.key.Source); m != nil {
					n += l.open + l.opening
					if m.lane != l {
						return fmt.Errorf("pool %s at %s does not know the lane of %s", g.pool, name, m.name)
					}
				}
			}
			if n != g.open {
				return fmt.Errorf("pool %s at %s: %d sessions, counted %d", g.pool, name, n, g.open)
			}
		}
	}
	for key, l := range s.limits.links {
		if l.conns != conns[l] || l.leaving != told[l] {
			return fmt.Errorf("links %v: %d connections, counted %d; %d leave, counted %d", key, conns[l], l.conns, told[l], l.leaving)
		}
		if l.eased {
			return fmt.Errorf("links %v are still to be looked at", key)
		}
	}
	if doubtful != s.doubtful || leaving != s.leaving {
		return fmt.Errorf("%d doubtful sessions, counted %d; %d leaving, counted %d", doubtful, s.doubtful, leaving, s.leaving)
	}
	if open != s.count.Sessions || open > s.cfg.MaxSessions {
		return fmt.Errorf("%d sessions, counted %d of %d", open, s.count.Sessions, s.cfg.MaxSessions)
	}
	return nil
}

func (s *Scheduler) checkFifos(instant) error {
	wanted, reading, promised := 0, 0, 0
	for _, q := range s.queues {
		switch {
		case q.page == pageWanted:
			wanted++
		case q.reading():
			reading++
			promised += int(q.asked)
		}
	}
	waiting, asked, atSites := 0, 0, map[*site]int{}
	for name, d := range s.dests {
		if d.asked {
			asked++
		} else if d.asking {
			waiting++
		}
		if d.site != nil {
			if atSites[d.site]++; s.sites[d.site.name] != d.site {
				return fmt.Errorf("destination %s is at a site that is not known", name)
			}
		}
		if len(d.queues) == 0 && d.timer.pos == 0 && !d.asking {
			return fmt.Errorf("destination %s is never forgotten", name)
		}
	}
	hungry := 0
	for _, st := range s.sites {
		if st.dests != atSites[st] {
			return fmt.Errorf("site %s: %d destinations, counted %d", st.name, atSites[st], st.dests)
		}
		if st.hungryFlag {
			hungry++
		}
		if st.dests == 0 && st.timer.pos == 0 {
			return fmt.Errorf("site %s is never forgotten", st.name)
		}
	}
	if wanted != s.wanted || reading != s.asked || promised != s.promised {
		return fmt.Errorf("pages: %d wanted (%d in line), %d reading (%d counted), %d promised (%d counted)", wanted, s.wanted, reading, s.asked, promised, s.promised)
	}
	if waiting != s.unasked || asked != s.asking || hungry != s.hungering {
		return fmt.Errorf("look-ups: %d wanted (%d in line), %d asked (%d counted); %d hungry (%d in line)", waiting, s.unasked, asked, s.asking, hungry, s.hungering)
	}
	return nil
}

func (s *Scheduler) checkTimers(now instant) error {
	oldest := never
	for _, q := range s.queues {
		if oldest = min(oldest, q.firstDue()); q.firstDue() != never && (q.oldest.pos == 0 || q.oldest.at > q.firstDue()) {
			return fmt.Errorf("queue %v is older than its place among the oldest", q.key)
		}
	}
	if due, _, ok := s.OldestDue(now.time()); ok != (oldest <= now) || ok && at(due) != oldest {
		return fmt.Errorf("the oldest is due at %d, said to be %d", oldest, at(due))
	}
	for i, t := range s.timers {
		if int(t.pos) != i+1 || t.owner == nil || t.at == never || i > 0 && s.timers[(i-1)/2].at > t.at {
			return fmt.Errorf("timer %d of %d: place %d, at %d", i, len(s.timers), t.pos, t.at)
		}
		if q, ok := t.owner.(*queue); ok && s.queues[q.key] != q {
			return fmt.Errorf("a timer for queue %v, which is forgotten", q.key)
		}
		if c, ok := t.owner.(*scope); ok && !c.awaited(message.Low) {
			return fmt.Errorf("a timer for a budget that nobody waits for")
		}
	}
	return nil
}

// lostWake finds a session that waits, without a time at which it will look
// again by itself, although there is mail it could take at once.
func (s *Scheduler) lostWake(now instant, retries func(Lane) bool) error {
	for _, st := range s.sites {
		for _, l := range st.lanes {
			if l.idle == 0 || !s.canPull(l, now) || retries(l.key) {
				continue
			}
			for _, g := range st.groups {
				if m := g.member(l.key.Source); m != nil && s.mailFor(g, l, now) {
					return fmt.Errorf("a session of %v waits, and so does mail of pool %s", l.key, g.pool)
				}
			}
		}
	}
	return nil
}

// lostHunger finds mail that wants a connection which nobody will look for.
// (Where sessions are open but out of budget, they look themselves when they
// have some.)
func (s *Scheduler) lostHunger(now instant, retries func(Lane) bool) error {
	for _, st := range s.sites {
		for _, g := range st.groups {
			if slices.ContainsFunc(g.members, func(m poolMember) bool { return retries(Lane{m.name, st.name}) }) {
				continue
			}
			if s.wants(g, now) && (g.open == 0 || g.backlog >= perSession*g.open) && !g.full && !st.hungryFlag {
				return fmt.Errorf("%d deliveries of pool %s at %s want a connection; %d are open, %d idle at the site", g.backlog, g.pool, st.name, g.open, st.idle)
			}
		}
	}
	return nil
}

func (s *Scheduler) mailFor(g *group, l *lane, now instant) (could bool) {
	for i := range g.classes {
		for _, t := range g.classes[i].line.members {
			tt := t.owner.(*tenantTurn)
			for _, t := range tt.flows.members {
				if f := t.owner.(*flow); tt.short(now) == nil && f.short(now) == nil {
					f.queues.each(func(q *queue) bool { could = could || !s.heldHere(q, l); return true })
				}
			}
		}
	}
	return could
}
