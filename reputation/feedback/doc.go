// Package feedback reads what comes back by mail after a message has left:
// bounces (RFC 3464 and the many forms that are older or looser), complaints
// (RFC 5965), automatic replies, and requests to unsubscribe. It also makes and
// opens the tokens by which such mail is tied to one message and one recipient.
//
// It is pure: no clock, no I/O, no state but keys. Nobody vouches for what it
// reads: whoever knows an address of ours can write there. So there are two
// steps which must not be mixed up:
//
//	Parse(raw) ──▶ Report      what the mail says. Anybody can say anything.
//	Keys.Open  ──▶ Token       what we know: it was issued by us for this delivery,
//	                           tenant and recipient, and not long ago.
//
// Only the second is believed. The report says of what kind the news is, for an
// address that the token proves (Keys.IsRecipient); addresses in a report that
// no token proves change nothing. Package node/feedback joins the two.
//
// # Reading
//
// parse.go is the order of the questions, and says for each answer why
// (Report.Why). header.go and part.go are a small MIME reader with hard bounds:
// bytes, parts, depth, header fields, recipients. Each byte is looked at a bounded
// number of times, whatever the nesting. dsn.go reads delivery-status fields,
// text.go and address.go bounces that are prose, words.go and words_ja.go have the
// phrases by which those are known, reply.go makes a message.Reply of a diagnostic,
// so that package reputation can classify it as if it had been said to us. arf.go
// reads complaints, auto.go knows automatic replies, returned.go looks for traces
// of ours in the message that was returned.
//
// INVARIANT: Parse always returns a report, never panics and never returns more
// than the bounds of limits.go, whatever it is given.
//
// # Tokens
//
// token.go has the short ones: return paths, trace header, local part of
// unsubscribe addresses. At most 64 octets, of letters, digits and one hyphen,
// in either case (RFC 5321 4.5.3.1.1; hosts do change the case). They carry a
// keyed hash of the recipient, not the recipient. sealed.go has the long ones
// for links, which carry the recipient itself, encrypted, so that the endpoint
// needs no database. headers.go makes the header fields.
//
// INVARIANT: a token opens only whole, with the purpose for which it was made
// and within its span; a token for one recipient proves nothing about another.
package feedback
