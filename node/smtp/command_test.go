package smtp

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hikyaku/spool/message"
)

func TestParseCommand(t *testing.T) {
	for _, tt := range []struct {
		line string
		verb Verb
		arg  string
		err  *SyntaxError
	}{
		{"EHLO example.com", VerbEHLO, "example.com", nil},
		{"mail FROM:<>  ", VerbMAIL, "FROM:<>", nil},
		{"StartTLS", VerbSTARTTLS, "", nil},
		{"XCLIENT  ADDR=1", VerbXCLIENT, "ADDR=1", nil},
		{"DATAx", VerbUnknown, "", nil},
		{"DATA\x00", 0, "", ErrControl},
		{"DATA\r", 0, "", ErrControl},
		{"DATA\t", 0, "", ErrControl},
		{"NOOP \x7f", 0, "", ErrControl},
		{"NOOP \xff", 0, "", ErrUTF8},
		{"NOOP \u2028", 0, "", ErrUTF8},
		{"NOOP \u0085", 0, "", ErrUTF8},
		{"NOOP é", VerbNOOP, "é", nil},
		{"", VerbUnknown, "", nil},
		{" NOOP", VerbUnknown, "NOOP", nil},
		{"get / HTTP/1.1", VerbForeign, "/ HTTP/1.1", nil},
		{"Host: x", VerbForeign, "x", nil},
		{"PROXY TCP4", VerbForeign, "TCP4", nil},
	} {
		c, err := ParseCommand([]byte(tt.line))
		if err != tt.err || c.Verb != tt.verb || string(c.Arg) != tt.arg {
			t.Errorf("%q: %v %q %v", tt.line, c.Verb, c.Arg, err)
		}
	}
}

