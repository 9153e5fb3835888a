package spool_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// diskOptions is a store on the real disk with its defaults.
func diskOptions(b testing.TB) spool.Options {
	return spool.Options{Dir: b.TempDir(), FreeBytesMin: 1, FreePercentMin: -1}
}

var body4K = bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz 9876543210 lorem ipsum\r\n"), 80)[:4096]

// mail4K is one message of 4 KiB for one of a thousand destinations.
func mail4K(ids *message.IDs, n int64, dests []string) *spool.Submission {
	now := time.Now()
	id := ids.New(now)
	dest := dests[n%int64(len(dests))]
	q := message.QueueKey{Destination: dest, Priority: message.Normal, Tenant: "acme", Stream: "news", Pool: "main", Job: "j1"}
	events := fmt.Appendf(make([]byte, 0, 512), `{"type":"accepted","id":"%s-0","sender":"from@acme.example","recipient":"u%d@%s","tags":["a","b"],"size":4096,"via":"smtp","from":"192.0.2.1"}`+"\n", id, n, dest)
	return &spool.Submission{
		Message: &message.Message{ID: id, Sender: "from@acme.example", Tenant: "acme", Stream: "news", Pool: "main", Job: "j1", Accepted: now, From: "192.0.2.1", Via: "smtp", HeaderFrom: "acme.example", Deliveries: 1, Raw: body4K},
		Deliveries: []*message.Delivery{{
			ID: message.DeliveryID{Message: id}, Queue: q, Due: now, Accepted: now, Expires: now.Add(72 * time.Hour), Size: 4096,
			Recipients: []message.Recipient{{Address: "user" + dest}},
		}},
		Events: events,
	}
}

func destinations(n int) []string {
	d := make([]string, n)
	for i := range d {
		d[i] = fmt.Sprintf("dest%04d.example", i)
	}
	return d
}

const benchClients = 20

// benchClientsRun shares b.N messages out to 20 goroutines.
func benchClientsRun(b *testing.B, do func(n int64)) {
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range benchClients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				do(n)
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func reportSync(b *testing.B, s *spool.Store) {
	m := s.Metrics()
	b.ReportMetric(float64(m.Sync.P50.Microseconds()), "sync-p50-µs")
	b.ReportMetric(float64(m.Sync.P99.Microseconds()), "sync-p99-µs")
	b.ReportMetric(float64(m.Committed)/float64(max(1, m.Commits)), "requests/batch")
}

// BenchmarkAppend accepts 4 KiB messages from 20 clients, each waiting for its
// sync, on the disk under the test's temporary directory.
func BenchmarkAppend(b *testing.B) {
	s := open(b, diskOptions(b))
	s.OnEvents(func(seq uint64, _ []byte) { _ = s.AckOutbox(seq) })
	ids, dests := new(message.IDs), destinations(1000)
	benchClientsRun(b, func(n int64) {
		if err := s.Append(context.Background(), mail4K(ids, n, dests)); err != nil {
			b.Error(err)
		}
	})
	reportSync(b, s)
}

// BenchmarkAcceptDeliver accepts and ends each message: the spool's whole part
// of a message that leaves at its first attempt.
func BenchmarkAcceptDeliver(b *testing.B) {
	s := open(b, diskOptions(b))
	var last atomic.Uint64
	s.OnEvents(func(seq uint64, _ []byte) {
		if seq > last.Load()+100 { // the event log acknowledges what it has synced, now and then
			last.Store(seq)
			_ = s.AckOutbox(seq)
		}
	})
	ids, dests := new(message.IDs), destinations(1000)
	var outcomes sync.WaitGroup
	benchClientsRun(b, func(n int64) {
		sub := mail4K(ids, n, dests)
		if err := s.Append(context.Background(), sub); err != nil {
			b.Error(err)
		}
		d := sub.Deliveries[0]
		outcomes.Add(1)
		s.Commit(&spool.Transition{
			Delivery: d,
			Final:    []spool.Final{{Recipient: d.Recipients[0].Address, State: message.Delivered, At: d.Due, Attempts: 1, Reply: message.Reply{Code: 250, Text: "2.0.0 Ok: queued as 4cXyZ1234", Phase: message.PhaseDot}}},
			Events:   sub.Events,
		}, func(err error) {
			if err != nil {
				b.Error(err)
			}
			outcomes.Done()
		})
	})
	outcomes.Wait()
	reportSync(b, s)
}
