package spool

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// BenchmarkCommitPipeline compares one merged batch (what Append does) with
// every caller applying a batch of their own, which Pebble's commit pipeline
// groups at the log. The second has no outbox order, no job counters and no
// idempotency check; it is the bound of what merging costs.
func BenchmarkCommitPipeline(b *testing.B) {
	content := make([]byte, 4096)
	submission := func(ids *message.IDs) *Submission {
		now := time.Now()
		m := &message.Message{ID: ids.New(now), Sender: "a@b.example", Raw: content, Accepted: now}
		return &Submission{Message: m, Deliveries: []*message.Delivery{{
			ID: message.DeliveryID{Message: m.ID}, Queue: message.QueueKey{Destination: "d.example", Tenant: "t"},
			Due: now, Accepted: now, Expires: now, Recipients: []message.Recipient{{Address: "u@d.example"}},
		}}}
	}
	run := func(b *testing.B, do func(s *Store, sub *Submission) error) {
		s, err := Open(Options{Dir: b.TempDir(), FreeBytesMin: 1, FreePercentMin: -1})
		if err != nil {
			b.Fatal(err)
		}
		var ids message.IDs
		var next atomic.Int64
		var wg sync.WaitGroup
		b.ReportAllocs()
		b.ResetTimer()
		for range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for next.Add(1) <= int64(b.N) {
					if err := do(s, submission(&ids)); err != nil {
						b.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("merged", func(b *testing.B) {
		run(b, func(s *Store, sub *Submission) error { return s.Append(context.Background(), sub) })
	})
	b.Run("apart", func(b *testing.B) {
		run(b, func(s *Store, sub *Submission) error {
			r := s.newRequest(kindAppend, contentSize(sub.Message)+512)
			defer r.recycle()
			r.encodeSubmission(sub)
			return s.db.Apply(r.frag, pebble.Sync)
		})
	})
}
