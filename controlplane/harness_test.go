package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"hikyaku/controlplane"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
)

// etcd is one member for all tests of the package; each takes a prefix of its own.
var etcd struct {
	endpoint string
	prefixes int
	sync.Mutex
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hikyaku-control-")
	if err != nil {
		panic(err)
	}
	s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Listen: "http://127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	etcd.endpoint = s.Endpoints()[0]
	code := m.Run()
	if err := s.Close(); err != nil {
		panic(err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// fast are spans with which a test of every fault takes a second or two. etcd
// has no lease below a second.
var fast = controlplane.Timing{
	LeaderTTL: time.Second, LeaderMargin: 200 * time.Millisecond, NodeTTL: time.Second, Quarantine: 300 * time.Millisecond,
	Decide: 5 * time.Millisecond, Tick: 50 * time.Millisecond, Settle: 10 * time.Millisecond, MinHold: time.Minute,
}

// cluster is an etcd prefix and a policy.
type cluster struct {
	t      testing.TB
	client *clientv3.Client
	keys   keyspace.Keys
	store  store.Store
}

func newCluster(t testing.TB, yaml string) *cluster {
	t.Helper()
	etcd.Lock()
	etcd.prefixes++
	keys, err := keyspace.New(fmt.Sprintf("/test-%d/", etcd.prefixes))
	etcd.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenFile(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, client: dial(t, nil), keys: keys, store: s}
	if yaml != "" {
		c.apply(yaml)
	}
	return c
}

// dial is a client; through a wire if it is not nil.
func dial(t testing.TB, w *wire) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: []string{etcd.endpoint}, Logger: zap.NewNop(), DialTimeout: 2 * time.Second}
	if w != nil {
		cfg.DialOptions = []grpc.DialOption{grpc.WithContextDialer(w.dial)}
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() }) // an error is that of a context that has ended
	return client
}

// apply puts resources in force.
func (c *cluster) apply(yaml string) {
	c.t.Helper()
	file, err := manifest.Parse("test.yaml", []byte(yaml))
	if err != nil {
		c.t.Fatal(err)
	}
	b := store.Batch{Author: "test"}
	for _, r := range file.Resources {
		b.Changes = append(b.Changes, store.Change{Kind: r.Kind, Name: r.Name, Spec: r.Spec})
	}
	if _, err := c.store.Apply(c.t.Context(), b); err != nil {
		c.t.Fatal(err)
	}
}

// wire is a connection that can be held up: what is sent meanwhile arrives
// later. It is how a process that is stopped, or cut off, looks to others.
type wire struct {
	mu    sync.Mutex
	cond  *sync.Cond
	held  bool
	conns map[net.Conn]bool
}

func newWire() *wire {
	w := &wire{conns: map[net.Conn]bool{}}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *wire) hold(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = on
	w.cond.Broadcast()
}

func (w *wire) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.held {
		w.cond.Wait()
	}
}

func (w *wire) dial(ctx context.Context, addr string) (net.Conn, error) {
	w.wait()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[conn] = true
	return &wireConn{conn, w}, nil
}

// cut closes all connections; new ones wait while the wire is held.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		conn.Close()
	}
	clear(w.conns)
}

type wireConn struct {
	net.Conn
	w *wire
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.wait()
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.w.wait()
	return c.Conn.Write(b)
}

// process is a control plane that runs.
type process struct {
	*controlplane.Control
	name, address string
	wire          *wire
	stop          func() // orderly
}

// start starts a control plane with a listener and a client of its own.
func (c *cluster) start(name string, change ...func(*controlplane.Options)) *process {
	c.t.Helper()
	p := &process{name: name, wire: newWire()}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	c.t.Cleanup(server.Close)
	p.address = strings.TrimPrefix(server.URL, "http://")
	o := controlplane.Options{
		Client: dial(c.t, p.wire), Keys: c.keys, Name: name, Address: p.address, Store: c.store, Timing: fast,
		Logger: slog.New(slog.NewTextHandler(&testLog{t: c.t}, nil)),
	}
	for _, fn := range change {
		fn(&o)
	}
	control, err := controlplane.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	p.Control, handler = control, control.Handler()
	done := make(chan error, 1)
	go func() { done <- control.Run(context.Background()) }()
	p.stop = sync.OnceFunc(func() {
		p.wire.hold(false)
		if err := control.Close(); err != nil {
			c.t.Error(err)
		}
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(p.stop)
	return p
}

type testLog struct {
	t testing.TB
}

func (l *testLog) Write(b []byte) (int, error) {
	if testing.Verbose() {
		l.t.Logf("%s %s", time.Now().Format("05.000"), bytes.TrimSpace(b))
	}
	return len(b), nil
}

// lead starts a control plane and waits until it leads and has read everything.
func (c *cluster) lead(name string, change ...func(*controlplane.Options)) *process {
	c.t.Helper()
	p := c.start(name, change...)
	c.eventually("leads", func() bool {
		l, err := p.Leader(c.t.Context())
		return err == nil && l.Name == name
	})
	return p
}

// eventually waits for a condition, with a deadline.
func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("not in time: %s", what)
		}
	}
}

