package simulate

import (
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// control is a control plane process. One of them is the leader, others may
// think that they are, for as long as package lease lets them.
type control struct {
	process
	number int
	view   *state // what it has heard of etcd; nil before the first word
	busy   bool   // it stands for election
	office *office
}

// office is one term.
type office struct {
	c       *control
	term    int64
	lease   int64
	keeper  *lease.Keeper
	alloc   *sources.Allocator
	ledger  *budgets.Ledger
	policy  int64   // told to the ledger
	members []int64 // mod revisions told: of member and registration
	days    []int64

	reports []nodeReport // by node
	answer  exchange.Answer
	writing bool // a batch is on its way
	planned bool

	pretended int64 // revision of daily counts that were not written, for Break
}

// nodeReport is the last report of a node.
type nodeReport struct {
	lease   int64
	sources []exchange.HeldSource
	drains  bool
}

func newControl(s *sim, i int) *control {
	return &control{process: newProcess(s, fmt.Sprintf("c%d", i), int64(-1-i)), number: i}
}

func (c *control) start() {
	c.view, c.busy, c.office = nil, false, nil
	c.follow()
	c.after(c.s.between(0, time.Second), c.stand)
}

// follow hears of everything in etcd.
func (c *control) follow() {
	c.s.etcd.follow(&c.process, -1, func(changes []change) {
		if c.view == nil {
			c.view = new(state)
		}
		for i := range changes {
			if changes[i].revision > c.view.revision {
				c.view.apply(&changes[i])
			}
		}
		if c.office != nil {
			c.office.poke()
		}
	})
}

// stand stands for election whenever nobody leads.
func (c *control) stand() {
	c.after(c.s.between(200*time.Millisecond, 400*time.Millisecond), c.stand)
	if c.view == nil || c.view.leader.term != 0 || c.office != nil || c.busy {
		return
	}
	c.busy = true
	e := c.s.etcd
	sent := c.clock()
	var id, term int64
	e.call(&c.process, func() { id = e.grant(leaderTTL) }, func(ok bool) {
		if !ok {
			c.busy = false
			return
		}
		keeper, err := lease.New(sent, leaderTTL, leaderMargin)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		var all *state
		e.call(&c.process, func() {
			if e.leader.term == 0 && e.lease(id) != nil {
				e.put(change{kind: ofLeader, leader: leaderRow{e.revision + 1, id, c.number}})
				e.wrote(1)
			}
			if e.leader.lease == id {
				term, all = e.leader.term, e.clone()
			}
		}, func(ok bool) {
			c.busy = false
			if ok && term != 0 {
				c.lead(term, id, keeper, all)
			}
		})
	})
}

// lead begins a term, knowing all that etcd held when it was won.
func (c *control) lead(term, id int64, keeper *lease.Keeper, all *state) {
	s := c.s
	s.res.Elections++
	s.note('l', c.id, term)
	now := c.clock()
	elected := now
	if s.opt.Break.LeaderDoesNotWait {
		elected = now.Add(-exchange.GrantTTL)
	}
	cfg := sources.Config{TTL: nodeTTL, Quarantine: quarantine}
	if s.opt.Break.NoQuarantine {
		cfg.Quarantine = -1
	}
	o := &office{
		c: c, term: term, lease: id, keeper: keeper, alloc: sources.New(now, cfg),
		ledger:  budgets.New(budgets.Config{Leader: c.name, Term: term, Elected: elected, Wall: c.wall()}),
		members: make([]int64, 2*s.opt.Nodes), days: make([]int64, s.opt.Carriers), reports: make([]nodeReport, s.opt.Nodes),
	}
	if all.revision > c.view.revision {
		c.view = all // the watch goes on from here: hear ignores what is older
	}
	c.office = o
	o.tell()
	o.renew()
	o.tick()
}

// end leaves the office, if it is still this one.
func (o *office) end() {
	if o.c.office == o {
		o.c.s.note('e', o.c.id, o.term)
		o.c.office = nil
	}
}

// holds reports whether the office may act; it ends if not.
func (o *office) holds() bool {
	if o.c.office != o || !o.keeper.Holds(o.c.clock()) {
		o.end()
		return false
	}
	return true
}

func (o *office) renew() {
	if !o.holds() {
		return
	}
	sent := o.c.clock()
	o.c.s.etcd.renew(&o.c.process, o.lease, func(ttl time.Duration) {
		if ttl == 0 || !o.keeper.Renewed(sent, o.c.clock(), ttl) {
			o.end()
		}
	})
	o.c.after(leaderTTL/5, o.renew)
}

// tick decides at least each second.
func (o *office) tick() {
	if !o.holds() {
		return
	}
	o.poke()
	o.c.after(time.Second, o.tick)
}

// poke decides soon.
func (o *office) poke() {
	if o.planned || o.writing {
		return
	}
	o.planned = true
	o.c.after(50*time.Millisecond, func() {
		o.planned = false
		if o.holds() && !o.writing {
			o.decide()
		}
	})
}

// tell tells the ledger what has changed.
func (o *office) tell() {
	c, v, now := o.c, o.c.view, o.c.clock()
	if o.policy != v.policy {
		o.policy = v.policy
		p := c.s.policies[v.policy-1]
		o.ledger.SetPolicy(now, budgets.Policy{Revision: p.revision, Daily: p.daily, Limit: func(x exchange.Scope) budgets.Limit {
			if n, ok := p.number[x]; ok {
				return p.limits[n]
			}
			return budgets.Limit{}
		}})
	}
	for i := range v.days {
		if d := &v.days[i]; d.mod != o.days[i] {
			o.days[i] = d.mod
			o.seeDay(i, d)
		}
	}
	changed := false
	for i := range v.members {
		if v.members[i].mod != o.members[2*i] || v.nodes[i].mod != o.members[2*i+1] {
			o.members[2*i], o.members[2*i+1], changed = v.members[i].mod, v.nodes[i].mod, true
		}
	}
	if changed {
		var list []budgets.Member
		for i := range v.members {
			m := &v.members[i]
			if m.mod == 0 {
				continue
			}
			b := budgets.Member{Name: m.Name, Rank: int64(m.Rank), Floor: m.Floor, Drain: m.Drain != keyspace.DrainNone}
			if v.nodes[i].mod != 0 {
				b.Lease = v.nodes[i].Lease
			}
			list = append(list, b)
		}
		o.ledger.SetMembers(now, list)
	}
}

func (o *office) seeDay(carrier int, d *dayRow) {
	if err := o.ledger.SetDay(o.c.clock(), o.c.s.policies[0].scopes[carrier], d.mod, d.Day); err != nil {
		panic("BUG: " + err.Error())
	}
}

// record is one guarded write.
type record struct {
	mod int64 // that the key must have; 0: it must not exist
	change
}

// decide makes a round of decisions and sends them to etcd.
func (o *office) decide() {
	o.tell()
	began := time.Now()
	records := o.decideMembers()
	records = append(records, o.decideDue()...)
	records = append(records, o.decideSources()...)
	took := time.Since(began)
	s := o.c.s
	s.res.Decisions++
	s.decisionTime += took
	s.res.DecisionMax = max(s.res.DecisionMax, took)
	if len(records) == 0 {
		return
	}
	if s.opt.Break.PermitsUnwritten {
		records = slices.DeleteFunc(records, func(r record) bool {
			if r.kind == ofDay {
				o.pretended++
				o.seeDay(r.row, &dayRow{o.pretended, r.day.Day})
			}
			return r.kind == ofDay
		})
	}
	o.writing = true
	s.etcd.call(&o.c.process, func() { o.commit(records) }, func(bool) {
		// What has become of it the watch tells.
		o.writing = false
		o.poke()
	})
}

// commit runs in etcd: each record in a transaction of its own, so far as it
// matters here.
func (o *office) commit(records []record) {
	e := o.c.s.etcd
	if e.leader.term != o.term {
		return
	}
	done := 0
	for i := range records {
		r := &records[i]
		var mod int64
		switch r.kind {
		case ofMember:
			mod = e.members[r.row].mod
		case ofSource:
			mod = e.sources[r.row].Revision
		case ofDay:
			mod = e.days[r.row].mod
		}
		if mod != r.mod {
			continue
		}
		r.member.mod, r.day.mod = e.revision+1, e.revision+1
		e.put(r.change)
		done++
	}
	e.wrote(done)
}

// decideMembers takes in nodes that have registered, and ends drains.
func (o *office) decideMembers() (out []record) {
	v := o.c.view
	_, floor := o.ledger.NewMember(o.c.clock())
	used := make([]bool, 2*len(v.members))
	for i := range v.members {
		if v.members[i].mod != 0 {
			used[v.members[i].Rank] = true
		}
	}
	rank := 0
	for i := range v.nodes {
		n, m := &v.nodes[i], v.members[i]
		switch {
		case n.mod != 0 && m.mod == 0:
			for used[rank] {
				rank++
			}
			used[rank] = true
			out = append(out, record{0, change{kind: ofMember, row: i, member: memberRow{0, keyspace.Member{Name: n.Name, NodeID: n.NodeID, Joined: o.c.wall(), Rank: rank, Floor: floor}}}})
			floor = 0 // only the first one of all has everything
		case m.mod != 0 && m.Drain == keyspace.Draining && o.reports[i].drains && o.reports[i].lease == n.Lease && !v.holdsAny(n.Name):
			next := m
			next.Drain = keyspace.Drained
			out = append(out, record{m.mod, change{kind: ofMember, row: i, member: next}})
		}
	}
	return out
}

func (t *state) holdsAny(node string) bool {
	for i := range t.sources {
		if t.sources[i].Node == node && t.sources[i].State != keyspace.Free {
			return true
		}
	}
	return false
}

func (o *office) decideDue() (out []record) {
	v, s := o.c.view, o.c.s
	due := o.ledger.Due(o.c.clock())
	for _, f := range due.Floors {
		i := s.nodeNumber(f.Name)
		m := v.members[i]
		if m.Floor == f.Floor {
			continue
		}
		m.Floor = f.Floor
		out = append(out, record{m.mod, change{kind: ofMember, row: i, member: m}})
	}
	for _, d := range due.Days {
		out = append(out, record{d.Revision, change{kind: ofDay, row: s.policies[0].number[d.Scope], day: dayRow{0, d.Day}}})
	}
	return out
}

func (o *office) decideSources() (out []record) {
	s, v := o.c.s, o.c.view
	p := s.policies[v.policy-1]
	in := sources.Input{Policy: p.revision, Sources: p.sources}
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.mod == 0 || v.members[i].mod == 0 {
			continue
		}
		in.Nodes = append(in.Nodes, sources.Node{
			Name: n.Name, Lease: n.Lease, Replaces: n.Replaces, Labels: n.Labels, Capacity: n.Capacity, Drain: v.members[i].Drain != keyspace.DrainNone,
		})
		if r := &o.reports[i]; r.lease == n.Lease {
			for _, h := range r.sources {
				in.Words = append(in.Words, sources.Word{Source: h.Source, Node: n.Name, Lease: r.lease, Epoch: h.Epoch, Released: h.Released, Fault: h.Fault})
			}
		}
	}
	for i := range v.sources {
		if v.sources[i].Revision != 0 {
			in.Assigned = append(in.Assigned, v.sources[i])
		}
	}
	d := o.alloc.Step(o.c.clock(), in)
	for _, c := range d.Changes {
		c.New.Since = o.c.wall()
		out = append(out, record{c.Revision, change{kind: ofSource, row: s.sourceNumber(c.New.Source), source: sources.Assigned{Assignment: c.New}}})
	}
	if !d.Next.IsZero() {
		o.c.after(d.Next.Sub(o.c.clock()), o.poke)
	}
	return out
}

