package suppress_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/node/suppress"
	"hikyaku/spool/suppression"
)

// cluster is a few nodes on loopback, with disks in memory and a network that
// tests break.
type cluster struct {
	t     testing.TB
	every time.Duration
	fs    func() *vfs.MemFS
	mu    struct {
		sync.Mutex
		now   time.Time
		nodes map[string]*node
		cut   map[[2]string]bool // requests from, to
	}
}

type node struct {
	c      *cluster
	name   string
	mem    vfs.FS
	dir    string
	s      *suppression.Store
	l      *suppress.List
	server *httptest.Server
	stop   context.CancelFunc
	done   chan struct{}
}

var epoch = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

func newCluster(t testing.TB, names ...string) *cluster {
	c := &cluster{t: t, every: 20 * time.Millisecond}
	c.mu.now, c.mu.nodes, c.mu.cut = epoch, map[string]*node{}, map[[2]string]bool{}
	for _, name := range names {
		c.start(name, vfs.NewCrashableMem())
	}
	t.Cleanup(func() {
		for _, n := range c.nodes() {
			n.kill()
		}
	})
	return c
}

func (c *cluster) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

func (c *cluster) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
}

func (c *cluster) nodes() (out []*node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.mu.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(x, y *node) int { return cmpString(x.name, y.name) })
	return out
}

func cmpString(x, y string) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func (c *cluster) node(name string) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.nodes[name]
}

// start makes a node, or another life of one.
func (c *cluster) start(name string, fs vfs.FS) *node {
	n := &node{c: c, name: name, mem: fs, dir: "suppression", done: make(chan struct{})}
	n.open(func(*suppress.Options) {})
	return n
}

func (n *node) open(with func(*suppress.Options)) {
	c := n.c
	var err error
	n.s, err = suppression.Open(suppression.Options{Dir: n.dir, FS: n.mem, Now: c.now, MemTableSize: 256 << 10, CacheSize: 1 << 20, SweepEvery: 10 * time.Millisecond})
	if err != nil {
		c.t.Fatalf("open %s: %v", n.name, err)
	}
	o := suppress.Options{
		Name: n.name, Store: n.s, Now: c.now, Every: c.every, ParcelBytes: 4 << 10, KeepLog: time.Minute,
		Members: func() []string {
			var names []string
			for _, n := range c.nodes() {
				names = append(names, n.name)
			}
			return names
		},
		Address: func(to string) (string, error) {
			if n := c.node(to); n != nil {
				return n.server.URL, nil
			}
			return "", fmt.Errorf("node %s is not registered", to)
		},
		Client: &http.Client{Transport: road{n}},
	}
	with(&o)
	if n.l, err = suppress.New(o); err != nil {
		c.t.Fatal(err)
	}
	n.server = httptest.NewServer(n.l.Handler())
	c.mu.Lock()
	c.mu.nodes[n.name] = n
	c.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { defer close(n.done); n.l.Run(ctx) }()
}

// kill ends a node; its disk stays as it is.
func (n *node) kill() {
	n.c.mu.Lock()
	if n.c.mu.nodes[n.name] == n {
		delete(n.c.mu.nodes, n.name)
	}
	n.c.mu.Unlock()
	n.stop()
	<-n.done
	n.server.Close()
	if err := n.s.Close(); err != nil {
		n.c.t.Error(err)
	}
}

// road carries a node's requests.
type road struct{ n *node }

func (r road) RoundTrip(req *http.Request) (*http.Response, error) {
	c := r.n.c
	for _, to := range c.nodes() {
		if to.server.URL == "http://"+req.URL.Host {
			c.mu.Lock()
			cut := c.mu.cut[[2]string{r.n.name, to.name}]
			c.mu.Unlock()
			if cut {
				return nil, errors.New("the network is down")
			}
			return to.server.Client().Transport.RoundTrip(req)
		}
	}
	return nil, errors.New("nobody lives there")
}

// part cuts nodes off each other: those of different groups.
func (c *cluster) part(groups ...[]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.mu.cut)
	for i, g := range groups {
		for j, h := range groups {
			for _, x := range g {
				for _, y := range h {
					if i != j {
						c.mu.cut[[2]string{x, y}] = true
					}
				}
			}
		}
	}
}

func entry(tenant, address string) suppression.Entry {
	return suppression.Entry{Tenant: tenant, Address: address, Kind: suppression.Manual, Reason: "asked for it", By: "ann"}
}

