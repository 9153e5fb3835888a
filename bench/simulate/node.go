package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// node is a node process with its disk.
type node struct {
	process
	number int
	disk   struct {
		floor, rank, members int64
	}
	reg         *registration
	leader      leaderRow // as it has heard
	policy      *policy
	assigned    []sources.Assigned // of this node, by source number
	tenures     []*tenure          // by source number
	usable      [][]*tenure        // by pool
	turn        int
	exch        exchanging
	lanes       []*lane // by carrier; nil where it has no mail
	draining    bool
	registering bool
}

// registration is a lease and what the node believes of it.
type registration struct {
	id     int64
	keeper *lease.Keeper
	lost   bool
	// trusted is until when a client that believes in its session goes on
	// (Break.TrustSession): a TTL after the last reply, looked at each second.
	trusted time.Time
	session bool
}

// tenure is the use of a source under one epoch.
type tenure struct {
	source int
	epoch  int64
	lease  int64
	ending bool
	cutoff time.Time // of what is in flight
	busy   int
	over   bool // nothing is in flight and nothing will be
}

// exchanging is a node's side of the exchange.
type exchanging struct {
	serial  uint64
	waiting bool
	sent    time.Time
	soon    bool

	term    int64 // the highest heard of
	applied uint64
	inForce int64 // term of applied
	until   time.Time
	life    int // counts what was put in force
	granted bool
}

func newNode(s *sim, i int) *node {
	n := &node{process: newProcess(s, fmt.Sprintf("n%04d", i), int64(i)), number: i}
	n.up = false
	for c := range s.opt.Carriers {
		var l *lane
		if s.opt.Reach == s.opt.Carriers || (c+i*7)%s.opt.Carriers < s.opt.Reach {
			l = &lane{n: n, carrier: c}
		}
		n.lanes = append(n.lanes, l)
	}
	return n
}

func (s *sim) nodeNumber(name string) int {
	if name == "" {
		return -1
	}
	i, err := strconv.Atoi(name[1:])
	if err != nil {
		panic("BUG: node " + name)
	}
	return i
}

func (s *sim) sourceNumber(name string) int { return s.nodeNumber(name) }

// start is a new incarnation: nothing but the disk is left.
func (n *node) start() {
	s := n.s
	n.up = true
	n.life++
	n.reg, n.leader, n.exch, n.registering, n.draining = nil, leaderRow{}, exchanging{}, false, false
	n.assigned = make([]sources.Assigned, len(s.policies[0].sources))
	n.tenures = make([]*tenure, len(s.policies[0].sources))
	n.usable = make([][]*tenure, s.pools())
	if n.policy == nil {
		n.policy = s.policies[0]
	}
	s.note('s', n.id, int64(n.life))
	for _, l := range n.lanes {
		if l != nil {
			l.restart()
		}
	}
	s.etcd.follow(&n.process, n.number, n.hear)
	n.register()
	n.after(s.between(0, exchange.Interval), n.exchangeLoop)
}

// die ends the incarnation: its connections end with it.
func (n *node) die() {
	n.s.etcd.unfollow(&n.process)
	n.kill()
	for _, l := range n.lanes {
		if l != nil {
			l.dead()
		}
	}
}

// hear takes what the watch brings.
func (n *node) hear(changes []change) {
	for i := range changes {
		switch c := &changes[i]; c.kind {
		case ofAll:
			clear(n.assigned)
		case ofLeader:
			n.leader = c.leader
			n.exch.term = max(n.exch.term, c.leader.term)
		case ofSource:
			n.assigned[c.row] = c.source
		case ofPolicy:
			n.usePolicy(n.s.policies[c.policy-1])
		}
	}
	n.look()
}

func (n *node) usePolicy(p *policy) {
	if p.revision <= n.policy.revision {
		return
	}
	n.policy = p
	n.s.check.policyApplied(n)
	for _, l := range n.lanes {
		if l != nil {
			l.reset()
		}
	}
}

// register asks for a lease and binds the registration to it.
func (n *node) register() {
	if n.registering || n.reg != nil {
		return
	}
	n.registering = true
	again := func() {
		n.registering = false
		n.after(n.s.between(300*time.Millisecond, time.Second), n.register)
	}
	e, sent := n.s.etcd, n.clock()
	var id int64
	e.call(&n.process, func() { id = e.grant(nodeTTL) }, func(ok bool) {
		if !ok {
			again()
			return
		}
		keeper, err := lease.New(sent, nodeTTL, nodeMargin)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		reg := &registration{id: id, keeper: keeper, trusted: n.clock().Add(nodeTTL), session: true}
		done := false
		e.call(&n.process, func() { done = n.bind(id) }, func(ok bool) {
			if !ok || !done || !n.holds(reg) {
				again()
				return
			}
			n.registering = false
			n.reg = reg
			n.s.note('r', n.id, id)
			n.renew(reg)
			if n.s.opt.Break.TrustSession {
				n.lookAtSession(reg)
			} else {
				n.watchdog(reg)
			}
			n.look()
		})
	})
}

