package carriers

import (
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// Quicker is the same carrier where time goes pace times as fast: it takes that
// many times as much in a second, and what it waits for, or holds against a source,
// is over that much sooner. Counts stay, those of a day too, and so does what is a
// matter of the wire: how long an answer takes, and a session may last. A pace of 1
// or less changes nothing.
func (p *Profile) Quicker(pace int) *Profile {
	if pace <= 1 {
		return p
	}
	sooner := func(d policy.Duration) policy.Duration { return d / policy.Duration(pace) }
	faster := func(r *policy.Rate) *policy.Rate {
		if r == nil {
			return nil
		}
		return &policy.Rate{N: r.N * int64(pace), Per: r.Per, Burst: r.BurstOrDefault()}
	}
	q := *p
	for _, l := range []*policy.Limits{&q.Limits, &q.PerSource} {
		l.Rate, l.ConnectionRate = faster(l.Rate), faster(l.ConnectionRate)
	}
	if g := p.Greylist; g != nil {
		x := *g
		x.Wait, x.Keep = sooner(g.Wait), sooner(policy.Duration(g.Keep.Or(greyKept)))
		q.Greylist = &x
	}
	q.Recipients = slices.Clone(p.Recipients)
	for i := range q.Recipients {
		a := &q.Recipients[i].After
		a.Median, a.P99, a.Quantiles = sooner(a.Median), sooner(a.P99), slices.Clone(a.Quantiles)
		for j := range a.Quantiles {
			a.Quantiles[j] = sooner(a.Quantiles[j])
		}
	}
	if t := p.TopOfHour; t != nil {
		x := *t
		x.Hour, x.For, x.Rate = sooner(policy.Duration(t.Hour.Or(time.Hour))), sooner(t.For), *faster(&t.Rate)
		q.TopOfHour = &x
	}
	if u := p.Punish; u != nil {
		x := *u
		x.Forgive = sooner(u.Forgive)
		if u.Slow != nil {
			x.Slow = &Slow{u.Slow.Strikes, sooner(u.Slow.Delay)}
		}
		if b := u.Block; b != nil {
			y := *b
			y.For, y.AtMost, y.Forget = sooner(b.For), sooner(b.AtMost), sooner(b.Forget)
			x.Block = &y
		}
		q.Punish = &x
	}
	return &q
}

// soonRules are rules that read a carrier's words for too much as those that ship
// do, and wait pace times less before the recipient is tried again.
func (p *Profile) soonRules(pace int) (rules []*policy.ReplyRule) {
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
				Carrier: p.Name, Codes: []string{text[:3]}, Text: anyOf(s.Reply), Category: string(v.Category), Action: string(v.Action),
				RetryAfter: policy.Duration(max(time.Second, v.RetryAfter/time.Duration(pace))), Examples: []string{text},
			})
		}
	}
	return rules
}
