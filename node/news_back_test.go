package node

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/reputation/feedback"
	"hikyaku/reputation/steer"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// complaintAbout is a feedback report (RFC 5965) whose recipient is redacted, as
// several providers do: only the trace in the returned header tells.
func complaintAbout(trace, to string) string {
	return strings.ReplaceAll(`From: <feedback@isp.example>
Subject: FW: hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="arf"

--arf
Content-Type: text/plain

This is an email abuse report.

--arf
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Generator/1.0
Version: 1

--arf
Content-Type: message/rfc822

`+trace+`
To: `+to+`
Subject: hello

hello

--arf--
.`, "\n", "\r\n")
}

// sent is mail as a receiver got it, with the source that carried it.
type sent struct {
	id                  message.ID
	from, source, trace string
}

// backWorld is a node with two sources and a tenant whose mail can come back, and
// who writes to it.
type backWorld struct {
	*world
	r *receiver
}

func newBackWorld(t *testing.T) *backWorld {
	r := receive(t, sink.Options{})
	var oneClick string
	return &backWorld{newWorld(t, withFeedback(t, &oneClick), toSink(r.Addr), resource("acme", &policy.Tenant{ReturnPath: "back.acme.test"}),
		resource("c", &policy.Carrier{Domains: []string{"c.test"}}),
		resource("a", &policy.Source{EHLO: "a.test"}), resource("b", &policy.Source{EHLO: "b.test"}),
		resource("default", &policy.Pool{Sources: []policy.PoolMember{{Name: "a"}, {Name: "b"}}})), r}
}

// mailTo sends one mail and waits for its end.
func (w *backWorld) mailTo(to string) sent {
	w.t.Helper()
	s := sent{id: w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{to}})}
	s.source = w.waitFor(s.id, message.EventDelivered, 1)[0].Source
	for _, d := range w.r.all() {
		if d.to[0] == to {
			s.from = d.from
			s.trace, _, _ = strings.Cut(d.data, "\r\n")
		}
	}
	if !strings.HasPrefix(s.trace, feedback.TraceHeader) || s.source == "" {
		w.t.Fatalf("mail to %s: %+v", to, s)
	}
	return s
}

// back hands mail to the listener.
func (w *backWorld) back(to, content string) {
	w.t.Helper()
	d := &comebackDesk{addr: w.news.smtp[0].Addrs()[0].String()}
	got := d.say(w.t, "EHLO mx.c.test", "MAIL FROM:<>", "RCPT TO:<"+to+">", "DATA", content)
	if !strings.HasPrefix(got[5], "250") {
		w.t.Fatalf("what comes back to %s: %q", to, got)
	}
}

// counted takes the counts of what came back since the last call.
func (w *backWorld) counted() (list []exchange.Tally) {
	all, _ := w.replies.Take()
	for _, t := range all {
		if t.Category != "delivered" {
			list = append(list, t)
		}
	}
	return list
}

// TestTheSourceThatSentAnswers: a late bounce and a complaint count for the source
// that had sent the mail, at its carrier, and lower how well it is liked there;
// not the other source's. Sites of no carrier are for themselves.
func TestTheSourceThatSentAnswers(t *testing.T) {
	w := newBackWorld(t)
	for _, domain := range []string{"c.test", "nobodys.test"} {
		seen := map[string]sent{}
		for _, other := range []string{"a", "b"} {
			w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Source: other}})
			s := w.mailTo("not-by-" + other + "@" + domain)
			seen[s.source] = s
			w.act(api.ActionRequest{Verb: api.VerbRelease, Scope: api.Scope{Source: other}})
		}
		a, b := seen["a"], seen["b"]
		w.counted()
		to := func(s sent) string {
			return w.log(api.EventQuery{ID: s.id.String(), Type: string(message.EventDelivered)})[0].Recipient
		}
		w.back(a.from, postfixBounce(a.from, to(a)))
		w.back("abuse@back.acme.test", complaintAbout(b.trace, to(b)))
		got := w.counted()
		for _, y := range got {
			want := exchange.Tally{Carrier: "c", Source: "a", Tenant: "acme", Category: "unknown-user", N: 1}
			if y.Category == steer.Complained {
				want.Source, want.Category = "b", steer.Complained
			}
			if domain == "nobodys.test" {
				want.Carrier, want.Site = policy.DefaultName, y.Site
				if y.Site == "" {
					t.Errorf("no site: %+v", y)
				}
			}
			if y != want {
				t.Errorf("counted %+v, want %+v", y, want)
			}
		}
		if len(got) != 2 {
			t.Fatalf("counted: %+v", got)
		}
		set, now := w.policy.Snapshot(), time.Now()
		c := steer.New(set, now)
		for _, y := range got {
			for _, source := range []string{"a", "b"} {
				fine := exchange.Tally{Carrier: y.Carrier, Site: y.Site, Source: source, Tenant: "acme", Category: "delivered", N: 50}
				c.Observe(now, "n1", []exchange.Tally{fine}, nil)
			}
		}
		c.Decide(now.Add(time.Second))
		before := scores(c, now.Add(time.Second))
		c.Observe(now.Add(2*time.Second), "n1", got[:1], nil)
		c.Decide(now.Add(3 * time.Second))
		after := scores(c, now.Add(3*time.Second))
		blamed, other := got[0].Source, map[string]string{"a": "b", "b": "a"}[got[0].Source]
		if before[blamed] != 100 || after[blamed] >= 100 || after[other] != 100 {
			t.Errorf("%s: scores went from %v to %v for news about %s", domain, before, after, blamed)
		}
		for _, e := range w.log(api.EventQuery{Type: string(message.EventLateBounce)}) {
			if e.Source != "a" {
				t.Errorf("the event names source %q", e.Source)
			}
		}
	}
}

