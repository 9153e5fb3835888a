package ingest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/spool/message"
)

func (s testServer) deliver(content string) (*Submission, string) {
	c := s.talk("EHLO c.test\r\n", "MAIL FROM:<a@acme.test> MT-PRIORITY=5 HOLDFOR=60\r\nRCPT TO:<b@dest.test>\r\nDATA\r\n", content+".\r\n")
	subs := s.store.taken()
	if len(subs) == 0 {
		return nil, c.all()
	}
	return subs[len(subs)-1], c.all()
}

func TestReceivedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, nil)
		sub, _ := s.deliver("Subject: x\r\n\r\nbody\r\n")
		want := "Received: from c.test ([192.0.2.1])\r\n\tby mx.test (Hikyaku) with ESMTP\r\n\tid " +
			sub.Message.ID.String() + ";\r\n\tSat, 1 Jan 2000 00:00:00 +0000\r\nSubject: x\r\n\r\nbody\r\n"
		if string(sub.Message.Raw) != want {
			t.Errorf("got %q\nwant %q", sub.Message.Raw, want)
		}
		if m := sub.Message; m.Priority != message.High || !sub.PriorityGiven || sub.SendAt.Sub(m.Accepted) != time.Minute {
			t.Errorf("MT-PRIORITY and HOLDFOR: %v %v %v", m.Priority, sub.PriorityGiven, sub.SendAt)
		}
	})
}

func TestControlHeaders(t *testing.T) {
	s := newTestServer(t, nil)
	before := time.Now()
	sub, out := s.deliver("Subject: x\r\n" +
		"x-hikyaku-JOB: spring/2026\r\n" +
		"X-Hikyaku-Stream: bulk\r\n" +
		"To: b@dest.test\r\n" +
		"X-Hikyaku-Pool:warm\r\n" +
		"X-Hikyaku-Tags: one,\r\n two , three\r\n" +
		"X-Hikyaku-Send-At: 2001-01-01T00:00:00+09:00\r\n" +
		"X-Hikyaku-Expires: 4h\r\n" +
		"X-Hikyaku-Priority: low\r\n" +
		"X-Hikyaku-Metadata: {\"user\":\r\n\t42}\r\n" +
		"\r\nX-Hikyaku-Job: body\r\n")
	if sub == nil {
		t.Fatal(out)
	}
	m := sub.Message
	if m.Job != "spring/2026" || m.Stream != "bulk" || m.Pool != "warm" || m.Priority != message.Low || !sub.PriorityGiven ||
		string(m.Metadata) != `{"user":42}` || !slices.Equal(m.Tags, []string{"one", "two", "three"}) ||
		!sub.SendAt.Equal(time.Date(2000, 12, 31, 15, 0, 0, 0, time.UTC)) || sub.Expires.Before(before.Add(4*time.Hour-time.Second)) {
		t.Errorf("%+v %+v", sub, m)
	}
	if rest := string(m.Raw[fieldEnd(m.Raw, 0):]); rest != "Subject: x\r\nTo: b@dest.test\r\n\r\nX-Hikyaku-Job: body\r\n" {
		t.Errorf("content %q", rest)
	}
}

