package fault

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Receipt is one recipient that a receiver took and promised to deliver.
type Receipt struct {
	At      time.Duration
	Number  int // of the recipient
	Conn    uint64
	Node    string
	Carrier string
}

// Cut is a moment from which a node could not write down what it learned: it was
// killed, or stopped.
type Cut struct {
	At   time.Duration
	Node string
}

// RuleRepeats is that nobody gets a message twice but for a promise that was
// lost on its way, or lost with a process before it was on disk (I5).
const RuleRepeats = "duplicates have a cause"

// Repeats looks at every recipient that was taken more than once. The one before
// must have been promised on a connection that was lost: within the window before
// its end, or around a cut of the node that it came from. The number of repeats
// with a cause is returned beside those without.
func Repeats(receipts []Receipt, sights []Sight, cuts []Cut, window time.Duration) (excused int, vs []Violation) {
	lost := map[uint64]time.Duration{}
	nodes := map[uint64]string{}
	for _, s := range sights {
		if s.Kind == Ended && s.Lost {
			lost[s.Conn] = s.At
		}
		if s.Node != "" {
			nodes[s.Conn] = s.Node
		}
	}
	byNumber := map[int][]Receipt{}
	for _, r := range receipts {
		byNumber[r.Number] = append(byNumber[r.Number], r)
	}
	for n, rs := range byNumber {
		slices.SortFunc(rs, func(a, b Receipt) int { return cmp.Compare(a.At, b.At) })
		for i := 1; i < len(rs); i++ {
			first := rs[i-1]
			ended, was := lost[first.Conn]
			cause := was && ended-first.At <= window
			for _, c := range cuts {
				cause = cause || was && c.Node == nodes[first.Conn] && max(c.At-first.At, first.At-c.At) <= window
			}
			if cause {
				excused++
				continue
			}
			vs = append(vs, Violation{RuleRepeats, rs[i].At, fmt.Sprintf("recipient %d of %s: taken from %s at %.3f s (connection lost: %t, at %.3f s) and from %s again",
				n, first.Carrier, first.Node, first.At.Seconds(), was, ended.Seconds(), rs[i].Node)})
		}
	}
	slices.SortFunc(vs, func(a, b Violation) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Text, b.Text)) })
	return excused, vs
}
