package lease_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/lease"
)

const (
	ttl    = 10 * time.Second
	margin = 2 * time.Second
)

func held(t testing.TB) *lease.Keeper {
	t.Helper()
	k, err := lease.New(time.Now(), ttl, margin)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNewRefuses(t *testing.T) {
	for _, c := range [][2]time.Duration{{0, 0}, {ttl, ttl}, {ttl, -1}, {-1, 0}} {
		if _, err := lease.New(time.Now(), c[0], c[1]); err == nil {
			t.Errorf("a lease of %s with a margin of %s was taken", c[0], c[1])
		}
	}
}

func TestRenewalsMoveTheDeadlineFromTheirSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := held(t)
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.Keep(ctx, func(context.Context) (time.Duration, error) {
				time.Sleep(time.Second) // the way there and back
				return ttl, nil
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		// The last renewal was sent at 58 s and answered at 59.
		if got, want := k.Until().Sub(start), 58*time.Second+ttl-margin; got != want || !k.Holds(time.Now()) {
			t.Errorf("deadline %s after the start, want %s", got, want)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Keep ended with %v", err)
		}
		time.Sleep(ttl)
		if k.Holds(time.Now()) {
			t.Error("holds without renewals")
		}
	})
}

// The trap of the etcd client: an answer that comes late would renew from its
// arrival.
func TestLateAnswerDoesNotBringTheLeaseBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := held(t)
		sent := time.Now()
		time.Sleep(ttl - margin)
		if k.Holds(time.Now()) {
			t.Error("holds at its deadline")
		}
		if k.Renewed(sent.Add(ttl-margin-1), time.Now(), ttl) || k.Holds(time.Now()) {
			t.Error("an answer after the deadline brought the lease back")
		}
	})
}

func TestLosses(t *testing.T) {
	for name, c := range map[string]struct {
		renew lease.Renew
		after time.Duration
		why   string
	}{
		"server says so":     {func(context.Context) (time.Duration, error) { return 0, lease.ErrLost }, 0, "lost"},
		"no answer":          {func(ctx context.Context) (time.Duration, error) { <-ctx.Done(); return 0, ctx.Err() }, ttl - margin, "no answer to a renewal in 8s"},
		"errors":             {func(context.Context) (time.Duration, error) { return 0, errors.New("connection refused") }, ttl - margin, "connection refused"},
		"answers too slowly": {func(context.Context) (time.Duration, error) { <-time.After(9 * time.Second); return ttl, nil }, 9 * time.Second, "took 9s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := held(t)
				start := time.Now()
				err := k.Keep(t.Context(), c.renew)
				if !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), c.why) || k.Holds(time.Now()) {
					t.Errorf("%v; holds: %v", err, k.Holds(time.Now()))
				}
				if took := time.Since(start); took < c.after || took > c.after+ttl/5 {
					t.Errorf("noticed after %s, want %s", took, c.after)
				}
				<-k.Done()
			})
		})
	}
}

func TestShorterTTLOfTheServerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := held(t)
		time.Sleep(7 * time.Second)
		sent := time.Now()
		if !k.Renewed(sent, sent, 5*time.Second) || k.Until().Sub(sent) != 3*time.Second {
			t.Errorf("deadline %s after the renewal, want 3s", k.Until().Sub(sent))
		}
		if !k.Renewed(sent, sent, time.Second) || k.Until().Sub(sent) != 3*time.Second {
			t.Error("an older answer moved the deadline back")
		}
		k.GiveUp()
		if k.Holds(time.Now()) {
			t.Error("holds after it was given up")
		}
	})
}
