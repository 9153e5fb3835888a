package replies

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"hikyaku/controlplane/exchange"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// Judge says what a reply means: *reputation.Rules.
type Judge interface {
	Classify(carrier string, r *message.Reply) reputation.Verdict
}

const (
	parts = 16
	// The bounds of one part: how many tallies there may be that say everything,
	// how many with those that leave out job, domain and stream, how many with
	// those that leave out site and tenant as well, and how many in all. A report
	// is never over exchange.MaxTallies.
	maxWhole  = 600
	maxBroad  = 900
	maxSource = 1150
	maxPart   = exchange.MaxTallies / parts
)

// Book is safe for concurrent use.
type Book struct {
	rules    atomic.Pointer[Judge]
	seed     maphash.Seed
	parts    [parts]part
	samples  samples
	lanes    lanes
	wordings wordings
}

type part struct {
	mu struct {
		sync.Mutex
		counts map[exchange.Tally]uint32 // keys have N 0
	}
	_ [40]byte // a cache line for each
}

// New is an empty book. Rules must be set before Judge is called.
func New(rules Judge) *Book {
	b := &Book{seed: maphash.MakeSeed()}
	for i := range b.parts {
		b.parts[i].mu.counts = map[exchange.Tally]uint32{}
	}
	b.samples.init()
	b.lanes.init()
	b.wordings.init()
	b.SetRules(rules)
	return b
}

// SetRules puts other rules in force.
func (b *Book) SetRules(rules Judge) { b.rules.Store(&rules) }

// Judge says what a reply means. What we said ourselves is no carrier's word.
func (b *Book) Judge(carrier string, r *message.Reply) reputation.Verdict {
	if r.Fault == message.FaultLocal || r.Phase == message.PhasePolicy {
		return reputation.Verdict{Category: reputation.Local, Final: r.Class() == message.Permanent}
	}
	return (*b.rules.Load()).Classify(carrier, r)
}

// Count adds t.N to what was counted of all its other fields.
func (b *Book) Count(t exchange.Tally) {
	n := t.N
	t.N = 0
	// What has to be said shorter stays in its part, so that it is said once.
	p := &b.parts[maphash.Comparable(b.seed, [...]string{t.Carrier, t.Source, t.Category})%parts]
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.mu.counts[t]; !known && len(p.mu.counts) >= maxWhole {
		t = shorter(p.mu.counts, t)
	}
	p.mu.counts[t] += n
}

// shorter leaves out of t what it takes to find room: jobs and domains are the
// most by far, sites next.
func shorter(counts map[exchange.Tally]uint32, t exchange.Tally) exchange.Tally {
	t.Job, t.Domain, t.Stream = "", "", ""
	if _, known := counts[t]; known || len(counts) < maxBroad {
		return t
	}
	t.Site, t.Tenant = "", ""
	if _, known := counts[t]; known || len(counts) < maxSource {
		return t
	}
	return exchange.Tally{Category: t.Category} // there are few categories
}

// Take returns what was counted since the last call, and begins anew.
func (b *Book) Take() ([]exchange.Tally, []exchange.Sample) {
	var all []exchange.Tally
	for i := range b.parts {
		p := &b.parts[i]
		p.mu.Lock()
		counts := p.mu.counts
		if len(counts) == 0 { // it stays, and others may add to it from now on
			p.mu.Unlock()
			continue
		}
		p.mu.counts = make(map[exchange.Tally]uint32, min(len(counts), maxPart))
		p.mu.Unlock()
		for t, n := range counts {
			t.N = n
			all = append(all, t)
		}
	}
	if len(all) > exchange.MaxTallies { // not reached: the bounds of the parts are below it
		all = all[:exchange.MaxTallies]
	}
	return all, b.samples.take()
}
