// Package load is where the mail of a benchmark comes from: a deterministic mix
// of messages, and sources that hand it to a server by SMTP or by HTTP, as fast
// as it goes or at a rate. It decides what is sent and when, and notes in the
// ledger what was offered, accepted and refused. It never receives mail, never
// looks at the product's insides, and shares no code with its SMTP and HTTP.
//
// # The mix
//
// mix.go numbers messages and recipients and draws size, tenant and stream of
// each from (seed, number); destination.go the domains; corpus.go is the text
// that content.go cuts content from; template.go the text and variables of
// template jobs. check.go and check_template.go are the other side: what a
// receiver got is compared with what is computed anew.
//
// INVARIANT: what is sent for a number depends on the Mix and that number only:
// not on the connection, the time, or what was sent before.
//
// # The source
//
// options.go is what can be asked for; source.go owns the run and its
// connections; arrival.go hands out messages in order, each with the time at
// which it is due; feed.go is one connection's view of that, with what it has to
// try again. smtp_client.go, smtp_transaction.go and smtp_reply.go are a connection
// by SMTP, http_client.go, http_body.go and http_answer.go one by HTTP.
// result.go counts.
//
// A connection is one goroutine, which writes, reads the answer, and takes the
// next message; nothing is started for a message. Its states:
//
//	     next            connect             answer, next
//	idle ──────▶ dialling ──────▶ in session ─────────┐
//	 ▲  ◀─ stop ─┘   ▲ │ failure    │ │ ▲             │
//	 │               └─┘ back-off   │ └─┴─────────────┘
//	 └───────── quit, lost, full ───┘
//
// The fate of a recipient: offered, then accepted, refused, or unknown when the
// connection was lost between content and answer. Refused for now (4xx, 429,
// 5xx of HTTP) comes again, up to Attempts times. What was lost before its
// content was sent comes again too; what was lost after it only with Resend.
//
// INVARIANT: in the open loop the intended time of a message follows from its
// number. A server that stalls delays the answers, never the clock.
//
// INVARIANT: a cancelled run waits for nobody: its connections are closed.
//
// Bounded: messages, time, connections, messages in flight and further attempts
// on each, arrivals that wait (Queue: beyond it they are dropped, and counted),
// replies under way, reply lines, answers, kinds of errors and the texts kept.
package load
