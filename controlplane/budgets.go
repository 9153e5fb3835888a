package controlplane

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

// account feeds the ledger of budgets (controlplane/allocate/budgets) with what
// etcd and policy say, and writes what it wants written. All of it needs the
// office's lock.
type account struct {
	*budgets.Ledger
	expires time.Time // when a throttle ends and limits change; zero: never
	// told is the revision at which the ledger was told of each daily count.
	told map[string]int64
}

func newAccount(o *office, now time.Time) *account {
	return &account{
		Ledger: budgets.New(budgets.Config{Leader: o.c.opt.Name, Term: o.term, Elected: now, Wall: o.c.opt.Now()}),
		told:   map[string]int64{},
	}
}

// limitsLocked puts the limits of this moment in force.
func (o *office) limitsLocked(now time.Time) {
	set, wall := o.mu.policy, o.c.opt.Now()
	o.mu.account.expires = set.NextExpiry(wall)
	o.mu.account.SetPolicy(now, budgets.Policy{Revision: set.Revision, Daily: set.Daily(wall), Limit: func(s exchange.Scope) budgets.Limit {
		return limitOf(spanning(set, wall, s))
	}})
}

// spanning is what policy says of a scope that a node has named. A site stands
// beside the default carrier and no other: a node that puts one elsewhere, or
// knows a carrier that is gone, has no part in a budget there, so that it cannot
// make a second one of one.
func spanning(set *policy.Set, wall time.Time, s exchange.Scope) policy.Limits {
	if s.Carrier != "" && s.Kind != exchange.TenantCarrier {
		if _, known := set.Carriers[s.Carrier]; !known || (s.Carrier == policy.DefaultName) != (s.Site != "") {
			return policy.Limits{}
		}
	}
	return set.SpanningAt(wall, policy.Selector{Carrier: s.Carrier, Pool: s.Pool, Source: s.Source, Tenant: s.Tenant, Stream: s.Stream, Job: s.Job}, s.Site)
}

func limitOf(l policy.Limits) (out budgets.Limit) {
	if r := l.Rate; r != nil {
		out.N, out.Per, out.Burst = r.N, r.Per, r.BurstOrDefault()
	}
	if r := l.ConnectionRate; r != nil {
		out.LinkN, out.LinkPer, out.LinkBurst = r.N, r.Per, r.BurstOrDefault()
	}
	out.Connections, out.PerDay = int64(l.Connections), l.PerDay
	return out
}

// feedLocked tells the ledger what has changed in etcd. Policy comes first.
func (o *office) feedLocked(now time.Time) {
	t := o.mu.tables
	if t == nil || o.mu.policy == nil {
		return
	}
	if t.membersChanged {
		t.membersChanged = false
		o.mu.account.SetMembers(now, t.budgetMembers())
	}
	for key := range t.daysChanged {
		delete(t.daysChanged, key)
		o.feedDayLocked(now, key)
	}
}

func (t *tables) budgetMembers() []budgets.Member {
	var out []budgets.Member
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		m := t.members[name].value
		b := budgets.Member{Name: name, Rank: int64(m.Rank), Floor: m.Floor, Drain: m.Drain != keyspace.DrainNone, Drained: m.Drain == keyspace.Drained}
		if r, ok := t.live(name); ok {
			b.Lease = r.Lease
		}
		out = append(out, b)
	}
	return out
}

// feedDayLocked tells the ledger of one daily count. One that cannot be read
// counts as used up, since it may be.
func (o *office) feedDayLocked(now time.Time, key string) {
	t := o.mu.tables
	scope, err := budgets.ParseDayKey(key)
	if err != nil {
		t.unreadable[o.c.opt.Keys.Day(key)] = err
		return
	}
	row, ok := t.days[key]
	revision := row.mod
	switch {
	case !t.readable(o.c.opt.Keys.Day(key)):
		revision = t.revision
		row.value = keyspace.Day{Slots: []keyspace.DaySlot{{Start: o.c.opt.Now().Unix(), N: exchange.MaxCount}}}
	case !ok:
		revision = t.revision // of the change that took it away, or later
	}
	if err := o.mu.account.SetDay(now, scope, revision, row.value); err != nil {
		o.c.log.Error("a daily count is not kept", "error", err)
		return
	}
	o.mu.account.told[key] = revision
}

