package dkim_test

import (
	"slices"
	"testing"

	"hikyaku/controlplane/policy"
	"hikyaku/node/dkim"
)

func TestPublicKeys(t *testing.T) {
	pemText, txt, err := dkim.Generate(dkim.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	key := func(domain, selector string, off bool) *policy.SigningKey {
		return &policy.SigningKey{Domain: domain, Selector: selector, PrivateKey: policy.NewSecret(pemText), Disabled: off}
	}
	s, errs := dkim.NewSigners(&policy.Set{SigningKeys: map[string]*policy.SigningKey{
		"b": key("Example.com", "S2.x", false), "a": key("example.com", "s1", false), "off": key("example.org", "s1", true),
	}}, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := []dkim.PublicKey{{Name: "a", Domain: "example.com", Selector: "s1", Text: txt}, {Name: "b", Domain: "example.com", Selector: "s2.x", Text: txt}}
	if got := s.Public(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
