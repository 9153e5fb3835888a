// Package load is where the mail of a benchmark comes from: sources that hand
// the messages of a mix (package mix) to a server by SMTP or by HTTP, as fast
// as it goes or at a rate. It decides when something is sent, and notes in the
// ledger what was offered, accepted and refused. It never receives mail, never
// looks at the product's insides, and shares no code with its SMTP and HTTP.
//
// options.go is what can be asked for; source.go owns the run and its
// connections; arrival.go hands out messages in order, each with the time at
// which it is due; feed.go is one connection's view of that, with what it has to
// try again. smtp_client.go, smtp_transaction.go and smtp_reply.go are a connection
// by SMTP, http_client.go and http_answer.go one by HTTP.
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
