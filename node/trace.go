package node

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/delivery"
)

// traces passes SMTP dialogues on to whoever watches, live. While nobody
// watches, a line costs one atomic load.
type traces struct {
	active atomic.Int32
	mu     struct {
		sync.Mutex
		watchers map[*watcher]struct{}
	}
}

// watcher is one live trace. Lines that it does not take in time are dropped
// and counted: mail never waits for a reader.
type watcher struct {
	filter api.TraceFilter
	lines  chan *api.TraceLine
	lost   atomic.Uint64
	mu     struct {
		sync.Mutex
		sessions map[string]bool // matched by something said in them
	}
}

const (
	traceBuffer   = 1024
	traceSessions = 4096
)

func newTraces() *traces {
	t := &traces{}
	t.mu.watchers = map[*watcher]struct{}{}
	return t
}

// Match is ingest.Tracer.
func (t *traces) Match(netip.Addr, string) bool { return t.active.Load() > 0 }

// Line is ingest.Tracer.
func (t *traces) Line(session uint64, client netip.Addr, sent bool, line []byte) {
	kind := "received"
	if sent {
		kind = "sent"
	}
	t.pass(&api.TraceLine{Time: time.Now(), Session: "in-" + strconv.FormatUint(session, 10), Direction: "in", Kind: kind, Text: string(line), Peer: client.String()})
}

// outgoing is delivery.Trace.
func (t *traces) outgoing(l delivery.TraceLine) {
	kind := "received"
	if l.Out {
		kind = "sent"
	}
	t.pass(&api.TraceLine{Time: time.Now(), Session: "out-" + strconv.FormatUint(l.Session, 10), Direction: "out", Kind: kind, Text: l.Text, Peer: l.Host})
}

func (t *traces) pass(l *api.TraceLine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.mu.watchers {
		if !w.wants(l) {
			continue
		}
		select {
		case w.lines <- l:
		default:
			w.lost.Add(1)
		}
	}
}

// wants reports whether a line passes the filter. Sender, recipient and
// destination are said once in a session; from then on it is all wanted.
func (w *watcher) wants(l *api.TraceLine) bool {
	f := &w.filter
	if f.Direction != "" && f.Direction != l.Direction || f.Host != "" && !strings.Contains(l.Peer, f.Host) {
		return false
	}
	if f.Sender == "" && f.Recipient == "" && f.Destination == "" {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.sessions[l.Session] {
		return true
	}
	text := strings.ToLower(l.Text)
	hit := f.Sender != "" && strings.Contains(text, "mail from:<"+strings.ToLower(f.Sender)) ||
		f.Recipient != "" && strings.Contains(text, "rcpt to:<"+strings.ToLower(f.Recipient)) ||
		f.Destination != "" && strings.Contains(text, "rcpt to:<") && strings.Contains(text, "@"+strings.ToLower(f.Destination)+">")
	if hit && len(w.mu.sessions) < traceSessions {
		w.mu.sessions[l.Session] = true
	}
	return hit
}

// Trace is api.Node.
func (n *Node) Trace(ctx context.Context, f api.TraceFilter, fn func(*api.TraceLine) error) error {
	t := n.trace
	w := &watcher{filter: f, lines: make(chan *api.TraceLine, traceBuffer)}
	w.mu.sessions = map[string]bool{}
	t.watch(n, w, true)
	defer t.watch(n, w, false)
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-w.lines:
			if lost := w.lost.Swap(0); lost > 0 {
				if err := fn(&api.TraceLine{Time: time.Now(), Kind: "note", Text: strconv.FormatUint(lost, 10) + " lines were dropped: the reader is too slow"}); err != nil {
					return err
				}
			}
			if err := fn(l); err != nil {
				return err
			}
		}
	}
}

func (t *traces) watch(n *Node, w *watcher, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on {
		t.mu.watchers[w] = struct{}{}
	} else {
		delete(t.mu.watchers, w)
	}
	t.active.Store(int32(len(t.mu.watchers)))
	if len(t.mu.watchers) > 0 {
		n.client.SetTrace(t.outgoing)
	} else {
		n.client.SetTrace(nil)
	}
}
