package mix

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
)

// contents are buffers in which Check makes what should have come.
var contents = sync.Pool{New: func() any { return new([]byte) }}

// keptContent bounds the buffers in the pool.
const keptContent = 1 << 20

// Check says how what a receiver got for recipient n differs from what was
// sent; nil when it does not. In front of it may stand what a relay adds: trace
// fields (RFC 5321 4.4), signatures, results. Of a template, what was rendered is
// compared part by part, decoded.
func (m *Mix) Check(n int, received []byte) error {
	m.mustBeReady()
	if n < 0 || n >= m.Recipients {
		return fmt.Errorf("number %d: there are %d", n, m.Recipients)
	}
	if m.Template != nil {
		return m.checkTemplate(n, received)
	}
	p := contents.Get().(*[]byte)
	want := m.AppendContent((*p)[:0], m.MessageOf(n))
	defer func() {
		if cap(want) <= keptContent {
			*p = want
			contents.Put(p)
		}
	}()
	if len(received) < len(want) {
		return fmt.Errorf("%d bytes, %d were sent", len(received), len(want))
	}
	front := received[:len(received)-len(want)]
	if got := received[len(front):]; !bytes.Equal(got, want) {
		at := differs(got, want)
		return fmt.Errorf("byte %d of %d: got %q, want %q", at, len(want), excerpt(got, at), excerpt(want, at))
	}
	return checkFront(front)
}

// differs is where two slices of one length begin to differ.
func differs(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

func excerpt(b []byte, at int) []byte { return b[max(at-8, 0):min(at+24, len(b))] }

// relayFields are what relays put in front.
var relayFields = map[string]bool{
	"received": true, "return-path": true, "delivered-to": true, "x-original-to": true, "dkim-signature": true, "authentication-results": true,
	"received-spf": true, "arc-seal": true, "arc-message-signature": true, "arc-authentication-results": true,
}

var errFront = errors.New("in front of the content stands what is no header field")

// checkFront makes sure that front is whole header fields, of relays only.
func checkFront(front []byte) error {
	for len(front) > 0 {
		colon := bytes.IndexByte(front, ':')
		if colon < 1 {
			return errFront
		}
		if field := string(bytes.ToLower(front[:colon])); !relayFields[field] {
			return fmt.Errorf("in front of the content stands %.60q, which no relay adds", field)
		}
		for {
			end := bytes.Index(front, []byte("\r\n"))
			if end < 0 {
				return errFront
			}
			if front = front[end+2:]; len(front) == 0 || front[0] != ' ' && front[0] != '\t' {
				break
			}
		}
	}
	return nil
}

var errDigest = errors.New("the digest line does not fit the body")

// CheckDigest compares the body of content that AppendContent made with its own
// digest line, for those who do not know the mix.
func CheckDigest(received []byte) error {
	header, body, ok := bytes.Cut(received, []byte("\r\n\r\n"))
	at := bytes.Index(header, []byte("\r\n"+digestField))
	if !ok || at < 0 || len(header) < at+2+len(digestField)+8 {
		return errors.New("no digest line")
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], header[at+2+len(digestField):][:8]); err != nil {
		return fmt.Errorf("digest line: %w", err)
	}
	if got := crc32.Checksum(body, castagnoli); got != uint32(sum[0])<<24|uint32(sum[1])<<16|uint32(sum[2])<<8|uint32(sum[3]) {
		return errDigest
	}
	return nil
}
