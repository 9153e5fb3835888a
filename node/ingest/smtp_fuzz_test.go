package ingest

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzSession throws bytes at a session, in pieces: it must answer in SMTP,
// give all memory back, and say "queued" exactly as often as it stored.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO c.test\r\n|"+envelope+"DATA\r\n|Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"), uint8(0), false)
	f.Add([]byte("EHLO c.test\r\n|"+envelope+"BDAT 5 LAST\r\nx\r\n\r\nRSET\r\nHELP\r\n"), uint8(3), true)
	f.Add([]byte("EHLO c.test\r\n|AUTH LOGIN\r\n|dXNlcg==\r\n|c2VjcmV0\r\n"), uint8(1), false)
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"), uint8(0), false)
	for _, seq := range lookAlikes {
		f.Add([]byte("EHLO c.test\r\n|"+envelope+"DATA\r\n|a"+seq+smuggled), uint8(7), false)
	}
	reject, repair := newTestServer(f, fuzzListener(LinesReject)), newTestServer(f, fuzzListener(LinesNormalize))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8, normalize bool) {
		s := reject
		if normalize {
			s = repair
		}
		s.store.mu.subs = nil
		var turns []string
		for part := range bytes.SplitSeq(in, []byte("|")) {
			for cut > 0 && len(part) > int(cut) {
				turns, part = append(turns, string(part[:cut])), part[cut:]
			}
			turns = append(turns, string(part))
		}
		c := s.talkFrom("203.0.113.1", turns...)
		out := c.all()
		for line := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
			if len(line) < 4 || line[0] < '2' || line[0] > '5' || (line[3] != ' ' && line[3] != '-') || !printable(line) {
				t.Fatalf("not a reply: %q", line)
			}
		}
		subs := s.store.taken()
		if n := strings.Count(out, "Ok: queued as "); n != len(subs) {
			t.Fatalf("%d replies for %d messages", n, len(subs))
		}
		for _, sub := range subs {
			rest := bytes.ReplaceAll(sub.Message.Raw, []byte("\r\n"), nil)
			if bytes.ContainsAny(rest, "\r\n\x00") || len(sub.Recipients) == 0 {
				t.Fatalf("accepted %q", sub.Message.Raw)
			}
		}
		if n := s.buffers.lent.Load(); n != 0 {
			t.Fatalf("%d bytes still lent", n)
		}
	})
}

func fuzzListener(lines string) func(*SMTPListener) {
	return func(l *SMTPListener) {
		l.LineEndings = lines
		l.RelayNetworks = networks("203.0.113.0/24")
		l.MaxMessageSize = 64 << 10
		l.MaxAuthFailuresPerClient = 1 << 20
	}
}

func FuzzAuth(f *testing.F) {
	f.Add("PLAIN", []byte("\x00user\x00secret"), []byte(nil))
	f.Add("PLAIN", []byte("user\x00user\x00secret"), []byte(nil))
	f.Add("LOGIN", []byte("user"), []byte("secret"))
	s := newTestServer(f, fuzzListener(LinesReject))
	f.Fuzz(func(t *testing.T, mechanism string, first, second []byte) {
		encode := base64.StdEncoding.EncodeToString
		c := s.talkFrom("203.0.113.1", "EHLO c.test\r\n", "AUTH "+mechanism+" "+encode(first)+"\r\n", encode(second)+"\r\n")
		ok := strings.Contains(c.all(), "\r\n235 ")
		plain := strings.EqualFold(strings.TrimSpace(mechanism), "PLAIN")
		right := plain && (string(first) == "\x00user\x00secret" || string(first) == "user\x00user\x00secret") ||
			strings.EqualFold(mechanism, "LOGIN") && string(first) == "user" && string(second) == "secret"
		if ok && !right && !strings.ContainsAny(mechanism, " \r\n") {
			t.Fatalf("logged in with %q %q", first, second)
		}
	})
}
