package simulate

import (
	"slices"
	"time"

	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/keyspace"
)

// state is what etcd holds, and what a process that follows it knows of it. Rows
// are by the number of the node, source or carrier: no map, no order to depend
// on.
type state struct {
	revision int64
	leader   leaderRow
	policy   int64
	nodes    []nodeRow
	members  []memberRow
	sources  []sources.Assigned // Revision 0: there is none
	days     []dayRow
}

type leaderRow struct {
	term    int64 // create revision; 0: there is none
	lease   int64
	control int
}

type nodeRow struct {
	mod int64 // 0: there is none
	keyspace.Registration
}

type memberRow struct {
	mod int64
	keyspace.Member
}

type dayRow struct {
	mod int64
	keyspace.Day
}

func (t *state) clone() *state {
	c := *t
	c.nodes, c.members, c.sources, c.days = slices.Clone(t.nodes), slices.Clone(t.members), slices.Clone(t.sources), slices.Clone(t.days)
	return &c
}

// change is one key that changed.
type change struct {
	revision int64
	kind     kind
	row      int
	leader   leaderRow
	node     nodeRow
	member   memberRow
	source   sources.Assigned
	day      dayRow
	policy   int64
	all      *state // with ofAll: everything; for a node nil, its rows follow
}

type kind uint8

const (
	ofLeader kind = iota
	ofNode
	ofMember
	ofSource
	ofDay
	ofPolicy
	ofAll
)

func (t *state) apply(c *change) {
	t.revision = c.revision
	switch c.kind {
	case ofLeader:
		t.leader = c.leader
	case ofNode:
		t.nodes[c.row] = c.node
	case ofMember:
		t.members[c.row] = c.member
	case ofSource:
		t.sources[c.row] = c.source
	case ofDay:
		t.days[c.row] = c.day
	case ofPolicy:
		t.policy = c.policy
	case ofAll:
		*t = *c.all.clone()
	}
}

// leased is a lease in etcd.
type leased struct {
	id      int64
	ttl     time.Duration
	expires at
}

// etcd is the store as clients see it: one, linearizable, now and then away.
type etcd struct {
	s *sim
	state
	leases    []*leased // by id
	nextLease int64
	watches   []*watch

	downUntil at // no quorum
	muteUntil at // a new leader: what it does is done, but the reply is lost

	second     int64 // of writes
	writesThen int
}

func newEtcd(s *sim) *etcd {
	e := &etcd{s: s, nextLease: 7000}
	e.nodes = make([]nodeRow, s.opt.Nodes)
	e.members = make([]memberRow, s.opt.Nodes)
	e.sources = make([]sources.Assigned, len(s.policies[0].sources))
	e.days = make([]dayRow, s.opt.Carriers)
	e.revision, e.policy = 1, 1
	return e
}

// begin looks for leases that have run out, as etcd does.
func (e *etcd) begin() {
	var look func()
	look = func() {
		if !e.down() {
			for _, l := range slices.Clone(e.leases) {
				if l.expires <= e.s.now {
					e.revoke(l.id)
				}
			}
		}
		e.s.plan(500*time.Millisecond, look)
	}
	e.s.plan(0, look)
}

func (e *etcd) down() bool { return e.s.now < e.downUntil }

// outage takes the quorum away. When it is back, a new leader begins all leases
// anew.
func (e *etcd) outage(d time.Duration) {
	e.downUntil = max(e.downUntil, e.s.now+at(d))
	e.s.plan(time.Duration(e.downUntil-e.s.now), e.elected)
}

func (e *etcd) elected() {
	for _, l := range e.leases {
		l.expires = max(l.expires, e.s.now+at(l.ttl))
	}
}

// call asks etcd: do runs there, reply here, once. ok is false if no answer
// came in time; then nobody knows whether do has run.
func (e *etcd) call(p *process, do func(), reply func(ok bool)) {
	s := e.s
	answered := false
	answer := p.mine(func() {
		if !answered {
			answered = true
			reply(true)
		}
	})
	p.after(2*time.Second, func() {
		if !answered {
			answered = true
			reply(false)
		}
	})
	if s.now < p.cutEtcd || s.lost() {
		return
	}
	s.plan(s.delay(), func() {
		if e.down() {
			return
		}
		do()
		if s.now < e.muteUntil || s.now < p.cutEtcd || s.lost() {
			return
		}
		d := s.delay()
		if s.now < p.slowUntil {
			d += s.between(0, p.slowBy)
		}
		s.plan(d, answer)
	})
}

// renew is a renewal: it has no limit of time but that of its asker, so a reply
// may be very late.
func (e *etcd) renew(p *process, id int64, reply func(ttl time.Duration)) {
	s := e.s
	if s.now < p.cutEtcd || s.lost() {
		return
	}
	s.plan(s.delay(), func() {
		if e.down() {
			return
		}
		ttl := time.Duration(0)
		if l := e.lease(id); l != nil {
			l.expires = s.now + at(l.ttl)
			ttl = l.ttl
		}
		if s.now < e.muteUntil || s.now < p.cutEtcd || s.lost() {
			return
		}
		d := s.delay()
		if s.now < p.slowUntil {
			d += s.between(0, p.slowBy)
		}
		s.plan(d, p.mine(func() { reply(ttl) }))
	})
}

