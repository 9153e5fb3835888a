// Package doctor looks at a sending domain as receivers do: SPF, DKIM keys,
// DMARC, the names of the sources, the MX of the return path, one-click headers,
// and from those the rules that Gmail, Yahoo and Microsoft have for bulk senders.
// It says what is wrong and which record to publish.
//
// It asks through Lookup and does nothing else: no socket, no clock, no
// goroutine. It verifies no signature: what a message file shows is which
// headers a signature covers.
//
// Read examine.go first (the order of the checks), then spf.go and macro.go (RFC
// 7208), dmarc.go (RFC 9989), dkim.go (RFC 6376), sources.go (names), message.go
// (RFC 8058), rules.go (who asks for what) and record.go (what to publish).
//
// INVARIANT: a look-up that got no answer never becomes a pass or a failure. It
// is unknown.
//
// # Bounds
//
// SPF asks at most ten look-ups of a record and two without answer (RFC 7208
// 4.6.4), DMARC eight per domain, a source ten names. A message file is read up
// to its body, at most 256 KiB.
package doctor
