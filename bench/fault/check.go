package fault

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Kind is what a receiver saw.
type Kind uint8

// The kinds of sight.
const (
	Connected Kind = iota
	Mail           // MAIL FROM
	Ended          // the connection is over
)

// Sight is one thing that a receiver saw, with the clock of all receivers.
type Sight struct {
	At      time.Duration // since the witness began
	Kind    Kind
	Conn    uint64 // tells connections apart
	Carrier string
	Source  string // the address that it came from
	Node    string // by EHLO; "" before it
	Epoch   int64
	Lost    bool // Ended: without QUIT
}

// Violation is one breach of what must always hold.
type Violation struct {
	Rule string
	At   time.Duration
	Text string
}

// String is for people.
func (v Violation) String() string {
	return fmt.Sprintf("%s at %.3fs: %s", v.Rule, v.At.Seconds(), v.Text)
}

// The rules.
const (
	RuleOneNode = "one source, one node"     // safety.md I7
	RuleEpochs  = "epochs never fall"        // I8
	RuleBudget  = "budget holds"             // I9
	RuleOpen    = "connection limit holds"   // I9
	RuleUnknown = "every session has a name" // else nothing could be checked
)

// holder is who used a source: a node under an epoch.
type holder struct {
	node  string
	epoch int64
}

// use is a holder's time with a source: from its first connection to its last
// MAIL, or to its first connection if it sent nothing.
type use struct {
	holder
	first, last time.Duration
}

// Exclusive checks that no two holders used a source at the same time, and that
// the epochs of a source never fell. Sights may come in any order.
func Exclusive(sights []Sight) []Violation {
	named := nameConnections(sights)
	bySource := map[string][]Sight{}
	var vs []Violation
	for _, s := range named {
		if s.Kind == Mail && s.Node == "" {
			vs = append(vs, Violation{RuleUnknown, s.At, "a transaction from " + s.Source + " without node and epoch in EHLO"})
		}
		if s.Kind != Ended && s.Node != "" {
			bySource[s.Source] = append(bySource[s.Source], s)
		}
	}
	for source, list := range bySource {
		vs = append(vs, overlaps(source, list)...)
		vs = append(vs, falls(source, list)...)
	}
	slices.SortFunc(vs, func(a, b Violation) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Text, b.Text)) })
	return vs
}

// nameConnections sorts by time and gives what was seen before EHLO the name
// that EHLO gave.
func nameConnections(sights []Sight) []Sight {
	names := map[uint64]holder{}
	for _, s := range sights {
		if s.Node != "" {
			names[s.Conn] = holder{s.Node, s.Epoch}
		}
	}
	out := slices.Clone(sights)
	for i := range out {
		h := names[out[i].Conn]
		out[i].Node, out[i].Epoch = h.node, h.epoch
	}
	slices.SortStableFunc(out, func(a, b Sight) int { return cmp.Compare(a.At, b.At) })
	return out
}

func overlaps(source string, list []Sight) []Violation {
	uses := map[holder]*use{}
	for _, s := range list {
		h := holder{s.Node, s.Epoch}
		u := uses[h]
		if u == nil {
			u = &use{h, s.At, s.At}
			uses[h] = u
		}
		if s.Kind == Mail {
			u.last = s.At
		}
	}
	ordered := make([]*use, 0, len(uses))
	for _, u := range uses {
		ordered = append(ordered, u)
	}
	slices.SortFunc(ordered, func(a, b *use) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.epoch, b.epoch)) })
	var vs []Violation
	for i := 1; i < len(ordered); i++ {
		a, b := ordered[i-1], ordered[i]
		if b.first <= a.last {
			vs = append(vs, Violation{RuleOneNode, b.first, fmt.Sprintf("%s: %s (epoch %d) used it from %.3f to %.3f s, %s (epoch %d) from %.3f to %.3f s",
				source, a.node, a.epoch, a.first.Seconds(), a.last.Seconds(), b.node, b.epoch, b.first.Seconds(), b.last.Seconds())})
			if a.last > b.last { // the longer one counts on against those after it
				ordered[i] = &use{a.holder, b.first, a.last}
			}
		}
	}
	return vs
}

func falls(source string, list []Sight) []Violation {
	var vs []Violation
	var top int64
	for _, s := range list {
		if s.Kind != Mail {
			continue
		}
		if s.Epoch < top {
			vs = append(vs, Violation{RuleEpochs, s.At, fmt.Sprintf("%s: %s sends under epoch %d after epoch %d was seen", source, s.Node, s.Epoch, top)})
		}
		top = max(top, s.Epoch)
	}
	return vs
}

// Budget is a limit that must hold in every window of time: at most PerSecond x
// W + Burst transactions. Slack is how much earlier or later than it was sent a
// receiver may see one; it widens each window once.
type Budget struct {
	PerSecond float64
	Burst     int64
	Slack     time.Duration
}

// Windows checks a budget over every window between two transactions, for
// those that pick takes. It keeps the level of a bucket that leaks at the rate,
// which is the largest excess over all windows that end here.
func Windows(name string, sights []Sight, b Budget, pick func(Sight) bool) []Violation {
	var at []time.Duration
	for _, s := range sights {
		if s.Kind == Mail && pick(s) {
			at = append(at, s.At)
		}
	}
	slices.Sort(at)
	most := float64(b.Burst) + b.PerSecond*b.Slack.Seconds()
	var vs []Violation
	var level, worst float64
	var last, since, begin time.Duration
	for i, t := range at {
		if level -= b.PerSecond * (t - last).Seconds(); i == 0 || level <= 0 {
			level, begin = 0, t
		}
		level++
		last = t
		// A token of the rate has come in the window's own time: half a
		// millionth pays for adding up floating point numbers.
		if level > most+1e-6 {
			if len(vs) == 0 || t-since > time.Second { // one a second says enough
				vs = append(vs, Violation{RuleBudget, t, ""})
				since, worst = t, 0
			}
			if worst = max(worst, level); worst == level {
				vs[len(vs)-1].Text = fmt.Sprintf("%s: %.1f above the rate of %g/s within %.3f s, burst and slack allow %.1f",
					name, level, b.PerSecond, (t - begin).Seconds(), most)
			}
		}
	}
	return vs
}

// Open checks a limit of connections open at once. Slack takes out those that
// closed that shortly before: a receiver sees the end of one and the beginning of
// the next in either order.
func Open(name string, sights []Sight, limit int, slack time.Duration, pick func(Sight) bool) []Violation {
	type step struct {
		at time.Duration
		n  int
	}
	var steps []step
	for _, s := range sights {
		switch {
		case !pick(s):
		case s.Kind == Connected:
			steps = append(steps, step{s.At + slack, 1})
		case s.Kind == Ended:
			steps = append(steps, step{s.At, -1})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n)) })
	var vs []Violation
	open := 0
	for _, s := range steps {
		if open += s.n; open > limit && s.n > 0 {
			vs = append(vs, Violation{RuleOpen, s.at - slack, fmt.Sprintf("%s: %d open, %d allowed", name, open, limit)})
		}
	}
	return vs
}
