package bench

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
)

// TestJobByHTTP is a bulk submission from its first progress to its cancel.
func TestJobByHTTP(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	const recipients = 200
	h.CLI(t, "queue", "hold", "--job", "autumn", "--reason", "not yet")
	submitJob(t, h, recipients)
	job := func() map[string]any {
		status, j := h.Get(t, "http://"+h.HTTP+"/v1/jobs/autumn")
		if status != 200 {
			t.Fatalf("job: %d %v", status, j)
		}
		return j
	}
	patch := func(change map[string]any) {
		t.Helper()
		if status, j := h.Send(t, "PATCH", "/v1/jobs/autumn", change); status != 200 {
			t.Fatalf("PATCH %v: %d %v", change, status, j)
		}
	}
	if j := job(); j["accepted"] != 200.0 || j["queued"] != 200.0 || j["delivered"] != 0.0 {
		t.Errorf("held: %v", j)
	}
	patch(map[string]any{"state": "paused", "rate": "50/s"})
	h.CLI(t, "queue", "release", "--job", "autumn")
	if out := h.CLI(t, "queue", "why", "--job", "autumn"); !strings.Contains(out, "job autumn is paused") {
		t.Errorf("paused, but queue why says:\n%s", out)
	}
	start := time.Now()
	patch(map[string]any{"state": "active"})
	peers.Until(t, 20*time.Second, "the first 20 of the job", func() bool { return job()["delivered"].(float64) >= 20 })
	patch(map[string]any{"state": "paused"})
	if n, most := len(in.all()), 50*time.Since(start).Seconds()+10; float64(n) > most {
		t.Errorf("%d sent at 50/s in %v", n, time.Since(start))
	}
	if j := job(); j["state"] != "paused" || j["rate"] != "50/s" {
		t.Errorf("paused: %v", j)
	}
	patch(map[string]any{"state": "active", "rate": ""})
	peers.Until(t, 20*time.Second, "more of the job", func() bool { return job()["delivered"].(float64) >= 30 })
	if status, j := h.Send(t, "DELETE", "/v1/jobs/autumn", nil); status != 200 || j["state"] != "cancelled" {
		t.Fatalf("cancel: %d %v", status, j)
	}
	peers.Until(t, 20*time.Second, "the end of the job", func() bool { return job()["queued"] == 0.0 })
	j := job()
	if j["delivered"].(float64)+j["cancelled"].(float64) != recipients || float64(len(in.all())) != j["delivered"] {
		t.Errorf("%d received; the job says %v", len(in.all()), j)
	}
	checkRendered(t, in.all())
}

func submitJob(t *testing.T, h *peers.Hikyaku, recipients int) {
	t.Helper()
	var to []any
	for i := range recipients {
		to = append(to, map[string]any{"email": fmt.Sprintf("r%d@d%d.test", i, i%10), "vars": map[string]any{"code": fmt.Sprintf("<code-%d>", i)}})
	}
	status, answer := h.Post(t, "/v1/messages", map[string]any{
		"job": "autumn", "from": map[string]any{"email": "news@sender.test"}, "subject": "code {{code}}", "text": "Your code: {{code}}\n", "html": "<p>{{code}}</p>", "to": to,
	})
	if status != 202 || answer["job"] != "autumn" || len(answer["messages"].([]any)) != recipients {
		t.Fatalf("submit: %d %v", status, answer)
	}
}

// checkRendered: each has what is theirs, escaped in HTML only, and nobody
// sees another's address.
func checkRendered(t *testing.T, ms []sink.Received) {
	t.Helper()
	for _, m := range ms {
		if len(m.To) != 1 {
			t.Errorf("a message to %v", m.To)
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(m.To[0], "r"), "@")
		for _, want := range []string{"To: " + m.To[0], "Subject: code <code-" + name + ">", "Your code: <code-" + name + ">", "<p>&lt;code-" + name + "&gt;</p>"} {
			if !bytes.Contains(m.Data, []byte("\r\n"+want+"\r\n")) {
				t.Errorf("the message to %s lacks %q:\n%s", m.To[0], want, m.Data)
			}
		}
		if n := bytes.Count(m.Data, []byte("@d")); n != 1 {
			t.Errorf("%d recipients are named in:\n%s", n, m.Data)
		}
	}
}

