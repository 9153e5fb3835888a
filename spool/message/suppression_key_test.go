package message_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"hikyaku/spool/message"
)

func TestSuppressionKey(t *testing.T) {
	for address, want := range map[string]string{
		"a@example.com":           "a@example.com",
		"A.B@Example.COM.":        "a.b@example.com",
		`"a..b"@docomo.ne.jp`:     "a..b@docomo.ne.jp",
		"a..b@DOCOMO.ne.jp":       "a..b@docomo.ne.jp",
		`".a."@ezweb.ne.jp`:       ".a.@ezweb.ne.jp",
		`"a\b\\c"@x.jp`:           `ab\c@x.jp`,
		`"a b"@x.jp`:              "a b@x.jp",
		`"a@b"@x.jp`:              "a@b@x.jp",
		`""@x.jp`:                 "@x.jp",
		"a+tag@gmail.com":         "a+tag@gmail.com", // one provider's habit is no rule
		"ä.B@bücher.example":      "ä.b@xn--bcher-kva.example",
		"Ä@BÜCHER.example":        "Ä@xn--bcher-kva.example", // no folding beyond ASCII before the @
		"a@xn--bcher-kva.example": "a@xn--bcher-kva.example",
		"利用者@日本語.jp":              "利用者@xn--wgv71a119e.jp",
		"a@[192.0.2.1]":           "a@[192.0.2.1]",
		"a@[IPv6:2001:DB8::1]":    "a@[ipv6:2001:db8::1]",
		"postmaster":              "postmaster",
		"":                        "",
		`"`:                       `"`,
		`"a`:                      `"a`,
		"@":                       "@",
	} {
		if got := message.SuppressionKey(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	if got := message.SuppressionKeyAt(`"A..b"@ＤＯＣＯＭＯ.ne.jp`, "docomo.ne.jp"); got != "a..b@docomo.ne.jp" {
		t.Errorf("with the destination: %q", got)
	}
}

// TestSuppressionKeyTellsMailboxesApart is the property: two spellings of one
// mailbox share a key, two mailboxes do not.
func TestSuppressionKeyTellsMailboxesApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	letters := []rune(`ab..-_ "\@<>é日`)
	mailboxes := map[string]string{}
	for range 20_000 {
		local := make([]rune, 1+rng.IntN(5))
		for i := range local {
			local[i] = letters[rng.IntN(len(letters))]
		}
		var quoted strings.Builder
		quoted.WriteByte('"')
		for _, r := range local {
			if r == '"' || r == '\\' || r < 0x80 && rng.IntN(3) == 0 {
				quoted.WriteByte('\\')
			}
			quoted.WriteRune(r)
		}
		quoted.WriteByte('"')
		key := message.SuppressionKey(quoted.String() + "@Docomo.ne.jp")
		if want := string(local) + "@docomo.ne.jp"; key != want {
			t.Fatalf("%s: %q, want %q", &quoted, key, want)
		}
		if other, taken := mailboxes[key]; taken && other != string(local) {
			t.Fatalf("%q and %q share %q", other, string(local), key)
		}
		mailboxes[key] = string(local)
		if !strings.ContainsAny(string(local), `"\@<> `) && message.SuppressionKey(string(local)+"@docomo.NE.jp") != key {
			t.Fatalf("%q has two keys", string(local))
		}
	}
}

func TestSuppressionKeyOfDomainsIsThatOfIDNA(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	letters := []rune("abz09-éüñßдпр日本語ひらカタ한국اب")
	for range 5000 {
		label := make([]rune, 1+rng.IntN(12))
		for i := range label {
			label[i] = letters[rng.IntN(len(letters))]
		}
		want, err := idna.Punycode.ToASCII(string(label))
		if err != nil {
			continue
		}
		if got := message.SuppressionKey("x@" + string(label) + ".jp"); got != "x@"+want+".jp" {
			t.Fatalf("%s: %s, want %s", string(label), got, want)
		}
	}
}

func TestSuppressionKeyOfUsualAddressesCostsLittle(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = message.SuppressionKey("someone@example.com") }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSuppressionKey(f *testing.F) {
	for _, s := range []string{"a@b", `"a..b"@docomo.ne.jp`, `"\"@x`, "a@日本.jp", "a@\xff\xfe", "@@", `"""@`, "a@" + strings.Repeat("é", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		key := message.SuppressionKey(address)
		if len(address) > 0 && len(key) > 16*len(address)+8 {
			t.Fatalf("%d bytes of %d", len(key), len(address))
		}
		// Whoever looks a key up may be handed it in another case.
		if again := message.SuppressionKey(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r - 'a' + 'A'
			}
			return r
		}, address)); !strings.ContainsFunc(address, func(r rune) bool { return r >= 0x80 }) && again != key {
			t.Fatalf("%q and %q of one address", again, key)
		}
	})
}
