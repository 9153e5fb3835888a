package node

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

func TestRestartFindsEverything(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "held.test"}, Reason: "why", Author: "me"})
	heldID := w.send(mail{from: "s@s.test", to: []string{"a@held.test"}})
	scheduled := w.send(mail{from: "s@s.test", to: []string{"a@later.test"}, sendAt: time.Now().Add(700 * time.Millisecond)})
	body := `{"from":{"email":"s@s.test"},"to":[{"email":"a@idem.test"}],"subject":"x","text":"y","job":"idem"}`
	resp, first := postHTTP(t, w, body, "Idempotency-Key", "k1")
	if resp.StatusCode != 202 {
		t.Fatalf("%d %s", resp.StatusCode, first)
	}
	w.restart()
	w.waitFor(scheduled, message.EventDelivered, 1)
	if resp, again := postHTTP(t, w, body, "Idempotency-Key", "k1"); resp.StatusCode != 202 || again != first {
		t.Errorf("the same request is answered with %d %s, before with %s", resp.StatusCode, again, first)
	}
	if resp, _ := postHTTP(t, w, strings.Replace(body, `"x"`, `"z"`, 1), "Idempotency-Key", "k1"); resp.StatusCode != 409 {
		t.Errorf("the same key with another body: %d", resp.StatusCode)
	}
	if d := w.deliveryOf(heldID, 0); d == nil || d.Attempts != 0 {
		t.Errorf("the held delivery: %+v", d)
	}
	as, err := w.Actions(t.Context())
	if err != nil || len(as) != 1 || as[0].Reason != "why" || as[0].Author != "me" {
		t.Errorf("actions: %+v, %v", as, err)
	}
	w.act(api.ActionRequest{Verb: api.VerbRelease, Scope: api.Scope{Destination: "held.test"}})
	w.waitFor(heldID, message.EventDelivered, 1)
	w.empty()
	if n := r.to("a@idem.test"); n != 1 {
		t.Errorf("the idempotent message arrived %d times", n)
	}
	checkLedger(t, w.log(api.EventQuery{}))
}

func TestDrainGivesBackWhatIsInHand(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	const total = 2000
	var to []string
	for i := range total {
		to = append(to, fmt.Sprintf("r%d@d%d.test", i, i%5))
	}
	w.act(api.ActionRequest{Verb: api.VerbHold, All: true})
	w.send(mail{from: "s@s.test", to: to, oneEach: true})
	w.act(api.ActionRequest{Verb: api.VerbRelease, All: true})
	for round := 0; len(r.all()) < total && round < 50; round++ {
		before := len(r.all())
		until(t, "some deliveries", func() bool { n := len(r.all()); return n > before+100 || n == total })
		w.restart()
	}
	w.empty()
	for _, rcpt := range to {
		if n := r.to(rcpt); n != 1 {
			t.Fatalf("%s got it %d times", rcpt, n)
		}
	}
	checkLedger(t, w.log(api.EventQuery{}))
	if got := w.typesNow(); got[message.EventDelivered] != total {
		t.Errorf("%v", got)
	}
}

