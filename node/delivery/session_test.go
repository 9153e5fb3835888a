package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/spool/message"
)

// TestServerEndsAtEachByte cuts the server's words at each byte, by an orderly
// close and by a reset: one result, never delivered without its whole answer.
func TestServerEndsAtEachByte(t *testing.T) {
	replies := []string{"220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n", "250 ok\r\n250 ok\r\n354 go\r\n", "250 2.0.0 queued\r\n"}
	whole := len(strings.Join(replies, ""))
	waits := []int{0, 1, 3, 4} // lines of the client before each of them
	for cut := range whole + 1 {
		for _, reset := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nhi\r\n")}}
				nw := &network{serve: func(_ int, c *memConn) {
					defer c.Close()
					in, left := &lines{bufio.NewReader(c)}, cut
					for i, r := range replies {
						for range waits[i] {
							if _, err := in.next(); err != nil {
								return
							}
						}
						n := min(left, len(r))
						_, _ = io.WriteString(c, r[:n])
						if left -= n; left == 0 && cut < whole {
							break
						}
					}
					if reset && cut < whole {
						synctest.Wait()
						c.reset()
					}
				}}
				ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
				nw.wg.Wait()
				got := work.results[work.jobs[0]]
				switch {
				case len(work.extra) > 0:
					t.Errorf("cut %d: %v", cut, work.extra)
				case !ended.Connected && got != "":
					t.Errorf("cut %d: a job was taken without a connection", cut)
				case ended.Connected && (got == "" || strings.Contains(got, ": 250 ") != (cut == whole)):
					t.Errorf("cut %d of %d, reset %v: %s", cut, whole, reset, got)
				}
			})
		}
	}
}

func TestStopGivesBackWhatWasNotSent(t *testing.T) {
	for _, tc := range []struct {
		name  string
		until int // the server answers this many commands, then nothing more
		want  string
	}{
		{"in MAIL", 1, "  0: not attempted\n"},
		{"in RCPT", 2, "  0: not attempted\n"},
		{"in DATA", 3, "  0: not attempted\n"},
		{"after the dot", 4, "  0: 451 4.3.5 stopped by the node (dot, local)\n  ambiguous\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.AfterFunc(time.Minute, cancel)
			answers := []string{"250-mx\r\n250 PIPELINING\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"}
			nw := &network{serve: func(_ int, c *memConn) {
				defer c.Close()
				in := &lines{bufio.NewReader(c)}
				_, _ = io.WriteString(c, "220 mx\r\n")
				for i := range tc.until {
					_, _ = in.next()
					_, _ = io.WriteString(c, answers[i])
				}
				_, _ = io.Copy(io.Discard, in.r)
			}}
			work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nhi\r\n")}}
			start := time.Now()
			delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(ctx)
			nw.wg.Wait()
			if got := work.results[work.jobs[0]]; got != tc.want || time.Since(start) != time.Minute {
				t.Errorf("%s, after %v: %s", tc.name, time.Since(start), got)
			}
		})
	}
}

func TestStopWhileConnectingAndIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		nw := &network{serve: func(_ int, c *memConn) { _, _ = io.Copy(io.Discard, c) }}
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), &fixedWork{}).Run(ctx)
		nw.wg.Wait()
		if ended.Connected || ended.Reply.Fault != message.FaultLocal || ended.Reply.Text != "stopped by the node" {
			t.Errorf("%+v", ended)
		}
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		nw.serve = func(_ int, c *memConn) { playPlain(c) }
		start := time.Now()
		ended = delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), &fixedWork{}).Run(ctx)
		nw.wg.Wait()
		if !ended.Connected || time.Since(start) != time.Second {
			t.Errorf("after %v: %+v", time.Since(start), ended)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) { playPlain(c) }}
		start := time.Now()
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), &fixedWork{}).Run(context.Background())
		nw.wg.Wait()
		if time.Since(start) != 5*time.Second || ended.Reply.Code != 0 {
			t.Errorf("idle for %v, %+v", time.Since(start), ended)
		}
	})
}

