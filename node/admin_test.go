package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

var timeZero = time.Unix(0, 0)

func TestLookingAtAMessage(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"ok@one.test", "defer@two.test", "bounce@two.test"}, tags: []string{"t"}, body: "hello"})
	w.waitFor(id, message.EventDelivered, 1)
	w.waitFor(id, message.EventDeferred, 1)
	m, err := w.Message(t.Context(), id.String(), api.MessageOptions{Content: true, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if m.Sender != "s@s.test" || m.Count != 2 || len(m.Deliveries) != 2 || !strings.Contains(string(m.Raw), "hello") || len(m.Tags) != 1 {
		t.Errorf("%+v", m)
	}
	states := map[string]string{}
	for _, d := range m.Deliveries {
		for _, rcpt := range d.Recipients {
			states[rcpt.Address] = rcpt.State
		}
	}
	if states["ok@one.test"] != "delivered" || states["defer@two.test"] != "queued" || states["bounce@two.test"] != "bounced" {
		t.Errorf("states: %v", states)
	}
	one, err := w.Message(t.Context(), id.String()+"-1", api.MessageOptions{Limit: 10})
	if err != nil || len(one.Deliveries) != 1 || one.Deliveries[0].Last == nil || one.Deliveries[0].Last.Reply.Code != 451 {
		t.Errorf("%+v, %v", one, err)
	}
	page, err := w.Message(t.Context(), id.String(), api.MessageOptions{Limit: 1})
	if err != nil || len(page.Deliveries) != 1 || page.Next != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	list, err := w.Deliveries(t.Context(), api.DeliveryFilter{Scope: api.Scope{Destination: "two.test"}, Limit: 10})
	if err != nil || len(list.Deliveries) != 1 || list.Deliveries[0].Sender != "s@s.test" || list.Deliveries[0].Attempts != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	for text, want := range map[string]error{"x": api.ErrInvalid, w.NewID(time.Now()).String(): api.ErrNotFound} {
		if _, err := w.Message(t.Context(), text, api.MessageOptions{Limit: 1}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

func TestLookingAtLanesSitesAndBudgets(t *testing.T) {
	r := receive(t, sink.Options{})
	rate, err := policy.ParseRate("1000/s")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Tenant{Rate: &rate, PerDay: 100}))
	w.deliver("a@d.test")
	lanes, err := w.Lanes(t.Context(), api.ListFilter{Limit: 10})
	if err != nil || len(lanes) != 1 || lanes[0].Source != policy.DefaultName || lanes[0].Connections != 1 {
		t.Errorf("lanes: %+v, %v", lanes, err)
	}
	if none, err := w.Lanes(t.Context(), api.ListFilter{Scope: api.Scope{Source: "other"}, Limit: 10}); err != nil || len(none) != 0 {
		t.Errorf("lanes of another source: %+v, %v", none, err)
	}
	sites, err := w.Sites(t.Context(), api.ListFilter{Limit: 10})
	if err != nil || len(sites) != 1 || sites[0].Connections != 1 {
		t.Errorf("sites: %+v, %v", sites, err)
	}
	budgets, err := w.Budgets(t.Context(), api.ListFilter{Limit: 10})
	used := map[string]int64{}
	for _, b := range budgets {
		used[b.Scope+" "+b.Kind] = b.Used
	}
	if err != nil || used["tenant default per_day"] != 1 {
		t.Errorf("budgets: %+v, %v", budgets, err)
	}
}

func TestLiveTrace(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	ctx, stop := context.WithCancel(t.Context())
	lines := make(chan api.TraceLine, 1000)
	done := make(chan error, 1)
	go func() {
		done <- w.Trace(ctx, api.TraceFilter{Recipient: "a@d.test"}, func(l *api.TraceLine) error {
			lines <- *l
			return nil
		})
	}()
	until(t, "somebody to watch", func() bool { return w.trace.active.Load() == 1 })
	c := dialSMTP(t, w)
	c.cmd("EHLO c.test", "250")
	smtpSend(c, "s@s.test", "other@d.test")
	smtpSend(c, "s@s.test", "a@d.test")
	w.empty()
	var in, out bool
	for !in || !out {
		select {
		case l := <-lines:
			if strings.Contains(l.Text, "other@d.test") {
				t.Errorf("a line of another recipient: %+v", l)
			}
			if strings.Contains(strings.ToLower(l.Text), "rcpt to:<a@d.test>") {
				in, out = in || l.Direction == "in", out || l.Direction == "out"
			}
		case <-time.After(patience):
			t.Fatal("the trace lacks a line")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	until(t, "the trace to be off", func() bool { return w.trace.active.Load() == 0 })
}

func TestTailOfEvents(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- w.TailEvents(ctx, api.EventQuery{Recipient: "a@d.test"}, func(line []byte) error {
			lines <- string(line)
			return nil
		})
	}()
	found := map[string]bool{}
	for !found["accepted"] || !found["delivered"] {
		w.deliver("a@d.test")
		for len(lines) > 0 {
			l := <-lines
			for _, typ := range []string{"accepted", "delivered"} {
				found[typ] = found[typ] || strings.Contains(l, `"type":"`+typ+`"`)
			}
		}
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