// dueLocked is what the ledger wants written: daily counts now, and floors into
// the members to be.
func (o *office) dueLocked(now time.Time, members map[string]keyspace.Member, why map[string]string) []write {
	a, t := o.mu.account, o.mu.tables
	a.Tick(now)
	if !a.expires.IsZero() && !o.c.opt.Now().Before(a.expires) {
		o.limitsLocked(now)
	}
	due := a.Due(now)
	for _, f := range due.Floors {
		m, ok := members[f.Name]
		if !ok || m.Floor == f.Floor {
			continue
		}
		reason := "its part of the floors is free"
		if f.Floor < m.Floor {
			if n := o.mu.nodes[f.Name]; n == nil || n.told > f.Floor {
				continue // the higher one may have reached its disk since it spoke
			}
			reason = "the node has confirmed its lower floor"
		}
		m.Floor = f.Floor
		members[f.Name], why[f.Name] = m, orWhy(why[f.Name], reason)
	}
	var ws []write
	for _, d := range due.Days {
		key := o.c.opt.Keys.Day(d.Key)
		row, exists := t.days[d.Key]
		if !t.readable(key) || exists && d.Revision != row.mod || a.told[d.Key] != d.Revision {
			continue // the ledger is about to be told
		}
		w := putRecord(key, row.mod, d.Day)
		switch {
		case len(d.Day.Slots) > 0 || len(d.Day.Taken) > 0:
		case exists:
			w.value = nil
		default:
			continue
		}
		ws = append(ws, w)
	}
	return ws
}

// grants is every node's part of every budget that is in use.
func (o *office) grants() ([]state.Grant, error) {
	if err := o.ready(); err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	now, wall := time.Now(), o.c.opt.Now()
	out := []state.Grant{}
	for _, s := range o.mu.account.View(now) {
		limits := spanning(o.mu.policy, wall, s.Scope)
		for i := range s.Nodes {
			n := &s.Nodes[i]
			g := state.Grant{
				Scope: state.Scope{Kind: s.Kind.String(), Carrier: s.Carrier, Site: s.Site, Pool: s.Pool, Source: s.Source, Tenant: s.Tenant, Stream: s.Stream, Job: s.Job},
				Node:  n.Node, Limit: limitText(limits), Share: percent(n.Granted.Share), Burst: n.Granted.Burst,
				Connections: n.Granted.Connections, Open: n.Open, Issued: n.Granted.Issued, Spent: n.PermitsSpent,
				Demand: n.Backlog, Used: n.PerSecond, Outstanding: percent(n.Held.Share), Waits: n.Waits,
			}
			if limits.Rate != nil {
				g.Rate = partText(limits.Rate, n.Granted.Share)
			}
			if node := o.mu.nodes[n.Node]; node != nil && !n.Silent {
				g.ExpiresIn = max(node.at.Add(exchange.GrantTTL).Sub(now), 0).Seconds()
			}
			out = append(out, g)
		}
	}
	return out, nil
}

// limitText is limits as policy writes them, "100/s, 50000 a day, 20 connections".
func limitText(l policy.Limits) string {
	var parts []string
	if l.Rate != nil {
		parts = append(parts, l.Rate.String())
	}
	if l.PerDay > 0 {
		parts = append(parts, strconv.FormatInt(l.PerDay, 10)+" a day")
	}
	if l.Connections > 0 {
		parts = append(parts, strconv.Itoa(l.Connections)+" connections")
	}
	if l.ConnectionRate != nil {
		parts = append(parts, "new connections "+l.ConnectionRate.String())
	}
	return strings.Join(parts, ", ")
}

// partText is a share of a rate, "33.3/s".
func partText(r *policy.Rate, share int64) string {
	unit := map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h", 24 * time.Hour: "d"}[r.Per]
	return fmt.Sprintf("%s/%s", strconv.FormatFloat(float64(r.N)*float64(share)/exchange.FullShare, 'f', 1, 64), unit)
}