func (e *etcd) lease(id int64) *leased {
	i, ok := slices.BinarySearchFunc(e.leases, id, func(l *leased, id int64) int { return int(l.id - id) })
	if !ok {
		return nil
	}
	return e.leases[i]
}

func (e *etcd) grant(ttl time.Duration) int64 {
	e.nextLease++
	e.leases = append(e.leases, &leased{e.nextLease, ttl, e.s.now + at(ttl)})
	return e.nextLease
}

// revoke ends a lease and takes away what is bound to it.
func (e *etcd) revoke(id int64) {
	n := len(e.leases)
	e.leases = slices.DeleteFunc(e.leases, func(l *leased) bool { return l.id == id })
	if len(e.leases) == n {
		return
	}
	if e.leader.lease == id {
		e.put(change{kind: ofLeader})
	}
	for i := range e.nodes {
		if e.nodes[i].mod != 0 && e.nodes[i].Lease == id {
			e.put(change{kind: ofNode, row: i})
		}
	}
}

// put changes a key and tells those who follow it.
func (e *etcd) put(c change) {
	e.revision++
	c.revision = e.revision
	if c.kind == ofSource {
		c.source.Revision = e.revision
		e.s.check.assigned(&e.sources[c.row].Assignment, &c.source.Assignment)
	}
	was, is := -1, -1
	if c.kind == ofSource {
		was, is = e.s.nodeNumber(e.sources[c.row].Node), e.s.nodeNumber(c.source.Node)
	}
	e.apply(&c)
	e.s.note('p', int64(c.kind), int64(c.row), c.revision)
	for _, w := range e.watches {
		if w.wants(&c, was, is) {
			w.add(c)
		}
	}
}

// wrote counts a transaction of so many records.
func (e *etcd) wrote(records int) {
	if records == 0 {
		return
	}
	e.s.res.Records += records
	e.s.res.Writes += (records + 99) / 100
	if sec := int64(e.s.now) / int64(time.Second); sec != e.second {
		e.second, e.writesThen = sec, 0
	}
	e.writesThen += (records + 99) / 100
	e.s.res.MostWrites = max(e.s.res.MostWrites, e.writesThen)
}

// watch follows changes for one process, in order, late, and through
// reconnections without a gap (or with one, after which everything is read
// anew).
type watch struct {
	e       *etcd
	p       *process
	life    int // of the process
	node    int // whose assignments it wants; -1 is everything
	queue   []change
	planned bool
	tell    func([]change)
}

// follow begins with everything as it stands.
func (e *etcd) follow(p *process, node int, tell func([]change)) {
	w := &watch{e: e, p: p, life: p.life, node: node, tell: tell}
	e.watches = append(e.watches, w)
	w.compact()
}

func (e *etcd) unfollow(p *process) {
	e.watches = slices.DeleteFunc(e.watches, func(w *watch) bool { return w.p == p })
}

// wants spares the simulator what a node would ignore: others' sources.
func (w *watch) wants(c *change, was, is int) bool {
	if w.node < 0 {
		return true
	}
	switch c.kind {
	case ofSource:
		return was == w.node || is == w.node
	case ofLeader, ofPolicy:
		return true
	case ofNode:
		return c.row == w.node
	}
	return false
}

func (w *watch) add(c change) {
	w.queue = append(w.queue, c)
	w.flushSoon()
}

// compact loses the history: the next thing it hears is everything.
func (w *watch) compact() {
	e := w.e
	w.queue = []change{{kind: ofAll, revision: e.revision}}
	if w.node < 0 {
		w.queue[0].all = e.clone()
	} else {
		w.queue = append(w.queue,
			change{kind: ofPolicy, revision: e.revision, policy: e.policy}, change{kind: ofLeader, revision: e.revision, leader: e.leader},
			change{kind: ofNode, revision: e.revision, row: w.node, node: e.nodes[w.node]})
		for i := range e.sources {
			if e.sources[i].Revision != 0 && e.s.nodeNumber(e.sources[i].Node) == w.node {
				w.queue = append(w.queue, change{kind: ofSource, revision: e.revision, row: i, source: e.sources[i]})
			}
		}
	}
	w.flushSoon()
}

func (w *watch) flushSoon() {
	if w.planned {
		return
	}
	w.planned = true
	d := w.e.s.delay()
	if w.e.s.now < w.p.slowUntil {
		d += w.e.s.between(0, w.p.slowBy)
	}
	w.e.s.plan(d, w.flush)
}

func (w *watch) flush() {
	w.planned = false
	if !w.p.up || w.p.life != w.life {
		return
	}
	if w.e.s.now < w.p.cutEtcd || w.e.down() {
		w.planned = true
		w.e.s.plan(w.e.s.between(200*time.Millisecond, time.Second), w.flush)
		return
	}
	queue := w.queue
	w.queue = nil
	if len(queue) > 0 {
		w.p.mine(func() { w.tell(queue) })()
	}
}
