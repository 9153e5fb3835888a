package simulate

import (
	"cmp"
	"time"

	"hikyaku/controlplane/keyspace"
)

// gremlin makes things go wrong.
type gremlin struct {
	loss float64 // of messages
}

// mischief is one kind of fault: its weight among those of its list, and how it
// is done.
type mischief struct {
	name   string
	weight int
	do     func(s *sim)
}

func (g *gremlin) begin(s *sim) {
	s.plan(0, func() { g.demand(s) })
	if s.opt.Faults.None {
		s.plan(time.Duration(s.calm), func() { g.heal(s) })
		return
	}
	g.loss = cmp.Or(s.opt.Faults.Loss, []float64{0, 0.002, 0.02, 0.1}[s.rnd.IntN(4)])
	// Small worlds have something every few seconds; large ones as often for
	// each ten nodes, so that most nodes are well at any time.
	every := time.Duration(float64(5*time.Second) / s.opt.Faults.Level)
	if s.opt.Slow {
		every *= 100 // its runs last for days
	}
	g.play(s, ofProcesses, time.Duration(float64(every)/max(1, float64(s.opt.Nodes)/10)))
	// What befalls everybody stays seldom, or nothing else would ever happen.
	g.play(s, ofTheWhole, time.Duration(float64(4*every)*max(1, s.opt.Faults.Level)))
	s.plan(time.Duration(s.calm), func() { g.heal(s) })
}

// play lets one of a list happen again and again until the calm.
func (g *gremlin) play(s *sim, list []mischief, every time.Duration) {
	total := 0
	for _, m := range list {
		total += m.weight
	}
	var next func()
	next = func() {
		if s.now >= s.calm {
			return
		}
		n := s.rnd.IntN(total)
		for _, m := range list {
			if n -= m.weight; n < 0 {
				s.res.Faults[m.name]++
				m.do(s)
				break
			}
		}
		s.plan(s.between(every/4, every*7/4), next)
	}
	s.plan(s.between(5*time.Second, 15*time.Second), next)
}

// demand gives every node other mail now and then.
func (g *gremlin) demand(s *sim) {
	for _, n := range s.nodes {
		var roll func()
		roll = func() {
			if s.now >= s.calm {
				return
			}
			for _, l := range n.lanes {
				if l == nil {
					continue
				}
				switch s.rnd.IntN(4) {
				case 0:
					l.backlog = 0
				case 1:
					l.backlog = s.rnd.Int64N(50)
				default:
					l.backlog = plenty
				}
				l.kick()
			}
			s.plan(s.between(5*time.Second, 40*time.Second), roll)
		}
		roll()
	}
}

func (s *sim) anyNode() *node { return s.nodes[s.rnd.IntN(len(s.nodes))] }

// anyone is a node, or now and then a control plane process.
func (s *sim) anyone() *process {
	if s.chance(0.25) {
		return &s.controls[s.rnd.IntN(len(s.controls))].process
	}
	return &s.anyNode().process
}

// theLeader is the process that leads, or any.
func (s *sim) theLeader() *control {
	if s.etcd.leader.term != 0 {
		return s.controls[s.etcd.leader.control]
	}
	return s.controls[s.rnd.IntN(len(s.controls))]
}

// howLong is the length of a fault: mostly about the times that matter.
func (s *sim) howLong() time.Duration {
	switch s.rnd.IntN(4) {
	case 0:
		return s.between(100*time.Millisecond, 3*time.Second)
	case 1:
		return s.between(3*time.Second, 9*time.Second)
	case 2:
		return s.between(9*time.Second, 22*time.Second)
	default:
		return s.between(20*time.Second, 50*time.Second)
	}
}

