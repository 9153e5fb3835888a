package dkim_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"hikyaku/controlplane/policy"
	"hikyaku/node/dkim"
)

var signedAt = time.Unix(1_795_334_400, 0)

const header = "From: =?UTF-8?B?6aOb6ISa?= <a@example.com>\r\nTo: b@example.net\r\nSubject: hello\r\n" +
	"Date: Sun, 22 Nov 2026 08:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n"

// set is a policy with the given keys, named k0, k1, …
func set(keys ...*policy.SigningKey) *policy.Set {
	s := &policy.Set{SigningKeys: map[string]*policy.SigningKey{}}
	for i, k := range keys {
		s.SigningKeys[fmt.Sprintf("k%d", i)] = k
	}
	return s
}

// testKeys are made once: an RSA key takes a while.
var testKeys = sync.OnceValue(func() (k struct{ rsaPEM, rsaTXT, edPEM, edTXT string }) {
	var err, err2 error
	k.rsaPEM, k.rsaTXT, err = dkim.Generate(dkim.RSA2048)
	k.edPEM, k.edTXT, err2 = dkim.Generate(dkim.Ed25519)
	if err = errors.Join(err, err2); err != nil {
		panic(err)
	}
	return k
})

func lookupTXT(name string) ([]string, error) {
	switch k := testKeys(); {
	case strings.HasPrefix(name, "rsa._domainkey."):
		return []string{k.rsaTXT}, nil
	case strings.HasPrefix(name, "ed._domainkey."):
		return []string{k.edTXT}, nil
	}
	return nil, fmt.Errorf("no TXT record at %s", name)
}

func rsaKey(domain string) *policy.SigningKey {
	return &policy.SigningKey{Domain: domain, Selector: "rsa", PrivateKey: policy.NewSecret(testKeys().rsaPEM)}
}

func edKey(domain string) *policy.SigningKey {
	return &policy.SigningKey{Domain: domain, Selector: "ed", PrivateKey: policy.NewSecret(testKeys().edPEM)}
}

func mustSigners(t testing.TB, keys ...*policy.SigningKey) *dkim.Signers {
	t.Helper()
	s, errs := dkim.NewSigners(set(keys...), nil)
	if errs != nil {
		t.Fatalf("NewSigners: %v", errs)
	}
	return s
}

// verify lets go-msgauth judge the signatures of sig + raw and returns their
// domains and signed names.
func verify(t testing.TB, sig, raw []byte) []*msgauth.Verification {
	t.Helper()
	all := append(bytes.Clone(sig), raw...)
	vs, err := msgauth.VerifyWithOptions(bytes.NewReader(all), &msgauth.VerifyOptions{LookupTXT: lookupTXT})
	if err != nil {
		t.Fatalf("verify: %v\n%q", err, all)
	}
	for _, v := range vs {
		if v.Err != nil {
			t.Errorf("signature of %s: %v\n%q", v.Domain, v.Err, all)
		}
	}
	return vs
}

// contents are the shapes that canonicalisation can get wrong.
var contents = []struct{ name, raw string }{
	{"plain", header + "\r\nhello\r\n"},
	{"empty body", header + "\r\n"},
	{"body of empty lines", header + "\r\n\r\n\r\n\r\n"},
	{"body of white space", header + "\r\n \t \r\n\t\r\n"},
	{"no CRLF at the end", header + "\r\nhello"},
	{"white space at the end, no CRLF", header + "\r\nhello \t"},
	{"trailing blank lines", header + "\r\nhello\r\n\r\n\r\n \r\n"},
	{"leading blank lines", header + "\r\n\r\n\r\nhello\r\n"},
	{"leading white space", header + "\r\n  hello\r\n\tthere\r\n"},
	{"tabs and runs", header + "\r\na\tb  c \t d\t\r\n e \r\n\t\r\nf\r\n"},
	{"tab after one space", header + "\r\na \tb\r\na\t b\r\n"},
	{"Japanese", "From: =?ISO-2022-JP?B?GyRCSHRTUxsoQg==?= <a@example.com>\r\nTo: b@example.net\r\nSubject: 飛脚が  参りました\r\n\r\n飛脚　全角空白\r\n\x1b$BHt5S\x1b(B\r\n"},
	{"folded fields", "From:\r\n a@example.com\r\nSubject: one\r\n\ttwo\r\n   three \r\nTo: b@example.net,\r\n\tc@example.net\r\n\r\nhello\r\n"},
	{"empty field", "From: a@example.com\r\nSubject:\r\nTo: \r\n\r\nhello\r\n"},
	{"field of a fold only", "From: a@example.com\r\nSubject:\r\n \r\nTo: b@example.net\r\n\r\nhello\r\n"},
	{"white space before the colon", "From : a@example.com\r\nSubject\t: x\r\n\r\nhello\r\n"},
	{"odd case", "FROM: a@example.com\r\nsUBJECT: x\r\n\r\nhello\r\n"},
	{"duplicates", "From: a@example.com\r\nSubject: one\r\nSubject: two\r\nTo: b@example.net\r\nTo: c@example.net\r\nTo: d@example.net\r\n\r\nhello\r\n"},
	{"colon in the value", "From: a@example.com\r\nSubject: Re: x: y\r\n\r\nhello\r\n"},
	{"signed already", "DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=rsa; h=From; bh=AAAA; b=AAAA\r\n" + header + "\r\nhello\r\n"},
	{"one-click", header + "List-Unsubscribe: <https://example.com/u?1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nhello\r\n"},
	{"long line", header + "\r\n" + strings.Repeat("0123456789", 99) + "\r\n"},
	{"dots", header + "\r\n.\r\n..\r\n.\r\n"},
}

