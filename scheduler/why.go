package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/spool/message"
)

// Reason is one thing that keeps a queue's mail back.
type Reason struct {
	Limit string    // its name: held, window, rate, connections, rest …
	Scope string    // where it stands, as in "carrier docomo"
	Value string    // its value, as in "20" or "100/s"
	Used  string    // how much of it is used
	Until time.Time // when it lets go by itself; zero: it does not, or nobody knows
	Text  string    // one sentence for people
}

// QueueWhy is a queue with what keeps its mail back.
type QueueWhy struct {
	Key     message.QueueKey
	Reasons []Reason
}

// WhyScope answers Why for the queues in a scope, those that are due for
// longest first, at most limit of them.
func (s *Scheduler) WhyScope(now time.Time, scope message.Scope, limit int) []QueueWhy {
	type candidate struct {
		q   *queue
		due instant
	}
	var found []candidate
	for _, q := range s.queues {
		if !scope.MatchesQueue(&q.key) || scope.Carrier != "" && q.dest.carrier != scope.Carrier {
			continue
		}
		found = append(found, candidate{q, q.firstDue()})
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.q.key.Destination, b.q.key.Destination), cmp.Compare(a.q.key.Tenant, b.q.key.Tenant))
	})
	var out []QueueWhy
	for _, c := range found[:min(len(found), limit)] {
		out = append(out, QueueWhy{c.q.key, s.why(c.q, at(now))})
	}
	return out
}

// Why says what keeps a queue's mail back, the most binding first. It is empty
// only for a queue that has nothing waiting, or that the scheduler does not
// know.
func (s *Scheduler) Why(now time.Time, key message.QueueKey) []Reason {
	q := s.queues[key]
	if q == nil {
		return nil
	}
	return s.why(q, at(now))
}

func (s *Scheduler) why(q *queue, now instant) []Reason {
	switch {
	case q.loaded() > 0:
	case !q.more:
		return nil
	case q.next > now:
		return []Reason{{Limit: "due", Scope: "queue", Until: q.next.time(), Text: "nothing is due before " + clock(q.next)}}
	}
	rs := s.whyBlocked(q, now)
	if len(rs) > 0 {
		return rs
	}
	if !s.resolved(q.dest, now) {
		text := "destination " + q.dest.name + " is being looked up"
		if !q.dest.asked {
			text = fmt.Sprintf("destination %s waits to be looked up: %d are being looked up, %d wait", q.dest.name, s.asking, s.unasked)
		}
		return []Reason{{Limit: "resolve", Scope: "destination " + q.dest.name, Text: text}}
	}
	if q.dest.failing(now) {
		return []Reason{{Limit: "resolve", Scope: "destination " + q.dest.name, Until: q.dest.rest.time(), Text: "being bounced: " + q.dest.reply.String()}}
	}
	rs = append(s.whyBudgets(q, now), s.whyLanes(q, now)...)
	switch {
	case q.page == pageWanted:
		rs = append(rs, Reason{Limit: "page", Scope: "queue", Used: strconv.Itoa(s.count.Loaded), Value: strconv.Itoa(s.cfg.MaxLoaded),
			Text: fmt.Sprintf("waits to be read from disk: %d queues do, %d of %d deliveries are in memory", s.wanted, s.count.Loaded, s.cfg.MaxLoaded)})
	case q.loaded() == 0 && q.reading():
		rs = append(rs, Reason{Limit: "page", Scope: "queue", Text: "its head is being read from disk"})
	}
	if len(rs) == 0 {
		rs = append(rs, s.whyTurn(q))
	}
	return rs
}

// whyTurn is said of a queue that nothing binds but that others go first.
func (s *Scheduler) whyTurn(q *queue) Reason {
	st := q.dest.site
	r := Reason{Limit: "turn", Scope: "site " + st.name, Used: strconv.Itoa(st.backlog)}
	switch opened := st.opened(); {
	case q.flow != nil && (q.flow.waits != nil || q.flow.tenant.waits != nil):
		r.Text = "waiting in line for a budget that its tenant, stream or job shares with other queues"
	case opened == 0 && st.open > 0:
		r.Limit, r.Text = "connect", fmt.Sprintf("connections to site %s are being opened: %d", st.name, st.open)
	case st.open == 0 && s.count.Sessions >= s.cfg.MaxSessions:
		r.Limit, r.Value, r.Used = "sessions", strconv.Itoa(s.cfg.MaxSessions), strconv.Itoa(s.count.Sessions)
		r.Text = fmt.Sprintf("all %d connections of this node are in use; %d sites wait for one", s.cfg.MaxSessions, s.hungering)
	default:
		r.Text = fmt.Sprintf("waiting for its turn: ready deliveries at site %s: %d, open connections: %d", st.name, st.backlog, opened)
	}
	return r
}

