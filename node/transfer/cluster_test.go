package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node/transfer"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

var epoch = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

// cluster is a few nodes with spools in memory and a network between them that
// tests break.
type cluster struct {
	t     testing.TB
	nodes map[string]*node
	names []string
	net   network
	n     uint64
	subs  map[message.ID]*spool.Submission
	clock struct {
		sync.Mutex
		now time.Time
	}
	opts func(*transfer.Options)
}

func newCluster(t testing.TB, names ...string) *cluster {
	c := &cluster{t: t, nodes: map[string]*node{}, names: names, subs: map[message.ID]*spool.Submission{}, opts: func(*transfer.Options) {}}
	c.clock.now = epoch
	for _, name := range names {
		n := &node{c: c, name: name, mem: vfs.NewCrashableMem()}
		c.nodes[name] = n
		n.open(n.mem)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.close()
		}
	})
	return c
}

func (c *cluster) now() time.Time {
	c.clock.Lock()
	defer c.clock.Unlock()
	return c.clock.now
}

func (c *cluster) advance(d time.Duration) {
	c.clock.Lock()
	defer c.clock.Unlock()
	c.clock.now = c.clock.now.Add(d)
}

// node is one of them. It is its own transfer.Host.
type node struct {
	c    *cluster
	name string
	mem  *vfs.MemFS
	fs   vfs.FS
	s    *spool.Store
	t    *transfer.Transfer
	life int // how often it was opened; requests of earlier lives go nowhere
	disk *dyingFS
	mu   struct {
		sync.Mutex
		busy   error
		refuse error
		orders []transfer.Order
		left   int
		back   int
		unfit  []*message.Delivery
	}
}

func (n *node) open(fs vfs.FS) {
	n.fs = fs
	n.life++
	life := n.life
	s, err := spool.Open(spool.Options{Dir: "spool", FS: fs, Now: n.c.now, MemTableSize: 256 << 10, CacheSize: 1 << 20, Exit: func(int) {},
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }})
	if err != nil {
		n.c.t.Fatalf("open %s: %v", n.name, err)
	}
	n.s = s
	o := transfer.Options{Name: n.name, Spool: s, Host: n, Now: n.c.now, Retry: time.Second,
		Address: func(node string) (string, error) { return "http://" + node, nil },
		Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if n.life != life {
				return nil, errors.New("the process is dead")
			}
			return n.c.net.carry(n, r)
		})}}
	n.c.opts(&o)
	if n.t, err = transfer.New(o); err != nil {
		n.c.t.Fatal(err)
	}
}

func (n *node) close() {
	if n.s == nil {
		return
	}
	if err := n.s.Close(); err != nil {
		n.c.t.Error(err)
	}
	n.s = nil
}

// crash ends the process as a power failure does, and starts it again.
func (n *node) crash(unsynced int, at *vfs.MemFS) {
	if at == nil {
		at = n.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(n.c.n, 3))})
	}
	old := n.s
	n.mem = at
	n.open(at)
	if err := old.Close(); err != nil {
		n.c.t.Error(err)
	}
}

func (n *node) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.busy
}

func (n *node) Arriving(p *spool.Parcel) ([]byte, func(error), error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(p.Holds) != 1 || p.Holds[0].Carrier != "c" {
		n.c.t.Errorf("the parcel names the holds %+v", p.Holds)
	}
	return fmt.Appendf(nil, "received %s %d\n", p.From.Name, p.Deliveries()), func(error) {}, n.mu.refuse
}

func (n *node) Holding([]*message.Delivery) []message.Scope {
	return []message.Scope{{Tenant: "acme", Carrier: "c"}}
}

func (n *node) Leaving(to spool.Peer, ds []*message.Delivery) []byte {
	return fmt.Appendf(nil, "transferred %s %d\n", to.Name, len(ds))
}

func (n *node) Left(_ spool.Peer, ds []*message.Delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.left += len(ds)
}

func (n *node) Returned(ds []*message.Delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.back += len(ds)
}

func (n *node) Unfit(ds []*message.Delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.unfit = append(n.mu.unfit, ds...)
}

func (n *node) Order(o *transfer.Order) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.orders = append(n.mu.orders, *o)
	return nil
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// network carries requests. Tests set fault, which sees each of them.
type network struct {
	fault func(from *node, to string, path string, do func() *http.Response) (*http.Response, error)
}

func (nw *network) carry(from *node, r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	to, path := r.URL.Host, r.URL.Path
	do := func() *http.Response { return from.c.deliver(to, path, body) }
	if nw.fault == nil {
		if from.gone() || from.c.nodes[to].gone() {
			return nil, errDead
		}
		r := do()
		if from.gone() || from.c.nodes[to].gone() {
			return nil, errDead
		}
		return r, nil
	}
	return nw.fault(from, to, path, do)
}

// deliver gives a request to the node that has the name now.
func (c *cluster) deliver(to, path string, body []byte) *http.Response {
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	w := httptest.NewRecorder()
	c.nodes[to].t.Handler().ServeHTTP(w, req)
	return w.Result()
}

