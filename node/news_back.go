package node

import (
	"cmp"
	"context"
	"errors"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/feedback"
	"hikyaku/node/ingest"
	"hikyaku/node/suppress"
	"hikyaku/reputation"
	"hikyaku/reputation/steer"
	"hikyaku/spool"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// This file is what follows from what comes back: an event, an entry on the list,
// a count. It annotates; the recipient's end is in the ledger and stays.

// newsKeys is the name under which the spool remembers what came back: no tenant
// can have it.
const newsKeys = ".feedback"

// newsKept is how long news is remembered: as long as a token can bring it. An
// unsubscribe is acted upon however often it comes, so that it need not be
// remembered as long as its links.
const newsKept = 32 * 24 * time.Hour

// returned is one piece of news while it is dealt with.
type returned struct {
	*feedback.Feedback
	event   message.Event
	verdict reputation.Verdict
	site    string
}

// comesBack makes one piece of news durable. The list comes first, then the event
// with the key under which it is remembered: a crash between the two leaves an
// entry without its event, the reporter comes again, and doing the first twice is
// harmless. What is counted is lost with the process, as all counts are.
func (n *Node) comesBack(ctx context.Context, f *feedback.Feedback) error {
	dest, err := ingest.Destination(f.Recipient)
	if err != nil {
		return nil // no address of ours: nothing can follow, and nothing ever will
	}
	entry, listed := n.news.list.Suppressed(f.Tenant, f.Recipient, f.Stream)
	if f.Type == message.EventUnsubscribed {
		if f.Again && listed && entry.Kind == suppression.Unsubscribe {
			return feedback.ErrSaidBefore
		}
	} else if _, known, err := n.spool.Idempotency(newsKeys, f.ID); known || err != nil {
		return cmp.Or(err, feedback.ErrSaidBefore)
	}
	b := n.returned(ctx, f, dest)
	added, err := n.listReturned(b)
	if err != nil {
		return err
	}
	line := b.event.AppendJSON(nil)
	err = n.spool.RecordOnce(ctx, line, &spool.Idempotency{Tenant: newsKeys, Key: f.ID, Expires: f.Time.Add(newsKept)})
	if errors.Is(err, spool.ErrDuplicate) {
		if f.Type != message.EventUnsubscribed || !added {
			return feedback.ErrSaidBefore
		}
		err = n.spool.Record(ctx, line) // off the list meanwhile, and wants to be on it again
	}
	if err != nil {
		return err
	}
	// An entry that this very news has made was made at another node: there it was
	// counted.
	if !listed || entry.Event != f.Delivery.String() {
		n.countReturned(b)
	}
	return nil
}

// returned says what the news means.
func (n *Node) returned(ctx context.Context, f *feedback.Feedback, dest string) *returned {
	b := &returned{Feedback: f, event: message.Event{Type: f.Type, Time: f.Time, ID: f.Delivery, Node: n.name, Tenant: f.Tenant, Stream: f.Stream, Recipient: f.Recipient,
		Destination: dest, Source: f.Source, Host: f.Host, Reply: f.Reply, Via: f.Via, From: f.From}}
	e := &b.event
	e.Carrier, b.site = n.carrierOf(ctx, dest)
	switch f.Type {
	case message.EventComplained:
		e.Rule = f.Kind
	case message.EventLateBounce:
		if e.Reply.Code == 0 { // a report without the remote's own words
			e.Reply.Code, e.Reply.Enhanced = 550, f.Status
		}
		b.verdict = n.replies.Judge(e.Carrier, &e.Reply)
		e.Category, e.Rule = string(b.verdict.Category), b.verdict.Rule
	}
	return b
}

// listReturned tells the list. After nil that is durable.
func (n *Node) listReturned(b *returned) (added bool, err error) {
	told := suppress.Told{Tenant: b.Tenant, Address: b.Recipient, Stream: b.Stream, Event: b.Delivery.String()}
	switch b.Type {
	case message.EventLateBounce:
		if b.Forwarded { // the mailbox that failed is not the recipient's own
			return false, nil
		}
		return n.news.list.FeedNow(&b.verdict, &b.event)
	case message.EventComplained:
		told.Kind, told.Reason = suppression.Complaint, cmp.Or(b.Kind, "complaint")+" by "+b.Via
	default:
		told.Kind, told.Reason = suppression.Unsubscribe, "unsubscribed by "+b.Via
	}
	return n.news.list.Note(told)
}

// countReturned counts for the leader. A source answers for complaints, and for
// bounces that are about recipients or content: what a report says of the source
// ("blocked", "too fast") a server behind the carrier's may have said of that
// carrier, or anybody who has a token; what is said to us comes without asking.
func (n *Node) countReturned(b *returned) {
	t := exchange.Tally{Carrier: b.event.Carrier, Source: b.Source, Tenant: b.Tenant, Stream: b.Stream, N: 1}
	switch b.Type {
	case message.EventComplained:
		t.Category = steer.Complained
	case message.EventLateBounce:
		t.Category = string(b.verdict.Category)
		if about := b.verdict.About; b.Forwarded || about != reputation.AboutRecipient && about != reputation.AboutMessage {
			t.Source = ""
		}
	default:
		return
	}
	if t.Source != "" && t.Carrier == policy.DefaultName {
		t.Site = b.site
	}
	n.replies.Count(t)
}

// carrierLookup is how long news waits for DNS to say whose recipient it was.
const carrierLookup = 3 * time.Second

// carrierOf is the carrier of a destination, and the site, by its hosts if they
// can be found in time; else by its name, without a site.
func (n *Node) carrierOf(ctx context.Context, dest string) (carrier, site string) {
	ctx, cancel := context.WithTimeout(ctx, carrierLookup)
	defer cancel()
	if w, reply := n.wayTo(ctx, dest); reply == nil {
		return w.carrier, w.site
	}
	set := n.policy.Load()
	route, _ := set.RouteOf(dest)
	_, carrier = set.CarrierFor(route, dest, nil)
	return carrier, ""
}
