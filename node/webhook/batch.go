package webhook

import (
	"encoding/json"
	"strconv"
	"time"
)

// maxBody is the most bytes of a batch that has more than one event. A line is
// at most about 70 KiB. Web servers commonly take 1 MiB (nginx) or less.
const maxBody = 512 << 10

// mark is a line of the log: the number of its block, its line in there.
type mark struct {
	block uint64
	line  int
}

// appendTo appends the mark as part of an id.
func (m mark) appendTo(b []byte) []byte {
	b = strconv.AppendUint(b, m.block, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, int64(m.line), 10)
}

// batch is the events of one request. It holds where they are, not what they
// are: an endpoint that is away for a day, and there can be a thousand, must not
// hold a day's worth of bodies in memory.
type batch struct {
	parts          []part
	end            position // after the last
	events, bytes  int
	first, last    mark
	oldest, newest time.Time
}

// part is lines of one page.
type part struct {
	at    Place
	block uint64 // number of the page's block
	lines []int32
}

// eventExtra is about what an event is longer by than its line.
const eventExtra = 64

// fits reports whether the body has room for one more line.
func (b *batch) fits(text []byte) bool {
	return b.events == 0 || b.bytes+len(text)+eventExtra <= maxBody
}

// add takes a line of a page.
func (b *batch) add(p *page, n int32) {
	m := mark{p.First, int(n)}
	if b.events == 0 {
		b.first = m
	}
	if k := len(b.parts); k == 0 || b.parts[k-1].at != p.at {
		b.parts = append(b.parts, part{at: p.at, block: p.First})
	}
	last := &b.parts[len(b.parts)-1]
	last.lines = append(last.lines, n)
	text := p.text(n)
	b.events, b.bytes, b.last = b.events+1, b.bytes+len(text)+eventExtra, m
	when := lineTime(text)
	if b.oldest.IsZero() || when.Before(b.oldest) {
		b.oldest = when
	}
	if when.After(b.newest) {
		b.newest = when
	}
}

// half is the first half of a batch that was too large for its endpoint.
func (b *batch) half() *batch {
	h := &batch{first: b.first, oldest: b.oldest, newest: b.newest, bytes: b.bytes / 2}
	want := b.events / 2
	for _, p := range b.parts {
		p.lines = p.lines[:min(len(p.lines), want-h.events)]
		h.parts, h.events = append(h.parts, p), h.events+len(p.lines)
		last := int(p.lines[len(p.lines)-1])
		h.last, h.end = mark{p.block, last}, position{p.at, p.block, last + 1}
		if h.events == want {
			break
		}
	}
	return h
}

// id is the same whenever a batch has the same events.
func (b *batch) id(webhook, store string) string {
	return webhook + ":" + eventID(store, b.first) + "." + string(b.last.appendTo(nil))
}

func eventID(store string, m mark) string { return store + "-" + string(m.appendTo(nil)) }

// appendEvent appends one line of the log with its id. Everything else stays as
// it is in the log.
func appendEvent(b []byte, store string, m mark, text []byte) []byte {
	b = append(b, "\n{\"event_id\":\""...)
	b = append(append(b, store...), '-')
	b = m.appendTo(b)
	return append(append(b, `",`...), text[1:]...)
}

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
