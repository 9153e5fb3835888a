package policy_test

import (
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
	policy.KeepSecrets(hook(u, "", ""), &policy.Route{}) // of another kind: nothing to keep
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
