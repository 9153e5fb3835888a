package ingest

import (
	"fmt"
	"strings"
	"testing"
)

// lookAlikes end the data for one parser or another (CVE-2023-51764, -51765,
// -51766 and their kin). None of them is CRLF.CRLF.
var lookAlikes = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r.\r", "\r.\n", "\n.\r",
	"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\n\x00.\n", "\r\r.\r\n", "\n\n.\r\n",
	"\r\n.\r\r\n", "\r\n.\n\r\n",
}

const smuggled = "MAIL FROM:<evil@acme.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"

// each cuts text into turns: whole, and a byte at a time.
func each(text string) map[string][]string {
	return map[string][]string{"whole": {text}, "bytes": strings.Split(text, "")}
}

func TestSmugglingInData(t *testing.T) {
	for _, mode := range []string{LinesReject, LinesNormalize} {
		for _, seq := range lookAlikes {
			for how, turns := range each("Subject: a\r\n\r\nbody" + seq + smuggled) {
				t.Run(fmt.Sprintf("%s/%q/%s", mode, seq, how), func(t *testing.T) {
					s := newTestServer(t, func(l *SMTPListener) { l.LineEndings = mode })
					c := s.talk(append([]string{"EHLO c.test\r\n", envelope, "DATA\r\n"}, turns...)...)
					subs := s.store.taken()
					if mode == LinesReject {
						if len(subs) != 0 || !strings.HasSuffix(c.all(), "521 5.6.0 Ambiguous end of data, closing connection\r\n") || !c.closed {
							t.Errorf("%d messages; server said %q", len(subs), c.all())
						}
						return
					}
					if len(subs) != 1 {
						t.Fatalf("%d messages; server said %q", len(subs), c.all())
					}
					m := subs[0].Message
					text := string(m.Raw[fieldEnd(m.Raw, 0):])
					if m.Sender != "a@acme.test" || len(subs[0].Recipients) != 1 || subs[0].Recipients[0].Address != "b@dest.test" {
						t.Errorf("envelope %q %v", m.Sender, subs[0].Recipients)
					}
					// Content: the dot is a line of its own and the rest is text.
					flat := strings.ReplaceAll(text, "\r\n", "|")
					head, tail, ok := strings.Cut(flat, "|.|")
					if !ok || strings.Trim(head, "|") != "Subject: a||body" ||
						strings.TrimLeft(tail, "|") != strings.ReplaceAll(strings.TrimSuffix(smuggled, ".\r\n"), "\r\n", "|") {
						t.Errorf("content %q", text)
					}
					if strings.ContainsAny(strings.ReplaceAll(text, "\r\n", ""), "\r\n\x00") {
						t.Errorf("content is not clean: %q", text)
					}
				})
			}
		}
	}
}

// In BDAT sizes frame the content, so look-alikes are text: refused when their
// line ends are not clean, and never an end.
func TestSmugglingInChunks(t *testing.T) {
	for _, mode := range []string{LinesReject, LinesNormalize} {
		for _, seq := range append([]string{"\r\n.\r\n"}, lookAlikes...) {
			content := "Subject: a\r\n\r\nbody" + seq + smuggled
			chunk := fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(content), content)
			for how, turns := range each(chunk) {
				t.Run(fmt.Sprintf("%s/%q/%s", mode, seq, how), func(t *testing.T) {
					s := newTestServer(t, func(l *SMTPListener) { l.LineEndings = mode })
					c := s.talk(append([]string{"EHLO c.test\r\n", envelope}, turns...)...)
					want, code := 1, "250 2.0.0 Ok: queued as "
					if mode == LinesReject && seq != "\r\n.\r\n" {
						want, code = 0, "550 5.6.0 Content refused: "
					}
					subs := s.store.taken()
					if len(subs) != want || strings.Count(c.all(), code) != 1 || !strings.HasSuffix(c.all(), "\r\n250 2.0.0 Ok\r\n") {
						t.Fatalf("%d messages; server said %q", len(subs), c.all())
					}
					if want == 1 {
						raw := string(subs[0].Message.Raw)
						if !strings.Contains(raw, "\r\n.\r\n") || !strings.HasSuffix(raw, smuggled) {
							t.Errorf("content %q", raw)
						}
					}
				})
			}
		}
	}
}