func (st *site) opened() (n int) {
	for _, l := range st.lanes {
		n += l.open
	}
	return n
}

// whyBlocked is what no budget can help.
func (s *Scheduler) whyBlocked(q *queue, now instant) (rs []Reason) {
	if h := s.heldBy(q); h != nil {
		text := "held by action " + h.ID
		if h.Reason != "" {
			text += ": " + h.Reason
		}
		rs = append(rs, Reason{Limit: "held", Scope: "action " + h.ID, Text: text})
	}
	rs = s.whyHeld(rs, q, now)
	if len(s.pools[q.key.Pool]) == 0 {
		text := "pool " + q.key.Pool + " has no usable source"
		if s.elsewhere(q.key.Pool) {
			text = "no source of pool " + q.key.Pool + " on this node"
		}
		rs = append(rs, Reason{Limit: "source", Scope: "pool " + q.key.Pool, Text: text})
	}
	rs = s.whyShunned(rs, q, now)
	if q.key.Job != "" && s.limits.paused(jobKey{q.key.Tenant, q.key.Job}) {
		rs = append(rs, Reason{Limit: "paused", Scope: "job " + q.key.Job, Text: "job " + q.key.Job + " is paused"})
	}
	if open, until := s.windowOf(q).open(now); !open {
		rs = append(rs, Reason{Limit: "window", Scope: "stream " + q.key.Stream, Until: soon(until), Text: "the sending hours of stream " + q.key.Stream + " begin at " + clock(until)})
	}
	if d := q.dest; d.rest > now && !d.failing(now) {
		rs = append(rs, Reason{Limit: "resolve", Scope: "destination " + d.name, Until: d.rest.time(),
			Text: fmt.Sprintf("destination %s cannot be looked up, asked again at %s: %s", d.name, clock(d.rest), d.reply.String())})
	}
	return rs
}

// whyBudgets is what the tenant, stream and job have used up.
func (s *Scheduler) whyBudgets(q *queue, now instant) (rs []Reason) {
	k, lt := &q.key, &s.limits
	if c := lt.tenants[k.Tenant]; c != nil {
		rs = lt.why(rs, c, tenantScope(k.Tenant), "tenant "+k.Tenant, now)
	}
	if c := lt.atOne[tenantKey{k.Tenant, q.dest.site.carrier}]; c != nil {
		x := tenantKey{k.Tenant, q.dest.site.carrier}.scope()
		rs = lt.why(rs, c, x, nameOf(&x), now)
	}
	if c := lt.streams[streamKey{k.Tenant, k.Stream}]; c != nil {
		rs = lt.why(rs, c, streamKey{k.Tenant, k.Stream}.scope(), "stream "+k.Stream, now)
	}
	if k.Job != "" {
		if c := lt.job(jobKey{k.Tenant, k.Job}); c != nil {
			rs = lt.why(rs, c, jobKey{k.Tenant, k.Job}.scope(), "job "+k.Job, now)
		}
	}
	return rs
}

func (t *limitTable) why(rs []Reason, c *scope, x exchange.Scope, name string, now instant) []Reason {
	if when := c.rate.ready(now); when > now {
		rs = append(rs, Reason{Limit: "rate", Scope: name, Value: c.rate.limit(), Until: soon(when), Text: name + ": rate " + c.rate.limit() + t.portionText(now, &x) + next(when, now)})
	}
	if c.perDay == 0 {
		return rs
	}
	if when := c.dayReady(now); when > now {
		used := c.day.count(now)
		text := fmt.Sprintf("%s: %d of %d in 24 hours are used", name, used, c.perDay)
		if c.keeps != c.perDay {
			text = fmt.Sprintf("%s: of %d in 24 hours this node may use %d without the leader's word, of which %d are used, and it has no permit left", name, c.perDay, c.keeps, used)
		}
		rs = append(rs, Reason{Limit: "per_day", Scope: name, Value: strconv.FormatInt(c.perDay, 10), Used: strconv.FormatInt(used, 10), Until: soon(when), Text: text + next(when, now)})
	}
	return rs
}

