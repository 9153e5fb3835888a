package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/state"
)

const (
	// maxLine is far beyond any event: metadata is at most 32 KiB, a reply 2 KiB.
	maxLine = 1 << 20
	// lineTimeout cuts off a client that takes nothing for so long.
	lineTimeout = 15 * time.Second
	// flushAfter is how long a line may wait for company.
	flushAfter = 200 * time.Millisecond
)

// EventsSeen says how much the nodes looked at, in all.
type EventsSeen struct {
	Matches       int   `json:"matches"`
	Segments      int   `json:"segments"`
	Blocks        int   `json:"blocks"`
	BlocksSkipped int   `json:"blocks_skipped"`
	ContentBytes  int64 `json:"json_bytes"`
	DamagedBytes  int64 `json:"damaged_bytes"`
	Limited       bool  `json:"limited"`
}

// StreamEnd is the last line of a stream. A stream without it was cut off; one
// that is not complete lacks what the missing nodes have.
type StreamEnd struct {
	End   bool        `json:"end"` // true, and first, so that no other line begins like it
	Found *EventsSeen `json:"found,omitempty"`
	Error string      `json:"error,omitempty"`
	Coverage
}

// streamEndMark is how the last line begins; no event and no trace line does.
var streamEndMark = []byte(`{"end":`)

// ParseStreamEnd reads a line as the last one of a stream.
func ParseStreamEnd(line []byte) (StreamEnd, bool) {
	var e StreamEnd
	ok := bytes.HasPrefix(line, streamEndMark) && json.Unmarshal(line, &e) == nil && e.End
	return e, ok
}

// EventParams picks lines of the event logs.
type EventParams struct {
	ID          string    `query:"id" maxLength:"40" doc:"message or delivery id"`
	Recipient   string    `query:"recipient" maxLength:"320" doc:"address, or @domain"`
	Sender      string    `query:"sender" maxLength:"320" doc:"address, or @domain"`
	Tenant      string    `query:"tenant" maxLength:"64"`
	Stream      string    `query:"stream" maxLength:"64"`
	Job         string    `query:"job" maxLength:"128"`
	Tag         string    `query:"tag" maxLength:"64"`
	Type        string    `query:"type" maxLength:"200" doc:"event types, with commas"`
	Destination string    `query:"destination" maxLength:"255"`
	Carrier     string    `query:"carrier" maxLength:"64"`
	Source      string    `query:"source" maxLength:"64"`
	Since       time.Time `query:"since" doc:"inclusive"`
	Until       time.Time `query:"until" doc:"exclusive"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000000" default:"1000"`
	NodesQuery
}

