package blocklist

import (
	"cmp"
	"container/heap"
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
	due  map[Pair]time.Time
	heap dueHeap // the same, the first due on top
}

// dueHeap is container/heap's.
type dueHeap []dueAt

type dueAt struct {
	pair Pair
	at   time.Time
}

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	return cmp.Or(a.at.Compare(b.at), a.pair.Addr.Compare(b.pair.Addr), cmp.Compare(a.pair.Zone, b.pair.Zone)) < 0
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueAt)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// Set makes these the pairs of the plan. Those that it has keep their time; new
// ones begin spread over Every, each at its own moment, which is the same after
// a restart. Probes begin at once.
func (p *Plan) Set(pairs []Pair, now time.Time) {
	next := make(map[Pair]time.Time, len(pairs))
	p.heap = p.heap[:0]
	for _, x := range pairs[:min(len(pairs), MaxPairs)] {
		at, ok := p.due[x]
		switch {
		case ok:
		case isProbe(x.Addr):
			at = now // before anything that it says is believed
		default:
			at = now.Add(spread(x))
		}
		if _, twice := next[x]; !twice {
			next[x] = at
			p.heap = append(p.heap, dueAt{x, at})
		}
	}
	p.due = next
	heap.Init(&p.heap)
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
	if len(p.heap) == 0 {
		return Pair{}, time.Time{}, false
	}
	return p.heap[0].pair, p.heap[0].at, true
}

// Asked notes that the pair that Next gave was asked.
func (p *Plan) Asked(now time.Time) {
	if len(p.heap) == 0 {
		return
	}
	p.heap[0].at = now.Add(Every)
	p.due[p.heap[0].pair] = p.heap[0].at
	heap.Fix(&p.heap, 0)
}

// The addresses by which a list shows that it is one (RFC 5782 5).
var (
	neverListed  = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	alwaysListed = netip.AddrFrom4([4]byte{127, 0, 0, 2})
)

func isProbe(a netip.Addr) bool { return a == neverListed || a == alwaysListed }

// probes are the questions that test each zone.
func probes(zones []string) []Pair {
	out := make([]Pair, 0, 2*len(zones))
	for _, z := range zones {
		out = append(out, Pair{neverListed, z}, Pair{alwaysListed, z})
	}
	return out
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
