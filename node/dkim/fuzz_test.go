package dkim_test

import (
	"bytes"
	"strings"
	"testing"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// FuzzSignatureVerifies holds our canonicalisation against go-msgauth's: what
// we sign, it verifies, however the content is cut.
func FuzzSignatureVerifies(f *testing.F) {
	for i, c := range contents {
		f.Add([]byte(c.raw), uint16(i*7))
	}
	s := mustSigners(f, edKey("example.com"))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		raw = normalise(raw)
		at := min(int(cut), len(raw))
		sig, err := s.AppendSignature(nil, "example.com", signedAt, raw[:at], raw[at:])
		if err != nil || !comparable(raw) {
			return
		}
		vs, err := msgauth.VerifyWithOptions(bytes.NewReader(append(bytes.Clone(sig), raw...)),
			&msgauth.VerifyOptions{LookupTXT: lookupTXT, MaxVerifications: 1})
		if err != nil && err != msgauth.ErrTooManySignatures {
			t.Fatalf("verify: %v\n%q", err, raw)
		}
		if len(vs) == 0 || vs[0].Err != nil {
			t.Fatalf("our signature does not verify: %v\n%q\n%q", vs, sig, raw)
		}
	})
}

// normalise gives content the line ends that ingest guarantees.
func normalise(raw []byte) []byte {
	raw = bytes.ReplaceAll(raw, []byte("\r"), nil)
	return bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
}

// comparable leaves out what go-msgauth cannot be asked: content without an
// empty line, which it refuses, and header lines that are no field, which it
// reads in ways of its own (a first line that is a continuation, a line
// without a colon, white space of Unicode around a name).
func comparable(raw []byte) bool {
	head, _, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok || strings.HasPrefix(head, "\r\n") {
		return false
	}
	for i, line := range strings.Split(head, "\r\n") {
		if line != "" && isBlank(line[0]) {
			if i == 0 {
				return false
			}
			continue
		}
		name, _, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return false
		}
	}
	return true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
