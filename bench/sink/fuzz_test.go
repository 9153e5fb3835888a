package sink

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// endOfData is a second reading of RFC 5321 4.5.2 and 4.1.1.4, a line at a
// time, to hold the scan against.
func endOfData(raw []byte) (content []byte, used int, found bool) {
	lineStart := true
	for used < len(raw) {
		i := bytes.IndexByte(raw[used:], '\n')
		if i < 0 {
			return nil, 0, false
		}
		line := raw[used : used+i+1]
		used += i + 1
		if lineStart && line[0] == '.' {
			if string(line) == ".\r\n" {
				return content, used, true
			}
			line = line[1:]
		}
		content = append(content, line...)
		lineStart = bytes.HasSuffix(raw[:used], []byte("\r\n"))
	}
	return nil, 0, false
}

func FuzzEndOfData(f *testing.F) {
	for _, s := range []string{".\r\n", "..\r\n.\r\n", "a\r\n.\r\nrest", ".\r", "\r\n.\r.\r\n.\r\n", "a\n.\r\n\r\n..\r\n.\r\n", "\r\r\n.\r\n"} {
		f.Add([]byte(s), uint16(3))
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		want, used, found := endOfData(raw)
		var s scan
		got := s.find(raw)
		if got != found || got && s.end+3 != used {
			t.Fatalf("%q: end found %v at %d, want %v at %d", raw, got, s.end+3, found, used)
		}
		if !found {
			return
		}
		if n := s.end - s.dots; n != len(want) {
			t.Errorf("%q: size %d, want %d", raw, n, len(want))
		}
		content := bytes.Clone(raw[:s.end])
		if s.dots > 0 {
			content = unstuff(content, s.first)
		}
		if !bytes.Equal(content, want) {
			t.Errorf("%q: content %q, want %q", raw, content, want)
		}
		// In two pieces, with what cannot be the end forgotten between them.
		at := min(int(cut), used-1)
		s = scan{}
		if s.find(raw[:at]) {
			t.Fatalf("%q: end found in the first %d bytes", raw, at)
		}
		gone := s.at
		s.forget()
		if !s.find(raw[gone:]) || gone+s.end+3 != used || gone+s.end-s.dots != len(want) {
			t.Errorf("%q cut at %d: end at %d with %d dots, want %d and %d bytes", raw, at, gone+s.end+3, s.dots, used, len(want))
		}
	})
}

// wellFormed is any number of whole replies.
var wellFormed = regexp.MustCompile(`\A(?:(?:[2-5][0-5][0-9]-[^\r\n]*\r\n)*[2-5][0-5][0-9] [^\r\n]*\r\n)*\z`)

// FuzzSession says anything to a sink: it does not panic, answers in whole
// replies, and what it says and sees depends on the bytes alone, not on how
// they were cut by the network.
func FuzzSession(f *testing.F) {
	for _, d := range dialogs {
		f.Add([]byte(d.in), uint16(len(d.in)/2), uint16(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut, step uint16) {
		o := Options{Chunking: true, MaxLine: 200, MaxMessage: 5000, MaxRecipients: 3}
		out, saw := play(t, o, refuses, bytes.Clone(in))
		if !wellFormed.MatchString(out) {
			t.Errorf("%q was answered with %q", in, out)
		}
		for _, s := range saw {
			if strings.HasPrefix(s, "content") && !strings.Contains(strings.Join(saw, "\n"), "recipient") {
				t.Errorf("%q: content without a recipient: %q", in, saw)
			}
		}
		at := min(int(cut), len(in))
		var steps [][]byte
		for rest := in; len(rest) > 0; {
			n := min(int(step%100)+1, len(rest))
			steps, rest = append(steps, rest[:n]), rest[n:]
		}
		for _, pieces := range [][][]byte{{in[:at], in[at:]}, steps} {
			out2, saw2 := play(t, o, refuses, pieces...)
			if out2 != out || !cmp.Equal(saw, saw2) {
				t.Errorf("%q in %d pieces: answered %q, saw %q; in one piece: %q, %q", in, len(pieces), out2, saw2, out, saw)
			}
		}
	})
}
