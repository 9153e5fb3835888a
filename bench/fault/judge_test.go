package fault

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/controlplane/client"
)

// quiet stops the load.
func (s *stage) quiet() {
	s.end()
	p := s.load.Progress()
	s.say("load ends: %d accepted, %d refused, %d without an answer", p.Accepted, p.Refused, p.Unknown)
}

// verdict is what a story has shown.
type verdict struct {
	violations []Violation
	repeats    int // with a cause
	balance    ledger.Balance
}

// judge ends all nodes and checks everything that must hold in any story.
func (s *stage) judge() verdict {
	s.Helper()
	s.quiet()
	if s.w.Count(daily) > dailyLimit {
		s.account()
	}
	var stopped sync.WaitGroup
	errs := make([]error, len(s.Nodes))
	for i, n := range s.Nodes {
		stopped.Go(func() { errs[i] = n.Stop(30 * time.Second) })
	}
	stopped.Wait()
	for i, err := range errs {
		if err != nil {
			s.Errorf("%s ended with %v", s.Nodes[i].ID, err)
		}
	}
	var v verdict
	var err error
	v.violations, err = s.Audit(s.ctx, s.l)
	s.must("audit", err)
	sights, err := s.w.Sights()
	s.must("sights", err)
	v.violations = append(v.violations, safety(sights, s.still)...)
	receipts := s.w.Receipts()
	var repeated []Violation
	v.repeats, repeated = Repeats(receipts, sights, s.cuts, repeatWindow)
	v.violations = append(v.violations, repeated...)
	v.balance = s.l.Balance()
	s.say("%v", v.balance)
	for _, c := range []string{brisk, steady, open, daily} {
		s.say("%s: %d MAILs", c, s.w.Count(c))
	}
	return v
}

// account shows who has which part of the budget of daily, and who used it.
func (s *stage) account() {
	s.Helper()
	grants, err := s.ask().Grants(s.ctx, client.GrantFilter{Carrier: daily})
	s.must("grants", err)
	for _, g := range grants {
		s.Logf("%+v", g)
	}
	members, err := s.ask().Nodes(s.ctx)
	s.must("nodes", err)
	for _, n := range members {
		s.Logf("%s: floor %g, confirmed %g, rank %d", n.Name, n.Floor, n.FloorConfirmed, n.Rank)
	}
	sights, err := s.w.Sights()
	s.must("sights", err)
	for _, x := range sights {
		if x.Kind == Mail && x.Carrier == daily {
			s.Logf("%7.3f %s e%d %s", x.At.Seconds(), x.Node, x.Epoch, x.Source)
		}
	}
	taken := 0
	for _, r := range s.w.Receipts() {
		if r.Carrier == daily {
			taken++
		}
	}
	s.Logf("%d were taken", taken)
}

// safety is what the receivers say.
func safety(sights []Sight, still []standstill) []Violation {
	vs := Exclusive(sights)
	at := func(carrier string) func(Sight) bool { return func(s Sight) bool { return s.Carrier == carrier } }
	vs = append(vs, Windows(brisk, sights, Budget{briskRate, briskBurst, slack}, at(brisk))...)
	vs = append(vs, Open(brisk, closedWhenStill(sights, still), briskConnections, slack, at(brisk))...)
	sources := map[string]bool{}
	days := 0
	for _, s := range sights {
		sources[s.Source] = true
		if s.Kind == Mail && s.Carrier == daily {
			if days++; days == dailyLimit+1 {
				vs = append(vs, Violation{RuleBudget, s.At, fmt.Sprintf("%s: more than %d in a day", daily, dailyLimit)})
			}
		}
	}
	for source := range sources {
		vs = append(vs, Windows(steady+" from "+source, sights, Budget{steadyRate, steadyBurst, slack}, func(s Sight) bool {
			return s.Carrier == steady && s.Source == source
		})...)
	}
	return vs
}

// closedWhenStill lets connections of a process that stood still end with its
// standstill: it cannot close them, and the others cannot know of them.
func closedWhenStill(sights []Sight, still []standstill) []Sight {
	out := slices.Clone(sights)
	for i, s := range out {
		for _, st := range still {
			if s.Kind == Ended && s.Node == st.node && s.At > st.from && s.At < st.to+time.Second {
				out[i].At = min(s.At, st.from)
			}
		}
	}
	return out
}

// fine fails the story for any violation, and for more repeats than allowed.
func (s *stage) fine(v verdict, repeats int) {
	s.Helper()
	for i, x := range v.violations {
		if i == 20 {
			s.Errorf("… and %d more", len(v.violations)-i)
			break
		}
		s.Error(x)
	}
	if v.repeats > repeats {
		s.Errorf("%d recipients got it twice, allowed are %d", v.repeats, repeats)
	}
	if err := v.balance.Err(v.balance.Duplicates.Count); err != nil { // repeats were looked at one by one
		s.Error(err)
	}
	if v.balance.Bounced+v.balance.Expired+v.balance.Cancelled > 0 {
		s.Error("mail that every receiver takes has bounced or expired")
	}
	if s.weights[daily] > 0 && s.w.Count(daily) == 0 {
		s.Error("nothing went to " + daily)
	}
}
