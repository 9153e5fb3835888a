package simulate

import (
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
)

const (
	// plenty is a backlog that never ends.
	plenty = 1_000_000
	// mostConnections is where nothing limits them.
	mostConnections = 20
	idleTimeout     = 5 * time.Second
	// dayKept is how long what was counted without a permit is remembered: a
	// day, and the ten minutes to which the product's counts are exact.
	dayKept = 24*time.Hour + 10*time.Minute
)

// lane is a node's mail for one carrier, sent as fast as it may be.
type lane struct {
	n       *node
	carrier int
	backlog int64

	granted bool
	grant   exchange.Holding
	of      budgets.Limit // by which it was reckoned

	rate, links bucket
	conns       int64 // that may be open
	open, busy  int64
	used        int64 // since the last report
	permits     struct {
		issued, void, spent, returned int64
		dies                          time.Time
	}
	kept     []time.Time // on the disk
	lastSent time.Time
	timer    time.Time // when it looks again; zero: it does not
	timers   int
}

func (l *lane) limit() *budgets.Limit { return &l.n.policy.limits[l.carrier] }

// restart is a new incarnation: buckets begin empty, permits are lost.
func (l *lane) restart() {
	*l = lane{n: l.n, carrier: l.carrier, backlog: l.backlog, kept: l.kept}
	l.rate.at, l.links.at = l.n.clock(), l.n.clock()
	l.reset()
}

// dead is the end of an incarnation: the kernel closes what it had open.
func (l *lane) dead() {
	l.n.s.check.closed(l.carrier, l.open)
	l.open, l.busy = 0, 0
}

// take puts a grant in force.
func (l *lane) take(h *exchange.Holding, p *policy) {
	l.granted, l.grant, l.of = true, *h, p.limits[l.carrier]
	q, now := &l.permits, l.n.clock()
	l.permitsLeft(now) // ends those that are dead
	if h.Issued > 0 {
		q.issued = max(q.issued, h.Issued)
		q.void = min(max(q.void, h.Void), q.issued)
		q.returned = max(q.returned, q.void-q.spent)
		q.dies = l.n.exch.until.Add(exchange.PermitTTL - exchange.GrantTTL)
	}
}

func (l *lane) permitsLeft(now time.Time) int64 {
	q := &l.permits
	if !now.Before(q.dies) {
		q.void = q.issued
		q.returned = max(q.returned, q.void-q.spent)
	}
	return q.issued - q.spent - q.returned
}

// portion is a part of what has become smaller since.
func portion(part, was, whole int64) int64 {
	if was <= whole || was == 0 {
		return min(part, whole)
	}
	return part * whole / was
}

// holding is what is in force.
func (l *lane) holding() exchange.Holding {
	lim, d := l.limit(), &l.n.disk
	h := exchange.Holding{Issued: l.permits.issued, Void: l.permits.void}
	if l.granted {
		h.Share = l.grant.Share
		h.Burst = portion(l.grant.Burst, l.of.Burst, lim.Burst)
		h.LinkBurst = portion(l.grant.LinkBurst, l.of.LinkBurst, lim.LinkBurst)
		h.Connections = portion(l.grant.Connections, l.of.Connections, lim.Connections)
		return h
	}
	h.Share = d.floor
	h.Burst = exchange.FloorOf(lim.Burst, d.floor, d.rank)
	h.LinkBurst = exchange.FloorOf(lim.LinkBurst, d.floor, d.rank)
	h.Connections = exchange.FloorOf(lim.Connections, d.floor, d.rank)
	return h
}

// reset brings everything in line with policy and grants, as of now.
func (l *lane) reset() { l.resetAt(l.n.clock()) }

// resetAt does so as of a time that may have passed: what has come into buckets
// since then has come by the new parts.
func (l *lane) resetAt(now time.Time) {
	lim, h := l.limit(), l.holding()
	l.rate.set(now, lim.N, int64(lim.Per), h.Share, h.Burst)
	l.links.set(now, lim.LinkN, int64(lim.LinkPer), h.Share, h.LinkBurst)
	if l.conns = mostConnections; lim.Connections > 0 {
		l.conns = h.Connections
	}
	l.closeIdle(l.open - l.conns)
	l.kick()
}

// closeIdle closes up to so many connections that are not busy.
func (l *lane) closeIdle(n int64) {
	if n = min(n, l.open-l.busy); n > 0 {
		l.open -= n
		l.n.s.check.closed(l.carrier, n)
	}
}

