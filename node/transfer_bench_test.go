package node

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
)

// BenchmarkDrain hands 4 KiB messages from one node to another over loopback,
// both on disk: messages a second, from the order until the first is empty, and
// the CPU time of both, which a busy machine does not change.
func BenchmarkDrain(b *testing.B) {
	const n = 20_000
	for b.Loop() {
		took, cpu := drainTime(b, n)
		b.ReportMetric(n/took.Seconds(), "messages/s")
		b.ReportMetric(float64(cpu.Microseconds())/n, "µs-CPU/message")
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// drainTime fills a node, drains it into another, and says what that took.
func drainTime(b *testing.B, n int) (took, cpu time.Duration) {
	p := newPair(b, "127.0.0.1:1", resource(policy.DefaultName, &policy.Stream{Retry: soon(time.Hour)}))
	defer p.close()
	body := strings.Repeat("x", 70) + "\r\n"
	body = strings.Repeat(body, 4096/len(body))
	for i := range n {
		p.a.send(mail{from: "s@s.test", to: []string{fmt.Sprintf("u%d@d%d.test", i, i%100)}, body: body, sendAt: time.Now().Add(time.Hour)})
	}
	srv := httptest.NewServer(p.b.TransferHandler())
	defer srv.Close()
	p.urls["b"].Store(&srv.URL)
	p.a.UseHomes([]exchange.Home{{Pool: policy.DefaultName, Nodes: []string{"b"}}})
	start, used := time.Now(), cpuTime(b)
	p.a.Drain(true)
	p.empty(p.a)
	took, cpu = time.Since(start), cpuTime(b)-used
	if got := p.b.spool.Stats().Deliveries; got != int64(n) {
		b.Fatalf("%d of %d arrived", got, n)
	}
	return took, cpu
}
