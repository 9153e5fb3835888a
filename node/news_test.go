package node

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/reputation/feedback"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// withFeedback gives a node listeners for what comes back.
func withFeedback(t *testing.T, http *string) func(*Config) {
	keys, err := feedback.NewKeys(bytes.Repeat([]byte{7}, feedback.KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) {
		c.Feedback = &FeedbackConfig{Keys: keys, SMTP: []ingest.SMTPListener{{Listen: "127.0.0.1:0"}}, HTTP: &FeedbackHTTP{Listen: func() (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				*http = l.Addr().String()
			}
			return l, err
		}}}
	}
}

// TestAHardBounceIsSentNoMore: who is no user is refused once by the carrier, and
// from then on by us, without a word to the carrier. Another tenant may still try.
func TestAHardBounceIsSentNoMore(t *testing.T) {
	asked := make(chan string, 100)
	r := receive(t, sink.Options{Recipient: func(from, to string) string { asked <- from + " " + to; return sink.ByName(from, to) }})
	w := newWorld(t, nil, toSink(r.Addr), resource("other", &policy.Tenant{}))
	id := w.send(mail{from: "s@s.test", to: []string{"bounce@b.test"}})
	e := w.waitFor(id, message.EventBounced, 1)[0]
	if e.Category != "unknown-user" || e.Rule == "" {
		t.Errorf("category %q by rule %q, want unknown-user", e.Category, e.Rule)
	}
	until(t, "the list to know", func() bool {
		_, yes := w.Suppressions().Suppressed(policy.DefaultName, "BOUNCE@b.test", "any")
		return yes
	})
	id = w.send(mail{from: "s@s.test", to: []string{"Bounce@B.test", "ok@b.test"}})
	e = w.waitFor(id, message.EventSuppressed, 1)[0]
	if e.Recipient != "Bounce@B.test" || e.Category != "suppressed" || !strings.Contains(e.Reply.Text, "unknown-user") || e.Reply.Code != 550 {
		t.Errorf("%+v", e)
	}
	w.waitFor(id, message.EventDelivered, 1)
	w.waitFor(w.send(mail{tenant: "other", from: "s@o.test", to: []string{"bounce@b.test"}}), message.EventBounced, 1)
	w.empty()
	w.balance()
	close(asked)
	var got []string
	for a := range asked {
		if !strings.HasPrefix(a, " ") { // not the notices
			got = append(got, a)
		}
	}
	want := []string{"s@s.test bounce@b.test", "s@s.test ok@b.test", "s@o.test bounce@b.test"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the receiver was asked for %q, want %q", got, want)
	}
}

// TestSuppressedMeanwhile: what was put on the list after acceptance, and before
// the attempt, is not sent either. The rest of the delivery is.
func TestSuppressedMeanwhile(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "b.test"}})
	id := w.send(mail{from: "s@s.test", to: []string{"a@b.test", "gone@b.test", "c@b.test"}})
	if _, err := w.Suppressions().Add([]suppression.Entry{{Tenant: policy.DefaultName, Address: "gone@b.test", Kind: suppression.Manual, By: "test"}}); err != nil {
		t.Fatal(err)
	}
	w.act(api.ActionRequest{Verb: api.VerbRelease, Scope: api.Scope{Destination: "b.test"}})
	w.waitFor(id, message.EventDelivered, 2)
	w.waitFor(id, message.EventSuppressed, 1)
	w.empty()
	w.balance()
	for _, m := range r.all() {
		if strings.Contains(fmt.Sprint(m), "gone@b.test") && !strings.Contains(fmt.Sprint(m), "Undelivered") {
			t.Errorf("it was sent: %v", m)
		}
	}
}

