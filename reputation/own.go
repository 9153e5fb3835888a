package reputation

import (
	"fmt"
	"maps"
	"slices"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// ownPrefix begins the names of rules of policy.
const ownPrefix = "policy/"

// Compile makes the rules of policy ready, before those that come with the
// program. What is wrong with a rule is in the problems, and that rule is left
// out: policy that was stored by an older program must not stop mail.
func Compile(own map[string]*policy.ReplyRule) (*Rules, policy.Problems) {
	list, problems := ownRules(own)
	common := Shipped().rules
	if most := maxRules - len(common); len(list) > most {
		for _, x := range list[most:] {
			problems = append(problems, policy.Problem{Kind: policy.KindReplyRule, Name: x.Name[len(ownPrefix):], Path: "name",
				Reason: fmt.Sprintf("%d rules are too many: at most %d beside those that come with the program", len(list), most)})
		}
		list = list[:most]
	}
	return newRules(append(list, common...)), problems
}

// Problems says what is wrong with rules of policy, without the rest of Compile:
// what an apply is refused for.
func Problems(own map[string]*policy.ReplyRule) policy.Problems {
	if len(own) == 0 {
		return nil
	}
	_, problems := ownRules(own)
	return problems
}

// ownRules are the rules of policy that are in order, by name.
func ownRules(own map[string]*policy.ReplyRule) ([]*rule, policy.Problems) {
	var list []*rule
	var problems policy.Problems
	for _, name := range slices.Sorted(maps.Keys(own)) {
		spec := own[name]
		if spec == nil || spec.Disabled {
			continue
		}
		bad := func(path, reason string) {
			problems = append(problems, policy.Problem{Kind: policy.KindReplyRule, Name: name, Path: path, Reason: reason})
		}
		x, flaws := ruleOf(name, spec).ready()
		for _, f := range flaws {
			path := "spec"
			if f.path != "" {
				path += "." + f.path
			}
			bad(path, f.reason)
		}
		if len(flaws) > 0 {
			continue
		}
		if !x.checkExamples(spec.Examples, list, bad) {
			continue
		}
		list = append(list, x)
	}
	return list, problems
}

func ruleOf(name string, s *policy.ReplyRule) Rule {
	r := Rule{Name: ownPrefix + name, Codes: s.Codes, Enhanced: s.Enhanced, Phases: s.Phases, Faults: s.Faults, Text: s.Text,
		Category: Category(s.Category), Action: Action(s.Action), RetryAfter: s.RetryAfter.D()}
	if s.Carrier != "" {
		r.Carriers = []string{s.Carrier}
	}
	return r
}

// checkExamples holds a rule against its own examples: it must match each, and
// decide about one at least after the rules before it. It reports whether the
// rule is of use.
func (x *rule) checkExamples(examples []string, before []*rule, bad func(path, reason string)) bool {
	useful, ok, by := false, true, ""
	for i, text := range examples {
		at := element("spec.examples", i)
		reply, err := ParseReply(text)
		switch {
		case err != nil:
			bad(at, err.Error())
			ok = false
			continue
		case reply.Class() == message.Success:
			bad(at, "2xx is success, and no rule is asked")
			ok = false
			continue
		}
		matched := false
		for _, e := range x.variants(reply) {
			if !x.match(e.Carrier, &e.Reply) {
				continue
			}
			matched = true
			at := slices.IndexFunc(before, func(b *rule) bool { return b.match(e.Carrier, &e.Reply) })
			if at < 0 {
				useful = true
			} else if by == "" {
				by = before[at].Name
			}
		}
		if !matched {
			bad(at, fmt.Sprintf("the rule does not match its own example %q", cut(text)))
			ok = false
		}
	}
	if ok && !useful && by != "" {
		bad("spec", fmt.Sprintf("rule %s, which is asked before, takes all its examples: name it so that it sorts before, or leave one out", by))
	}
	return ok && (useful || len(examples) == 0)
}

// variants are the ways in which an example, which has no phase and no fault of
// its own, could have been said.
func (x *rule) variants(r message.Reply) []Example {
	carrier := ""
	if len(x.Carriers) > 0 {
		carrier = x.Carriers[0]
	}
	var all []Example
	for p := message.PhaseNone; p <= message.PhaseQuit; p++ {
		if x.phases != 0 && x.phases&(1<<p) == 0 {
			continue
		}
		for f := message.FaultNone; f < message.FaultLocal; f++ {
			if x.faults&(1<<f) == 0 {
				continue
			}
			r.Phase, r.Fault = p, f
			all = append(all, Example{carrier, r})
		}
	}
	return all
}
