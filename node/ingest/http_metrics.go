package ingest

import (
	"sync/atomic"
	"time"
)

// HTTPMetrics counts the HTTP server's doings since start.
type HTTPMetrics struct {
	Listen      string
	Open        int64 // connections now
	Connections uint64
	Refused     uint64 // connections turned away: limits
	Panics      uint64 // requests that met a bug of ours
	Messages    uint64 // accepted
	Recipients  uint64 // accepted
	Rejected    uint64 // recipients refused in requests
	Replayed    uint64 // answers given again for an Idempotency-Key
	Bytes       uint64 // bodies read, unpacked

	// Answers counts requests by status class: Answers[2] is 2xx. Answers[0] is
	// unused.
	Answers [6]uint64
	// Errors counts refusals. Its keys are the HTTPErrorCodes.
	Errors map[string]uint64

	// AcceptBuckets counts acceptances (from a whole body to durable) that took
	// at most AcceptBounds[i]; the last is without bound.
	AcceptBuckets [len(AcceptBounds) + 1]uint64
	AcceptSum     time.Duration
	// BodyBytesLent is the memory lent to bodies now, and its bound.
	BodyBytesLent, BodyBytesLimit int64
}

type httpCounters struct {
	open                                            atomic.Int64
	connections, refused, panics                    atomic.Uint64
	messages, recipients, rejected, replayed, bytes atomic.Uint64
	answers                                         [6]atomic.Uint64
	errors                                          [codeCount]atomic.Uint64
	accept                                          [len(AcceptBounds) + 1]atomic.Uint64
	acceptSum                                       atomic.Int64
}

func (c *httpCounters) accepted(took time.Duration) {
	i := 0
	for i < len(AcceptBounds) && took > AcceptBounds[i] {
		i++
	}
	c.accept[i].Add(1)
	c.acceptSum.Add(int64(took))
}

// Metrics is a snapshot.
func (s *HTTPServer) Metrics() HTTPMetrics {
	c := &s.counters
	m := HTTPMetrics{
		Listen: s.l.Listen, Open: c.open.Load(), Connections: c.connections.Load(), Refused: c.refused.Load(), Panics: c.panics.Load(),
		Messages: c.messages.Load(), Recipients: c.recipients.Load(), Rejected: c.rejected.Load(), Replayed: c.replayed.Load(),
		Bytes: c.bytes.Load(), AcceptSum: time.Duration(c.acceptSum.Load()),
		BodyBytesLent: s.lent.Load(), BodyBytesLimit: s.l.MaxBodyMemory,
		Errors: make(map[string]uint64, codeCount),
	}
	for i := range c.answers {
		m.Answers[i] = c.answers[i].Load()
	}
	for i, name := range HTTPErrorCodes {
		m.Errors[name] = c.errors[i].Load()
	}
	for i := range c.accept {
		m.AcceptBuckets[i] = c.accept[i].Load()
	}
	return m
}
