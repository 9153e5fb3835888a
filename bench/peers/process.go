package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Find returns the path of a program, looking in the sbin directories too.
// Without it the test skips, or fails where peers are required.
func Find(tb testing.TB, program, debianPackage string) string {
	tb.Helper()
	if p, err := exec.LookPath(program); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		p := filepath.Join(dir, program)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p
		}
	}
	msg := fmt.Sprintf("%s is not installed: run make test-deps, or install the Debian package %s", program, debianPackage)
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		tb.Fatal(msg)
	}
	tb.Skip(msg)
	return ""
}

// Process is one child. Its output is kept for the test's log.
type Process struct {
	Cmd  *exec.Cmd
	name string
	done chan struct{}
	err  error
	mu   struct {
		sync.Mutex
		out bytes.Buffer
	}
}

const maxKeptOutput = 1 << 20

// Write keeps the child's output, up to a bound.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.out.Len() < maxKeptOutput {
		p.mu.out.Write(b)
	}
	return len(b), nil
}

// Output is what the child printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.out.String()
}

// Start runs a program as a child and stops it when the test ends.
func Start(tb testing.TB, path string, args ...string) *Process {
	tb.Helper()
	p := &Process{Cmd: exec.Command(path, args...), name: filepath.Base(path), done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = p, p
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.Cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	tb.Cleanup(func() {
		p.Stop(5 * time.Second)
		if tb.Failed() {
			tb.Logf("output of %s:\n%s", p.name, tail(p.Output(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Stop asks the child to end, and kills it after the grace time. It returns
// how it ended.
func (p *Process) Stop(grace time.Duration) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(grace):
	}
	return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", p.name, grace), p.Kill())
}

// Kill ends the child at once, as a crash would.
func (p *Process) Kill() error {
	_ = p.Cmd.Process.Kill()
	<-p.done
	return p.err
}

// Exited is closed when the child has ended.
func (p *Process) Exited() <-chan struct{} { return p.done }

// FreePort returns a loopback TCP port that nothing listens on.
func FreePort(tb testing.TB, host string) int {
	tb.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatalf("find a free port on %s: %v", host, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Until polls cond, every few milliseconds, until it holds or the time is up.
func Until(tb testing.TB, within time.Duration, what string, cond func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			tb.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

// Listening waits until something accepts on addr.
func Listening(tb testing.TB, addr string) {
	tb.Helper()
	Until(tb, 20*time.Second, "a listener on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}