func TestSignatureVerifies(t *testing.T) {
	s := mustSigners(t, rsaKey("example.com"), edKey("example.com"))
	for _, c := range contents {
		t.Run(c.name, func(t *testing.T) {
			sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte(c.raw))
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "signed already" {
				c.raw = c.raw[strings.Index(c.raw, "From:"):] // its old signature is not ours to judge
			}
			vs := verify(t, sig, []byte(c.raw))
			if len(vs) != 2 {
				t.Fatalf("%d signatures, want 2", len(vs))
			}
			for _, v := range vs {
				if v.Domain != "example.com" || !v.Time.Equal(signedAt) {
					t.Errorf("signature of %s at %v", v.Domain, v.Time)
				}
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(string(sig), "\r\n"), "\r\n") {
				if len(line) > 78 {
					t.Errorf("line of %d bytes: %q", len(line), line)
				}
			}
		})
	}
}

// Wherever the content is cut into segments, the signature is the same.
func TestSegmentsMakeNoDifference(t *testing.T) {
	s := mustSigners(t, edKey("example.com")) // Ed25519 is deterministic
	for _, c := range contents {
		raw := []byte(c.raw)
		if len(raw) > 600 {
			continue
		}
		want, err := s.AppendSignature(nil, "example.com", signedAt, raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			for _, parts := range [][][]byte{{raw[:i], raw[i:]}, {raw[:i], nil, raw[i : i+1], raw[i+1:]}} {
				got, err := s.AppendSignature(nil, "example.com", signedAt, parts...)
				if err != nil {
					t.Fatalf("%s cut at %d: %v", c.name, i, err)
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s cut at %d: another signature", c.name, i)
				}
			}
		}
	}
}

// A field added, removed or changed after signing breaks the signature; so
// over-signing works, and nothing that must be covered is left out.
func TestTamperingIsSeen(t *testing.T) {
	raw := header + "List-Unsubscribe: <https://example.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nMIME-Version: 1.0\r\n\r\nhello\r\n"
	s := mustSigners(t, edKey("example.com"))
	sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	verify(t, sig, []byte(raw))
	for _, added := range []string{"From", "Subject", "Date", "To", "List-Unsubscribe", "List-Unsubscribe-Post", "Message-ID"} {
		wantBroken(t, "added "+added, string(sig)+added+": x@example.org\r\n"+raw)
		wantBroken(t, "added below "+added, string(sig)+strings.Replace(raw, "MIME-Version", added+": x@example.org\r\nMIME-Version", 1))
	}
	wantBroken(t, "body", string(sig)+strings.Replace(raw, "hello", "hallo", 1))
	wantBroken(t, "appended", string(sig)+raw+"more\r\n")
	wantBroken(t, "MIME-Version", string(sig)+strings.Replace(raw, "1.0", "1.1", 1))
	wantBroken(t, "removed", string(sig)+strings.Replace(raw, "Subject: hello\r\n", "", 1))
	wantBroken(t, "own field", strings.Replace(string(sig), "t=1795334400", "t=1795334401", 1)+raw)
}

