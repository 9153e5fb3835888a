package scenario

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/load"
	"hikyaku/bench/measure"
)

// flow is one source with recipients of its own: its mix, its ledger, its
// latencies. The first letter of a local part says whose a recipient is.
type flow struct {
	name string
	load load.Options

	prefix   byte
	ledger   *ledger.Ledger
	delivery *measure.Recorder // from the intended time, or from acceptance in a closed loop, to receipt
	done     bool              // it has been sent before the trial's own sending
	stuck    bool              // its mail is meant to stay queued
	keep     bool              // keep each latency of an open loop, see during
	kept     []atomic.Int64
	fault    string
	faulty   int // the recipient that a fault strikes

	source   atomic.Pointer[load.Source] // nil until it is aimed
	result   *load.Result
	start    atomic.Int64  // when it began, since the trial's start; receivers read it
	ended    time.Duration // last answer
	sentIn   int64         // recipients that were received by then
	received atomic.Int64  // recipients, first receipts
	firstIn  atomic.Int64  // time of the first receipt, since the trial's start
	lastIn   atomic.Int64  // and of the last
}

// prepare gives the flow its letter and its ledger.
func (f *flow) prepare(i int, seed uint64) error {
	f.prefix = byte('a' + i)
	m := f.load.Mix
	m.Prefix = string(f.prefix)
	m.Seed = seed + uint64(i)
	if err := m.Prepare(); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	f.ledger = ledger.New(m.Recipients)
	f.delivery = measure.NewRecorder()
	if f.keep {
		f.kept = make([]atomic.Int64, m.Recipients)
	}
	f.faulty = (m.Recipients / 2) / sampleEvery * sampleEvery
	return nil
}

// flowOf is whose a recipient is, nil if no flow's.
func (t *trial) flowOf(address string) (*flow, int) {
	if len(address) < 2 {
		return nil, 0
	}
	i := int(address[0]) - 'a'
	if i < 0 || i >= len(t.flows) || address[1] < '0' || address[1] > '9' {
		return nil, 0
	}
	n, ok := ledger.Number(address)
	if !ok {
		return nil, 0
	}
	return t.flows[i], n
}

// take notes one receipt.
func (f *flow) take(n int, at time.Duration) {
	first, since, ok := f.ledger.Received(n, at)
	if !first {
		return
	}
	f.received.Add(1)
	f.firstIn.CompareAndSwap(0, int64(at))
	for {
		last := f.lastIn.Load()
		if int64(at) <= last || f.lastIn.CompareAndSwap(last, int64(at)) {
			break
		}
	}
	switch intended, open := f.intended(n); {
	case open:
		f.delivery.Record(at - intended)
		if f.keep {
			f.kept[n].Store(int64(at - intended))
		}
	case ok:
		f.delivery.Record(since)
	default: // received before the source had read its answer
		f.delivery.Record(0)
	}
}

// began is when the flow began, since the trial's start.
func (f *flow) began() time.Duration { return time.Duration(f.start.Load()) }

// intended is when the message of a recipient was due in an open loop.
func (f *flow) intended(n int) (at time.Duration, open bool) {
	if f.load.Rate <= 0 {
		return 0, false
	}
	// As load.cursor computes it: evenly, from the number alone.
	i := float64(f.load.Mix.MessageOf(n))
	return f.began() + time.Duration(i/f.load.Rate*float64(time.Second)), true
}

// check compares a received message with what was sent.
func (f *flow) check(n int, data []byte) {
	if err := f.load.Mix.Check(n, data); err != nil {
		f.ledger.Altered(n)
	}
}

// send runs the source to its end.
func (f *flow) send(ctx context.Context, t *trial) (err error) {
	f.start.Store(int64(time.Since(t.start)))
	f.result, err = f.source.Load().Run(ctx)
	f.ended = time.Since(t.start)
	f.sentIn = f.received.Load()
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}
