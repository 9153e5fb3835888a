package webhook

import (
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// allTypes are those of a webhook that names none: what happens to mail, not
// what nodes do among themselves.
var allTypes = kinds(
	message.EventAccepted, message.EventDelivered, message.EventDeferred, message.EventBounced, message.EventExpired,
	message.EventCancelled, message.EventHeld, message.EventReleased, message.EventSuppressed, message.EventComplained, message.EventLateBounce, message.EventUnsubscribed,
)

func kinds(ts ...message.EventType) map[string]bool {
	m := make(map[string]bool, len(ts))
	for _, t := range ts {
		m[string(t)] = true
	}
	return m
}

// filter is what a webhook wants.
type filter struct {
	types   map[string]bool
	tenant  string
	streams map[string]bool // "stream" or "tenant/stream"; nil: all
}

func newFilter(w *policy.Webhook) *filter {
	f := &filter{types: allTypes, tenant: w.Tenant}
	if len(w.Events) > 0 {
		f.types = map[string]bool{}
		for _, e := range w.Events {
			f.types[e] = true
		}
	}
	if len(w.Streams) > 0 {
		f.streams = map[string]bool{}
		for _, s := range w.Streams {
			f.streams[s] = true
		}
	}
	return f
}

func (f *filter) wants(l *line) bool {
	if !f.types[l.kind] || f.tenant != "" && f.tenant != l.tenant {
		return false
	}
	return f.streams == nil || f.streams[string(l.stream)] || f.streams[l.tenant+"/"+string(l.stream)]
}