func TestBadControlHeadersRefuse(t *testing.T) {
	for _, tt := range []struct{ header, reply string }{
		{"Job: \r\n", "invalid value in header X-Hikyaku-Job"},
		{"Job: a b\r\n", "invalid value in header X-Hikyaku-Job"},
		{"Stream: Bulk\r\n", "invalid value in header X-Hikyaku-Stream"},
		{"Pool: " + strings.Repeat("x", 65) + "\r\n", "invalid value in header X-Hikyaku-Pool"},
		{"Tags: a,,b\r\n", "invalid value in header X-Hikyaku-Tags"},
		{"Tags: " + strings.Repeat("a,", 16) + "a\r\n", "invalid value in header X-Hikyaku-Tags"},
		{"Tags: a\"b\r\n", "invalid value in header X-Hikyaku-Tags"},
		{"Send-At: tomorrow\r\n", "invalid value in header X-Hikyaku-Send-At"},
		{"Send-At: 2999-01-01T00:00:00Z\r\n", "invalid value in header X-Hikyaku-Send-At"},
		{"Expires: 2001-01-01T00:00:00Z\r\n", "invalid value in header X-Hikyaku-Expires"},
		{"Priority: urgent\r\n", "invalid value in header X-Hikyaku-Priority"},
		{"Priority:\r\n", "invalid value in header X-Hikyaku-Priority"},
		{"Metadata: [1]\r\n", "invalid value in header X-Hikyaku-Metadata"},
		{"Metadata: {\"a\":}\r\n", "invalid value in header X-Hikyaku-Metadata"},
		{"Metadata: {\"a\":\"\x01\"}\r\n", "invalid value in header X-Hikyaku-Metadata"},
		{"Job: a\r\nX-HIKYAKU-JOB: a\r\n", "header X-Hikyaku-Job given twice"},
		{"Jobs: a\r\n", "unknown X-Hikyaku header"},
	} {
		s := newTestServer(t, nil)
		sub, out := s.deliver("X-Hikyaku-" + tt.header + "\r\nbody\r\n")
		if sub != nil || !strings.Contains(out, "550 5.6.0 Content refused: "+tt.reply+"\r\n") {
			t.Errorf("%.40q: server said %q", tt.header, out)
		}
	}
	s := newTestServer(t, listenerSettings["ignore_controls"])
	sub, out := s.deliver("X-Hikyaku-Job: a\r\nX-Hikyaku-Job: b\r\nX-Hikyaku-Else: c\r\nSubject: x\r\n\r\n")
	if sub == nil || sub.Message.Job != "" || bytes.Contains(sub.Message.Raw, []byte("X-Hikyaku")) {
		t.Errorf("ignore_control_headers: %v %q", sub, out)
	}
}

// What is no header ends the section, and the end is made plain for the next
// parser.
func TestHeaderSectionEnds(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{"Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\nbody\r\n"},
		{"\r\nbody\r\n", "\r\nbody\r\n"},
		{"", ""},
		{"Subject: x\r\n", "Subject: x\r\n"},
		{"no header here\r\n", "\r\nno header here\r\n"},
		{" folded first\r\n", "\r\n folded first\r\n"},
		{"Subject: x\r\nno header\r\nFrom: a@b.test\r\n", "Subject: x\r\n\r\nno header\r\nFrom: a@b.test\r\n"},
		{"Subject : x\r\n\r\nbody\r\n", "\r\nSubject : x\r\n\r\nbody\r\n"},
		{": x\r\n\r\n", "\r\n: x\r\n\r\n"},
	} {
		s := newTestServer(t, nil)
		sub, out := s.deliver(tt.in)
		if sub == nil {
			t.Errorf("%q: %s", tt.in, out)
		} else if got := string(sub.Message.Raw[fieldEnd(sub.Message.Raw, 0):]); got != tt.out {
			t.Errorf("%q became %q, want %q", tt.in, got, tt.out)
		}
	}
}

func TestLoopsAndHeaderLimits(t *testing.T) {
	many := func(n int, line string) string { return strings.Repeat(line, n) + "\r\nbody\r\n" }
	for _, tt := range []struct{ name, in, code string }{
		{"50 hops", many(50, "Received: by other.test\r\n"), "250 2.0.0"},
		{"51 hops", many(51, "Received: by other.test\r\n"), "554 5.4.6"},
		{"5 times here", many(5, "Received: from x by MX.test (x)\r\n"), "250 2.0.0"},
		{"6 times here", many(6, "received: from x\r\n\tby MX.test (x)\r\n"), "554 5.4.6"},
		{"hops in the body", "\r\n" + many(60, "Received: by other.test\r\n"), "250 2.0.0"},
		{"too many fields", many(1001, "a: b\r\n"), "552 5.3.4"},
		{"too many bytes", many(300, "a: "+strings.Repeat("x", 990)+"\r\n"), "552 5.3.4"},
		{"two From", "From: a@b.test\r\nfrom: c@d.test\r\n\r\n", "550 5.6.0"},
	} {
		s := newTestServer(t, nil)
		if _, out := s.deliver(tt.in); !strings.Contains(out, "\r\n"+tt.code+" ") {
			t.Errorf("%s: server said %q", tt.name, out[max(0, len(out)-100):])
		}
	}
}