func TestDrainWithoutWorkIsQuick(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainTimeout = time.Hour }, held)
	w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	begun := time.Now()
	w.close()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestStartThatFailsLeavesNothingBehind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := &policies{}
	p.use(t, held)
	cfg := Config{Name: "n", Hostname: "n.test", DataDir: t.TempDir(), Policy: p,
		SMTP: []ingest.SMTPListener{{Listen: "127.0.0.1:0"}}, HTTP: &ingest.HTTPListener{Listen: l.Addr().String()}} // taken
	cfg.Resolver.Servers = []string{"127.0.0.1:9"}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Run: %v", err)
	}
	if _, err := New(cfg); err == nil {
		t.Error("a second node on the same directory")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	until(t, "all goroutines to end", func() bool { return len(ownGoroutines()) == 0 })
	if len(p.mu.watchers) != 0 {
		t.Error("it still watches the policy")
	}
	cfg.HTTP = nil
	if n, err = New(cfg); err != nil {
		t.Fatalf("after the end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil {
		t.Errorf("a node that is told to end while it starts: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestKillLosesNothingAndLogsOnce kills a node in its work and looks at what
// it left: each transition is in the event log once, and log, spool and
// receiver agree.
func TestKillLosesNothingAndLogsOnce(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	dir := t.TempDir()
	acked := 0
	for round := range 4 {
		p := startChild(t, childSetup{Dir: dir, Sink: r.Addr, Retry: true})
		var wg sync.WaitGroup
		for g := range 3 {
			wg.Go(func() {
				c := dialAddr(t, p.smtp)
				c.cmd("EHLO c.test", "250")
				for i := range 60 {
					name := []string{"ok", "bounce", "defer"}[i%3]
					smtpSend(c, "s@back.test", fmt.Sprintf("%s%d-%d-%d@d%d.test", name, round, g, i, i%4))
				}
			})
		}
		wg.Wait()
		acked += 180
		_ = p.kill()
	}
	// What was deferred is let through, so that all comes to an end.
	free := receive(t, sink.Options{Recipient: func(from, to string) string {
		if strings.HasPrefix(to, "bounce") {
			return sink.ByName(from, to)
		}
		return ""
	}})
	w := opened(t, dir, toSink(free.Addr))
	w.act(api.ActionRequest{Verb: api.VerbRetry, All: true})
	w.empty()
	var es []message.EventRecord
	until(t, "all ends to be logged", func() bool {
		es = w.log(api.EventQuery{})
		got := types(es)
		return got[message.EventDelivered]+got[message.EventBounced] >= got[message.EventAccepted]
	})
	checkLedger(t, es)
	mails, notices := 0, 0
	for _, e := range es {
		if e.Type == message.EventAccepted {
			if e.Via == "dsn" {
				notices++
			} else {
				mails++
			}
		}
	}
	got := types(es)
	if mails != acked || notices != got[message.EventBounced] || got[message.EventBounced] != acked/3 || got[message.EventDelivered] != acked*2/3+notices {
		t.Errorf("%d acknowledged: %v, of the accepted %d are mail and %d notices", acked, got, mails, notices)
	}
	// Nothing is lost, and what arrived twice was in flight at a kill.
	twice := 0
	for round := range 4 {
		for g := range 3 {
			for i := range 60 {
				if i%3 == 1 {
					continue
				}
				rcpt := fmt.Sprintf("%s%d-%d-%d@d%d.test", []string{"ok", "", "defer"}[i%3], round, g, i, i%4)
				n := r.to(rcpt) + free.to(rcpt)
				if n == 0 {
					t.Errorf("%s is lost", rcpt)
				}
				twice += max(0, n-1)
			}
		}
	}
	if twice > 4*40 {
		t.Errorf("%d duplicates of 4 kills", twice)
	}
}

func TestCancelSurvivesAKill(t *testing.T) {
	r := receive(t, sink.Options{})
	dir := t.TempDir()
	w := newWorld(t, func(c *Config) { c.DataDir = dir }, toSink(r.Addr))
	// An order that was written, and a job's that was not, when the process died.
	later := time.Now().Add(time.Hour)
	a := w.send(mail{from: "s@s.test", to: []string{"a@x.test"}, sendAt: later})
	j := w.send(mail{from: "s@s.test", to: []string{"b@y.test"}, job: "j", sendAt: later})
	keep := w.send(mail{from: "s@s.test", to: []string{"c@z.test"}, sendAt: later})
	if err := w.spool.PutAction(t.Context(), spoolAction(w.Node, api.VerbCancel, message.Scope{Destination: "x.test"})); err != nil {
		t.Fatal(err)
	}
	job, err := w.spool.Job(policy.DefaultName, "j")
	if err != nil {
		t.Fatal(err)
	}
	job.State = "cancelled"
	if err := w.spool.PutJob(t.Context(), policy.DefaultName, "j", job.JobOrder); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.waitFor(a, message.EventCancelled, 1)
	w.waitFor(j, message.EventCancelled, 1)
	if w.deliveryOf(keep, 0) == nil {
		t.Error("mail outside the scope was ended too")
	}
	until(t, "the actions to be through", func() bool {
		as, err := w.Actions(t.Context())
		return err == nil && len(as) == 0
	})
}

func TestTermEndsTheProcessInPeace(t *testing.T) {
	r := receive(t, sink.Options{})
	dir := t.TempDir()
	p := startChild(t, childSetup{Dir: dir, Sink: r.Addr})
	c := dialAddr(t, p.smtp)
	c.cmd("EHLO c.test", "250")
	for i := range 200 {
		smtpSend(c, "s@s.test", fmt.Sprintf("r%d@d.test", i))
	}
	p.end()
	w := opened(t, dir, toSink(r.Addr))
	w.empty()
	until(t, "all to be logged", func() bool { return w.typesNow()[message.EventDelivered] == 200 })
	for i := range 200 {
		if n := r.to(fmt.Sprintf("r%d@d.test", i)); n != 1 {
			t.Errorf("r%d got it %d times", i, n)
		}
	}
}

func spoolAction(n *Node, verb string, scope message.Scope) spool.Action {
	return spool.Action{ID: n.ids.New(n.now()).String(), Kind: verb, Scope: scope, Created: n.now()}
}
