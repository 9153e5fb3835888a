package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
	"hikyaku/spool/message"
)

// memLog is an event log in memory. Like the real one it has blocks, a durable
// hold, and tells when there is more.
type memLog struct {
	mu      sync.Mutex
	blocks  []memBlock // by position
	trimmed int64      // positions that retention took
	held    *webhook.Place
	changed chan struct{}
	next    uint64
	failing error // of reading
	full    error // of holding
	reads   int
}

type memBlock struct {
	lines             []byte
	prev, first, last uint64
}

func newMemLog() *memLog { return &memLog{changed: make(chan struct{}), next: 1} }

// write appends events as one block.
func (l *memLog) write(es ...message.Event) {
	var b []byte
	for i := range es {
		b = es[i].AppendJSON(b)
	}
	l.writeLines(b, len(es))
}

func (l *memLog) writeLines(b []byte, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocks = append(l.blocks, memBlock{b, l.next - 1, l.next, l.next + uint64(n) - 1})
	l.next += uint64(n)
	close(l.changed)
	l.changed = make(chan struct{})
}

// crash is what a process finds that starts after this one was killed now.
func (l *memLog) crash() *memLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newMemLog()
	c.blocks, c.held, c.next, c.trimmed = append(c.blocks, l.blocks...), l.held, l.next, l.trimmed
	return c
}

func (l *memLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
	close(l.changed)
	l.changed = make(chan struct{})
}

// trim is retention's hard cap: all but the last blocks go.
func (l *memLog) trim(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimmed = int64(max(len(l.blocks)-keep, 0))
}

func (l *memLog) Cursor() webhook.Cursor { return memCursor{l} }

func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *memLog) placeLocked(n int) webhook.Place {
	p := webhook.Place{Segment: "s", Position: int64(n)}
	if n > 0 {
		p.Seq = l.blocks[n-1].last
	}
	return p
}

func (l *memLog) End() webhook.Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.placeLocked(len(l.blocks))
}

func (l *memLog) Hold(at webhook.Place) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		return l.full
	}
	if at.Position < l.trimmed {
		at = l.placeLocked(int(l.trimmed))
	}
	l.held = &at
	return nil
}

func (l *memLog) Held() (webhook.Place, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return webhook.Place{}, false
	}
	return *l.held, true
}

func (l *memLog) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = nil
	return nil
}

// holds reports whether something is kept for webhooks.
func (l *memLog) holds() bool {
	_, ok := l.Held()
	return ok
}

type memCursor struct{ l *memLog }

func (c memCursor) Read(at webhook.Place) (webhook.Block, error) {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return webhook.Block{}, l.failing
	}
	n := int(max(at.Position, l.trimmed))
	if n >= len(l.blocks) {
		return webhook.Block{}, io.EOF
	}
	l.reads++
	b := l.blocks[n]
	return webhook.Block{Lines: b.lines, Prev: b.prev, First: b.first, Last: b.last, End: l.placeLocked(n + 1)}, nil
}

func (memCursor) Close() {}

// request is one that the endpoint had.
type request struct {
	at     time.Time
	path   string
	header http.Header
	body   []byte
	batch  posted
}

// posted is a body.
type posted struct {
	Batch   string           `json:"batch"`
	Webhook string           `json:"webhook"`
	Node    string           `json:"node"`
	Events  []map[string]any `json:"events"`
}

// receiver is an endpoint on a network in memory, in virtual time.
type receiver struct {
	mu       sync.Mutex
	requests []request
	script   func(n int, r *request) (status int, header http.Header) // nil: 200
	block    chan struct{}                                            // not nil: answers wait for it

	conns  chan net.Conn
	closed chan struct{}
	server *http.Server
	done   chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{conns: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{})}
	r.server = &http.Server{Handler: r}
	go func() { // ended by Close, waited for below
		defer close(r.done)
		_ = r.server.Serve(r)
	}()
	t.Cleanup(func() {
		_ = r.server.Close()
		<-r.done
	})
	return r
}

func (r *receiver) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

func (r *receiver) Close() error {
	select {
	case <-r.closed:
	default:
		close(r.closed)
	}
	return nil
}

func (r *receiver) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(93, 184, 216, 34), Port: 80} }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	q := request{at: time.Now(), path: req.URL.Path, header: req.Header.Clone(), body: body}
	_ = json.Unmarshal(body, &q.batch) // what cannot be read shows as no events
	r.mu.Lock()
	r.requests = append(r.requests, q)
	n, script, block := len(r.requests), r.script, r.block
	r.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-req.Context().Done():
			return
		}
	}
	if script == nil {
		return
	}
	status, header := script(n, &q)
	for k, v := range header {
		w.Header()[k] = v
	}
	w.WriteHeader(status)
}