func wantBroken(t *testing.T, what, all string) {
	t.Helper()
	vs, err := msgauth.VerifyWithOptions(strings.NewReader(all), &msgauth.VerifyOptions{LookupTXT: lookupTXT})
	if err != nil || len(vs) != 1 {
		t.Fatalf("%s: %d signatures, %v", what, len(vs), err)
	}
	if vs[0].Err == nil {
		t.Errorf("%s: the signature still verifies", what)
	}
}

func TestWhichKeysSign(t *testing.T) {
	off := rsaKey("example.com")
	off.Disabled = true
	s := mustSigners(t, rsaKey("example.com"), edKey("example.com"), edKey("news.Example.com"), edKey("example.org"), off)
	for _, c := range []struct {
		from string
		want string
	}{
		{"example.com", "example.com example.com"},
		{"shop.example.com", "example.com example.com"}, // the parent's keys
		{"a.b.example.com", "example.com example.com"},
		{"news.example.com", "news.example.com"}, // its own
		{"x.news.example.com", "news.example.com"},
		{"example.org", "example.org"},
		{"notexample.org", ""},
		{"com", ""},
		{"", ""},
	} {
		sig, err := s.AppendSignature(nil, c.from, signedAt, []byte(header+"\r\nhello\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if len(sig) > 0 {
			for _, v := range verify(t, sig, []byte(header+"\r\nhello\r\n")) {
				got = append(got, v.Domain)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("From %q: signed by %v, want %q", c.from, got, c.want)
		}
		if s.Signs(c.from) != (c.want != "") {
			t.Errorf("Signs(%q) = %v", c.from, s.Signs(c.from))
		}
	}
	if m := s.Metrics(); m.Signed != 2+2+2+1+1+1 || m.Unsigned != 3 || m.Keys != 4 || m.Failed != 0 {
		t.Errorf("metrics %+v", m)
	}
}

// Each key has its own list: names of one are not signed by the other.
func TestOversignHeadersPerKey(t *testing.T) {
	a, b := edKey("example.com"), rsaKey("example.com")
	a.OversignHeaders = []string{"X-Campaign", "from"}
	b.OversignHeaders = []string{}
	s := mustSigners(t, a, b)
	raw := []byte("X-Campaign: 7\r\n" + header + "\r\nhello\r\n")
	sig, err := s.AppendSignature(nil, "example.com", signedAt, raw)
	if err != nil {
		t.Fatal(err)
	}
	vs := verify(t, sig, raw)
	for i, want := range []string{"From:From:X-Campaign:X-Campaign:To:Subject:Date:Message-ID", "From:To:Subject:Date:Message-ID"} {
		if got := strings.Join(vs[i].HeaderKeys, ":"); got != want {
			t.Errorf("key %d signs %s, want %s", i, got, want)
		}
	}
}

func TestBadKeysAreReportedAndOthersWork(t *testing.T) {
	secret := "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGNhbmFyeQ==\n-----END PRIVATE KEY-----\n"
	weak := "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	s := &policy.Set{SigningKeys: map[string]*policy.SigningKey{
		"good":     edKey("example.com"),
		"nopem":    {Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret("canary")},
		"damaged":  {Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret(secret)},
		"othertyp": {Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret(weak)},
		"nofile":   {Domain: "example.com", Selector: "s", PrivateKeyFile: "missing.pem"},
		"both":     {Domain: "example.com", Selector: "s", PrivateKeyFile: "k.pem", PrivateKey: policy.NewSecret("x")},
		"domain":   {Domain: "exa mple.com; d=other", Selector: "s", PrivateKey: policy.NewSecret(testKeys().edPEM)},
		"selector": {Domain: "example.com", Selector: "a\r\nb", PrivateKey: policy.NewSecret(testKeys().edPEM)},
		"names":    {Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret(testKeys().edPEM), OversignHeaders: []string{"X;Y"}},
		"itself":   {Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret(testKeys().edPEM), OversignHeaders: []string{"dkim-signature"}},
	}}
	signers, errs := dkim.NewSigners(s, os.ReadFile)
	if len(errs) != 9 {
		t.Errorf("%d errors, want 9: %v", len(errs), errs)
	}
	for _, err := range errs {
		if !strings.HasPrefix(err.Error(), "signing key ") || strings.Contains(err.Error(), "canary") {
			t.Errorf("error %q", err)
		}
	}
	raw := []byte(header + "\r\nhello\r\n")
	sig, err := signers.AppendSignature(nil, "example.com", signedAt, raw)
	if err != nil || len(verify(t, sig, raw)) != 1 {
		t.Errorf("the good key did not sign: %v", err)
	}
}

