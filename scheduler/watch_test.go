package scheduler

import (
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// watch collects what was spent from every budget and checks the bound that
// design.md 5.7 gives: in every span W at most rate × W + burst.
type watch struct {
	spent map[string]*spending
}

// spending is what was spent from one budget. A change of its rate begins a
// new epoch; spans may cross them.
type spending struct {
	epochs []epoch
	times  []instant
	ids    []message.DeliveryID
}

type epoch struct {
	from instant
	rate *policy.Rate // nil: no limit
	part portion      // of it, this node's
	day  int64        // what may be counted; never: no limit
	more int64        // permits ever given on top
}

func newWatch() *watch { return &watch{spent: map[string]*spending{}} }

// on is the record of a budget; its first epoch has the limit it has now.
func (w *watch) on(name string, limit func() epoch) *spending {
	sp := w.spent[name]
	if sp == nil {
		sp = &spending{}
		w.spent[name] = sp
	}
	e := limit()
	if n := len(sp.epochs); n == 0 || !sameRate(sp.epochs[n-1].rate, e.rate) || sp.epochs[n-1].part != e.part || sp.epochs[n-1].day != e.day || sp.epochs[n-1].more != e.more {
		sp.epochs = append(sp.epochs, e)
	}
	return sp
}

func sameRate(a, b *policy.Rate) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// budgets are every budget that a dispatch by the lane spends, and its limit as
// policy and grants have it, found without the scheduler's own tables. Without
// a queue they are those of the lane's connections.
func (m *sim) budgets(l Lane, q *message.QueueKey) map[exchange.Scope]epoch {
	carrier, site := m.s.sites[l.Site].carrier, ""
	if carrier == policy.DefaultName {
		site = l.Site
	}
	xs := []exchange.Scope{{Kind: exchange.Carrier, Carrier: carrier, Site: site}, {Kind: exchange.CarrierSource, Carrier: carrier, Site: site, Source: l.Source}}
	for name, p := range m.s.set.Pools {
		if slices.ContainsFunc(p.Sources, func(m policy.PoolMember) bool { return m.Name == l.Source }) {
			xs = append(xs, exchange.Scope{Kind: exchange.CarrierPool, Carrier: carrier, Site: site, Pool: name})
		}
	}
	if q != nil {
		xs = append(xs, exchange.Scope{Kind: exchange.Tenant, Tenant: q.Tenant}, exchange.Scope{Kind: exchange.TenantCarrier, Tenant: q.Tenant, Carrier: carrier},
			exchange.Scope{Kind: exchange.Stream, Tenant: q.Tenant, Stream: q.Stream})
		if q.Job != "" {
			xs = append(xs, exchange.Scope{Kind: exchange.Job, Tenant: q.Tenant, Job: q.Job})
		}
	}
	out := map[exchange.Scope]epoch{}
	for _, x := range xs {
		out[x] = m.limit(x, q == nil)
	}
	return out
}

// limit is what stands on a scope now: for connections, or for messages.
func (m *sim) limit(x exchange.Scope, connections bool) epoch {
	p := m.s.set.LimitsAtSite(m.now, policy.Selector{Carrier: x.Carrier, Pool: x.Pool, Source: x.Source, Tenant: x.Tenant, Stream: x.Stream, Job: x.Job}, x.Site)
	if x.Kind == exchange.Job && p.Rate == nil {
		p.Rate = m.jobs[jobKey{x.Tenant, x.Job}].Rate
	}
	e := epoch{from: m.instant(), rate: p.Rate, day: int64(never)}
	if connections {
		e.rate = p.ConnectionRate
	} else if p.PerDay > 0 {
		e.day, e.more = m.dayLimit(x, p.PerDay), m.issued[x]
	}
	if e.rate == nil {
		return e
	}
	whole := e.rate.BurstOrDefault()
	if e.part = (portion{exchange.FullShare, whole}); !m.grants.Spanning || x.Kind == exchange.CarrierSource {
		return e
	}
	e.part = portion{m.grants.Floor, exchange.FloorOf(whole, m.grants.Floor, m.grants.Rank)}
	if h, ok := m.granted(x); ok {
		// The part is of the burst that was when it was granted, so it can be
		// less; the other way round it is never more than the whole.
		part := h.Burst
		if connections {
			part = h.LinkBurst
		}
		e.part = portion{h.Share, min(part, whole)}
	}
	return e
}

// granted is what the last grants say of a scope and still holds.
func (m *sim) granted(x exchange.Scope) (h exchange.Holding, ok bool) {
	if m.now.Before(m.grants.Until) {
		for _, g := range m.grants.Grants {
			if g.Scope == x {
				h, ok = g.Holding, true
			}
		}
	}
	return h, ok
}

// dayLimit is what may be counted of a daily limit without permits.
func (m *sim) dayLimit(x exchange.Scope, perDay int64) int64 {
	switch {
	case !m.grants.Spanning:
		return perDay
	case x.Kind != exchange.CarrierSource:
		return exchange.PartOf(perDay, m.grants.Floor)
	case m.s.set.Sources[x.Source].Movable() && m.grants.Floor < exchange.FullShare: // else there is nobody to share it with
		return 0
	}
	return perDay
}

func (m *sim) instant() instant { return at(m.now) }

func (w *watch) sent(m *sim, l Lane, d *message.Delivery) {
	for x, e := range m.budgets(l, &d.Queue) {
		w.on(fmt.Sprint(x), func() epoch { return e }).add(m.instant(), d.ID)
	}
}

func (sp *spending) add(t instant, id message.DeliveryID) {
	sp.times = append(sp.times, t)
	sp.ids = append(sp.ids, id)
}

func (w *watch) opened(m *sim, l Lane) {
	for x, e := range m.budgets(l, nil) {
		w.on("connections "+fmt.Sprint(x), func() epoch { return e }).add(m.instant(), message.DeliveryID{})
	}
}

// putBack takes the last spending for a delivery off every record: it was not
// sent.
func (w *watch) putBack(d *message.Delivery) {
	for _, sp := range w.spent {
		for i := len(sp.ids) - 1; i >= 0; i-- {
			if sp.ids[i] == d.ID {
				sp.ids = append(sp.ids[:i], sp.ids[i+1:]...)
				sp.times = append(sp.times[:i], sp.times[i+1:]...)
				break
			}
		}
	}
}

// limits begins new epochs where limits have changed.
func (w *watch) limits(m *sim) {
	for _, st := range m.s.sites {
		for _, l := range st.lanes {
			for _, tenant := range []string{"red", "blue", "default"} {
				for _, stream := range []string{"", "bulk", "day"} {
					for _, job := range []string{"", "j1", "j2"} {
						for x, e := range m.budgets(l.key, &message.QueueKey{Tenant: tenant, Stream: stream, Job: job}) {
							w.again(fmt.Sprint(x), e)
						}
					}
				}
			}
			for x, e := range m.budgets(l.key, nil) {
				w.again("connections "+fmt.Sprint(x), e)
			}
		}
	}
}

func (w *watch) again(name string, e epoch) {
	if w.spent[name] != nil {
		w.on(name, func() epoch { return e })
	}
}

// check looks at every span that begins and ends with a message.
func (w *watch) check(m *sim) {
	for name, sp := range w.spent {
		for i := range sp.times {
			for j := i; j < len(sp.times); j++ {
				if err := sp.bound(i, j); err != nil {
					m.fail("%s: %v", name, err)
				}
			}
		}
	}
}

// bound checks one span against the widest limit that was in force in it.
func (sp *spending) bound(i, j int) error {
	from, to, n := sp.times[i], sp.times[j], int64(j-i+1)
	var perNano float64
	var burst, day, more int64
	limited, limitedDay := true, true
	for k, e := range sp.epochs {
		if e.from > to || k+1 < len(sp.epochs) && sp.epochs[k+1].from < from {
			continue
		}
		if e.rate == nil {
			limited = false
		} else {
			perNano, burst = max(perNano, float64(e.rate.N)/float64(e.rate.Per)*float64(e.part.share)/exchange.FullShare), max(burst, e.part.burst)
		}
		limitedDay = limitedDay && e.day < int64(never)
		day, more = max(day, e.day), max(more, e.more)
	}
	if most := perNano*float64(to-from) + float64(burst); limited && float64(n) > most+1e-6 {
		return fmt.Errorf("%d in %s, where %.3f are allowed", n, time.Duration(to-from), most)
	}
	if limitedDay && to-from <= daySpan && n > day+more {
		return fmt.Errorf("%d in %s, where %d a day are allowed, and %d permits", n, time.Duration(to-from), day, more)
	}
	return nil
}
