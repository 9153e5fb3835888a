package fault

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/ledger"
	"hikyaku/bench/load"
	"hikyaku/bench/load/mix"
	"hikyaku/controlplane/client"
)

// BenchmarkThrottleIsObeyed changes a carrier's limit over three nodes, to nothing
// and back, and looks at the carrier: how long after the answer of the API the
// last message comes, and how long until they come again. Each is a change of
// policy on its way through etcd to all nodes.
func BenchmarkThrottleIsObeyed(b *testing.B) {
	const recipients = 2_000_000
	l := ledger.New(recipients)
	w, err := Watch(l, "a")
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	c, err := StartCluster(ctx, Options{Dir: b.TempDir(), Resolver: w.DNS, Port: w.Port, Direct: true, Args: []string{"--ehlo-epoch"}, Policy: throttlePolicy})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.SMTP)
	}
	sent := make(chan error, 1)
	go func() { // waited for below
		_, err := load.Run(ctx, load.Options{
			Mix:   &mix.Mix{Seed: 1, Recipients: recipients, Destinations: mix.Destinations{Names: []mix.Domain{{Name: Domain("a"), Weight: 1}}}},
			Addrs: addrs, Connections: 6, Rate: 600, Ledger: l,
		})
		sent <- err
	}()
	last := func() time.Duration {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range slices.Backward(w.mu.sights) {
			if s.Kind == Mail {
				return s.At
			}
		}
		return 0
	}
	flows := func() {
		from := w.Now()
		if err := candidate.Until(ctx, time.Minute, "mail to flow", func() (bool, error) { return last() > from, nil }); err != nil {
			b.Fatal(err)
		}
	}
	flows()
	var stops, starts []time.Duration
	for b.Loop() {
		answered := throttle(ctx, b, w, c, "0/s")
		stops = append(stops, max(0, quiet(ctx, b, w, last)-answered))
		answered = throttle(ctx, b, w, c, "400/s,burst=40")
		flows()
		first := firstAfter(w, answered)
		starts = append(starts, first-answered)
	}
	cancel()
	<-sent
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(percentile(stops, 50)), "ms-to-stop-p50")
	b.ReportMetric(ms(percentile(stops, 99)), "ms-to-stop-p99")
	b.ReportMetric(ms(percentile(starts, 50)), "ms-to-go-p50")
	b.ReportMetric(ms(percentile(starts, 99)), "ms-to-go-p99")
}

const throttlePolicy = `kind: Carrier
name: a
spec: {domains: [a.fault.test], limits: {rate: "400/s,burst=40"}}
---
kind: Pool
name: default
spec: {sources: [{name: s1}, {name: s2}, {name: s3}]}
---
kind: Source
name: s1
spec: {address: 127.8.0.1}
---
kind: Source
name: s2
spec: {address: 127.8.0.2}
---
kind: Source
name: s3
spec: {address: 127.8.0.3}
---
kind: Route
name: here
spec: {domains: ["*"], allow_networks: [127.0.0.0/8]}
`

// throttle sets the carrier's rate at one node and says when the API answered.
func throttle(ctx context.Context, b *testing.B, w *Witness, c *Cluster, rate string) time.Duration {
	b.Helper()
	api, err := client.New("http://"+c.Nodes[0].Admin, client.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := api.Do(ctx, http.MethodPut, "/v1/carriers/a/throttle", nil, map[string]string{"rate": rate, "reason": "benchmark"}, nil); err != nil {
		b.Fatal(err)
	}
	return w.Now()
}

// quiet waits until nothing has come for two seconds, and says when the last
// message came.
func quiet(ctx context.Context, b *testing.B, w *Witness, last func() time.Duration) time.Duration {
	b.Helper()
	err := candidate.Until(ctx, time.Minute, "mail to stop", func() (bool, error) { return w.Now()-last() > 2*time.Second, nil })
	if err != nil {
		b.Fatal(err)
	}
	return last()
}

func firstAfter(w *Witness, t time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.mu.sights {
		if s.Kind == Mail && s.At > t {
			return s.At
		}
	}
	return t
}

func percentile(ds []time.Duration, p int) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)-1, len(ds)*p/100)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
