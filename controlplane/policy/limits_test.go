package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	three = noon.Add(3 * time.Hour)
)

// limited is a policy with a limit of each kind, and throttles: until three on
// docomo, for good on others.
func limited(t testing.TB) *policy.Set {
	return mustSet(t,
		resource(t, "Carrier", "docomo", `{"domains":["docomo.ne.jp"],"limits":{"rate":"100/s","connections":50},"per_source":{"per_day":1000,"connections":2},"per_pool":{"bulk":{"rate":"20/s"}}}`),
		resource(t, "Carrier", "default", `{"limits":{"rate":"9/s"}}`),
		resource(t, "Pool", "bulk", `{"sources":[{"name":"m1"},{"name":"m2"},{"name":"pin"}]}`),
		resource(t, "Source", "m1", `{"address":"192.0.2.1"}`),
		resource(t, "Source", "m2", `{"address":"192.0.2.2","labels":{"zone":"a"}}`),
		resource(t, "Source", "pin", `{"address":"192.0.2.3","node":"n1"}`),
		resource(t, "Tenant", "acme", `{"rate":"50/s","per_day":9000,"carriers":{"docomo":{"rate":"7/s"}}}`),
		resource(t, "Stream", "news", `{"rate":"6/s"}`),
		resource(t, "Stream", "acme/news", `{"per_day":77}`),
		resource(t, "Throttle", "tonight", `{"carrier":"docomo","rate":"10/s","expires":"2026-11-22T15:00:00Z"}`),
		resource(t, "Throttle", "pool", `{"carrier":"docomo","pool":"bulk","connections":3,"rate":"40/s"}`),
		resource(t, "Throttle", "other-pool", `{"carrier":"docomo","pool":"default","rate":"2/s"}`),
		resource(t, "Throttle", "one", `{"carrier":"docomo","source":"m1","per_day":5,"rate":"1/m"}`),
		resource(t, "Throttle", "there", `{"carrier":"default","source":"m2","per_day":6}`),
		resource(t, "Throttle", "job", `{"tenant":"acme","job":"j1","rate":"1/s"}`),
		resource(t, "Throttle", "there-too", `{"tenant":"acme","carrier":"default","per_day":8,"expires":"2026-11-22T15:00:01Z"}`),
		resource(t, "Throttle", "stream", `{"tenant":"default","stream":"news","rate":"0/s"}`),
	)
}

// show is limits as "10/s 1000/24h 2c 5/m c".
func show(l policy.Limits) string {
	var w []string
	if l.Rate != nil {
		w = append(w, l.Rate.String())
	}
	if l.PerDay != 0 {
		w = append(w, fmt.Sprintf("%d/24h", l.PerDay))
	}
	if l.Connections != 0 {
		w = append(w, fmt.Sprintf("%dc", l.Connections))
	}
	if l.ConnectionRate != nil {
		w = append(w, l.ConnectionRate.String()+" c")
	}
	return strings.Join(w, " ")
}

