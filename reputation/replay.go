package reputation

import (
	"maps"
	"slices"

	"hikyaku/spool/message"
)

// Carriers are those that have rules of their own, by name.
func (rs *Rules) Carriers() []string { return slices.Sorted(maps.Keys(rs.carriers)) }

// Recorded is the verdict that an event tells of: the event has the category and
// the rule's name, and what follows is worked out again. ok is false when the
// event has none, or a category that is not known here.
func (rs *Rules) Recorded(category Category, name string, r *message.Reply) (v Verdict, ok bool) {
	m, ok := meaningOf(category)
	if !ok {
		return Verdict{}, false
	}
	for _, x := range rs.rules {
		if x.Name == name && x.Category == category {
			return x.verdictFor(r), true
		}
	}
	if g := fallback(r); g.Rule == name && g.Category == category {
		return g, true
	}
	v = m.verdict(r.Class())
	v.Rule = name
	return v, true
}