func (n *node) add(es ...suppression.Entry) suppression.Result {
	n.c.t.Helper()
	r, err := n.l.Add(es)
	if err != nil {
		n.c.t.Fatalf("%s: %v", n.name, err)
	}
	return r
}

func (n *node) remove(refs ...suppression.Ref) {
	n.c.t.Helper()
	if _, err := n.l.Remove(refs, "ann", ""); err != nil {
		n.c.t.Fatalf("%s: %v", n.name, err)
	}
}

// all is the whole list of a node.
func (n *node) all() (out []suppression.Entry) {
	n.c.t.Helper()
	for cursor := ""; ; {
		page, err := n.s.List(suppression.Filter{}, cursor, 1000)
		if err != nil {
			n.c.t.Fatalf("%s: %v", n.name, err)
		}
		out = append(out, page.Entries...)
		if cursor = page.Next; cursor == "" {
			return out
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// converged waits until all nodes have the same list, of so many entries, and
// the same counts.
func (c *cluster) converged(want int) []suppression.Entry {
	c.t.Helper()
	var first []suppression.Entry
	var last string
	ok := func() bool {
		first = nil
		for i, n := range c.nodes() {
			all := n.all()
			if i == 0 {
				first = all
			}
			if d := cmp.Diff(first, all); d != "" || len(all) != want || n.s.Total().Entries != int64(want) {
				last = fmt.Sprintf("%s has %d of %d entries, and counts %d; unlike the first: %.1000s", n.name, len(all), want, n.s.Total().Entries, d)
				return false
			}
		}
		return true
	}
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("not within 30 s: %s", last)
		}
	}
	return first
}

func TestEntriesGetEverywhere(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for i, n := range c.nodes() {
		for j := range 20 {
			n.add(entry("shop", fmt.Sprintf("u%d.%d@x.example", i, j)), entry("", fmt.Sprintf("g%d@%s.example", j, n.name)))
		}
	}
	c.converged(120)
	c.node("b").remove(suppression.Ref{Tenant: "shop", Address: "u0.3@x.example"}, suppression.Ref{Tenant: "", Address: "g1@c.example"})
	c.node("c").add(entry("shop", `"A..B"@Docomo.ne.jp`))
	c.converged(119)
	for _, n := range c.nodes() {
		if e, ok := n.l.Suppressed("shop", "a..b@docomo.ne.jp", "news"); !ok || e.By != "ann" {
			t.Errorf("%s: %+v %v", n.name, e, ok)
		}
		if _, ok := n.l.Suppressed("shop", "u0.3@x.example", ""); ok {
			t.Errorf("%s: removed, and still suppressed", n.name)
		}
		if _, ok := n.l.Suppressed("bank", "g2@a.example", ""); !ok {
			t.Errorf("%s: the global list does not count for a tenant", n.name)
		}
	}
}

func TestBothSidesOfAPartition(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	a, b := c.node("a"), c.node("b")
	a.add(entry("shop", "both@x.example"), entry("shop", "gone@x.example"), entry("shop", "back@x.example"))
	c.converged(3)
	c.part([]string{"a"}, []string{"b", "c"})
	for j := range 30 {
		a.add(entry("shop", fmt.Sprintf("a%d@x.example", j)))
		b.add(entry("shop", fmt.Sprintf("b%d@x.example", j)))
	}
	a.remove(suppression.Ref{Tenant: "shop", Address: "gone@x.example"})
	a.remove(suppression.Ref{Tenant: "shop", Address: "back@x.example"})
	c.advance(time.Second)
	back := entry("shop", "back@x.example")
	back.Reason = "complained since"
	b.add(back)
	changed := entry("shop", "both@x.example")
	changed.Reason = "the later word"
	a.add(changed)
	c.advance(time.Second)
	b.add(entry("shop", "x@x.example"))
	c.part()
	got := c.converged(63)
	for _, e := range got {
		if e.Address == "gone@x.example" || e.Address == "back@x.example" && e.Reason != back.Reason || e.Address == "both@x.example" && e.Reason != changed.Reason {
			t.Errorf("%+v", e)
		}
	}
}

// TestADeadNodesOperations: what a dead node had told anybody reaches all.
func TestADeadNodesOperations(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.converged(0)
	c.part([]string{"a", "b"}, []string{"c"})
	c.node("a").add(entry("shop", "u@x.example"))
	eventually(t, "b has it", func() bool { _, ok := c.node("b").l.Suppressed("shop", "u@x.example", ""); return ok })
	c.node("a").kill()
	c.part()
	c.converged(1)
}

// TestAnOlderDisk: a node dies and comes back with a disk of before. Its former
// life's operations come back from the others; nobody takes those of its new life
// for old ones.
func TestAnOlderDisk(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	a := c.node("a")
	for j := range 10 {
		a.add(entry("shop", fmt.Sprintf("first%d@x.example", j)))
	}
	c.converged(10)
	old := a.mem.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	for j := range 10 {
		a.add(entry("shop", fmt.Sprintf("second%d@x.example", j)))
	}
	a.remove(suppression.Ref{Tenant: "shop", Address: "first3@x.example"})
	c.converged(19)
	a.kill()
	c.node("b").add(entry("shop", "meanwhile@x.example"))

	// Back, and alone at first: it writes as many operations as it has lost.
	c.mu.Lock()
	for _, x := range []string{"b", "c"} {
		c.mu.cut[[2]string{"a", x}], c.mu.cut[[2]string{x, "a"}] = true, true
	}
	c.mu.Unlock()
	a = c.start("a", old)
	if n := len(a.all()); n != 10 {
		t.Fatalf("%d entries on the older disk", n)
	}
	c.advance(time.Minute)
	for j := range 11 {
		a.add(entry("shop", fmt.Sprintf("third%d@x.example", j)))
	}
	c.part()
	for _, e := range c.converged(31) {
		if e.Address == "first3@x.example" {
			t.Error("an entry that was removed has come back")
		}
	}
}

// TestANewNodeReadsTheWholeList: its log is cut, so the others cannot tell it one
// operation after the other.
func TestANewNodeReadsTheWholeList(t *testing.T) {
	c := newCluster(t, "a", "b")
	a := c.node("a")
	var es []suppression.Entry
	for j := range 3000 {
		es = append(es, entry("shop", fmt.Sprintf("u%04d@x.example", j)))
	}
	a.add(es...)
	a.remove(suppression.Ref{Tenant: "shop", Address: "u0007@x.example"})
	c.converged(2999)
	c.advance(2 * time.Minute)
	eventually(t, "the logs are cut", func() bool { return a.s.Metrics().Log == 0 && c.node("b").s.Metrics().Log == 0 })
	n := c.start("new", vfs.NewCrashableMem())
	c.converged(2999)
	if m := n.l.Metrics(); m.Snapshots == 0 {
		t.Errorf("it has read no whole list: %+v", m)
	}
	a.add(entry("shop", "later@x.example"))
	n.add(entry("shop", "mine@x.example"))
	c.converged(3001)
	if m := n.l.Metrics(); m.Snapshots != 1 || m.Parcels == 0 {
		t.Errorf("it does not follow: %+v", m)
	}
}

// TestLongAway: a node was away while an entry was removed and the tombstone's
// time went by. Nobody tells of the removal any more, and yet the entry does not
// come back.
func TestLongAway(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	a := c.node("a")
	a.add(entry("shop", "gone@x.example"), entry("shop", "stays@x.example"))
	c.converged(2)
	away := c.node("c")
	disk := away.mem
	away.kill()
	a.remove(suppression.Ref{Tenant: "shop", Address: "gone@x.example"})
	c.converged(1)
	c.advance(suppression.TombstoneFor + 2*time.Hour)
	for _, n := range c.nodes() {
		eventually(t, n.name+" has forgotten the removal", func() bool { m := n.s.Metrics(); return m.Swept == 1 && m.Log == 0 })
	}
	back := c.start("c", disk)
	c.converged(1)
	if d := back.s.Metrics().Dropped; d != 1 {
		t.Errorf("%d dropped", d)
	}
	back.add(entry("shop", "new@x.example"))
	c.converged(2)
}

func TestSecondSightOnAnotherNode(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.node("a"), c.node("b")
	e := entry("shop", "u@x.example")
	if _, err := a.s.Seen(e); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b knows of the sighting", func() bool { return b.s.Total().Sightings == 1 })
	c.advance(24 * time.Hour)
	if got, err := b.s.Seen(e); !got || err != nil {
		t.Error(got, err)
	}
	c.converged(1)
	// Two that do not know of each other, on two days, meet.
	c.part([]string{"a"}, []string{"b"})
	e.Address = "v@x.example"
	if _, err := a.s.Seen(e); err != nil {
		t.Fatal(err)
	}
	c.advance(24 * time.Hour)
	if _, err := b.s.Seen(e); err != nil {
		t.Fatal(err)
	}
	c.part()
	c.converged(2)
}