// TestIdempotencyKeySurvivesKill: a client that did not get its answer asks
// again after the crash and gets the same one; nothing is accepted twice.
func TestIdempotencyKeySurvivesKill(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	h.CLI(t, "queue", "hold", "example.test") // what is in flight at a kill may be sent twice; this is not
	body := map[string]any{"from": map[string]any{"email": "a@sender.test"}, "subject": "once", "text": "x", "to": []any{map[string]any{"email": "b@example.test"}}}
	status, first := h.Post(t, "/v1/messages", body, "Idempotency-Key", "order-7")
	if status != 202 {
		t.Fatalf("%d %v", status, first)
	}
	_ = h.Kill()
	h.Restart(t)
	status, again := h.Post(t, "/v1/messages", body, "Idempotency-Key", "order-7")
	if status != 202 || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("after the kill: %d %v, before %v", status, again, first)
	}
	body["subject"] = "twice"
	if status, answer := h.Post(t, "/v1/messages", body, "Idempotency-Key", "order-7"); status != 409 {
		t.Errorf("same key, other body: %d %v", status, answer)
	}
	if out := h.CLI(t, "queue", "why", "example.test"); !strings.Contains(out, "1 delivery queued") || !strings.Contains(out, "held by action") {
		t.Errorf("the hold is lost, or more is queued:\n%s", out)
	}
	h.CLI(t, "queue", "release", "example.test")
	in.wait(t, "Subject: once")
	peers.Until(t, 10*time.Second, "an empty queue", func() bool {
		_, l := h.Get(t, "http://"+h.Admin+"/v1/queues?limit=10")
		return l["total"] == 0.0
	})
	if n := len(in.all()); n != 1 {
		t.Errorf("%d messages were sent", n)
	}
}

// TestBounceComesBack: a real Postfix refuses the recipient, and takes our
// notice for the sender.
func TestBounceComesBack(t *testing.T) {
	pf := peers.StartPostfix(t, peers.PostfixOptions{Domains: []string{"sender.test", "example.test"},
		Extra: []string{"smtpd_recipient_restrictions = check_recipient_access inline:{{nobody@example.test = 550 5.1.1 nobody of that name}}, permit_mynetworks, reject_unauth_destination"}})
	// A Postfix that has just started on a busy machine may put mail off once.
	soon := "---\nkind: Carrier\nname: default\nspec: {retry: {schedule: [1s]}, backoff: 1s}\n"
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(pf.Addr) + soon})
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.Run(t, "", "events", "search", "--type", "deferred")
			t.Logf("deferred:\n%s", out)
		}
	})
	out, ok := swaks(t, "--server", h.SMTP, "--from", "taro@sender.test", "--to", "nobody@example.test,hanako@example.test", "--h-Subject", "to two")
	if !ok {
		t.Fatalf("not accepted:\n%s", out)
	}
	pf.WaitMessage(t, "Return-Path: <taro@sender.test>") // the other one got it
	dsn := pf.WaitMessage(t, "Content-Type: multipart/report")
	for _, want := range []string{"Return-Path: <>", "report-type=delivery-status", "\nTo: <taro@sender.test>", "Content-Type: message/delivery-status", "Final-Recipient: rfc822; nobody@example.test",
		"Action: failed", "Status: 5.1.1", "nobody of that name", "Auto-Submitted: auto-replied"} {
		if !strings.Contains(dsn, want) {
			t.Errorf("the notice lacks %q:\n%s", want, dsn)
		}
	}
	if strings.Contains(dsn, "Final-Recipient: rfc822; hanako@example.test") {
		t.Errorf("the notice names the recipient who got it:\n%s", dsn)
	}
	events := h.CLI(t, "events", "search", "--type", "bounced")
	if strings.Count(events, "\n") != 1 || !strings.Contains(events, "nobody@example.test") || !strings.Contains(events, "550 5.1.1") {
		t.Errorf("bounced events:\n%s", events)
	}
}
