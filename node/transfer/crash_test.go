package transfer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node/transfer"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// dyingFS is a disk whose process ends at one of its writes: image is what a
// restart finds. The process goes on as a shadow, since Pebble panics when some
// of its writes fail; but nothing it writes counts, and nobody hears it
// (node.gone).
type dyingFS struct {
	vfs.FS
	mem      *vfs.MemFS
	unsynced int
	mu       struct {
		sync.Mutex
		ops, dieAt int // 0: not
		op         string
		image      *vfs.MemFS
	}
}

var errDead = errors.New("the process is dead")

// step is called before each operation that changes something.
func (d *dyingFS) step(op string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.image != nil {
		return
	}
	if d.mu.ops++; d.mu.ops == d.mu.dieAt {
		d.mu.op = op
		d.mu.image = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: d.unsynced, RNG: rand.New(rand.NewPCG(uint64(d.mu.dieAt), 5))})
	}
}

// arm lets the process die at the nth operation from now.
func (d *dyingFS) arm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.ops, d.mu.dieAt = 0, n
}

func (d *dyingFS) dead() (image *vfs.MemFS, op string, ops int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.image, d.mu.op, d.mu.ops
}

func (d *dyingFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &dyingFile{f, d, name}, nil
}

func (d *dyingFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	d.step("create " + name)
	f, err := d.FS.Create(name, cat)
	return d.wrap(name, f, err)
}

func (d *dyingFS) ReuseForWrite(old, name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	d.step("reuse " + name)
	f, err := d.FS.ReuseForWrite(old, name, cat)
	return d.wrap(name, f, err)
}

func (d *dyingFS) Rename(old, name string) error {
	d.step("rename " + name)
	return d.FS.Rename(old, name)
}

func (d *dyingFS) Remove(name string) error {
	d.step("remove " + name)
	return d.FS.Remove(name)
}

type dyingFile struct {
	vfs.File
	d    *dyingFS
	name string
}

func (f *dyingFile) Write(p []byte) (int, error) {
	f.d.step("write " + f.name)
	return f.File.Write(p)
}

func (f *dyingFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.step("write " + f.name)
	return f.File.WriteAt(p, off)
}

func (f *dyingFile) Sync() error {
	f.d.step("sync " + f.name)
	return f.File.Sync()
}

func (f *dyingFile) SyncData() error {
	f.d.step("sync " + f.name)
	return f.File.SyncData()
}

func (f *dyingFile) SyncTo(n int64) (bool, error) {
	f.d.step("sync " + f.name)
	return f.File.SyncTo(n)
}

// onDying reopens a node on a disk that can die.
func (n *node) onDying(unsynced int) *dyingFS {
	n.c.t.Helper()
	if err := n.s.Close(); err != nil {
		n.c.t.Fatal(err)
	}
	n.disk = &dyingFS{FS: n.mem, mem: n.mem, unsynced: unsynced}
	n.open(n.disk)
	return n.disk
}

// gone reports whether the process of a node has died.
func (n *node) gone() bool {
	if n.disk == nil {
		return false
	}
	image, _, _ := n.disk.dead()
	return image != nil
}

// restartDead starts a node whose process has died, on what its disk had.
func (n *node) restartDead(image *vfs.MemFS) {
	old := n.s
	n.mem, n.disk = image, nil
	n.open(image)
	_ = old.Close() // what a dead process says of its spool does not matter
}

// scenario moves mail in two transfers and confirms them, whoever dies.
func (c *cluster) scenario() {
	a := c.nodes["a"]
	for range 2 {
		ds := activeOrNone(a)
		if len(ds) == 0 {
			break
		}
		_, _ = a.t.Send(ctx, "b", ds[:min(3, len(ds))])
	}
	a.t.Confirm(ctx)
	c.advance(time.Minute)
	a.t.Resolve(ctx)
	a.t.Confirm(ctx)
}

// activeOrNone is active of a node that may be dead.
func activeOrNone(n *node) (all []*message.Delivery) {
	_ = n.s.Queues(ctx, func(q message.QueueKey, _ time.Time) error {
		ds, _, err := n.s.Page(q, spool.Cursor{}, epoch.Add(10000*time.Hour), 1<<20)
		all = append(all, ds...)
		return err
	})
	return all
}

