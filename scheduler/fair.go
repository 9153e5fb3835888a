package scheduler

import (
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Fairness is by weight (line.go): among the tenants of a class, inside a
// tenant among its streams and jobs. Inside those, the queues take turns.

// group is the rings of one pool's mail at a site.
type group struct {
	pool    string
	site    *site
	members []poolMember
	classes [message.Priorities]class
	backlog int // loaded deliveries in its rings, those of parked flows included
	open    int // sessions of its members, opening ones included

	grows *poolMember // has had less than its share for want of connections; may be nil
	full  bool        // no member can have another connection at the moment

	lastWent  instant // when a delivery was given out last, or the first became ready
	impatient bool    // ready mail has waited for patience: a connection for it
	timer             // looks for that; embedded last
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
// INVARIANT: a tenant is in line exactly when it does not wait for its budget
// and has a flow in its own line; a flow is in that exactly when it does not
// wait. Neither exists without queues.
type class struct {
	line   line
	byName map[string]*tenantTurn
}

// tenantTurn is one tenant in a class.
type tenantTurn struct {
	turn
	group  *group
	class  *class
	limits *scope
	atOne  *scope // at this carrier; nil where policy has no such limit
	flows  line
	byKey  map[flowKey]*flow
	name   string
}

type flowKey struct{ stream, job string }

// flow is one stream and job of a tenant.
type flow struct {
	turn
	tenant *tenantTurn
	stream *scope
	job    *scope // nil for a job that nobody has slowed
	key    flowKey
	queues ring[*queue]
	claim  *claim // of its queues; nil on a node without others
}

// ready reports whether the group has mail that waits for nothing but a
// session.
func (g *group) ready() bool {
	for i := range g.classes {
		if g.classes[i].line.first() != nil {
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
	s.recount(q, now)
	if g := q.flow.tenant.group; g.backlog == int(q.counted) {
		g.lastWent = max(g.lastWent, now) // the first to be ready here
	}
	if q.flow.waits == nil && q.flow.pos == 0 {
		s.enter(q.flow, now)
		return
	}
	s.beHungry(st) // there is more to do than there was
}

// enter puts a flow in line, and its tenant; if there is no budget for them
// they wait from the beginning, so that no connection is opened for them.
func (s *Scheduler) enter(f *flow, now instant) {
	if c := f.short(now); c != nil {
		s.park(&f.turn, c, now)
		return
	}
	tt := f.tenant
	tt.flows.add(&f.turn)
	if tt.waits != nil {
		return
	}
	if tt.pos == 0 {
		if c := tt.short(now); c != nil {
			s.park(&tt.turn, c, now)
			return
		}
	}
	tt.unpark(s)
}

func (s *Scheduler) flowOf(g *group, p message.Priority, k *message.QueueKey, now instant) *flow {
	c := &g.classes[p]
	tt := c.byName[k.Tenant]
	if tt == nil {
		tt = &tenantTurn{group: g, class: c, limits: s.limits.tenant(now, k.Tenant), byKey: map[flowKey]*flow{}, name: k.Tenant}
		tt.atOne = s.limits.at(now, tenantKey{k.Tenant, g.site.carrier})
		tt.weight, tt.priority, tt.owner, tt.fresh = policy.DefaultWeight, p, tt, true
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
			f.job = s.limits.jobFor(now, jobKey{k.Tenant, k.Job})
		}
		f.weight, f.priority, f.owner, f.fresh = policy.DefaultWeight, p, f, true
		if stream, _ := s.set.StreamOf(k.Tenant, k.Stream); stream != nil && stream.Weight > 0 {
			f.weight = stream.Weight
		}
		tt.byKey[key] = f
	}
	return f
}

// unpark puts a flow back into its line.
func (f *flow) unpark(s *Scheduler) {
	f.tenant.flows.add(&f.turn)
	if f.tenant.waits == nil {
		f.tenant.unpark(s)
	}
}

// unpark puts a tenant back into its line.
func (tt *tenantTurn) unpark(s *Scheduler) {
	if tt.flows.first() == nil {
		return
	}
	g := tt.group
	g.full = g.full && g.ready() // what was looked for in vain may be there now
	tt.class.line.add(&tt.turn)
	s.watch(g)
	s.beHungry(g.site)
	s.wakeSite(g.site)
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
	tt.flows.remove(&f.turn)
	s.unwait(&f.turn)
	delete(tt.byKey, f.key)
	if tt.flows.first() == nil {
		tt.class.line.remove(&tt.turn)
	}
	if len(tt.byKey) == 0 {
		s.unwait(&tt.turn)
		delete(tt.class.byName, tt.name)
	}
}

// pickIn finds the queue of the class whose turn it is. Whoever is out of
// budget waits for it outside the line, so a thousand limited tenants cost
// nothing until then.
func (s *Scheduler) pickIn(c *class, now instant) *queue {
	for {
		t := c.line.first()
		if t == nil {
			return nil
		}
		tt := t.owner.(*tenantTurn)
		if c := tt.short(now); c != nil {
			s.parkTenant(tt, c, now)
			continue
		}
		if q := s.pickFlow(tt, now); q != nil {
			return q
		}
		c.line.remove(t) // all its flows wait; they bring it back
	}
}

func (s *Scheduler) pickFlow(tt *tenantTurn, now instant) *queue {
	for {
		t := tt.flows.first()
		if t == nil {
			return nil
		}
		f := t.owner.(*flow)
		if c := f.short(now); c != nil {
			s.parkFlow(f, c, now)
			continue
		}
		q, _ := f.queues.first()
		return q
	}
}

// short is the budget that keeps the flow from going, or nil.
func (f *flow) short(now instant) *scope {
	switch {
	case !f.may(f.stream, now):
		return f.stream
	case f.job != nil && !f.may(f.job, now):
		return f.job
	}
	return nil
}

// short is the budget that keeps the tenant from going here, or nil.
func (tt *tenantTurn) short(now instant) *scope {
	switch {
	case !tt.may(tt.limits, now):
		return tt.limits
	case tt.atOne != nil && !tt.may(tt.atOne, now):
		return tt.atOne
	}
	return nil
}

func (s *Scheduler) parkTenant(tt *tenantTurn, c *scope, now instant) {
	tt.class.line.remove(&tt.turn)
	s.park(&tt.turn, c, now)
}

func (s *Scheduler) parkFlow(f *flow, c *scope, now instant) {
	f.tenant.flows.remove(&f.turn)
	s.park(&f.turn, c, now)
}

// went tells the lines that a queue's delivery has been given out.
func (s *Scheduler) went(q *queue, now instant) {
	f := q.flow
	f.queues.front = q.spot.next
	f.offered, f.tenant.offered = [2]*scope{}, [2]*scope{}
	s.charge(f, now)
}

// charge moves a flow and its tenant back by one message. Who has no budget
// left waits from now on, so that no connection is opened for its mail.
func (s *Scheduler) charge(f *flow, now instant) {
	tt := f.tenant
	tt.flows.spend(&f.turn)
	tt.class.line.spend(&tt.turn)
	if c := f.short(now); f.pos > 0 && c != nil {
		s.parkFlow(f, c, now)
		if tt.flows.first() == nil {
			tt.class.line.remove(&tt.turn)
		}
	}
	if tt.pos > 0 {
		if c := tt.short(now); c != nil {
			s.parkTenant(tt, c, now)
		}
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
func (s *Scheduler) recount(q *queue, now instant) {
	f := q.flow
	if f == nil {
		return
	}
	if n := int32(q.loaded()); n != q.counted {
		f.tenant.group.count(int(n - q.counted))
		q.counted = n
	}
	if s.limits.grants.Spanning {
		if f.claim == nil {
			f.claim = s.claimFor(q, now)
		}
		s.claims(q, f.claim, now)
	}
}

func (g *group) count(n int) {
	g.backlog += n
	g.site.backlog += n
}
