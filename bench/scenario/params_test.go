package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/scenario"
)

func TestScenarioFile(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string // part of the error; "" is none
	}{
		{"good", "scenario: soak\nduration: 2m\nrate: 500\ndkim: ed25519\nseed: 7\n", ""},
		{"unknown key", "scenario: soak\nduratoin: 2m\n", `:2:1: duratoin: unknown key "duratoin"; did you mean "duration"?`},
		{"wrong type", "scenario: soak\nrate: fast\n", ":2:7: rate"},
		{"unknown scenario", "scenario: sok\n", `:1:11: scenario: no scenario "sok"`},
		{"no scenario", "rate: 5\n", "no scenario"},
		{"too many", "scenario: soak\nmessages: 20000001\n", "messages: 20000001 is not in 0..20000000"},
		{"unknown word", "scenario: soak\npipelining: fast\n", `pipelining: "fast" is not one of`},
		{"two documents", "scenario: soak\n---\nscenario: bulk\n", "one document"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.yaml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := scenario.Load(path)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			case tt.want == "" && (p.Rate != 500 || p.Duration.D() != 2*time.Minute || p.Seed != 7):
				t.Fatalf("read %+v", p)
			}
		})
	}
}

// TestFlagsWinOverTheFile: and both over the scenario's own.
func TestFlagsWinOverTheFile(t *testing.T) {
	s, _ := scenario.Find("soak")
	p := s.With(scenario.Over(scenario.Params{Rate: 10, Size: 2000}, scenario.Params{Rate: 20}))
	if p.Rate != 20 || p.Size != 2000 || p.Connections != s.Short.Connections || p.Seed != 1 {
		t.Fatalf("got %+v", p)
	}
	long := s.With(scenario.Params{Long: true})
	if long.Duration.D() != time.Hour || s.With(scenario.Params{}).Duration.D() >= time.Minute {
		t.Fatalf("soak is %v long, %v short", long.Duration.D(), s.With(scenario.Params{}).Duration.D())
	}
}

// TestEveryScenarioIsWithinItsOwnBounds in both forms, and the short one is
// under a minute where time is what bounds it.
func TestEveryScenarioIsWithinItsOwnBounds(t *testing.T) {
	for _, s := range scenario.All() {
		for _, long := range []bool{false, true} {
			p := s.With(scenario.Params{Long: long})
			if err := p.Validate(); err != nil {
				t.Errorf("%s, long %v: %v", s.Name, long, err)
			}
			if !long && p.Duration.D() > time.Minute {
				t.Errorf("%s: the short form sends for %v", s.Name, p.Duration.D())
			}
		}
		if s.Question == "" {
			t.Errorf("%s says not what it answers", s.Name)
		}
	}
}
