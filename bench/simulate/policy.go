package simulate

import (
	"fmt"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/exchange"
)

// policy is one revision: what operators want.
type policy struct {
	revision int64
	sources  []sources.Source
	limits   []budgets.Limit // by carrier
	scopes   []exchange.Scope
	number   map[exchange.Scope]int
	daily    bool
}

// pools is how many pools there are; a carrier's mail goes by one of them.
func (s *sim) pools() int { return min(max(s.opt.Sources/30, 2), s.opt.Sources) }

func (s *sim) poolOf(carrier int) int { return carrier % s.pools() }

func poolName(p int) string { return fmt.Sprintf("p%03d", p) }

// sites are labels of nodes that some sources ask for.
var sites = []string{"a", "b", "c"}

func (s *sim) firstPolicy() *policy {
	p := &policy{revision: 1, number: map[exchange.Scope]int{}}
	for i := range s.opt.Sources {
		src := sources.Source{Name: fmt.Sprintf("s%05d", i), Movable: true, Pools: []string{poolName(i % s.pools())}}
		if s.chance(0.1) {
			src.Labels = map[string]string{"site": sites[s.rnd.IntN(len(sites))]}
		}
		p.sources = append(p.sources, src)
	}
	for c := range s.opt.Carriers {
		p.limits = append(p.limits, s.randomLimit(c))
		p.daily = p.daily || p.limits[c].PerDay > 0
		id := exchange.Scope{Kind: exchange.Carrier, Carrier: fmt.Sprintf("carrier-%03d", c)}
		p.scopes = append(p.scopes, id)
		p.number[id] = c
	}
	return p
}

// randomLimit is one of several kinds: wide enough for all nodes, with a burst
// for some only, and with one for a single node.
func (s *sim) randomLimit(carrier int) (l budgets.Limit) {
	n := int64(s.opt.Nodes)
	if s.opt.Slow {
		l = budgets.Limit{N: 2 + s.rnd.Int64N(10), Per: time.Minute, Burst: 1 + s.rnd.Int64N(2*n), Connections: 4 * n}
		l.PerDay = 500 + s.rnd.Int64N(5000)
		return l
	}
	l = budgets.Limit{N: 20 + s.rnd.Int64N(60), Per: time.Second, Burst: 2*n + s.rnd.Int64N(2*n), Connections: 20*n + 10}
	switch carrier % 4 {
	case 1:
		l.Burst = 1 + s.rnd.Int64N(n)
	case 2:
		l.LinkN, l.LinkPer, l.LinkBurst = 50, time.Second, 4*n
		l.PerDay = 500 + s.rnd.Int64N(8000)
	case 3:
		l.Connections = 1 + s.rnd.Int64N(2*n)
	}
	return l
}

// change makes a new revision with something else in it.
func (s *sim) changePolicy() {
	old := s.policies[len(s.policies)-1]
	p := *old
	p.revision++
	p.sources = append([]sources.Source(nil), old.sources...)
	p.limits = append([]budgets.Limit(nil), old.limits...)
	if s.chance(0.5) {
		c := s.rnd.IntN(len(p.limits))
		l := s.randomLimit(c)
		l.PerDay = old.limits[c].PerDay
		p.limits[c] = l
	} else {
		i := s.rnd.IntN(len(p.sources))
		p.sources[i].Movable = !p.sources[i].Movable
	}
	s.addPolicy(&p)
}

func (s *sim) addPolicy(p *policy) {
	s.policies = append(s.policies, p)
	s.etcd.put(change{kind: ofPolicy, policy: p.revision})
	s.etcd.wrote(1)
	s.check.policyChanged()
}

// allMovable puts every source back, for the calm.
func (s *sim) allMovable() {
	p := *s.policies[len(s.policies)-1]
	p.revision++
	p.sources = append([]sources.Source(nil), p.sources...)
	for i := range p.sources {
		p.sources[i].Movable = true
	}
	s.addPolicy(&p)
}