// whyLanes is what keeps each source of the pool from carrying the mail; when
// one could, nothing.
func (s *Scheduler) whyLanes(q *queue, now instant) (rs []Reason) {
	st := q.dest.site
	for _, m := range s.pools[q.key.Pool] {
		l := s.lanes[Lane{m.name, st.name}]
		if l == nil {
			return nil // it has not been tried
		}
		one := s.whyLane(q, l, now)
		if len(one) == 0 {
			return nil
		}
		rs = append(rs, one...)
	}
	return dedupe(rs)
}

func (s *Scheduler) whyLane(q *queue, l *lane, now instant) (rs []Reason) {
	if h := s.heldFrom(q, l.key.Source); h != nil {
		rs = append(rs, Reason{Limit: "held", Scope: "source " + l.key.Source, Text: "source " + l.key.Source + " is held by action " + h.ID + ": " + h.Reason})
	}
	if l.rest > now {
		rs = append(rs, Reason{Limit: "rest", Scope: "source " + l.key.Source + ", site " + l.site.name, Until: l.rest.time(), Used: strconv.Itoa(l.fails),
			Text: fmt.Sprintf("source %s rests at site %s until %s, after %d failed connections: %s", l.key.Source, l.site.name, clock(l.rest), l.fails, l.reply.String())})
	}
	if l.own.brake > now {
		name := keyOf(l.site, l.key.Source).String()
		rs = append(rs, Reason{Limit: "brake", Scope: name, Until: l.own.brake.time(), Text: name + ": stopped until " + clock(l.own.brake) + ", since a node was refused there"})
	}
	rs = whyCourse(rs, keyOf(l.site, l.key.Source), l.own.course, now)
	if l.open == 0 && l.over() {
		rs = append(rs, Reason{Limit: "connections", Scope: "site " + l.site.name, Text: "more connections are open than this node may have; they are being closed"})
	}
	type budget struct {
		key linkKey
		l   *links
	}
	budgets := []budget{{keyOf(l.site, ""), l.all}, {keyOf(l.site, l.key.Source), l.own}}
	for _, p := range l.pools {
		budgets = append(budgets, budget{poolKeyOf(l.site, p.pool), p.links})
	}
	for _, b := range budgets {
		from := len(rs)
		rs = s.limits.why(rs, &b.l.scope, b.key.scope(), b.key.String(), now)
		steeredBy(rs[from:], b.l.course)
	}
	if l.open > 0 {
		return rs
	}
	// Without a connection, what bounds connections binds too.
	for _, b := range budgets {
		from := len(rs)
		rs = s.limits.whyConnections(rs, b.l, b.key, now)
		steeredBy(rs[from:], b.l.course)
	}
	return rs
}

func (t *limitTable) whyConnections(rs []Reason, l *links, k linkKey, now instant) []Reason {
	x, name := k.scope(), k.String()
	if l.atLimit() {
		text := fmt.Sprintf("%s: %d of %d connections are open", name, l.conns, l.maxConns)
		if l.maxConns != l.limit {
			text = fmt.Sprintf("%s: %d of the %d connections that this node may have of %d are open", name, l.conns, l.maxConns, l.limit)
		}
		rs = append(rs, Reason{Limit: "connections", Scope: name, Value: strconv.Itoa(l.limit), Used: strconv.Itoa(l.conns), Text: text})
	}
	if when := l.connRate.ready(now); when > now {
		rs = append(rs, Reason{Limit: "connection_rate", Scope: name, Value: l.connRate.limit(), Until: soon(when),
			Text: name + ": connection rate " + l.connRate.limit() + t.portionText(now, &x) + next(when, now)})
	}
	return rs
}

func dedupe(rs []Reason) []Reason {
	seen := map[string]bool{}
	return slices.DeleteFunc(rs, func(r Reason) bool {
		dup := seen[r.Text]
		seen[r.Text] = true
		return dup
	})
}

func clock(i instant) string {
	if i == never {
		return "no time known"
	}
	return i.time().Format("2006-01-02 15:04:05 UTC")
}

func soon(i instant) time.Time {
	if i == never {
		return time.Time{}
	}
	return i.time()
}

func next(when, now instant) string {
	if when == never {
		return ": nothing goes"
	}
	return ", next in " + time.Duration(when-now).Round(time.Millisecond).String()
}
