package node

import (
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// noticesTo are the notices that a sender got.
func (r *receiver) noticesTo(sender string) (out []delivered) {
	for _, d := range r.all() {
		if d.from == "" && len(d.to) == 1 && d.to[0] == sender {
			out = append(out, d)
		}
	}
	return out
}

func TestFailureNoticeGoesBackToTheSender(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "sender@back.test", to: []string{"ok@d.test", "bounce1@d.test", "bounce2@d.test"}, body: "the original"})
	until(t, "the notice", func() bool { return len(r.noticesTo("sender@back.test")) > 0 })
	w.empty()
	ns := r.noticesTo("sender@back.test")
	if len(ns) != 1 {
		t.Fatalf("%d notices, want one for both recipients", len(ns))
	}
	for _, want := range []string{"report-type=delivery-status", "bounce1@d.test", "bounce2@d.test", "Action: failed", "Status: 5.1.1", "no such user here", "Auto-Submitted: auto-replied"} {
		if !strings.Contains(ns[0].data, want) {
			t.Errorf("the notice lacks %q:\n%s", want, ns[0].data)
		}
	}
	if strings.Contains(ns[0].data, "ok@d.test") {
		t.Error("the notice names a recipient that was delivered")
	}
	var about []message.EventRecord
	for _, e := range w.log(api.EventQuery{Type: string(message.EventAccepted)}) {
		if e.Via == "dsn" {
			about = append(about, e)
		}
	}
	if len(about) != 1 || about[0].From != id.String()+"-0" || about[0].Recipient != "sender@back.test" || about[0].Destination != "back.test" {
		t.Errorf("accepted events of notices: %+v", about)
	}
	w.balance()
}

func TestWhoGetsNotices(t *testing.T) {
	for name, c := range map[string]struct {
		dsn    string
		from   string
		notify message.Notify
		to     string
		want   string // Action, or "" for none
	}{
		"the default":                   {to: "bounce@d.test", want: "failed"},
		"dsn never":                     {dsn: "never", to: "bounce@d.test"},
		"NOTIFY=NEVER":                  {notify: message.NotifyNever, to: "bounce@d.test"},
		"the null sender":               {from: "<>", to: "bounce@d.test"},
		"success, not asked for":        {dsn: "full", to: "ok@d.test"},
		"success, asked for, full":      {dsn: "full", notify: message.NotifySuccess, to: "ok@d.test", want: "relayed"},
		"success, asked for, not full":  {notify: message.NotifySuccess, to: "ok@d.test"},
		"failure only, but delivered":   {dsn: "full", notify: message.NotifyFailure, to: "ok@d.test"},
		"success only, but it bounced":  {dsn: "full", notify: message.NotifySuccess, to: "bounce@d.test"},
		"failure asked for, it bounced": {notify: message.NotifyFailure, to: "bounce@d.test", want: "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			// Without DSN in the EHLO answer a success is ours to tell.
			r := receive(t, sink.Options{Recipient: sink.ByName, Extensions: []string{"PIPELINING", "8BITMIME"}})
			w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Tenant{DSN: c.dsn}))
			from := "s@back.test"
			if c.from == "<>" {
				from = ""
			}
			id := w.send(mail{from: from, to: []string{c.to}, notify: c.notify})
			end := message.EventDelivered
			if strings.HasPrefix(c.to, "bounce") {
				end = message.EventBounced
			}
			w.waitFor(id, end, 1)
			w.empty() // the notice is in the same batch as the outcome
			ns := r.noticesTo("s@back.test")
			switch {
			case c.want == "" && len(ns) > 0:
				t.Errorf("a notice that nobody wants:\n%s", ns[0].data)
			case c.want != "" && (len(ns) != 1 || !strings.Contains(ns[0].data, "Action: "+c.want)):
				t.Errorf("%d notices, want one that says %s", len(ns), c.want)
			}
			w.balance()
		})
	}
}

func TestPeerThatOffersDSNTellsOfSuccessItself(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Tenant{DSN: "full"}))
	id := w.send(mail{from: "s@back.test", to: []string{"ok@d.test"}, notify: message.NotifySuccess})
	w.waitFor(id, message.EventDelivered, 1)
	w.empty()
	if ns := r.noticesTo("s@back.test"); len(ns) != 0 {
		t.Errorf("we sent %d notices beside the peer's", len(ns))
	}
}

func TestNoticeThatBouncesIsNotAnswered(t *testing.T) {
	r := receive(t, sink.Options{Recipient: func(_, to string) string { return "550 5.1.1 nobody here" }})
	w := newWorld(t, nil, toSink(r.Addr))
	w.send(mail{from: "s@back.test", to: []string{"a@d.test"}})
	until(t, "mail and notice to bounce", func() bool { return w.typesNow()[message.EventBounced] == 2 })
	w.empty()
	if got := w.typesNow(); got[message.EventAccepted] != 2 {
		t.Errorf("%v: want the mail and one notice", got)
	}
	w.balance()
}

func TestDelayIsToldOnce(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Tenant{DSN: "full"}),
		resource("default", &policy.Stream{DelayNotice: policy.Duration(50 * time.Millisecond), Retry: soon(30 * time.Millisecond)}))
	id := w.send(mail{from: "s@back.test", to: []string{"defer@d.test"}})
	w.waitFor(id, message.EventDeferred, 6)
	until(t, "the notice", func() bool { return len(r.noticesTo("s@back.test")) > 0 })
	w.waitFor(id, message.EventDeferred, 10)
	ns := r.noticesTo("s@back.test")
	if len(ns) != 1 || !strings.Contains(ns[0].data, "Action: delayed") || !strings.Contains(ns[0].data, "Will-Retry-Until:") {
		t.Errorf("%d notices, want one that says delayed", len(ns))
	}
}

func TestExpiryIsToldToo(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Stream{Expires: policy.Duration(200 * time.Millisecond)}))
	w.send(mail{from: "s@back.test", to: []string{"defer@d.test"}})
	until(t, "the notice", func() bool { return len(r.noticesTo("s@back.test")) > 0 })
	if d := r.noticesTo("s@back.test")[0].data; !strings.Contains(d, "Status: 5.4.7") && !strings.Contains(d, "Status: 4.7.1") {
		t.Errorf("the notice does not say why:\n%s", d)
	}
	w.empty()
	w.balance()
}

func TestNoticeAboutATemplateShowsWhatWasSent(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr))
	resp, body := postHTTP(t, w, `{"from":{"email":"s@back.test"},"to":[{"email":"bounce@d.test","vars":{"who":"Aiko"}}],"subject":"for {{who}}","text":"hello {{who}}"}`)
	if resp.StatusCode != 202 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	until(t, "the notice", func() bool { return len(r.noticesTo("s@back.test")) > 0 })
	if d := r.noticesTo("s@back.test")[0].data; !strings.Contains(d, "for Aiko") {
		t.Errorf("the notice does not hold the rendered header:\n%s", d)
	}
	w.empty()
	w.balance()
}

var _ ingest.Acceptor = (*Node)(nil)