// TestManySuppressedAtOnce: half of a job's page is on the list; each of them
// ends once, and the others arrive.
func TestManySuppressedAtOnce(t *testing.T) {
	const each = 400
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	var to []string
	var es []suppression.Entry
	for i := range each {
		gone := fmt.Sprintf("gone%d@b%d.test", i, i%5)
		to = append(to, gone, fmt.Sprintf("ok%d@b%d.test", i, i%5))
		es = append(es, suppression.Entry{Tenant: policy.DefaultName, Address: gone, Kind: suppression.Import, By: "test"})
	}
	if _, err := w.Suppressions().Add(es); err != nil {
		t.Fatal(err)
	}
	id := w.send(mail{from: "s@s.test", to: to, oneEach: true, job: "news"})
	w.waitFor(id, message.EventDelivered, each)
	w.waitFor(id, message.EventSuppressed, each)
	w.empty()
	w.balance()
	for _, m := range r.all() {
		if strings.HasPrefix(m.to[0], "gone") {
			t.Fatalf("it was sent: %v", m.to)
		}
	}
}

// TestARestKeepsItsRound: of a delivery that is in the middle of its round some
// are suppressed: those that have had their part still wait for the retry, and
// are not asked again with the rest.
func TestARestKeepsItsRound(t *testing.T) {
	w := newWorld(t, nil, toSink("127.0.0.1:9"))
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "b.test"}})
	id := w.send(mail{from: "s@s.test", to: []string{"gone@b.test", "fresh@b.test", "deferred@b.test"}})
	if _, err := w.Suppressions().Add([]suppression.Entry{{Tenant: policy.DefaultName, Address: "gone@b.test", Kind: suppression.Manual, By: "test"}}); err != nil {
		t.Fatal(err)
	}
	d := w.deliveryOf(id, 0)
	w.dispatch.parted.set(d.ID, 2)
	var taken bool
	w.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { taken = s.Take(now, d) })
	if !taken {
		t.Fatal("somebody has it")
	}
	w.endSuppressed(d)
	w.waitFor(id, message.EventSuppressed, 1)
	until(t, "the rest to be noted", func() bool { return w.dispatch.parted.of(d.ID) == 1 })
	if left := w.deliveryOf(id, 0); len(left.Recipients) != 2 || left.Recipients[0].Address != "fresh@b.test" || left.Attempts != 0 {
		t.Errorf("%+v", left)
	}
}

// TestA5xxThatMeansLater: the carrier's words decide, not the first digit.
func TestA5xxThatMeansLater(t *testing.T) {
	r := receive(t, sink.Options{Recipient: func(_, to string) string { return "550 Ip frequency limited" }})
	w := newWorld(t, nil, toSink(r.Addr), resource("qq", &policy.Carrier{Domains: []string{"qq.test"}}))
	id := w.send(mail{from: "s@s.test", to: []string{"slow@qq.test"}})
	e := w.waitFor(id, message.EventDeferred, 1)[0]
	if e.Reply.Code != 550 || e.Category != "rate" {
		t.Errorf("%+v", e)
	}
	if d := w.deliveryOf(id, 0); d == nil || d.Attempts != 1 {
		t.Errorf("it is not queued any more: %+v", d)
	}
	if _, yes := w.Suppressions().Suppressed(policy.DefaultName, "slow@qq.test", ""); yes {
		t.Error("its recipient is suppressed")
	}
}

var returnPath = regexp.MustCompile(`^b-[a-z2-7]+@back\.acme\.test$`)

