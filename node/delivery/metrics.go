package delivery

import (
	"sync/atomic"

	"hikyaku/spool/message"
)

// Faults is how many kinds of message.Fault there are.
const Faults = int(message.FaultLocal) + 1

type counters struct {
	sessions      atomic.Int64 // open now
	opened        atomic.Uint64
	connectFailed [Faults]atomic.Uint64
	broken        [Faults]atomic.Uint64
	tls           atomic.Uint64
	tlsFallback   atomic.Uint64
	transactions  atomic.Uint64
	pipelined     atomic.Uint64
	chunked       atomic.Uint64
	reused        atomic.Uint64
	resets        atomic.Uint64
	delivered     atomic.Uint64
	deferred      atomic.Uint64
	bounced       atomic.Uint64
	notAttempted  atomic.Uint64
	ambiguous     atomic.Uint64
	bytesOut      atomic.Uint64
	bytesIn       atomic.Uint64
}

// Metrics is one reading of a Client's counters. All count up but Connections
// and the two memories' sizes.
type Metrics struct {
	Connections   int64          // open now, greeting included
	Opened        uint64         // TCP connections made
	ConnectFailed [Faults]uint64 // hosts that did not get as far as a transaction, by fault
	Broken        [Faults]uint64 // connections lost later, by fault
	TLS           uint64         // handshakes done
	TLSFallback   uint64         // connections made again in plain after broken TLS
	Transactions  uint64
	Pipelined     uint64 // transactions begun behind another's content
	Chunked       uint64 // transactions by BDAT
	Reused        uint64 // transactions on a connection that had carried one
	Resets        uint64 // RSET sent
	Delivered     uint64 // recipients
	Deferred      uint64 // recipients
	Bounced       uint64 // recipients
	NotAttempted  uint64 // recipients given back
	Ambiguous     uint64 // results whose dot got no answer
	BytesOut      uint64
	BytesIn       uint64

	DeadHosts, BrokenTLS         int    // remembered now
	DeadHostsFull, BrokenTLSFull uint64 // how often one was forgotten to make room
}

// Metrics reads the counters.
func (c *Client) Metrics() Metrics {
	n := &c.count
	m := Metrics{
		Connections: n.sessions.Load(), Opened: n.opened.Load(),
		TLS: n.tls.Load(), TLSFallback: n.tlsFallback.Load(),
		Transactions: n.transactions.Load(), Pipelined: n.pipelined.Load(),
		Chunked: n.chunked.Load(), Reused: n.reused.Load(), Resets: n.resets.Load(),
		Delivered: n.delivered.Load(), Deferred: n.deferred.Load(), Bounced: n.bounced.Load(),
		NotAttempted: n.notAttempted.Load(), Ambiguous: n.ambiguous.Load(),
		BytesOut: n.bytesOut.Load(), BytesIn: n.bytesIn.Load(),
	}
	for i := range Faults {
		m.ConnectFailed[i] = n.connectFailed[i].Load()
		m.Broken[i] = n.broken[i].Load()
	}
	m.DeadHosts, m.DeadHostsFull = c.dead.stats()
	m.BrokenTLS, m.BrokenTLSFull = c.brokenTLS.stats()
	return m
}

func (n *counters) result(r *Result) {
	var delivered, deferred, bounced uint64
	for i := range r.Replies {
		switch r.Replies[i].Reply.Class() {
		case message.Success:
			delivered++
		case message.Permanent:
			bounced++
		default:
			deferred++
		}
	}
	add(&n.delivered, delivered)
	add(&n.deferred, deferred)
	add(&n.bounced, bounced)
	// What concerns the content concerns also those that were not offered.
	add(&n.notAttempted, uint64(max(0, len(r.Job.offered())-len(r.Replies))))
	if r.AmbiguousDot {
		n.ambiguous.Add(1)
	}
}

func add(c *atomic.Uint64, n uint64) {
	if n > 0 {
		c.Add(n)
	}
}