// exchange takes a report; answer gets the answer, if there is one.
func (o *office) exchange(n int, r *exchange.Report, answer func(exchange.Answer)) {
	s := o.c.s
	if !o.holds() {
		return
	}
	o.tell()
	if v := o.c.view; v.nodes[n].mod == 0 || v.nodes[n].Lease != r.Lease || v.members[n].mod == 0 {
		return
	}
	began := time.Now()
	err := o.report(r)
	s.reportTime += time.Since(began)
	if err != nil {
		return
	}
	s.res.Reports++
	released := false
	for _, h := range r.Sources {
		released = released || h.Released
	}
	o.reports[n] = nodeReport{lease: r.Lease, sources: r.Sources, drains: r.Draining}
	if released {
		o.poke()
	}
	a := o.answer
	a.Grants = append([]exchange.Grant(nil), o.answer.Grants...)
	s.note('x', int64(n), int64(r.Serial), int64(len(a.Grants)))
	answer(a)
}

// report gives a report to the ledger. Break.RaiseUnconfirmed confirms each
// answer in the node's name as soon as it is made.
func (o *office) report(r *exchange.Report) error {
	if !o.c.s.opt.Break.RaiseUnconfirmed {
		return o.ledger.Report(o.c.clock(), r, &o.answer)
	}
	said := r.Serial
	defer func() { r.Serial = said }()
	r.Serial = 2 * said
	if r.Applied != 0 && r.Term == o.term {
		r.Applied = 2*r.Applied + 1
	}
	if err := o.ledger.Report(o.c.clock(), r, &o.answer); err != nil {
		return err
	}
	o.answer.Serial = said
	again := *r
	again.Serial, again.Term, again.Applied = 2*said+1, o.term, 2*said
	var unheard exchange.Answer
	return o.ledger.Report(o.c.clock(), &again, &unheard)
}