// get reads a record.
func get[T any](c *cluster, key string) (v T, mod int64) {
	c.t.Helper()
	r, err := c.client.Get(c.t.Context(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return v, 0
	}
	if err := json.Unmarshal(r.Kvs[0].Value, &v); err != nil {
		c.t.Fatal(err)
	}
	return v, r.Kvs[0].ModRevision
}

func (c *cluster) assignment(source string) keyspace.Assignment {
	a, _ := get[keyspace.Assignment](c, c.keys.Source(source))
	return a
}

// node is a fake of one: it keeps a lease and makes exchanges when told to. It
// does what it is told about sources and floors at once.
type node struct {
	c      *cluster
	name   string
	id     string
	lease  clientv3.LeaseID
	cancel context.CancelFunc
	done   chan struct{}

	serial  uint64
	floor   int64
	answer  exchange.Answer // in force
	fill    func(*exchange.Report)
	faults  map[string]string
	refused map[string]bool // sources it does not let go
}

// join registers a node under a new lease and keeps that.
func (c *cluster) join(name string, change ...func(*keyspace.Registration)) *node {
	c.t.Helper()
	n := &node{c: c, name: name, id: "id-" + name, done: make(chan struct{}), faults: map[string]string{}, refused: map[string]bool{}}
	granted, err := c.client.Grant(c.t.Context(), 1)
	if err != nil {
		c.t.Fatal(err)
	}
	n.lease = granted.ID
	r := keyspace.Registration{Name: name, NodeID: n.id, Lease: int64(n.lease), TTL: time.Second, Started: time.Now(), Version: "test", Protocol: [2]int{keyspace.MinProtocol, keyspace.Protocol}, Peer: "127.0.0.1:1"}
	for _, fn := range change {
		fn(&r)
	}
	n.id = r.NodeID
	b, err := json.Marshal(r)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.client.Put(c.t.Context(), c.keys.Node(name), string(b), clientv3.WithLease(n.lease)); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_, _ = c.client.KeepAliveOnce(ctx, n.lease) // the lease may have been taken away, which tests do
			}
		}
	}()
	c.t.Cleanup(n.crash)
	return n
}

// crash ends the keeping of the lease; etcd notices after its TTL.
func (n *node) crash() {
	n.cancel()
	<-n.done
}

// report is what the node says now.
func (n *node) report() *exchange.Report {
	n.serial++
	r := &exchange.Report{Node: n.name, Lease: int64(n.lease), Serial: n.serial, Term: n.answer.Term, Applied: n.answer.Serial, Floor: n.floor, SpoolFreePart: 1, Draining: n.answer.Drain}
	list, err := n.c.client.Get(n.c.t.Context(), n.c.keys.Source(""), clientv3.WithPrefix())
	if err != nil {
		n.c.t.Fatal(err)
	}
	for _, kv := range list.Kvs {
		var a keyspace.Assignment
		if err := json.Unmarshal(kv.Value, &a); err != nil {
			n.c.t.Fatal(err)
		}
		if a.Node == n.name && a.Lease == int64(n.lease) && (a.State == keyspace.Held || a.State == keyspace.Releasing) {
			r.Sources = append(r.Sources, exchange.HeldSource{Source: a.Source, Epoch: a.Epoch, Released: a.State == keyspace.Releasing && !n.refused[a.Source], Fault: n.faults[a.Source]})
		}
	}
	if n.fill != nil {
		n.fill(r)
	}
	return r
}

// exchange makes one with the process and gives the status.
func (n *node) exchange(p *process) int {
	n.c.t.Helper()
	status, a := n.send(p, n.report())
	if status == http.StatusOK {
		n.answer = *a
		n.floor = a.Floor
	}
	return status
}

func (n *node) send(p *process, r *exchange.Report) (int, *exchange.Answer) {
	n.c.t.Helper()
	body, err := exchange.AppendReport(nil, r)
	if err != nil {
		n.c.t.Fatal(err)
	}
	return n.post(p, body)
}

func (n *node) post(p *process, body []byte) (int, *exchange.Answer) {
	n.c.t.Helper()
	res, err := http.Post("http://"+p.address+exchange.Path, exchange.ContentType, bytes.NewReader(body))
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		n.c.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, nil
	}
	var a exchange.Answer
	if err := exchange.DecodeAnswer(b, &a); err != nil {
		n.c.t.Fatal(err)
	}
	return res.StatusCode, &a
}

// joined waits until the node's exchanges are answered.
func (n *node) joined(p *process) *node {
	n.c.t.Helper()
	n.c.eventually(n.name+" is taken in", func() bool { return n.exchange(p) == http.StatusOK })
	return n
}
