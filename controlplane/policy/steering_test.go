package policy_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

func rate(n int64) *policy.Rate { return &policy.Rate{N: n, Per: time.Second} }

// decided is a policy with decisions over it.
func decided(t testing.TB) *policy.Set {
	s := mustSet(t,
		resource(t, "Carrier", "docomo", `{"per_source":{"rate":"10/s","per_day":1000,"connections":4}}`),
		resource(t, "Carrier", "au", `{}`),
		resource(t, "Source", "m1", `{"address":"192.0.2.1"}`),
		resource(t, "Source", "m2", `{"address":"192.0.2.2"}`),
		resource(t, "Source", "new", `{"address":"192.0.2.3"}`),
		resource(t, "WarmUp", "new", `{"source":"new","carriers":["au"],"days":[30,60]}`),
		resource(t, "Throttle", "hand", `{"carrier":"docomo","source":"m2","rate":"20/s","expires":"2026-11-22T15:00:00Z"}`),
	)
	return s.WithSteering(&policy.Steering{Revision: 7, Lanes: map[policy.Steered]*policy.Course{
		{Carrier: "docomo", Source: "m1"}:                  {State: policy.StateSlowed, Rate: rate(2), PerDay: 2000, Connections: 9},
		{Carrier: "docomo", Source: "m2"}:                  {State: policy.StateSlowed, Rate: rate(2), PerDay: 50},
		{Carrier: "default", Source: "m1"}:                 {State: policy.StateWarming, PerDay: 100},
		{Carrier: "default", Site: "mx.a", Source: "m1"}:   {State: policy.StateWarming, PerDay: 7},
		{Carrier: "default", Site: "mx.ok", Source: "m1"}:  {State: policy.StateHealthy},
		{Carrier: "default", Site: "mx.off", Source: "m1"}: {State: policy.StateRetired},
	}})
}

func TestLimitsUnderDecisions(t *testing.T) {
	s := decided(t)
	for _, tt := range []struct {
		carrier, site, source string
		before, after         string // three o'clock
		spanning              string
	}{
		{"docomo", "", "m1", "2/s 1000/24h 4c", "2/s 1000/24h 4c", "1000/24h"}, // the lower of each
		{"docomo", "", "m2", "20/s 50/24h 4c", "2/s 50/24h 4c", "50/24h"},      // an operator's rate goes before; the day's count stays
		{"au", "", "m1", "20c", "20c", ""},
		{"default", "", "m1", "100/24h 20c", "100/24h 20c", "100/24h"},
		{"default", "mx.z", "m1", "100/24h 20c", "100/24h 20c", "100/24h"},
		{"default", "mx.a", "m1", "7/24h 20c", "7/24h 20c", "7/24h"},
		{"default", "mx.ok", "m1", "20c", "20c", ""},
		{"gone", "mx.a", "m1", "7/24h 20c", "7/24h 20c", "7/24h"},
		{"au", "", "new", "30/24h 20c", "30/24h 20c", "30/24h"}, // nothing decided yet: the first day
		{"docomo", "", "new", "10/s 1000/24h 4c", "10/s 1000/24h 4c", "1000/24h"},
	} {
		on := policy.Selector{Carrier: tt.carrier, Source: tt.source}
		before, after, spanning := show(s.LimitsAtSite(three.Add(-1), on, tt.site)), show(s.LimitsAtSite(three, on, tt.site)), show(s.SpanningAt(three, on, tt.site))
		if before != tt.before || after != tt.after || spanning != tt.spanning {
			t.Errorf("%+v: %q, then %q, spanning %q; want %q, %q, %q", tt, before, after, spanning, tt.before, tt.after, tt.spanning)
		}
	}
	if !s.Daily(noon) {
		t.Error("no limit of a day is seen")
	}
	if c := s.CourseOf("default", "mx.off", "m1"); !c.Resting(noon) {
		t.Errorf("%+v", c)
	}
	// Whoever does not steer has no first days either.
	off := mustSet(t, resource(t, "Source", "new", `{"address":"192.0.2.3"}`), resource(t, "WarmUp", "new", `{"source":"new"}`), resource(t, "Reputation", "default", `{"mode":"off"}`))
	if c := off.CourseOf("default", "", "new"); c != nil || off.Daily(noon) {
		t.Errorf("with reputation off: %+v", c)
	}
}

func TestSamePolicyAndChanges(t *testing.T) {
	s := decided(t)
	x := s.Steering()
	y := &policy.Steering{Revision: 8, Lanes: maps.Clone(x.Lanes), Holds: map[policy.Selector]*policy.Held{{Tenant: "acme"}: {Until: policy.At(noon)}}}
	gone, changed, copied := policy.Steered{Carrier: "docomo", Source: "m2"}, policy.Steered{Carrier: "docomo", Source: "m1"}, policy.Steered{Carrier: "default", Source: "m1"}
	delete(y.Lanes, gone)
	y.Lanes[changed] = &policy.Course{State: policy.StateSlowed, Rate: rate(1)}
	same := *x.Lanes[copied]
	same.Rate = nil
	y.Lanes[copied] = &same
	c := y.Since(x)
	if len(c.Lanes) != 2 || !slices.Contains(c.Lanes, gone) || !slices.Contains(c.Lanes, changed) || len(c.Holds) != 1 || c.IsZero() {
		t.Errorf("changes: %+v", c)
	}
	equal := &policy.Steering{Lanes: map[policy.Steered]*policy.Course{}}
	for on, c := range x.Lanes {
		copied := *c
		if c.Rate != nil {
			r := *c.Rate
			copied.Rate = &r
		}
		equal.Lanes[on] = &copied
	}
	if c := equal.Since(x); !c.IsZero() {
		t.Errorf("equal ones differ in %+v", c)
	}
	if c := (*policy.Steering)(nil).Since(x); len(c.Lanes) != len(x.Lanes) {
		t.Errorf("to nothing: %+v", c)
	}
	if o := s.WithSteering(y); !s.SamePolicy(o) || !o.SamePolicy(s) || !o.WithSteering(nil).SamePolicy(s) || s.SamePolicy(decided(t)) || s.SamePolicy(nil) {
		t.Error("which policies are the same is not known")
	}
}
