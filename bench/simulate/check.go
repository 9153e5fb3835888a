package simulate

import (
	"fmt"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/keyspace"
)

// maxViolations are kept; the rest are counted.
const maxViolations = 20

// checker is what the carriers see, and etcd. It knows true time, and nothing of
// what the product's code thinks.
type checker struct {
	s       *sim
	sources []sourceSeen
	meters  []meter
	// applied counts the nodes' disks that have each revision of the policy as
	// their newest; oldest is the lowest of them.
	applied   []int
	oldest    int
	revisions []int64 // by node

	healed  at
	usable  at // when every source could be used, after healing
	counted []int64
	since   at
}

// sourceSeen is the last use of a source.
type sourceSeen struct {
	epoch int64
	node  int
}

// meter measures a carrier's budget by a bucket that is full at the beginning:
// it is empty exactly when some window has more than limit * W + burst.
type meter struct {
	limit budgets.Limit // the widest that any node has by its policy
	level float64
	at    at
	open  int64
	most  int64 // connections: falls with the limit when so many are open no more
	day   []at
	sent  int64
}

func newChecker(s *sim) *checker {
	c := &checker{s: s, sources: make([]sourceSeen, s.opt.Sources), meters: make([]meter, s.opt.Carriers), counted: make([]int64, s.opt.Carriers)}
	for i := range c.meters {
		m := &c.meters[i]
		m.limit = s.policies[0].limits[i]
		m.level, m.most = float64(m.limit.Burst), m.limit.Connections
	}
	c.applied = []int{0, s.opt.Nodes}
	c.oldest = 1
	for range s.opt.Nodes {
		c.revisions = append(c.revisions, 1)
	}
	return c
}

func (c *checker) wrong(format string, args ...any) {
	s := c.s
	s.res.Total++
	if len(s.res.Violations) < maxViolations {
		s.res.Violations = append(s.res.Violations, Violation{time.Duration(s.now), fmt.Sprintf(format, args...)})
	}
	s.note('!')
}

const endOfData = "end of data"

// used is a connect, a MAIL or an end of data from a source. (Other mail of the
// same source goes on meanwhile, so MAIL stands for connect too.)
func (c *checker) used(source, node int, epoch int64, what string) {
	seen := &c.sources[source]
	switch {
	case epoch < seen.epoch && what == endOfData && c.s.nodes[node].resumed == c.s.now:
		// The rest of a transaction that a process had begun in its own time,
		// before it was stopped. Nothing can call it back: I7 ends a use with its
		// last MAIL.
		c.s.res.Residue++
	case epoch < seen.epoch:
		c.wrong("I7, I8: %s from source %d by node %d under epoch %d, after node %d used it under %d", what, source, node, epoch, seen.node, seen.epoch)
	case epoch == seen.epoch && node != seen.node:
		c.wrong("I7: %s from source %d by node %d under epoch %d, which is node %d's", what, source, node, epoch, seen.node)
	case epoch > seen.epoch:
		if seen.epoch != 0 && seen.node != node {
			c.s.res.Moves++
		}
		c.s.res.Takeovers++
		seen.epoch, seen.node = epoch, node
	}
	c.s.note('u', int64(source), int64(node), epoch)
}

// assigned is a record written to etcd.
func (c *checker) assigned(old, next *keyspace.Assignment) {
	switch {
	case next.Epoch < old.Epoch:
		c.wrong("I8: in etcd epoch %d of source %s follows %d", next.Epoch, next.Source, old.Epoch)
	case next.Epoch == old.Epoch && next.State == keyspace.Held:
		c.wrong("I8: in etcd source %s is held anew under epoch %d", next.Source, next.Epoch)
	}
}

// advance brings a meter up to now.
func (m *meter) advance(now at) {
	if m.limit.Per > 0 {
		m.level += float64(now-m.at) / float64(m.limit.Per) * float64(m.limit.N) * (1 + MaxDrift)
		m.level = min(m.level, float64(m.limit.Burst))
	}
	m.at = now
}

// sent is a message to a carrier.
func (c *checker) sent(carrier int) {
	s, m := c.s, &c.meters[carrier]
	s.res.Sent++
	m.sent++
	m.advance(s.now)
	if m.limit.Per > 0 {
		// A millionth of a message is for the rounding of this very sum.
		if m.level--; m.level < -1e-6 {
			c.wrong("I9: carrier %d got more than %d per %s with a burst of %d: %.3f too many", carrier, m.limit.N, m.limit.Per, m.limit.Burst, -m.level)
			m.level = 0
		}
	}
	if m.limit.PerDay > 0 {
		for len(m.day) > 0 && s.now-m.day[0] >= at(24*time.Hour) {
			m.day = m.day[1:]
		}
		if m.day = append(m.day, s.now); int64(len(m.day)) > m.limit.PerDay {
			c.wrong("I9: carrier %d got %d in 24 hours, and the limit is %d", carrier, len(m.day), m.limit.PerDay)
		}
	}
}

func (c *checker) opened(carrier int) {
	m := &c.meters[carrier]
	if m.open++; m.limit.Connections > 0 && m.open > m.most {
		c.wrong("I9: carrier %d has %d connections open, and the limit is %d", carrier, m.open, m.most)
	}
}

func (c *checker) closed(carrier int, n int64) {
	m := &c.meters[carrier]
	m.open -= n
	if m.open <= m.limit.Connections {
		m.most = m.limit.Connections
	}
}

