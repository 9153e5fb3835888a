// Package sink is the receiving SMTP server of the load suite: simulated
// carriers, tests and the demo stand on it, and it must never be the part that
// is measured. One message of 4 KiB costs it one read, one write and no
// allocation.
//
// It shares no code with the product, so that what it counts proves something:
// its own reader, its own grammar, its own dot-unstuffing, its own strict idea
// of the end of data. It is strict about what the product must not send
// (commands not ended by CRLF, parameters of extensions that were not offered,
// addresses that are not paths) and keeps nothing: each message is handed to
// the Session and forgotten.
//
// A Sink owns its listener and one goroutine a connection. All calls to a
// Session come from that goroutine, in the order of the dialog.
//
// INVARIANT: data ends at CRLF "." CRLF (or "." CRLF as its first line) and
// nowhere else; a BDAT chunk ends where its size says.
//
// INVARIANT: replies are written before the connection blocks: before each
// read, each Delay, and each end (RFC 2920 3.2).
//
// INVARIANT: what a connection can make the sink keep is bounded by Options:
// one line, one list of recipients, one message.
//
// Read session.go first: what a user of this package sees. Then sink.go
// (listening, bounds, counters), dialog.go (commands), content.go (DATA and
// BDAT), scan.go (the end of data), wire.go (buffers, deadlines, ways to end),
// and grammar.go.
package sink