// TestABounceFindsItsWayBack: mail leaves with an envelope sender of its own for
// each recipient; a bounce to that is recorded beside the recipient's end and
// stops further mail. A forged one does nothing.
func TestABounceFindsItsWayBack(t *testing.T) {
	r := receive(t, sink.Options{})
	var oneClick string
	w := newWorld(t, withFeedback(t, &oneClick), toSink(r.Addr), resource("acme", &policy.Tenant{ReturnPath: "back.acme.test"}))
	w.waitFor(w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"one@b.test"}}), message.EventDelivered, 1)
	if m := r.all()[0]; !strings.HasPrefix(string(m.data), feedback.TraceHeader+": t-") {
		t.Errorf("no trace in\n%s", m.data)
	}
	id := w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"ann@b.test", "bob@b.test"}})
	w.waitFor(id, message.EventDelivered, 2)
	senders := map[string]string{}
	for _, m := range r.all()[1:] {
		if !returnPath.MatchString(m.from) || len(m.to) != 1 {
			t.Fatalf("envelope %q → %q", m.from, m.to)
		}
		senders[m.to[0]] = m.from
	}
	if senders["ann@b.test"] == senders["bob@b.test"] {
		t.Fatalf("one envelope sender for two: %v", senders)
	}
	d := &comebackDesk{addr: w.news.smtp[0].Addrs()[0].String()}
	bounce := func(to, about string) {
		got := d.say(t, "EHLO mx.b.test", "MAIL FROM:<>", "RCPT TO:<"+to+">", "DATA", postfixBounce(to, about))
		if !strings.HasPrefix(got[len(got)-1], "250") {
			t.Errorf("a bounce of %s to %s: %q", about, to, got)
		}
	}
	bounce(senders["bob@b.test"], "ann@b.test") // bob's token says nothing of ann
	bounce(senders["ann@b.test"], "ann@b.test")
	bounce(senders["ann@b.test"], "ann@b.test") // again: nothing new
	late := w.waitFor(id, message.EventLateBounce, 1)
	if len(late) != 1 || late[0].Recipient != "ann@b.test" || late[0].Tenant != "acme" || late[0].Category != "unknown-user" || late[0].Reply.Code != 550 {
		t.Errorf("late bounces: %+v", late)
	}
	until(t, "ann to be suppressed", func() bool {
		_, yes := w.Suppressions().Suppressed("acme", "ann@b.test", "")
		return yes
	})
	if _, yes := w.Suppressions().Suppressed("acme", "bob@b.test", ""); yes {
		t.Error("bob is suppressed")
	}
	w.balance() // the ledger is as it was: ann's mail was delivered
}

var oneClickLink = regexp.MustCompile(`List-Unsubscribe: <https://mail\.acme\.test/off(/[^>]+)>`)

// TestOneClickUnsubscribes: bulk mail has the link, signed by whoever signs the
// rest; fetching it changes nothing, posting to it does.
func TestOneClickUnsubscribes(t *testing.T) {
	r := receive(t, sink.Options{})
	var oneClick string
	w := newWorld(t, withFeedback(t, &oneClick), toSink(r.Addr), resource("acme", &policy.Tenant{UnsubscribeURL: "https://mail.acme.test/off"}))
	w.waitFor(w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"t@b.test"}}), message.EventDelivered, 1)
	if data := string(r.all()[0].data); strings.Contains(data, "List-Unsubscribe") {
		t.Errorf("mail to one of no job has a link:\n%s", data)
	}
	id := w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"ann@b.test"}, job: "news"})
	w.waitFor(id, message.EventDelivered, 1)
	data := string(r.all()[1].data)
	link := oneClickLink.FindStringSubmatch(data)
	if link == nil || !strings.Contains(data, "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") {
		t.Fatalf("no link in\n%s", data)
	}
	status := func(resp *http.Response, err error) int {
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{}, DisableKeepAlives: true}}
	url := "http://" + oneClick + link[1]
	if got := status(client.Get(url)); got != 200 {
		t.Errorf("GET: %d", got)
	}
	if _, yes := w.Suppressions().Suppressed("acme", "ann@b.test", ""); yes {
		t.Fatal("a GET unsubscribed")
	}
	form := func(u string) int {
		return status(client.Post(u, "application/x-www-form-urlencoded", strings.NewReader(feedback.OneClick)))
	}
	if got := form(url[:len(url)-3] + "aaa"); got != 404 {
		t.Errorf("a forged link: %d", got)
	}
	if got := form(url); got != 200 {
		t.Errorf("POST: %d", got)
	}
	w.waitFor(id, message.EventUnsubscribed, 1)
	id = w.send(mail{tenant: "acme", from: "s@acme.test", to: []string{"ann@b.test"}, job: "news-2"})
	w.waitFor(id, message.EventSuppressed, 1)
	w.balance()
}