// TestPeerThatStopsReading: content must make progress; a message whose end
// did not leave us is not ambiguous.
func TestPeerThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789\r\n", 10000)
		work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, text)}}
		nw := &network{room: 8192, serve: func(_ int, c *memConn) {
			defer c.Close()
			in := &lines{bufio.NewReader(c)}
			_, _ = io.WriteString(c, "220 mx\r\n")
			_, _ = in.next()
			_, _ = io.WriteString(c, "250-mx\r\n250 PIPELINING\r\n")
			for range 3 {
				_, _ = in.next()
			}
			_, _ = io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
			time.Sleep(time.Hour) // virtual
		}}
		start := time.Now()
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
		took := time.Since(start)
		nw.wg.Wait()
		want := "  0: 451 4.4.2 no reply from the host in time (dot, timeout)\n"
		if got := work.results[work.jobs[0]]; got != want || took > 4*time.Minute {
			t.Errorf("after %v: %s", took, got)
		}
	})
}

// TestPeerThatTrickles: a byte now and then does not keep a phase alive.
func TestPeerThatTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) {
			defer c.Close()
			for _, err := io.WriteString(c, "2"); err == nil; _, err = io.WriteString(c, "2") {
				time.Sleep(time.Minute) // virtual
			}
		}}
		start := time.Now()
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), &fixedWork{}).Run(context.Background())
		if took := time.Since(start); took != 5*time.Minute || ended.Reply.Fault != message.FaultTimeout {
			t.Errorf("after %v: %+v", took, ended)
		}
		nw.wg.Wait()
	})
}

// TestRefusalDuringContent: what a server says before it hangs up on content
// is the reason, not the broken connection.
func TestRefusalDuringContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789\r\n", 10000)
		work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, text)}}
		nw := &network{room: 8192, serve: func(_ int, c *memConn) {
			in := &lines{bufio.NewReader(c)}
			_, _ = io.WriteString(c, "220 mx\r\n")
			_, _ = in.next()
			_, _ = io.WriteString(c, "250-mx\r\n250 PIPELINING\r\n")
			for range 3 {
				_, _ = in.next()
			}
			_, _ = io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
			_, _ = io.ReadFull(in.r, make([]byte, 5000))
			_, _ = io.WriteString(c, "552 5.3.4 enough of that\r\n")
			_ = c.Close()
		}}
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
		nw.wg.Wait()
		if got, want := work.results[work.jobs[0]], "  0: 552 5.3.4 enough of that (dot)\n"; got != want {
			t.Errorf("got %swant %s", got, want)
		}
	})
}

func TestStagesAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := func(c *memConn, d time.Duration, text string) {
			time.Sleep(d) // virtual
			_, _ = io.WriteString(c, text)
		}
		nw := &network{serve: func(_ int, c *memConn) {
			defer c.Close()
			in := &lines{bufio.NewReader(c)}
			pause(c, time.Second, "220 mx\r\n")
			_, _ = in.next()
			pause(c, time.Second, "250-mx\r\n250-DSN\r\n250 PIPELINING\r\n")
			for range 3 {
				_, _ = in.next()
			}
			pause(c, 3*time.Second, "250 ok\r\n250 ok\r\n354 go\r\n")
			for line := ""; line != "."; {
				line, _ = in.next()
			}
			pause(c, 5*time.Second, "250 ok\r\n")
			_, _ = in.next()
			pause(c, 0, "221 bye\r\n")
		}}
		work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, "a: b\r\n")}}
		var got message.Stages
		relayed := false
		work.keep = func(r *delivery.Result) { got, relayed = r.Stages, r.DSNRelayed }
		c := delivery.New(delivery.Options{Dial: nw.dial})
		c.NewSession(sinkTarget(), work).Run(context.Background())
		nw.wg.Wait()
		if want := (message.Stages{Connect: 2 * time.Second, Mail: 3 * time.Second, Data: 5 * time.Second}); got != want || !relayed {
			t.Errorf("stages %+v, want %+v", got, want)
		}
		m := c.Metrics()
		if m.Opened != 1 || m.Transactions != 1 || m.Delivered != 1 || m.BytesOut == 0 || m.BytesIn == 0 || m.Reused != 0 {
			t.Errorf("metrics %+v", m)
		}
	})
}

