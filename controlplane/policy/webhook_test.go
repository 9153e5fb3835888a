package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"hikyaku/controlplane/policy"
)

// TestWebhookSecretsStay: a listing hides secrets, and to apply it again must not
// have requests go unsigned; nor may a secret follow a URL that somebody changed.
func TestWebhookSecretsStay(t *testing.T) {
	hook := func(url, secret, former string) *policy.Webhook {
		w := &policy.Webhook{URL: url}
		if secret != "" {
			w.Secret = policy.NewSecret(secret)
		}
		if former != "" {
			w.FormerSecret = policy.NewSecret(former)
		}
		return w
	}
	const u = "https://hooks.example.com/a"
	for _, c := range []struct {
		name           string
		old, now       *policy.Webhook
		secret, former string
	}{
		{"listing applied again", hook(u, "s1", ""), hook(u, "", ""), "s1", ""},
		{"listing with two", hook(u, "s2", "s1"), hook(u, "", ""), "s2", "s1"},
		{"replaced", hook(u, "s1", ""), hook(u, "s2", "s1"), "s2", "s1"},
		{"former dropped", hook(u, "s2", "s1"), hook(u, "s2", ""), "s2", ""},
		{"another URL", hook(u, "s1", "s0"), hook(u+"/b", "", ""), "", ""},
		{"of none", hook(u, "", ""), hook(u, "", ""), "", ""},
	} {
		policy.KeepSecrets(c.now, c.old)
		if c.now.Secret.Reveal() != c.secret || c.now.FormerSecret.Reveal() != c.former {
			t.Errorf("%s: %q, %q, want %q, %q", c.name, c.now.Secret.Reveal(), c.now.FormerSecret.Reveal(), c.secret, c.former)
		}
	}
	for _, url := range []string{u, u + "/b"} {
		old, now := hook(u, "", ""), hook(url, "", "")
		old.Authorization = policy.NewSecret("Bearer x")
		if policy.KeepSecrets(now, old); now.Authorization.IsZero() != (url != u) {
			t.Errorf("authorization of %s: %q", url, now.Authorization.Reveal())
		}
	}
	policy.KeepSecrets(hook(u, "", ""), &policy.Route{}) // of another kind: nothing to keep
}

// TestHeadersHoldNoSecrets: what a listing shows must not open a door.
func TestHeadersHoldNoSecrets(t *testing.T) {
	for header, want := range map[string]int{"X-Env": 0, "authorization": 1, "X-API-Key": 1, "Cookie": 1} {
		w := &policy.Webhook{URL: "https://hooks.example.com/a", Headers: map[string]string{header: "x"}}
		if _, ps := policy.New([]policy.Resource{{Kind: policy.KindWebhook, Name: "h", Spec: w}}); len(ps) != want {
			t.Errorf("%s: problems %v", header, ps)
		}
	}
	w := &policy.Webhook{URL: "https://hooks.example.com/a", Authorization: policy.NewSecret("Bearer x\r\nX-More: y")}
	if _, ps := policy.New([]policy.Resource{{Kind: policy.KindWebhook, Name: "h", Spec: w}}); len(ps) != 1 || ps[0].Path != "spec.authorization" {
		t.Errorf("two lines: problems %v", ps)
	}
	if b, err := json.Marshal(w); err != nil || strings.Contains(string(b), "Bearer") {
		t.Errorf("a listing shows %s (%v)", b, err)
	}
}

func TestAFormerSecretNeedsOneAfterIt(t *testing.T) {
	w := &policy.Webhook{URL: "https://hooks.example.com/a", FormerSecret: policy.NewSecret("s1")}
	if _, ps := policy.New([]policy.Resource{{Kind: policy.KindWebhook, Name: "h", Spec: w}}); len(ps) != 1 || ps[0].Path != "spec.former_secret" {
		t.Errorf("problems %v", ps)
	}
	w.Secret = policy.NewSecret("s2")
	if _, ps := policy.New([]policy.Resource{{Kind: policy.KindWebhook, Name: "h", Spec: w}}); len(ps) != 0 {
		t.Errorf("problems %v", ps)
	}
}
