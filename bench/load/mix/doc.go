// Package mix says what a benchmark sends: numbered messages whose recipients,
// sizes, tenants, streams and bytes follow from a seed and a number. So a receiver
// knows what it must get, and Check compares, without anything having been told
// or kept. It never sends, never waits and reads no clock.
//
// mix.go numbers messages and recipients and draws size, tenant and stream;
// destination.go draws the domains; corpus.go is the text that content.go cuts
// content from; template.go has the text and variables of template jobs, and
// request.go the bodies of HTTP requests. check.go and check_template.go are the
// other side.
//
// INVARIANT: what is sent for a number depends on the Mix and that number only:
// not on the connection, the time, or what was sent before. TestMixIsTheSameEveryTime
// pins the bytes.
//
// INVARIANT: content is RFC 5322 in CRLF and ASCII, with lines of at most 998
// columns; some of its lines begin with dots, or are nothing but one.
//
// A Mix is read-only once prepared, and then safe for concurrent use.
package mix