// TestCrashAtEveryWrite lets one side die at each write of its disk, in turn,
// while two transfers are carried and confirmed; then it starts again, and
// everybody learns who has what.
func TestCrashAtEveryWrite(t *testing.T) {
	for _, who := range []string{"a", "b"} {
		for _, unsynced := range []int{0, 60} {
			t.Run(fmt.Sprintf("%s keeps %d %% of what was not synced", who, unsynced), func(t *testing.T) {
				points := 0
				for at := 1; crashAt(t, who, unsynced, at); at += crashStride {
					points++
				}
				if points < 6/crashStride {
					t.Errorf("only %d writes were tried: the scenario no longer covers what it should", points)
				}
				t.Logf("%d writes", points)
			})
		}
	}
}

// crashAt runs one crash, and reports whether there was a write to die at.
func crashAt(t *testing.T, who string, unsynced, at int) bool {
	c := newCluster(t, "a", "b")
	a, dying := c.nodes["a"], c.nodes[who]
	for _, dests := range [][]string{{"x.example"}, {"x.example", "y.example", "z.example"}, {"y.example"}} {
		c.mail("a", strings.Repeat("body ", 20_000), dests...)
	}
	disk := dying.onDying(unsynced)
	disk.arm(at)
	c.scenario()
	image, op, _ := disk.dead()
	if image == nil {
		disk.arm(0)
		c.nodes["a"].close()
		c.nodes["b"].close()
		return false
	}
	dying.restartDead(image)
	once := func(when string) {
		here := map[message.DeliveryID]int{}
		for _, n := range c.nodes {
			for _, d := range n.active() {
				if here[d.ID]++; here[d.ID] > 1 {
					t.Errorf("write %d (%s), %s: %s is active twice", at, op, when, d.ID)
				}
			}
		}
	}
	once("after the restart")
	c.settle()
	once("after all is known")
	if f := c.whole(nil); len(f) > 0 {
		t.Errorf("write %d (%s): %s", at, op, strings.Join(f, "\n"))
	}
	// And all of it can still go.
	for len(a.active()) > 0 && !t.Failed() {
		if _, err := a.t.Send(ctx, "b", a.active()); err != nil {
			t.Errorf("write %d (%s): send again: %v", at, op, err)
		}
		c.advance(time.Minute)
	}
	if f := c.whole(nil); len(f) > 0 {
		t.Errorf("write %d (%s), sent again: %s", at, op, strings.Join(f, "\n"))
	}
	c.nodes["a"].close()
	c.nodes["b"].close()
	return true
}

// chaos is a random life: mail comes, is handed round among three nodes, and is
// delivered, while requests are lost, doubled, come late and out of order, and
// nodes crash, also between a request and its answer.
type chaos struct {
	c     *cluster
	rng   *rand.Rand
	late  []func() *http.Response // copies of requests that are still on their way
	ended map[message.DeliveryID]int
	sent  int
	moved int
	fault string // the first that was seen
	log   []string
}

func long() bool { return os.Getenv("HIKYAKU_LONG") != "" }

func runChaos(t *testing.T, seed uint64, steps int, opts func(*transfer.Options)) *chaos {
	c := newCluster(t, "a", "b", "c")
	if opts != nil {
		c.opts = opts
		for _, n := range c.nodes {
			n.crash(100, nil)
		}
	}
	x := &chaos{c: c, rng: rand.New(rand.NewPCG(seed, 9)), ended: map[message.DeliveryID]int{}}
	c.net.fault = x.carry
	for i := 0; i < steps && x.fault == ""; i++ {
		x.step()
		x.check()
	}
	if x.fault != "" {
		return x
	}
	// Peace: what is late comes now, then everybody learns who has what.
	for _, do := range x.late {
		do()
		x.check()
	}
	c.net.fault = nil
	c.settle()
	if f := c.whole(x.ended); len(f) > 0 && x.fault == "" {
		x.fault = strings.Join(f, "\n")
	}
	return x
}

func (x *chaos) node() *node { return x.c.nodes[x.c.names[x.rng.IntN(len(x.c.names))]] }

