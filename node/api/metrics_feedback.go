package api

// FeedbackMetrics is what comes back after mail has left. The maps are empty on a
// node that has no feedback listener.
type FeedbackMetrics struct {
	Mails       map[string]uint64 // read, by kind: bounce, delay, relayed, complaint, auto-reply, unsubscribe, other
	News        map[string]uint64 // proved and durable, by event: late-bounce, complained, unsubscribed
	Ignored     map[string]uint64 // by reason: no-token, bad-token, unproved, no-tenant, replayed
	Refused     map[string]uint64 // by reason: address, content, rate, request, busy
	Failed      uint64            // could not be stored, put off
	Truncated   uint64            // mails that met a bound of the reader
	Pages       uint64            // unsubscribe pages shown
	Bytes       uint64            // content read
	Connections int64             // open, of SMTP
}

func (p printer) feedback(m *FeedbackMetrics) {
	if m.Mails == nil {
		return
	}
	by(p, counterKind, "feedback_mails_total", "Mails that came back, by what they are.", "kind", m.Mails)
	by(p, counterKind, "feedback_news_total", "Late bounces, complaints and requests to unsubscribe that a token proved, stored.", "event", m.News)
	by(p, counterKind, "feedback_ignored_total", "Reports that changed nothing, by reason.", "reason", m.Ignored)
	by(p, counterKind, "feedback_refused_total", "Recipients, mails and requests that the feedback listeners refused, by reason.", "reason", m.Refused)
	counter(p, "feedback_failed_total", "News that could not be stored; the sender tries again.", m.Failed)
	counter(p, "feedback_truncated_total", "Mails of which not all was read, because they met a bound.", m.Truncated)
	counter(p, "feedback_pages_total", "Unsubscribe pages shown.", m.Pages)
	counter(p, "feedback_bytes_total", "Content of the mails that came back, in bytes.", m.Bytes)
	gauge(p, "feedback_connections", "Open SMTP connections of the feedback listener.", m.Connections)
}
