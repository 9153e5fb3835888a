package feedback_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"hikyaku/reputation/feedback"
)

// holds is what a report promises whatever was read.
func holds(t *testing.T, r *feedback.Report) {
	t.Helper()
	switch r.Kind {
	case feedback.Bounce, feedback.Delay, feedback.Relayed, feedback.Complaint, feedback.AutoReply, feedback.Unsubscribing, feedback.Other:
	default:
		t.Fatalf("kind %q", r.Kind)
	}
	if r.Why == "" || len(r.Why) > 60 || len(r.Recipients) > feedback.MaxRecipients || len(r.Returned.Tokens) > feedback.MaxTokens ||
		len(r.Returned.Links) > feedback.MaxTokens || len(r.Returned.To) > feedback.MaxTokens || len(r.From) > feedback.MaxTokens {
		t.Fatalf("why %q, %d recipients, %+v", r.Why, len(r.Recipients), r.Returned)
	}
	for _, text := range []string{r.ReportingMTA, r.EnvelopeID, r.Returned.MessageID, r.Returned.Subject} {
		if len(text) > 255 || strings.ContainsAny(text, "\r\n\x00\x7f") {
			t.Fatalf("text %q", text)
		}
	}
	for i := range r.Recipients {
		c := &r.Recipients[i]
		checkReply(t, &c.Reply)
		if len(c.Address) > 400 || len(c.Original) > 400 || strings.ContainsAny(c.Address+c.Original, "\r\n\x00") || c.Action == "" || len(c.RemoteMTA) > 255 {
			t.Fatalf("recipient %+v", c)
		}
	}
	for _, token := range r.Returned.Tokens {
		if len(token) != feedback.TokenLen {
			t.Fatalf("token %q", token)
		}
	}
	if c := r.Complaint; c != nil && (len(c.Type) > 40 || len(c.Recipients) > feedback.MaxTokens || len(c.UserAgent) > 255 || c.Incidents < 1) {
		t.Fatalf("complaint %+v", c)
	}
}