func (x *chaos) step() {
	c, n := x.c, x.node()
	switch r := x.rng.IntN(20); {
	case r < 4:
		dests := []string{"x.example", "y.example", "x.example"}[:1+x.rng.IntN(3)]
		c.mail(n.name, strings.Repeat("chaos ", x.rng.IntN(2000)), dests...)
	case r < 12:
		to, ds := x.node(), n.active()
		if to == n || len(ds) == 0 || n.t.Unresolved(to.name) > 3 {
			return
		}
		x.rng.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
		moved, _ := n.t.Send(ctx, to.name, ds[:1+x.rng.IntN(min(len(ds), 6))])
		x.moved += moved
	case r < 14:
		if ds := n.active(); len(ds) > 0 {
			d := ds[x.rng.IntN(len(ds))]
			endIt(c.t, n, d)
			if x.ended[d.ID]++; x.ended[d.ID] > 1 {
				x.note("%s was sent twice, now by %s", d.ID, n.name)
			}
		}
	case r < 16:
		c.advance(time.Duration(x.rng.IntN(40)) * time.Second)
		n.t.Resolve(ctx)
	case r < 17:
		n.t.Confirm(ctx)
	case r < 18:
		n.crash(x.rng.IntN(101), nil)
	default:
		if len(x.late) > 0 {
			i := x.rng.IntN(len(x.late))
			do := x.late[i]
			x.late = slices.Delete(x.late, i, i+1)
			do()
		}
	}
}

func (x *chaos) note(format string, args ...any) {
	if x.fault == "" {
		x.fault = fmt.Sprintf(format, args...)
	}
}

// carry is the network.
func (x *chaos) carry(from *node, to, path string, do func() *http.Response) (*http.Response, error) {
	defer x.check()
	lost := errors.New("connection reset")
	if x.rng.IntN(8) == 0 {
		x.late = append(x.late, do)
	}
	life := from.life
	var r *http.Response
	switch x.rng.IntN(12) {
	case 0:
		return nil, lost
	case 1:
		do()
		return nil, lost
	case 2:
		do()
		x.check()
		r = do()
	case 3:
		r = do()
		x.c.nodes[to].crash(x.rng.IntN(101), nil)
	case 4:
		from.crash(x.rng.IntN(101), nil)
		r = do()
	case 5:
		r = do()
		from.crash(x.rng.IntN(101), nil)
	default:
		r = do()
	}
	if from.life != life {
		return nil, errDead // its process does not hear it
	}
	return r, nil
}

// check is the model: at this instant, no delivery is active on two nodes, none
// that has ended is active, and none is nowhere.
func (x *chaos) check() {
	if x.fault != "" {
		return
	}
	active, known := map[message.DeliveryID]string{}, map[message.DeliveryID]bool{}
	for _, name := range x.c.names {
		n := x.c.nodes[name]
		for _, d := range n.active() {
			if other := active[d.ID]; other != "" {
				x.note("%s is active on %s and %s", d.ID, other, name)
			}
			if x.ended[d.ID] > 0 {
				x.note("%s has ended, and is active on %s", d.ID, name)
			}
			active[d.ID], known[d.ID] = name, true
		}
		for _, tr := range n.s.Transfers() {
			ds, err := n.s.TransferDeliveries(tr.Number)
			if err != nil {
				x.note("transfer %d of %s: %v", tr.Number, name, err)
			}
			for _, d := range ds {
				known[d.ID] = true
			}
		}
	}
	for id, sub := range x.c.subs {
		for i := range sub.Deliveries {
			if d := (message.DeliveryID{Message: id, Index: uint16(i)}); !known[d] && x.ended[d] == 0 {
				x.note("%s is nowhere", d)
			}
		}
	}
}

func TestChaos(t *testing.T) {
	seeds, steps := uint64(chaosSeeds), 120
	if long() {
		seeds, steps = 200, 250
	}
	moved := 0
	for seed := range seeds {
		x := runChaos(t, seed, steps, nil)
		if moved += x.moved; x.fault != "" {
			t.Errorf("seed %d: %s", seed, x.fault)
		}
		for _, n := range x.c.nodes {
			n.close()
		}
	}
	if moved < int(seeds)*20 {
		t.Errorf("only %d deliveries were moved: the workload no longer covers what it should", moved)
	}
	t.Logf("%d seeds, %d deliveries moved", seeds, moved)
}

// TestChaosSeesWhatItShould switches protections off: the same checker must say
// so.
func TestChaosSeesWhatItShould(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts func(*transfer.Options)
		want []string
	}{
		{"deleted before the answer", func(o *transfer.Options) { o.UnsafeDeleteFirst = true }, []string{"is nowhere"}},
		{"active again without a fence", func(o *transfer.Options) { o.UnsafeReturnUnfenced = true }, []string{"is active on", "sent twice"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				x := runChaos(t, seed, 120, tt.opts)
				for _, n := range x.c.nodes {
					n.close()
				}
				for _, want := range tt.want {
					if strings.Contains(x.fault, want) {
						t.Logf("seed %d: %s", seed, x.fault)
						return
					}
				}
			}
			t.Error("20 seeds show nothing: the checker is blind")
		})
	}
}
