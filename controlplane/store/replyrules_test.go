package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// TestApplyRefusesReplyRulesThatDoNotWork: policy knows the fields, reputation
// knows what they mean.
func TestApplyRefusesReplyRulesThatDoNotWork(t *testing.T) {
	eachStore(t, testApplyRefusesReplyRulesThatDoNotWork)
}

func testApplyRefusesReplyRulesThatDoNotWork(t *testing.T, f store.Store) {
	rule := func(text, category string) *policy.ReplyRule {
		return &policy.ReplyRule{Text: text, Category: category, Examples: []string{"550 You are too fast"}}
	}
	apply := func(name string, spec any) error {
		_, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{{Kind: policy.KindReplyRule, Name: name, Spec: spec}}})
		return err
	}
	if err := apply("m", rule("too fast", "rate")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		spec *policy.ReplyRule
		path string
		want string
	}{
		{"z", rule("too fast", "fast"), "spec.category", "no category"},
		{"z", rule("too slow", "rate"), "spec.examples[0]", "does not match its own example"},
		{"z", rule("fast", "rate"), "spec", "rule policy/m, which is asked before"},
		{"a", rule("fast", "rate"), "spec", "rule policy/a, which is asked before"}, // and m is the one in its shadow
	} {
		err := apply(tt.name, tt.spec)
		var problems policy.Problems
		if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Path != tt.path || !strings.Contains(problems[0].Reason, tt.want) {
			t.Errorf("%s %+v: %v, want %s: %s", tt.name, tt.spec, err, tt.path, tt.want)
		}
	}
	if n := len(f.Snapshot().ReplyRules); n != 1 {
		t.Errorf("%d rules are stored, want one", n)
	}
	if err := apply("z", rule("you are", "blocked")); err == nil {
		t.Error("a rule in another's shadow was stored")
	}
	narrow := rule("too fast", "rate")
	narrow.Carrier = "default"
	if err := apply("a", narrow); err != nil {
		t.Errorf("a narrower rule before a wider one: %v", err)
	}
}
