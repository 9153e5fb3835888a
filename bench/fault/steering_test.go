package fault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

// stopsWithin is how long after a carrier has begun to refuse a source the last
// attempt of any node from there may come. Beside all other tests, on machines
// that are not known, the short form allows more: it is not for measuring.
const (
	stopsWithin      = time.Second
	stopsWithinShort = 3 * time.Second
)

// blockSource has one carrier refuse one source: all nodes leave it alone there,
// also the one that gets the source next, and the leader's when it is killed and
// comes back; its mail goes from the others, and other carriers see it as before;
// a decision says why, and the next leader does not make it again; and when its
// rest is over it is used again, first on probation.
func blockSource(t testing.TB, seed uint64, long bool) {
	limit := stopsWithinShort
	if long {
		limit = stopsWithin
	}
	s := set(t, script{seed: seed, weights: map[string]float64{open: 60, brisk: 20, steady: 30}, bound: 0.1, busy: 20 * time.Millisecond})
	victim, address := s.busiest(open)
	s.say("%s has the most mail for %s", victim, open)
	from := s.w.Now()
	s.w.Refuse(open, address, fmt.Sprintf("554 5.7.1 Service unavailable; Client host [%s] blocked using bl.example; poor reputation", address))
	d := s.decided(open, victim, "block")
	s.say("decision %s after %.3f s: %s", d.ID, (s.w.Now() - from).Seconds(), d.Why)
	rests := s.w.Now() + time.Until(d.Until)
	if d.Rule == "" || !strings.Contains(strings.Join(d.Replies, " "), "poor reputation") {
		s.Errorf("the decision does not say why: %+v", d)
	}
	holder := s.holder(victim)
	s.pass(5 * time.Second)
	first, last := s.attempts(open, address, from, s.w.Now())
	s.say("the last attempt is %.3f s after the first refusal", (last - first).Seconds())
	if last-first > limit+slack {
		s.Errorf("it was tried for %v after the first refusal, want %v", last-first, limit)
	}
	// Another node has it now: what was decided counts there too.
	next := s.other(holder)
	_, err := s.ask().MoveSource(s.ctx, victim, next.ID, "the story")
	s.must("move the source", err)
	s.moved([]string{address}, holder, s.w.Now(), leaseTTL+quarantine+few)
	moved := s.w.Now()
	s.w.Refuse(open, address, "")
	s.loseLeader()
	s.pass(max(0, rests-2*time.Second-s.w.Now()))
	if n := s.blocks(victim); n != 1 {
		s.Errorf("%d decisions to block it, want 1", n)
	}
	if _, again := s.attempts(open, address, max(last, first+limit)+1, min(s.w.Now(), rests-time.Second)); again != 0 {
		s.Errorf("it was used there %.3f s after it had been blocked, for %v", (again - first).Seconds(), time.Minute)
	}
	if n := s.mails(brisk, address, moved) + s.mails(steady, address, moved); n == 0 {
		s.Error("other carriers saw nothing of it meanwhile")
	}
	if n := s.mails(open, "", moved) - s.mails(open, address, moved); n == 0 {
		s.Error("its carrier got nothing from other sources meanwhile")
	}
	s.recovers(victim, address, rests)
	s.fine(s.ends(), perCrash)
}

// loseLeader kills the leader and lets it come back when another one leads.
func (s *stage) loseLeader() {
	s.Helper()
	x := s.leader()
	at := s.kill(x)
	s.until(30*time.Second, "another leader", func() bool {
		l, err := s.ask(x).Leader(s.ctx)
		return err == nil && l.Name != "" && l.Name != x.ID
	})
	s.say("another leader after %.1f s", (s.w.Now() - at).Seconds())
	s.restart(x)
}

// blocks is how many decisions there are that block a source at the open carrier.
func (s *stage) blocks(source string) int {
	s.Helper()
	n := 0
	s.until(30*time.Second, "the decisions", func() bool {
		l, err := s.ask().Decisions(s.ctx, state.DecisionFilter{Carrier: open, Source: source, Action: "block", Limit: 10})
		if err == nil {
			n = len(l.Decisions)
		}
		return err == nil
	})
	return n
}

// recovers waits until a source is used again at its carrier and has passed its
// probation.
func (s *stage) recovers(victim, address string, rests time.Duration) {
	s.Helper()
	s.until(45*time.Second, "mail from the source after its rest", func() bool { return s.mails(open, address, rests-time.Second) > 0 })
	first, _ := s.attempts(open, address, rests-time.Second, s.w.Now())
	s.say("it is used again %.1f s after its rest", (first - rests).Seconds())
	s.decided(open, victim, "recover")
	s.say("it has passed its probation after %.1f s", (s.w.Now() - first).Seconds())
	lanes, err := s.ask().SteeredLanes(s.ctx, state.LaneFilter{Carrier: open, Source: victim})
	s.must("list lanes", err)
	for _, l := range lanes {
		if l.State == policy.StateBlocked || l.State == policy.StateResting {
			s.Errorf("it is %s again: %+v", l.State, l)
		}
	}
}

// busiest is the movable source from which a carrier has seen most.
func (s *stage) busiest(carrier string) (name, address string) {
	s.Helper()
	s.until(30*time.Second, "enough mail for "+carrier, func() bool { return s.w.Count(carrier) > 200 })
	most := 0
	for i := range movables {
		if n := s.mails(carrier, movable(i), 0); n > most {
			most, name, address = n, fmt.Sprintf("s%d", i+1), movable(i)
		}
	}
	return name, address
}

// mails is how many MAILs a carrier has seen from a source, or from all, since a
// time.
func (s *stage) mails(carrier, address string, since time.Duration) (n int) {
	s.Helper()
	sights, err := s.w.Sights()
	s.must("sights", err)
	for i := range sights {
		if x := &sights[i]; x.Kind == Mail && x.Carrier == carrier && x.At >= since && (address == "" || x.Source == address) {
			n++
		}
	}
	return n
}

// attempts are the first and the last time in a span at which a source connected
// to a carrier, or said MAIL; 0 for none.
func (s *stage) attempts(carrier, address string, from, to time.Duration) (first, last time.Duration) {
	s.Helper()
	sights, err := s.w.Sights()
	s.must("sights", err)
	for i := range sights {
		x := &sights[i]
		if x.Carrier != carrier || x.Source != address || x.Kind == Ended || x.At < from || x.At > to {
			continue
		}
		if first == 0 {
			first = x.At
		}
		last = x.At
	}
	return first, last
}

// decided waits for a decision of a kind about a source at a carrier.
func (s *stage) decided(carrier, source, action string) (d *state.Decision) {
	s.Helper()
	s.until(60*time.Second, fmt.Sprintf("the decision to %s %s", action, source), func() bool {
		l, err := s.ask().Decisions(s.ctx, state.DecisionFilter{Carrier: carrier, Source: source, Action: action, Limit: 1})
		if err != nil || len(l.Decisions) == 0 {
			return false
		}
		d = &l.Decisions[0]
		return true
	})
	return d
}

// holder is the node that has a source.
func (s *stage) holder(source string) (n *Node) {
	s.Helper()
	s.until(30*time.Second, "who holds "+source, func() bool {
		for _, src := range s.sources() {
			if src.Name == source && src.State == "held" {
				n = s.named(src.Node)
				return true
			}
		}
		return false
	})
	return n
}