// bind runs in etcd: it writes nodes/<name>. (Reading what was there and the
// guarded write are one step here; in the product a race between them costs a
// try.)
func (n *node) bind(id int64) bool {
	e := n.s.etcd
	if e.lease(id) == nil {
		return false
	}
	old := e.nodes[n.number]
	r := keyspace.Registration{Name: n.name, NodeID: n.name, Lease: id, TTL: nodeTTL, Labels: map[string]string{"site": sites[n.number%len(sites)]}, Capacity: 1}
	if old.mod != 0 {
		r.Replaces = old.Lease
	}
	e.put(change{kind: ofNode, row: n.number, node: nodeRow{e.revision + 1, r}})
	if old.mod != 0 && old.Lease != id {
		e.revoke(old.Lease)
	}
	e.wrote(1)
	return true
}

// holds is the question before each use: may the node believe in its lease now?
func (n *node) holds(r *registration) bool {
	switch {
	case r == nil:
		return false
	case n.s.opt.Break.TrustSession:
		return r.session
	}
	return r.keeper.Holds(n.clock())
}

func (n *node) renew(r *registration) {
	if n.reg != r || r.lost {
		return
	}
	sent := n.clock()
	n.s.etcd.renew(&n.process, r.id, func(ttl time.Duration) {
		if n.reg != r || r.lost {
			return
		}
		r.trusted = n.clock().Add(nodeTTL)
		if ttl == 0 {
			r.session = false
		}
		if n.s.opt.Break.TrustSession {
			if !r.session {
				n.lose(r, n.clock())
			}
		} else if ttl == 0 {
			r.keeper.GiveUp()
			n.lose(r, n.clock())
		} else if !r.keeper.Renewed(sent, n.clock(), ttl) {
			n.lose(r, r.keeper.Until())
		}
	})
	n.after(nodeTTL/5, func() { n.renew(r) })
}

// watchdog ends everything when the deadline comes.
func (n *node) watchdog(r *registration) {
	if n.reg != r || r.lost {
		return
	}
	if now := n.clock(); r.keeper.Holds(now) {
		n.after(r.keeper.Until().Sub(now), func() { n.watchdog(r) })
		return
	}
	n.lose(r, r.keeper.Until())
}

// lookAtSession is how etcd's client notices: once a second.
func (n *node) lookAtSession(r *registration) {
	if n.reg != r || r.lost {
		return
	}
	if !n.clock().Before(r.trusted) {
		r.session = false
		n.lose(r, n.clock())
		return
	}
	n.after(time.Second, func() { n.lookAtSession(r) })
}

// lose ends the registration. What is in flight is cut off half a quarantine
// after the deadline; then the node registers anew.
func (n *node) lose(r *registration, deadline time.Time) {
	if r.lost {
		return
	}
	r.lost = true
	n.s.note('L', n.id, r.id)
	cutoff := deadline.Add(quarantine / 2)
	for _, t := range n.tenures {
		if t != nil {
			n.finish(t, cutoff)
		}
	}
	n.after(cutoff.Sub(n.clock()), func() {
		if n.reg == r {
			n.reg = nil
			clear(n.tenures)
			n.register()
		}
	})
}

// look brings what is in use into line with assignments and lease.
func (n *node) look() {
	r, now := n.reg, n.clock()
	for i := range n.assigned {
		a, t := &n.assigned[i], n.tenures[i]
		if a.Revision == 0 && t == nil {
			continue
		}
		mine := r != nil && !r.lost && a.Node == n.name && a.Lease == r.id
		if t != nil && (!mine || a.Epoch != t.epoch) {
			n.finish(t, now)
			if t.over && (r == nil || t.lease != r.id || !r.lost) {
				n.tenures[i], t = nil, nil
			}
		}
		switch {
		case !mine:
		case a.State == keyspace.Held && t == nil && n.holds(r):
			n.tenures[i] = &tenure{source: i, epoch: a.Epoch, lease: r.id}
		case a.State != keyspace.Held && t != nil && t.epoch == a.Epoch:
			n.finish(t, now.Add(quarantine/2))
		case a.State == keyspace.Releasing && t == nil:
			// It was never begun, and will not be.
			n.tenures[i] = &tenure{source: i, epoch: a.Epoch, lease: r.id, ending: true, over: true}
			n.reportSoon()
		}
	}
	for p := range n.usable {
		n.usable[p] = n.usable[p][:0]
	}
	for i, t := range n.tenures {
		if t != nil && !t.ending {
			p := i % len(n.usable)
			n.usable[p] = append(n.usable[p], t)
		}
	}
	for _, l := range n.lanes {
		if l != nil {
			l.kick()
		}
	}
}

