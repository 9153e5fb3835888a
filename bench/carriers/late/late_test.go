package late_test

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/carriers/late"
	"hikyaku/bench/sink"
)

func notice(kind late.Kind, n int, due time.Time) late.Notice {
	return late.Notice{Kind: kind, Carrier: "try", Host: "mx.try.test", From: fmt.Sprintf("b+%d@shop.test", n), To: fmt.Sprintf("r%d@try.test", n), Source: "127.0.8.1", Arrived: due, Due: due}
}

// TestForeignTextStaysInItsPlace: an address with line breaks, which a strict
// sink does not let in, adds no header.
func TestForeignTextStaysInItsPlace(t *testing.T) {
	for _, kind := range []late.Kind{late.Bounce, late.Complaint} {
		n := notice(kind, 1, time.Now())
		n.To, n.From, n.Text = "x\r\nBcc: y@z.test", "a@b.test\nX: 1", "550 no\r\n\r\nmore"
		text := string(n.Append(nil, n.From, time.Now(), "1"))
		if strings.Contains(text, "\nBcc:") || strings.Contains(text, "\nX: 1") || strings.Contains(text, "\r\nmore") {
			t.Errorf("%s: foreign text begins a line:\n%s", kind, text)
		}
		if _, err := mail.ReadMessage(strings.NewReader(text)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestNoticesComeWhenDue: in the order of their times, whatever the order in
// which they were added; what does not fit or has nobody to go to is counted.
func TestNoticesComeWhenDue(t *testing.T) {
	got := make(chan string, 10)
	back, err := sink.Start(sink.Options{Message: func(r *sink.Received) string {
		got <- r.To[0]
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	p := late.New(late.Options{SMTP: back.Addr, Most: 3})
	now := time.Now()
	p.Add(notice(late.Bounce, 3, now.Add(150*time.Millisecond)))
	p.Add(notice(late.Complaint, 1, now))
	p.Add(notice(late.Bounce, 2, now.Add(75*time.Millisecond)))
	p.Add(notice(late.Bounce, 4, now)) // the queue is full
	nobody := notice(late.Bounce, 5, now)
	nobody.From = ""
	p.Add(nobody)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	for n := 1; n <= 3; n++ {
		select {
		case to := <-got:
			if want := fmt.Sprintf("b+%d@shop.test", n); to != want {
				t.Errorf("notice %d goes to %s, want %s", n, to, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("notice %d did not come: %+v", n, p.Counters())
		}
	}
	until(t, p, func(c late.Counters) bool { return c.Sent == 3 })
	stop()
	<-ended
	if c := p.Counters(); c != (late.Counters{Sent: 3, Lost: 2}) {
		t.Errorf("counters %+v, want 3 sent and 2 lost", c)
	}
}

// TestAServerThatRefuses is asked three times, then given up. Nothing hangs.
func TestAServerThatRefuses(t *testing.T) {
	asked := make(chan bool, 10)
	back, err := sink.Start(sink.Options{Recipient: func(string, string) string { asked <- true; return "451 later" }})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	p := late.New(late.Options{SMTP: back.Addr, Complaints: "fbl@shop.test", Pause: 10 * time.Millisecond})
	p.Add(notice(late.Complaint, 1, time.Now()))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	until(t, p, func(c late.Counters) bool { return c.Failed > 0 })
	stop()
	<-ended
	if c := p.Counters(); len(asked) != 3 || c.Failed != 1 || c.Waiting != 0 {
		t.Errorf("asked %d times, counters %+v", len(asked), c)
	}
}

func until(t *testing.T, p *late.Post, cond func(late.Counters) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !cond(p.Counters()) {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("counters are %+v after ten seconds", p.Counters())
		}
	}
}
