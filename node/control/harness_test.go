package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"hikyaku/bench/candidate"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store/embedded"
	"hikyaku/node/control"
)

const (
	testTTL        = 4 * time.Second
	testMargin     = time.Second
	testQuarantine = 2 * time.Second
	patience       = 30 * time.Second
)

// etcdAt is one etcd for all tests of the package; each has a prefix of its own.
var etcdAt string

func TestMain(m *testing.M) {
	code, err := withEtcd(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withEtcd(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "hikyaku-control-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if etcdAt, err = candidate.FreeAddress(); err != nil {
		return 0, err
	}
	server, err := embedded.Start(context.Background(), embedded.Options{Dir: filepath.Join(dir, "etcd"), Listen: "http://" + etcdAt, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	defer func() { _ = server.Close() }()
	return m.Run(), nil
}

func dial(t testing.TB, at string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + at}, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// world is one cluster with a leader that does as the test says.
type world struct {
	t    testing.TB
	etcd *clientv3.Client // reaches etcd whatever the weather
	keys keyspace.Keys
	key  keyspace.Key
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, etcd: dial(t, etcdAt)}
	w.key, _ = keyspace.NewKey()
	var err error
	if w.keys, err = keyspace.New("/" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) + "/"); err != nil {
		t.Fatal(err)
	}
	cl, err := keyspace.NewCluster(w.key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.put(w.keys.Cluster(), cl)
	return w
}

func (w *world) put(key string, v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.etcd.Put(w.t.Context(), key, string(b)); err != nil {
		w.t.Fatal(err)
	}
}

// registration is what etcd has of a node; nil if nothing.
func (w *world) registration(name string) *keyspace.Registration {
	w.t.Helper()
	got, err := w.etcd.Get(w.t.Context(), w.keys.Node(name))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(got.Kvs) == 0 {
		return nil
	}
	var r keyspace.Registration
	if err := json.Unmarshal(got.Kvs[0].Value, &r); err != nil {
		w.t.Fatal(err)
	}
	return &r
}

func (w *world) assign(source, node string, lease, epoch int64, state string) {
	w.t.Helper()
	w.put(w.keys.Source(source), keyspace.Assignment{Source: source, Epoch: epoch, Node: node, Lease: lease, Address: addresses[source], State: state, Since: time.Now()})
}

// leader is a leader's HTTP side: it keeps the reports and answers as told.
type leader struct {
	w    *world
	http *httptest.Server
	mu   struct {
		sync.Mutex
		reports []exchange.Report
		answer  func(*exchange.Report) (*exchange.Answer, int)
		term    int64
	}
}

// newLeader takes office: the record's create revision is its term.
func newLeader(w *world, name string) *leader {
	w.t.Helper()
	l := &leader{w: w}
	l.http = httptest.NewServer(http.HandlerFunc(l.serve))
	w.t.Cleanup(l.http.Close)
	l.office(name)
	return l
}

func (l *leader) office(name string) {
	w := l.w
	w.t.Helper()
	if _, err := w.etcd.Delete(w.t.Context(), w.keys.Leader()); err != nil {
		w.t.Fatal(err)
	}
	w.put(w.keys.Leader(), keyspace.Leader{Name: name, Address: strings.TrimPrefix(l.http.URL, "http://"), Since: time.Now()})
	got, err := w.etcd.Get(w.t.Context(), w.keys.Leader())
	if err != nil {
		w.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.term = got.Kvs[0].CreateRevision
	l.mu.answer = func(*exchange.Report) (*exchange.Answer, int) { return &exchange.Answer{}, http.StatusOK }
}

func (l *leader) term() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.term
}

// answers says what is answered from now on; Term, Serial and TTL are filled in
// where they are zero.
func (l *leader) answers(fn func(*exchange.Report) (*exchange.Answer, int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.answer = fn
}

func (l *leader) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var report exchange.Report
	if err == nil {
		err = exchange.DecodeReport(body, &report)
	}
	if err != nil || r.URL.Path != exchange.Path || r.Header.Get("Authorization") != "Bearer "+l.w.key.PeerToken() {
		http.Error(rw, fmt.Sprintf("bad report: %v", err), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	l.mu.reports = append(l.mu.reports, report)
	a, status := l.mu.answer(&report)
	term := l.mu.term
	l.mu.Unlock()
	if status != http.StatusOK {
		http.Error(rw, "no", status)
		return
	}
	if a.Term == 0 {
		a.Term = term
	}
	if a.Serial == 0 {
		a.Serial = report.Serial
	}
	if a.TTL == 0 {
		a.TTL = exchange.GrantTTL
	}
	b, err := exchange.AppendAnswer(nil, a)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = rw.Write(b)
}

// last is the newest report.
func (l *leader) last() (exchange.Report, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.mu.reports); n > 0 {
		return l.mu.reports[n-1], n
	}
	return exchange.Report{}, 0
}

// reported waits for a report that pleases.
func (l *leader) reported(what string, ok func(*exchange.Report) bool) exchange.Report {
	l.w.t.Helper()
	_, from := l.last()
	var found exchange.Report
	until(l.w.t, what, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for ; from < len(l.mu.reports); from++ {
			if ok(&l.mu.reports[from]) {
				found = l.mu.reports[from]
				return true
			}
		}
		return false
	})
	return found
}

// fakeNode is what Control talks to.
type fakeNode struct {
	mu struct {
		sync.Mutex
		held   map[string]*control.Hold
		grants []control.Grants
		drains []bool
		homes  []exchange.Home
		unsent int
		demand []exchange.Demand // to be reported
	}
}

func (n *fakeNode) FillReport(r *exchange.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.Queued, r.Demands = 7, append([]exchange.Demand(nil), n.mu.demand...)
}

func (n *fakeNode) Unsent(*exchange.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.unsent++
}

func (n *fakeNode) UseSources(held map[string]*control.Hold) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.held = held
}

func (n *fakeNode) UseGrants(g control.Grants) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.grants = append(n.mu.grants, g)
}

