package scheduler

import (
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Fairness is deficit round robin (Shreedhar and Varghese, 1995) with a cost
// of one a message: tenants of a class in turn, inside a tenant its streams
// and jobs in turn, inside those their queues in turn. Weights are messages a
// turn.

// group is the rings of one pool's mail at a site.
type group struct {
	pool    string
	members []poolMember
	classes [message.Priorities]class
}

// poolMember is a source's place in the pool's weighted choice.
type poolMember struct {
	name   string
	weight int
	pass   int64 // stride scheduling: grows by strideOne/weight a message
}

// class is the tenants with ready mail of one priority.
type class struct {
	ring   ring[*tenantTurn]
	byName map[string]*tenantTurn
}

// tenantTurn is one tenant in a class.
type tenantTurn struct {
	turn
	class  *class
	site   *site
	limits *scope
	flows  ring[*flow]
	byKey  map[flowKey]*flow
	name   string
}

type flowKey struct{ stream, job string }

// flow is one stream and job of a tenant.
type flow struct {
	turn
	tenant *tenantTurn
	stream *scope
	key    flowKey
	queues []*queue
	next   int
}

// turn is a place in a ring.
type turn struct {
	slot   int // index + 1 in the ring; 0 is not in it
	weight int
	credit int
	timer
}

func (t *turn) place() *turn { return t }

// ring is a set that is gone round. Members that cannot go are taken out and
// come back by their timer.
type ring[T interface{ place() *turn }] struct {
	members []T
	cur     int
}

func (r *ring[T]) add(m T) {
	if p := m.place(); p.slot == 0 {
		r.members = append(r.members, m)
		p.slot, p.credit = len(r.members), p.weight
	}
}

func (r *ring[T]) remove(m T) {
	p := m.place()
	if p.slot == 0 {
		return
	}
	i, last := p.slot-1, len(r.members)-1
	r.members[i] = r.members[last]
	r.members[i].place().slot = i + 1
	var zero T
	r.members[last] = zero
	r.members = r.members[:last]
	p.slot = 0
	if r.cur >= len(r.members) {
		r.cur = 0
	}
}

// front is whose turn it is.
func (r *ring[T]) front() (m T, ok bool) {
	if len(r.members) == 0 {
		return m, false
	}
	return r.members[r.cur], true
}

// spend takes one message off the front's credit and moves on when it is used up.
func (r *ring[T]) spend(m T) {
	p := m.place()
	if p.slot == 0 {
		return
	}
	if p.credit--; p.credit <= 0 {
		p.credit = p.weight
		if r.cur == p.slot-1 {
			r.cur = (r.cur + 1) % len(r.members)
		}
	}
}

// join puts a queue with a loaded head into the rings of its site.
func (s *Scheduler) join(q *queue, now instant) {
	if q.flow != nil {
		q.flow.unpark()
		s.recount(q)
		return
	}
	st := q.dest.site
	g := st.groupOf(s.set, q.key.Pool)
	c := &g.classes[min(int(q.key.Priority), message.Priorities-1)]
	f := s.flowOf(c, st, &q.key, now)
	q.flow, q.slot = f, len(f.queues)
	f.queues = append(f.queues, q)
	f.unpark()
	s.recount(q)
	s.beHungry(st)
	s.wakeSite(st)
}

func (s *Scheduler) flowOf(c *class, st *site, k *message.QueueKey, now instant) *flow {
	tt := c.byName[k.Tenant]
	if tt == nil {
		tt = &tenantTurn{class: c, site: st, limits: s.limits.tenant(now, k.Tenant), byKey: map[flowKey]*flow{}, name: k.Tenant}
		tt.weight, tt.timer.at = policy.DefaultWeight, never
		if t := s.set.Tenants[k.Tenant]; t != nil && t.Weight > 0 {
			tt.weight = t.Weight
		}
		if c.byName == nil {
			c.byName = map[string]*tenantTurn{}
		}
		c.byName[k.Tenant] = tt
	}
	key := flowKey{k.Stream, k.Job}
	f := tt.byKey[key]
	if f == nil {
		f = &flow{tenant: tt, stream: s.limits.stream(now, streamKey{k.Tenant, k.Stream}), key: key}
		f.weight, f.timer.at = policy.DefaultWeight, never
		if stream, _ := s.set.StreamOf(k.Tenant, k.Stream); stream != nil && stream.Weight > 0 {
			f.weight = stream.Weight
		}
		tt.byKey[key] = f
	}
	return f
}

// unpark puts a flow back into the rings unless it, or its tenant, waits for a
// budget.
func (f *flow) unpark() {
	if f.timer.pos == 0 && len(f.queues) > 0 {
		f.tenant.flows.add(f)
	}
	if f.tenant.timer.pos == 0 && len(f.tenant.flows.members) > 0 {
		f.tenant.class.ring.add(f.tenant)
	}
}

// removeQueue takes a queue out; flows and tenants without any are forgotten.
func (f *flow) removeQueue(q *queue) {
	last := len(f.queues) - 1
	f.queues[q.slot] = f.queues[last]
	f.queues[q.slot].slot = q.slot
	f.queues[last] = nil
	f.queues = f.queues[:last]
	q.flow = nil
	if f.next >= len(f.queues) {
		f.next = 0
	}
	if len(f.queues) > 0 {
		return
	}
	tt := f.tenant
	tt.flows.remove(f)
	if f.timer.pos == 0 {
		delete(tt.byKey, f.key)
	}
	if len(tt.flows.members) == 0 {
		tt.class.ring.remove(tt)
		if len(tt.byKey) == 0 && tt.timer.pos == 0 {
			delete(tt.class.byName, tt.name)
		}
	}
}

// fire is timed: the flow's budget has something again.
func (f *flow) fire(s *Scheduler, _ instant) {
	f.timer.pos = 0
	if len(f.queues) == 0 {
		delete(f.tenant.byKey, f.key)
		return
	}
	f.unpark()
	s.beHungry(f.tenant.site)
	s.wakeSite(f.tenant.site)
}

// fire is timed: the tenant's budget has something again.
func (tt *tenantTurn) fire(s *Scheduler, _ instant) {
	tt.timer.pos = 0
	if len(tt.flows.members) > 0 {
		tt.class.ring.add(tt)
	} else if len(tt.byKey) == 0 {
		delete(tt.class.byName, tt.name)
		return
	}
	s.beHungry(tt.site)
	s.wakeSite(tt.site)
}

// pickIn finds the queue of the class whose turn it is. Whoever is out of
// budget is parked until it has some, so a thousand limited tenants cost
// nothing until then.
func (s *Scheduler) pickIn(c *class, now instant) *queue {
	for {
		tt, ok := c.ring.front()
		if !ok {
			return nil
		}
		if at := tt.limits.ready(now); at > now {
			c.ring.remove(tt)
			s.setTimer(&tt.timer, tt, at)
			continue
		}
		if q := s.pickFlow(tt, now); q != nil {
			return q
		}
		c.ring.remove(tt) // all its flows are parked; they bring it back
	}
}

func (s *Scheduler) pickFlow(tt *tenantTurn, now instant) *queue {
	for {
		f, ok := tt.flows.front()
		if !ok {
			return nil
		}
		at := f.stream.ready(now)
		if job := s.limits.job(jobKey{tt.name, f.key.job}); f.key.job != "" && job != nil {
			at = max(at, job.ready(now))
		}
		if at > now {
			tt.flows.remove(f)
			s.setTimer(&f.timer, f, at)
			continue
		}
		q := f.queues[f.next]
		f.next = (f.next + 1) % len(f.queues)
		return q
	}
}

// each calls fn for every queue of the class; fn may take the queue out.
func (c *class) each(fn func(*queue)) {
	for _, tt := range c.byName {
		for _, f := range tt.byKey {
			for i := len(f.queues) - 1; i >= 0; i-- {
				fn(f.queues[i])
			}
		}
	}
}

// recount keeps the site's number of ready deliveries.
func (s *Scheduler) recount(q *queue) {
	n := int32(0)
	if q.flow != nil {
		n = int32(q.loaded())
	}
	if n != q.counted && q.dest.site != nil {
		q.dest.site.backlog += int(n - q.counted)
	}
	q.counted = n
}
