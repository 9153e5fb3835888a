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
	site    *site
	members []poolMember
	classes [message.Priorities]class
	backlog int // loaded deliveries in its rings, those of parked flows included
	open    int // sessions of its members, opening ones included

	full bool // no member can have another connection at the moment
}

// poolMember is a source's place in the pool's weighted choice.
type poolMember struct {
	name   string
	weight int
	pass   int64 // stride scheduling: grows by strideOne/weight a message
	lane   *lane // nil until it is first wanted
}

// class is the tenants with ready mail of one priority.
//
// INVARIANT: a tenant is in ring exactly when it does not wait for its budget
// and has a flow in its own ring; a flow is in that exactly when it does not
// wait. Neither exists without queues.
type class struct {
	ring   ring[*tenantTurn]
	byName map[string]*tenantTurn
}

// tenantTurn is one tenant in a class.
type tenantTurn struct {
	turn
	place  place[*tenantTurn]
	group  *group
	class  *class
	limits *scope
	flows  ring[*flow]
	byKey  map[flowKey]*flow
	name   string
}

type flowKey struct{ stream, job string }

// flow is one stream and job of a tenant.
type flow struct {
	turn
	place  place[*flow]
	tenant *tenantTurn
	stream *scope
	job    *scope // nil for a job that nobody has slowed
	key    flowKey
	queues ring[*queue]
}

// ready reports whether the group has mail that waits for nothing but a
// session.
func (g *group) ready() bool {
	for i := range g.classes {
		if g.classes[i].ring.n > 0 {
			return true
		}
	}
	return false
}

// join puts a queue with a loaded head into the rings of its site.
func (s *Scheduler) join(q *queue, now instant) {
	st := q.dest.site
	if q.flow == nil {
		g := st.groupOf(s, q.key.Pool)
		p := min(q.key.Priority, message.Low)
		q.flow = s.flowOf(g, p, &q.key, now)
		q.flow.queues.add(&q.spot, q)
	}
	s.recount(q)
	if q.flow.waits == nil && !q.flow.place.in() {
		q.flow.unpark(s)
	} else {
		s.beHungry(st) // there is more to do than there was
	}
}

func (s *Scheduler) flowOf(g *group, p message.Priority, k *message.QueueKey, now instant) *flow {
	c := &g.classes[p]
	tt := c.byName[k.Tenant]
	if tt == nil {
		tt = &tenantTurn{group: g, class: c, limits: s.limits.tenant(now, k.Tenant), byKey: map[flowKey]*flow{}, name: k.Tenant}
		tt.weight, tt.priority, tt.owner = policy.DefaultWeight, p, tt
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
		if k.Job != "" {
			f.job = s.limits.job(jobKey{k.Tenant, k.Job})
		}
		f.weight, f.priority, f.owner = policy.DefaultWeight, p, f
		if stream, _ := s.set.StreamOf(k.Tenant, k.Stream); stream != nil && stream.Weight > 0 {
			f.weight = stream.Weight
		}
		tt.byKey[key] = f
	}
	return f
}

// unpark puts a flow back into its ring.
func (f *flow) unpark(s *Scheduler) {
	if !f.place.in() {
		f.credit = f.weight
		f.tenant.flows.add(&f.place, f)
	}
	if f.tenant.waits == nil {
		f.tenant.unpark(s)
	}
}

// unpark puts a tenant back into its ring.
func (tt *tenantTurn) unpark(s *Scheduler) {
	if tt.flows.n == 0 {
		return
	}
	st := tt.group.site
	if !tt.place.in() {
		tt.group.full = tt.group.full && tt.group.ready() // sessions may have ended meanwhile
		tt.credit = tt.weight
		tt.class.ring.add(&tt.place, tt)
	}
	s.beHungry(st)
	s.wakeSite(st)
}

// leave takes a queue out; flows and tenants without any are forgotten.
func (s *Scheduler) leave(q *queue) {
	f := q.flow
	f.queues.remove(&q.spot)
	f.tenant.group.count(-int(q.counted))
	q.flow, q.counted = nil, 0
	if f.queues.n > 0 {
		return
	}
	tt := f.tenant
	tt.flows.remove(&f.place)
	s.unwait(&f.turn)
	delete(tt.byKey, f.key)
	if tt.flows.n == 0 {
		tt.class.ring.remove(&tt.place)
	}
	if len(tt.byKey) == 0 {
		s.unwait(&tt.turn)
		delete(tt.class.byName, tt.name)
	}
}

// pickIn finds the queue of the class whose turn it is. Whoever is out of
// budget waits for it outside the ring, so a thousand limited tenants cost
// nothing until then.
func (s *Scheduler) pickIn(c *class, now instant) *queue {
	for {
		tt, ok := c.ring.first()
		if !ok {
			return nil
		}
		if !tt.may(tt.limits, now) {
			c.ring.remove(&tt.place)
			s.park(&tt.turn, tt.limits, now)
			continue
		}
		if q := s.pickFlow(tt, now); q != nil {
			return q
		}
		c.ring.remove(&tt.place) // all its flows wait; they bring it back
	}
}

func (s *Scheduler) pickFlow(tt *tenantTurn, now instant) *queue {
	for {
		f, ok := tt.flows.first()
		if !ok {
			return nil
		}
		c := f.stream
		if c.ready(now) <= now && f.job != nil && !f.may(f.job, now) {
			c = f.job
		}
		if !f.may(c, now) {
			tt.flows.remove(&f.place)
			s.park(&f.turn, c, now)
			continue
		}
		q, _ := f.queues.first()
		return q
	}
}

// went tells the rings that a queue's delivery has been given out.
func (f *flow) went() {
	f.queues.rotate()
	tt := f.tenant
	f.offered, tt.offered = [2]*scope{}, [2]*scope{}
	if f.credit--; f.credit <= 0 {
		f.credit = f.weight
		tt.flows.rotate()
	}
	if tt.credit--; tt.credit <= 0 {
		tt.credit = tt.weight
		tt.class.ring.rotate()
	}
}

// each calls fn for every queue of the class; fn may take the queue out.
func (c *class) each(fn func(*queue)) {
	for _, tt := range c.byName {
		for _, f := range tt.byKey {
			f.queues.each(func(q *queue) bool { fn(q); return true })
		}
	}
}

// recount keeps the number of loaded deliveries in the rings.
func (s *Scheduler) recount(q *queue) {
	if q.flow == nil {
		return
	}
	if n := int32(q.loaded()); n != q.counted {
		q.flow.tenant.group.count(int(n - q.counted))
		q.counted = n
	}
}

func (g *group) count(n int) {
	g.backlog += n
	g.site.backlog += n
}