func (n *fakeNode) UseHomes(h []exchange.Home) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.homes = h
}

func (n *fakeNode) Drain(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.drains = append(n.mu.drains, on)
}

func (n *fakeNode) hold(source string) *control.Hold {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.held[source]
}

// told is how many homes it was told of last, and how many reports it got back.
func (n *fakeNode) told() (homes, unsent int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.mu.homes), n.mu.unsent
}

// grants is what is in force.
func (n *fakeNode) grants() control.Grants {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.mu.grants) == 0 {
		return control.Grants{Floor: -1}
	}
	return n.mu.grants[len(n.mu.grants)-1]
}

// member is a Control that runs.
type member struct {
	*control.Control
	node *fakeNode
	w    *world
	name string
	stop func()
}

var addresses = map[string]string{"s1": "127.0.0.11", "s2": "127.0.0.12", "pinned": "127.0.0.13"}

// sources is a policy: two movable sources, one pinned to node "a".
func sources(t testing.TB) *policy.Set {
	t.Helper()
	set, problems := policy.New([]policy.Resource{
		{Kind: policy.KindSource, Name: "s1", Spec: &policy.Source{Address: addresses["s1"], EHLO: "s1.example.net"}},
		{Kind: policy.KindSource, Name: "s2", Spec: &policy.Source{Address: addresses["s2"], EHLO: "s2.example.net"}},
		{Kind: policy.KindSource, Name: "pinned", Spec: &policy.Source{Address: addresses["pinned"], EHLO: "p.example.net", Node: "a"}},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func (w *world) options(name, id string) control.Options {
	return control.Options{
		Client: w.etcd, Keys: w.keys, Key: w.key, Name: name, NodeID: id, DataDir: w.t.TempDir(), Version: "test", Peer: "127.0.0.1:1",
		TTL: testTTL, Margin: testMargin, Quarantine: testQuarantine, Token: w.key.PeerToken(), Node: &fakeNode{},
		OnMachine: func(netip.Addr) error { return nil },
	}
}

// start runs a Control; its end is the test's.
func (w *world) start(o control.Options) *member {
	w.t.Helper()
	c, err := control.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	c.UsePolicy(sources(w.t))
	if err := c.Join(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	m := &member{Control: c, node: o.Node.(*fakeNode), w: w, name: o.Name}
	m.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			w.t.Error("Run does not end")
		}
		_ = c.Close()
	})
	w.t.Cleanup(m.stop)
	return m
}

// given waits until the source is held, after assigning it.
func (m *member) given(source string, epoch int64) *control.Hold {
	m.w.t.Helper()
	m.w.assign(source, m.name, m.Status().Lease, epoch, keyspace.Held)
	var h *control.Hold
	until(m.w.t, source+" is held", func() bool {
		h = m.node.hold(source)
		return h != nil && h.Epoch == epoch
	})
	return h
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}
