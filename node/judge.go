package node

import (
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/node/replies"
	"hikyaku/reputation"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// This file is what replies mean to this node: whether a recipient ends or is
// tried again, when, and what is counted. What follows for sources and tenants
// the leader decides (reputation/steer); where a source is plainly refused the
// node does not wait for that.

// deferral is a recipient that stays, with what its reply means.
type deferral struct {
	delivery.RecipientReply
	verdict reputation.Verdict
}

// mark counts replies of one meaning in a transition. Most have one.
type mark struct {
	category reputation.Category
	n        uint32
}

// judge asks what a reply means, and notes it for when the outcome is durable.
func (e *ending) judge(r *message.Reply) reputation.Verdict {
	v := e.n.replies.Judge(e.event.Carrier, r)
	if e.beside {
		v = v.Beside(r)
	}
	for i := range e.marks {
		if e.marks[i].category == v.Category {
			e.marks[i].n++
			return v
		}
	}
	e.marks = append(e.marks, mark{v.Category, 1})
	return v
}

// says puts what a reply means into the events that follow.
func (e *ending) says(v *reputation.Verdict) {
	e.event.Category, e.event.Rule = "", ""
	if v != nil && v.Category != reputation.Delivered {
		e.event.Category, e.event.Rule = string(v.Category), v.Rule
	}
}

// heed reacts to a reply at once, as far as that cannot wait for the leader: a
// source that the carrier plainly refuses, or calls too fast time after time, is
// stopped there while the leader decides.
func (e *ending) heed(recipient int, r *message.Reply, v *reputation.Verdict) {
	n, carrier, source := e.n, e.event.Carrier, e.event.Source
	if source == "" {
		return
	}
	lane := replies.Lane{Carrier: carrier, Source: source}
	if v.Category == reputation.Delivered {
		n.replies.Taken(lane)
		return
	}
	n.replies.Sample(e.now, lane, e.d.Recipients[recipient].Address, r, v)
	own := v.OfSource()
	if carrier == policy.DefaultName || !own && !v.OfSpeed() || !n.policy.Load().Steers(carrier) {
		return
	}
	until := n.replies.Refused(e.now, lane, !own)
	if until.IsZero() {
		return
	}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Brake(now, carrier, source, until) })
	if own && n.cfg.Hinter != nil {
		n.cfg.Hinter.Warn(carrier, source, string(v.Category)+" ("+v.Rule+")")
	}
}

// soonest is how long mail waits at least when the reply was about its source
// and not about itself: another source may take it.
const soonest = 30 * time.Second

// waitOf is how long those that were deferred wait: the schedule's time, longer
// where a reply asks for it, else shorter where another source may take them.
func waitOf(scheduled time.Duration, attempts uint16, ds []deferral) time.Duration {
	var least time.Duration
	elsewhere := len(ds) > 0
	for i := range ds {
		v := &ds[i].verdict
		elsewhere = elsewhere && (v.Action == reputation.ActElsewhere || v.OfSource())
		least = max(least, v.RetryAfter)
	}
	if elsewhere && attempts < 3 {
		scheduled = min(scheduled, soonest)
	}
	return max(scheduled, least)
}

// A carrier that has had enough of one connection takes the same mail on the
// next. That is no attempt, but neither may a peer keep us at it for ever.
const (
	reconnects    = 3
	reconnectWait = time.Second
	maxAgain      = 100_000
)

// again are the deliveries that were asked to come on a new connection, and how
// often in a row.
type again struct {
	n  atomic.Int32 // of mu.times: mostly none, and most need not ask further
	mu struct {
		sync.Mutex
		times map[message.DeliveryID]int
	}
}

// onNewConnection reports whether those deferred go again at once.
func (e *ending) onNewConnection(ds []deferral) bool {
	a := &e.n.again
	asked := len(ds) > 0
	for i := range ds {
		asked = asked && ds[i].verdict.Action == reputation.ActReconnect
	}
	if !asked {
		a.forget(e.d.ID)
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.mu.times[e.d.ID]
	if n >= reconnects || n == 0 && len(a.mu.times) >= maxAgain {
		delete(a.mu.times, e.d.ID)
		a.n.Store(int32(len(a.mu.times)))
		return false
	}
	if a.mu.times == nil {
		a.mu.times = map[message.DeliveryID]int{}
	}
	a.mu.times[e.d.ID] = n + 1
	a.n.Store(int32(len(a.mu.times)))
	return true
}

// forget drops a delivery that has ended, or waits for something else.
func (a *again) forget(id message.DeliveryID) {
	if a.n.Load() == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mu.times, id)
	a.n.Store(int32(len(a.mu.times)))
}

// countReplies counts for the leader what the replies of a transition meant. It
// is durable by now.
func (e *ending) countReplies() {
	if e.event.Source == "" || e.event.Carrier == "" {
		return
	}
	t := exchange.Tally{Carrier: e.event.Carrier, Site: e.site, Source: e.event.Source, Tenant: e.d.Queue.Tenant, Stream: e.d.Queue.Stream, Job: e.d.Queue.Job, Domain: e.m.HeaderFrom}
	if t.Carrier != policy.DefaultName {
		t.Site = ""
	}
	for i := range e.marks {
		if e.marks[i].category == reputation.Local {
			continue
		}
		t.Category, t.N = string(e.marks[i].category), e.marks[i].n
		e.n.replies.Count(t)
		if t.Category == string(reputation.Blocked) {
			e.n.hurry()
		}
	}
}