func TestHeaderFrom(t *testing.T) {
	for _, tt := range []struct{ from, domain string }{
		{"a@Example.test", "example.test"},
		{"A B <a@example.test>", "example.test"},
		{"\"B, <x@evil.test>\" <a@example.test>", "example.test"},
		{"A (x@evil.test, \\) y) <a@example.test> (later)", "example.test"},
		{"=?utf-8?B?5pel?= <a@example.test>", "example.test"},
		{"日本 <a@日本.test>", "xn--wgv71a.test"},
		{"<\"a b\"@example.test>", "example.test"},
		{"a@example.test, b@example.test", "example.test"},
		{"a@example.test, b@other.test", ""},
		{"Group: a@example.test;", "example.test"},
		{"undisclosed:;", ""},
		{"<a@example.test", ""},
		{"<a@example.test> <b@other.test>", ""},
		{"a@[192.0.2.1]", ""},
		{"nobody", ""},
		{"a b@example.test", ""},
		{"", ""},
		{"(" + strings.Repeat("(", 30) + " a@example.test", ""},
	} {
		s := newTestServer(t, nil)
		sub, out := s.deliver("From: " + tt.from + "\r\n\r\n")
		if sub == nil {
			t.Errorf("%q: %s", tt.from, out)
		} else if sub.Message.HeaderFrom != tt.domain {
			t.Errorf("%q: domain %q, want %q", tt.from, sub.Message.HeaderFrom, tt.domain)
		}
	}
}

// A tenant with sender domains may not name others, in the envelope or in the
// header.
func TestSenderDomains(t *testing.T) {
	for _, tt := range []struct{ sender, from, reply string }{
		{"a@acme.test", "a@acme.test", "250 2.0.0"},
		{"a@Sub.Acme.test", "X <a@news.acme.test>", "250 2.0.0"},
		{"", "a@acme.test", "250 2.0.0"},
		{"a@evil.test", "a@acme.test", "553 5.7.1 Sender domain"},
		{"a@xacme.test", "a@acme.test", "553 5.7.1 Sender domain"},
		{"a@acme.test", "a@evil.test", "553 5.7.1 From header"},
		{"a@acme.test", "a@acme.test, b@evil.test", "553 5.7.1 From header"},
		{"a@acme.test", "b@evil.test, a@acme.test", "553 5.7.1 From header"},
		{"a@acme.test", "<a@acme.test> <b@evil.test>", "553 5.7.1 From header"},
		{"a@acme.test", "b@evil.test <a@acme.test", "553 5.7.1 From header"},
		{"a@acme.test", "undisclosed:;", "553 5.7.1 From header"},
	} {
		s := newTestServer(t, nil)
		c := s.talkFrom("203.0.113.1", "EHLO c.test\r\n", "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
			"MAIL FROM:<"+tt.sender+">\r\n", "RCPT TO:<b@dest.test>\r\n", "DATA\r\n", "From: "+tt.from+"\r\n\r\n.\r\n")
		if !strings.Contains(c.all(), "\r\n"+tt.reply) {
			t.Errorf("%s, %s: server said %q", tt.sender, tt.from, c.all())
		}
	}
}

func TestMissingHeadersAreAddedForLogins(t *testing.T) {
	s := newTestServer(t, nil)
	s.talkFrom("203.0.113.1", "EHLO c.test\r\n", "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", envelope+"DATA\r\n", "From: a@acme.test\r\n\r\n.\r\n")
	s.talk("EHLO c.test\r\n", envelope+"DATA\r\n", "From: a@acme.test\r\n\r\n.\r\n")
	subs := s.store.taken()
	if len(subs) != 2 {
		t.Fatal(len(subs))
	}
	raw := string(subs[0].Message.Raw)
	if !strings.Contains(raw, "with ESMTPA\r\n") || !strings.Contains(raw, "\r\nMessage-ID: <"+subs[0].Message.ID.String()+"@acme.test>\r\nFrom:") ||
		strings.Count(raw, "Date: ") != 1 || strings.Contains(raw, "user") {
		t.Errorf("with a login: %q", raw)
	}
	if raw := string(subs[1].Message.Raw); strings.Contains(raw, "Message-ID") || strings.Contains(raw, "Date:") {
		t.Errorf("relayed: %q", raw)
	}
}

