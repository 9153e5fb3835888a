package scheduler

import "hikyaku/controlplane/exchange"

// permits are what the leader has given this node of a daily budget, one for
// each message. All counts only rise while the node's lease lasts, but that one
// that was taken may come back unused.
//
// INVARIANT: spent + returned is between void and issued. The permit numbered
// spent + returned is the next to be used.
type permits struct {
	issued, void    int64
	spent, returned int64
	since           instant // tokens taken earlier are of another lease
	dies            instant // unused ones end here, if no new grant comes before
}

// permitsOutlive is how much longer permits hold than the grants they came with.
const permitsOutlive = instant(exchange.PermitTTL - exchange.GrantTTL)

// tell takes over what a grant says of permits, and says whether there are some
// where there were none.
func (g *grantTable) tell(now instant, gr *exchange.Grant) bool {
	p := g.permits[gr.Scope]
	if p == nil {
		if gr.Issued <= 0 || len(g.permits) >= maxPermitScopes {
			return false
		}
		p = &permits{since: now}
		g.permits[gr.Scope] = p
	}
	none := p.left(now) == 0 // and those that are dead have ended
	p.issued = max(p.issued, gr.Issued)
	p.void = min(max(p.void, gr.Void), p.issued)
	p.dies = g.until + permitsOutlive
	p.settle()
	return none && p.left(now) > 0
}

// left is how many may be used.
func (p *permits) left(now instant) int64 {
	if now >= p.dies {
		p.void = p.issued
		p.settle()
	}
	return p.issued - p.spent - p.returned
}

// settle returns what has become void.
func (p *permits) settle() { p.returned = max(p.returned, p.void-p.spent) }

// giveBack takes back a permit that was not used after all.
func (p *permits) giveBack(now, taken instant) {
	if taken < p.since || p.spent == 0 {
		return
	}
	p.spent--
	p.left(now)
	p.settle()
}

// DayUse is one daily limit that a dispatch was counted against without a
// permit: it must be remembered over a crash (LoadDayCounts).
type DayUse struct {
	Scope exchange.Scope
	// Keeps is how many this node may count against it in 24 hours.
	Keeps int64
}

// DayUses are the daily limits that the last Next or Again counted against,
// but for those it had permits for. The slice holds until the next call of the
// Scheduler.
func (s *Scheduler) DayUses() []DayUse { return s.limits.days }
