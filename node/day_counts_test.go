package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// stays fails when a receiver gets more than it may within a moment.
func stays(t *testing.T, r *receiver, most int) {
	t.Helper()
	quiet := time.NewTimer(300 * time.Millisecond)
	defer quiet.Stop()
	<-quiet.C
	if n := len(r.all()); n > most {
		t.Errorf("%d messages went out, the limit is %d", n, most)
	}
}

func TestDailyLimitHoldsOverARestart(t *testing.T) {
	source := resource("default", &policy.Source{})
	for name, rs := range map[string][]policy.Resource{
		"of the tenant":                {resource("default", &policy.Tenant{PerDay: 7})},
		"of the stream":                {resource("default", &policy.Stream{PerDay: 7})},
		"of the carrier":               {resource("c", &policy.Carrier{Domains: []string{"d.test"}, Limits: policy.Limits{PerDay: 7}})},
		"of the carrier's source":      {resource("c", &policy.Carrier{Domains: []string{"d.test"}, PerSource: policy.Limits{PerDay: 7}}), source},
		"of a site of no carrier":      {resource("default", &policy.Carrier{Limits: policy.Limits{PerDay: 7}})},
		"of the tenant at the carrier": {resource("c", &policy.Carrier{Domains: []string{"d.test"}}), resource("default", &policy.Tenant{Carriers: map[string]policy.Quota{"c": {PerDay: 7}}})},
		"of the carrier's pool":        {resource("c", &policy.Carrier{Domains: []string{"d.test"}, PerPool: map[string]policy.Limits{"default": {PerDay: 7}}})},
		"of a throttle":                {resource("less", &policy.Throttle{Tenant: "default", PerDay: 7})},
		"of tenant and stream, nested": {resource("default", &policy.Tenant{PerDay: 9}), resource("default", &policy.Stream{PerDay: 7})},
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, sink.Options{})
			w := newWorld(t, nil, append(rs, toSink(r.Addr))...)
			for i := range 5 {
				w.deliver(fmt.Sprintf("a%d@d.test", i))
			}
			w.restart()
			for i := range 5 {
				w.send(mail{from: "s@s.test", to: []string{fmt.Sprintf("b%d@d.test", i)}})
			}
			until(t, "the rest of the day's limit", func() bool { return len(r.all()) >= 7 })
			stays(t, r, 7)
		})
	}
}

// TestDailyLimitHoldsThroughKills kills the node again and again: what it sent
// in all keeps to the limit, and no more than an allowance a kill is wasted.
func TestDailyLimitHoldsThroughKills(t *testing.T) {
	r := receive(t, sink.Options{})
	dir := t.TempDir()
	const limit, kills = 60, 3 // an allowance of 1
	sent := 0
	for range kills {
		p := startChild(t, childSetup{Dir: dir, Sink: r.Addr, PerDay: limit})
		c := dialAddr(t, p.smtp)
		c.cmd("EHLO c.test", "250")
		before := len(r.all())
		for range 40 {
			smtpSend(c, "s@s.test", fmt.Sprintf("r%d@d.test", sent))
			sent++
		}
		until(t, "some deliveries", func() bool { return len(r.all()) >= min(before+15, limit-kills*20) })
		_ = p.kill()
	}
	p := startChild(t, childSetup{Dir: dir, Sink: r.Addr, PerDay: limit})
	until(t, "the limit to be used", func() bool { return len(r.all()) >= limit-kills*20 })
	stays(t, r, limit)
	p.end()
	if n := len(r.all()); n > limit {
		t.Errorf("%d sent in a day, the limit is %d", n, limit)
	}
}

func TestDailyCountIsOnDiskBeforeItIsUsed(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, resource("default", &policy.Tenant{PerDay: 500}), toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	counts := readDayCounts(t, w)
	if n := sumOf(counts, "default"); n < 1 {
		t.Errorf("the file knows of %d while the message is on its way", n)
	}
	r.let(t)
	w.waitFor(id, message.EventDelivered, 1)
	w.close()
	if n := sumOf(readDayCounts(t, w), "default"); n != 1 {
		t.Errorf("after an orderly end %d count, want 1", n)
	}
}

func readDayCounts(t *testing.T, w *world) (c scheduler.DayCounts) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.cfg.DataDir, dayCountsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func sumOf(c scheduler.DayCounts, tenant string) (n int64) {
	for _, s := range c.Scopes {
		if s.Tenant == tenant && s.Stream == nil {
			for _, slot := range s.Slots {
				n += slot.N
			}
		}
	}
	return n
}

func TestDailyCountsThatCannotBeWrittenStopTheirMailOnly(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, resource("capped", &policy.Tenant{PerDay: 500}), toSink(r.Addr))
	blocker := filepath.Join(w.cfg.DataDir, dayCountsFile+".new")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	id := w.send(mail{tenant: "capped", from: "s@s.test", to: []string{"a@d.test"}})
	// The session that found it waits with it in hand; the others go on.
	until(t, "it to be in hand", func() bool { return w.dispatchInFlight(id) })
	for i := range 10 {
		w.send(mail{from: "s@s.test", to: []string{fmt.Sprintf("free%d@d.test", i)}})
	}
	until(t, "the others' mail", func() bool { return len(r.all()) == 10 })
	if r.to("a@d.test") != 0 {
		t.Error("sent before it was counted")
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, message.EventDelivered, 1)
}

func (w *world) dispatchInFlight(id message.ID) bool {
	w.dispatch.mu.Lock()
	defer w.dispatch.mu.Unlock()
	return w.dispatch.mu.sched.InFlight(message.DeliveryID{Message: id})
}

func TestDamagedDailyCountsAreKeptAside(t *testing.T) {
	w := newWorld(t, nil, held)
	w.close()
	path := filepath.Join(w.cfg.DataDir, dayCountsFile)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	if b, err := os.ReadFile(path + ".damaged"); err != nil || strings.TrimSpace(string(b)) != "{" {
		t.Errorf("%q, %v", b, err)
	}
}
