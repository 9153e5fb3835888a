package carriers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

func sortDurations(ds []time.Duration) { slices.Sort(ds) }

func span(s string) (d policy.Duration) {
	if err := d.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return d
}

func spans(texts ...string) (ds []policy.Duration) {
	for _, s := range texts {
		ds = append(ds, span(s))
	}
	return ds
}

// TestShippedProfiles: all that are promised are there, say that they are
// models, and can be made into carriers of one farm.
func TestShippedProfiles(t *testing.T) {
	ps, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range ps {
		names = append(names, p.Name)
		if !strings.Contains(p.Description, "not a measurement") && !strings.Contains(p.Description, "is not a\nmeasurement") {
			t.Errorf("%s does not say that it is no measurement: %s", p.Name, p.Description)
		}
		New(p, Options{})
	}
	want := []string{"au", "dead-host", "docomo", "gmail", "gmx", "icloud", "outlook", "postfix-site", "sink", "softbank", "tarpit", "yahoo", "yahoo-japan"}
	if !slices.Equal(slices.Sorted(slices.Values(names)), want) {
		t.Errorf("shipped are %v, want %v", names, want)
	}
	if _, err := Named("gmail", "gmial"); err == nil || !strings.Contains(err.Error(), "yahoo-japan") {
		t.Errorf("a wrong name: %v", err)
	}
}

func TestProfileErrorsHaveTheirPlace(t *testing.T) {
	for _, tt := range []struct{ rules, want string }{
		{"conections: 3\n", `try.yaml:6:1: conections: unknown key "conections"`},
		{"per_source: {rate: fast}\n", `try.yaml:6:20: per_source.rate: rate "fast": want`},
		{"per_source: {rate: 0/s}\n", `try.yaml:6:20: per_source.rate: want at least one`},
		{"per_source: {connections: -1}\n", `try.yaml:6:27: per_source.connections: want 1 to`},
		{"latency:\n  dot: {median: 1s, p99: 10ms}\n", `try.yaml:7:26: latency.dot.p99: the 99th percentile cannot be less`},
		{"latency:\n  dot: {quantiles: [2s, 1s]}\n", `latency.dot.quantiles: quantiles rise`},
		{"latency:\n  dot: {median: 2h}\n", `nothing takes longer than 1h`},
		{"chance:\n  - {phase: hello, share: 0.1, reply: \"451 no\"}\n", `try.yaml:7:13: chance[0].phase: "hello" is none of`},
		{"chance:\n  - {phase: mail, share: 1.5, reply: \"451 no\"}\n", `chance[0].share: a share is 0 to 1`},
		{"chance:\n  - {phase: mail, share: 0.5, reply: \"250 yes\"}\n", `chance[0].reply: want a reply that refuses`},
		{"chance:\n  - {phase: mail, share: 0.5, reply: \"451 a\\r\\nb\"}\n", `chance[0].reply: want one line`},
		{"chance:\n  - {phase: mail, share: 0.5, reset: true, drop: true}\n", `chance[0]: give one of reply, reset and drop`},
		{"recipients: [{kind: lost, share: 0.1}]\n", `recipients[0].kind: "lost" is none of`},
		{"recipients: [{kind: unknown, share: 0.1}]\n", `recipients[0].reply: want a reply that refuses`},
		{"recipients: [{kind: dropped, share: 0.7}, {kind: bounce, share: 0.7}]\n", `recipients: the shares add up to more than 1`},
		{"recipients: [{kind: bounce, share: 0.7, status: 2.0.0}]\n", `recipients[0].status: a bounce has a status`},
		{"recipients: [{kind: dropped, share: 0.7, phase: dot}]\n", `recipients[0].phase: what is taken is not refused`},
		{"punish: {forgive: 1s, block: {strikes: 3, for: 2m, at_most: 1m, forget: 1m, reset: true}}\n", `punish.block.at_most: the longest block is not shorter`},
		{"punish: {forgive: 1s, slow: {strikes: 0, delay: 1s}}\n", `punish.slow.strikes: want 1 to`},
		{"dead: maybe\n", `dead: "maybe" is none of refused, silent`},
		{"starttls: always\n", `starttls: "always" is none of`},
		{"extensions: [STARTTLS]\n", `extensions[0]: want a word of EHLO`},
		{"greylist: {share: 1}\n", `greylist.wait: want a span`},
		{"top_of_hour: {for: 1m, rate: 1/s}\n", `top_of_hour.reply: want a reply`},
	} {
		_, err := Parse("try.yaml", []byte(head+tt.rules))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.rules, err, tt.want)
		}
	}
	for _, tt := range []struct{ from, to, want string }{
		{"name: try", "name: Try It", "try.yaml:1:7: name: want 1 to 64"},
		{"a model for tests", "just like Gmail", "description: say in words what is modelled"},
		{"domains: [try.test]", "domains: [gmail.com]", "domains[0]: simulated names end in .test"},
		{"name: mx.try.test", "name: mx.google.com", "mx[0].name: simulated names end in .test"},
		{"mx: [{name: mx.try.test}]", "mx: [{name: mx.try.test, addresses: 99}]", "mx[0].addresses: a host has 1 to 16"},
		{"based_on: [tests]\n", "", "based_on: name where"},
	} {
		_, err := Parse("try.yaml", []byte(strings.Replace(head, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.to, err, tt.want)
		}
	}
}

// FuzzProfile: whatever is read either is refused with a place, or makes a
// carrier that answers.
func FuzzProfile(f *testing.F) {
	files, err := filepath.Glob("profiles/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no profiles: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(head + punishing))
	f.Fuzz(func(t *testing.T, text []byte) {
		ps, err := Parse("fuzz.yaml", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz.yaml:") {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		for _, p := range ps {
			c := New(p, Options{})
			now := dayOne
			for range 20 {
				s, a := c.Connect(now, "a", p.MX[0].Name)
				if a.OK() {
					s.Hello(now, true)
					s.Mail(now, "a@b.test")
					s.Rcpt(now, "r@x.test")
					s.Data(now)
					s.Content(now)
				}
				s.Closed(now)
			}
			c.Allowed(now)
		}
	})
}
