package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// backlog is a spool full of queued mail.
type backlog struct {
	deliveries   int
	destinations int
}

const perMessage = 10_000 // deliveries that share one message, as one HTTP request makes them

// fill writes the backlog with the product's own spool, without syncs: the
// benchmark is about what follows.
func (l backlog) fill(tb testing.TB, dir string) {
	tb.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, UnsafeNoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	var ids message.IDs
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Now().UTC().Truncate(time.Microsecond)
	raw := []byte("From: a@source.test\r\nSubject: backlog\r\n\r\n" + "one of millions\r\n")
	for n := 0; n < l.deliveries; n += perMessage {
		m := &message.Message{ID: ids.New(now), Sender: "a@source.test", Tenant: "default", Stream: "default", Pool: "default", Priority: message.Normal,
			Accepted: now, Via: "http", Raw: raw, Deliveries: perMessage}
		ds := make([]*message.Delivery, perMessage)
		for i := range ds {
			d := rnd.IntN(l.destinations)
			dest := "d" + strconv.Itoa(d) + ".test"
			ds[i] = &message.Delivery{ID: message.DeliveryID{Message: m.ID, Index: uint16(i)},
				Queue: message.QueueKey{Destination: dest, Priority: message.Normal, Tenant: "default", Stream: "default", Pool: "default"},
				Due:   now, Accepted: now, Expires: now.Add(72 * time.Hour), Size: uint32(len(raw)),
				Recipients: []message.Recipient{{Address: "user" + strconv.Itoa(n+i) + "@" + dest, Vars: []byte(`{"points":120,"name":"taro"}`)}}}
		}
		if err := s.Append(context.Background(), &spool.Submission{Message: m, Deliveries: ds}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkBacklog is the second figure: 5 million deliveries over
// 100,000 destinations on disk; how long from the start of the process to the
// first delivery, and how much memory while it drains.
func BenchmarkBacklog(b *testing.B) {
	for _, l := range []backlog{{100_000, 1_000}, {5_000_000, 100_000}} {
		b.Run(fmt.Sprintf("deliveries=%d/destinations=%d", l.deliveries, l.destinations), func(b *testing.B) { l.bench(b) })
	}
}

func (l backlog) bench(b *testing.B) {
	dir := b.TempDir()
	l.fill(b, filepath.Join(dir, "data", "spool"))
	first := make(chan time.Time, 1)
	var received atomic.Int64
	s, err := sink.Start(sink.Options{Message: func(r *sink.Received) string {
		received.Add(1)
		select {
		case first <- r.At:
		default:
		}
		return ""
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	peers.Binary(b) // built before the clock starts
	b.ResetTimer()
	start := time.Now()
	h := peers.StartHikyaku(b, peers.HikyakuOptions{Dir: dir, Policy: route(s.Addr), Config: "log: {level: warn}\n"})
	ready := time.Since(start)
	var toFirst time.Duration
	select {
	case at := <-first:
		toFirst = at.Sub(start)
	case <-time.After(2 * time.Minute):
		b.Fatal("no delivery within two minutes")
	}
	// Counted at the receiver: a small backlog may be gone before the time is up.
	before, measured := received.Load(), time.Now()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over && int(received.Load()) < l.deliveries; {
		select {
		case <-end:
			over = true
		case <-tick.C:
		}
	}
	rate := float64(received.Load()-before) / time.Since(measured).Seconds()
	u := peers.UsageOf(h.Cmd.Process.Pid)
	b.ReportMetric(toFirst.Seconds(), "s-to-first")
	b.ReportMetric(ready.Seconds(), "s-to-ready")
	b.ReportMetric(float64(u.PeakRSS)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(u.PeakRSS)/float64(l.deliveries), "B/queued")
	b.ReportMetric(rate, "drain-msg/s")
	b.ReportMetric(0, "ns/op")
}
