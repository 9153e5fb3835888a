package smtp

import (
	"strings"
	"testing"

	"hikyaku/spool/message"
)

func TestOddLocal(t *testing.T) {
	for address, quoted := range map[string]string{
		"abc..def@docomo.ne.jp":   `"abc..def"@docomo.ne.jp`,
		"abc.@ezweb.ne.jp":        `"abc."@ezweb.ne.jp`,
		".abc@ezweb.ne.jp":        `".abc"@ezweb.ne.jp`,
		".@x.jp":                  `"."@x.jp`,
		"日..本@x.jp":               `"日..本"@x.jp`,
		"a..b@[192.0.2.1]":        `"a..b"@[192.0.2.1]`,
		"-abc@docomo.ne.jp":       "",
		"a.b.c@docomo.ne.jp":      "",
		`"abc..def"@docomo.ne.jp`: "",
		`"a.@b"@docomo.ne.jp`:     "",
		"postmaster":              "",
		"":                        "",
	} {
		want := quoted
		if quoted == "" {
			want = address
		}
		if OddLocal(address) != (quoted != "") || QuoteOdd(address) != want {
			t.Errorf("%s: %t, %s", address, OddLocal(address), QuoteOdd(address))
		}
	}
}

func TestRcptQuotesOddLocalParts(t *testing.T) {
	for _, tt := range []struct {
		address string
		quote   bool
		want    string
	}{
		{"a..b@docomo.ne.jp", true, `RCPT TO:<"a..b"@docomo.ne.jp>`},
		{"a..b@docomo.ne.jp", false, "RCPT TO:<a..b@docomo.ne.jp>"},
		{`"a..b"@docomo.ne.jp`, true, `RCPT TO:<"a..b"@docomo.ne.jp>`},
		{`"a..b"@docomo.ne.jp`, false, `RCPT TO:<"a..b"@docomo.ne.jp>`},
		{"a.b@docomo.ne.jp", true, "RCPT TO:<a.b@docomo.ne.jp>"},
		{"a..b@例え.jp", true, `RCPT TO:<"a..b"@xn--r8jz45g.jp>`},
	} {
		got, err := AppendRcpt(nil, tt.address, false, RcptParams{QuoteOdd: tt.quote})
		if err != nil || string(got) != tt.want+"\r\n" {
			t.Errorf("%s: %q, %v", tt.address, got, err)
		}
	}
	for _, bad := range []string{`a"..b@x.jp`, "a..\r\nb@x.jp", "a..b >@x.jp", "a..\x00@x.jp", `a..\b@x.jp`, "..>@x.jp"} {
		if got, err := AppendRcpt(nil, bad, true, RcptParams{QuoteOdd: true}); err == nil {
			t.Errorf("%q goes out as %q", bad, got)
		}
	}
}

// FuzzQuoteOdd: whatever the grammar lets through is the same mailbox in quotes,
// and the quotes let nothing out.
func FuzzQuoteOdd(f *testing.F) {
	for _, s := range []string{"a..b@docomo.ne.jp", ".@x", `"a..b"@x.jp`, `a"..@x.jp`, "..> X@y", "a..\r\n@b.c", `..\"@b.c`, "日..@例え.jp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		p, bad := ParseMailbox([]byte(address))
		if bad != nil {
			return
		}
		quoted := QuoteOdd(address)
		if OddLocal(quoted) || strings.Count(quoted, "@") != strings.Count(address, "@") {
			t.Fatalf("%q is %q in quotes", address, quoted)
		}
		q, n, fault := parseMailbox([]byte(quoted))
		if fault != wellFormed && p.At+2 <= MaxLocal || fault == wellFormed && (n != len(quoted) || string(q.Domain()) != string(p.Domain())) {
			t.Fatalf("%q does not parse as one mailbox", quoted)
		}
		if message.SuppressionKey(quoted) != message.SuppressionKey(address) {
			t.Fatalf("%q and %q have two keys", quoted, address)
		}
	})
}
