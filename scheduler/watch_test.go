package scheduler

import (
	"fmt"
	"time"

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
	day  int64        // 0: no limit
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
	if n := len(sp.epochs); n == 0 || !sameRate(sp.epochs[n-1].rate, e.rate) || sp.epochs[n-1].day != e.day {
		sp.epochs = append(sp.epochs, e)
	}
	return sp
}

func sameRate(a, b *policy.Rate) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// budgets names every budget that a dispatch by the lane spends, and its limit
// as policy has it, found without the scheduler's own tables.
func (m *sim) budgets(l Lane, q *message.QueueKey) map[string]epoch {
	st := m.s.sites[l.Site]
	c := m.s.set.Carriers[st.carrier]
	at := st.carrier
	if at == policy.DefaultName {
		at += " " + st.name
	}
	now := m.instant()
	b := map[string]epoch{
		"carrier " + at:                     {now, c.Limits.Rate, c.Limits.PerDay},
		"carrier " + at + "\x00" + l.Source: {now, c.PerSource.Rate, c.PerSource.PerDay},
	}
	if q == nil {
		return b
	}
	b["tenant "+q.Tenant] = epoch{from: now}
	if t := m.s.set.Tenants[q.Tenant]; t != nil {
		b["tenant "+q.Tenant] = epoch{now, t.Rate, t.PerDay}
	}
	if t, _ := m.s.set.StreamOf(q.Tenant, q.Stream); t != nil {
		b["stream "+q.Tenant+"/"+q.Stream] = epoch{now, t.Rate, t.PerDay}
	}
	return b
}

func (m *sim) instant() instant { return at(m.now) }

func (w *watch) sent(m *sim, l Lane, d *message.Delivery) {
	for name, e := range m.budgets(l, &d.Queue) {
		w.on(name, func() epoch { return e }).add(m.instant(), d.ID)
	}
	if q := &d.Queue; q.Job != "" {
		if sp := w.spent["job "+q.Tenant+"/"+q.Job]; sp != nil {
			sp.add(m.instant(), d.ID)
		}
	}
}

func (sp *spending) add(t instant, id message.DeliveryID) {
	sp.times = append(sp.times, t)
	sp.ids = append(sp.ids, id)
}

// connections are the records of a lane's new connections.
func (w *watch) connections(m *sim, l Lane) [2]*spending {
	st := m.s.sites[l.Site]
	c := m.s.set.Carriers[st.carrier]
	at := st.carrier
	if at == policy.DefaultName {
		at += " " + st.name
	}
	return [2]*spending{
		w.on("connections "+at, func() epoch { return epoch{m.instant(), c.Limits.ConnectionRate, 0} }),
		w.on("connections "+at+"\x00"+l.Source, func() epoch { return epoch{m.instant(), c.PerSource.ConnectionRate, 0} }),
	}
}

func (w *watch) opened(m *sim, l Lane) {
	for _, sp := range w.connections(m, l) {
		sp.add(m.instant(), message.DeliveryID{})
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

// policy begins new epochs where limits have changed.
func (w *watch) policy(m *sim) {
	for _, st := range m.s.sites {
		for _, l := range st.lanes {
			for _, tenant := range []string{"red", "blue", "default"} {
				for _, stream := range []string{"", "bulk", "day"} {
					for name, e := range m.budgets(l.key, &message.QueueKey{Tenant: tenant, Stream: stream}) {
						if w.spent[name] != nil {
							w.on(name, func() epoch { return e })
						}
					}
				}
			}
			w.connections(m, l.key)
		}
	}
}

// job begins a new epoch of a job's rate; without any it is not watched.
func (w *watch) job(key jobKey, r *policy.Rate) {
	name := "job " + key.tenant + "/" + key.job
	delete(w.spent, name)
	if r != nil {
		w.spent[name] = &spending{epochs: []epoch{{rate: r}}}
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
	var burst, day int64
	limited, limitedDay := true, true
	for k, e := range sp.epochs {
		if e.from > to || k+1 < len(sp.epochs) && sp.epochs[k+1].from < from {
			continue
		}
		if e.rate == nil {
			limited = false
		} else {
			perNano, burst = max(perNano, float64(e.rate.N)/float64(e.rate.Per)), max(burst, e.rate.BurstOrDefault())
		}
		limitedDay = limitedDay && e.day > 0
		day = max(day, e.day)
	}
	if most := perNano*float64(to-from) + float64(burst); limited && float64(n) > most+1e-6 {
		return fmt.Errorf("%d in %s, where %.3f are allowed", n, time.Duration(to-from), most)
	}
	if limitedDay && to-from <= daySpan && n > day {
		return fmt.Errorf("%d in %s, where %d a day are allowed", n, time.Duration(to-from), day)
	}
	return nil
}
