package carriers_test

import (
	"strings"
	"testing"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

// TestPaceShortensWaits: gmx's hour after "too much" is a minute in a world that is
// 60 times as quick, in a policy that stands; at its own pace there is no rule.
func TestPaceShortensWaits(t *testing.T) {
	profiles, err := carriers.Named("gmx", "yahoo", "docomo")
	if err != nil {
		t.Fatal(err)
	}
	f := farm(t, carriers.FarmOptions{Profiles: profiles})
	for pace, want := range map[int]bool{0: false, 60: true} {
		text, err := f.Policy(carriers.PolicyOptions{Pace: pace, Retry: []policy.Duration{1e9}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), "gmx-quicker-1") && strings.Contains(string(text), "retry_after: 1m"); got != want {
			t.Errorf("at the pace %d there is a rule of a minute: %t, want %t\n%s", pace, got, want, text)
		}
	}
}
