package sink

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// client speaks one line at a time over a pipe, in virtual time.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, l *door) *client {
	c := l.dial()
	return &client{t, c, bufio.NewReader(c)}
}

// say writes, expects the first line of the answer to begin with want, and
// returns how long it took.
func (c *client) say(line, want string) time.Duration {
	c.t.Helper()
	start := time.Now()
	if line != "" {
		if _, err := io.WriteString(c, line+"\r\n"); err != nil {
			c.t.Fatalf("writing %q: %v", line, err)
		}
	}
	got, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(got, want) {
		c.t.Fatalf("%q: answer %q, %v; want %s", line, got, err, want)
	}
	return time.Since(start)
}

func startPiped(t testing.TB, o Options) (*Sink, *door) {
	t.Helper()
	l := newDoor()
	o.Listener = l
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

func TestDelaysOfEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delays := map[string]time.Duration{"connect": time.Second, "hello": 2 * time.Second, "mail": 3 * time.Second,
			"recipient": 4 * time.Second, "data": 5 * time.Second, "content": time.Hour} // longer than Idle
		s, l := startPiped(t, Options{Extensions: bare, NewSession: func(Peer) Session {
			return &journal{verdict: func(phase, _ string) Verdict { return Verdict{Delay: delays[phase]} }}
		}})
		c := dial(t, l)
		for _, step := range []struct{ phase, line, want string }{
			{"connect", "", "220"}, {"hello", "EHLO c.test", "250"}, {"mail", "MAIL FROM:<a@x.test>", "250"}, {"recipient", "RCPT TO:<b@y.test>", "250"},
			{"", "NOOP", "250"}, {"data", "DATA", "354"}, {"content", "x\r\n.", "250"}, {"", "QUIT", "221"},
		} {
			if took := c.say(step.line, step.want); took != delays[step.phase] {
				t.Errorf("%q took %v, want %v", step.line, took, delays[step.phase])
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEarlierRepliesDoNotWait has a delayed RCPT in the middle of a pipelined
// group: what came before it is answered at once, the rest after it.
func TestEarlierRepliesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := startPiped(t, Options{Extensions: bare, NewSession: func(Peer) Session {
			return &journal{verdict: func(phase, what string) Verdict {
				if what == "slow@y.test" {
					return Verdict{Delay: time.Minute}
				}
				return Verdict{}
			}}
		}})
		c := dial(t, l)
		c.say("", "220")
		for _, step := range []struct {
			line, want string
			took       time.Duration
		}{
			{"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<slow@y.test>\r\nRCPT TO:<b@y.test>", "250", 0},
			{"", "250 2.1.0", 0}, {"", "250 2.1.5", time.Minute}, {"", "250 2.1.5", 0},
		} {
			if took := c.say(step.line, step.want); took != step.took {
				t.Errorf("%q took %v, want %v", step.want, took, step.took)
			}
		}
		s.Close()
	})
}

// TestThousandsWaitAtOnce is a tarpit's afternoon.
func TestThousandsWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 2000
		s, l := startPiped(t, Options{Extensions: bare, NewSession: func(Peer) Session {
			return &journal{verdict: func(string, string) Verdict { return Verdict{Delay: time.Hour} }}
		}})
		var wg sync.WaitGroup
		for range many {
			c := dial(t, l)
			wg.Go(func() {
				if took := c.say("", "220") + c.say("QUIT", "221"); took != time.Hour {
					t.Errorf("greeting and QUIT took %v, want an hour", took)
				}
			})
		}
		wg.Wait()
		if m := s.Metrics(); m.Connections != many || m.Peak != many {
			t.Errorf("metrics %+v, want %d connections at once", m, many)
		}
		s.Close()
	})
}

func TestWhatEndsADelay(t *testing.T) {
	for _, full := range []bool{false, true} { // a full buffer leaves nothing to read ahead
		t.Run(fmt.Sprintf("full=%v", full), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 2)
				s, l := startPiped(t, Options{Extensions: bare, NewSession: func(Peer) Session {
					return &closing{ended: ended, delay: time.Hour}
				}})
				start := time.Now()
				c := dial(t, l)
				if full {
					c.Write([]byte(strings.Repeat("x", smallBuffer)))
				} else {
					dial(t, l).Close()
					// A pipe, unlike TCP, refuses the greeting that follows.
					if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("after the client hung up: %v, want a closed pipe", err)
					}
				}
				synctest.Wait()
				s.Close()
				if err := <-ended; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("after Close: %v, want a closed connection", err)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("took %v, want the delay cut short", took)
				}
			})
		})
	}
}

// closing tells how its connection ended and delays the greeting.
type closing struct {
	AcceptAll
	ended chan error
	delay time.Duration
}

func (c *closing) Connect() Verdict { return Verdict{Delay: c.delay} }
func (c *closing) Closed(err error) { c.ended <- err }

func TestSilenceEndsTheConnection(t *testing.T) {
	for _, phase := range []string{"greeted", "in content", "in a chunk", "slowly"} {
		t.Run(phase, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				s, l := startPiped(t, Options{Extensions: bare, Chunking: true, Idle: time.Minute, NewSession: func(Peer) Session { return &closing{ended: ended} }})
				c := dial(t, l)
				c.say("", "220")
				c.say("HELO c.test", "250")
				c.say("MAIL FROM:<a@x.test>", "250")
				c.say("RCPT TO:<b@y.test>", "250")
				switch phase {
				case "in content":
					c.say("DATA", "354")
				case "in a chunk":
					io.WriteString(c, "BDAT 10\r\nx")
				case "slowly":
					for range 100 { // half a word each half minute is not silence
						time.Sleep(30 * time.Second)
						io.WriteString(c, "NO")
						time.Sleep(30 * time.Second)
						c.say("OP", "250")
					}
				}
				took := c.say("", "421 4.4.2")
				if took < time.Minute || took > 75*time.Second {
					t.Errorf("ended after %v, want 60 to 75 s", took)
				}
				if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("session heard %v, want a passed deadline", err)
				}
				if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("then %v, want EOF", err)
				}
				s.Close()
			})
		})
	}
}

// TestAcceptErrorsPass has a listener that is out of descriptors for a while.
func TestAcceptErrorsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &failing{door: newDoor(), times: 10}
		s, err := Start(Options{Listener: l})
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, l.door)
		c.say("", "220")
		if m := s.Metrics(); m.AcceptErrors != 10 || m.Connections != 1 {
			t.Errorf("metrics %+v, want 10 errors and 1 connection", m)
		}
		s.Close()
	})
}

type failing struct {
	*door
	times int
}

func (l *failing) Accept() (net.Conn, error) {
	if l.times > 0 {
		l.times--
		return nil, errors.New("too many open files")
	}
	return l.door.Accept()
}
