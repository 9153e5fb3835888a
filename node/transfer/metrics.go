package transfer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// flow counts deliveries and bytes.
type flow struct{ parcels, deliveries, bytes atomic.Uint64 }

func (f *flow) add(deliveries, bytes int) {
	f.parcels.Add(1)
	f.deliveries.Add(uint64(deliveries))
	f.bytes.Add(uint64(bytes))
}

type counters struct {
	offered, sent, returned, received flow
	refused, reclaimed                atomic.Uint64
}

// Metrics is a snapshot for the metrics page. All but the gauges only rise.
type Metrics struct {
	Offered, Sent, Returned, Received uint64 // deliveries
	SentBytes, ReceivedBytes          uint64 // of parcels
	Refused                           uint64 // requests of other nodes
	Reclaimed                         uint64 // deliveries, by an operator

	Open         int           // transfers not resolved
	Moving       int           // deliveries in them
	OldestOpen   time.Duration // how long the oldest has been open
	Stuck        int           // of Open, those that need an operator
	Receiving    int64         // bytes of parcels in memory; MaxReceiving is full
	MaxReceiving int64
}

// Metrics takes a snapshot.
func (t *Transfer) Metrics() Metrics {
	c := &t.count
	m := Metrics{
		Offered: c.offered.deliveries.Load(), Sent: c.sent.deliveries.Load(), Returned: c.returned.deliveries.Load(), Received: c.received.deliveries.Load(),
		SentBytes: c.offered.bytes.Load(), ReceivedBytes: c.received.bytes.Load(), Refused: c.refused.Load(), Reclaimed: c.reclaimed.Load(),
		Receiving: t.received.used(), MaxReceiving: t.o.MaxReceiving,
	}
	for i, o := range t.Open() {
		if i == 0 {
			m.OldestOpen = max(0, t.o.Now().Sub(o.Created))
		}
		m.Open++
		m.Moving += o.Deliveries
		if o.Stuck {
			m.Stuck++
		}
	}
	return m
}

// pace bounds what is sent a second.
type pace struct {
	perSecond int64
	mu        struct {
		sync.Mutex
		next time.Time // when the next parcel may go
	}
}

// wait returns when a parcel of n bytes may go.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.perSecond <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	p.mu.Lock()
	if p.mu.next.Before(now) {
		p.mu.next = now
	}
	d := p.mu.next.Sub(now)
	p.mu.next = p.mu.next.Add(time.Duration(int64(n) * int64(time.Second) / p.perSecond))
	p.mu.Unlock()
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
