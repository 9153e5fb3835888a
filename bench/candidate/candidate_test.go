package candidate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need skips without an installed program, unless peers are required.
func need(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
		return
	case (errors.Is(err, ErrNotInstalled) || errors.Is(err, ErrNeedsRoot)) && os.Getenv("HIKYAKU_REQUIRE_PEERS") != "1":
		t.Skip(err)
	}
	t.Fatal(err)
}

// gone fails unless every process has ended.
func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if s, ok := readStat(pid); ok && s.state != 'Z' {
			t.Errorf("process %d is still there after Close", pid)
		}
	}
}

func TestCandidatesRelayAllAndLeaveNothing(t *testing.T) {
	const messages = 40
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			sink, err := StartSMTPSink(t.Context(), SinkOptions{Count: true})
			need(t, err)
			defer sink.Close()
			dir, err := workDir("", "test") // t.TempDir is too long for Postfix and closed to its daemons
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			c, err := Start(t.Context(), name, RelayOptions{Sink: sink.Addr, Dir: dir})
			need(t, err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := RunSMTPSource(ctx, SourceOptions{Target: c.Address(), Messages: messages, Size: 4096, Connections: 4}); err != nil {
				t.Fatalf("%v\n%s", err, Tail(c.Output(), 4000))
			}
			if err := Until(t.Context(), 60*time.Second, "all messages at the sink", func() (bool, error) {
				n, err := sink.Messages()
				return n >= messages, err
			}); err != nil {
				t.Fatalf("%v\n%s", err, Tail(c.Output(), 4000))
			}
			pids := c.PIDs()
			if u := c.Usage(); len(pids) == 0 || u.PeakRSS == 0 || MemoryNow(pids) == 0 {
				t.Errorf("processes %v cost %+v: nothing measured", pids, u)
			}
			if c.Version() == "" || c.Version() == "unknown" || c.Name() != name {
				t.Errorf("name %q, version %q", c.Name(), c.Version())
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			gone(t, pids)
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestHikyakuStopsAndComesBack(t *testing.T) {
	ctx := t.Context()
	h, err := StartHikyaku(ctx, HikyakuOptions{Dir: t.TempDir(), Resolver: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	status, v, err := h.Post(ctx, "/v1/messages", map[string]any{
		"from": map[string]string{"email": "a@sender.test"}, "to": []map[string]string{{"email": "b@example.test"}}, "subject": "x", "text": "x",
	})
	if err != nil || status != 202 {
		t.Fatalf("inject: status %d, %v, %v", status, v, err)
	}
	first := h.PID()
	if err := h.Restart(ctx); err == nil {
		t.Error("a second start beside the first one was allowed")
	}
	if err := h.Stop(20 * time.Second); err != nil {
		t.Fatalf("graceful stop: %v\n%s", err, h.Output())
	}
	spent := h.Usage()
	if spent.CPU == 0 || spent.PeakRSS == 0 {
		t.Errorf("a stopped node cost %+v", spent)
	}
	for range 2 {
		if err := h.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		if err := Until(ctx, 20*time.Second, "the message in the queue", func() (bool, error) {
			n, counted, err := h.Queued(ctx)
			return counted && n == 1, err
		}); err != nil {
			t.Fatal(err)
		}
		_ = h.Kill() // "signal: killed" is what it should say
	}
	if err := h.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if h.PID() == first || h.Usage().CPU < spent.CPU {
		t.Errorf("process %d after %d, CPU %v after %v", h.PID(), first, h.Usage().CPU, spent.CPU)
	}
	m, err := h.Metrics(ctx)
	if err != nil || m["hikyaku_spool_batches_total"] == 0 && len(m) < 10 {
		t.Errorf("%d metrics, %v", len(m), err)
	}
	if out, err := h.CLI(ctx, "version"); err != nil || !strings.HasPrefix(out, "hikyaku ") {
		t.Errorf("CLI: %q, %v", out, err)
	}
	if _, code, err := h.Run(ctx, "", "queue", "nonsense"); code == 0 || err != nil {
		t.Errorf("a wrong command ended with %d, %v", code, err)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, a := range []string{"0.0.0.0:25", "192.0.2.1:25", "[::]:25", "localhost:25", "127.0.0.1", "127.0.0.1:smtp", ":25"} {
		if loopback(a) == nil {
			t.Errorf("%q passes for a loopback address", a)
		}
	}
	for _, a := range []string{"127.0.0.1:25", "127.9.8.7:65535", "[::1]:25"} {
		if err := loopback(a); err != nil {
			t.Error(err)
		}
	}
	ctx := context.Background()
	for what, start := range map[string]func() error{
		"hikyaku": func() error {
			_, err := StartHikyaku(ctx, HikyakuOptions{Binary: os.Args[0], Dir: t.TempDir(), SMTP: []string{`listen: "0.0.0.0:2525"`}})
			return err
		},
		"relay":       func() error { _, err := Start(ctx, "postfix", RelayOptions{Sink: "192.0.2.1:25"}); return err },
		"smtp-sink":   func() error { _, err := StartSMTPSink(ctx, SinkOptions{Addr: "0.0.0.0:2525"}); return err },
		"smtp-source": func() error { _, err := RunSMTPSource(ctx, SourceOptions{Target: "192.0.2.1:25"}); return err },
	} {
		if err := start(); err == nil || !errors.Is(err, ErrNotInstalled) && !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
}

// A process that listens on all addresses is found out by looking at it.
func TestListenersAreSeen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pid := os.Getpid()
	if err := onlyLoopback([]int{pid}); err != nil {
		t.Fatalf("a loopback listener: %v", err)
	}
	// Another process, so that this one never listens beyond loopback: nothing
	// but the parser is needed for that.
	for line, want := range map[string]string{
		"   0: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0":                                                 "0.0.0.0:25",
		"   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0":                                                 "127.0.0.1:8080",
		"   2: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0": "[::1]:25",
		"   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0":                                                 "",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":                                                                 "",
	} {
		a, inode, ok := parseListener(line)
		if ok != (want != "") || ok && (a.String() != want || inode != "4711") {
			t.Errorf("%q: %v %s %v, want %q", line, a, inode, ok, want)
		}
	}
	found, err := listeners(pid)
	if err != nil || len(found) == 0 {
		t.Fatalf("listeners of this process: %v, %v", found, err)
	}
}

func TestFindSaysWhatToInstall(t *testing.T) {
	_, err := Find("no-such-program-here", "install the moon")
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "install the moon") {
		t.Errorf("%v", err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "sbin", "no-such-program-here")
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Setenv(PeersDirEnv, dir)
	if got, err := Find("no-such-program-here", ""); got != program {
		t.Errorf("%s, %v", got, err)
	}
}

func TestOutputKeepsBothEnds(t *testing.T) {
	p := &Process{}
	for i := range 40_000 {
		fmt.Fprintf(p, "line %06d of a talkative program, which never ends to talk\n", i)
	}
	out := p.Output()
	if len(out) > keptHead+2*keptTail+100 || !strings.HasPrefix(out, "line 000000") || !strings.HasSuffix(out, "to talk\n") ||
		!strings.Contains(out, "line 039999") || !strings.Contains(out, "[…]") {
		t.Errorf("%d bytes kept, from %.40q to %q", len(out), out, Tail(out, 40))
	}
}

func TestChildrenOfChildrenCount(t *testing.T) {
	p, err := StartProcess("/bin/sh", []string{"-c", "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); echo spent; sleep 60 & wait"}, ProcessOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := Until(t.Context(), 30*time.Second, "the child's child to end", func() (bool, error) { return strings.Contains(p.Output(), "spent"), nil }); err != nil {
		t.Fatal(err)
	}
	var tree []int
	if err := Until(t.Context(), 10*time.Second, "the shell and its sleep", func() (bool, error) { tree = Tree(p.PID()); return len(tree) == 2, nil }); err != nil || tree[0] != p.PID() {
		t.Fatalf("tree %v: %v", tree, err)
	}
	if u := TreeUsage(p.PID()); u.CPU < 50*time.Millisecond {
		t.Errorf("CPU %v does not hold that of the ended child", u.CPU)
	}
	p.end(time.Second)
	gone(t, tree)
}

func TestMetricsAreRead(t *testing.T) {
	m, err := parseMetrics(strings.NewReader("# HELP a b\na 1\nb{x=\"y z\",q=\"}\"} 2.5 1700000000\n\nc NaN\n"))
	if err != nil || m["a"] != 1 || m[`b{x="y z",q="}"}`] != 2.5 || len(m) != 3 {
		t.Errorf("%v, %v", m, err)
	}
	for _, bad := range []string{"lonely", "a b", `{x="y"}`} {
		if _, err := parseMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSinkCountersAreRead(t *testing.T) {
	for out, want := range map[string]int{"": 0, "sess=1 quit=0 mesg=3\r": 3, "sess=1 quit=0 mesg=3\rsess=1 quit=1 mesg=12": 3, "mesg=1\rmesg=20\r": 20} {
		if n, err := sinkCount(out); n != want || err != nil {
			t.Errorf("%q: %d, %v, want %d", out, n, err, want)
		}
	}
}

func TestBinaryIsTheOneGiven(t *testing.T) {
	if _, err := Binary(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a binary that does not exist was taken")
	}
	built, err := Binary(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(built, "version").Output(); err != nil || !strings.HasPrefix(string(out), "hikyaku ") {
		t.Errorf("%s: %q, %v", built, out, err)
	}
}
