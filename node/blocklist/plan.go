package blocklist

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"
)

// Every is how often a zone is asked about an address.
const Every = 15 * time.Minute

// MaxPairs bounds what is asked about: sources times zones.
const MaxPairs = 5000

// Pair is one question that is put again and again.
type Pair struct {
	Addr netip.Addr
	Zone string
}

// Plan says which pair is due next. It holds no clock: time is an argument.
type Plan struct {
	due map[Pair]time.Time
}

// Set makes these the pairs of the plan. Those that it has keep their time; new
// ones begin spread over Every, each at its own moment, which is the same after
// a restart.
func (p *Plan) Set(pairs []Pair, now time.Time) {
	next := make(map[Pair]time.Time, len(pairs))
	for _, x := range pairs[:min(len(pairs), MaxPairs)] {
		if at, ok := p.due[x]; ok {
			next[x] = at
			continue
		}
		next[x] = now.Add(spread(x))
	}
	p.due = next
}

// spread is a pair's place in the interval.
func spread(x Pair) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(x.Zone))
	h.Write(x.Addr.AsSlice())
	return time.Duration(h.Sum64() % uint64(Every))
}

// Next is the pair that is due first, and when; ok is false where there is none.
func (p *Plan) Next() (x Pair, at time.Time, ok bool) {
	for y, t := range p.due {
		if !ok || cmp.Or(t.Compare(at), y.Addr.Compare(x.Addr), cmp.Compare(y.Zone, x.Zone)) < 0 {
			x, at, ok = y, t, true
		}
	}
	return x, at, ok
}

// Asked notes that a pair was asked.
func (p *Plan) Asked(x Pair, now time.Time) {
	if _, ok := p.due[x]; ok {
		p.due[x] = now.Add(Every)
	}
}

// pairs are all addresses at all zones, in order.
func pairs(addrs []netip.Addr, zones []string) []Pair {
	out := make([]Pair, 0, len(addrs)*len(zones))
	for _, a := range addrs {
		for _, z := range zones {
			out = append(out, Pair{a, z})
		}
	}
	slices.SortFunc(out, func(x, y Pair) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Zone, y.Zone)) })
	return slices.Compact(out)
}
