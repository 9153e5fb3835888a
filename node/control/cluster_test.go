package control_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/fault"
	"hikyaku/controlplane"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/node/control"
)

// realLeader runs a control plane over the test's policy.
func realLeader(w *world, name string) (stop func()) {
	w.t.Helper()
	s, err := store.OpenFile(w.t.TempDir(), store.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	b := store.Batch{Author: "test"}
	for name, src := range sources(w.t).Sources {
		if src.Address != "" {
			b.Changes = append(b.Changes, store.Change{Kind: policy.KindSource, Name: name, Spec: src})
		}
	}
	if _, err := s.Apply(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
	var handler http.Handler
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	c, err := controlplane.New(controlplane.Options{
		Client: w.etcd, Keys: w.keys, Key: w.key, Name: name, Address: strings.TrimPrefix(h.URL, "http://"), Version: "test", Store: s, Logger: slog.New(slog.DiscardHandler),
		Timing: controlplane.Timing{NodeTTL: testTTL, Quarantine: testQuarantine, Decide: 10 * time.Millisecond, Tick: 100 * time.Millisecond, Settle: 50 * time.Millisecond, MinHold: 100 * time.Millisecond},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	handler = c.Handler()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("control plane: %v", err)
		}
		h.Close()
		_ = c.Close()
		_ = s.Close()
	})
	w.t.Cleanup(stop)
	return stop
}

// guard watches that no source is usable on two nodes at once.
func guard(t testing.TB, nodes ...*member) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := map[string]*control.Hold{} // the last hold of each source and node that was seen usable
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for name := range addresses {
				users := 0
				for _, m := range nodes {
					key := name + " " + m.name
					if h := m.node.hold(name); h != nil {
						seen[key] = h
					}
					if h := seen[key]; h != nil && h.MayUse(time.Now()) {
						users++
					}
				}
				if users > 1 {
					t.Errorf("source %s may be used by %d nodes", name, users)
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// holding counts the movable sources that a member may use.
func (m *member) holding() (n int) {
	for _, name := range []string{"s1", "s2"} {
		if h := m.node.hold(name); h != nil && h.MayUse(time.Now()) {
			n++
		}
	}
	return n
}

// Both sides as they are: sources are spread, move when a node leaves, and move
// later when a node is cut off; floors are given; never are two at one.
func TestWithTheRealLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stopLeader := realLeader(w, "c1")
	a := w.start(w.options("a", "spool-a"))
	until(t, "the first node has both", func() bool { return a.holding() == 2 })
	until(t, "the first node has the floor", func() bool { return a.node.grants().Floor > 0 })
	o := w.options("b", "spool-b")
	p := proxied(t, &o)
	b := w.start(o)
	guard(t, a, b)
	until(t, "the second has one too", func() bool { return a.holding() == 1 && b.holding() == 1 })
	until(t, "both have floors", func() bool {
		fa, fb := a.node.grants().Floor, b.node.grants().Floor
		return fa > 0 && fb > 0 && fa+fb <= exchange.FullShare
	})
	h := b.node.hold("s1")
	if h == nil {
		h = b.node.hold("s2")
	}
	h.Enter() // a connection that never ends by itself
	p.Set(fault.Weather{Cut: true})
	cut := time.Now()
	<-h.Severed().Done()
	if took := time.Since(cut); took > testTTL+testQuarantine/2 {
		t.Errorf("the connection was cut off %s after the node was", took)
	}
	h.Leave()
	until(t, "the first node has both again", func() bool { return a.holding() == 2 })
	if took := time.Since(cut); took > testTTL+testQuarantine+3*time.Second {
		t.Errorf("the sources of a node that was cut off moved after %s", took)
	}
	p.Set(fault.Weather{})
	until(t, "the second is back", func() bool { return b.Status().Registered })

	// Another leader; the first node is known to it by its next report.
	stopLeader()
	realLeader(w, "c2")
	until(t, "the new leader answers", func() bool { return a.Status().Leader == "c2" && a.Status().GrantsLeft > 0 })
	began := time.Now()
	a.stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("leaving took %s", took)
	}
	until(t, "the second has both", func() bool { return b.holding() == 2 })
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("released sources moved after %s", took)
	}
}
