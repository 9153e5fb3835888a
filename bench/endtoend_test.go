package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/peers"
)

// load is what every candidate carries: Postfix's own generator and sink.
type load struct {
	messages    int
	size        int
	connections int
}

// endToEnd sends the load to target and returns the rate at which the sink
// took it, from the first connection of the source to the sink's last message.
func endToEnd(tb testing.TB, l load, sinkPort int, target string) float64 {
	tb.Helper()
	sinkAddr := net.JoinHostPort("127.0.0.1", strconv.Itoa(sinkPort))
	direct := target == sinkAddr
	args := []string{sinkAddr, "1024"}
	if !direct {
		args = append([]string{"-M", strconv.Itoa(l.messages)}, args...) // ends at its last message
	}
	if os.Getuid() == 0 { // it refuses to stay root
		args = append([]string{"-u", "postfix"}, args...)
	}
	sink := peers.Start(tb, peers.Find(tb, "smtp-sink", "postfix"), args...)
	peers.Listening(tb, sinkAddr)
	start := time.Now()
	source := exec.Command(peers.Find(tb, "smtp-source", "postfix"), "-d", "-s", strconv.Itoa(l.connections),
		"-l", strconv.Itoa(l.size), "-m", strconv.Itoa(l.messages), "-f", "sender@source.test", "-t", "rcpt@sink.test", "-M", "source.test", target)
	out, err := source.CombinedOutput()
	if err != nil {
		tb.Fatalf("smtp-source: %v\n%s", err, out)
	}
	// Connected straight to the sink, the source has its answer to every message
	// when it ends. Were the sink to end first, it would lose its connection and
	// sleep for a second before it says so.
	if direct {
		return float64(l.messages) / time.Since(start).Seconds()
	}
	select {
	case <-sink.Exited():
	case <-time.After(5 * time.Minute):
		tb.Fatal("the sink did not get all messages within five minutes")
	}
	return float64(l.messages) / time.Since(start).Seconds()
}

const sinkPolicy = `kind: Route
name: sink
spec: {domains: ["*"], hosts: ["127.0.0.1:%d"], allow_networks: [127.0.0.0/8], tls: opportunistic}
`

// BenchmarkEndToEnd is the figure: smtp-source → candidate → smtp-sink,
// 4 KiB, 20 connections, three candidates in one run. The bare run has nobody
// between source and sink: it is the limit of the tools on this machine.
func BenchmarkEndToEnd(b *testing.B) {
	scale, _ := strconv.Atoi(os.Getenv("HIKYAKU_BENCH_SECONDS"))
	if scale == 0 {
		scale = 10
	}
	var bare, postfix float64
	b.Run("bare", func(b *testing.B) {
		port := peers.FreePort(b, "127.0.0.1")
		bare = endToEnd(b, load{3000 * scale, 4096, 20}, port, fmt.Sprintf("127.0.0.1:%d", port))
		b.ReportMetric(bare, "msg/s")
	})
	b.Run("postfix", func(b *testing.B) {
		port := peers.FreePort(b, "127.0.0.1")
		p := peers.StartPostfix(b, peers.PostfixOptions{RelayHost: fmt.Sprintf("[127.0.0.1]:%d", port)})
		postfix = endToEnd(b, load{500 * scale, 4096, 20}, port, p.Addr)
		b.ReportMetric(postfix, "msg/s")
	})
	b.Run("hikyaku", func(b *testing.B) { benchHikyaku(b, load{5000 * scale, 4096, 20}, bare, postfix) })
}

func benchHikyaku(b *testing.B, l load, bare, postfix float64) {
	port := peers.FreePort(b, "127.0.0.1")
	h := peers.StartHikyaku(b, peers.HikyakuOptions{Policy: fmt.Sprintf(sinkPolicy, port)})
	before := peers.UsageOf(h.Cmd.Process.Pid)
	rate := endToEnd(b, l, port, h.SMTP)
	after := peers.UsageOf(h.Cmd.Process.Pid)
	b.ReportMetric(rate, "msg/s")
	b.ReportMetric(float64((after.CPU-before.CPU).Microseconds())/float64(l.messages), "cpu-µs/msg")
	b.ReportMetric(float64(after.PeakRSS)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(after.WroteOut-before.WroteOut)/float64(l.messages*l.size), "disk-B/B")
	if bare > 0 {
		b.ReportMetric(rate/bare, "×bare")
	}
	if postfix > 0 {
		b.ReportMetric(rate/postfix, "×postfix")
	}
	if out := h.Output(); strings.Contains(out, "panic") {
		b.Fatal(out)
	}
}