func FuzzParse(f *testing.F) {
	for _, kind := range []string{"dsn", "arf", "other"} {
		for i, s := range corpus(f, kind) {
			if i%4 == 0 {
				f.Add(bytes.ReplaceAll(s.raw, []byte("\n"), []byte("\r\n")))
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) { holds(t, feedback.Parse(raw)) })
}

// TestDamagedMails cuts each mail of the corpus in pieces and mixes them up.
func TestDamagedMails(t *testing.T) {
	var all []story
	for _, kind := range []string{"dsn", "arf", "other"} {
		all = append(all, corpus(t, kind)...)
	}
	for i, s := range all {
		other := all[(i*7+3)%len(all)].raw
		for _, n := range []int{3, 17, 40} {
			cut := len(s.raw) * n / 41
			holds(t, feedback.Parse(s.raw[:cut]))
			holds(t, feedback.Parse(s.raw[cut:]))
			holds(t, feedback.Parse(append(s.raw[:cut:cut], other...)))
			broken := bytes.Clone(s.raw)
			for j := cut % 13; j < len(broken); j += 13 + n {
				broken[j] ^= byte(1 << (j % 8))
			}
			holds(t, feedback.Parse(broken))
		}
	}
}

// bombs are mails that would cost a reader without bounds much more than they
// cost their author. Each is about n bytes.
func bombs(n int) map[string][]byte {
	head := "From: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n"
	multi := head + "Content-Type: multipart/report; boundary=b\r\n\r\n"
	rep := func(s string) string { return strings.Repeat(s, n/len(s)) }
	nested := head
	for i := range 2000 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	inner := "x"
	for len(inner) < n/2 {
		inner = base64.StdEncoding.EncodeToString([]byte("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner))
	}
	return map[string][]byte{
		"parts":               []byte(multi + rep("--b\r\n\r\nx\r\n")),
		"empty parts":         []byte(multi + rep("--b\r\n")),
		"nested multiparts":   []byte(nested + rep("x\r\n")),
		"same boundary":       []byte(strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", n/60)),
		"almost boundaries":   []byte(multi + rep("--bb\r\n")),
		"long boundary":       []byte(head + "Content-Type: multipart/mixed; boundary=\"" + strings.Repeat("-", 60000) + "\"\r\n\r\n" + rep("-")),
		"base64 in base64":    []byte(head + "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner),
		"header fields":       []byte(rep("X: y\r\n")),
		"one header":          []byte("Subject: " + rep("x")),
		"folded header":       []byte("Subject: x\r\n" + rep(" x\r\n")),
		"encoded words":       []byte("Subject: " + rep("=?utf-8?q?x?= ") + "\r\n\r\n"),
		"broken words":        []byte("Subject: " + rep("=?") + "\r\n\r\n"),
		"parameters":          []byte("Content-Type: multipart/report" + rep("; a=b") + "\r\n\r\n"),
		"quotes":              []byte("Content-Type: multipart/report; boundary=\"" + rep("\\") + "\r\n\r\n"),
		"recipients":          []byte(multi + "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n" + rep("Final-Recipient: rfc822; a@b.example\r\n\r\n")),
		"recipients together": []byte(multi + "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n" + rep("Final-Recipient: rfc822; a@b.example\r\n")),
		"diagnostic":          []byte(multi + "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\nDiagnostic-Code: smtp; 550 " + rep(" 550 5.1.1 x")),
		"codes":               []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("550 550 550 550 ")),
		"code lines":          []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("550 5.1.1 x\r\n")),
		"at signs":            []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("@")),
		"quoted ats":          []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("\"@")),
		"addresses":           []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("<a@b.example>:\r\n550 x\r\n")),
		"address lines":       []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("a@b.example, ")),
		"many addresses":      []byte(head + "\r\nHi. This is the qmail-send program\r\n" + numbered(n)),
		"empty lines":         []byte(head + "\r\n" + rep("\r\n")),
		"returns":             []byte(head + "\r\n" + rep("\r")),
		"dashes":              []byte(head + "\r\nHi. This is the qmail-send program\r\n" + rep("-- original message --\r\n")),
		"tags":                []byte(head + "Content-Type: text/html\r\n\r\n" + rep("<")),
		"styles":              []byte(head + "Content-Type: text/html\r\n\r\n" + rep("<style>")),
		"quoted-printable":    []byte(head + "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + rep("=\r\n")),
		"jis":                 []byte(head + "\r\n\x1b$B" + rep("\x1b$B")),
		"tokens":              []byte("X: " + rep("b-"+strings.Repeat("a", 61)+" ") + "\r\n\r\n"),
		"token letters":       []byte("X: " + rep("b") + "\r\n\r\n"),
		"feedback recipients": []byte(multi + "--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n" + rep("Original-Rcpt-To: a@b.example\r\n")),
		"feedback garbage":    []byte(multi + "--b\r\nContent-Type: message/feedback-report\r\n\r\n" + rep("x\r\n")),
		"status garbage":      []byte(multi + "--b\r\nContent-Type: message/delivery-status\r\n\r\n" + rep("x\r\n")),
		"escapes":             []byte(multi + "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: utf-8; " + rep(`\x{41}`)),
		"nothing":             bytes.Repeat([]byte{0}, n),
	}
}

// numbered are different addresses, each with a text.
func numbered(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "<u%d@b.example>:\r\n550 5.1.1 x\r\n", i)
	}
	return b.String()
}

// TestBombsTakeLittleMemory: what is used on the way is bounded by the mail's own
// size, whatever it asks for.
func TestBombsTakeLittleMemory(t *testing.T) {
	for name, raw := range bombs(feedback.MaxBytes - 100) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		holds(t, feedback.Parse(raw))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 8*feedback.MaxBytes {
			t.Errorf("%s: %d bytes of memory for %d of mail", name, used, len(raw))
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, kind := range []string{"dsn", "arf"} {
		b.Run(kind, func(b *testing.B) {
			stories := corpus(b, kind)
			total := 0
			for _, s := range stories {
				total += len(s.raw)
			}
			b.SetBytes(int64(total / len(stories)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				feedback.Parse(stories[i%len(stories)].raw)
			}
		})
	}
	b.Run("large", func(b *testing.B) {
		raw := append(bytes.Clone(corpus(b, "dsn")[0].raw[:400]), bytes.Repeat([]byte("The returned message goes on and on, line by line.\r\n"), 15000)...)
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			feedback.Parse(raw)
		}
	})
}
