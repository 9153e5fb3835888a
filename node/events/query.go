package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// Query picks lines of the log. Empty fields match all.
type Query struct {
	ID          string // message id or delivery id
	Recipient   string // address: local part as written, domain in any case; "@domain" matches any local part
	Sender      string // likewise
	Tenant      string
	Stream      string
	Job         string
	Tag         string
	Type        string // one of message's event types; several with commas
	Destination string // in any case
	Carrier     string
	Source      string
	Since       time.Time // inclusive
	Until       time.Time // exclusive
	Limit       int       // 0 is no limit
}

var eventTypes = []message.EventType{
	message.EventAccepted, message.EventDelivered, message.EventDeferred, message.EventBounced, message.EventExpired,
	message.EventCancelled, message.EventHeld, message.EventReleased, message.EventTransferred, message.EventReceived, message.EventSuppressed, message.EventRejected,
	message.EventLateBounce, message.EventComplained, message.EventUnsubscribed,
}

// matcher is a Query made ready: needles that every matching line contains as
// bytes, so that JSON is decoded only for likely lines.
type matcher struct {
	q        Query
	types    []string
	message  string // lower-case message id, "" for any
	delivery bool   // q.ID names one delivery
	key      uint64
	from, to int64    // Unix µs; to is 0 for no end
	first    []byte   // the needle the block is searched for; nil when there is none
	rest     [][]byte // needles looked for in the line
}

// newMatcher checks q.
func newMatcher(q Query) (*matcher, error) {
	m := &matcher{q: q}
	if !q.Since.IsZero() {
		m.from = q.Since.UnixMicro()
	}
	if !q.Until.IsZero() {
		m.to = q.Until.UnixMicro()
	}
	if err := m.setID(); err != nil {
		return nil, err
	}
	if q.Type != "" {
		m.types = strings.Split(q.Type, ",")
		for _, t := range m.types {
			if !slices.Contains(eventTypes, message.EventType(t)) {
				return nil, fmt.Errorf("unknown event type %q: want one of %v", t, eventTypes)
			}
		}
	}
	m.q.Destination = strings.ToLower(q.Destination)
	m.needles()
	return m, nil
}

func (m *matcher) setID() error {
	if m.q.ID == "" {
		return nil
	}
	m.q.ID = strings.ToLower(m.q.ID)
	id, err := message.ParseID(m.q.ID)
	if err != nil {
		d, derr := message.ParseDeliveryID(m.q.ID)
		if derr != nil {
			return err
		}
		id, m.delivery = d.Message, true
	}
	m.message = id.String()
	m.key = hashID([]byte(m.message))
	// Nothing is written of a message before it was accepted; an hour is for
	// clocks that were set back in between.
	m.from = max(m.from, id.Time().Add(-time.Hour).UnixMicro())
	return nil
}

// needles lists what a matching line contains, the rarest first.
func (m *matcher) needles() {
	var all [][]byte
	add := func(before, value, after string) {
		if value != "" {
			all = append(all, plainRun(before, value, after))
		}
	}
	if m.delivery {
		add(`"id":"`, m.q.ID, `"`)
	} else {
		add(`"id":"`, m.message, `-`)
	}
	for _, a := range []struct{ field, address string }{{"recipient", m.q.Recipient}, {"sender", m.q.Sender}} {
		if local, _, ok := cutAddress(a.address); ok && local != "" {
			add(`"`+a.field+`":"`, local, `@`)
		} else if !ok {
			add(`"`+a.field+`":"`, a.address, `"`)
		}
	}
	add(`"job":"`, m.q.Job, `"`)
	add(`"destination":"`, m.q.Destination, `"`)
	add(`"`, m.q.Tag, `"`)
	add(`"source":"`, m.q.Source, `"`)
	add(`"carrier":"`, m.q.Carrier, `"`)
	add(`"tenant":"`, m.q.Tenant, `"`)
	add(`"stream":"`, m.q.Stream, `"`)
	if len(m.types) == 1 {
		add(`{"type":"`, m.types[0], `"`)
	}
	if len(all) > 0 {
		m.first, m.rest = all[0], all[1:]
	}
}

// plainRun is before+value+after, or the longest part of value that stands in
// JSON as it is: the decoded line decides in the end.
func plainRun(before, value, after string) []byte {
	plain := func(c byte) bool { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' }
	best, start := "", 0
	for i := 0; i <= len(value); i++ {
		if i < len(value) && plain(value[i]) {
			continue
		}
		if i-start > len(best) {
			best = value[start:i]
		}
		start = i + 1
	}
	if len(best) == len(value) {
		return []byte(before + value + after)
	}
	return []byte(best)
}

// cutAddress splits at the last @.
func cutAddress(a string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(a, '@')
	if i < 0 {
		return "", "", false
	}
	return a[:i], a[i+1:], true
}

// wantsSegment and wantsBlock say whether there can be a match inside.
func (m *matcher) wantsSegment(s *summary) bool {
	return s.To >= m.from && (m.to == 0 || s.From < m.to)
}

func (m *matcher) wantsBlock(h *header) bool {
	return h.to >= m.from && (m.to == 0 || h.from < m.to) && (m.message == "" || h.filter.has(m.key))
}

// each calls fn with every matching line of a block.
func (m *matcher) each(lines []byte, fn func(*message.EventRecord, []byte) error) error {
	for len(lines) > 0 {
		start := 0
		if m.first != nil {
			hit := bytes.Index(lines, m.first)
			if hit < 0 {
				return nil
			}
			start = bytes.LastIndexByte(lines[:hit], '\n') + 1
		}
		line := lines[start:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i]
		}
		lines = lines[min(start+len(line)+1, len(lines)):]
		if !m.likely(line) {
			continue
		}
		var rec message.EventRecord
		if json.Unmarshal(line, &rec) != nil || !m.matches(&rec) {
			continue
		}
		if err := fn(&rec, line); err != nil {
			return err
		}
	}
	return nil
}

// likely is the cheap test before decoding: the other needles, and the time.
func (m *matcher) likely(line []byte) bool {
	if len(line) == 0 {
		return false
	}
	for _, n := range m.rest {
		if !bytes.Contains(line, n) {
			return false
		}
	}
	at, _, ok := lineStart(line)
	return !ok || (at >= m.from && (m.to == 0 || at < m.to))
}

func (m *matcher) matches(r *message.EventRecord) bool {
	at := r.Time.UnixMicro()
	q := &m.q
	return at >= m.from && (m.to == 0 || at < m.to) &&
		(m.message == "" || (r.ID.Message.String() == m.message && (!m.delivery || r.ID.String() == q.ID))) &&
		(q.Recipient == "" || sameAddress(q.Recipient, r.Recipient)) &&
		(q.Sender == "" || sameAddress(q.Sender, r.Sender)) &&
		(q.Tenant == "" || q.Tenant == r.Tenant) &&
		(q.Stream == "" || q.Stream == r.Stream) &&
		(q.Job == "" || q.Job == r.Job) &&
		(q.Tag == "" || slices.Contains(r.Tags, q.Tag)) &&
		(m.types == nil || slices.Contains(m.types, string(r.Type))) &&
		(q.Destination == "" || q.Destination == r.Destination) &&
		(q.Carrier == "" || q.Carrier == r.Carrier) &&
		(q.Source == "" || q.Source == r.Source)
}

// sameAddress compares as Query.Recipient says.
func sameAddress(want, got string) bool {
	wl, wd, ok := cutAddress(want)
	gl, gd, gok := cutAddress(got)
	if !ok || !gok {
		return want == got
	}
	return strings.EqualFold(wd, gd) && (wl == "" || wl == gl)
}