func (r *receiver) answer(script func(n int, r *request) (int, http.Header)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

func always(status int) func(int, *request) (int, http.Header) {
	return func(int, *request) (int, http.Header) { return status, nil }
}

func (r *receiver) got() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.requests...)
}

// ids lists the event ids of all requests that had this answer or, for 0, all.
func (r *receiver) ids() []string {
	var out []string
	for _, q := range r.got() {
		for _, e := range q.batch.Events {
			out = append(out, e["event_id"].(string))
		}
	}
	return out
}

const (
	secret = "a-secret-that-nobody-may-read"
	path   = "/token-4711"
)

// world is one node's webhooks with endpoints by host name.
type world struct {
	t     *testing.T
	log   *memLog
	dir   string
	hosts map[string]*receiver
	hooks *webhook.Hooks
	text  *safeBuffer // what was logged
	dials map[string]int
	mu    sync.Mutex
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t *testing.T, hosts ...string) *world {
	w := &world{t: t, log: newMemLog(), dir: t.TempDir(), hosts: map[string]*receiver{}, text: &safeBuffer{}, dials: map[string]int{}}
	for _, h := range hosts {
		w.hosts[h] = newReceiver(t)
	}
	w.begin()
	t.Cleanup(func() {
		w.hooks.Close()
		for _, s := range []string{secret, path} {
			if strings.Contains(w.text.String(), s) {
				t.Errorf("%q is in the log:\n%s", s, w.text)
			}
		}
	})
	return w
}

// begin starts the webhooks of the node.
func (w *world) begin() {
	w.t.Helper()
	h, err := webhook.New(webhook.Options{
		Node: "n1", Store: "ab12", Log: w.log, Dir: w.dir, Version: "1.2",
		Lookup: w.lookup, Logger: slog.New(slog.NewTextHandler(w.text, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h.SetDial(w.dial)
	w.hooks = h
}

// address is one for each host.
func (w *world) address(host string) netip.Addr {
	names := slices.Sorted(maps.Keys(w.hosts))
	return netip.AddrFrom4([4]byte{93, 184, 216, byte(1 + slices.Index(names, host))})
}

func (w *world) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if w.hosts[host] == nil {
		return nil, fmt.Errorf("no such host %s", host)
	}
	return []netip.Addr{w.address(host)}, nil
}

func (w *world) dial(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
	if err := check(addr.Addr()); err != nil {
		return nil, err
	}
	for host, r := range w.hosts {
		if w.address(host) != addr.Addr() {
			continue
		}
		w.mu.Lock()
		w.dials[host]++
		w.mu.Unlock()
		a, b := net.Pipe()
		select {
		case r.conns <- b:
			return a, nil
		case <-r.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("nobody listens on %s", addr)
}

// hook is a webhook to a host with the defaults that policy.New fills in.
func hook(host string) *policy.Webhook {
	return &policy.Webhook{
		URL: "http://" + host + path, AllowHTTP: true, Secret: policy.NewSecret(secret),
		MaxBatch: policy.DefaultMaxBatch, MaxWait: policy.Duration(policy.DefaultMaxWait), GiveUpAfter: policy.Duration(policy.DefaultGiveUpAfter),
	}
}

func (w *world) apply(hooks map[string]*policy.Webhook) {
	w.hooks.Apply(&policy.Set{Webhooks: hooks})
	synctest.Wait()
}

func (w *world) status(name string) webhook.Status {
	w.t.Helper()
	for _, s := range w.hooks.Status() {
		if s.Name == name {
			return s
		}
	}
	w.t.Fatalf("no status of %s", name)
	return webhook.Status{}
}

// crash goes on as a process that was killed at this moment and started again.
func (w *world) crash() {
	log, old := w.log.crash(), w.hooks
	dir := w.t.TempDir()
	files, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(w.dir, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	old.Close() // what it commits from now on is in nobody's log
	w.log, w.dir = log, dir
	w.begin()
}

// event is one of a tenant.
func event(kind message.EventType, tenant, stream string, n int) message.Event {
	return message.Event{
		Type: kind, Time: time.Now(), Node: "n1", Tenant: tenant, Stream: stream,
		Sender: "a@example.com", Recipient: fmt.Sprintf("r%d@example.net", n), Size: uint32(n),
	}
}

func events(n, from int) []message.Event {
	out := make([]message.Event, n)
	for i := range out {
		out[i] = event(message.EventDelivered, "acme", "bulk", from+i)
	}
	return out
}
