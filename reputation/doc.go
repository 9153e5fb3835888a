// Package reputation says what a remote server's reply means, and what follows
// from it. It is pure: no clock, no I/O, no lock.
//
// The same words mean different things at different carriers and in different
// steps of a transaction; some 5xx replies say "too fast" and some 4xx replies
// say "never". Rules (one YAML file a carrier, in rules/) decide by carrier,
// phase, code, enhanced code, text and what happened on the TCP level; the first
// that matches counts, the carrier's own before the general ones, an operator's
// (policy.ReplyRule) before both. Each rule is held against a corpus of real
// replies (corpus/): one that matches nothing there, or nothing that an earlier
// one has not taken, is refused.
//
//	message.Reply ──▶ Rules.Classify ──▶ Verdict: Category, About, Action
//
// What is done with verdicts over time, for the whole cluster, is package
// reputation/steer's; what comes back by mail is read by reputation/feedback.
package reputation
