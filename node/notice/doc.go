// Package notice writes the notices that go back to a message's sender: of
// failure, delay, and delivery or relay where that was asked for (RFC 3461,
// RFC 3464 in the frame of RFC 6522, and RFC 6533 where an address or the
// original is not ASCII). It is a pure function from a Notice to bytes; it
// keeps nothing, reads no clock and sends nothing.
//
// Read wanted.go for when a notice is due, notice.go for the message as a whole,
// human.go for the part that people read, status.go for the part that programs
// read, original.go for what of the original goes back.
//
// A notice goes from the null reverse-path, so nothing answers it; Wanted never
// asks for one to the null reverse-path (RFC 3461 6.1, RFC 5321 4.5.5).
//
// INVARIANT: whatever a remote server or a client wrote, a notice is a
// well-formed message: CRLF line ends, no line over 998 bytes, no control bytes
// but those within the original given back, and only the header fields and
// parts written here.
package notice
