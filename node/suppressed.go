package node

import (
	"time"

	"hikyaku/reputation"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// Suppressed recipients get no mail. They are looked for when a message has been
// accepted and again before each attempt, since the list grows meanwhile. They end
// as bounced, in an event of their own ("suppressed"), and the sender is told as of
// any bounce; nothing is sent for them.

// suppressedReply is what a suppressed recipient's sender is told.
func suppressedReply(why string) message.Reply {
	return message.Fail(550, message.Enhanced{Class: 5, Subject: 7, Detail: 1}, message.PhasePolicy, message.FaultLocal, "the recipient is on the suppression list: "+why)
}

// anySuppressed reports whether a delivery has a recipient that is suppressed.
func (n *Node) anySuppressed(d *message.Delivery) bool {
	for i := range d.Recipients {
		if _, yes := n.suppressed(&d.Queue, d.Recipients[i].Address); yes {
			return true
		}
	}
	return false
}

// endSuppressed ends those recipients of a delivery that are suppressed; the
// others keep their place. The caller owns the delivery.
func (n *Node) endSuppressed(d *message.Delivery) {
	n.deciding.RLock()
	defer n.deciding.RUnlock()
	e := n.begin(d, n.metaForEnd(d))
	for i := range d.Recipients {
		if why, yes := n.suppressed(&d.Queue, d.Recipients[i].Address); yes {
			e.event.Category, e.event.Rule = "suppressed", ""
			e.finalAs(message.EventSuppressed, i, message.Bounced, suppressedReply(why))
		} else {
			e.stays(i, nil)
		}
	}
	e.says(nil)
	e.fresh = len(e.left)
	e.stay(nil)
	e.commit(nil)
}

// withdraw takes deliveries with suppressed recipients out of what was just
// accepted, and ends those recipients. It returns the others.
func (n *Node) withdraw(ds []*message.Delivery) []*message.Delivery {
	at := -1
	for i, d := range ds {
		if n.anySuppressed(d) {
			at = i
			break
		}
	}
	if at < 0 {
		return ds
	}
	kept := append([]*message.Delivery(nil), ds[:at]...)
	for _, d := range ds[at:] {
		if !n.anySuppressed(d) {
			kept = append(kept, d)
			continue
		}
		var taken bool
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { taken = s.Take(now, d) })
		if taken && !n.tasks.start(func() { n.endSuppressed(d) }) {
			n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.PutBack(now, d) })
		}
	}
	return kept
}

// suppress notes what a final reply says of its recipient. It is told the list
// when the outcome is durable.
func (e *ending) suppress(i int, r *message.Reply, v *reputation.Verdict) {
	if v.Action != reputation.ActSuppress && v.Action != reputation.ActSecond {
		return
	}
	e.found = append(e.found, finding{e.d.Recipients[i].Address, *r, *v})
}

// finding is a recipient whose end says something about the address.
type finding struct {
	address string
	reply   message.Reply
	verdict reputation.Verdict
}

// feed tells the list what was found.
func (e *ending) feed() {
	for i := range e.found {
		f := &e.found[i]
		e.event.Recipient, e.event.Reply = f.address, f.reply
		e.n.news.list.Feed(&f.verdict, &e.event)
	}
}

// suppressed says why an address gets no mail of a queue.
func (n *Node) suppressed(q *message.QueueKey, address string) (why string, yes bool) {
	entry, yes := n.news.list.Suppressed(q.Tenant, address, q.Stream)
	if !yes {
		return "", false
	}
	why = entry.Kind.String()
	if entry.Category != "" {
		why += " (" + entry.Category + ")"
	}
	return why + " of " + entry.Added.UTC().Format("2006-01-02"), true
}