// benchContent gives the same 4 KiB to every job.
var benchText = []byte("Subject: benchmark\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog and goes home again.\r\n", 62))

// endless gives out n jobs without allocating.
type endless struct {
	n    int
	job  delivery.Job
	fail int
}

func newEndless(n int) *endless {
	j := makeJob("sender@tenant.example", []string{"somebody@destination.example"}, "")
	j.Content = &content{pieces: [][]byte{benchText[:20], benchText[20:]}}
	return &endless{n: n, job: *j}
}

func (w *endless) TryNext() (*delivery.Job, bool) {
	if w.n == 0 {
		return nil, false
	}
	w.n--
	return &w.job, true
}
func (w *endless) Reconnect() bool                                           { return true }
func (w *endless) Again(*delivery.Job) bool                                  { return true }
func (w *endless) Next(context.Context, time.Duration) (*delivery.Job, bool) { return w.TryNext() }
func (w *endless) Done(r *delivery.Result) {
	if len(r.Replies) != 1 || r.Replies[0].Reply.Class() != message.Success {
		w.fail++
	}
	r.Release()
}

func runEndless(tb testing.TB, n int, caps string) {
	nw := &network{serve: func(_ int, c *memConn) {
		defer c.Close()
		(&sink{conn: c, caps: caps}).serve()
	}}
	target := sinkTarget()
	target.MessagesPerConnection = n + 1
	work := newEndless(n)
	ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, work).Run(context.Background())
	nw.wg.Wait()
	if work.fail > 0 || work.n > 0 || !ended.Connected {
		tb.Fatalf("%d failed, %d left, %+v", work.fail, work.n, ended)
	}
}

func TestAllocationsOfAPipelinedMessage(t *testing.T) {
	for name, caps := range map[string]string{"DATA": "", "BDAT": "250-CHUNKING\r\n"} {
		var before, after runtime.MemStats
		const n = 5000
		runEndless(t, 100, caps) // warm the pools
		runtime.ReadMemStats(&before)
		runEndless(t, n, caps)
		runtime.ReadMemStats(&after)
		// The test's own deadlines are timers, two allocations each.
		perMessage := float64(after.Mallocs-before.Mallocs) / n
		t.Logf("%s: %.1f allocations a message, the in-memory connection's included", name, perMessage)
		if perMessage > 10 {
			t.Errorf("%s: %.1f allocations a message, want at most 10", name, perMessage)
		}
	}
}

func BenchmarkSession(b *testing.B) {
	for name, caps := range map[string]string{"data": "", "bdat": "250-CHUNKING\r\n"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(benchText)))
			runEndless(b, b.N, caps)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// TestTraceShowsTheDialog also proves that content and secrets are not in it;
// the dialogs look for the password.
func TestTraceShowsTheDialog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) { playPlain(c) }}
		c := delivery.New(delivery.Options{Dial: nw.dial})
		var got []string
		c.SetTrace(func(l delivery.TraceLine) { got = append(got, fmt.Sprintf("%d %v %s", l.Session, l.Out, l.Text)) })
		run := func() {
			work := &fixedWork{jobs: []*delivery.Job{makeJob("s@a.example", []string{"r@b.example"}, "secret: content\r\n")}}
			c.NewSession(sinkTarget(), work).Run(context.Background())
			nw.wg.Wait()
		}
		run()
		c.SetTrace(nil)
		run()
		want := []string{
			"1 false 220 sink", "1 true EHLO out.example", "1 false 250 sink PIPELINING",
			"1 true MAIL FROM:<s@a.example>", "1 true RCPT TO:<r@b.example>", "1 true DATA",
			"1 false 250 2.1.0 Ok", "1 false 250 2.1.0 Ok", "1 false 354 End data with <CR><LF>.<CR><LF>",
			"1 true (17 bytes of content)", "1 false 250 2.0.0 Ok: queued as 4bX1yZ0abcz9rSt",
			"1 true QUIT", "1 false 221 2.0.0 Bye",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