// mail puts a message with a delivery for each destination into a node's spool.
func (c *cluster) mail(on string, raw string, dests ...string) *spool.Submission {
	c.n++
	id := message.ID{}
	ms := uint64(epoch.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	for i := range 8 {
		id[8+i] = byte(c.n >> (56 - 8*i))
	}
	m := &message.Message{ID: id, Sender: "from@acme.example", Tenant: "acme", Stream: "news", Pool: "main", Job: "j1", Priority: message.Normal,
		Tags: []string{"a"}, Metadata: []byte(`{"k":1}`), Accepted: epoch, Via: "smtp", Deliveries: uint16(len(dests)),
		Raw: []byte(fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", c.n, raw))}
	sub := &spool.Submission{Message: m, Events: []byte("accepted\n")}
	for i, dest := range dests {
		sub.Deliveries = append(sub.Deliveries, &message.Delivery{ID: message.DeliveryID{Message: id, Index: uint16(i)},
			Queue: message.QueueKey{Destination: dest, Priority: message.Normal, Tenant: "acme", Stream: "news", Pool: "main", Job: "j1"},
			Due:   epoch.Add(time.Duration(c.n) * time.Millisecond), Accepted: epoch, Expires: epoch.Add(1000 * time.Hour), Size: uint32(len(m.Raw)),
			Recipients: []message.Recipient{{Address: fmt.Sprintf("u%d@%s", c.n, dest), Vars: []byte(`{"x":1}`)}}})
	}
	if err := c.nodes[on].s.Append(context.Background(), sub); err != nil {
		c.t.Fatal(err)
	}
	c.subs[id] = sub
	return sub
}

// active are the deliveries that a node could attempt now.
func (n *node) active() (all []*message.Delivery) {
	err := n.s.Queues(context.Background(), func(q message.QueueKey, _ time.Time) error {
		ds, _, err := n.s.Page(q, spool.Cursor{}, epoch.Add(10000*time.Hour), 1<<20)
		all = append(all, ds...)
		return err
	})
	if err != nil {
		n.c.t.Fatalf("%s: %v", n.name, err)
	}
	return all
}

// settle lets everybody learn who has what.
func (c *cluster) settle() {
	c.t.Helper()
	for range 20 {
		open := 0
		for _, name := range c.names {
			n := c.nodes[name]
			c.advance(time.Minute)
			n.t.Resolve(context.Background())
			open += len(n.t.Open())
		}
		if open == 0 {
			return
		}
	}
	for _, name := range c.names {
		for _, o := range c.nodes[name].t.Open() {
			c.t.Errorf("%s: still open: %+v", name, o)
		}
	}
}

// whole checks that every delivery that is not in ended is active on exactly
// one node, with its content, and that the spools and their counters agree.
func (c *cluster) whole(ended map[message.DeliveryID]int) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	at := map[message.DeliveryID][]string{}
	accepted, queued := int64(0), 0
	for _, name := range c.names {
		n := c.nodes[name]
		for _, d := range n.active() {
			queued++
			at[d.ID] = append(at[d.ID], name)
			sub := c.subs[d.ID.Message]
			m, err := n.s.Message(d.ID.Message)
			if err != nil || !bytes.Equal(m.Raw, sub.Message.Raw) || !sameDelivery(d, sub.Deliveries[d.ID.Index]) {
				fault("%s on %s is not what it was: %v", d.ID, name, err)
			}
		}
		r, err := n.s.Verify(nil)
		if err != nil || !r.OK() || r.Transfers != 0 {
			fault("verify %s: %v %v, %d open", name, err, r.Problems, r.Transfers)
		}
		if j, err := n.s.Job("acme", "j1"); err == nil {
			accepted += j.Accepted
			if j.Queued() != r.Recipients {
				fault("job on %s: %+v, but %d queued", name, j, r.Recipients)
			}
		} else if !errors.Is(err, spool.ErrNotFound) {
			fault("job on %s: %v", name, err)
		}
	}
	total := int64(0)
	for _, sub := range c.subs {
		for _, d := range sub.Deliveries {
			total++
			want := 1
			if ended[d.ID] > 0 {
				want = 0
			}
			if len(at[d.ID]) != want || ended[d.ID] > 1 {
				fault("%s is active on %v and has ended %d times", d.ID, at[d.ID], ended[d.ID])
			}
		}
	}
	if accepted != total {
		fault("the jobs have %d recipients, %d were accepted", accepted, total)
	}
	return faults
}

func sameDelivery(a, b *message.Delivery) bool {
	return a.Queue == b.Queue && a.Due.Equal(b.Due) && a.Expires.Equal(b.Expires) && a.Size == b.Size && len(a.Recipients) == len(b.Recipients) &&
		a.Recipients[0].Address == b.Recipients[0].Address && bytes.Equal(a.Recipients[0].Vars, b.Recipients[0].Vars)
}

func (c *cluster) mustBeWhole(ended map[message.DeliveryID]int) {
	c.t.Helper()
	if f := c.whole(ended); len(f) > 0 {
		c.t.Errorf("%s", strings.Join(f, "\n"))
	}
}
