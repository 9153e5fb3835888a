package scheduler

import (
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
)

// DayCounts is what was spent from every daily limit in the last 24 hours, to
// be kept over a restart. Whole slots of ten minutes count until the last of
// what they hold is 24 hours old, so a limit is never exceeded by keeping it.
type DayCounts struct {
	Saved  time.Time  `json:"saved"`
	Scopes []ScopeDay `json:"scopes"`
}

// ScopeDay is the count of one scope: a tenant, a tenant at a carrier, a tenant's
// stream or job, a carrier, a pool or one source at a carrier. At the default
// carrier, which is not one provider, each site counts by itself, but for
// tenants.
type ScopeDay struct {
	Tenant  string    `json:"tenant,omitempty"`
	Stream  *string   `json:"stream,omitempty"` // nil: the tenant as a whole; a stream's name may be ""
	Job     string    `json:"job,omitempty"`
	Carrier string    `json:"carrier,omitempty"`
	Site    string    `json:"site,omitempty"`
	Pool    string    `json:"pool,omitempty"`
	Source  string    `json:"source,omitempty"`
	Slots   []DaySlot `json:"slots"`
}

// ScopeDayOf is the count of a scope.
func ScopeDayOf(x exchange.Scope, slots ...DaySlot) ScopeDay {
	d := ScopeDay{Tenant: x.Tenant, Job: x.Job, Carrier: x.Carrier, Site: x.Site, Pool: x.Pool, Source: x.Source, Slots: slots}
	if x.Kind == exchange.Stream {
		d.Stream = &x.Stream
	}
	return d
}

// scope is whose count it is.
func (d *ScopeDay) scope() exchange.Scope {
	x := exchange.Scope{Kind: exchange.Tenant, Tenant: d.Tenant, Job: d.Job, Carrier: d.Carrier, Site: d.Site, Pool: d.Pool, Source: d.Source}
	switch {
	case d.Carrier != "" && d.Tenant != "":
		x.Kind = exchange.TenantCarrier
	case d.Source != "":
		x.Kind = exchange.CarrierSource
	case d.Pool != "":
		x.Kind = exchange.CarrierPool
	case d.Carrier != "":
		x.Kind = exchange.Carrier
	case d.Stream != nil:
		x.Kind, x.Stream = exchange.Stream, *d.Stream
	case d.Job != "":
		x.Kind = exchange.Job
	}
	return x
}

// DayCounts exports all daily counts, in a fixed order.
func (s *Scheduler) DayCounts(now time.Time) DayCounts {
	t, t0 := &s.limits, at(now)
	var xs []exchange.Scope
	slots := map[exchange.Scope][]DaySlot{}
	t.each(func(x exchange.Scope, c *scope, _ *links) {
		if c.day.forget(t0); len(c.day.slots) > 0 {
			xs = append(xs, x)
			slots[x] = c.day.snapshot()
		}
	})
	for x, kept := range t.kept {
		if !slices.ContainsFunc(kept, func(sl DaySlot) bool { return (daySlot{index: slotOf(at(sl.Start))}).expires() > t0 }) {
			delete(t.kept, x)
			continue
		}
		xs = append(xs, x)
		slots[x] = append(slots[x], kept...)
	}
	slices.SortFunc(xs, compareScopes)
	out := DayCounts{Saved: now}
	for _, x := range slices.Compact(xs) {
		out.Scopes = append(out.Scopes, ScopeDayOf(x, slots[x]...))
	}
	return out
}

// LoadDayCounts adds counts from before a restart to what has been counted
// since.
func (s *Scheduler) LoadDayCounts(now time.Time, counts DayCounts) {
	t, t0 := &s.limits, at(now)
	for i := range counts.Scopes {
		d := &counts.Scopes[i]
		switch x := d.scope(); x.Kind {
		case exchange.Tenant:
			t.tenant(t0, x.Tenant).day.load(t0, d.Slots)
		case exchange.Stream:
			t.stream(t0, streamKey{x.Tenant, x.Stream}).day.load(t0, d.Slots)
		default:
			// A site that does not come back must not be remembered for its count
			// alone, so this waits for it, and for a limit.
			if c, _ := t.find(&x); c != nil {
				c.day.load(t0, d.Slots)
			} else {
				t.kept[x] = append(t.kept[x], d.Slots...)
			}
		}
	}
}

// reload gives a budget that has just been made what was counted for it before
// a restart.
func (t *limitTable) reload(now instant, x exchange.Scope, c *scope) {
	if slots := t.kept[x]; slots != nil {
		c.day.load(now, slots)
		delete(t.kept, x)
	}
}
