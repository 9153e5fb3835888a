package webhook_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
	"hikyaku/spool/message"
)

// BenchmarkPost posts over loopback to an endpoint that reads and answers.
func BenchmarkPost(b *testing.B) {
	for _, c := range []struct {
		name, tenant string
		batch        int
	}{{"all/batch=100", "", 100}, {"all/batch=1000", "", 1000}, {"tenant/batch=1000", "acme", 1000}} {
		b.Run(c.name, func(b *testing.B) {
			var bytes atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				bytes.Add(n)
			}))
			defer s.Close()
			log := newMemLog()
			h, err := webhook.New(webhook.Options{Node: "n1", Store: "ab12", Log: log, Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			w := hook("x")
			w.URL, w.AllowNetworks, w.MaxBatch, w.Tenant = s.URL, loopback, c.batch, c.tenant
			h.Apply(&policy.Set{Webhooks: map[string]*policy.Webhook{"h": w}})
			until(b, func() bool { return h.Status()[0].State == webhook.StateOK })
			es := events(1000, 0)
			for i := range es {
				es[i].Metadata = []byte(`{"campaign":"` + strings.Repeat("x", 100) + `"}`)
			}
			b.ResetTimer()
			for i := 0; i < b.N; i += len(es) {
				log.write(es...)
			}
			n := uint64((b.N + len(es) - 1) / len(es) * len(es))
			until(b, func() bool { return h.Status()[0].Counts.Posted >= n })
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(bytes.Load())/float64(n), "B/event")
		})
	}
}

// until waits for what must come.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come within 30 s")
		}
	}
}

// BenchmarkThousandWebhooks is 1,000 webhooks of 1,000 tenants whose events come
// evenly, 4,000 in 20 blocks for each op; in "half away" every second endpoint
// answers 503. It reports what each costs beside the events.
func BenchmarkThousandWebhooks(b *testing.B) {
	for _, c := range []struct {
		name  string
		hooks int
		away  bool
	}{{"1", 1, false}, {"1000", 1000, false}, {"1000/half away", 1000, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if strings.HasSuffix(r.URL.Path, "/away") {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			defer s.Close()
			log := newMemLog()
			h, err := webhook.New(webhook.Options{Node: "n1", Store: "ab12", Log: log, Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			all := map[string]*policy.Webhook{}
			for i := range c.hooks {
				w := hook("x")
				w.URL, w.AllowNetworks = fmt.Sprintf("%s/%d", s.URL, i), loopback
				if c.hooks > 1 {
					w.Tenant = fmt.Sprintf("t%d", i)
				}
				if c.away && i%2 == 1 {
					w.URL += "/away"
				}
				all[fmt.Sprintf("t%d", i)] = w
			}
			h.Apply(&policy.Set{Webhooks: all})
			until(b, func() bool {
				for _, x := range h.Status() {
					if x.State != webhook.StateOK {
						return false
					}
				}
				return len(h.Status()) == c.hooks
			})
			es := make([]message.Event, 4000)
			for i := range es {
				es[i] = event(message.EventDelivered, fmt.Sprintf("t%d", i%1000), "bulk", i)
				es[i].Metadata = []byte(`{"campaign":"` + strings.Repeat("x", 300) + `"}`)
			}
			b.ResetTimer()
			for range b.N {
				for i := 0; i < len(es); i += 200 {
					log.write(es[i : i+200]...)
				}
			}
			want := uint64(4000 * b.N)
			if c.away {
				want /= 2
			}
			until(b, func() bool { return allPosted(h) >= want })
			b.StopTimer()
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			fds, _ := os.ReadDir("/proc/self/fd")
			b.ReportMetric(float64(want)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB-heap")
			b.ReportMetric(float64(len(fds))/2, "fds") // the server has the other half
			log.mu.Lock()
			b.ReportMetric(float64(log.reads)/float64(len(log.blocks)), "reads/block")
			log.mu.Unlock()
		})
	}
}

func allPosted(h *webhook.Hooks) (n uint64) {
	for _, s := range h.Status() {
		n += s.Counts.Posted
	}
	return n
}
