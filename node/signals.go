package node

import (
	"hash/maphash"
	"sync"

	"hikyaku/controlplane/exchange"
)

// signals counts what carriers say, by carrier, source and tenant, between two
// reports to the leader. Sessions finish thousands of deliveries a second on
// all processors, so the map is in parts with a lock each.
type signals struct {
	seed  maphash.Seed
	parts [signalParts]signalPart
}

type signalPart struct {
	mu struct {
		sync.Mutex
		counts map[signalKey]*exchange.Signal
	}
	_ [40]byte // a cache line for each
}

type signalKey struct{ carrier, source, tenant string }

const (
	signalParts = 16
	// maxSignals bounds one part; with those that gather the rest a report is
	// never over exchange.MaxSignals.
	maxSignals = exchange.MaxSignals/signalParts - 1
	// otherSignals is the name for what finds no room of its own.
	otherSignals = "other"
)

func newSignals() *signals {
	s := &signals{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].mu.counts = map[signalKey]*exchange.Signal{}
	}
	return s
}

// add adds the counts of n.
func (s *signals) add(k signalKey, n exchange.Signal) {
	p := &s.parts[maphash.Comparable(s.seed, k)%signalParts]
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.mu.counts[k]
	if c == nil {
		if len(p.mu.counts) >= maxSignals {
			k = signalKey{otherSignals, otherSignals, otherSignals}
			c = p.mu.counts[k]
		}
		if c == nil {
			c = &exchange.Signal{Carrier: k.carrier, Source: k.source, Tenant: k.tenant}
			p.mu.counts[k] = c
		}
	}
	c.Delivered += n.Delivered
	c.Deferred += n.Deferred
	c.Bounced += n.Bounced
	c.Connected += n.Connected
	c.Refused += n.Refused
}

// take returns what was counted and begins anew.
func (s *signals) take() []exchange.Signal {
	if s == nil {
		return nil
	}
	var all []exchange.Signal
	for i := range s.parts {
		p := &s.parts[i]
		p.mu.Lock()
		counts := p.mu.counts
		if len(counts) == 0 { // it stays, and others may add to it from now on
			p.mu.Unlock()
			continue
		}
		p.mu.counts = make(map[signalKey]*exchange.Signal, len(counts))
		p.mu.Unlock()
		for _, c := range counts {
			all = append(all, *c)
		}
	}
	return all
}

// giveBack adds what was taken and did not arrive.
func (s *signals) giveBack(list []exchange.Signal) {
	for i := range list {
		n := &list[i]
		s.add(signalKey{n.Carrier, n.Source, n.Tenant}, *n)
	}
}