func TestLimitsAt(t *testing.T) {
	s := limited(t)
	for _, tt := range []struct {
		on            policy.Selector
		before, after string // three o'clock
		spanning      string // before
	}{
		{policy.Selector{Carrier: "docomo"}, "10/s 50c", "100/s 50c", "10/s 50c"},
		{policy.Selector{Carrier: "default"}, "9/s", "9/s", "9/s"},
		{policy.Selector{Carrier: "gone"}, "9/s", "9/s", "9/s"},
		{policy.Selector{Carrier: "docomo", Pool: "bulk"}, "40/s 3c", "40/s 3c", "40/s 3c"},
		{policy.Selector{Carrier: "docomo", Pool: "default"}, "2/s", "2/s", "2/s"},
		{policy.Selector{Carrier: "default", Pool: "bulk"}, "", "", ""},
		{policy.Selector{Carrier: "docomo", Source: "m1"}, "1/m 5/24h 2c", "1/m 5/24h 2c", "5/24h"},
		{policy.Selector{Carrier: "docomo", Source: "m2"}, "1000/24h 2c", "1000/24h 2c", "1000/24h"},
		{policy.Selector{Carrier: "docomo", Source: "pin"}, "1000/24h 2c", "1000/24h 2c", ""},
		{policy.Selector{Carrier: "docomo", Source: "default"}, "1000/24h 2c", "1000/24h 2c", ""},
		{policy.Selector{Carrier: "default", Source: "m2"}, "6/24h 20c", "6/24h 20c", "6/24h"},
		{policy.Selector{Carrier: "gone", Source: "m2"}, "6/24h 20c", "6/24h 20c", "6/24h"},
		{policy.Selector{Tenant: "acme"}, "50/s 9000/24h", "50/s 9000/24h", "50/s 9000/24h"},
		{policy.Selector{Tenant: "nobody"}, "", "", ""},
		{policy.Selector{Tenant: "acme", Carrier: "docomo"}, "7/s", "7/s", "7/s"},
		{policy.Selector{Tenant: "acme", Carrier: "default"}, "8/24h", "8/24h", "8/24h"},
		{policy.Selector{Tenant: "nobody", Carrier: "docomo"}, "", "", ""},
		{policy.Selector{Tenant: "acme", Stream: "news"}, "77/24h", "77/24h", "77/24h"},
		{policy.Selector{Tenant: "default", Stream: "news"}, "0/s", "0/s", "0/s"},
		{policy.Selector{Tenant: "nobody", Stream: "news"}, "6/s", "6/s", "6/s"},
		{policy.Selector{Tenant: "acme", Stream: "none"}, "", "", ""},
		{policy.Selector{Tenant: "acme", Job: "j1"}, "1/s", "1/s", "1/s"},
		{policy.Selector{Tenant: "acme", Job: "j2"}, "", "", ""},
	} {
		before, after, spanning := show(s.LimitsAt(three.Add(-1), tt.on)), show(s.LimitsAt(three, tt.on)), show(s.SpanningAt(noon, tt.on, ""))
		if before != tt.before || after != tt.after || spanning != tt.spanning {
			t.Errorf("%s: %q, then %q, spanning %q; want %q, %q, %q", tt.on, before, after, spanning, tt.before, tt.after, tt.spanning)
		}
	}
}

// TestThrottleLeavesTheSetAlone: what LimitsAt puts together is its own.
func TestThrottleLeavesTheSetAlone(t *testing.T) {
	s := limited(t)
	s.LimitsAt(noon, policy.Selector{Carrier: "docomo"})
	if got := show(s.Carriers["docomo"].Limits); got != "100/s 50c" {
		t.Errorf("the carrier's own limits became %s", got)
	}
}

func TestExpiry(t *testing.T) {
	s := limited(t)
	at := noon
	for _, want := range []time.Time{three, three.Add(time.Second), {}} {
		next := s.NextExpiry(at)
		if !next.Equal(want) {
			t.Errorf("next expiry after %s is %s, want %s", at, next, want)
		}
		at = next
	}
	for _, tt := range []struct {
		at   time.Time
		want []string
	}{{three.Add(-1), nil}, {three, []string{"tonight"}}, {three.Add(time.Second), []string{"there-too", "tonight"}}} {
		if got := s.Expired(tt.at); !slices.Equal(got, tt.want) {
			t.Errorf("expired at %s: %q, want %q", tt.at, got, tt.want)
		}
	}
}

