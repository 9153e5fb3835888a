package spool_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// BenchmarkRestart fills a spool with deliveries over 100,000 destinations in
// two flows, opens it, and measures what the start of a node does: list the
// queues, and page the heads of the first thousand. HIKYAKU_BACKLOG says how
// many deliveries (200,000 by default; the issue asks for 5,000,000).
func BenchmarkRestart(b *testing.B) {
	n := 200_000
	if v, err := strconv.Atoi(os.Getenv("HIKYAKU_BACKLOG")); err == nil {
		n = v
	}
	o := diskOptions(b)
	queues := fillBacklog(b, o, n, 100_000)
	var start, list, heads, counted time.Duration
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		s, err := spool.Open(o)
		if err != nil {
			b.Fatal(err)
		}
		start += time.Since(begin)
		begin = time.Now()
		var first []message.QueueKey
		seen := 0
		if err := s.Queues(context.Background(), func(q message.QueueKey, _ time.Time) error {
			if seen++; len(first) < 1000 {
				first = append(first, q)
			}
			return nil
		}); err != nil || seen != queues {
			b.Fatalf("%d queues, want %d, %v", seen, queues, err)
		}
		list += time.Since(begin)
		begin = time.Now()
		for _, q := range first {
			if ds, _, err := s.Page(q, spool.Cursor{}, far, 100); err != nil || len(ds) == 0 {
				b.Fatal(len(ds), err)
			}
		}
		heads += time.Since(begin)
		begin = time.Now()
		waitFor(b, func() bool { return s.Stats().Counted })
		counted += time.Since(begin)
		if got := s.Stats().Deliveries; got != int64(n) {
			b.Fatalf("counted %d", got)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) / float64(b.N) }
	b.ReportMetric(ms(start), "open-ms")
	b.ReportMetric(ms(list), "queues-ms")
	b.ReportMetric(ms(heads), "1000-pages-ms")
	b.ReportMetric(ms(counted), "then-counted-ms")
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.Sys>>20), "MiB")
}

// fillBacklog makes n deliveries, a thousand to a message, and returns in how
// many queues they are.
func fillBacklog(b *testing.B, o spool.Options, n, dests int) int {
	s, err := spool.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	g := newMaker()
	queues := map[message.QueueKey]bool{}
	for done := 0; done < n; {
		m := &message.Message{ID: g.id(), Sender: "a@b.example", Raw: body4K, Accepted: epoch}
		sub := &spool.Submission{Message: m}
		for i := 0; i < 1000 && done < n; i++ {
			q := message.QueueKey{Destination: fmt.Sprintf("dest%06d.example", done*7919%dests), Priority: message.Priority(done / dests % 2), Tenant: "acme", Stream: "news", Pool: "main"}
			queues[q] = true
			sub.Deliveries = append(sub.Deliveries, &message.Delivery{
				ID: message.DeliveryID{Message: m.ID, Index: uint16(i)}, Queue: q, Due: epoch.Add(time.Duration(done) * time.Millisecond),
				Accepted: epoch, Expires: far, Size: 4096, Recipients: []message.Recipient{{Address: fmt.Sprintf("user%d@dest.example", done)}},
			})
			done++
		}
		mustAppend(b, s, sub)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return len(queues)
}
