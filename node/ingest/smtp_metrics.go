package ingest

import (
	"sync/atomic"
	"time"
)

// SMTPMetrics counts one listener's doings since start. Snapshot copies it.
type SMTPMetrics struct {
	Listen       string
	Open         int64 // connections now
	Connections  uint64
	Refused      uint64 // connections turned away: limits, early talkers, bad PROXY headers
	TLS          uint64 // handshakes done
	TLSFailed    uint64
	AuthOK       uint64
	AuthFailed   uint64
	Messages     uint64 // accepted
	Recipients   uint64 // accepted
	Bytes        uint64 // content accepted
	ReadBytes    uint64
	WrittenBytes uint64
	Repaired     uint64 // messages whose line ends were repaired

	// Errors counts refusals by class. Its keys are the ErrorClasses.
	Errors map[string]uint64

	// AcceptBuckets counts acceptances (from end of data to durable) that took
	// at most AcceptBounds[i]; the last is without bound. AcceptSum is all
	// their time.
	AcceptBuckets [len(AcceptBounds) + 1]uint64
	AcceptSum     time.Duration
	// ContentBytesLent is the memory lent to content that is coming in, over
	// all listeners, and its bound.
	ContentBytesLent, ContentBytesLimit int64
}

// AcceptBounds are the upper bounds of SMTPMetrics.AcceptBuckets.
var AcceptBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second,
}

type errorClass uint8

const (
	errSyntax      errorClass = iota // commands and addresses that are not well formed
	errSequence                      // commands out of order
	errRelay                         // not allowed to send, or not as that sender
	errContent                       // line ends, headers, size
	errSmuggling                     // look-alikes of end of data, unframed BDAT, early talkers, other protocols
	errLimit                         // too many of something, too slow, timeouts
	errLoop                          // routing loops
	errUnavailable                   // refused by the acceptance path: disk, quota, draining
	errorClassCount
)

// ErrorClasses name the keys of SMTPMetrics.Errors.
var ErrorClasses = [errorClassCount]string{"syntax", "sequence", "relay", "content", "smuggling", "limit", "loop", "unavailable"}

type smtpCounters struct {
	open                                                         atomic.Int64
	connections, refused, tls, tlsFailed, authOK, authFailed     atomic.Uint64
	messages, recipients, bytes, readBytes, wroteBytes, repaired atomic.Uint64
	errors                                                       [errorClassCount]atomic.Uint64
	accept                                                       [len(AcceptBounds) + 1]atomic.Uint64
	acceptSum                                                    atomic.Int64
}

func (c *smtpCounters) accepted(took time.Duration) {
	i := 0
	for i < len(AcceptBounds) && took > AcceptBounds[i] {
		i++
	}
	c.accept[i].Add(1)
	c.acceptSum.Add(int64(took))
}

func (c *smtpCounters) snapshot() SMTPMetrics {
	m := SMTPMetrics{
		Open: c.open.Load(), Connections: c.connections.Load(), Refused: c.refused.Load(),
		TLS: c.tls.Load(), TLSFailed: c.tlsFailed.Load(), AuthOK: c.authOK.Load(), AuthFailed: c.authFailed.Load(),
		Messages: c.messages.Load(), Recipients: c.recipients.Load(), Bytes: c.bytes.Load(),
		ReadBytes: c.readBytes.Load(), WrittenBytes: c.wroteBytes.Load(), Repaired: c.repaired.Load(),
		AcceptSum: time.Duration(c.acceptSum.Load()),
		Errors:    make(map[string]uint64, len(ErrorClasses)),
	}
	for i, name := range ErrorClasses {
		m.Errors[name] = c.errors[i].Load()
	}
	for i := range c.accept {
		m.AcceptBuckets[i] = c.accept[i].Load()
	}
	return m
}
