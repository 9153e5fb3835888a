package credential

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

// cheap makes a hash that costs little, for tests.
func cheap(password string) string {
	h := policy.PasswordHash{MemoryKiB: 8, Passes: 1, Threads: 1, Salt: []byte("saltsalt")}
	h.Key = derive(h, password, 16)
	return h.String()
}

func network(s string) policy.Network { return policy.Network{Prefix: netip.MustParsePrefix(s)} }

func set(t testing.TB, tenants map[string]*policy.Tenant) *policy.Set {
	t.Helper()
	var rs []policy.Resource
	for name, spec := range tenants {
		rs = append(rs, policy.Resource{Kind: policy.KindTenant, Name: name, Spec: spec})
	}
	s, problems := policy.New(rs)
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	return s
}

func TestHash(t *testing.T) {
	text, err := Hash("pässword")
	if err != nil {
		t.Fatal(err)
	}
	h, err := policy.ParsePasswordHash(text)
	if err != nil || h.MemoryKiB != 19*1024 || h.Passes != 2 || h.Threads != 1 || len(h.Salt) != 16 || len(h.Key) != 32 {
		t.Fatalf("%s: %+v %v", text, h, err)
	}
	v := NewVerifier(1)
	if !v.Check(context.Background(), &h, "pässword") || v.Check(context.Background(), &h, "passwort") {
		t.Error("the hash does not tell the password from another")
	}
	if again, _ := Hash("pässword"); again == text {
		t.Error("two hashes of one password must differ")
	}
	for _, bad := range []string{"", "a\x00b", "a\nb", strings.Repeat("a", MaxPassword+1)} {
		if _, err := Hash(bad); err == nil {
			t.Errorf("%q was hashed", bad)
		}
	}
}

// TestKnownVector is one of the reference implementation's own test vectors
// (P-H-C/phc-winner-argon2, src/test.c).
func TestKnownVector(t *testing.T) {
	h, err := policy.ParsePasswordHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil {
		t.Fatal(err)
	}
	if !NewVerifier(1).Check(context.Background(), &h, "password") {
		t.Error("the reference tool's hash is not recognised")
	}
}

func TestPassword(t *testing.T) {
	c := NewCurrent(set(t, map[string]*policy.Tenant{
		"acme":  {SMTPUsers: []policy.SMTPUser{{Name: "ann", PasswordHash: cheap("one")}}},
		"other": {SMTPUsers: []policy.SMTPUser{{Name: "bob", PasswordHash: cheap("two")}}},
	}), NewVerifier(2))
	ctx := context.Background()
	for range 2 { // the second time from memory
		if tenant, name, ok := c.Password(ctx, "ann", "one"); tenant != "acme" || name != "ann" || !ok {
			t.Errorf("%q %q %v", tenant, name, ok)
		}
		for _, bad := range [][2]string{{"ann", "two"}, {"bob", "one"}, {"nobody", "one"}, {"", ""}, {"ann", ""}, {"ANN", "one"}, {"ann", "one\x00"}} {
			if tenant, name, ok := c.Password(ctx, bad[0], bad[1]); ok || tenant != "" || name != "" {
				t.Errorf("%q got in as %s", bad, tenant)
			}
		}
	}
	// A new password counts from the moment of the policy change.
	c.SetPolicy(set(t, map[string]*policy.Tenant{"acme": {SMTPUsers: []policy.SMTPUser{{Name: "ann", PasswordHash: cheap("new")}}}}))
	if _, _, ok := c.Password(ctx, "ann", "one"); ok {
		t.Error("the old password is still good")
	}
	if _, _, ok := c.Password(ctx, "ann", "new"); !ok {
		t.Error("the new password is not good")
	}
}

// TestUnknownUsersCostAHash: if they did not, time would tell who exists.
func TestUnknownUsersCostAHash(t *testing.T) {
	v := NewVerifier(1)
	d := NewDirectory(set(t, nil), v)
	v.slots <- struct{}{} // no room to compute
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	d.Password(ctx, "nobody", "x")
	if ctx.Err() == nil {
		t.Error("the answer about an unknown user came without computing a hash")
	}
}

func TestVerifiedLoginsAreForgottenAndBounded(t *testing.T) {
	v := NewVerifier(1)
	now := time.Unix(1000, 0)
	v.now = func() time.Time { return now }
	h, _ := policy.ParsePasswordHash(cheap("one"))
	if !v.Check(context.Background(), &h, "one") || v.Check(context.Background(), &h, "two") || v.Remembered() != 1 {
		t.Fatalf("%d remembered", v.Remembered())
	}
	blocked, cancel := context.WithCancel(context.Background())
	cancel()
	v.slots <- struct{}{}
	if !v.Check(blocked, &h, "one") {
		t.Error("a remembered login needs no room")
	}
	now = now.Add(verifiedFor)
	if v.Check(blocked, &h, "one") {
		t.Error("a login was remembered for too long")
	}
	<-v.slots
	for i := range maxVerified + 50 {
		v.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1})
	}
	if v.Remembered() > maxVerified {
		t.Errorf("%d remembered", v.Remembered())
	}
}

func TestAPIKey(t *testing.T) {
	key, hash := NewAPIKey()
	key2, hash2 := NewAPIKey()
	if !strings.HasPrefix(key, "hk_live_") || key == key2 || hash == hash2 || strings.Contains(hash, key[len(key)-20:]) {
		t.Fatalf("%s %s", key, hash)
	}
	d := NewDirectory(set(t, map[string]*policy.Tenant{"acme": {APIKeys: []policy.APIKey{{Name: "ci", Hash: hash}}}}), NewVerifier(1))
	if tenant, name, ok := d.APIKey(context.Background(), key); tenant != "acme" || name != "ci" || !ok {
		t.Errorf("%q %q %v", tenant, name, ok)
	}
	for _, bad := range []string{"", "hk_live_", key2, key[:len(key)-1], key + "a", strings.ToUpper(key), "hk_live_" + strings.Repeat("a", 12) + "_", strings.Repeat("a", 5000), hash} {
		if _, _, ok := d.APIKey(context.Background(), bad); ok {
			t.Errorf("%.40q got in", bad)
		}
	}
}

func TestNetworkPicksTheLongestPrefix(t *testing.T) {
	d := NewDirectory(set(t, map[string]*policy.Tenant{
		"wide":   {Networks: []policy.Network{network("10.0.0.0/8"), network("2001:db8::/32")}},
		"narrow": {Networks: []policy.Network{network("10.1.0.0/16"), network("10.1.2.3/32"), network("2001:db8:1::/48")}},
	}), NewVerifier(1))
	for addr, want := range map[string]string{
		"10.2.3.4": "wide", "10.1.9.9": "narrow", "::ffff:10.1.9.9": "narrow", "192.0.2.1": "", "2001:db8::1": "wide", "2001:db8:1::1": "narrow", "fe80::1%eth0": "",
	} {
		if got, ok := d.Network(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", addr, got, ok, want)
		}
	}
	if _, ok := d.Network(netip.Addr{}); ok {
		t.Error("no address is in no network")
	}
}

func FuzzAPIKey(f *testing.F) {
	key, hash := NewAPIKey()
	f.Add(key)
	f.Add("hk_live_a_b")
	s, _ := policy.New([]policy.Resource{{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{APIKeys: []policy.APIKey{{Name: "ci", Hash: hash}}}}})
	d := NewDirectory(s, NewVerifier(1))
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, ok := d.APIKey(context.Background(), token); ok != (token == key) {
			t.Errorf("%q: %v", token, ok)
		}
	})
}
