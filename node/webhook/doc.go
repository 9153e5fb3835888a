// Package webhook posts events to the URLs that policy names (policy.Webhook):
// batches of JSON, signed, tried again for a day, at least once. It reads the
// event log, once for all webhooks; each has a goroutine and a place of its own,
// so a slow endpoint slows neither mail nor the other webhooks, and what waits
// lies on disk, not in memory.
//
// It never posts to a private, loopback, link-local or metadata address unless
// the webhook allows the network; it follows no redirect, uses no proxy, and
// puts neither a secret nor a URL's path into a log.
//
// # The way of an event
//
// shelf.go reads the log for all; page.go is a block of it with an index, filter.go
// what a webhook wants; runner.go collects a batch (batch.go: where its events
// are), puts the body together, and tries it until the endpoint takes it, or it
// is given up (outcome.go); the place moves after that. lanes.go bounds what is
// under way. hooks.go follows policy: which runners there are; book.go is what is
// kept on disk. guard.go is what may be connected to, send.go the request,
// sign.go the signature, breaker.go when to try again.
//
// # What a receiver can rely on
//
// An event has an id (event_id) that is the same each time it is posted: the
// spool it comes from, the number of its block in the log, its line in there. So
// has a batch with the same events. A receiver that drops ids it has seen gets
// each event once. Events of one node come in their order; each node posts its
// own.
//
//	Hikyaku-Signature: t=<Unix seconds>,v1=<hex HMAC-SHA256(secret, t + "." + body)>
//
// # What an answer means
//
//	2xx                  taken
//	413                  the first half of the batch again
//	410                  the webhook is off until its resource changes; what
//	                     happens meanwhile is not posted
//	429, 503             again after Retry-After, at most an hour
//	everything else      again after 1 s, doubling to 5 min, 20 % random
//
// Five failures in a row open the breaker of the URL: from then on one request
// at a time asks whether it is back, for all webhooks with that URL. A batch is
// given up when its newest event, and the run of failures, are both older than
// GiveUpAfter.
//
// INVARIANT: a place never passes an event that was neither posted nor given up,
// unless the log has lost it, and the log is never let go beyond the first place.
// Given up, lost and unreadable are counted, logged and shown.
// INVARIANT: a body is in memory only while its request is under way.
// INVARIANT: every address of a name is judged before one is connected to, and
// the address connected to is judged again by the dialer, so a name that changes
// its answer in between gains nothing.
// INVARIANT: a connection is never used by two webhooks: one may be allowed what
// the other is not.
package webhook