// mayCount reports whether the day's budget has one more.
func (l *lane) mayCount(now time.Time) bool {
	if l.limit().PerDay == 0 || l.permitsLeft(now) > 0 {
		return true
	}
	for len(l.kept) > 0 && now.Sub(l.kept[0]) > dayKept {
		l.kept = l.kept[1:]
	}
	return int64(len(l.kept)) < exchange.PartOf(l.limit().PerDay, l.n.disk.floor)
}

func (l *lane) count(now time.Time) {
	if l.limit().PerDay == 0 {
		return
	}
	if l.permitsLeft(now) > 0 {
		l.permits.spent++
	} else {
		l.kept = append(l.kept, now)
	}
}

// kick sends what may be sent now, and looks again when more may be.
func (l *lane) kick() {
	if !l.n.up || l.n.stopped {
		return
	}
	pool := l.n.s.poolOf(l.carrier)
	for l.backlog > 0 {
		now := l.n.clock()
		if x := &l.n.exch; x.granted && !now.Before(x.until) && !l.n.s.opt.Break.GrantsForever {
			l.n.expire() // a process that stood still sees it here first
			return       // and has come back here meanwhile
		}
		t := l.n.pick(pool)
		if t == nil || !l.mayCount(now) {
			return
		}
		if w := l.rate.ready(now); w != 0 {
			l.lookAgain(now, w)
			return
		}
		if l.busy >= l.open {
			if l.open >= l.conns {
				return
			}
			if w := l.links.ready(now); w != 0 {
				l.lookAgain(now, w)
				return
			}
			l.links.take()
			l.open++
			l.n.s.check.opened(l.carrier)
		}
		l.send(t, now)
	}
}

func (l *lane) lookAgain(now time.Time, wait time.Duration) {
	when := now.Add(wait)
	if wait < 0 || !l.timer.IsZero() && !l.timer.After(when) {
		return
	}
	l.timer = when
	l.timers++
	timer := l.timers
	l.n.after(wait, func() {
		if l.timers == timer {
			l.timer = time.Time{}
			l.kick()
		}
	})
}

// send begins a transaction: MAIL goes out at this moment.
func (l *lane) send(t *tenure, now time.Time) {
	s := l.n.s
	l.rate.take()
	l.count(now)
	l.backlog--
	if l.backlog == plenty/2 {
		l.backlog = plenty
	}
	l.used++
	l.busy++
	t.busy++
	l.lastSent = now
	s.check.sent(l.carrier)
	s.check.used(t.source, l.n.number, t.epoch, "MAIL")
	took := s.between(20*time.Millisecond, 200*time.Millisecond)
	if s.chance(0.01) {
		took = s.between(time.Second, 8*time.Second)
	}
	l.n.after(took, func() { l.done(t) })
}

// done ends a transaction: the last of it is sent, unless it was cut off.
func (l *lane) done(t *tenure) {
	s, now := l.n.s, l.n.clock()
	l.busy--
	t.busy--
	if t.over || t.ending && !now.Before(t.cutoff) {
		s.res.Aborted++
		l.closeIdle(1)
	} else {
		s.check.used(t.source, l.n.number, t.epoch, endOfData)
	}
	if t.ending && t.busy == 0 {
		l.n.fade(t)
	}
	l.closeIdle(l.open - l.conns)
	if l.backlog > 0 {
		l.kick()
	}
	if l.busy == 0 && l.open > 0 {
		l.n.after(idleTimeout, func() {
			if l.n.clock().Sub(l.lastSent) >= idleTimeout {
				l.closeIdle(l.open)
			}
		})
	}
}

// report adds what the node says of this lane.
func (l *lane) report(r *exchange.Report) {
	now := l.n.clock()
	left := l.permitsLeft(now)
	waiting := l.backlog
	if len(l.n.usable[l.n.s.poolOf(l.carrier)]) == 0 {
		waiting = 0 // it goes to a node that has sources; not modelled
	}
	r.Queued += l.backlog
	if waiting == 0 && l.used == 0 && l.open == 0 && len(l.kept) == 0 && left == 0 {
		return
	}
	d := exchange.Demand{
		Scope: l.n.policy.scopes[l.carrier], Holding: l.holding(), Backlog: waiting, Used: l.used, Open: l.open,
		Spent: l.permits.spent, Returned: l.permits.returned, Kept: int64(len(l.kept)),
	}
	l.used = 0
	r.Demands = append(r.Demands, d)
}
