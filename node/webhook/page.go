package webhook

import (
	"bytes"
	"encoding/json"
	"sync/atomic"
	"time"
)

// page is a block of the log with an index: whose events are in it. It is made
// once for all webhooks, and not changed afterwards.
type page struct {
	Block
	at    Place
	lines []line
	of    map[string][]int32 // lines of a tenant
	all   []int32
	bad   []int32 // lines that are no event: nobody knows whose they were
}

type line struct {
	from, to int32 // in Lines
	kind     string
	tenant   string
	stream   []byte
	checked  atomic.Int32
}

// What is known of a line.
const (
	unchecked = iota
	isJSON
	notJSON
)

// size is about what the page takes in memory.
func (p *page) size() int { return len(p.Lines) + 96*len(p.lines) + 64*len(p.of) }

func newPage(at Place, b Block) *page {
	n := bytes.Count(b.Lines, []byte{'\n'}) + 1
	p := &page{Block: b, at: at, lines: make([]line, 0, n), of: map[string][]int32{}}
	names := map[string]string{} // each tenant's name once
	for from := 0; from < len(b.Lines); {
		to := len(b.Lines)
		if i := bytes.IndexByte(b.Lines[from:], '\n'); i >= 0 {
			to = from + i
		}
		p.lines = append(p.lines, line{from: int32(from), to: int32(to)})
		if to > from { // an empty line has a number too, and is nothing
			p.index(int32(len(p.lines)-1), names)
		}
		from = to + 1
	}
	return p
}

func (p *page) index(n int32, names map[string]string) {
	l := &p.lines[n]
	h, ok := parseHead(p.Lines[l.from:l.to])
	if !ok {
		p.bad = append(p.bad, n)
		return
	}
	tenant, known := names[string(h.tenant)]
	if !known {
		tenant = string(h.tenant)
		names[tenant] = tenant
	}
	l.kind, l.tenant, l.stream = kindName(h.kind), tenant, h.stream
	p.of[tenant] = append(p.of[tenant], n)
	p.all = append(p.all, n)
}

func (p *page) text(n int32) []byte { return p.Lines[p.lines[n].from:p.lines[n].to] }

// position is so many lines into the page.
func (p *page) position(lines int) position { return position{p.at, p.First, lines} }

// after is the position after a line.
func (p *page) after(n int32) position {
	if int(n)+1 >= len(p.lines) {
		return position{Place: p.End}
	}
	return p.position(int(n) + 1)
}

// valid reports whether a line is JSON. It is found out once, and only for lines
// that somebody wants.
func (p *page) valid(n int32) bool {
	l := &p.lines[n]
	switch l.checked.Load() {
	case isJSON:
		return true
	case notJSON:
		return false
	}
	if json.Valid(p.text(n)) {
		l.checked.Store(isJSON)
		return true
	}
	l.checked.Store(notJSON)
	return false
}

// candidates are the lines among which those that a filter wants are.
func (p *page) candidates(f *filter) []int32 {
	if f.tenant == "" {
		return p.all
	}
	return p.of[f.tenant]
}

// concerns reports whether somebody with this filter should look at the page.
func (p *page) concerns(f *filter) bool {
	if len(p.bad) > 0 {
		return true
	}
	for _, n := range p.candidates(f) {
		if f.wants(&p.lines[n]) {
			return true
		}
	}
	return false
}

// head is what an event begins with.
type head struct{ kind, tenant, stream []byte }

// parseHead reads type, tenant and stream. The log's writer puts them first, in
// this order (message.Event.AppendJSON), before anything foreign: what a sender
// wrote into metadata can not make a line somebody else's.
func parseHead(text []byte) (head, bool) {
	var h head
	rest, ok := bytes.CutPrefix(text, typeStart)
	if !ok {
		return decodeHead(text)
	}
	if h.kind, rest, ok = plain(rest); !ok {
		return decodeHead(text)
	}
	for _, f := range [...]struct {
		start []byte
		value *[]byte
		must  bool
	}{{timeField, nil, true}, {idField, nil, true}, {nodeField, nil, false}, {tenantField, &h.tenant, false}, {streamField, &h.stream, false}} {
		value, found := bytes.CutPrefix(rest, f.start)
		if !found {
			if f.must {
				return decodeHead(text)
			}
			continue
		}
		if value, rest, ok = plain(value); !ok {
			return decodeHead(text)
		}
		if f.value != nil {
			*f.value = value
		}
	}
	return h, true
}

var (
	typeStart   = []byte(`{"type":"`)
	timeField   = []byte(`,"time":"`)
	idField     = []byte(`,"id":"`)
	nodeField   = []byte(`,"node":"`)
	tenantField = []byte(`,"tenant":"`)
	streamField = []byte(`,"stream":"`)
)

// plain cuts a string without escapes and its closing quote.
func plain(b []byte) (value, rest []byte, ok bool) {
	i := bytes.IndexAny(b, `"\`)
	if i < 0 || b[i] == '\\' {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// decodeHead is for lines with escapes, and for those of another writer.
func decodeHead(text []byte) (head, bool) {
	var e struct{ Type, Tenant, Stream string }
	if json.Unmarshal(text, &e) != nil || e.Type == "" {
		return head{}, false
	}
	return head{[]byte(e.Type), []byte(e.Tenant), []byte(e.Stream)}, true
}

// kindName is a type without a copy for each event.
func kindName(b []byte) string {
	if s, ok := kindNames[string(b)]; ok {
		return s
	}
	return string(b)
}

var kindNames = func() map[string]string {
	m := map[string]string{}
	for k := range allTypes {
		m[k] = k
	}
	return m
}()

// lineTime is zero where the line does not say.
func lineTime(text []byte) time.Time {
	_, rest, ok := bytes.Cut(text[:min(len(text), 128)], timeField)
	if !ok {
		return time.Time{}
	}
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	t, err := time.Parse(time.RFC3339Nano, string(value))
	if err != nil {
		return time.Time{}
	}
	return t
}