// policyChanged and policyApplied: a limit is lower when the last node has heard
// of it, and higher at once.
func (c *checker) policyChanged() {
	c.applied = append(c.applied, 0)
	c.widen()
}

func (c *checker) policyApplied(n *node) {
	c.applied[n.policy.revision]++
	c.applied[c.revisions[n.number]]--
	c.revisions[n.number] = n.policy.revision
	was := c.oldest
	for c.oldest < len(c.applied)-1 && c.applied[c.oldest] == 0 {
		c.oldest++
	}
	if c.oldest != was {
		c.widen()
	}
}

// widen takes the widest of all limits that a node may have.
func (c *checker) widen() {
	s := c.s
	for i := range c.meters {
		m := &c.meters[i]
		next := s.policies[c.oldest-1].limits[i]
		for _, p := range s.policies[c.oldest:] {
			l := p.limits[i]
			next.N, next.Burst, next.Connections = max(next.N, l.N), max(next.Burst, l.Burst), max(next.Connections, l.Connections)
		}
		if next != m.limit {
			m.advance(s.now)
			m.level += float64(max(next.Burst-m.limit.Burst, 0))
			m.limit = next
			m.level = min(m.level, float64(next.Burst))
			if m.most = max(m.most, next.Connections); m.open <= next.Connections {
				m.most = next.Connections
			}
		}
	}
}

// begin looks, after healing, whether everything becomes live again.
func (c *checker) begin() {
	c.s.plan(time.Duration(c.s.calm), func() {
		c.healed = c.s.now
		c.lookForLife()
	})
	// The use of limits is measured in the last third of the calm.
	c.s.plan(time.Duration(c.s.end-(c.s.end-c.s.calm)/3), func() {
		c.since = c.s.now
		for i := range c.meters {
			c.counted[i] = c.meters[i].sent
		}
	})
}

func (c *checker) lookForLife() {
	if c.unused() == 0 {
		c.usable = c.s.now
		c.s.res.HeldAfter = time.Duration(c.usable - c.healed)
		return
	}
	c.s.plan(100*time.Millisecond, c.lookForLife)
}

// unused counts the sources that some node could hold and none may use.
func (c *checker) unused() (n int) {
	s := c.s
	p := s.policies[len(s.policies)-1]
	held := make([]bool, len(p.sources))
	site := map[string]bool{}
	for _, nd := range s.nodes {
		if !nd.up {
			continue
		}
		site[sites[nd.number%len(sites)]] = true
		for i, t := range nd.tenures {
			held[i] = held[i] || t != nil && !t.ending && nd.holds(nd.reg)
		}
	}
	for i := range p.sources {
		want := p.sources[i].Labels["site"]
		if p.sources[i].Movable && !held[i] && (want == "" && len(site) > 0 || site[want]) {
			n++
		}
	}
	return n
}

// reviveWithin is how long it may take after healing until every source is held
// again: a leader that died just then, and its successor, who cannot know how
// long a lease has been gone.
const reviveWithin = leaderTTL + 2*time.Second + nodeTTL + nodeTTL + quarantine + 3*time.Second

// finish is after the last event.
func (c *checker) finish() {
	s := c.s
	if c.healed == 0 {
		return
	}
	if n := c.unused(); n > 0 {
		c.wrong("liveness: %d sources are not held %s after healing", n, time.Duration(s.now-c.healed))
	} else if c.usable == 0 || s.res.HeldAfter > reviveWithin {
		c.wrong("liveness: it took %s after healing until every source was held", s.res.HeldAfter)
	}
	c.measureUse()
}

// within is the part of a carrier's limit that can be used at all: the floors,
// a tenth of it together, of nodes that have no mail or no source for it lie
// idle.
func (c *checker) within(carrier int) float64 {
	s, able := c.s, 0
	for _, n := range s.nodes {
		if n.lanes[carrier] != nil && len(n.usable[s.poolOf(carrier)]) > 0 {
			able++
		}
	}
	return 1 - 0.1*(1-float64(able)/float64(len(s.nodes)))
}

// measureUse compares what was sent in the end with the limits.
func (c *checker) measureUse() {
	s := c.s
	window := float64(s.end - c.since)
	if window <= 0 || s.opt.Slow {
		return
	}
	var full, turns, turnsN float64
	for i := range c.meters {
		m := &c.meters[i]
		if m.limit.Per == 0 || m.limit.N == 0 || m.limit.PerDay > 0 {
			continue // the day's limit may be what holds it back
		}
		use := float64(m.sent-c.counted[i]) / (float64(m.limit.N) * window / float64(m.limit.Per)) / c.within(i)
		if n := int64(s.opt.Nodes); m.limit.Burst >= 2*n && m.limit.Connections >= 4*n && (m.limit.LinkPer == 0 || m.limit.LinkBurst >= 2*n) {
			full += use
			s.res.CarriersFull++
		} else {
			turns += use
			turnsN++
		}
	}
	if s.res.CarriersFull > 0 {
		s.res.UseFull = full / float64(s.res.CarriersFull)
		if s.res.UseFull < 0.9 {
			c.wrong("liveness: %.2f of what the limits leave is used with more mail waiting than can go", s.res.UseFull)
		}
	}
	if turnsN > 0 {
		s.res.UseTurns = turns / turnsN
	}
}