// scores are those of sources at carriers.
func scores(c *steer.Controller, now time.Time) map[string]int {
	m := map[string]int{}
	for _, s := range c.Scores(now, steer.Filter{}) {
		if s.Source != "" {
			m[s.Source] = s.Score
		}
	}
	return m
}

// TestWhatOthersSayOfASourceIsNotBelieved: anybody who has a token can write that
// the source is blocked, and a server behind the carrier's may mean the carrier.
func TestWhatOthersSayOfASourceIsNotBelieved(t *testing.T) {
	w := newBackWorld(t)
	s := w.mailTo("ann@c.test")
	w.counted()
	blocked := strings.NewReplacer("5.1.1", "5.7.1", "User unknown", "blocked using zen.spamhaus.org").Replace(postfixBounce(s.from, "ann@c.test"))
	w.back(s.from, blocked)
	if e := w.waitFor(s.id, message.EventLateBounce, 1)[0]; e.Category != "blocked" || e.Source != s.source {
		t.Fatalf("the event: %+v", e)
	}
	if got := w.counted(); len(got) != 1 || got[0].Source != "" || got[0].Category != "blocked" || got[0].Tenant != "acme" {
		t.Errorf("counted: %+v", got)
	}
}

// TestNewsIsTakenOnce: the same report again writes nothing and counts nothing,
// also after a restart; and an address that was taken off the list by hand stays
// off it.
func TestNewsIsTakenOnce(t *testing.T) {
	w := newBackWorld(t)
	bounced, complained := w.mailTo("ann@c.test"), w.mailTo("bob@c.test")
	w.counted()
	report := func() {
		w.back(bounced.from, postfixBounce(bounced.from, "ann@c.test"))
		w.back("abuse@back.acme.test", complaintAbout(complained.trace, "bob@c.test"))
	}
	report()
	if n := len(w.counted()); n != 2 {
		t.Fatalf("%d counted, want 2", n)
	}
	var refs []suppression.Ref
	for _, a := range []string{"ann@c.test", "bob@c.test"} {
		if _, yes := w.Suppressions().Suppressed("acme", a, ""); !yes {
			t.Errorf("%s is not suppressed", a)
		}
		refs = append(refs, suppression.Ref{Tenant: "acme", Address: a})
	}
	if _, err := w.Suppressions().Remove(refs, "test", "they asked for it"); err != nil {
		t.Fatal(err)
	}
	report()
	w.restart()
	report()
	if got := w.counted(); len(got) != 0 {
		t.Errorf("counted again: %+v", got)
	}
	for _, r := range refs {
		if _, yes := w.Suppressions().Suppressed("acme", r.Address, ""); yes {
			t.Errorf("%s is suppressed again by an old report", r.Address)
		}
	}
	for _, typ := range []message.EventType{message.EventLateBounce, message.EventComplained} {
		if es := w.log(api.EventQuery{Type: string(typ)}); len(es) != 1 {
			t.Errorf("%d events %s, want 1", len(es), typ)
		}
	}
	if m := w.Metrics().Feedback; m.Ignored["replayed"] != 2 || m.News["complained"] != 0 {
		t.Errorf("metrics since the restart: %+v", m)
	}
}