func TestPaths(t *testing.T) {
	long := strings.Repeat("a", 64)
	label := strings.Repeat("d", 63)
	for _, tt := range []struct {
		arg, address, rest string
		err                *SyntaxError
	}{
		{"TO:<a@b.test>", "a@b.test", "", nil},
		{"to: <a@b.test> NOTIFY=NEVER", "a@b.test", "NOTIFY=NEVER", nil},
		{"TO:<postmaster>", "postmaster", "", nil},
		{"TO:<PostMaster> X=1", "PostMaster", "X=1", nil},
		{"TO:<@relay.test,@other.test:a@b.test>", "a@b.test", "", nil},
		{`TO:<"a b"@b.test>`, `"a b"@b.test`, "", nil},
		{`TO:<"x> NOTIFY=NEVER RCPT TO:<y"@e.test>`, `"x> NOTIFY=NEVER RCPT TO:<y"@e.test`, "", nil},
		{`TO:<"a\"b\\"@b.test>`, `"a\"b\\"@b.test`, "", nil},
		{`TO:<""@b.test>`, `""@b.test`, "", nil},
		{"TO:<a@[192.0.2.1]>", "a@[192.0.2.1]", "", nil},
		{"TO:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "", nil},
		{"TO:<abc..def@docomo.ne.jp>", "abc..def@docomo.ne.jp", "", nil},
		{"TO:<.abc@docomo.ne.jp>", ".abc@docomo.ne.jp", "", nil},
		{"TO:<abc.@ezweb.ne.jp>", "abc.@ezweb.ne.jp", "", nil},
		{"TO:<-abc@ezweb.ne.jp>", "-abc@ezweb.ne.jp", "", nil},
		{"TO:<a+b=c/d@b.test>", "a+b=c/d@b.test", "", nil},
		{"TO:<用户@例え.test>", "用户@例え.test", "", nil},
		{"TO:<a@localhost>", "a@localhost", "", nil},
		{"TO:<a@under_score.test>", "a@under_score.test", "", nil},
		{"TO:<" + long + "@b.test>", long + "@b.test", "", nil},
		{"TO:<a" + long + "@b.test>", "", "", errRcptLong},
		{"TO:<a@" + label + ".test>", "a@" + label + ".test", "", nil},
		{"TO:<a@d" + label + ".test>", "", "", errRecipient},
		{"TO:<a@" + strings.Repeat("abcdefg.", 32) + "test>", "", "", errRcptLong},
		{"TO:<" + long + "@" + strings.Repeat("abcdefg.", 25) + "test>", "", "", errRcptLong},
		{"TO:<>", "", "", errRecipient},
		{"TO:<a>", "", "", errRecipient},
		{"TO:<@b.test>", "", "", errRecipient},
		{"TO:<a@>", "", "", errRecipient},
		{"TO:<a@b..test>", "", "", errRecipient},
		{"TO:<a@b.test.>", "", "", errRecipient},
		{"TO:<a@.b.test>", "", "", errRecipient},
		{"TO:<a@-b.test>", "", "", errRecipient},
		{"TO:<a@b-.test>", "", "", errRecipient},
		{"TO:<a@b@c.test>", "", "", errRecipient},
		{"TO:<a b@c.test>", "", "", errRecipient},
		{"TO:<a@b.test", "", "", errRecipient},
		{"TO:<a@b.test>>", "", "", errRecipient},
		{"TO:<a@b.test>NOTIFY=NEVER", "", "", errRecipient},
		{"TO:a@b.test", "", "", errRecipient},
		{`TO:<"a@b.test>`, "", "", errRecipient},
		{`TO:<"a"b@c.test>`, "", "", errRecipient},
		{`TO:<"a\`, "", "", errRecipient},
		{"TO:<a@[192.0.2.999]>", "", "", errRecipient},
		{"TO:<a@[2001:db8::1]>", "", "", errRecipient},
		{"TO:<a@[IPv6:192.0.2.1]>", "", "", errRecipient},
		{"TO:<a@[IPv6:fe80::1%eth0]>", "", "", errRecipient},
		{"TO:<a@[x400:y]>", "", "", errRecipient},
		{"TO:<a@[192.0.2.1>", "", "", errRecipient},
		{"TO:<@relay.test>", "", "", errRecipient},
		{"TO:<@relay.test:>", "", "", errRecipient},
		{"<a@b.test>", "", "", errTo},
		{"", "", "", errTo},
	} {
		p, rest, err := ParseForwardPath([]byte(tt.arg))
		if err != tt.err || string(p.Address) != tt.address || string(rest) != tt.rest {
			t.Errorf("%q: %q, rest %q, %v", tt.arg, p.Address, rest, err)
		}
		// The same as a reverse-path, but for what only one of them may be.
		if strings.HasPrefix(tt.arg, "TO:<") && !strings.HasPrefix(strings.ToUpper(tt.arg), "TO:<POST") && tt.arg != "TO:<>" {
			q, _, qerr := ParseReversePath([]byte("FROM:" + tt.arg[3:]))
			if (qerr == nil) != (err == nil) || string(q.Address) != string(p.Address) {
				t.Errorf("%q as reverse-path: %q, %v", tt.arg, q.Address, qerr)
			}
		}
	}
	for arg, rest := range map[string]string{"FROM:<>": "", "from:<> SIZE=1": "SIZE=1"} {
		if p, r, err := ParseReversePath([]byte(arg)); err != nil || len(p.Address) != 0 || string(r) != rest {
			t.Errorf("%q: %q %q %v", arg, p.Address, r, err)
		}
	}
	for _, arg := range []string{"FROM:<>SIZE=1", "FROM:", "FROM:<postmaster>", "TO:<a@b.test>", "FROM"} {
		if _, _, err := ParseReversePath([]byte(arg)); err == nil {
			t.Errorf("%q is taken", arg)
		}
	}
}

func TestMailParameters(t *testing.T) {
	for _, tt := range []struct {
		params string
		err    *SyntaxError
		check  func(*MailArgs) bool
	}{
		{"", nil, func(m *MailArgs) bool { return *m == MailArgs{} }},
		{"SIZE=12345 BODY=8BITMIME  SMTPUTF8", nil, func(m *MailArgs) bool { return m.Size == 12345 && m.Body == message.Body8BitMIME && m.UTF8 }},
		{"body=7bit", nil, func(m *MailArgs) bool { return m.BodyGiven && m.Body == message.Body7Bit }},
		{"RET=FULL ENVID=a+2Bb+20c", nil, func(m *MailArgs) bool { return m.Return == message.ReturnFull && string(m.EnvID()) == "a+b c" }},
		{"RET=HDRS", nil, func(m *MailArgs) bool { return m.Return == message.ReturnHeaders }},
		{"AUTH=<>", nil, nil},
		{"AUTH=e+3Dmc2@example.com", nil, nil},
		{"MT-PRIORITY=-9", nil, func(m *MailArgs) bool { return m.PriorityGiven && m.Priority == -9 }},
		{"MT-PRIORITY=3", nil, func(m *MailArgs) bool { return m.Priority == 3 }},
		{"HOLDFOR=3600", nil, func(m *MailArgs) bool { return m.HoldFor == time.Hour }},
		{"HOLDUNTIL=2026-12-01T00:00:00Z", nil, func(m *MailArgs) bool { return m.HoldUntil.Year() == 2026 }},
		{"BODY=BINARYMIME", errBinary, nil},
		{"BODY=9BIT", errBody, nil},
		{"SIZE=", errParamSyntax, nil},
		{"SIZE", errSize, nil},
		{"SIZE=-1", errSize, nil},
		{"SIZE=1x", errSize, nil},
		{"SIZE=1234567890123456789", errSize, nil},
		{"SIZE=1 SIZE=1", errParamTwice, nil},
		{"HOLDFOR=1 HOLDUNTIL=2026-12-01T00:00:00Z", errParamTwice, nil},
		{"HOLDFOR=0", errHold, nil},
		{"HOLDFOR=9999999999", errHold, nil},
		{"HOLDUNTIL=tomorrow", errHold, nil},
		{"SMTPUTF8=1", errParamSyntax, nil},
		{"RET=SOME", errRet, nil},
		{"ENVID=+00", errEnvID, nil},
		{"ENVID=a+0D+0Ab", errEnvID, nil},
		{"ENVID=a+0ab", errEnvID, nil}, // lower-case digits are not xtext
		{"ENVID=+", errEnvID, nil},
		{"ENVID=" + strings.Repeat("x", 101), errEnvID, nil},
		{"MT-PRIORITY=10", errPriority, nil},
		{"MT-PRIORITY=+1", errPriority, nil},
		{"MT-PRIORITY=-0", errPriority, nil},
		{"NOTIFY=NEVER", errParamUnknown, nil},
		{"NONSENSE", errParamUnknown, nil},
		{"=x", errParamSyntax, nil},
		{"A=B=C", errParamSyntax, nil},
		{"-A=B", errParamSyntax, nil},
	} {
		var m MailArgs
		if err := m.Parse([]byte(tt.params)); err != tt.err {
			t.Errorf("%q: %v, want %v", tt.params, err, tt.err)
		} else if tt.check != nil && !tt.check(&m) {
			t.Errorf("%q: %+v", tt.params, m)
		}
	}
}

func TestRcptParameters(t *testing.T) {
	for _, tt := range []struct {
		params string
		err    *SyntaxError
		notify message.Notify
		orcpt  string
	}{
		{"NOTIFY=SUCCESS,failure,DELAY ORCPT=rfc822;a+2Bb@c.test", nil, message.NotifySuccess | message.NotifyFailure | message.NotifyDelay, "rfc822;a+2Bb@c.test"},
		{"NOTIFY=NEVER", nil, message.NotifyNever, ""},
		{"ORCPT=utf-8;用户@例え.test", nil, 0, "utf-8;用户@例え.test"},
		{"ORCPT=rfc822;用户@例え.test", errORcpt, 0, ""},
		{"NOTIFY=NEVER,SUCCESS", errNotify, 0, ""},
		{"NOTIFY=SUCCESS,SUCCESS", errNotify, 0, ""},
		{"NOTIFY=SUCCESS,", errNotify, 0, ""},
		{"NOTIFY", errNotify, 0, ""},
		{"ORCPT=a@b.test", errORcpt, 0, ""},
		{"ORCPT=rfc822;", errORcpt, 0, ""},
		{"ORCPT=;a", errORcpt, 0, ""},
		{"ORCPT=rfc822;a+00", errORcpt, 0, ""},
		{"ORCPT=rfc822;a+0A", errORcpt, 0, ""},
		{"ORCPT=rfc822;" + strings.Repeat("a", 500), errORcpt, 0, ""},
		{"NOTIFY=NEVER NOTIFY=NEVER", errParamTwice, 0, ""},
		{"SIZE=1", errParamUnknown, 0, ""},
	} {
		var r RcptArgs
		if err := r.Parse([]byte(tt.params)); err != tt.err {
			t.Errorf("%q: %v, want %v", tt.params, err, tt.err)
		} else if err == nil && (r.Notify != tt.notify || string(r.ORcpt) != tt.orcpt) {
			t.Errorf("%q: %+v", tt.params, r)
		}
	}
}

func TestParseBdat(t *testing.T) {
	for _, tt := range []struct {
		arg  string
		size int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true}, {"86", 86, false, true}, {"86 LAST", 86, true, true}, {"0  last", 0, true, true},
		{"999999999999999999", 999999999999999999, false, true},
		{"9999999999999999999", 0, false, false}, {"", 0, false, false}, {"LAST", 0, false, false}, {"-1", 0, false, false},
		{"1x", 0, false, false}, {"1 FIRST", 0, false, false}, {"1 LAST x", 0, false, false}, {"1LAST", 0, false, false},
	} {
		size, last, err := ParseBdat([]byte(tt.arg))
		if (err == nil) != tt.ok || size != tt.size || last != tt.last {
			t.Errorf("%q: %d %v %v", tt.arg, size, last, err)
		}
	}
}

func TestParsersDoNotAllocate(t *testing.T) {
	line := []byte(`RCPT TO:<"a b"@dest.test> NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb@dest.test`)
	mail := []byte("MAIL FROM:<a@acme.test> SIZE=4096 BODY=8BITMIME RET=HDRS ENVID=abc")
	var m MailArgs
	var r RcptArgs
	n := testing.AllocsPerRun(100, func() {
		c, _ := ParseCommand(line)
		_, rest, _ := ParseForwardPath(c.Arg)
		if r.Parse(rest) != nil {
			t.Fatal("refused")
		}
		c, _ = ParseCommand(mail)
		_, rest, _ = ParseReversePath(c.Arg)
		if m.Parse(rest) != nil {
			t.Fatal("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCommand(f *testing.F) {
	for _, line := range []string{
		"MAIL FROM:<a@b.test> SIZE=1 BODY=8BITMIME ENVID=+41 AUTH=<> MT-PRIORITY=-3 HOLDFOR=60",
		`RCPT TO:<"x> y"@b.test> NOTIFY=DELAY,SUCCESS ORCPT=utf-8;é@b.test`, "BDAT 10 LAST", "EHLO [IPv6:::1]", "GET / HTTP/1.1",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseCommand(line)
		if err != nil {
			return
		}
		if bytes.ContainsAny(line, "\r\n\x00\t") || !utf8.Valid(line) {
			t.Fatalf("%q is taken", line)
		}
		var m MailArgs
		if p, rest, err := ParseReversePath(c.Arg); err == nil {
			checkPath(t, p)
			if m.Parse(rest) == nil {
				for _, b := range m.EnvID() {
					if b < ' ' || b > '~' {
						t.Fatalf("ENVID %q", m.EnvID())
					}
				}
				if m.Size < 0 || m.HoldFor < 0 || m.Priority < -9 || m.Priority > 9 {
					t.Fatalf("%+v", m)
				}
			}
		}
		var r RcptArgs
		if p, rest, err := ParseForwardPath(c.Arg); err == nil {
			checkPath(t, p)
			if r.Parse(rest) == nil && len(r.ORcpt) > maxORcpt {
				t.Fatalf("ORCPT of %d bytes", len(r.ORcpt))
			}
		}
		if size, _, err := ParseBdat(c.Arg); err == nil && size < 0 {
			t.Fatal(size)
		}
		if name, err := ParseHello(c.Arg); err == nil && (bytes.ContainsAny(name, " ()<>\\\",;") || len(name) > MaxDomain) {
			t.Fatalf("EHLO %q", name)
		}
	})
}

// checkPath: what the grammar takes can be put between angle brackets again
// and is read as the same address with nothing behind it.
func checkPath(t *testing.T, p Path) {
	if len(p.Address) == 0 || p.At < 0 {
		return
	}
	again, rest, err := ParseForwardPath([]byte("TO:<" + string(p.Address) + ">"))
	if err != nil || string(again.Address) != string(p.Address) || len(rest) != 0 {
		t.Fatalf("%q reads as %q, rest %q, %v", p.Address, again.Address, rest, err)
	}
	if p.At > MaxLocal || len(p.Domain()) > MaxDomain || len(p.Address)+2 > MaxPath {
		t.Fatalf("%q is too long", p.Address)
	}
}

func FuzzPath(f *testing.F) {
	for _, a := range []string{"a@b.test", `"a\" b"@[192.0.2.1]`, "a..b.@docomo.ne.jp", "用户@例え.test", "a@[IPv6:::1]"} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseMailbox(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Address, b) || !utf8.Valid(b) {
			t.Fatalf("%q became %q", b, p.Address)
		}
		local, quoted := b[:p.At], b[0] == '"'
		if !quoted && bytes.ContainsAny(local, " <>()[]:;@\\,\"") {
			t.Fatalf("local part %q is not quoted", local)
		}
		if bytes.ContainsAny(p.Domain(), " <>()\\\"@;,") {
			t.Fatalf("domain %q", p.Domain())
		}
		checkPath(t, p)
	})
}
