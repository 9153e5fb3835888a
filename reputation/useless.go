package reputation

import (
	"fmt"

	"hikyaku/spool/message"
)

// Example is a reply of a carrier that rules are held against.
type Example struct {
	Carrier string
	Reply   message.Reply
}

// Useless is a rule that decides nothing among some examples.
type Useless struct {
	Rule string
	By   string // the rule that takes all it would match; "" when it matches nothing
}

func (u Useless) String() string {
	if u.By == "" {
		return fmt.Sprintf("%s matches none of the examples", u.Rule)
	}
	return fmt.Sprintf("%s is shadowed by %s, which takes all the examples that it matches", u.Rule, u.By)
}

// Useless lists the rules that decide about none of the examples, in the order
// of the rules.
func (rs *Rules) Useless(examples []Example) []Useless {
	decides := map[*rule]bool{}
	by := map[*rule]string{}
	for i := range examples {
		e := &examples[i]
		first := rs.find(e.Carrier, &e.Reply)
		if first == nil {
			continue
		}
		decides[first] = true
		for _, x := range rs.rules {
			if x != first && by[x] == "" && x.match(e.Carrier, &e.Reply) {
				by[x] = first.Name
			}
		}
	}
	var list []Useless
	for _, x := range rs.rules {
		if !decides[x] {
			list = append(list, Useless{Rule: x.Name, By: by[x]})
		}
	}
	return list
}
