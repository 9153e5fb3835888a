package scheduler

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/spool/message"
)

// bench is a scheduler with n ready or idle queues, everything resolved to a
// few sites, and one open session of each.
type bench struct {
	s    *Scheduler
	now  time.Time
	disk *disk
	lane Lane
}

func newBench(t testing.TB, cfg Config, lines ...string) *bench {
	b := &bench{now: worldStart, disk: newDisk()}
	b.s = New(b.now, cfg, policyOf(t, lines...))
	return b
}

func (b *bench) key(i int) message.QueueKey {
	return message.QueueKey{Destination: fmt.Sprintf("d%06d.example", i), Priority: message.Normal, Tenant: "default", Stream: "default", Pool: "default"}
}

// act answers look-ups and opens sessions at once.
func (b *bench) act() {
	for {
		acts := b.s.Actions(b.now, 1000)
		if len(acts) == 0 {
			return
		}
		for _, a := range acts {
			switch a.Kind {
			case Resolve:
				b.s.Resolved(b.now, a.Destination, Resolution{Site: "mx.example", Hosts: []string{"mx.example"}, Until: b.now.Add(24 * time.Hour)})
			case Open:
				b.lane = a.Lane
				b.s.SessionOpened(b.now, a.Lane)
			}
		}
	}
}

// cycle adds a delivery to a queue that exists, sends the one whose turn it is
// and ends it.
func (b *bench) cycle(t testing.TB, d *message.Delivery) {
	if !b.s.Add(b.now, d) {
		t.Fatal("a delivery was not loaded")
	}
	v, _, ok := b.s.Next(b.now, b.lane)
	if !ok {
		t.Fatal("nothing to send")
	}
	b.s.Done(b.now, v.Delivery, nil)
	b.now = b.now.Add(10 * time.Microsecond)
	if b.s.Pending(b.now) {
		b.act()
	}
}

// ready fills n queues with one delivery each.
func (b *bench) ready(n int) {
	for i := range n {
		b.s.Add(b.now, b.disk.newDelivery(b.key(i), b.now, b.now, 72*time.Hour))
		if i%1000 == 0 {
			b.act()
		}
	}
	b.act()
}

func BenchmarkNextDone(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		b.Run(fmt.Sprintf("queues=%d", n), func(b *testing.B) {
			w := newBench(b, Config{MaxLoaded: 1 << 20}, "Source default {}", `Carrier default {"per_source":{"connections":1,"rate":"1000000/s,burst=1000000"}}`)
			w.ready(n)
			ds := make([]*message.Delivery, b.N)
			for i := range ds {
				ds[i] = w.disk.newDelivery(w.key(i%n), w.now, w.now, 72*time.Hour)
			}
			w.now = w.now.Add(time.Minute)
			w.act()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				w.cycle(b, ds[i])
			}
		})
	}
}

// BenchmarkShared is BenchmarkNextDone on a node that shares every budget with
// others: limits on all the ways of a message, and a grant of each.
func BenchmarkShared(b *testing.B) {
	const n = 1000
	w := newBench(b, Config{MaxLoaded: 1 << 20}, "Source default {}", `Carrier default {"limits":{"rate":"1000000/s,burst=1000000"},"per_source":{"connections":1,"rate":"1000000/s,burst=1000000"}}`,
		`Tenant default {"rate":"1000000/s,burst=1000000","carriers":{"default":{"rate":"1000000/s,burst=1000000"}}}`)
	w.ready(n)
	g := Grants{Spanning: true, Floor: exchange.FullShare / 30, Lease: 1, Until: w.now.Add(24 * time.Hour)}
	for _, d := range w.demands() {
		g.Grants = append(g.Grants, exchange.Grant{Scope: d, Holding: exchange.Holding{Share: exchange.FullShare / 2, Burst: 500_000, Connections: 1}})
	}
	w.s.SetGrants(w.now, g)
	ds := make([]*message.Delivery, b.N)
	for i := range ds {
		ds[i] = w.disk.newDelivery(w.key(i%n), w.now, w.now, 72*time.Hour)
	}
	for range 2 { // a lane, and then its bucket full
		w.now = w.now.Add(time.Minute)
		w.act()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.cycle(b, ds[i])
	}
}