func TestSpanning(t *testing.T) {
	s := limited(t)
	var got []string
	for on, l := range s.Spanning(noon) {
		got = append(got, on.String()+": "+show(l))
	}
	want := []string{
		"carrier default: 9/s",
		"carrier docomo: 10/s 50c",
		"carrier docomo, pool bulk: 40/s 3c",
		"carrier docomo, source m1: 5/24h",
		"carrier docomo, source m2: 1000/24h",
		"tenant acme: 50/s 9000/24h",
		"tenant acme, carrier docomo: 7/s",
		"tenant acme, stream news: 77/24h",
		"tenant default, stream news: 0/s",
		"tenant acme, job j1: 1/s",
		"carrier docomo, pool default: 2/s",
		"carrier default, source m2: 6/24h",
		"tenant acme, carrier default: 8/24h",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Whoever stops listening is not told more.
	for n := range want {
		left := n + 1
		for range s.Spanning(noon) {
			if left--; left == 0 {
				break
			}
		}
		if left != 0 {
			t.Errorf("stopped early at %d", n)
		}
	}
}

func TestLimitsAtAllocatesNothing(t *testing.T) {
	s := limited(t)
	on := policy.Selector{Carrier: "docomo", Source: "m1"}
	if n := testing.AllocsPerRun(100, func() { s.LimitsAt(noon, on) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWhereASourceMayBe(t *testing.T) {
	for _, tt := range []struct {
		spec                                         string
		local, pinned, movable, n1, labelled, nobody bool
	}{
		{`{}`, true, false, false, true, true, true},
		{`{"address":"192.0.2.1"}`, false, false, true, true, true, true},
		{`{"address":"192.0.2.1","node":"n1"}`, false, true, false, true, false, false},
		{`{"address":"192.0.2.1","labels":{"zone":"a"}}`, false, false, true, false, true, false},
		{`{"address":"192.0.2.1","labels":{"zone":"a","rack":"2"}}`, false, false, true, false, false, false},
		{`{"address":"192.0.2.1","disabled":true}`, false, false, true, false, false, false},
	} {
		s := resource(t, "Source", "s", tt.spec).Spec.(*policy.Source)
		if s.Local() != tt.local || s.Pinned() != tt.pinned || s.Movable() != tt.movable {
			t.Errorf("%s: local %v, pinned %v, movable %v", tt.spec, s.Local(), s.Pinned(), s.Movable())
		}
		n1, labelled, nobody := s.MayBeOn("n1", nil), s.MayBeOn("n2", map[string]string{"zone": "a", "rack": "1"}), s.MayBeOn("n3", nil)
		if n1 != tt.n1 || labelled != tt.labelled || nobody != tt.nobody {
			t.Errorf("%s: on n1 %v, on n2 %v, on n3 %v", tt.spec, n1, labelled, nobody)
		}
	}
}

// TestAnAddressPassesFromOneNameToAnother: one of the two is disabled.
func TestAnAddressPassesFromOneNameToAnother(t *testing.T) {
	s := mustSet(t,
		resource(t, "Source", "old", `{"address":"192.0.2.1","disabled":true}`),
		resource(t, "Source", "new", `{"address":"192.0.2.1"}`),
	)
	if s.Sources["new"].Attach != policy.AttachNone {
		t.Errorf("attach %q", s.Sources["new"].Attach)
	}
}

func TestSourceCommand(t *testing.T) {
	s := &policy.Source{Address: "192.0.2.1"}
	got := s.Command([]string{"/bin/a", "add", "{address}", "{source}@{epoch}", "$(x) {}"}, "s1", "7")
	if want := []string{"/bin/a", "add", "192.0.2.1", "s1@7", "$(x) {}"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestSetKeepsItsOwnMaps: what a caller does to its spec later does not show.
func TestSetKeepsItsOwnMaps(t *testing.T) {
	c := resource(t, "Carrier", "c", `{"domains":["c.test"],"per_pool":{"default":{"connections":1}}}`)
	te := resource(t, "Tenant", "a", `{"carriers":{"c":{"per_day":1}}}`)
	so := resource(t, "Source", "s", `{"address":"192.0.2.1","labels":{"zone":"a"}}`)
	s := mustSet(t, c, te, so)
	delete(c.Spec.(*policy.Carrier).PerPool, "default")
	delete(te.Spec.(*policy.Tenant).Carriers, "c")
	delete(so.Spec.(*policy.Source).Labels, "zone")
	if len(s.Carriers["c"].PerPool) != 1 || len(s.Tenants["a"].Carriers) != 1 || len(s.Sources["s"].Labels) != 1 {
		t.Error("the set changed with its maker's specs")
	}
}
