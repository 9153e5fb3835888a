package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/feedback"
	"hikyaku/node/ingest"
	tokens "hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// comebackDesk is a feedback listener on loopback.
type comebackDesk struct {
	addr string
	keys *tokens.Keys
	mu   struct {
		sync.Mutex
		got  []feedback.Feedback
		fail error // what handling news returns
	}
}

func newComebackDesk(t *testing.T) *comebackDesk {
	t.Helper()
	keys, err := tokens.NewKeys([]byte(strings.Repeat("k", tokens.KeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	d := &comebackDesk{keys: keys}
	set := &policy.Set{Tenants: map[string]*policy.Tenant{"acme": {ReturnPath: "rp.acme.example"}}}
	r, err := feedback.New(feedback.Options{Keys: keys, Policy: func() *policy.Set { return set }, Handle: func(_ context.Context, f *feedback.Feedback) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.mu.fail == nil {
			d.mu.got = append(d.mu.got, *f)
		}
		return d.mu.fail
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := FeedbackSMTP(ingest.SMTPListener{Listen: "127.0.0.1:0"}, r, "rp.acme.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	d.addr = srv.Addrs()[0].String()
	return d
}

func (d *comebackDesk) took() []feedback.Feedback {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.mu.got
	d.mu.got = nil
	return got
}

// say holds a conversation: each line is sent, and its reply's last line kept.
func (d *comebackDesk) say(t testing.TB, lines ...string) []string {
	t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(conn)
	reply := func() string {
		for {
			l, err := in.ReadString('\n')
			if err != nil {
				return "lost: " + err.Error()
			}
			if len(l) < 4 || l[3] != '-' {
				return strings.TrimSpace(l)
			}
		}
	}
	got := []string{reply()}
	for _, l := range lines {
		if _, err := fmt.Fprintf(conn, "%s\r\n", l); err != nil {
			return append(got, err.Error())
		}
		got = append(got, reply())
	}
	return got
}

// postfixBounce is what Postfix 3 writes (bounce(8), RFC 3464).
func postfixBounce(to, recipient string) string {
	return strings.ReplaceAll(`Return-Path: <>
Date: Sun,  1 Mar 2026 12:00:00 +0000 (UTC)
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: `+to+`
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="4B1F2C0001.1772366400/mx.example.net"
Content-Transfer-Encoding: 8bit
Message-Id: <20260301120000.4B1F2C0002@mx.example.net>

This is a MIME-encapsulated message.

--4B1F2C0001.1772366400/mx.example.net
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

                   The mail system

<`+recipient+`>: host mx2.example.net[192.0.2.25] said: 550 5.1.1
    <`+recipient+`>: Recipient address rejected: User unknown (in reply to
    RCPT TO command)

--4B1F2C0001.1772366400/mx.example.net
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
X-Postfix-Queue-ID: 4B1F2C0001
X-Postfix-Sender: rfc822; `+to+`
Arrival-Date: Sun,  1 Mar 2026 11:59:59 +0000 (UTC)

Final-Recipient: rfc822; `+recipient+`
Original-Recipient: rfc822;`+recipient+`
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx2.example.net
Diagnostic-Code: smtp; 550 5.1.1 <`+recipient+`>: Recipient address rejected:
    User unknown

--4B1F2C0001.1772366400/mx.example.net
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 8bit

Return-Path: <`+to+`>
Message-ID: <1@acme.example>
To: ann@example.net
Subject: hello

--4B1F2C0001.1772366400/mx.example.net--
.`, "\n", "\r\n")
}

func TestABounceComesInBySMTP(t *testing.T) {
	d := newComebackDesk(t)
	var ids message.IDs
	s := &tokens.Subject{Delivery: message.DeliveryID{Message: ids.New(time.Now())}, Tenant: "acme", Recipient: "ann@example.net", Issued: time.Now()}
	to := d.keys.ReturnAddress(s, "rp.acme.example")
	got := d.say(t, "EHLO mx.example.net", "MAIL FROM:<> SIZE=3000 BODY=8BITMIME", "RCPT TO:<"+to+">", "DATA", postfixBounce(to, "ann@example.net"), "QUIT")
	for i, want := range []string{"220", "250", "250", "250", "354", "250 2.0.0", "221"} {
		if !strings.HasPrefix(got[i], want) {
			t.Fatalf("reply %d is %q, want %s; all: %q", i, got[i], want, got)
		}
	}
	news := d.took()
	if len(news) != 1 || news[0].Type != message.EventLateBounce || news[0].Recipient != "ann@example.net" || news[0].Tenant != "acme" || news[0].Delivery != s.Delivery ||
		news[0].Reply.Code != 550 || news[0].Reply.Phase != message.PhaseRcpt || news[0].Reply.Text != "<ann@example.net>: Recipient address rejected:\nUser unknown" || news[0].From != "127.0.0.1" {
		t.Errorf("news: %+v", news)
	}
	// The same report by another recipient's token, and the same again: nothing.
	mallory := *s
	mallory.Recipient = "mallory@example.net"
	own := d.keys.ReturnAddress(&mallory, "rp.acme.example")
	for _, rcpt := range []string{own, to} {
		got := d.say(t, "EHLO mx.example.net", "MAIL FROM:<>", "RCPT TO:<"+rcpt+">", "DATA", strings.ReplaceAll(postfixBounce(rcpt, "ann@example.net"), "To: ann", "To: bob"))
		if !strings.HasPrefix(got[5], "250") {
			t.Errorf("to %s: %q", rcpt, got)
		}
	}
	if news := d.took(); len(news) != 0 {
		t.Errorf("forged or repeated: %+v", news)
	}
}

func TestNothingElseComesInBySMTP(t *testing.T) {
	d := newComebackDesk(t)
	var ids message.IDs
	s := &tokens.Subject{Delivery: message.DeliveryID{Message: ids.New(time.Now())}, Tenant: "acme", Recipient: "ann@example.net", Issued: time.Now()}
	forged := []byte(d.keys.Seal(tokens.ReturnPath, s))
	forged[20] ^= 1
	got := d.say(t, "EHLO x.example", "AUTH PLAIN AGEAYg==", "MAIL FROM:<spam@example.org>",
		"RCPT TO:<ann@example.net>", "RCPT TO:<b-x@rp.acme.example>", "RCPT TO:<"+string(forged)+"@rp.acme.example>", "DATA")
	for i, want := range []string{"220", "250", "502", "250", "550 5.7.1", "550 5.1.1", "550 5.1.1", "554"} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("reply %d is %q, want %s", i, got[i], want)
		}
	}
	// More than 1 MiB is refused where it comes in.
	to := d.keys.ReturnAddress(s, "rp.acme.example")
	got = d.say(t, "EHLO x.example", "MAIL FROM:<>", "RCPT TO:<"+to+">", "DATA", "Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 900)+"\r\n", 1300)+".")
	if !strings.HasPrefix(got[5], "552 5.3.4") {
		t.Errorf("too large: %q", got)
	}
	if news := d.took(); len(news) != 0 {
		t.Errorf("news: %+v", news)
	}
}

// TestNewsIsDurableBeforeItIsTaken: what cannot be stored is put off, and comes
// again.
func TestNewsIsDurableBeforeItIsTaken(t *testing.T) {
	d := newComebackDesk(t)
	var ids message.IDs
	s := &tokens.Subject{Delivery: message.DeliveryID{Message: ids.New(time.Now())}, Tenant: "acme", Recipient: "ann@example.net", Issued: time.Now()}
	to := d.keys.ReturnAddress(s, "rp.acme.example")
	for _, c := range []struct {
		fail error
		want string
		news int
	}{{errors.New("the disk is full"), "451 4.3.0", 0}, {nil, "250 2.0.0", 1}} {
		d.mu.Lock()
		d.mu.fail = c.fail
		d.mu.Unlock()
		got := d.say(t, "EHLO mx.example.net", "MAIL FROM:<>", "RCPT TO:<"+to+">", "DATA", postfixBounce(to, "ann@example.net"))
		if news := d.took(); !strings.HasPrefix(got[5], c.want) || len(news) != c.news {
			t.Errorf("fail %v: %q, %+v", c.fail, got, news)
		}
	}
}

func TestFeedbackMetrics(t *testing.T) {
	t.Run("nothing comes back here", func(t *testing.T) {
		if m := newWorld(t, nil).Metrics(); m.Feedback.Mails != nil {
			t.Errorf("it shows %+v", m.Feedback)
		}
	})
	var oneClick string
	w := newWorld(t, withFeedback(t, &oneClick), resource("acme", &policy.Tenant{ReturnPath: "back.acme.test"}))
	d := &comebackDesk{addr: w.news.smtp[0].Addrs()[0].String()}
	d.say(t, "EHLO mx.b.test", "MAIL FROM:<>", "RCPT TO:<nobody@back.acme.test>", "RCPT TO:<abuse@back.acme.test>", "DATA", postfixBounce("abuse@back.acme.test", "ann@b.test"))
	m := w.Metrics().Feedback
	if m.Mails["bounce"] != 1 || m.Ignored["no-token"] != 1 || m.Refused["address"] != 1 || m.News["late-bounce"] != 0 || m.Bytes == 0 {
		t.Errorf("metrics: %+v", m)
	}
}
