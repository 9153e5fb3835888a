package delivery_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/delivery"
)

// host is a receiver that says its banner and, if that is 220, takes all mail,
// at most most recipients in one transaction. It notes the MAIL commands.
func host(c net.Conn, banner string, most int, mails *int) {
	defer c.Close()
	in := &lines{bufio.NewReader(c)}
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	say("%s", banner)
	if !strings.HasPrefix(banner, "220") {
		return
	}
	rcpts, data := 0, false
	for {
		l, err := in.next()
		switch {
		case err != nil:
			return
		case data:
			if data = l != "."; !data {
				say("250 taken")
			}
		case strings.HasPrefix(l, "EHLO"):
			say("250-mx\r\n250 PIPELINING")
		case strings.HasPrefix(l, "MAIL"):
			*mails++
			rcpts = 0
			say("250 ok")
		case strings.HasPrefix(l, "RCPT") && rcpts == most:
			say("452 4.5.3 too many recipients")
		case strings.HasPrefix(l, "RCPT"):
			rcpts++
			say("250 ok")
		case l == "DATA":
			data = true
			say("354 go on")
		case l == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// TestEachFurtherTransactionOfAJobIsAskedFor: whether our own bound or the
// peer's makes it necessary. Those kept back are given back without an outcome.
func TestEachFurtherTransactionOfAJobIsAskedFor(t *testing.T) {
	for name, tc := range map[string]struct {
		ours, peers int
		allowed     int
		mails       int
		result      string
	}{
		"our bound, all allowed":      {ours: 1, peers: 9, allowed: 9, mails: 4, result: "++++"},
		"our bound, none allowed":     {ours: 1, peers: 9, allowed: 0, mails: 1, result: "+---"},
		"our bound, one allowed":      {ours: 1, peers: 9, allowed: 1, mails: 2, result: "++--"},
		"peer's bound, all allowed":   {ours: 9, peers: 3, allowed: 9, mails: 2, result: "++++"},
		"peer's bound, none allowed":  {ours: 9, peers: 3, allowed: 0, mails: 1, result: "+++-"},
		"one transaction for all":     {ours: 9, peers: 9, allowed: 0, mails: 1, result: "++++"},
		"a bound in the middle, none": {ours: 2, peers: 9, allowed: 0, mails: 1, result: "++--"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mails := 0
				nw := &network{serve: func(_ int, c *memConn) { host(c, "220 mx", tc.peers, &mails) }}
				j := makeJob("s@a.example", []string{"r0@b.example", "r1@b.example", "r2@b.example", "r3@b.example"}, "Subject: x\r\n\r\nx\r\n")
				j.MaxRecipients = tc.ours
				last := makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nx\r\n")
				left, withheld, result := tc.allowed, false, ""
				work := &fixedWork{jobs: []*delivery.Job{j, last}}
				work.again = func(asked *delivery.Job) bool {
					if asked != j {
						t.Error("asked for a job that needs one transaction")
					}
					left--
					return left >= 0
				}
				work.keep = func(r *delivery.Result) {
					if r.Job != j {
						return
					}
					withheld = r.Withheld
					outcome := []byte("----")
					for _, e := range r.Replies {
						outcome[e.Index] = '+'
					}
					result = string(outcome)
				}
				delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
				nw.wg.Wait()
				if mails != tc.mails+1 || result != tc.result || withheld != strings.Contains(tc.result, "-") {
					t.Errorf("%d transactions, outcome %s, withheld %v; want %d, %s", mails-1, result, withheld, tc.mails, tc.result)
				}
				if !strings.Contains(work.results[last], "250") {
					t.Errorf("the job behind it: %s", work.results[last])
				}
			})
		})
	}
}

func TestOnlyTheRecipientsOfTheOfferAreAttempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := 0
		nw := &network{serve: func(_ int, c *memConn) { host(c, "220 mx", 9, &mails) }}
		j := makeJob("s@a.example", []string{"r0@b.example", "r1@b.example", "r2@b.example"}, "Subject: x\r\n\r\nx\r\n")
		j.Offer = 2
		work := &fixedWork{jobs: []*delivery.Job{j}}
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
		nw.wg.Wait()
		if got := work.results[j]; strings.Count(got, "250 taken") != 2 || !strings.Contains(got, "2: not attempted") {
			t.Errorf("got\n%s", got)
		}
	})
}

