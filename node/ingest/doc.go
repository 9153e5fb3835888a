// Package ingest is where mail comes in: an SMTP server and HTTP injection,
// which meet in one acceptance path. It judges what is said to it, builds a
// Submission, and hands it to the Acceptor; only when that says that the
// submission is durable, the client is told so. It never delivers, never
// retries, and keeps nothing but connections.
//
// Read accept.go first: the contract with the rest of the node.
//
// # SMTP
//
// smtp_config.go has the settings, smtp_server.go the listeners and limits,
// smtp_session.go one connection; then a file for each verb. The grammar is in
// node/smtp. smtp_wire.go is lines and replies, smtp_content.go the content on
// its way in, smtp_header.go what a look at its header section finds,
// smtp_promise.go how several messages of one read wait for the disk together.
//
// The states of a session (phase in smtp_session.go):
//
//	           EHLO, HELO               MAIL              RCPT
//	 start ───────────────▶ ready ───────────▶ mail ───────────▶ rcpt ◀─┐
//	   ▲                    ▲ ▲ ▲               │                 │ │ └──┘ RCPT
//	   │                    │ │ └─ RSET, EHLO ──┘                 │ │
//	   │ STARTTLS,          │ └─── RSET, EHLO, DATA (any end) ────┘ │ BDAT
//	   │ XCLIENT            │                                       ▼
//	every state             └── RSET, EHLO, BDAT LAST, ────────── chunk ◀─┐
//	                            any refused BDAT                     └────┘ BDAT
//
// A refused MAIL or RCPT changes nothing. A refused BDAT, in whatever state,
// leads to ready (or stays at start). AUTH is taken in ready only.
//
// INVARIANT: 250 after the end of data, or after BDAT LAST, is said only when
// Acceptor.Accept has returned nil (design.md 5.1).
//
// INVARIANT: one message in is one message or a refusal, never two (design.md
// 5.5). Content ends at CRLF.CRLF, or where BDAT's sizes end, and nowhere else.
// Where another parser could see an end that we do not, or commands where we
// see content, the connection ends: a look-alike of the end of data, a BDAT
// that cannot be measured, input behind DATA before its reply, a command line
// that ends in a bare LF, input before the banner or before the first reply to
// EHLO. Such input is not skipped and not interpreted.
//
// INVARIANT: no text of the client is in a reply.
//
// What a client can grow is bounded: command lines (16 KiB), input (16 KiB, once
// 64), recipients, refused recipients, chunks, content (per message and over all
// connections), errors, failed logins, messages, connections in all and for
// each address, and the time of each phase. Replies gather up to 8 KiB before
// they are sent however much is pipelined.
//
// # HTTP
//
// http_backend.go is what the node gives: acceptor, authenticator, queue, stored
// answers, template compiler. Then in the order of a request: http_server.go
// (listener, limits, framing that two parsers could read differently),
// http_route.go (operation and tenant), http_body.go (reading and unpacking
// within bounds), http_turns.go (large requests one after another), http_json.go
// and http_request.go (strict JSON to fields, errors with paths), http_submit.go
// (fields to a Submission, recipient by recipient), http_raw.go (whole messages),
// http_idempotency.go, http_status.go (messages and jobs). http_openapi.go makes
// the document and the page for people from the same types.
//
// INVARIANT: 202 is said only when Acceptor.Accept has returned nil, and then
// every recipient of the request is either in messages, and stored, or in
// rejected. Any other answer means that nothing was stored, but for 503 with
// "may or may not have been accepted".
//
// INVARIANT: requests with one Idempotency-Key go one after another, and the
// answer that all of them get was stored in the same batch as the message.
//
// Who may not send is refused before the body is read. Bodies, the memory lent
// to all bodies, JSON depth, recipients, connections in all and for each address,
// bad keys, and the time of each phase are bounded. No body and no key is logged.
package ingest
