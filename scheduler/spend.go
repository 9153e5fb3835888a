package scheduler

import (
	"hikyaku/controlplane/exchange"
	"hikyaku/spool/message"
)

// dayPart says what of the day's limit was used for one message.
type dayPart uint8

const (
	byNone   dayPart = iota // there was no limit
	byCount                 // the 24 hours' count
	byPermit                // a permit
)

// dayParts says it for all budgets of a dispatch, in two bits for each.
type dayParts uint64

func (p dayParts) of(which int) dayPart { return dayPart(p >> (2 * which) & 3) }

// The budgets of a dispatch, in the order of dayParts.
const (
	ofSource = iota
	ofCarrier
	ofTenant
	ofTenantCarrier
	ofStream
	ofJob
	ofPools // and on: those of lane.pools
)

// spend takes one from every budget in the way of a dispatch: those of the lane,
// and what of tenant, tenant at carrier, stream and job there is.
func (t *limitTable) spend(now instant, l *lane, k *message.QueueKey, of [4]*scope) (days dayParts) {
	t.days = t.days[:0]
	days |= t.take(now, &l.own.scope, ofSource, l, k)
	days |= t.take(now, &l.all.scope, ofCarrier, l, k)
	l.all.lately.add(now)
	for i, c := range of {
		if c != nil {
			days |= t.take(now, c, ofTenant+i, l, k)
		}
	}
	for i, p := range l.pools {
		days |= t.take(now, &p.scope, ofPools+i, l, k)
	}
	return days
}

func (t *limitTable) take(now instant, c *scope, which int, l *lane, k *message.QueueKey) dayParts {
	by := c.take(now)
	if by == byCount {
		t.days = append(t.days, DayUse{scopeAt(which, l, k), c.keeps})
	}
	return dayParts(by) << (2 * which)
}

// scopeAt names one of the budgets of a dispatch.
func scopeAt(which int, l *lane, k *message.QueueKey) exchange.Scope {
	switch which {
	case ofSource:
		return keyOf(l.site, l.key.Source).scope()
	case ofCarrier:
		return keyOf(l.site, "").scope()
	case ofTenant:
		return tenantScope(k.Tenant)
	case ofTenantCarrier:
		return tenantKey{k.Tenant, l.site.carrier}.scope()
	case ofStream:
		return streamKey{k.Tenant, k.Stream}.scope()
	case ofJob:
		return jobKey{k.Tenant, k.Job}.scope()
	}
	return poolKeyOf(l.site, l.pools[which-ofPools].pool).scope()
}

// makeOthers is others, and makes those that a policy has brought since the
// delivery went out: none of its queue's need be left to have done so.
func (t *limitTable) makeOthers(now instant, l *lane, k *message.QueueKey) (of [4]*scope) {
	of = [...]*scope{t.tenant(now, k.Tenant), t.at(now, tenantKey{k.Tenant, l.site.carrier}), t.stream(now, streamKey{k.Tenant, k.Stream}), nil}
	if k.Job != "" {
		of[3] = t.jobFor(now, jobKey{k.Tenant, k.Job})
	}
	return of
}

// others are a dispatch's budgets but for those of its lane, as far as there
// are any yet.
func (t *limitTable) others(l *lane, k *message.QueueKey) (of [4]*scope) {
	of = [...]*scope{t.tenants[k.Tenant], t.atOne[tenantKey{k.Tenant, l.site.carrier}], t.streams[streamKey{k.Tenant, k.Stream}], nil}
	if k.Job != "" {
		of[3] = t.job(jobKey{k.Tenant, k.Job})
	}
	return of
}

// giveBack returns the tokens of a dispatch that was not attempted.
func (t *limitTable) giveBack(now instant, it *item) {
	l := it.lane
	back := func(c *scope, which int) { c.giveBack(now, it.taken, it.days.of(which)) }
	back(&l.own.scope, ofSource)
	back(&l.all.scope, ofCarrier)
	for i, c := range t.others(l, &it.d.Queue) {
		if c != nil {
			back(c, ofTenant+i)
		}
	}
	for i, p := range l.pools {
		back(&p.scope, ofPools+i)
	}
}