// envelope finds the addresses of an envelope.
var envelope = regexp.MustCompile(`(?:MAIL FROM|RCPT TO):<([^>]*)>`)

// overheard is a connection whose peer's words are kept.
type overheard struct {
	net.Conn
	in io.Reader
}

func (o overheard) Read(p []byte) (int, error) { return o.in.Read(p) }

// TestEachRecipientHasItsSender: with SenderOf each recipient goes in a
// transaction of its own, from its own envelope sender, over what policy and
// peer would take at once.
func TestEachRecipientHasItsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard bytes.Buffer
		nw := &network{serve: func(_ int, c *memConn) { host(overheard{c, io.TeeReader(c, &heard)}, "220 mx", 9, new(int)) }}
		j := makeJob("s@a.example", []string{"r0@b.example", "r1@b.example", "r2@b.example"}, "Subject: x\r\n\r\nx\r\n")
		j.SenderOf = func(i int) string { return fmt.Sprintf("b-%d@back.example", i) }
		work := &fixedWork{jobs: []*delivery.Job{j}}
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
		nw.wg.Wait()
		var envelopes []string
		for _, m := range envelope.FindAllStringSubmatch(heard.String(), -1) {
			envelopes = append(envelopes, m[1])
		}
		want := []string{"b-0@back.example", "r0@b.example", "b-1@back.example", "r1@b.example", "b-2@back.example", "r2@b.example"}
		if !slices.Equal(envelopes, want) {
			t.Errorf("envelopes %q, want %q\n%s", envelopes, want, work.results[j])
		}
		if got := work.results[j]; strings.Count(got, "250 taken") != 3 {
			t.Errorf("got\n%s", got)
		}
	})
}

// TestSenderOfThatIsNoAddress: it ends the job, and nothing of it is sent.
func TestSenderOfThatIsNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := 0
		nw := &network{serve: func(_ int, c *memConn) { host(c, "220 mx", 9, &mails) }}
		j := makeJob("s@a.example", []string{"r0@b.example"}, "Subject: x\r\n\r\nx\r\n")
		j.SenderOf = func(int) string { return "x>\r\nRCPT TO:<y@z" }
		work := &fixedWork{jobs: []*delivery.Job{j}}
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(sinkTarget(), work).Run(context.Background())
		nw.wg.Wait()
		if mails != 0 || !strings.Contains(work.results[j], "553") && !strings.Contains(work.results[j], "501") && !strings.Contains(work.results[j], "550") {
			t.Errorf("%d transactions; got\n%s", mails, work.results[j])
		}
	})
}

// hosts is a target of n hosts by preference, "193.0.0.1" and so on.
func hosts(n int) *delivery.Target {
	t := sinkTarget()
	t.Hosts = nil
	for i := range n {
		t.Hosts = append(t.Hosts, delivery.Host{Name: fmt.Sprintf("mx%d", i+1), Preference: uint16(i), Addrs: addrs(fmt.Sprintf("193.0.0.%d", i+1))})
	}
	return t
}

// TestEachFurtherConnectionIsAskedFor: a session that may make one connection
// makes one, and the next one goes on where it stopped. Only when each host has
// been tried is that a failure of the site.
func TestEachFurtherConnectionIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) { host(c, "421 4.7.0 too many connections", 9, new(int)) }}
		c := delivery.New(delivery.Options{Dial: nw.dial})
		allowed := 0
		run := func() delivery.Ended {
			left := allowed
			work := &fixedWork{reconnect: func() bool { left--; return left >= 0 }}
			e := c.NewSession(hosts(3), work).Run(context.Background())
			nw.wg.Wait()
			time.Sleep(time.Second)
			return e
		}
		var got []string
		for range 5 {
			e := run()
			got = append(got, fmt.Sprintf("%s %v", nw.tried()[len(nw.dials)-1], e.Unfinished))
			if len(e.Failures) != 1 || e.Reply.Code != 421 || e.Connected {
				t.Errorf("ended %+v", e)
			}
		}
		// The first is tried again once all have been, being the one that failed
		// longest ago.
		want := "193.0.0.1:25 true, 193.0.0.2:25 true, 193.0.0.3:25 false, 193.0.0.1:25 false, 193.0.0.2:25 false"
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("went\n%s\nwant\n%s", s, want)
		}
		allowed = 9
		if e := run(); len(e.Failures) != 3 || e.Unfinished {
			t.Errorf("with connections to spare: %+v", e)
		}
	})
}