func (b *bench) demands() (xs []exchange.Scope) {
	b.s.limits.each(func(x exchange.Scope, _ *scope, _ *links) { xs = append(xs, x) })
	return xs
}

// BenchmarkExchange is what one exchange costs the scheduler: 300 carriers with
// 50 sources each, all with mail, each with a daily limit on each source.
func BenchmarkExchange(b *testing.B) {
	lines := []string{"Source default {}"}
	pool := ""
	for i := range 50 {
		lines = append(lines, fmt.Sprintf(`Source s%02d {"address":"192.0.2.%d"}`, i, i+1))
		pool += fmt.Sprintf(`,{"name":"s%02d"}`, i)
	}
	lines = append(lines, `Pool many {"sources":[`+pool[1:]+`]}`)
	for i := range 300 {
		lines = append(lines, fmt.Sprintf(`Carrier c%03d {"domains":["d%06d.example"],"limits":{"rate":"100/s"}}`, i, i))
	}
	w := newBench(b, Config{}, lines...)
	w.s.SetGrants(w.now, Grants{Spanning: true, Floor: 1, Lease: 1})
	for i := range 300 {
		k := w.key(i)
		k.Pool = "many"
		w.s.Add(w.now, w.disk.newDelivery(k, w.now, w.now, 72*time.Hour))
		w.s.Resolved(w.now, k.Destination, Resolution{Site: "mx." + k.Destination, Hosts: []string{"mx." + k.Destination}, Until: w.now.Add(24 * time.Hour)})
		w.s.Actions(w.now, 100)
		w.s.Resolved(w.now, k.Destination, Resolution{Site: "mx." + k.Destination, Hosts: []string{"mx." + k.Destination}, Until: w.now.Add(24 * time.Hour)})
	}
	for b.Loop() {
		w.now = w.now.Add(time.Second)
		g := Grants{Spanning: true, Floor: 1, Lease: 1, Until: w.now.Add(5 * time.Second)}
		for _, d := range w.s.Demands(w.now, exchange.MaxScopes) {
			g.Grants = append(g.Grants, exchange.Grant{Scope: d.Scope, Holding: exchange.Holding{Share: w.now.Unix() % exchange.FullShare, Burst: 5}})
		}
		if len(g.Grants) < 300 {
			b.Fatalf("%d demands", len(g.Grants))
		}
		w.s.SetGrants(w.now, g)
	}
}

// One at a time to a queue of its own each is what transactional mail is like.
func BenchmarkFreshQueues(b *testing.B) {
	w := newBench(b, Config{}, "Source default {}")
	w.ready(1)
	const n = 10_000
	ds := make([]*message.Delivery, b.N)
	for i := range ds {
		ds[i] = w.disk.newDelivery(w.key(i%n), w.now, w.now, 72*time.Hour)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.cycle(b, ds[i])
	}
}

func TestCycleAllocates(t *testing.T) {
	w := newBench(t, Config{}, "Source default {}")
	w.ready(100)
	var ds []*message.Delivery
	for i := range 3000 {
		ds = append(ds, w.disk.newDelivery(w.key(i%100), w.now, w.now, 72*time.Hour))
	}
	i := 0
	got := testing.AllocsPerRun(2000, func() { w.cycle(t, ds[i]); i++ })
	if got > 3 {
		t.Errorf("a delivery's way through the scheduler allocates %.1f times", got)
	}
}

// What waits on disk until later costs the queue, its place and its
// destination, and no delivery.
func TestIdleQueuesAreSmall(t *testing.T) {
	const queues, dests = 200_000, 100_000
	w := newBench(t, Config{}, "Source default {}")
	keys := make([]message.QueueKey, queues)
	for i := range keys {
		keys[i] = w.key(i % dests)
		keys[i].Priority = message.Priority(i / dests)
	}
	before := heapBytes()
	for i := range keys {
		w.s.AddQueue(w.now, keys[i], w.now.Add(time.Hour))
	}
	each := float64(heapBytes()-before) / queues
	runtime.KeepAlive(w)
	runtime.KeepAlive(keys)
	t.Logf("an idle queue costs %.0f bytes, with its share of %d destinations", each, dests)
	if each > 1024 {
		t.Errorf("an idle queue costs %.0f bytes", each)
	}
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
