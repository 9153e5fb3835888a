package smtp

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hikyaku/spool/message"
)

func replyOf(t testing.TB, in string) *RemoteReply {
	t.Helper()
	var r ReplyReader
	var rep RemoteReply
	r.Reset(strings.NewReader(in))
	if err := r.Read(&rep); err != nil {
		t.Fatal(err)
	}
	return &rep
}

func TestCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     Capabilities
	}{
		{"none", "250 mx\r\n", Capabilities{}},
		{"the greeting is no keyword", "250-PIPELINING\r\n250 DSN\r\n", Capabilities{DSN: true}},
		{"all", "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250-BINARYMIME\r\n" +
			"250-STARTTLS\r\n250-SIZE 35882577\r\n250-AUTH PLAIN LOGIN XOAUTH2\r\n250-LIMITS RCPTMAX=100 MAILMAX=20\r\n250 ENHANCEDSTATUSCODES\r\n",
			Capabilities{Pipelining: true, EightBitMIME: true, SMTPUTF8: true, DSN: true, Chunking: true, BinaryMIME: true, StartTLS: true,
				Size: true, MaxSize: 35882577, AuthPlain: true, AuthLogin: true, RcptMax: 100, MailMax: 20}},
		{"any case, spaces", "250-mx\r\n250-pipelining \r\n250- Size  1000 \r\n250 auth login\r\n", Capabilities{Pipelining: true, Size: true, MaxSize: 1000, AuthLogin: true}},
		{"old AUTH form", "250-mx\r\n250 AUTH=PLAIN LOGIN\r\n", Capabilities{AuthPlain: true, AuthLogin: true}},
		{"no bound on size", "250-mx\r\n250-SIZE\r\n250 SIZE 0\r\n", Capabilities{Size: true}},
		{"unreadable parameters", "250-mx\r\n250-SIZE many\r\n250-SIZE -5\r\n250-SIZE 99999999999999999999\r\n250 LIMITS RCPTMAX=x MAILMAX=0 RCPTMAX RCPTMAX=99999999999\r\n", Capabilities{Size: true}},
		{"longer words", "250-mx\r\n250-PIPELININGX\r\n250-XDSN\r\n250 AUTHPLAIN\r\n", Capabilities{}},
	} {
		if d := cmp.Diff(tc.want, ParseCapabilities(replyOf(t, tc.in))); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

func FuzzCapabilities(f *testing.F) {
	f.Add([]byte("250-mx\r\n250-SIZE 10\r\n250-AUTH=PLAIN\r\n250 LIMITS RCPTMAX=3\r\n"))
	f.Add([]byte("250-\r\n250-AUTH=\r\n250 =\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r ReplyReader
		var rep RemoteReply
		r.Reset(bytes.NewReader(in))
		if r.Read(&rep) != nil {
			return
		}
		c := ParseCapabilities(&rep)
		if c.MaxSize < 0 || c.RcptMax < 0 || c.RcptMax >= 1<<20 || c.MailMax < 0 || (c.MaxSize > 0 && !c.Size) {
			t.Fatalf("%+v", c)
		}
	})
}

func TestMailCommands(t *testing.T) {
	for _, tc := range []struct {
		sender string
		p      MailParams
		want   string
	}{
		{"", MailParams{Size: -1}, "MAIL FROM:<>"},
		{"a@b.example", MailParams{Size: 0}, "MAIL FROM:<a@b.example> SIZE=0"},
		{"a@b.example", MailParams{Size: 12, SendBody: true, Body: message.Body8BitMIME}, "MAIL FROM:<a@b.example> SIZE=12 BODY=8BITMIME"},
		{"a@b.example", MailParams{Size: -1, SendBody: true}, "MAIL FROM:<a@b.example> BODY=7BIT"},
		{"a@b.example", MailParams{Size: -1, SendBody: true, Body: message.BodyBinaryMIME, SMTPUTF8: true}, "MAIL FROM:<a@b.example> BODY=BINARYMIME SMTPUTF8"},
		{"a@b.example", MailParams{Size: -1, Return: message.ReturnFull, EnvID: "a b+c=d\x00é"}, "MAIL FROM:<a@b.example> RET=FULL ENVID=a+20b+2Bc+3Dd+00+C3+A9"},
		{"a@b.example", MailParams{Size: -1, Return: message.ReturnHeaders}, "MAIL FROM:<a@b.example> RET=HDRS"},
		{"a@例え.jp", MailParams{Size: -1}, "MAIL FROM:<a@xn--r8jz45g.jp>"},
	} {
		got, err := AppendMail([]byte("x"), tc.sender, tc.p)
		if err != nil || string(got) != "x"+tc.want+"\r\n" {
			t.Errorf("got %q, %v, want %q", got, err, tc.want)
		}
	}
}

func TestRcptCommands(t *testing.T) {
	for _, tc := range []struct {
		p    RcptParams
		want string
	}{
		{RcptParams{}, "RCPT TO:<a@b.example>"},
		{RcptParams{Notify: message.NotifyNever | message.NotifyDelay}, "RCPT TO:<a@b.example> NOTIFY=NEVER"},
		{RcptParams{Notify: message.NotifySuccess | message.NotifyFailure | message.NotifyDelay}, "RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE,DELAY"},
		{RcptParams{ORcpt: "rfc822;a+2Bb@c"}, "RCPT TO:<a@b.example> ORCPT=rfc822;a+2Bb@c"},
		{RcptParams{ORcpt: "rfc822;a b"}, "RCPT TO:<a@b.example>"},
		{RcptParams{ORcpt: "rfc822;a\r\nDATA"}, "RCPT TO:<a@b.example>"},
		{RcptParams{ORcpt: "rfc822;a=b"}, "RCPT TO:<a@b.example>"},
		{RcptParams{ORcpt: ";x"}, "RCPT TO:<a@b.example>"},
		{RcptParams{ORcpt: "none"}, "RCPT TO:<a@b.example>"},
		{RcptParams{ORcpt: "rfc822;" + strings.Repeat("x", 500)}, "RCPT TO:<a@b.example>"},
	} {
		got, err := AppendRcpt(nil, "a@b.example", false, tc.p)
		if err != nil || string(got) != tc.want+"\r\n" {
			t.Errorf("got %q, %v, want %q", got, err, tc.want)
		}
	}
}

func TestAddressesOnTheWire(t *testing.T) {
	for _, tc := range []struct {
		in    string
		plain string // what is sent without SMTPUTF8, "" when refused
		utf8  string // and with it
	}{
		{"a@b.example", "a@b.example", "a@b.example"},
		{"a.b+c=d/e@b.example", "a.b+c=d/e@b.example", "a.b+c=d/e@b.example"},
		{"abc..def.@docomo.ne.jp", "abc..def.@docomo.ne.jp", "abc..def.@docomo.ne.jp"},
		{`"a b"@c.example`, `"a b"@c.example`, `"a b"@c.example`},
		{`"a\"b\\"@c.example`, `"a\"b\\"@c.example`, `"a\"b\\"@c.example`},
		{`"a@b"@c.example`, `"a@b"@c.example`, `"a@b"@c.example`},
		{"a@[192.0.2.1]", "a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a@例え.jp", "a@xn--r8jz45g.jp", "a@xn--r8jz45g.jp"},
		{"用户@b.example", "", "用户@b.example"},
		{"用户@例え.jp", "", "用户@xn--r8jz45g.jp"},
		{"", "", ""},
		{"@", "", ""},
		{"a", "", ""},
		{"a@", "", ""},
		{"@b", "", ""},
		{"a@b@c", "", ""},
		{"a b@c", "", ""},
		{"a>b@c", "", ""},
		{"<a@c", "", ""},
		{"a@b>", "", ""},
		{"a@b c", "", ""},
		{"a@b\r\nDATA", "", ""},
		{"a\r\n@b", "", ""},
		{"a\x00@b", "", ""},
		{"a@b\x00", "", ""},
		{`"a"b@c`, "", ""},
		{`"a@c`, "", ""},
		{"\"a\r\n\"@c", "", ""},
		{"\"a\x00\"@c", "", ""},
		{`"a\` + "\n" + `"@c`, "", ""},
		{"a@b..c", "", ""},
		{"a@[1.2.3]", "", ""},
		{"a@[192.0.2.1", "", ""},
		{"a@" + strings.Repeat("x", 64) + ".example", "", ""},
		{strings.Repeat("x", 600) + "@b.example", "", ""},
		{"\xff@b.example", "", ""},
		{"a\u0085b@b.example", "", ""},
		{"a@\u2028.jp", "", ""},
	} {
		for _, wide := range []bool{false, true} {
			want := tc.plain
			if wide {
				want = tc.utf8
			}
			got, err := AppendRcpt([]byte("x"), tc.in, wide, RcptParams{})
			if want == "" {
				var bad *AddressError
				if !errors.As(err, &bad) || string(got) != "x" || CheckAddress(tc.in, wide) == nil {
					t.Errorf("%q was sent as %q (%v)", tc.in, got, err)
				} else if bad.UTF8 != (!wide && tc.utf8 != "") {
					t.Errorf("%q: UTF8 is %v", tc.in, bad.UTF8)
				}
				continue
			}
			if err != nil || string(got) != "xRCPT TO:<"+want+">\r\n" || CheckAddress(tc.in, wide) != nil {
				t.Errorf("%q (utf8 %v): got %q, %v, want %q", tc.in, wide, got, err, want)
			}
		}
	}
}

// FuzzCommands: whatever the addresses and parameters, one command is one line,
// and what our own server reads in it is what was put in.
func FuzzCommands(f *testing.F) {
	f.Add("a@b.example", "env", "rfc822;a@b", uint8(3), true)
	f.Add(`"x> NOTIFY=NEVER"@e.f`, "a b", "rfc822;a+20b", uint8(1), false)
	f.Add("用户@例え.jp", "", "", uint8(0), true)
	f.Fuzz(func(t *testing.T, address, envid, orcpt string, notify uint8, wide bool) {
		line, err := AppendRcpt(nil, address, wide, RcptParams{Notify: message.Notify(notify & 15), ORcpt: orcpt})
		if (err == nil) != (CheckAddress(address, wide) == nil) {
			t.Fatalf("CheckAddress and AppendRcpt do not agree on %q", address)
		}
		if err == nil {
			checkOneLine(t, line, "RCPT TO:")
			path, _, bad := ParseForwardPath(line[len("RCPT ") : len(line)-2])
			if len(address) <= MaxLocal && bad != nil {
				t.Fatalf("our server does not take %q: %v", line, bad)
			}
			if bad == nil && !path.NonASCII && isPlain(address) && string(path.Address) != address {
				t.Fatalf("%q was read as %q", address, path.Address)
			}
		}
		if line, err = AppendMail(nil, address, MailParams{Size: len(envid), EnvID: envid, SMTPUTF8: wide}); err == nil {
			checkOneLine(t, line, "MAIL FROM:")
		}
		if line, err = AppendHello(nil, "EHLO", address); err == nil {
			checkOneLine(t, line, "EHLO ")
		}
	})
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func checkOneLine(t *testing.T, line []byte, prefix string) {
	t.Helper()
	body, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(body, "\r\n\x00") || !bytes.HasPrefix(body, []byte(prefix)) {
		t.Fatalf("not one line: %q", line)
	}
}

func TestOtherCommands(t *testing.T) {
	if got := string(AppendBDAT(nil, 86)); got != "BDAT 86 LAST\r\n" {
		t.Error(got)
	}
	// RFC 4616's example.
	if got := string(AppendAuthPlain(nil, "tim", "tanstaaftanstaaf")); got != "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n" {
		t.Error(got)
	}
	if got := string(AppendAuthAnswer(nil, "tim")); got != "dGlt\r\n" {
		t.Error(got)
	}
	for name, ok := range map[string]bool{"out.example": true, "[192.0.2.1]": true, "[IPv6:::1]": true, "": false, "a b": false, "a\r\nQUIT": false, "[x]": false, "例え": false} {
		if _, err := AppendHello(nil, "EHLO", name); (err == nil) != ok {
			t.Errorf("EHLO %q: %v", name, err)
		}
	}
}

func TestContentFacts(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want ContentFacts
	}{
		{"", ContentFacts{Ended: true}},
		{"a\r\n", ContentFacts{Size: 3, Ended: true}},
		{"a", ContentFacts{Size: 1}},
		{".a\r\n", ContentFacts{Size: 4, Dots: true, Ended: true}},
		{"a\r\n.", ContentFacts{Size: 4, Dots: true}},
		{"a.\r\nb.\r\n", ContentFacts{Size: 8, Ended: true}},
		{"01234567é\r\n", ContentFacts{Size: 12, EightBit: true, Ended: true}},
		{"a\nb\r\n", ContentFacts{Size: 5, Ended: true, Unsafe: "a bare LF"}},
		{"a\rb\r\n", ContentFacts{Size: 5, Ended: true, Unsafe: "a bare CR"}},
		{"a\r\r\n", ContentFacts{Size: 4, Ended: true, Unsafe: "a bare CR"}},
		{"a\r", ContentFacts{Size: 2, Unsafe: "a bare CR"}},
		{"\n", ContentFacts{Size: 1, Ended: true, Unsafe: "a bare LF"}},
		{"a\x00\r\n", ContentFacts{Size: 4, Ended: true, Unsafe: "a NUL byte"}},
	} {
		for cut := range len(tc.in) + 1 {
			pieces := [][]byte{[]byte(tc.in[:cut]), nil, []byte(tc.in[cut:])}
			if got := ScanContent(pieces); got != tc.want {
				t.Errorf("%q cut at %d: got %+v, want %+v", tc.in, cut, got, tc.want)
			}
		}
	}
}

func TestHeaderIsASCII(t *testing.T) {
	for in, want := range map[string]bool{
		"": true, "A: b\r\n\r\né": true, "A: é\r\n\r\n": false, "\r\né": true, "A: b\r\n é\r\n\r\n": false, "A: b\r\n": true,
	} {
		for cut := range len(in) + 1 {
			if got := HeaderIsASCII([][]byte{[]byte(in[:cut]), []byte(in[cut:])}); got != want {
				t.Errorf("%q cut at %d: %v", in, cut, got)
			}
		}
	}
}

// FuzzStuffing: our own server reads back what was stuffed, one message and
// all of it, wherever the content is cut.
func FuzzStuffing(f *testing.F) {
	for _, s := range []string{"", "a\r\n", ".\r\n", "a\r\n.\r\nb", "..", "\r\n.\r\n", "a\r\n..\r\n"} {
		f.Add([]byte(s), uint(3), uint(1))
	}
	f.Add([]byte("\x000\n"), uint(2), uint(0))
	f.Fuzz(func(t *testing.T, in []byte, cut1, cut2 uint) {
		a := int(cut1 % uint(len(in)+1))
		b := a + int(cut2%uint(len(in)-a+1))
		pieces := [][]byte{in[:a], in[a:b], in[b:]}
		facts := ScanContent(pieces)
		if facts != ScanContent([][]byte{in}) {
			t.Fatal("facts depend on the cut")
		}
		if facts.Unsafe != "" {
			return
		}
		var wire []byte
		for p := range Stuffed(pieces) {
			wire = append(wire, p...)
		}
		if !facts.Dots && !bytes.Equal(wire, in) {
			t.Fatal("content without dots was changed")
		}
		want := bytes.Clone(in)
		if !facts.Ended {
			wire, want = append(wire, "\r\n"...), append(want, "\r\n"...)
		}
		wire = append(wire, ".\r\n"...)
		if i := bytes.Index(append([]byte("\r\n"), wire...), []byte("\r\n.\r\n")); i != len(wire)-3 {
			t.Fatalf("the end of data is at %d of %d", i, len(wire))
		}
		var got []byte
		for line := range bytes.Lines(wire[:len(wire)-3]) {
			got = append(got, bytes.TrimPrefix(line, []byte("."))...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read back %q, want %q", got, want)
		}
	})
}

// TestHas8BitSeesEveryPlace: it looks at many bytes at once, and must see one
// wherever it stands, at every length.
func TestHas8BitSeesEveryPlace(t *testing.T) {
	for n := range 150 {
		p := bytes.Repeat([]byte{0x7f}, n)
		if Has8Bit(p) {
			t.Fatalf("%d bytes of ASCII have a high bit", n)
		}
		for i := range p {
			if p[i] = 0x80; !Has8Bit(p) {
				t.Fatalf("not seen: place %d of %d", i, n)
			}
			p[i] = 0x7f
		}
	}
}