// TestTwoNodesCountOnce: a report that comes to two nodes is in the log of both,
// and counts at the first, once the second has its entry.
func TestTwoNodesCountOnce(t *testing.T) {
	w := newBackWorld(t)
	s := w.mailTo("ann@c.test")
	w.counted()
	// As the other node's entry is when it has come here.
	_, err := w.Suppressions().Add([]suppression.Entry{{Tenant: "acme", Address: "ann@c.test", Kind: suppression.Bounce, Event: w.deliveryID(s), By: "node n2"}})
	if err != nil {
		t.Fatal(err)
	}
	w.back(s.from, postfixBounce(s.from, "ann@c.test"))
	w.waitFor(s.id, message.EventLateBounce, 1)
	if got := w.counted(); len(got) != 0 {
		t.Errorf("counted: %+v", got)
	}
}

func (w *backWorld) deliveryID(s sent) string {
	return w.log(api.EventQuery{ID: s.id.String(), Type: string(message.EventDelivered)})[0].ID.String()
}

// TestUnsubscribedOnceMore: somebody whom an operator has taken off the list
// presses the button of the same mail again: what the page says is done. Pressed
// twice it is one event.
func TestUnsubscribedOnceMore(t *testing.T) {
	r := receive(t, sink.Options{})
	var oneClick string
	w := newWorld(t, withFeedback(t, &oneClick), toSink(r.Addr), resource("acme", &policy.Tenant{UnsubscribeURL: "https://mail.acme.test/off"}))
	id := w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"ann@b.test"}, job: "news"})
	w.waitFor(id, message.EventDelivered, 1)
	link := oneClickLink.FindStringSubmatch(r.all()[0].data)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func() {
		t.Helper()
		resp, err := client.Post("http://"+oneClick+link[1], "application/x-www-form-urlencoded", strings.NewReader(feedback.OneClick))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if _, yes := w.Suppressions().Suppressed("acme", "ann@b.test", policy.DefaultName); resp.StatusCode != 200 || !yes {
			t.Errorf("%d, suppressed %v", resp.StatusCode, yes)
		}
	}
	for i, restart := range []bool{false, true} {
		post()
		post()
		if es := w.log(api.EventQuery{Type: string(message.EventUnsubscribed)}); len(es) != i+1 {
			t.Errorf("%d events, want %d", len(es), i+1)
		}
		es, err := w.Suppressions().Get("acme", "ann@b.test")
		if err != nil || len(es) != 1 {
			t.Fatalf("%+v, %v", es, err)
		}
		if restart {
			w.restart()
			post()
		}
		if _, err := w.Suppressions().Remove([]suppression.Ref{es[0].Ref()}, "test", "they asked for it"); err != nil {
			t.Fatal(err)
		}
	}
	if es := w.log(api.EventQuery{Type: string(message.EventUnsubscribed)}); len(es) != 2 {
		t.Errorf("%d events in the end, want 2", len(es))
	}
}

// TestACrashTakesNoSuppression: the list's disk is set back to before a hard
// bounce, as a crash leaves it that came between the outcome and the list. The
// event log tells it again; what a person has removed since stays removed.
func TestACrashTakesNoSuppression(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr))
	dir := filepath.Join(w.cfg.DataDir, "suppression")
	listed := func() bool {
		_, yes := w.Suppressions().Suppressed(policy.DefaultName, "bounce@b.test", "")
		return yes
	}
	until(t, "the list to have a mark", func() bool {
		at, err := w.news.store.Marked()
		return err == nil && !at.IsZero()
	})
	w.close()
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.waitFor(w.send(mail{from: "s@s.test", to: []string{"bounce@b.test"}}), message.EventBounced, 1)
	until(t, "the list to know", listed)
	w.close()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(before))); err != nil {
		t.Fatal(err)
	}
	w.start()
	until(t, "the list to know again", listed)
	if _, err := w.Suppressions().Remove([]suppression.Ref{{Tenant: policy.DefaultName, Address: "bounce@b.test"}}, "test", ""); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.waitFor(w.send(mail{from: "s@s.test", to: []string{"bounce@b.test"}}), message.EventBounced, 1) // and not suppressed
}