// A message refused for its bytes is read to its true end, and what follows is
// a new transaction.
func TestRefusedContentLeavesACleanSession(t *testing.T) {
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", strings.Repeat("x", 999)} {
		s := newTestServer(t, nil)
		c := s.talk("EHLO c.test\r\n", envelope+"DATA\r\n", "Subject: x\r\n\r\n"+bad+"\r\n.\r\nDATA\r\n",
			envelope+"DATA\r\n", "Subject: y\r\n\r\ngood\r\n.\r\n")
		out := c.all()
		if n := len(s.store.taken()); n != 1 {
			t.Errorf("%.10q: %d messages", bad, n)
		}
		if !strings.Contains(out, "550 5.6.0 Content refused: ") || !strings.Contains(out, " at line 3\r\n503 5.5.1 Send MAIL first\r\n") {
			t.Errorf("%.10q: server said %q", bad, out)
		}
	}
}

func TestClosesWhereCommandsAndContentCouldBeConfused(t *testing.T) {
	for _, tt := range []struct{ name, turn, reply string }{
		{"input behind DATA", envelope + "DATA\r\nSubject: x\r\n", "503 5.5.0 Input behind DATA before its reply, closing connection"},
		{"input behind refused DATA", "DATA\r\n" + smuggled, "503 5.5.0 Input behind DATA before its reply, closing connection"},
		{"bare LF command", "NOOP\n" + smuggled, "521 5.5.2 Command line must end in CRLF, closing connection"},
		{"bare LF in command", "NOOP \nMAIL FROM:<>\r\n", "521 5.5.2 Command line must end in CRLF, closing connection"},
		{"unframed chunk", "BDAT 5 FIRST\r\n" + smuggled, "501 5.5.4 Syntax: BDAT size [LAST]"},
		{"huge chunk", "BDAT 4294967296\r\n" + smuggled, "552 5.3.4 Chunk size exceeds the limit, closing connection"},
		{"browser", "POST / HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, "521 5.5.1 This is an SMTP server, closing connection"},
		{"PROXY from a stranger", "PROXY TCP4 192.0.2.77 192.0.2.1 1 2\r\n" + smuggled, "521 5.5.1 This is an SMTP server, closing connection"},
		{"endless line", strings.Repeat("x", inputBuffer+1) + "\r\n" + smuggled, "500 5.5.2 Line too long, closing connection"},
	} {
		s := newTestServer(t, nil)
		c := s.talk("EHLO c.test\r\n", tt.turn)
		if !strings.HasSuffix(c.all(), tt.reply+"\r\n") || len(s.store.taken()) != 0 || !c.closed {
			t.Errorf("%s: server said %q", tt.name, c.all())
		}
	}
	s := newTestServer(t, nil)
	if c := s.talk("EHLO c.test\r\n" + envelope); !strings.HasSuffix(c.all(), "554 5.5.0 Commands before the reply to EHLO, closing connection\r\n") {
		t.Errorf("server said %q", c.all())
	}
}

// No byte of the client comes back.
func TestRepliesDoNotEcho(t *testing.T) {
	s := newTestServer(t, nil)
	c := s.talk("EHLO c.test\r\n",
		"MARKER\r\n", "MAIL FROM:<MARKER\x01@x.test>\r\n", "MAIL FROM:<MARKER>\r\n", "MAIL FROM:<a@acme.test> MARKER=1\r\n",
		"MAIL FROM:<MARKER@acme.test>\r\nRCPT TO:<\"MARKER\x00\"@x.test>\r\nRCPT TO:<MARKER@x.test>\r\nDATA\r\n",
		"X-Hikyaku-MARKER: MARKER\r\n\r\nMARKER\r\n.\r\n", "VRFY MARKER\r\n", "HELP MARKER\r\n", "AUTH MARKER\r\n")
	if strings.Contains(c.all(), "MARKER") {
		t.Errorf("server said %q", c.all())
	}
}
