package carriers

import (
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// quicker are rules that read a carrier's words for too much as those that ship
// do, and wait pace times less before the recipient is tried again.
func (p *Profile) quicker(pace int) (rules []*policy.ReplyRule) {
	if pace <= 1 {
		return nil
	}
	says := []*Say{p.Over.Connections, p.Over.ConnectionRate, p.Over.Rate, p.Over.PerDay}
	if p.Punish != nil && p.Punish.Defer != nil {
		says = append(says, &p.Punish.Defer.Say)
	}
	seen := map[string]bool{}
	for _, s := range says {
		if s == nil || seen[s.Reply] {
			continue
		}
		seen[s.Reply] = true
		text := placeholder.ReplaceAllString(s.Reply, "x")
		r, err := reputation.ParseReply(text)
		if err != nil {
			continue // it says nothing, and hangs up
		}
		r.Phase = message.PhaseMail
		if v := reputation.Shipped().Classify(p.Name, &r); v.RetryAfter > 0 && !v.Final {
			rules = append(rules, &policy.ReplyRule{
				Carrier: p.Name, Codes: []string{text[:3]}, Text: fixedPart(s.Reply), Category: string(v.Category), Action: string(v.Action),
				RetryAfter: policy.Duration(max(time.Second, v.RetryAfter/time.Duration(pace))), Examples: []string{text},
			})
		}
	}
	return rules
}
