package candidate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is one child. Its output is kept, the beginning and the end of it.
type Process struct {
	Cmd  *exec.Cmd
	name string
	done chan struct{}
	err  error // how it ended; set before done is closed
	mu   struct {
		sync.Mutex
		head, tail []byte
		cut        bool // bytes between head and tail were dropped
	}
}

// What is kept of a child's output.
const (
	keptHead = 256 << 10
	keptTail = 512 << 10
)

// ProcessOptions are what differs between children.
type ProcessOptions struct {
	Dir string   // working directory
	Env []string // added to this process's own

	// OwnSession is for a daemon that starts a session by itself, which the
	// leader of a process group may not.
	OwnSession bool
}

// StartProcess runs a program as a child in a process group of its own. The
// kernel ends it when this process dies, however it dies.
func StartProcess(path string, args []string, o ProcessOptions) (*Process, error) {
	p := &Process{Cmd: exec.Command(path, args...), name: filepath.Base(path), done: make(chan struct{})}
	p.Cmd.Dir = o.Dir
	if len(o.Env) > 0 {
		p.Cmd.Env = append(os.Environ(), o.Env...)
	}
	p.Cmd.Stdout, p.Cmd.Stderr = p, p
	p.Cmd.WaitDelay = 2 * time.Second // a grandchild may hold the pipe of the output
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !o.OwnSession, Pdeathsig: syscall.SIGKILL}
	if err := p.Cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() { // ends with the child, which Stop and Kill wait for
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Write keeps the child's output, up to a bound.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(b), keptHead-len(p.mu.head))
	p.mu.head = append(p.mu.head, b[:n]...)
	p.mu.tail = append(p.mu.tail, b[n:]...)
	if over := len(p.mu.tail) - keptTail; over > keptTail { // seldom, so that it costs little
		p.mu.tail = append(p.mu.tail[:0], p.mu.tail[over:]...)
		p.mu.cut = true
	}
	return len(b), nil
}

// Output is what the child printed so far; "[…]" stands where the middle was
// dropped.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := ""
	if p.mu.cut {
		gap = "\n[…]\n"
	}
	return string(p.mu.head) + gap + string(p.mu.tail)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Exited is closed when the child has ended.
func (p *Process) Exited() chan struct{} { return p.done }

// Running reports whether the child has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ended is how it ended; nil is a good end too, so callers name it.
func (p *Process) ended() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// Stop asks the child to end, and kills it after the grace time. It returns
// how it ended.
func (p *Process) Stop(grace time.Duration) error {
	if !p.Running() {
		return p.err
	}
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
	}
	return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", p.name, grace), p.Kill())
}

// Pause stops the child where it stands, as a machine that hangs would; Resume
// lets it go on.
func (p *Process) Pause() error  { return p.Cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Process) Resume() error { return p.Cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the child at once, as a crash would.
func (p *Process) Kill() error {
	_ = p.Cmd.Process.Kill() // it may have ended just now
	<-p.done
	return p.err
}

// end stops the child and those of its descendants that outlive it.
func (p *Process) end(grace time.Duration) {
	tree := processTree(p.PID())
	_ = p.Stop(grace) // its way of ending says nothing at Close
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, q := range tree {
			if q.alive() {
				_ = syscall.Kill(q.pid, signal) // it may have ended just now
			}
		}
		if allGone(tree, 2*time.Second) {
			return
		}
	}
}

func allGone(tree []process, within time.Duration) bool {
	for deadline := time.Now().Add(within); ; <-time.After(5 * time.Millisecond) {
		left := 0
		for _, q := range tree {
			if q.alive() {
				left++
			}
		}
		if left == 0 || time.Now().After(deadline) {
			return left == 0
		}
	}
}
