package feedback_test

import (
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(b byte) []byte { return []byte(strings.Repeat(string(rune('A'+b)), feedback.KeyBytes)) }

func mustKeys(t testing.TB, current []byte, former ...[]byte) *feedback.Keys {
	t.Helper()
	k, err := feedback.NewKeys(current, former...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// subject is about a message that came in 36 hours before its tokens were made.
// Its id is always the same: what a fuzzer has found must be found again.
func subject(recipient string) *feedback.Subject {
	id, err := message.ParseID("01kjgrq000nxgpxe2r64529xs5")
	if err != nil || !id.Time().Equal(day.Add(-36*time.Hour)) {
		panic(fmt.Sprintf("BUG: the test's message id is of %v: %v", id.Time().UTC(), err))
	}
	return &feedback.Subject{Delivery: message.DeliveryID{Message: id, Index: 513}, Tenant: "acme", Stream: "news",
		Recipient: recipient, Issued: day}
}

func TestTokensGoBothWays(t *testing.T) {
	k := mustKeys(t, key(0))
	for _, p := range []feedback.Purpose{feedback.ReturnPath, feedback.Trace, feedback.Unsubscribe} {
		s := subject("Ann.Example@example.net")
		local := k.Seal(p, s)
		if len(local) != feedback.TokenLen || len(local) > 64 {
			t.Fatalf("%s has %d octets: RFC 5321 4.5.3.1.1 allows 64", local, len(local))
		}
		for _, form := range []string{local, strings.ToUpper(local)} {
			got, err := k.Open(form, day)
			if err != nil || got.Delivery != s.Delivery || got.Purpose != p || !got.Issued.Equal(day.Truncate(24*time.Hour)) {
				t.Fatalf("open %s: %+v, %v", form, got, err)
			}
			for address, want := range map[string]bool{"ann.example@EXAMPLE.net": true, `"ann.example"@example.net`: true, "ann.example@example.net.": true,
				"ann@example.net": false, "": false, "annexample@example.net": false} {
				if k.IsRecipient(got, address) != want {
					t.Errorf("recipient %q: want %v", address, want)
				}
			}
			if !k.IsTenant(got, "acme") || k.IsTenant(got, "acme2") || k.IsTenant(feedback.Token{}, "") || k.IsRecipient(feedback.Token{}, "a@example.net") {
				t.Error("tenants or empty tokens are mixed up")
			}
		}
	}
}

func TestLinksGoBothWays(t *testing.T) {
	k := mustKeys(t, key(0))
	s := subject("jürgen..x@example.jp")
	token := k.SealLink(s)
	got, err := k.OpenLink(token, day)
	want := *s
	want.Issued = day.Truncate(24 * time.Hour)
	if err != nil || got != want {
		t.Fatalf("open: %+v, %v; want %+v", got, err, want)
	}
	if strings.Contains(token, "jürgen") || token != k.SealLink(s) || token == k.SealLink(subject("b@example.jp")) {
		t.Error("a link's token shows its text, changes from attempt to attempt, or does not depend on it")
	}
	if long := k.SealLink(&feedback.Subject{Recipient: strings.Repeat("a", 400), Tenant: strings.Repeat("t", 255), Stream: strings.Repeat("s", 255)}); len(long) > feedback.MaxSealedLen || long == "" {
		t.Errorf("the longest token has %d letters, bound %d", len(long), feedback.MaxSealedLen)
	}
	if k.SealLink(&feedback.Subject{Recipient: strings.Repeat("a", 401)}) != "" {
		t.Error("a token for an address that cannot be")
	}
}

// TestForgedTokensOpenNot flips every bit, cuts at every length, changes the
// purpose and takes other keys.
func TestForgedTokensOpenNot(t *testing.T) {
	k := mustKeys(t, key(0))
	s := subject("ann@example.net")
	local := k.Seal(feedback.ReturnPath, s)
	enc := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	raw, err := enc.DecodeString(local[2:])
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if tok, err := k.Open("b-"+enc.EncodeToString(raw), day); err == nil {
			t.Fatalf("bit %d flipped: %+v", bit, tok)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(local) {
		if _, err := k.Open(local[:n], day); err == nil {
			t.Fatalf("cut to %d letters: opened", n)
		}
	}
	for _, other := range []string{"t" + local[1:], "u" + local[1:], "x" + local[1:], local + "a", "bb" + local[2:], local[:62] + flipLast(local[62])} {
		if _, err := k.Open(other, day); err == nil {
			t.Errorf("%s opened", other)
		}
	}
	if _, err := mustKeys(t, key(1)).Open(local, day); !errors.Is(err, feedback.ErrForged) {
		t.Errorf("another cluster's key: %v", err)
	}
}

// flipLast changes only the bit of the last letter that carries nothing.
func flipLast(c byte) string {
	const text = "abcdefghijklmnopqrstuvwxyz234567"
	return string(text[strings.IndexByte(text, c)^1])
}

func TestForgedLinksOpenNot(t *testing.T) {
	k := mustKeys(t, key(0))
	token := k.SealLink(subject("ann@example.net"))
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if s, err := k.OpenLink(base64.RawURLEncoding.EncodeToString(raw), day); err == nil || s.Recipient != "" {
			t.Fatalf("bit %d flipped: %+v, %v", bit, s, err)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(token) {
		if s, err := k.OpenLink(token[:n], day); err == nil || s.Recipient != "" {
			t.Fatalf("cut to %d letters: %+v", n, s)
		}
	}
	if _, err := mustKeys(t, key(1)).OpenLink(token, day); !errors.Is(err, feedback.ErrForged) {
		t.Errorf("another cluster's key: %v", err)
	}
}

func TestTokensEnd(t *testing.T) {
	k := mustKeys(t, key(0))
	s := subject("ann@example.net")
	local := k.Seal(feedback.ReturnPath, s)
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {29 * 24 * time.Hour, nil}, {32 * 24 * time.Hour, feedback.ErrExpired}, {-12 * time.Hour, nil}, {-72 * time.Hour, feedback.ErrExpired}} {
		if _, err := k.Open(local, day.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("%v later: %v, want %v", c.after, err, c.want)
		}
	}
}

func TestLinksEnd(t *testing.T) {
	k := mustKeys(t, key(0))
	s := subject("ann@example.net")
	link, local := k.SealLink(s), k.Seal(feedback.Unsubscribe, s)
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {179 * 24 * time.Hour, nil}, {182 * 24 * time.Hour, feedback.ErrExpired}, {-72 * time.Hour, feedback.ErrExpired}} {
		got, err := k.OpenLink(link, day.Add(c.after))
		if !errors.Is(err, c.want) || (err == nil) != (got.Recipient != "") {
			t.Errorf("link %v later: %+v, %v, want %v", c.after, got, err, c.want)
		}
		if _, err := k.Open(local, day.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("address %v later: %v, want %v", c.after, err, c.want)
		}
	}
}

// TestTokensKnowTheirSource: return paths and traces do, as far as policy still has
// it; what the recipient keeps is the same whichever source sends it.
func TestTokensKnowTheirSource(t *testing.T) {
	k := mustKeys(t, key(0))
	x := feedback.Sources([]string{"out-1", "out-2", "out-3"})
	for name, want := range map[string]string{"out-1": "out-1", "out-2": "out-2", "": "", "gone": ""} {
		s := subject("ann@example.net")
		s.Source = name
		for _, p := range []feedback.Purpose{feedback.ReturnPath, feedback.Trace} {
			tok, err := k.Open(k.Seal(p, s), day)
			if got := x.Of(tok); err != nil || got != want {
				t.Errorf("%c of %q: source %q, %v", p, name, got, err)
			}
		}
		if u := k.Seal(feedback.Unsubscribe, s); u != k.Seal(feedback.Unsubscribe, subject("ann@example.net")) || k.SealLink(s) != k.SealLink(subject("ann@example.net")) {
			t.Error("what the recipient keeps depends on the source")
		}
	}
	if got := x.Of(feedback.Token{}); got != "" {
		t.Errorf("no token has source %q", got)
	}
	// Two names with one hash (found by trying): neither is blamed for the other.
	x = feedback.Sources([]string{"mta-6304", "mta-8102", "out-1"})
	for name, want := range map[string]string{"mta-6304": "", "mta-8102": "", "out-1": "out-1"} {
		s := subject("ann@example.net")
		s.Source = name
		tok, err := k.Open(k.Seal(feedback.Trace, s), day)
		if got := x.Of(tok); err != nil || got != want {
			t.Errorf("twins: %q is %q, %v", name, got, err)
		}
	}
}

// firstReturnPath is what a program of the first version made of subject.
const firstReturnPath = "b-caazzimlqaak6yloxbmdccre64sqeaibinqs3jkahfwm3wnpqpoodscdltigu"

// TestTokensOfTheFirstVersionCount: what was sent before tokens had a source comes
// back for a month, and links to unsubscribe for half a year.
func TestTokensOfTheFirstVersionCount(t *testing.T) {
	k := mustKeys(t, key(0))
	for _, old := range []string{ // made by the program that made them
		firstReturnPath,
		"t-caazzimlqaak6yloxbmdccre64sqeaibinqs3jkahfwm3wnpc5lzx2cyv2w5y",
		"u-caazzimlqaak6yloxbmdccre64sqeaibinqs3jkahfwm3wnpun5fwqrto6pbi",
	} {
		tok, err := k.Open(old, day)
		if err != nil || tok.Delivery != subject("").Delivery || !tok.Issued.Equal(day.Truncate(24*time.Hour)) {
			t.Fatalf("%s: %+v, %v", old, tok, err)
		}
		if !k.IsRecipient(tok, "Ann@example.net") || k.IsRecipient(tok, "bob@example.net") || !k.IsTenant(tok, "acme") || k.IsTenant(tok, "other") {
			t.Errorf("%s: not whom it was made for", old)
		}
		if got := feedback.Sources([]string{"out-1"}).Of(tok); got != "" {
			t.Errorf("%s: source %q", old, got)
		}
		if _, err := k.Open(old, day.Add(200*24*time.Hour)); !errors.Is(err, feedback.ErrExpired) {
			t.Errorf("%s after its time: %v", old, err)
		}
		for i := 2; i < len(old); i++ {
			changed := old[:i] + flipLast(old[i]) + old[i+1:]
			if _, err := k.Open(changed, day); err == nil {
				t.Fatalf("%s opened", changed)
			}
		}
	}
}

func TestTenantIndex(t *testing.T) {
	ring := mustKeys(t, key(1), key(0))
	x := ring.Tenants([]string{"other", "acme"})
	for _, k := range []*feedback.Keys{mustKeys(t, key(0)), ring} {
		tok, err := ring.Open(k.Seal(feedback.ReturnPath, subject("ann@example.net")), day)
		if got := x.Of(tok); err != nil || len(got) != 1 || got[0] != "acme" {
			t.Errorf("tenants %q, %v", got, err)
		}
	}
	if got := x.Of(feedback.Token{}); len(got) != 0 {
		t.Errorf("no token has tenants %q", got)
	}
}

func TestKeysRotate(t *testing.T) {
	s := subject("ann@example.net")
	old := mustKeys(t, key(0))
	local, link := old.Seal(feedback.ReturnPath, s), old.SealLink(s)
	for b := range byte(20) { // some of these share the key id with the old one
		ring := mustKeys(t, key(1+b), key(0))
		tok, err := ring.Open(local, day)
		if err != nil || !ring.IsRecipient(tok, "ann@example.net") || !ring.IsTenant(tok, "acme") {
			t.Fatalf("key %d: token of the former key: %v", b, err)
		}
		if got, err := ring.OpenLink(link, day); err != nil || got.Recipient != s.Recipient {
			t.Fatalf("key %d: link of the former key: %v", b, err)
		}
		if ring.Seal(feedback.ReturnPath, s) == local {
			t.Fatal("the ring seals with a former key")
		}
	}
	if _, err := feedback.NewKeys(key(0)[:31]); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := feedback.NewKeys(key(0), make([][]byte, feedback.MaxKeys)...); err == nil {
		t.Error("too many keys were taken")
	}
}

func TestClusterKeys(t *testing.T) {
	a, _ := keyspace.NewKey()
	b, _ := keyspace.NewKey()
	s := subject("ann@example.net")
	old, err := feedback.ClusterKeys(a)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := feedback.ClusterKeys(b, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open(old.Seal(feedback.ReturnPath, s), day); err != nil {
		t.Errorf("a token of the key before: %v", err)
	}
	if _, err := old.Open(ring.Seal(feedback.ReturnPath, s), day); !errors.Is(err, feedback.ErrForged) {
		t.Errorf("a token of another cluster: %v", err)
	}
	if _, err := feedback.ClusterKeys(keyspace.Key{}); err == nil {
		t.Error("a ring without a key")
	}
}

func TestListUnsubscribe(t *testing.T) {
	k := mustKeys(t, key(0))
	s := subject("ann@example.net")
	for _, c := range []struct {
		url, domain, post string
		want              []string
	}{
		{"https://u.example.com/off/", "rp.example.com", feedback.OneClick, []string{"<https://u.example.com/off/", ">,\r\n <mailto:u-", "@rp.example.com?subject=unsubscribe%20"}},
		{"https://u.example.com", "", feedback.OneClick, []string{"<https://u.example.com/"}},
		{"", "rp.example.com", "", []string{"<mailto:u-", "?subject=unsubscribe%20"}},
		{"", "", "", nil},
	} {
		links, post := k.ListUnsubscribe(s, c.url, c.domain)
		if post != c.post || (len(c.want) == 0) != (links == "") {
			t.Errorf("%+v: %q, %q", c, links, post)
		}
		for _, w := range c.want {
			if !strings.Contains(links, w) {
				t.Errorf("%q lacks %q", links, w)
			}
		}
		for line := range strings.SplitSeq(links, "\r\n") {
			if len(line) > 998 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		// What stands there is found again in a returned header, and opens.
		r := feedback.Parse(fmt.Appendf(nil, "List-Unsubscribe: %s\r\n\r\n", links))
		if want := min(1, len(links)); len(r.Returned.Links) != want {
			t.Errorf("%q: found links %q", links, r.Returned.Links)
		}
		for _, l := range r.Returned.Links {
			if got, err := k.OpenLink(l, day); err != nil || got.Recipient != "ann@example.net" {
				t.Errorf("%q: %v", l, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := mustKeys(f, key(0))
	s := subject("ann@example.net")
	local, link := k.Seal(feedback.ReturnPath, s), k.SealLink(s)
	f.Add(local)
	f.Add(firstReturnPath)
	f.Add(link)
	f.Add("")
	f.Add("b-" + strings.Repeat("a", 61))
	f.Fuzz(func(t *testing.T, text string) {
		if tok, err := k.Open(text, day); err == nil && !strings.EqualFold(text, local) && !strings.EqualFold(text, firstReturnPath) {
			t.Fatalf("%q opened: %+v", text, tok)
		}
		if got, err := k.OpenLink(text, day); err == nil && text != link {
			t.Fatalf("%q opened: %+v", text, got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k, s := mustKeys(b, key(0)), subject("ann@example.net")
	b.Run("short", func(b *testing.B) {
		for b.Loop() {
			k.Seal(feedback.ReturnPath, s)
		}
	})
	b.Run("link", func(b *testing.B) {
		for b.Loop() {
			k.SealLink(s)
		}
	})
	local := k.Seal(feedback.ReturnPath, s)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			_, _ = k.Open(local, day)
		}
	})
}
