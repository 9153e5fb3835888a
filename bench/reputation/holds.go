package reputation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// holds are what steering has stopped for a time: sources that rest at a
// carrier, and tenants' mail.
type holds struct{ until map[message.Scope]time.Time }

// follow takes over what new steering says.
func (h *holds) follow(d *day, x *policy.Steering) {
	want := map[message.Scope]time.Time{}
	for on, c := range x.Lanes {
		if c.Resting(d.now) {
			want[message.Scope{Carrier: on.Carrier, Source: on.Source}] = c.Rests.Time()
		}
	}
	for on, held := range x.Holds {
		want[message.Scope{Tenant: on.Tenant, Carrier: on.Carrier, Stream: on.Stream, Job: on.Job}] = held.Until.Time()
	}
	for _, s := range sorted(h.until) {
		if _, still := want[s]; !still {
			h.release(d, s)
		}
	}
	for _, s := range sorted(want) {
		if h.until[s].IsZero() {
			d.s.Hold(d.now, scheduler.Hold{ID: name(s), Scope: s})
		}
	}
	h.until = want
}

// lapse ends what is over.
func (h *holds) lapse(d *day) {
	for _, s := range sorted(h.until) {
		if !d.now.Before(h.until[s]) {
			h.release(d, s)
			delete(h.until, s)
		}
	}
}

func (h *holds) release(d *day, s message.Scope) { d.s.Release(d.now, name(s)) }

func name(s message.Scope) string {
	return s.Carrier + "/" + s.Source + "/" + s.Tenant + "/" + s.Stream + "/" + s.Job
}

func sorted(m map[message.Scope]time.Time) []message.Scope {
	return slices.SortedFunc(maps.Keys(m), func(a, b message.Scope) int { return cmp.Compare(name(a), name(b)) })
}
