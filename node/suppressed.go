package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hikyaku/node/events"
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
	rest := n.dispatch.parted.of(d.ID) // those behind it have had their part
	for i := range d.Recipients {
		if why, yes := n.suppressed(&d.Queue, d.Recipients[i].Address); yes {
			e.event.Category, e.event.Rule = "suppressed", ""
			e.finalAs(message.EventSuppressed, i, message.Bounced, suppressedReply(why))
		} else {
			e.stays(i, nil)
			if rest == 0 || i < rest {
				e.fresh++
			}
		}
	}
	e.says(nil)
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
	var out []*message.Delivery
	for _, d := range ds[at:] {
		if n.anySuppressed(d) {
			out = append(out, d)
		} else {
			kept = append(kept, d)
		}
	}
	var taken []*message.Delivery
	for part := range slices.Chunk(out, addAtOnce) {
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for _, d := range part {
				if s.Take(now, d) { // else it was paged in meanwhile, and who has it looks too
					taken = append(taken, d)
				}
			}
		})
	}
	// One goroutine for all of a message: a job's page can have thousands of them.
	end := func() {
		for _, d := range taken {
			n.endSuppressed(d)
		}
	}
	if !n.tasks.start(end) { // the node is ending; they are looked for again at the next start
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for _, d := range taken {
				s.PutBack(now, d)
			}
		})
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

// missed goes through what ended as bounced since a time. The reply is judged again:
// a verdict is not in the event, and rules may know better by now.
func (n *Node) missed(ctx context.Context, since time.Time, found func(*reputation.Verdict, *message.Event) error) error {
	if err := n.spool.Barrier(ctx); err != nil {
		return err
	}
	if err := n.events.Flush(ctx); err != nil {
		return fmt.Errorf("flush event log: %w", err)
	}
	_, err := n.events.Search(ctx, events.Query{Type: string(message.EventBounced), Since: since}, func(r *message.EventRecord, _ []byte) error {
		if r.Reply == nil {
			return nil
		}
		v := n.replies.Judge(r.Carrier, r.Reply)
		return found(&v, &message.Event{Type: r.Type, Time: r.Time, ID: r.ID, Tenant: r.Tenant, Stream: r.Stream, Recipient: r.Recipient, Reply: *r.Reply})
	})
	return err
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
