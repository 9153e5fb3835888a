package fault

import (
	"testing"
	"time"
)

// red plays a story with a protection switched off until the check shows what
// the protection is for, with one seed after the other.
func red(t *testing.T, rule string, seeds int, play func(t testing.TB, seed uint64) []Violation) {
	t.Helper()
	if testing.Short() {
		t.Skip("real processes and real leases")
	}
	for seed := range uint64(seeds) {
		for _, v := range play(t, seed) {
			if v.Rule == rule {
				t.Logf("seed %d: %v", seed, v)
				return
			}
		}
	}
	t.Errorf("with its protection switched off, %q was kept with %d seeds: the check, or the story, shows nothing", rule, seeds)
}

// shown waits until a check of what was seen so far finds something; nil if it
// finds nothing in time.
func (s *stage) shown(within time.Duration, check func([]Sight) []Violation) (vs []Violation) {
	s.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); len(vs) == 0 && time.Now().Before(end) && s.ctx.Err() == nil; <-tick.C {
		sights, err := s.w.Sights()
		s.must("sights", err)
		vs = check(sights)
	}
	return vs
}

// lateQuarantine is shorter than answers are late.
const lateQuarantine = time.Second

// TestNegativeLateAnswers: a node that counts its lease from the arrival of an
// answer goes on with its sources while others have them.
func TestNegativeLateAnswers(t *testing.T) {
	t.Parallel()
	red(t, RuleOneNode, 5, func(t testing.TB, seed uint64) []Violation {
		sc := usual(seed)
		sc.args, sc.quarantine = []string{"--unsafe-trust-session"}, lateQuarantine
		s := set(t, sc)
		defer s.over()
		x := s.other(s.leader())
		s.late(x)
		s.weather(x, Weather{Up: time.Hour, Down: bearable}) // no further request reaches etcd
		return s.shown(3*leaseTTL, Exclusive)
	})
}

// TestNegativeStandStill: a node that has stood still, and believes its client
// when it goes on, does the same.
func TestNegativeStandStill(t *testing.T) {
	t.Parallel()
	red(t, RuleOneNode, 5, func(t testing.TB, seed uint64) []Violation {
		sc := usual(seed)
		sc.args = []string{"--unsafe-trust-session"}
		sc.weights[open] += 45 // its sessions have something to say when it goes on
		s := set(t, sc)
		defer s.over()
		x := s.other(s.leader())
		held := s.held(x)
		at, resume := s.stop(x)
		s.isolate(x, true) // else etcd would tell it at once
		s.moved(held, x, at, leaseTTL+quarantine+few)
		resume()
		return s.shown(2*time.Second, Exclusive)
	})
}

// TestNegativeGrantsForever: a node whose grants do not run out goes on with its
// part of a budget that others have by then.
func TestNegativeGrantsForever(t *testing.T) {
	t.Parallel()
	red(t, RuleBudget, 3, func(t testing.TB, seed uint64) []Violation {
		sc := pressed(seed)
		sc.args = []string{"--unsafe-grants-forever"}
		s := set(t, sc)
		defer s.over()
		s.flows(30 * time.Second)
		s.isolate(s.leader(), true)
		return s.shown(40*time.Second, func(sights []Sight) []Violation {
			return Windows(brisk, sights, Budget{briskRate, briskBurst, slack}, func(x Sight) bool { return x.Carrier == brisk })
		})
	})
}
