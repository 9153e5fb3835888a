package node

import (
	"bytes"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// What leaves so that what comes back can be known: an envelope sender for each
// recipient, and one-click unsubscription (RFC 8058). Both are the tenant's
// choice, and both carry tokens that nobody else can make.

// returnPath is the tenant's domain for what comes back; "" is none. Mail with a
// null sender keeps it: its notices go nowhere.
func (n *Node) returnPath(m *message.Message) string {
	if n.news.receiver == nil || m.Sender == "" {
		return ""
	}
	if t := n.policy.Load().Tenants[m.Tenant]; t != nil {
		return t.ReturnPath
	}
	return ""
}

// subject is what the tokens of one recipient are about.
func (a *attempt) subject(i int) *feedback.Subject {
	d := a.delivery
	return &feedback.Subject{Delivery: d.ID, Tenant: d.Queue.Tenant, Stream: d.Queue.Stream, Recipient: d.Recipients[i].Address, Source: a.source, Issued: a.n.now()}
}

// senderOf gives each recipient an envelope sender of its own; nil where the
// tenant has no return path.
func (a *attempt) senderOf(domain string) func(int) string {
	if domain == "" {
		return nil
	}
	return func(i int) string { return a.n.cfg.Feedback.Keys.ReturnAddress(a.subject(i), domain) }
}

// trace is the header field that ties what is returned to its recipient where the
// return path was lost on the way; nil where there is none. It stands before the
// signature, which does not cover it: it proves itself.
func (a *attempt) trace() []byte {
	if len(a.delivery.Recipients) != 1 || a.n.returnPath(a.content.msg) == "" {
		return nil
	}
	b := append([]byte(feedback.TraceHeader), ": "...)
	return append(append(b, a.n.cfg.Feedback.Keys.TraceValue(a.subject(0))...), "\r\n"...)
}

// added are the header fields that go before a message, "" mostly: for a
// recipient who can be told apart, and mail that went to many.
func (a *attempt) added(raw []byte) []byte {
	m := a.content.msg
	if a.n.news.receiver == nil || len(a.delivery.Recipients) != 1 || m.Priority == message.High || m.Job == "" && m.Priority != message.Low {
		return nil
	}
	t := a.n.policy.Load().Tenants[m.Tenant]
	if t == nil || t.UnsubscribeURL == "" || !t.Suppresses(policy.SuppressUnsubscribes) || hasField(raw, "List-Unsubscribe") {
		return nil
	}
	links, post := a.n.cfg.Feedback.Keys.ListUnsubscribe(a.subject(0), t.UnsubscribeURL, t.ReturnPath)
	if links == "" {
		return nil
	}
	b := append(append([]byte("List-Unsubscribe: "), links...), "\r\n"...)
	if post != "" {
		b = append(append(append(b, "List-Unsubscribe-Post: "...), post...), "\r\n"...)
	}
	return b
}

// hasField reports whether the header has a field of the name.
func hasField(raw []byte, name string) bool {
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
		if len(line) == 0 {
			return false // the end of the header
		}
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return true
		}
		raw = rest
	}
	return false
}
