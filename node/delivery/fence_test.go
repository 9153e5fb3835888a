package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/delivery"
)

// fence closes at a time; somebody notices a while later.
type fence struct {
	closes  time.Time
	stopped context.Context
}

// newFence closes after d, and is known to have closed a second later.
func newFence(d time.Duration) *fence {
	f := &fence{closes: time.Now().Add(d)}
	var stop context.CancelFunc
	f.stopped, stop = context.WithCancel(context.Background())
	time.AfterFunc(d+time.Second, stop)
	return f
}

func (f *fence) MayUse(now time.Time) bool {
	return now.Before(f.closes)
}

func (f *fence) Stopped() context.Context { return f.stopped }

// slowPeer answers each command after a while, and notes when each MAIL came.
type slowPeer struct {
	extensions string
	latency    time.Duration
	mails      []time.Time
	quit       bool
	ended      time.Time
}

func (p *slowPeer) serve(c *memConn) {
	defer c.Close()
	replies := make(chan string, 1000)
	var answering sync.WaitGroup
	answering.Go(func() {
		for r := range replies {
			<-time.After(p.latency) // virtual
			_, _ = io.WriteString(c, r)
		}
	})
	defer func() { p.ended = time.Now(); close(replies); answering.Wait() }()
	replies <- "220 mx\r\n"
	in := bufio.NewReader(c)
	for content := false; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case content:
			if content = line != "."; !content {
				replies <- "250 taken\r\n"
			}
		case verb == "EHLO":
			replies <- "250-mx\r\n" + p.extensions + "250 DSN\r\n"
		case verb == "MAIL":
			p.mails = append(p.mails, time.Now())
			replies <- "250 ok\r\n"
		case verb == "DATA":
			content = true
			replies <- "354 go\r\n"
		case verb == "BDAT":
			var n int64
			_, _ = fmt.Sscan(rest, &n)
			_, _ = io.CopyN(io.Discard, in, n)
			replies <- "250 taken\r\n"
		case verb == "QUIT":
			p.quit = true
			replies <- "221 bye\r\n"
			return
		default:
			replies <- "250 ok\r\n"
		}
	}
}

// TestFence closes the fence at each moment of a session's life: no MAIL leaves
// afterwards, what is under way comes to its end, and everything else is given
// back as if it had never been taken.
func TestFence(t *testing.T) {
	const jobs, step = 6, 5 * time.Millisecond
	for name, c := range map[string]struct {
		extensions string
		gap        time.Duration
	}{
		"step by step": {"", 0},
		"pipelining":   {"250-PIPELINING\r\n", 0},
		"chunking":     {"250-PIPELINING\r\n250-CHUNKING\r\n", 0},
		"idle between": {"250-PIPELINING\r\n", 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			delivered, refused := 0, 0
			for after := step / 2; after < 1500*time.Millisecond; after += step {
				synctest.Test(t, func(t *testing.T) {
					work := &fixedWork{}
					for range jobs {
						work.jobs = append(work.jobs, makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nhi\r\n"))
					}
					if c.gap > 0 {
						work.gap = func(int) time.Duration { return c.gap }
					}
					peer := &slowPeer{extensions: c.extensions, latency: 10 * time.Millisecond}
					nw := &network{serve: func(_ int, c *memConn) { peer.serve(c) }}
					target := sinkTarget()
					f := newFence(after)
					target.Fence = f
					ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, work).Run(context.Background())
					nw.wg.Wait()
					for _, at := range peer.mails {
						if at.After(f.closes) {
							t.Errorf("after %v: MAIL %v after the fence closed", after, at.Sub(f.closes))
						}
					}
					done := 0
					for _, j := range work.jobs[:work.next] {
						switch got := work.results[j]; {
						case strings.Contains(got, ": 250 "):
							done++
						case got == "  0: not attempted\n":
							refused++
						default:
							t.Errorf("after %v: %q", after, got)
						}
					}
					delivered += done
					if done != len(peer.mails) {
						t.Errorf("after %v: %d delivered of %d begun", after, done, len(peer.mails))
					}
					if done < jobs && !ended.Fenced || len(work.extra) > 0 {
						t.Errorf("after %v: %d delivered, fenced %v, %v", after, done, ended.Fenced, work.extra)
					}
					if ended.Connected && !peer.quit {
						t.Errorf("after %v: no farewell", after)
					}
				})
			}
			if delivered == 0 || refused == 0 {
				t.Errorf("%d delivered, %d given back: the fence never closed in between", delivered, refused)
			}
		})
	}
}

// A MAIL that hangs in a full window when the fence closes is not left to
// trickle out.
func TestFenceCutsAMailThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nhi\r\n")}}
		nw := &network{room: 16, serve: func(_ int, c *memConn) {
			defer c.Close()
			in := &lines{bufio.NewReaderSize(c, 16)}
			_, _ = io.WriteString(c, "220 mx\r\n")
			_, _ = in.next()
			_, _ = io.WriteString(c, "250-mx\r\n250 PIPELINING\r\n")
			time.Sleep(time.Hour) // virtual; nothing more is read
		}}
		target := sinkTarget()
		target.Fence = newFence(10 * time.Second)
		start := time.Now()
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, work).Run(context.Background())
		if took := time.Since(start); took != 11*time.Second || !ended.Fenced {
			t.Errorf("it ended after %v: %+v", took, ended)
		}
		if got := work.results[work.jobs[0]]; got != "  0: not attempted\n" {
			t.Errorf("%q", got)
		}
		nw.wg.Wait()
	})
}

// A connection that is being opened is given up at once, and no other is made.
func TestFenceWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() }} // it never greets
		target := sinkTarget()
		target.Fence = newFence(time.Second)
		start := time.Now()
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if took := time.Since(start); took != 2*time.Second || !ended.Fenced || ended.Connected || len(nw.dials) != 1 {
			t.Errorf("it ended after %v and %d connections: %+v", took, len(nw.dials), ended)
		}
		ended = delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if !ended.Fenced || len(nw.dials) != 1 {
			t.Errorf("it connected after the fence closed: %+v", ended)
		}
		nw.wg.Wait()
	})
}
