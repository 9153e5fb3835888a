package feedback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"

	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// Take reads one mail and hands on what it proves. An error is a *Refusal. After
// nil all news of the mail is durable, or there was none.
func (r *Receiver) Take(ctx context.Context, m *Mail) error {
	r.counters.bytes.Add(uint64(len(m.Raw)))
	rep := feedback.Parse(m.Raw)
	if rep.Truncated {
		r.counters.truncated.Add(1)
	}
	tokens := 0
	counted := false
	for _, address := range m.Recipients {
		n := &news{r: r, rep: rep, client: m.Client, now: r.o.Now(), kind: rep.Kind}
		n.local, n.domain = split(address)
		if t, err := r.o.Keys.Open(n.local, n.now); err == nil && t.Purpose != feedback.Trace && !r.addresses[feedback.Normal(address)] {
			n.token, n.proved = t, true
			tokens++
		}
		if n.proved && n.token.Purpose == feedback.Unsubscribe {
			n.kind = n.unsubscribeKind()
			n.authors = append(rep.From, m.Sender)
		}
		if !counted {
			r.counters.kind(n.kind)
			counted = true
		}
		if err := n.take(ctx); err != nil {
			r.counters.failed.Add(1)
			r.o.Logger.Error("store feedback", "client", m.Client, "kind", string(n.kind), "error", err)
			return laterPlease
		}
	}
	// A person wrote to an office: his server tells him that nobody reads it.
	if tokens == 0 && rep.Kind == feedback.Other && m.Sender != "" {
		r.counters.refusedMails.Add(1)
		return noReport
	}
	return nil
}

// news is one mail for one of its recipients.
type news struct {
	r      *Receiver
	rep    *feedback.Report
	client netip.Addr
	kind   feedback.Kind
	// local and domain are where it came in; token is what opened of it.
	local, domain string
	token         feedback.Token
	proved        bool
	authors       []string // of a request to unsubscribe
	now           time.Time
}

// unsubscribeKind is what mail to an unsubscribe address is: a request, unless a
// program answers or reports.
func (n *news) unsubscribeKind() feedback.Kind {
	switch n.rep.Kind {
	case feedback.Other, feedback.Unsubscribing:
		return feedback.Unsubscribing
	}
	return n.rep.Kind
}

// take decides what the mail means and hands it on.
func (n *news) take(ctx context.Context) error {
	var kind message.EventType
	switch n.kind {
	case feedback.Bounce:
		kind = message.EventLateBounce
	case feedback.Complaint:
		kind = message.EventComplained
	case feedback.Unsubscribing:
		kind = message.EventUnsubscribed
	default:
		return nil // delays, relays, automatic replies: counted, and no news
	}
	// An unsubscribe address is written to by people, a return path by servers: a
	// bounce of the one or a request to the other is a mistake or a trick.
	if n.proved && (n.token.Purpose == feedback.Unsubscribe) != (n.kind == feedback.Unsubscribing) && n.kind != feedback.Complaint && n.rep.Complaint == nil {
		n.r.counters.badTokens.Add(1)
		return nil
	}
	f, ok := n.prove()
	if !ok {
		return nil
	}
	f.Type, f.Time, f.Via, f.From = kind, n.now, "smtp", n.client.String()
	f.Form = n.rep.Form
	if n.rep.Complaint != nil {
		f.Kind = n.rep.Complaint.Type
	}
	return n.r.handle(ctx, f)
}

// handle hands news on once.
func (r *Receiver) handle(ctx context.Context, f *Feedback) error {
	f.ID = newsID(f)
	known, err := r.replays.claim(ctx, f.ID, f.Type == message.EventUnsubscribed)
	if err != nil {
		return err
	}
	if f.Again = known; !known || f.Type == message.EventUnsubscribed {
		err = r.handleClaimed(ctx, f)
		known = errors.Is(err, ErrSaidBefore)
	}
	switch {
	case known:
		r.counters.replayed.Add(1)
		return nil
	case err != nil:
		return err
	}
	switch f.Type {
	case message.EventLateBounce:
		r.counters.lateBounces.Add(1)
	case message.EventComplained:
		r.counters.complained.Add(1)
	case message.EventUnsubscribed:
		r.counters.unsubscribed.Add(1)
	}
	return nil
}

func (r *Receiver) handleClaimed(ctx context.Context, f *Feedback) (err error) {
	err = errNotHandled // what a panic leaves
	defer func() { r.replays.release(f.ID, err == nil || errors.Is(err, ErrSaidBefore)) }()
	return r.o.Handle(ctx, f)
}

var errNotHandled = errors.New("news was not handled")

// newsID names what happened: one bounce, complaint and request for each
// recipient of a delivery. A second bounce of the same mail says nothing new.
func newsID(f *Feedback) string {
	h := sha256.New()
	h.Write([]byte(f.Type))
	h.Write([]byte{0})
	h.Write(f.Delivery.AppendText(nil))
	h.Write([]byte{0})
	h.Write([]byte(feedback.Normal(f.Recipient)))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