// finish ends a tenure: no new use, and what is in flight ends by cutoff.
func (n *node) finish(t *tenure, cutoff time.Time) {
	if !t.ending {
		t.ending, t.cutoff = true, cutoff
		p := t.source % len(n.usable)
		n.usable[p] = slices.DeleteFunc(n.usable[p], func(o *tenure) bool { return o == t })
	}
	if cutoff.Before(t.cutoff) {
		t.cutoff = cutoff
	}
	n.fade(t)
}

// fade notes when nothing of a tenure is left.
func (n *node) fade(t *tenure) {
	if t.over || !t.ending {
		return
	}
	if t.busy > 0 && n.clock().Before(t.cutoff) {
		n.after(t.cutoff.Sub(n.clock()), func() { n.fade(t) })
		return
	}
	t.over = true
	n.s.note('o', n.id, int64(t.source), t.epoch)
	n.reportSoon()
}

// pick is a source of the pool that may be used at this moment.
func (n *node) pick(pool int) *tenure {
	list := n.usable[pool]
	if len(list) == 0 || !n.holds(n.reg) || n.reg.lost {
		return nil
	}
	n.turn++
	return list[n.turn%len(list)]
}

// exchangeLoop makes an exchange each second.
func (n *node) exchangeLoop() {
	n.after(n.s.between(exchange.Interval*9/10, exchange.Interval*11/10), n.exchangeLoop)
	n.makeExchange()
}

// reportSoon makes one out of turn: the leader waits for something.
func (n *node) reportSoon() {
	if n.exch.soon {
		return
	}
	n.exch.soon = true
	n.after(50*time.Millisecond, func() {
		n.exch.soon = false
		n.makeExchange()
	})
}

func (n *node) makeExchange() {
	x, s := &n.exch, n.s
	if x.waiting || n.leader.term == 0 || n.reg == nil || !n.holds(n.reg) {
		return
	}
	x.serial++
	r := n.report()
	x.waiting, x.sent = true, n.clock()
	serial, sent, to, reg := x.serial, x.sent, s.controls[n.leader.control], n.reg
	n.after(time.Second, func() {
		if x.serial == serial {
			x.waiting = false
		}
	})
	s.toPeer(&n.process, &to.process, func() {
		if to.office == nil {
			return
		}
		copied := *r // a message that comes twice is read twice
		to.office.exchange(n.number, &copied, func(a exchange.Answer) {
			s.toPeer(&to.process, &n.process, func() {
				if x.serial == serial && x.waiting && n.reg == reg && a.Term >= x.term {
					x.waiting = false
					n.apply(&a, sent)
				}
			})
		})
	})
}

func (n *node) report() *exchange.Report {
	x, now := &n.exch, n.clock()
	r := &exchange.Report{
		Node: n.name, Lease: n.reg.id, Serial: x.serial, Floor: n.disk.floor, Revision: n.policy.revision, Draining: n.draining,
	}
	if x.granted {
		r.Term, r.Applied, r.Left = x.inForce, x.applied, x.until.Sub(now)
	}
	for _, l := range n.lanes {
		if l != nil {
			l.report(r)
		}
	}
	for i, t := range n.tenures {
		if t != nil && t.lease == n.reg.id {
			r.Sources = append(r.Sources, exchange.HeldSource{Source: n.policy.sources[i].Name, Epoch: t.epoch, Released: t.over})
		}
	}
	return r
}

// apply puts an answer in force.
func (n *node) apply(a *exchange.Answer, sent time.Time) {
	x, now := &n.exch, n.clock()
	x.term, x.inForce, x.applied, x.until = a.Term, a.Term, a.Serial, sent.Add(a.TTL-exchange.GrantMargin)
	x.granted = now.Before(x.until) || n.s.opt.Break.GrantsForever
	n.disk.floor, n.disk.rank, n.disk.members = a.Floor, a.Rank, a.Members
	n.draining = a.Drain
	for _, l := range n.lanes {
		if l != nil {
			l.granted = false
		}
	}
	if x.granted {
		for i := range a.Grants {
			if c, ok := n.policy.number[a.Grants[i].Scope]; ok && n.lanes[c] != nil {
				n.lanes[c].take(&a.Grants[i].Holding, n.policy)
			}
		}
	}
	for _, l := range n.lanes {
		if l != nil {
			l.reset()
		}
	}
	x.life++
	life := x.life
	if x.granted && !n.s.opt.Break.GrantsForever {
		n.after(x.until.Sub(now), func() {
			if x.life == life {
				n.expire()
			}
		})
	}
}

// expire takes back grants that have run out: the floor is left.
func (n *node) expire() {
	if !n.exch.granted {
		return
	}
	n.exch.granted = false
	n.exch.life++
	n.s.note('g', n.id)
	for _, l := range n.lanes {
		if l != nil {
			l.granted = false
		}
	}
	for _, l := range n.lanes {
		if l != nil {
			l.resetAt(n.exch.until)
		}
	}
}
