package ingest

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// computing is an Acceptor in which a large submission computes until the test
// lets it go on to wait for the disk, and then waits for the disk.
type computing struct {
	nowhere
	begun   atomic.Int32
	compute chan struct{} // a token for each that may go on to wait
	disk    chan struct{} // closed when all may end
}

func (c *computing) Accept(_ context.Context, s *Submission) error {
	if len(s.Recipients) == 1 {
		return nil
	}
	c.begun.Add(1)
	<-c.compute
	s.Encoded()
	<-c.disk
	return nil
}

// TestLargeRequestsTakeTurns: only so many compute at once, those that wait for
// the disk do not count, and small requests wait for nobody.
func TestLargeRequestsTakeTurns(t *testing.T) {
	large, small := bulkBody(1000), bulkBody(1)
	if len(large) <= largeBody || len(small) > largeBody {
		t.Fatalf("bodies of %d and %d bytes", len(large), len(small))
	}
	synctest.Test(t, func(t *testing.T) {
		s, c := bulkServer(t)
		a := &computing{nowhere: nowhere{set: s.backend.Acceptor.Policy()}, compute: make(chan struct{}), disk: make(chan struct{})}
		s.backend.Acceptor = a
		width := cap(s.turns.free)
		answers := make(chan error, width+2)
		hand := func(body []byte) {
			_, _, err := s.inject(c, "", body)
			answers <- err
		}
		for range width + 1 {
			go hand(large)
		}
		synctest.Wait()
		if n := int(a.begun.Load()); n != width {
			t.Errorf("%d large requests compute at once, want %d", n, width)
		}
		hand(small)
		if err := <-answers; err != nil {
			t.Errorf("a small request beside them: %v", err)
		}
		a.compute <- struct{}{}
		synctest.Wait()
		if n := int(a.begun.Load()); n != width+1 {
			t.Errorf("%d have begun after one waits for the disk, want %d", n, width+1)
		}
		// All turns are taken again: who comes now is told to come back.
		hand(large)
		if e := asHTTPError(<-answers); e.status != 503 || e.retryAfter == 0 {
			t.Errorf("a request that got no turn: %d, %v", e.status, e)
		}
		close(a.compute)
		close(a.disk)
		for range width + 1 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if len(s.turns.free) != 0 {
			t.Errorf("%d turns are still taken", len(s.turns.free))
		}
	})
}

// TestLargeRequestsRest: the turn passes on only after the rest, which is told
// how long the request computed.
func TestLargeRequestsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rested []time.Duration
		turn := newTurns(func(_ context.Context, worked time.Duration) {
			rested = append(rested, worked)
			time.Sleep(worked) // virtual
		})
		began := time.Now()
		for range 2 * cap(turn.free) {
			leave, err := turn.enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // virtual: it computes
			leave()
			leave()
		}
		if n := 2 * cap(turn.free); len(rested) != n || rested[0] != time.Second || time.Since(began) != time.Duration(2*n)*time.Second {
			t.Errorf("%d requests of 1 s rested for %v, all took %v", n, rested, time.Since(began))
		}
	})
}
