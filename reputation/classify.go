package reputation

import (
	"math/bits"
	"slices"
	"strings"

	"hikyaku/spool/message"
)

// Rules is a set of rules made ready. It is immutable: any number of goroutines
// may use it.
type Rules struct {
	rules []*rule // in the order in which they are asked
	words int     // of marks that are in use
	texts *automaton

	// Which rules may be asked at all, by what is known before the text is read.
	carriers map[string]*marks
	any      marks          // for carriers that have no rules of their own
	classes  [classes]marks // by the code's first digit
	phases   [message.PhaseQuit + 1]marks
	faults   [message.FaultLocal + 1]marks
	textless marks // those whose text is not looked for: candidates always
}

// classes is the number of first digits of codes, 0 to 5.
const classes = 6

// newRules orders nothing: rules come in the order in which they are asked.
func newRules(list []*rule) *Rules {
	rs := &Rules{rules: list, words: (len(list) + 63) / 64, carriers: map[string]*marks{}}
	b := newBuilder()
	for i, x := range list {
		rs.mark(i, x)
		rs.keys(b, i, x.text)
	}
	for i, x := range list { // general rules are every carrier's
		if len(x.Carriers) == 0 {
			for _, m := range rs.carriers {
				m.set(i)
			}
		}
	}
	rs.texts = b.build()
	return rs
}

func (rs *Rules) mark(i int, x *rule) {
	if len(x.Carriers) == 0 {
		rs.any.set(i)
	}
	for _, c := range x.Carriers {
		if rs.carriers[c] == nil {
			rs.carriers[c] = new(marks)
		}
		rs.carriers[c].set(i)
	}
	for d := range rs.classes {
		if len(x.codes) == 0 || slices.ContainsFunc(x.codes, func(c digits) bool { return int(c[0]) == d }) {
			rs.classes[d].set(i)
		}
	}
	for p := range rs.phases {
		if x.phases == 0 || x.phases&(1<<p) != 0 {
			rs.phases[p].set(i)
		}
	}
	for f := range rs.faults {
		if x.faults&(1<<f) != 0 {
			rs.faults[f].set(i)
		}
	}
}

// keys has the automaton look for one literal of each alternative of a text.
func (rs *Rules) keys(b *builder, i int, p *pattern) {
	if p == nil || len(p.alts) == 0 || p.raw {
		rs.textless.set(i)
		return
	}
	for j := range p.alts {
		s := &p.alts[j]
		if s.key() == "" || !b.add(s.key(), hit{uint16(i), s.plain()}) {
			rs.textless.set(i)
		}
	}
}

// Classify says what a reply of a carrier means; carrier "" is one that policy
// does not name. It allocates nothing, but where a rule's text is more than
// literals with anything between them.
func (rs *Rules) Classify(carrier string, r *message.Reply) Verdict {
	switch {
	case r.Fault == message.FaultLocal || r.Phase == message.PhasePolicy:
		return localVerdict(r)
	case r.Code/100 == 2 && r.Fault == message.FaultNone:
		return Verdict{Category: Delivered, Final: true}
	}
	if x := rs.find(carrier, r); x != nil {
		return x.verdictFor(r)
	}
	return fallback(r)
}

// find is the first rule that matches, nil when none does.
func (rs *Rules) find(carrier string, r *message.Reply) *rule {
	switch {
	case int(r.Phase) >= len(rs.phases) || int(r.Fault) >= len(rs.faults):
		return nil
	case strings.IndexByte(r.Text, '@') >= 0:
		return rs.findMasked(carrier, r)
	}
	return first(rs, carrier, r, r.Text)
}

// findMasked is find for texts that hold addresses. It is apart because its
// buffer costs a little, and most texts need none.
//
//go:noinline
func (rs *Rules) findMasked(carrier string, r *message.Reply) *rule {
	var buf [message.MaxReplyText]byte
	text := append(buf[:0], r.Text...)
	mask(text)
	return first(rs, carrier, r, text)
}

func first[T letters](rs *Rules, carrier string, r *message.Reply, text T) *rule {
	var seen, sure marks
	scan(rs.texts, text, &seen, &sure)
	of := rs.carriers[carrier]
	if of == nil {
		of = &rs.any
	}
	class := &rs.classes[min(int(r.Code)/100, classes)%classes]
	phase, fault := &rs.phases[r.Phase], &rs.faults[r.Fault]
	for w := range rs.words {
		m := of[w] & class[w] & phase[w] & fault[w] & (seen[w] | rs.textless[w])
		for ; m != 0; m &= m - 1 {
			i := w<<6 + bits.TrailingZeros64(m)
			x := rs.rules[i]
			if x.matchCodes(r) && (sure.has(i) || textMatches(x.text, r, text, !rs.textless.has(i))) {
				return x
			}
		}
	}
	return nil
}

// textMatches asks a rule's text, if it has one.
func textMatches[T letters](p *pattern, r *message.Reply, text T, scanned bool) bool {
	switch {
	case p == nil:
		return true
	case p.raw:
		return matches(p, r.Text, false)
	}
	return matches(p, text, scanned)
}

// List is the rules in the order in which they are asked.
func (rs *Rules) List() []Rule {
	list := make([]Rule, len(rs.rules))
	for i, x := range rs.rules {
		list[i] = x.Rule
	}
	return list
}
