package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// maxBody is where a batch is cut although it could hold more events. A line is
// at most about 70 KiB.
const maxBody = 1 << 20

// place is a line of the log: the number of its block, its line in there.
type place struct {
	block uint64
	line  int
}

// appendTo appends the place as part of an id.
func (p place) appendTo(b []byte) []byte {
	b = strconv.AppendUint(b, p.block, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, int64(p.line), 10)
}

// batch is the events of one request.
type batch struct {
	store          string
	id             string // set by seal
	body           []byte
	events         int
	first, last    place
	oldest, newest time.Time
}

// add appends one line of the log with its id. Everything else stays as it is
// in the log.
func (b *batch) add(at place, line []byte) {
	line = bytes.TrimRight(line, "\n")
	if b.events > 0 {
		b.body = append(b.body, ',')
	} else {
		b.first = at
	}
	b.body = append(b.body, "\n{\"event_id\":\""...)
	b.body = append(append(b.body, b.store...), '-')
	b.body = at.appendTo(b.body)
	b.body = append(append(b.body, `",`...), line[1:]...)
	b.events, b.last = b.events+1, at
	when := lineTime(line)
	if b.oldest.IsZero() || when.Before(b.oldest) {
		b.oldest = when
	}
	if when.After(b.newest) {
		b.newest = when
	}
}

// seal makes the body whole.
func (b *batch) seal(webhook, node string) {
	b.id = webhook + ":" + b.eventID(b.first) + "." + string(b.last.appendTo(nil))
	b.body = append(envelope(b.id, webhook, node), b.body...)
	b.body = append(b.body, "\n]}\n"...)
}

func (b *batch) eventID(at place) string { return b.store + "-" + string(at.appendTo(nil)) }

// envelope is a body up to its events.
func envelope(id, webhook, node string) []byte {
	j, err := json.Marshal(struct {
		Batch   string `json:"batch"`
		Webhook string `json:"webhook"`
		Node    string `json:"node"`
	}{id, webhook, node})
	if err != nil {
		panic("BUG: names have no JSON: " + err.Error())
	}
	return append(j[:len(j)-1], `,"events":[`...)
}

// A line begins with its type and its time, see message.Event.AppendJSON.
var (
	typeStart = []byte(`{"type":"`)
	timeStart = []byte(`","time":"`)
)

func lineType(line []byte) string {
	rest, ok := bytes.CutPrefix(line, typeStart)
	if !ok {
		return ""
	}
	kind, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return ""
	}
	return string(kind)
}

// lineTime is zero where the line does not say.
func lineTime(line []byte) time.Time {
	_, rest, ok := bytes.Cut(line[:min(len(line), 128)], timeStart)
	if !ok {
		return time.Time{}
	}
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return time.Time{}
	}
	return t
}

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
	needle  []byte          // a line of the tenant contains it; nil: not known
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
	if quoted := strconv.Quote(w.Tenant); w.Tenant != "" && quoted == `"`+w.Tenant+`"` {
		f.needle = []byte(`"tenant":` + quoted)
	}
	return f
}

// errUnreadable is a line that is no JSON. One of them in a body would have the
// endpoint refuse it for a day, and with it all that waits behind.
var errUnreadable = errors.New("a line of the event log is not JSON")

// wants decodes only lines that are likely: the needle can also stand in
// metadata, which is foreign, and an event must not reach another tenant.
func (f *filter) wants(line []byte) (bool, error) {
	if !f.types[lineType(line)] {
		return false, nil
	}
	if f.tenant == "" && f.streams == nil {
		if !json.Valid(line) {
			return false, errUnreadable
		}
		return true, nil
	}
	if f.needle != nil && !bytes.Contains(line, f.needle) {
		return false, nil
	}
	var e struct {
		Tenant string `json:"tenant"`
		Stream string `json:"stream"`
	}
	if json.Unmarshal(line, &e) != nil {
		return false, errUnreadable
	}
	return (f.tenant == "" || e.Tenant == f.tenant) && (f.streams == nil || f.streams[e.Stream] || f.streams[e.Tenant+"/"+e.Stream]), nil
}
