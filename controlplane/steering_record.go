package controlplane

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// A record of decisions is written whole, so what it costs is its size times how
// often it changes. With 300 sources that 50 carriers throttle without end that
// was 2.9 MB a second, of which etcd keeps five minutes, in a database of 2 GiB;
// with what follows it is 0.7 MB, and as much mail is taken (99.1 % of what was
// tried, and 99.2 % before).
const (
	// shortAbove is the size of a record from which reasons are left to the
	// decisions: of each only its rule stays.
	shortAbove = 32 << 10
	// maxRecord is below what etcd takes in a request (1.5 MiB unless configured
	// otherwise).
	maxRecord = 1 << 20
	// A change that only lets more go waits a second for each eight KiB of the record,
	// and one that lowers a rate a fourth of that; a rest, a block and a hold never.
	easedEvery   = 8 << 10
	mostPatience = 10 * time.Second
)

// withDone adds the sources whose warm-up is over: they must be told from those
// about which nothing was decided, since for these the first day counts.
func withDone(r keyspace.Steering, done []keyspace.SteeredLane) keyspace.Steering {
	for _, l := range done {
		has := slices.ContainsFunc(r.Lanes, func(x keyspace.SteeredLane) bool { return x.Source == l.Source && x.Site == "" })
		if !has && len(r.Lanes) < keyspace.MaxSteered {
			r.Lanes = append(r.Lanes, l)
		}
	}
	r.Lanes, r.Holds = r.Lanes[:min(len(r.Lanes), keyspace.MaxSteered)], r.Holds[:min(len(r.Holds), keyspace.MaxSteered)]
	return r
}

// encodeSteering is a record as it is written, nil for none, and how many lanes
// found no room in it.
func encodeSteering(r keyspace.Steering) (b []byte, cut int) {
	if len(r.Lanes)+len(r.Holds) == 0 {
		return nil, 0
	}
	if b = encodeRecord(r); len(b) <= shortAbove {
		return b, 0
	}
	r.Lanes, r.Holds = slices.Clone(r.Lanes), slices.Clone(r.Holds)
	for i := range r.Lanes {
		if c := &r.Lanes[i].Course; c.Decision != "" {
			c.Reason, _, _ = strings.Cut(c.Reason, ":")
		}
	}
	if b = encodeRecord(r); len(b) <= maxRecord {
		return b, 0
	}
	// Only names of sites can be so long that this is reached.
	all := len(r.Lanes)
	slices.SortStableFunc(r.Lanes, func(a, b keyspace.SteeredLane) int { return cmp.Compare(graveness(&b.Course), graveness(&a.Course)) })
	for len(b) > maxRecord && len(r.Lanes) > 0 {
		r.Lanes = r.Lanes[:len(r.Lanes)*9/10]
		b = encodeRecord(r)
	}
	for len(b) > maxRecord {
		for i := range r.Holds {
			r.Holds[i].Reason, _, _ = strings.Cut(r.Holds[i].Reason, ":")
		}
		r.Holds = r.Holds[:len(r.Holds)*9/10]
		b = encodeRecord(r)
	}
	return b, all - len(r.Lanes)
}

func encodeRecord(r keyspace.Steering) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode what was decided: " + err.Error())
	}
	return b
}

// graveness orders courses by what it would cost to forget them.
func graveness(c *policy.Course) int {
	switch c.State {
	case policy.StateRetired, policy.StateBlocked:
		return 3
	case policy.StateResting, policy.StateWarming:
		return 2
	case policy.StateTrial:
		return 1
	}
	return 0
}

// patience is the least time between two writes of a record, by what changes.
func patience(have, want *keyspace.Steering, bytes int) time.Duration {
	type place struct{ site, source string }
	before := make(map[place]*policy.Course, len(have.Lanes))
	for i := range have.Lanes {
		l := &have.Lanes[i]
		before[place{l.Site, l.Source}] = &l.Course
	}
	wait := min(time.Duration(bytes)*time.Second/easedEvery, mostPatience)
	if len(have.Lanes) == 0 || !slices.Equal(have.Holds, want.Holds) {
		return 0
	}
	lowered := false
	for i := range want.Lanes {
		l := &want.Lanes[i]
		old := before[place{l.Site, l.Source}]
		if old == nil {
			old = &policy.Course{}
		}
		if l.State != old.State && graveness(&l.Course) >= 2 || l.Rests.Time().After(old.Rests.Time()) {
			return 0
		}
		lowered = lowered || lowers(&l.Course, old)
	}
	if lowered {
		wait /= 4
	}
	return wait
}

// lowers reports whether a course allows less than the one before it.
func lowers(c, old *policy.Course) bool {
	perSecond := func(r *policy.Rate) float64 { return float64(r.N) / r.Per.Seconds() }
	less := func(a, b int64) bool { return a > 0 && (b == 0 || a < b) }
	return c.Rate != nil && (old.Rate == nil || perSecond(c.Rate) < perSecond(old.Rate)) ||
		less(int64(c.Connections), int64(old.Connections)) || less(c.PerDay, old.PerDay)
}
