package scheduler

import (
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// cluster does what the control plane and other nodes might.
func (m *sim) cluster() {
	r := m.rnd
	switch r.IntN(8) {
	case 0:
		held := map[string]bool{"ip3": true}
		for _, name := range []string{"default", "ip1", "ip2"} {
			held[name] = m.chance(70)
		}
		m.setSources(held)
	case 1:
		if m.chance(30) {
			m.setSources(nil)
		}
	case 2:
		k := linkKey{carrier: "big", source: pick(r, "ip1", "ip2")}
		until := m.now.Add(time.Duration(r.IntN(90)) * time.Second)
		m.note("brake %v until %s", k, until)
		if most := m.now.Add(time.Minute); until.After(most) {
			until = most
		}
		if until.After(m.brakes[k]) {
			m.brakes[k] = until
		}
		m.s.Brake(m.now, k.carrier, k.source, until)
	case 3, 4:
		m.steer()
	case 5:
		m.s.Demands(m.now, 1+r.IntN(10))
	default:
		m.setGrants(m.randomGrants())
	}
}

func (m *sim) setSources(held map[string]bool) {
	m.note("sources %v", held)
	m.held = held
	m.s.SetSources(m.now, held)
	if len(m.s.Stranded(m.now, 100)) > 0 {
		m.seen.stranded++
	}
}

func (m *sim) setGrants(g Grants) {
	m.note("grants %+v", g)
	m.watch.limits(m) // those before may have ended unseen
	m.grants = g
	m.s.SetGrants(m.now, g)
	m.watch.limits(m)
}

func (m *sim) randomGrants() Grants {
	r := m.rnd
	if m.chance(15) {
		return Grants{Lease: 1}
	}
	g := Grants{Spanning: true, Floor: pick[int64](r, 0, 1000, 20_000, exchange.FullShare), Rank: int64(r.IntN(3)), Lease: 1, Revision: int64(r.IntN(3))}
	g.Until = m.now.Add(time.Duration(r.IntN(pick(r, 8_000, 600_000))) * time.Millisecond)
	var xs []exchange.Scope
	m.s.limits.each(func(x exchange.Scope, _ *scope, _ *links) { xs = append(xs, x) })
	xs = append(xs, exchange.Scope{Kind: exchange.Job, Tenant: "red", Job: "j2"}, exchange.Scope{Kind: exchange.Carrier, Carrier: "nobody"})
	slices.SortFunc(xs, compareScopes)
	generous := m.chance(60)
	for _, x := range xs {
		if !m.chance(60) && !generous {
			continue
		}
		h := exchange.Holding{Share: r.Int64N(exchange.FullShare + 1), Burst: r.Int64N(20), LinkBurst: r.Int64N(8), Connections: r.Int64N(5)}
		if generous {
			h.Share, h.Burst, h.LinkBurst, h.Connections = h.Share/2+exchange.FullShare/2, h.Burst+1, h.LinkBurst+1, h.Connections+1
		}
		if m.chance(40) {
			m.issued[x] += r.Int64N(40)
			if m.chance(30) {
				m.voided[x] = m.issued[x] - r.Int64N(m.issued[x]+1)
			}
		}
		h.Issued, h.Void = m.issued[x], m.voided[x]
		g.Grants = append(g.Grants, exchange.Grant{Scope: x, Holding: h})
	}
	return g
}

// allowedHere checks what must hold for a dispatch on this node.
func (m *sim) allowedHere(l Lane, v *Dispatch) {
	if m.held != nil && !m.held[l.Source] {
		m.fail("%s went from %s, which another node has", v.Delivery.ID, l.Source)
	}
	if v.Carrier != policy.DefaultName && m.now.Before(m.brakes[linkKey{carrier: v.Carrier, source: l.Source}]) {
		m.fail("%s went from %s although that is braked", v.Delivery.ID, l.Source)
	}
	m.steeredHere(l, v)
	if m.grants.Spanning && len(m.grants.Grants) > 0 && m.now.Before(m.grants.Until) {
		m.seen.granted++
	}
	for i := range 32 {
		if m.s.items[v.Delivery.ID].days.of(i) == byPermit {
			m.seen.permits++
		}
	}
}

// checkCluster recounts what only a node with others keeps.
func (s *Scheduler) checkCluster(now instant) error {
	if err := s.checkClaims(now); err != nil {
		return err
	}
	stranded := 0
	for p := range s.stranded.classes {
		c := &s.stranded.classes[p]
		for name, st := range c.byName {
			var err error
			st.queues.each(func(q *queue) bool {
				stranded++
				if !q.stranded || q.key.Tenant != name || int(min(q.key.Priority, message.Low)) != p || s.queues[q.key] != q || len(s.pools[q.key.Pool]) > 0 && !s.refuges[Refuge{q.key.Pool, q.dest.carrier}] {
					err = fmt.Errorf("queue %v is among the stranded", q.key)
				}
				return true
			})
			if err != nil {
				return err
			}
			if st.queues.n == 0 || !st.place.in() {
				return fmt.Errorf("tenant %s has %d stranded queues and is in line: %v", name, st.queues.n, st.place.in())
			}
		}
	}
	for _, q := range s.queues {
		if q.stranded {
			stranded--
		}
		if (q.stranded || q.starves != nil) != (q.flow == nil && q.spot.in()) || q.stranded && q.starves != nil {
			return fmt.Errorf("queue %v: stranded %v, starves %v, in a ring %v", q.key, q.stranded, q.starves != nil, q.spot.in())
		}
	}
	if stranded != 0 || s.stranded.n < 0 {
		return fmt.Errorf("%d more queues in the lines of the stranded than know of it", stranded)
	}
	for x, p := range s.limits.grants.permits {
		if left := p.left(now); left < 0 || p.spent < 0 || p.void > p.issued || p.spent+p.returned < p.void {
			return fmt.Errorf("permits of %v: %+v", x, *p)
		}
	}
	return nil
}

// checkClaims recounts the backlog of each budget.
func (s *Scheduler) checkClaims(instant) error {
	backlog, waiting := map[*scope]int64{}, map[*int64]int64{}
	for _, q := range s.queues {
		c := q.claim
		if c == nil {
			if s.limits.grants.Spanning && q.flow != nil {
				return fmt.Errorf("queue %v is ready and counted nowhere", q.key)
			}
			continue
		}
		if !s.limits.grants.Spanning || q.flow != nil && q.flow.claim != c || int(q.claimed) < q.loaded() {
			return fmt.Errorf("queue %v claims %d of %d loaded", q.key, q.claimed, q.loaded())
		}
		waiting[c.pool] += int64(q.claimed)
		for _, sc := range c.scopes {
			if sc != nil {
				backlog[sc] += int64(q.claimed)
			}
		}
	}
	for pool, n := range s.waiting {
		if *n != waiting[n] {
			return fmt.Errorf("pool %s: %d waiting, counted %d", pool, waiting[n], *n)
		}
	}
	var err error
	s.limits.each(func(x exchange.Scope, c *scope, _ *links) {
		if c.backlog != backlog[c] {
			err = fmt.Errorf("budget %v: a backlog of %d, counted %d", x, backlog[c], c.backlog)
		}
	})
	return err
}
