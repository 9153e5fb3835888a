package controlplane

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// What was decided and keeps mail back, somebody should know without asking for
// it: sources that a carrier refuses, pools that have none left there, tenants
// whose mail is held, warm-ups that do not get on.

// steeringAlarmsLocked are those of what stands in etcd.
func (o *office) steeringAlarmsLocked() []string {
	var list []string
	t, set, now := o.mu.tables, o.mu.policy, o.c.opt.Now()
	for _, carrier := range slices.Sorted(maps.Keys(t.steering)) {
		r := t.steering[carrier].value.Steering
		var refused []string
		rests := false
		for i := range r.Lanes {
			l := &r.Lanes[i]
			rests = rests || l.Site == "" && l.Resting(now)
			if l.State == policy.StateBlocked && l.Resting(now) {
				refused = append(refused, l.Source+at(l.Site))
			}
		}
		if len(refused) > 0 {
			list = append(list, fmt.Sprintf("carrier %s blocks %s: hikyaku reputation lanes --carrier %s", carrier, some(refused, "sources"), carrier))
		}
		if rests {
			list = append(list, dryPools(set, carrier, now)...)
		}
	}
	holds := t.steering[keyspace.TenantSteering].value.Holds
	for i := range holds {
		h := &holds[i]
		if now.Before(h.Until.Time()) {
			on := policy.Selector{Tenant: h.Tenant, Carrier: h.Carrier, Stream: h.Stream, Job: h.Job}
			list = append(list, fmt.Sprintf("mail of %s is held until %s by decision %s", on, h.Until.Time().UTC().Format(time.RFC3339), h.Decision))
		}
	}
	return list
}

func at(site string) string {
	if site == "" {
		return ""
	}
	return " (" + site + ")"
}

// dryPools are the pools whose sources all rest at a carrier.
func dryPools(set *policy.Set, carrier string, now time.Time) (list []string) {
	for _, pool := range slices.Sorted(maps.Keys(set.Pools)) {
		n, left := 0, false
		var until time.Time // when the first is back; zero: not by itself
		for _, m := range set.Pools[pool].Sources {
			if s := set.Sources[m.Name]; s == nil || s.Disabled {
				continue
			}
			n++
			c := set.CourseOf(carrier, "", m.Name)
			if left = !c.Resting(now); left {
				break
			}
			if r := c.Rests.Time(); c.State != policy.StateRetired && (until.IsZero() || r.Before(until)) {
				until = r
			}
		}
		switch {
		case left || n == 0:
		case until.IsZero():
			list = append(list, fmt.Sprintf("pool %s: all its sources are retired at carrier %s, and its mail for there waits", pool, carrier))
		default:
			list = append(list, fmt.Sprintf("pool %s: all its sources rest at carrier %s until %s, and its mail for there waits", pool, carrier, until.UTC().Format(time.RFC3339)))
		}
	}
	return list
}

// stuck are the warm-ups whose day will not count.
func (s *steering) stuck() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ctl == nil {
		return nil
	}
	var list []string
	for _, p := range s.mu.ctl.Progress(s.o.c.opt.Now()) {
		if p.Held != "" && !p.Done {
			list = append(list, fmt.Sprintf("warm-up %s stays at day %d of %d at carrier %s: %s", p.WarmUp, p.Day, p.Days, p.Carrier, p.Held))
		}
	}
	return list
}

// some names the first few.
func some(names []string, what string) string {
	const few = 5
	if len(names) > few {
		return fmt.Sprintf("%d %s (%s, …)", len(names), what, strings.Join(names[:few], ", "))
	}
	return strings.Join(names, ", ")
}

// atMost keeps what is said in bounds.
func atMost(list []string, n int) []string {
	if len(list) > n {
		list = append(list[:n:n], fmt.Sprintf("and %d more about sources and tenants", len(list)-n))
	}
	return list
}
