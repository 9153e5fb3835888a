package ingest

import (
	"strings"
	"testing"

	"hikyaku/node/smtp"
)

// TestOddLocalPartsOnlyWhereTheyExist: docomo.test is known to have such mailboxes.
func TestOddLocalPartsOnlyWhereTheyExist(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"abc..def@docomo.test", "250"},
		{"abc.@docomo.test", "250"},
		{".abc@DOCOMO.test", "250"},
		{"-abc@docomo.test", "250"},
		{`"abc..def"@docomo.test`, "250"},
		{"abc..def@dest.test", "501"},
		{"abc.@dest.test", "501"},
		{".abc@dest.test", "501"},
		{"abc..def@x.docomo.test", "501"},
		{"abc..def@[192.0.2.1]", "501"},
		{"-abc@dest.test", "250"}, // the RFC allows it, whatever others say
		{`"abc..def"@dest.test`, "250"},
		{`"abc."@dest.test`, "250"},
		{"a.b.c@dest.test", "250"},
	} {
		s := newTestServer(t, nil)
		c := s.talk("EHLO c.test\r\n", "MAIL FROM:<a@acme.test>\r\n", "RCPT TO:<"+tt.address+">\r\n", "DATA\r\n", "Subject: x\r\n\r\nx\r\n.\r\n")
		reply := string(c.said[3])
		if !strings.HasPrefix(reply, tt.want) {
			t.Errorf("%s: %q, want %s", tt.address, reply, tt.want)
			continue
		}
		if tt.want != "250" {
			if !strings.Contains(reply, "5.1.3") || !strings.Contains(reply, "dots") {
				t.Errorf("%s: %q does not say what is wrong", tt.address, reply)
			}
			continue
		}
		if subs := s.store.taken(); len(subs) != 1 || subs[0].Recipients[0].Address != tt.address {
			t.Errorf("%s was not kept as it came: %+v", tt.address, subs)
		}
	}
}

// FuzzOddRecipient hands any recipient to a listener that takes odd local parts:
// what is accepted can be sent, in quotes, as one command that means one mailbox.
func FuzzOddRecipient(f *testing.F) {
	for _, s := range []string{
		"abc..def", ".abc", "abc.", `"abc..def"`, `"a\"b"`, `a"b`, "a b", "a\rb", "a\nDATA", "a\x00b", "a>b", "<a", `a\b`, "a> SIZE=1", `..@x.test> NOTIFY=NEVER <`, "日..本", "a\u0085.",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	s := newTestServer(f, fuzzListener(LinesReject))
	f.Fuzz(func(t *testing.T, local string, quote bool) {
		s.store.mu.subs = nil
		s.talkFrom("203.0.113.1", "EHLO c.test\r\n", "MAIL FROM:<a@acme.test> SMTPUTF8\r\n", "RCPT TO:<"+local+"@docomo.test>\r\n", "DATA\r\n", "Subject: x\r\n\r\nx\r\n.\r\n")
		for _, sub := range s.store.taken() {
			for _, r := range sub.Recipients {
				line, err := smtp.AppendRcpt(nil, r.Address, true, smtp.RcptParams{QuoteOdd: quote})
				if err != nil {
					t.Fatalf("%q was taken and cannot be sent: %v", r.Address, err)
				}
				checkOneRcpt(t, string(line), r.Address)
			}
		}
	})
}

// checkOneRcpt makes sure that a line is one RCPT without parameters, for the
// mailbox of the address.
func checkOneRcpt(t *testing.T, line, address string) {
	t.Helper()
	arg, ok := strings.CutPrefix(line, "RCPT ")
	arg, end := strings.CutSuffix(arg, "\r\n")
	if !ok || !end || strings.ContainsAny(arg, "\r\n\x00") {
		t.Fatalf("not one command: %q", line)
	}
	path, rest, bad := smtp.ParseForwardPath([]byte(arg))
	if bad != nil || len(rest) > 0 {
		t.Fatalf("%q: %v, %q follows", line, bad, rest)
	}
	if got := string(path.Address); got != address && got != smtp.QuoteOdd(address) {
		t.Fatalf("%q became %q", address, got)
	}
}
