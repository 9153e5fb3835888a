package apitest

import (
	"context"
	"fmt"
	"time"

	"hikyaku/node/api"
)

// Overview implements api.Node.
func (n *Node) Overview(ctx context.Context) (*api.Overview, error) {
	l, err := n.Queues(ctx, api.QueueFilter{Limit: 20})
	if err != nil {
		return nil, err
	}
	lanes, err := n.Lanes(ctx, api.ListFilter{})
	return &api.Overview{
		Node: "tokyo-1", Version: "test", Time: Epoch, Started: Epoch.Add(-26 * time.Hour), NotReady: n.Reasons,
		Rates:       api.Rates{Accepted: 4100.5, Delivered: 3900, Deferred: 12, Bounced: 3, Attempts: 3915},
		Queue:       api.QueueTotals{Queued: 120020, Ready: 900, InFlight: 4, Held: 17, Destinations: 3, Counted: true, Silent: 4 * time.Second},
		Connections: api.Connections{In: 20, Out: 4, OutIdle: 1},
		Latency:     []api.Latency{{Name: "accept", P50: 2 * time.Millisecond, P90: 4 * time.Millisecond, P99: 9 * time.Millisecond, Max: 40 * time.Millisecond}},
		Top:         l.Queues, Lanes: lanes,
		Gates:  []api.Gate{{Name: "space"}, {Name: "spool"}},
		Errors: []api.ErrorCount{{Carrier: "docomo", Phase: "rcpt", Reply: "421 4.7.1 try again later", Count: 44}},
		Memory: api.MemoryUse{Heap: 120 << 20, Resident: 300 << 20, Goroutines: 88},
	}, err
}

// Metrics implements api.Node. It has more tenants than a label may have.
func (n *Node) Metrics() *api.Metrics {
	m := &api.Metrics{Node: "tokyo-1", Version: "test", Started: Epoch, Ready: len(n.Reasons) == 0, Policy: 7, SilentNS: 4e9}
	m.Ingest.Messages = map[string]uint64{}
	for i := range 1000 {
		m.Ingest.Messages[fmt.Sprintf("tenant%d", i)] = uint64(i)
	}
	m.Ingest.Accept = api.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{5, 3, 1}, Sum: 0.5}
	m.Spool.Queued, m.Spool.Counted = 120020, true
	m.Spool.QueuedCarrier = map[string]int64{"docomo": 120000, "default": 20, "other": 5}
	m.Spool.Gates = map[string]bool{"space": false, "spool": true}
	m.Scheduler.Waiting = map[string]int64{"carrier.per_source.rate": 1}
	m.Delivery.Delivered = map[string]uint64{"docomo": 79000}
	m.Delivery.Replies = map[api.ReplyKey]uint64{{Phase: "rcpt", Class: "4"}: 44}
	m.Delivery.Verdicts = map[api.VerdictKey]uint64{{Carrier: "docomo", Category: "rate"}: 1e6, {Carrier: "other", Category: "rate"}: 2}
	for i := range 999 { // more than are printed
		m.Delivery.Verdicts[api.VerdictKey{Carrier: fmt.Sprintf("c%d", i), Category: "unclassified"}] = uint64(i)
	}
	m.Delivery.Stages = map[string]api.Histogram{"data": {Bounds: []float64{0.1}, Counts: []uint64{1, 2}, Sum: 3}}
	m.Events.Consumers = map[string]uint64{"webhook": 12}
	return m
}
