package scheduler

import (
	"cmp"
	"slices"
	"time"
)

// DayCounts is what was spent from every daily limit in the last 24 hours, to
// be kept over a restart. Whole slots of ten minutes count until the last of
// what they hold is 24 hours old, so a limit is never exceeded by keeping it.
type DayCounts struct {
	Saved  time.Time  `json:"saved"`
	Scopes []ScopeDay `json:"scopes"`
}

// ScopeDay is the count of one scope: a tenant, a tenant's stream, a carrier,
// or one source at a carrier. At the default carrier, which is not one
// provider, each site counts by itself.
type ScopeDay struct {
	Tenant  string    `json:"tenant,omitempty"`
	Stream  *string   `json:"stream,omitempty"` // nil: the tenant as a whole; a stream's name may be ""
	Carrier string    `json:"carrier,omitempty"`
	Site    string    `json:"site,omitempty"`
	Source  string    `json:"source,omitempty"`
	Slots   []DaySlot `json:"slots"`
}

// DayCounts exports all daily counts, in a fixed order.
func (s *Scheduler) DayCounts(now time.Time) DayCounts {
	t, t0 := &s.limits, at(now)
	out := DayCounts{Saved: now}
	add := func(d ScopeDay, c *scope) {
		if c.day.forget(t0); len(c.day.slots) > 0 {
			d.Slots = c.day.snapshot()
			out.Scopes = append(out.Scopes, d)
		}
	}
	for name, c := range t.tenants {
		add(ScopeDay{Tenant: name}, c)
	}
	for k, c := range t.streams {
		stream := k.stream
		add(ScopeDay{Tenant: k.tenant, Stream: &stream}, c)
	}
	for k, l := range t.links {
		add(ScopeDay{Carrier: k.carrier, Site: k.site, Source: k.source}, &l.scope)
	}
	for k, slots := range t.kept {
		if !slices.ContainsFunc(slots, func(sl DaySlot) bool { return (daySlot{index: slotOf(at(sl.Start))}).expires() > t0 }) {
			delete(t.kept, k)
			continue
		}
		out.Scopes = append(out.Scopes, ScopeDay{Carrier: k.carrier, Site: k.site, Source: k.source, Slots: slots})
	}
	slices.SortFunc(out.Scopes, compareScopeDays)
	return out
}

func compareScopeDays(a, b ScopeDay) int {
	name := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	kind := func(d ScopeDay) int {
		switch {
		case d.Carrier != "":
			return 2
		case d.Stream != nil:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(kind(a), kind(b)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(name(a.Stream), name(b.Stream)),
		cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Source, b.Source))
}

// LoadDayCounts adds counts from before a restart to what has been counted
// since.
func (s *Scheduler) LoadDayCounts(now time.Time, counts DayCounts) {
	t, t0 := &s.limits, at(now)
	for _, d := range counts.Scopes {
		switch {
		case d.Carrier != "":
			// A site that does not come back must not be remembered for its count
			// alone, so this waits for it.
			k := linkKey{d.Carrier, d.Site, d.Source}
			if l := t.links[k]; l != nil {
				l.day.load(t0, d.Slots)
			} else {
				t.kept[k] = append(t.kept[k], d.Slots...)
			}
		case d.Stream != nil:
			t.stream(t0, streamKey{d.Tenant, *d.Stream}).day.load(t0, d.Slots)
		default:
			t.tenant(t0, d.Tenant).day.load(t0, d.Slots)
		}
	}
}