func TestBodyAndUTF8AreWhatTheContentIs(t *testing.T) {
	for _, tt := range []struct {
		mail, rcpt, content string
		body                message.Body
		utf8                bool
	}{
		{"<a@acme.test> BODY=8BITMIME", "<b@dest.test>", "Subject: x\r\n\r\nascii\r\n", message.Body7Bit, false},
		{"<a@acme.test>", "<b@dest.test>", "Subject: x\r\n\r\nbödy\r\n", message.Body8BitMIME, false},
		{"<a@acme.test> SMTPUTF8", "<b@dest.test>", "Subject: x\r\n\r\nbödy\r\n", message.Body8BitMIME, false},
		{"<a@acme.test> SMTPUTF8", "<b@dest.test>", "Subject: ö\r\n\r\n", message.Body8BitMIME, true},
		{"<a@acme.test> SMTPUTF8", "<用户@例え.test>", "Subject: x\r\n\r\n", message.Body7Bit, true},
	} {
		s := newTestServer(t, nil)
		c := s.talk("EHLO c.test\r\n", "MAIL FROM:"+tt.mail+"\r\nRCPT TO:"+tt.rcpt+"\r\nDATA\r\n", tt.content+".\r\n")
		subs := s.store.taken()
		if len(subs) != 1 || subs[0].Message.Body != tt.body || subs[0].Message.UTF8 != tt.utf8 {
			t.Errorf("%s %s %q: %q", tt.mail, tt.rcpt, tt.content, c.all())
		}
	}
}

func FuzzXHeaders(f *testing.F) {
	f.Add([]byte("X-Hikyaku-Job: a\r\nX-Hikyaku-Metadata: {}\r\nFrom: \"a\" <b@c.test>\r\n\r\n"))
	f.Add([]byte("From: g: a@b.test, (c) <d@e.test>;\r\nX-Hikyaku-Tags: a, b\r\nbody"))
	f.Add([]byte("X-Hikyaku-Send-At: 2026-01-01T00:00:00Z\r\nX-Hikyaku-Expires: 4h\r\n"))
	s := newTestServer(f, nil)
	f.Fuzz(func(t *testing.T, content []byte) {
		s.store.mu.subs = nil
		in := bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
		if bytes.HasPrefix(in, []byte(".")) {
			in = append([]byte("."), in...)
		}
		sub, out := s.deliver(string(in) + "\r\n")
		if strings.Contains(out, "521") {
			return
		}
		if (sub != nil) != strings.Contains(out, "queued as") {
			t.Fatalf("submission %v, server said %q", sub != nil, out)
		}
		if sub == nil {
			return
		}
		raw := sub.Message.Raw
		end := fieldEnd(raw, 0)
		var h header
		if bad := h.scan(raw[end:], s.listeners[0]); bad != nil {
			t.Fatalf("what was accepted is refused: %v in %q", bad.text, raw)
		}
		if len(h.remove) > 0 {
			t.Fatalf("X-Hikyaku headers left in %q", raw)
		}
		if n := bytes.Count(raw, []byte("\n")); n != bytes.Count(raw, []byte("\r\n")) || n != bytes.Count(raw, []byte("\r")) {
			t.Fatalf("line ends in %q", raw)
		}
		if !visibleOrEmpty(sub.Message.Job) || len(sub.Message.Tags) > 16 || len(sub.Message.Metadata) > 16<<10 {
			t.Fatalf("out of bounds: %+v", sub.Message)
		}
	})
}

func visibleOrEmpty(s string) bool { return s == "" || visible([]byte(s), 128) }