func (p *EventParams) values() url.Values {
	v := url.Values{"limit": {strconv.Itoa(p.Limit)}}
	for _, f := range [][2]string{{"id", p.ID}, {"recipient", p.Recipient}, {"sender", p.Sender}, {"tenant", p.Tenant}, {"stream", p.Stream}, {"job", p.Job},
		{"tag", p.Tag}, {"type", p.Type}, {"destination", p.Destination}, {"carrier", p.Carrier}, {"source", p.Source}} {
		if f[1] != "" {
			v.Set(f[0], f[1])
		}
	}
	for name, t := range map[string]time.Time{"since": p.Since, "until": p.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}

func streamOp(id, path, summary string) huma.Operation {
	op := fanOp(id, http.MethodGet, path, summary)
	op.Description = "One JSON object a line. The last line is {\"end\":true,…}; without it the stream was cut off."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK", Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	return op
}

func (a *api) registerFanStreams(h huma.API) {
	huma.Register(h, streamOp("search-events", "events", "Search the event logs of all nodes, oldest first"), func(ctx context.Context, in *EventParams) (*huma.StreamResponse, error) {
		if err := owned(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		return a.stream(ctx, in.Node, streaming{path: "/v1/events", query: in.values(), lasts: 10 * time.Minute, sorted: true, limit: in.Limit})
	})
	type tailIn struct {
		EventParams
		Seconds int `query:"seconds" minimum:"1" maximum:"86400" default:"3600" doc:"Ends after this time."`
	}
	huma.Register(h, streamOp("tail-events", "events/tail", "Follow the event logs of all nodes"), func(ctx context.Context, in *tailIn) (*huma.StreamResponse, error) {
		if err := owned(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		q := in.values()
		q.Set("seconds", strconv.Itoa(in.Seconds))
		return a.stream(ctx, in.Node, streaming{path: "/v1/events/tail", query: q, lasts: time.Duration(in.Seconds) * time.Second, limit: in.Limit})
	})
	type traceIn struct {
		Direction   string `query:"direction" enum:"in,out" doc:"Default both."`
		Destination string `query:"destination" maxLength:"255"`
		Host        string `query:"host" maxLength:"255" doc:"Name or address of the peer."`
		Sender      string `query:"sender" maxLength:"320"`
		Recipient   string `query:"recipient" maxLength:"320"`
		Seconds     int    `query:"seconds" minimum:"1" maximum:"3600" default:"60" doc:"Ends after this time."`
		Count       int    `query:"count" minimum:"1" maximum:"1000000" default:"10000" doc:"Ends after this many lines."`
		NodesQuery
	}
	huma.Register(h, streamOp("trace", "trace", "Follow SMTP sessions live, on all nodes"), func(ctx context.Context, in *traceIn) (*huma.StreamResponse, error) {
		q := url.Values{"seconds": {strconv.Itoa(in.Seconds)}, "count": {strconv.Itoa(in.Count)}}
		for _, f := range [][2]string{{"direction", in.Direction}, {"destination", in.Destination}, {"host", in.Host}, {"sender", in.Sender}, {"recipient", in.Recipient}} {
			if f[1] != "" {
				q.Set(f[0], f[1])
			}
		}
		return a.stream(ctx, in.Node, streaming{path: "/v1/trace", query: q, lasts: time.Duration(in.Seconds) * time.Second, limit: in.Count, name: true})
	})
}

// streaming is what is asked of each node's stream.
type streaming struct {
	path   string
	query  url.Values
	lasts  time.Duration
	sorted bool // by time; else lines go out as they come
	name   bool // the node's name is put into each line
	limit  int
}

// nodeLine is a line of one node, or its end.
type nodeLine struct {
	node int
	text []byte
	at   time.Time
	end  *StreamEnd
	err  error
}

// stream merges the streams of all nodes into one.
func (a *api) stream(ctx context.Context, names []string, s streaming) (*huma.StreamResponse, error) {
	nodes, err := a.targets(ctx, names)
	if err != nil {
		return nil, err
	}
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, problem(http.StatusServiceUnavailable, "too many streams are open; end one first")
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer func() { <-a.streams }()
		ctx, cancel := context.WithTimeout(h.Context(), s.lasts+lineTimeout)
		defer cancel()
		_, w := humago.Unwrap(h)
		h.SetHeader("Content-Type", "application/x-ndjson")
		h.SetStatus(http.StatusOK)
		if h.Method() == http.MethodHead {
			return // the client takes the connection for free
		}
		l := &lines{w: bufio.NewWriterSize(w, 32<<10), control: http.NewResponseController(w)}
		var readers sync.WaitGroup // each reads one node until its end or ctx's
		m := &merging{s: s, nodes: nodes, from: make([]chan nodeLine, len(nodes)), any: make(chan nodeLine, 64)}
		for i, n := range nodes {
			m.from[i] = make(chan nodeLine, 16)
			readers.Go(func() { a.readStream(ctx, i, n, m) })
		}
		end := m.run(ctx, l)
		cancel()
		readers.Wait()
		if b, err := json.Marshal(end); err == nil && l.write(b) == nil {
			l.flush()
		}
	}}, nil
}

// readStream sends one node's lines, the last one with its end.
func (a *api) readStream(ctx context.Context, i int, n state.Node, m *merging) {
	to := m.any
	if m.s.sorted {
		to = m.from[i]
	}
	send := func(l nodeLine) bool {
		l.node = i
		select {
		case to <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if !n.Live || n.Peer == "" {
		send(nodeLine{err: errDown})
		return
	}
	resp, err := a.send(ctx, n, call{method: http.MethodGet, path: m.s.path, query: m.s.query})
	if err != nil {
		send(nodeLine{err: err})
		return
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 16<<10), maxLine)
	for sc.Scan() {
		if end, ok := ParseStreamEnd(sc.Bytes()); ok {
			if end.Error != "" {
				send(nodeLine{err: errors.New(end.Error), end: &end})
			} else {
				send(nodeLine{end: &end})
			}
			return
		}
		l := nodeLine{text: m.s.line(n.Name, sc.Bytes())}
		if m.s.sorted {
			var e struct {
				Time time.Time `json:"time"`
			}
			_ = json.Unmarshal(sc.Bytes(), &e) // a line without a time goes out at once
			l.at = e.Time
		}
		if !send(l) {
			return
		}
	}
	err = sc.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	send(nodeLine{err: fmt.Errorf("its stream was cut off: %w", err)})
}

// line copies a line, with the node's name as its first field if wanted.
func (s *streaming) line(node string, b []byte) []byte {
	if !s.name || len(b) < 3 || b[0] != '{' {
		return bytes.Clone(b)
	}
	name, err := json.Marshal(node)
	if err != nil {
		return bytes.Clone(b)
	}
	return append(append(append([]byte(`{"node":`), name...), ','), b[1:]...)
}

// merging puts the nodes' lines into one order.
type merging struct {
	s     streaming
	nodes []state.Node
	from  []chan nodeLine // one for each node, where the order is by time
	any   chan nodeLine   // else

	answered []answer[struct{}]
	found    EventsSeen
}

// run writes lines until all nodes have ended, enough were written, the client
// is gone or the time is over.
func (m *merging) run(ctx context.Context, l *lines) StreamEnd {
	m.answered = make([]answer[struct{}], len(m.nodes))
	for i, n := range m.nodes {
		m.answered[i] = answer[struct{}]{node: n.Name, err: errors.New("it had not ended when this did")}
	}
	var err error
	if m.s.sorted {
		err = m.byTime(ctx, l)
	} else {
		err = m.asTheyCome(ctx, l)
	}
	end := StreamEnd{End: true, Coverage: cover(m.answered)}
	if m.s.sorted {
		end.Found = &m.found
	}
	if err != nil {
		end.Error = err.Error()
	}
	return end
}

// ended notes how a node's stream ended.
func (m *merging) ended(l nodeLine) {
	m.answered[l.node].err = l.err
	if l.end != nil && l.end.Found != nil {
		f := l.end.Found
		m.found.Segments += f.Segments
		m.found.Blocks += f.Blocks
		m.found.BlocksSkipped += f.BlocksSkipped
		m.found.ContentBytes += f.ContentBytes
		m.found.DamagedBytes += f.DamagedBytes
		m.found.Limited = m.found.Limited || f.Limited
	}
}

func (m *merging) byTime(ctx context.Context, l *lines) error {
	heads := make([]*nodeLine, len(m.nodes))
	open := len(m.nodes)
	fill := func(i int) error {
		select {
		case line := <-m.from[i]:
			if line.text == nil {
				m.ended(line)
				open--
				return nil
			}
			heads[i] = &line
			return nil
		case <-ctx.Done():
			return errors.New("it took too long")
		}
	}
	for i := range heads {
		if err := fill(i); err != nil {
			return err
		}
	}
	for {
		best := -1
		for i, h := range heads {
			if h != nil && (best < 0 || h.at.Before(heads[best].at)) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		if m.found.Matches == m.s.limit {
			m.found.Limited = true
			m.enough()
			return nil
		}
		if err := l.write(heads[best].text); err != nil {
			return err
		}
		m.found.Matches++
		heads[best] = nil
		if err := fill(best); err != nil {
			return err
		}
	}
}

// enough: what was asked for is there, though nodes have more.
func (m *merging) enough() {
	for i := range m.answered {
		if m.answered[i].err != nil && !m.nodes[i].Live {
			m.answered[i].err = errDown
		} else {
			m.answered[i].err = nil
		}
	}
}

func (m *merging) asTheyCome(ctx context.Context, l *lines) error {
	tick := time.NewTicker(flushAfter)
	defer tick.Stop()
	l.flush() // the client knows that it is connected
	for open, written := len(m.nodes), 0; open > 0; {
		select {
		case line := <-m.any:
			if line.text == nil {
				m.ended(line)
				open--
				continue
			}
			if err := l.write(line.text); err != nil {
				return err
			}
			if written++; written == m.s.limit {
				m.enough()
				return nil
			}
		case <-tick.C:
			if err := l.flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil // its time is over
		}
	}
	return nil
}

// lines writes lines to a client that may be slow or gone.
type lines struct {
	w       *bufio.Writer
	control *http.ResponseController
}

func (l *lines) write(b []byte) error {
	_ = l.control.SetWriteDeadline(time.Now().Add(lineTimeout)) // a test's recorder has none
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.w.WriteByte('\n')
}

func (l *lines) flush() error {
	_ = l.control.SetWriteDeadline(time.Now().Add(lineTimeout))
	if err := l.w.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}
