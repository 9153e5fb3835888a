package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/events"
	"hikyaku/node/ingest"
	"hikyaku/node/mx"
	"hikyaku/spool/message"
)

// childSetup is what a node in a process of its own is told.
type childSetup struct {
	Dir, Sink string
	PerDay    int64 // of the default tenant
	Retry     bool  // retry at once
}

func (c *childSetup) resources() []policy.Resource {
	rs := []policy.Resource{toSink(c.Sink), resource("default", &policy.Tenant{PerDay: c.PerDay})}
	if c.Retry {
		rs = append(rs, resource("default", &policy.Stream{Retry: soon(20 * time.Millisecond)}))
	}
	return rs
}

// childNode runs a node until it is killed or told to end. It prints where it
// listens once it is ready, and "ended" after a drain.
func childNode() {
	var c childSetup
	if err := json.Unmarshal([]byte(os.Getenv("HIKYAKU_NODE_CHILD")), &c); err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p := &policies{}
	set, err := policyOf(c.resources())
	if err != nil {
		panic(err)
	}
	p.mu.watchers, p.mu.set = map[int]func(*policy.Set){}, set
	n, err := New(Config{
		Name: "child", Hostname: "node.test", DataDir: c.Dir, Policy: p, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		SMTP:     []ingest.SMTPListener{{Listen: "127.0.0.1:0", RelayNetworks: networks("127.0.0.0/8")}},
		HTTP:     &ingest.HTTPListener{Listen: "127.0.0.1:0", OpenNetworks: networks("127.0.0.0/8")},
		Resolver: mx.Config{Servers: []string{"127.0.0.1:9"}},
		Events:   events.Options{},
	})
	if err != nil {
		panic(err)
	}
	go func() { // ends with the process
		for len(n.NotReady()) > 0 {
			if ctx.Err() != nil {
				return
			}
		}
		fmt.Println("ready", n.smtp.Addrs()[0], n.http.Addr())
	}()
	if err := n.Run(ctx); err != nil {
		panic(err)
	}
	if err := n.Close(); err != nil {
		panic(err)
	}
	fmt.Println("ended")
}

// child is such a process from outside.
type child struct {
	t          testing.TB
	cmd        *exec.Cmd
	out        *bufio.Scanner
	smtp, http string
}

func startChild(t testing.TB, c childSetup) *child {
	t.Helper()
	setup, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &child{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "HIKYAKU_NODE_CHILD="+string(setup))
	p.cmd.Stderr = &logWriter{t: t}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.kill() })
	p.out = bufio.NewScanner(out)
	fields := strings.Fields(p.line())
	if len(fields) != 3 || fields[0] != "ready" {
		t.Fatalf("the child says %q", fields)
	}
	p.smtp, p.http = fields[1], fields[2]
	return p
}

func (p *child) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the child ended: %v", p.cmd.Wait())
	}
	return p.out.Text()
}

// kill is kill -9.
func (p *child) kill() error {
	_ = p.cmd.Process.Kill() // it may have ended
	return p.cmd.Wait()
}

// end is SIGTERM; it waits for the drain.
func (p *child) end() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if l := p.line(); l != "ended" {
		p.t.Fatalf("the child says %q", l)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("the child ended with %v", err)
	}
}

// logWriter shows a child's log lines that matter.
type logWriter struct{ t testing.TB }

func (w *logWriter) Write(b []byte) (int, error) {
	if s := string(b); strings.Contains(s, "level=ERROR") || strings.Contains(s, "panic") || strings.Contains(s, "goroutine ") {
		fmt.Fprint(os.Stderr, s)
	}
	return len(b), nil
}

// smtpSend sends one message and reports whether it was acknowledged.
func smtpSend(c *smtpClient, from, to string) {
	c.t.Helper()
	c.cmd("MAIL FROM:<"+from+">", "250")
	c.cmd("RCPT TO:<"+to+">", "250")
	c.cmd("DATA", "354")
	c.cmd("Subject: x\r\n\r\nbody\r\n.", "250")
}

// opened is a node on a directory that a child left, for looking only: its
// policy sends nothing.
func opened(t testing.TB, dir string, rs ...policy.Resource) *world {
	t.Helper()
	return newWorld(t, func(c *Config) { c.DataDir = dir }, rs...)
}

// eventsOf reads all events of a world, by type.
func (w *world) typesNow() map[message.EventType]int {
	w.t.Helper()
	return types(w.log(api.EventQuery{}))
}
