package mix

import (
	"encoding/hex"
	"hash/crc32"
)

// castagnoli is the checksum of the digest line: the machine has an instruction
// for it, so 100 KB cost a few microseconds. It finds accidents; what proves
// identity is Check, which compares all bytes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const digestField = "X-Load-Digest: "

// AppendContent appends the content of message i: RFC 5322, CRLF, ASCII, lines
// of at most 998 columns. It is the same bytes every time. Control headers for
// the product, which do not arrive, are not in it (AppendControl).
func (m *Mix) AppendContent(dst []byte, i int) []byte {
	msg := m.Message(i)
	return m.AppendContentOf(dst, &msg)
}

// AppendContentOf is AppendContent for who has the message already.
func (m *Mix) AppendContentOf(dst []byte, msg *Message) []byte {
	from := len(dst)
	dst = append(append(dst, "Date: "...), m.date...)
	dst = append(append(dst, "\r\nFrom: Load Test <"...), msg.Sender...)
	if msg.Count == 1 {
		dst = append(m.AppendRecipient(append(dst, ">\r\nTo: <"...), msg.First), '>')
	} else { // RFC 5322 A.1.3
		dst = append(dst, ">\r\nTo: undisclosed-recipients:;"...)
	}
	dst = appendInt(append(dst, "\r\nSubject: load test, message "...), msg.Index)
	dst = appendInt(append(dst, "\r\nMessage-ID: <"...), msg.Index)
	dst = appendHex(append(dst, '.'), m.Seed)
	dst = append(append(dst, '@'), domainOf(msg.Sender)...)
	dst = appendInt(append(dst, ">\r\nMIME-Version: 1.0\r\nX-Load-Message: "...), msg.Index)
	dst = append(dst, "\r\n"+digestField...)
	digest := len(dst)
	dst = append(dst, "00000000\r\n"...)
	h := m.hash(saltContent, msg.Index)
	var body int
	if msg.Kind == Multipart {
		dst, body = m.corpus.appendMultipart(dst, h, msg.Size-(len(dst)-from))
	} else {
		dst = append(dst, "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"...)
		body = len(dst)
		dst = m.corpus.appendText(dst, h, max(msg.Size-(body-from), 2))
	}
	sum := crc32.Checksum(dst[body:], castagnoli)
	hex.Encode(dst[digest:digest+8], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return dst
}

func domainOf(address string) string {
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == '@' {
			return address[i+1:]
		}
	}
	return address
}

func appendHex(dst []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&15])
	}
	return dst
}

// appendMultipart appends the rest of the header and a body as newsletters and
// receipts have it, about size bytes in all; body is where the body begins.
//
//	mixed( alternative( text, html ), attachment )
func (c *corpus) appendMultipart(dst []byte, h uint64, size int) (_ []byte, body int) {
	from := len(dst)
	boundary := func(dst []byte, kind byte) []byte { // "=_" is in neither encoding (RFC 2045 6.7)
		return append(appendHex(append(dst, "=_load-"...), h), '-', kind)
	}
	part := func(dst []byte, kind byte, header string) []byte {
		dst = boundary(append(dst, "--"...), kind)
		return append(append(dst, "\r\n"...), header...)
	}
	dst = boundary(append(dst, "Content-Type: multipart/mixed; boundary=\""...), 'm')
	dst = append(dst, "\"\r\n\r\n"...)
	body = len(dst)
	dst = part(dst, 'm', "Content-Type: multipart/alternative; boundary=\"")
	dst = append(boundary(dst, 'a'), "\"\r\n\r\n"...)
	rest := size - (len(dst) - from)
	dst = part(dst, 'a', "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	dst = c.plain.append(dst, h>>8, rest/6)
	dst = part(dst, 'a', "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body>\r\n")
	dst = c.html.append(dst, h>>16, rest/4)
	dst = append(boundary(append(dst, "</body></html>\r\n--"...), 'a'), "--\r\n"...)
	dst = part(dst, 'm', "Content-Type: application/pdf; name=\"timetable.pdf\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"timetable.pdf\"\r\n\r\n")
	closing := boundary(make([]byte, 0, 64), 'm')
	rest = size - (len(dst) - from) - len("--") - len(closing) - len("--\r\n")
	dst = appendRound(dst, c.base64, int(h>>24%base64Lines)*base64Line, max(rest/base64Line, 1)*base64Line)
	dst = append(append(dst, "--"...), closing...)
	return append(dst, "--\r\n"...), body
}

// AppendControl appends the header fields that tell the product the stream and
// the job of a message. It removes them, so Check does not want them.
func (m *Mix) AppendControl(dst []byte, msg *Message) []byte {
	if msg.Stream != "" {
		dst = append(append(append(dst, "X-Hikyaku-Stream: "...), msg.Stream...), '\r', '\n')
	}
	if m.Job != "" {
		dst = append(append(append(dst, "X-Hikyaku-Job: "...), m.Job...), '\r', '\n')
	}
	return dst
}
