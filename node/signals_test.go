package node

import (
	"fmt"
	"sync"
	"testing"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
)

func TestSignalsAreCountedOnceAndBounded(t *testing.T) {
	s := newSignals()
	const writers, names = 4, 3 * exchange.MaxSignals
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range names {
				s.add(signalKey{"gmail", "s1", fmt.Sprint("t", i)}, exchange.Signal{Delivered: 1, Refused: 2})
			}
		})
	}
	wg.Wait()
	list := s.take()
	if len(list) > exchange.MaxSignals || len(list) < exchange.MaxSignals/2 {
		t.Errorf("%d signals", len(list))
	}
	var sum exchange.Signal
	for _, n := range list {
		sum.Delivered += n.Delivered
		sum.Refused += n.Refused
	}
	if sum.Delivered != writers*names || sum.Refused != 2*writers*names {
		t.Errorf("%+v in all", sum)
	}
	if again := s.take(); len(again) != 0 {
		t.Errorf("%d were counted twice", len(again))
	}
	s.giveBack(list)
	back := uint32(0)
	for _, n := range s.take() {
		back += n.Delivered
	}
	if back != sum.Delivered {
		t.Errorf("%d came back of %d", back, sum.Delivered)
	}
}

func TestSignalsDoNotAllocate(t *testing.T) {
	s := newSignals()
	k := signalKey{"gmail", "s1", "t"}
	s.add(k, exchange.Signal{Delivered: 1})
	if n := testing.AllocsPerRun(100, func() { s.add(k, exchange.Signal{Delivered: 1}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSignals(b *testing.B) {
	s := newSignals()
	b.RunParallel(func(p *testing.PB) {
		k := signalKey{"gmail", "s1", "t"}
		for p.Next() {
			s.add(k, exchange.Signal{Delivered: 1})
		}
	})
}

// TestUnansweredTalliesAreSentAsTheyWere: the leader may have had them, so that what
// has come since must not be added to them.
func TestUnansweredTalliesAreSentAsTheyWere(t *testing.T) {
	r := receive(t, sink.Options{})
	w, rule := ruledWorld(t, r.Addr)
	count := func(n uint32) { w.replies.Count(exchange.Tally{Carrier: "c", Source: "s1", Category: "rate", N: n}) }
	serial := uint64(0)
	report := func() *exchange.Report {
		serial++
		r := &exchange.Report{Serial: serial}
		rule.node.FillReport(r)
		return r
	}
	want := func(r *exchange.Report, n uint32, tallied uint64) {
		t.Helper()
		if len(r.Tallies) != 1 || r.Tallies[0].N != n || r.Tallied != tallied {
			t.Errorf("report %d: %+v of report %d, want %d of %d", r.Serial, r.Tallies, r.Tallied, n, tallied)
		}
	}
	count(3)
	first := report()
	want(first, 3, 0)
	rule.node.Unsent(first)
	count(4)
	again := report()
	want(again, 3, 1)
	rule.node.Unsent(again)
	again = report()
	want(again, 3, 1)
	last := report()
	want(last, 4, 0)
	if r := report(); len(r.Tallies) != 0 || r.Tallied != 0 {
		t.Errorf("told again: %+v", r.Tallies)
	}
}