// Files are read at each update, unchanged keys keep working, removed ones go.
func TestUpdate(t *testing.T) {
	files := map[string]string{"k.pem": testKeys().rsaPEM}
	reads := 0
	read := func(name string) ([]byte, error) {
		reads++
		return []byte(files[name]), nil
	}
	k := &policy.SigningKey{Domain: "example.com", Selector: "rsa", PrivateKeyFile: "k.pem"}
	first, errs := dkim.NewSigners(set(k), read)
	if errs != nil {
		t.Fatal(errs)
	}
	files["k.pem"] = testKeys().edPEM
	k2 := *k
	k2.Selector = "ed"
	second, errs := first.Update(set(&k2))
	if errs != nil || reads != 2 {
		t.Fatalf("%v after %d reads", errs, reads)
	}
	raw := []byte(header + "\r\nhello\r\n")
	for _, s := range []*dkim.Signers{first, second} {
		sig, err := s.AppendSignature(nil, "example.com", signedAt, raw)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, sig, raw)
	}
	third, errs := second.Update(set())
	if errs != nil || third.Signs("example.com") {
		t.Errorf("keys are left after they were removed: %v", errs)
	}
	if m := third.Metrics(); m.Signed != 2 || m.Keys != 0 {
		t.Errorf("metrics after the update: %+v", m)
	}
}

func TestContentWithoutFrom(t *testing.T) {
	s := mustSigners(t, edKey("example.com"))
	for _, raw := range []string{"", "\r\n", "\r\nFrom: a@example.com\r\n\r\n", "Subject: x\r\n\r\nhello\r\n", "From\r\n\r\n", " From: a\r\n\r\n", "X: y\r\n From: a\r\n\r\n"} {
		sig, err := s.AppendSignature([]byte("kept"), "example.com", signedAt, []byte(raw))
		if !errors.Is(err, dkim.ErrNoFrom) || string(sig) != "kept" {
			t.Errorf("%q: %q, %v", raw, sig, err)
		}
	}
}

// A key that fails (an HSM that is away) does not keep the others from signing.
func TestFailingKey(t *testing.T) {
	s := mustSigners(t, rsaKey("example.com"), edKey("example.com"))
	dkim.BreakKey(s, "example.com", 0)
	raw := []byte(header + "\r\nhello\r\n")
	sig, err := s.AppendSignature(nil, "example.com", signedAt, raw)
	if err == nil || !strings.Contains(err.Error(), "k0") {
		t.Errorf("error %v", err)
	}
	if vs := verify(t, sig, raw); len(vs) != 1 {
		t.Errorf("%d signatures, want the other key's", len(vs))
	}
	if m := s.Metrics(); m.Failed != 1 || m.Signed != 1 {
		t.Errorf("metrics %+v", m)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := mustSigners(t, edKey("example.com"))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				raw := fmt.Appendf(nil, "%s\r\nmessage %d of %d  \r\n", header, i, g)
				sig, err := s.AppendSignature(nil, "example.com", signedAt, raw)
				if err != nil {
					t.Error(err)
					return
				}
				verify(t, sig, raw)
			}
		})
	}
	wg.Wait()
}

// The limit covers the signature's own two (RSA) or one (Ed25519).
func TestAllocations(t *testing.T) {
	raw := message(4096, dirtyLine)
	for _, c := range []struct {
		key  *policy.SigningKey
		most float64
	}{{rsaKey("example.com"), 3}, {edKey("example.com"), 2}} {
		s := mustSigners(t, c.key)
		dst := make([]byte, 0, 4096)
		got := testing.AllocsPerRun(100, func() {
			dst, _ = s.AppendSignature(dst[:0], "example.com", signedAt, raw)
		})
		if got > c.most && !raceEnabled { // the detector allocates
			t.Errorf("%s: %v allocations, at most %v", c.key.Selector, got, c.most)
		}
	}
}

var _ crypto.Signer = dkim.FailingKey{}