// TestAConnectionIsClosedBeforeTheNextIsMade, or a peer that bounds them would
// see one too many.
func TestAConnectionIsClosedBeforeTheNextIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, most := 0, 0
		nw := &network{serve: func(_ int, c *memConn) { host(c, "421 4.7.0 no", 9, new(int)) }}
		dial := func(ctx context.Context, r delivery.DialRequest) (net.Conn, error) {
			conn, err := nw.dial(ctx, r)
			open++
			most = max(most, open)
			return &counted{conn, &open}, err
		}
		delivery.New(delivery.Options{Dial: dial}).NewSession(hosts(3), &fixedWork{}).Run(context.Background())
		nw.wg.Wait()
		if len(nw.dials) != 3 || most != 1 || open != 0 {
			t.Errorf("%d connections, %d at once, %d left open", len(nw.dials), most, open)
		}
	})
}

type counted struct {
	net.Conn
	open *int
}

func (c *counted) Close() error {
	*c.open--
	return c.Conn.Close()
}

// TestTheSecondConnectionWithoutTLSIsAskedFor: without one to spare the session
// ends, and the next begins in plain.
func TestTheSecondConnectionWithoutTLSIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := 0
		nw := &network{serve: func(i int, c *memConn) {
			if i > 0 {
				host(c, "220 mx", 9, &mails)
				return
			}
			defer c.Close()
			in := &lines{bufio.NewReader(c)}
			_, _ = io.WriteString(c, "220 mx\r\n")
			for _, answer := range []string{"250-mx\r\n250 STARTTLS\r\n", "220 go on\r\nnonsense"} {
				if _, err := in.next(); err != nil {
					return
				}
				_, _ = io.WriteString(c, answer[:strings.LastIndex(answer, "\n")+1])
			}
			_, _ = io.CopyN(io.Discard, c, 1)
		}}
		c := delivery.New(delivery.Options{Dial: nw.dial})
		target := sinkTarget()
		target.TLS = delivery.TLSOpportunistic
		asked := 0
		never := func() bool { asked++; return false }
		e := c.NewSession(target, &fixedWork{reconnect: never}).Run(context.Background())
		if e.Connected || !e.Unfinished || len(nw.dials) != 1 || asked != 1 {
			t.Errorf("asked %d times, %d connections, ended %+v", asked, len(nw.dials), e)
		}
		j := makeJob("s@a.example", []string{"r0@b.example"}, "Subject: x\r\n\r\nx\r\n")
		e = c.NewSession(target, &fixedWork{jobs: []*delivery.Job{j}, reconnect: never}).Run(context.Background())
		nw.wg.Wait()
		if !e.Connected || mails != 1 {
			t.Errorf("the next session: %+v, %d messages", e, mails)
		}
	})
}

// TestHostsKnownToBeDeadMakeNoSessionUnfinished: what is left of the hosts counts only
// as long as one of them may take mail.
func TestHostsKnownToBeDeadMakeNoSessionUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{fail: func(delivery.DialRequest) error { return syscall.ECONNREFUSED }}
		c := delivery.New(delivery.Options{Dial: nw.dial})
		c.NewSession(hosts(2), &fixedWork{}).Run(context.Background())
		e := c.NewSession(hosts(2), &fixedWork{reconnect: func() bool { return false }}).Run(context.Background())
		if e.Unfinished || len(e.Failures) != 1 {
			t.Errorf("ended %+v", e)
		}
	})
}
