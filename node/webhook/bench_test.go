package webhook_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
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