// ofProcesses befall one process.
var ofProcesses = []mischief{
	{"cut from etcd", 10, func(s *sim) { p := s.anyone(); p.cutEtcd = max(p.cutEtcd, s.now+at(s.howLong())) }},
	{"cut from peers", 6, func(s *sim) { p := s.anyone(); p.cutPeers = max(p.cutPeers, s.now+at(s.howLong())) }},
	{"cut from all", 6, func(s *sim) {
		p := s.anyone()
		until := s.now + at(s.howLong())
		p.cutEtcd, p.cutPeers = max(p.cutEtcd, until), max(p.cutPeers, until)
	}},
	{"late replies", 12, func(s *sim) {
		p := s.anyone()
		p.slowUntil, p.slowBy = s.now+at(s.howLong()), s.between(500*time.Millisecond, 25*time.Second)
	}},
	{"stopped", 10, func(s *sim) { s.halt(s.anyone()) }},
	{"killed", 8, func(s *sim) { s.killNode(s.anyNode()) }},
	{"history lost", 3, func(s *sim) {
		if len(s.etcd.watches) > 0 {
			s.etcd.watches[s.rnd.IntN(len(s.etcd.watches))].compact()
		}
	}},
	{"wall clock jumps", 4, func(s *sim) { s.anyNode().skew += s.between(-48*time.Hour, 48*time.Hour) }},
	{"drain", 4, func(s *sim) { s.drain(s.rnd.IntN(len(s.nodes))) }},
}

// ofTheWhole befall the leader, etcd, or everybody.
var ofTheWhole = []mischief{
	{"leader stopped", 4, func(s *sim) { s.halt(&s.theLeader().process) }},
	{"leader killed", 4, func(s *sim) { s.killControl(s.theLeader()) }},
	{"leader cut from etcd", 4, func(s *sim) { p := &s.theLeader().process; p.cutEtcd = max(p.cutEtcd, s.now+at(s.howLong())) }},
	{"etcd elects", 5, func(s *sim) {
		s.etcd.muteUntil = s.now + at(s.between(0, time.Second))
		s.etcd.outage(s.between(0, 3*time.Second))
	}},
	{"no quorum", 2, func(s *sim) { s.etcd.outage(s.howLong()) }},
	{"policy", 8, func(s *sim) { s.changePolicy() }},
}

// halt stops a process for a while.
func (s *sim) halt(p *process) {
	if !p.up || p.stopped {
		return
	}
	life := p.life
	p.stop()
	s.note('z', p.id)
	s.plan(s.howLong(), func() {
		if p.life == life && p.stopped {
			p.goOn()
		}
	})
}

func (s *sim) killNode(n *node) {
	if !n.up {
		return
	}
	n.die()
	s.note('k', n.id)
	s.plan(s.between(100*time.Millisecond, 30*time.Second), func() {
		if !n.up {
			n.start()
		}
	})
}

func (s *sim) killControl(c *control) {
	if !c.up {
		return
	}
	s.etcd.unfollow(&c.process)
	c.kill()
	c.office = nil
	s.note('k', c.id)
	s.plan(s.between(100*time.Millisecond, 20*time.Second), func() {
		if !c.up {
			c.up = true
			c.life++
			c.start()
		}
	})
}

// drain asks a node to give everything away, or takes that back.
func (s *sim) drain(i int) {
	m := s.etcd.members[i]
	if m.mod == 0 {
		return
	}
	if m.Drain == keyspace.DrainNone {
		m.Drain = keyspace.Draining
	} else {
		m.Drain = keyspace.DrainNone
	}
	m.mod = s.etcd.revision + 1
	s.etcd.put(change{kind: ofMember, row: i, member: m})
	s.etcd.wrote(1)
}

// heal ends all faults and gives every node more mail than it can send.
func (g *gremlin) heal(s *sim) {
	g.loss = 0
	s.etcd.downUntil, s.etcd.muteUntil = min(s.etcd.downUntil, s.now), 0
	s.etcd.elected()
	for i := range s.nodes {
		if s.etcd.members[i].Drain != keyspace.DrainNone {
			s.drain(i)
		}
	}
	s.allMovable()
	for _, c := range s.controls {
		c.heal()
		if !c.up {
			c.up = true
			c.life++
			c.start()
		}
	}
	for _, n := range s.nodes {
		for _, l := range n.lanes {
			if l != nil {
				l.backlog = plenty
			}
		}
		n.heal()
		if !n.up {
			n.start()
		}
		n.s.plan(0, n.mine(n.look))
	}
}

func (p *process) heal() {
	p.cutEtcd, p.cutPeers, p.slowUntil = 0, 0, 0
	if p.stopped {
		p.goOn()
	}
}
