// Package smtp is the wire grammar of SMTP (RFC 5321 and its extensions), for
// the server in node/ingest and the client in node/delivery: bytes in, values
// out, and back. It has no sockets, no time-outs, no states and no policy.
//
// For servers: command.go reads a command line, path.go the addresses of MAIL
// and RCPT, params.go their parameters, xtext.go what is encoded in them;
// content.go reads content up to the end of data. For clients: reply.go reads
// replies, client.go writes commands, client_address.go checks addresses before
// they go out, odd.go quotes what no RFC allows unquoted, client_content.go does dot-stuffing.
//
// INVARIANT: lines end in CRLF and nothing else does. A bare CR, a bare LF and
// NUL are in no value that a parser here returns, and content that has one is
// refused or repaired before anyone sees it (design.md 5.5).
//
// INVARIANT: an address keeps its wire form. A quoted local part stays quoted
// from the client's RCPT to ours, so what is inside the quotes never becomes a
// parameter. Dots may stand anywhere in an unquoted local part: such addresses
// exist in Japan (odd.go). They alone may leave in another form than they came in:
// in quotes, which RFC 5321 asks for and which add no byte that means something.
//
// INVARIANT: parsing costs no allocation and time linear in the input.
package smtp
