package steer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/reputation/steer"
	"hikyaku/spool/message"
)

// TestModes: a dry run decides and records, and nothing follows; off decides
// nothing.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		all, carrier  string
		decides, acts bool
	}{
		{"on", "on", true, true}, {"on", "dry-run", true, false}, {"dry-run", "on", true, false},
		{"on", "off", false, false}, {"off", "on", false, false}, {"dry-run", "off", false, false},
	} {
		d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Mode: c.carrier}}),
			policy.Resource{Kind: policy.KindReputation, Name: policy.DefaultName, Spec: &policy.Reputation{Mode: c.all}}))
		d.ticks(60, row("gmx", "s1", "delivered", 20))
		d.ticks(1200, row("gmx", "s1", "delivered", 10), row("gmx", "s1", "rate", 10))
		x := d.course("gmx", "s1")
		if len(d.list) > 0 != c.decides || x != nil != c.acts {
			t.Errorf("%+v: %d decisions, in force %+v", c, len(d.list), x)
		}
		for _, y := range d.list {
			if y.DryRun == c.acts {
				t.Errorf("%+v: %+v", c, y)
			}
		}
		// What is only recorded does not help, so the signs go on; still it is not
		// recorded all the time.
		if len(d.list) > 40 {
			t.Errorf("%+v: %d decisions in 20 minutes", c, len(d.list))
		}
	}
}

// TestSwitchingOff ends what was in force.
func TestSwitchingOff(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.ticks(60, row("gmx", "s1", "delivered", 20))
	d.ticks(3, row("gmx", "s1", "delivered", 10), row("gmx", "s1", "rate", 10))
	if d.course("gmx", "s1") == nil {
		t.Fatal("nothing is in force")
	}
	d.c.Dirty()
	d.c.SetPolicy(d.now, mustSet(t, carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Mode: policy.ModeOff}})))
	if x := d.course("gmx", "s1"); x != nil || !slices.Contains(d.c.Dirty(), "gmx") {
		t.Errorf("in force: %+v", x)
	}
}

// TestBlocks: each in a row rests twice as long, up to a day; what follows is a
// trial with one connection, which stands already in what nodes are told of the
// rest, since they go on by themselves.
func TestBlocks(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Rest: policy.Duration(time.Hour)}})))
	d.ticks(60, row("gmx", "s1", "delivered", 20))
	want := time.Hour
	for n := range 7 {
		d.tick(row("gmx", "s1", "blocked", 3))
		x := d.course("gmx", "s1")
		if x == nil || x.State != policy.StateBlocked || x.Connections != 1 || x.Rate == nil || rateOf(x) > 1 {
			t.Fatalf("block %d: %+v", n, x)
		}
		if got := x.Rests.Time().Sub(d.now); got < want || got > want+time.Second {
			t.Errorf("block %d rests %s, want %s", n, got, want)
		}
		d.now = x.Rests.Time()
		d.list = append(d.list, d.c.Decide(d.now)...)
		if x := d.course("gmx", "s1"); x.State != policy.StateTrial || x.Connections != 1 {
			t.Errorf("after it: %+v", x)
		}
		want = min(2*want, policy.MaxRest)
	}
	d.ticks(10, row("gmx", "s1", "delivered", 1))
	if x := d.course("gmx", "s1"); x.State != policy.StateSlowed {
		t.Errorf("after a trial that went well: %+v", x)
	}
}

// TestARestIsAsLongAsTheCarrierAsks.
func TestARestIsAsLongAsTheCarrierAsks(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"Too many messages, please try again in 45 minutes": 45 * time.Minute,
		"retry after 7200 seconds":                          2 * time.Hour,
		"wait 3 hours":                                      3 * time.Hour,
		"try again later (S3114), port 25 minutes":          25 * time.Minute,
		"error 421, 12 seconds":                             time.Minute,
		"try again in 99999999999999999999 minutes":         time.Minute,
		"": time.Minute,
	} {
		d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
		d.ticks(60, row("gmx", "s1", "delivered", 20))
		d.now = d.now.Add(time.Second)
		d.c.Observe(d.now, "n", []exchange.Tally{row("gmx", "s1", "rate", 20)}, []exchange.Sample{{Carrier: "gmx", Source: "s1", Category: "rate", Code: 421, Phase: "mail", Text: text, N: 1}})
		list := d.c.Decide(d.now)
		if len(list) != 1 || list[0].Action != "rest" || list[0].Until.Sub(d.now).Truncate(time.Minute) != want {
			t.Errorf("%q: %+v", text, list)
		} else if len(list[0].Replies) != 1 || !strings.Contains(list[0].Replies[0], text) {
			t.Errorf("replies %q", list[0].Replies)
		}
	}
}

// TestUndo of what was decided about a source.
func TestUndo(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.ticks(60, row("gmx", "s1", "delivered", 20))
	d.tick(row("gmx", "s1", "blocked", 5))
	blocked := d.list[0]
	if err := d.c.Undo(d.now, blocked, "kim"); err != nil {
		t.Fatal(err)
	}
	if x := d.course("gmx", "s1"); x != nil {
		t.Errorf("in force: %+v", x)
	}
	d.tick(row("gmx", "s1", "delivered", 20))
	if last := d.list[len(d.list)-1]; last.Action != "undo" || last.From != policy.StateBlocked || last.ID <= blocked.ID {
		t.Errorf("%+v", last)
	}
	for name, x := range map[string]keyspace.Decision{
		"again":     blocked,
		"a dry run": {ID: "x", Carrier: "gmx", Source: "s1", DryRun: true},
		"unknown":   {ID: "x", Carrier: "gmx", Source: "s9"},
		"a warning": {ID: "x", Tenant: "acme", Action: "warn"},
		"a warm-up": {ID: "x", Carrier: "gmx", Source: "s1", Action: "warm-up-hold"},
	} {
		if err := d.c.Undo(d.now, x, "kim"); err == nil || !strings.Contains(err.Error(), "undo "+x.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same signs decide the same again.
	d.ticks(2, row("gmx", "s1", "blocked", 5))
	if x := d.course("gmx", "s1"); x == nil || x.State != policy.StateBlocked {
		t.Errorf("%+v", x)
	}
}

// TestRetire keeps a source away until it is undone.
func TestRetire(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{})))
	for _, bad := range [][3]string{{"nowhere", "", "s1"}, {"gmx", "a.example", "s1"}, {"gmx", "", "s9"}} {
		if err := d.c.Retire(d.now, bad[0], bad[1], bad[2], "kim"); err == nil {
			t.Errorf("%q is retired", bad)
		}
	}
	if err := d.c.Retire(d.now, "gmx", "", "s1", "kim"); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(40 * 24 * time.Hour)
	d.tick(row("gmx", "s1", "delivered", 1))
	if x := d.course("gmx", "s1"); x == nil || !x.Resting(d.now) || x.State != policy.StateRetired {
		t.Fatalf("%+v", x)
	}
	if err := d.c.Undo(d.now, d.list[0], "kim"); err != nil {
		t.Fatal(err)
	}
	if x := d.course("gmx", "s1"); x != nil {
		t.Errorf("%+v", x)
	}
}

// TestReplay: with a gentler decrease the same day gives another rate, and with
// other categories another decision.
func TestReplay(t *testing.T) {
	var events []message.EventRecord
	for s := range 300 {
		for i := range 10 {
			ev := message.EventRecord{Type: message.EventDelivered, Time: epoch.Add(time.Duration(s)*time.Second + time.Duration(i)*time.Millisecond), Carrier: "gmx", Source: "s1", Tenant: "acme", Sender: "news@acme.example"}
			if s >= 200 && i >= 5 {
				ev.Type, ev.Category = message.EventDeferred, "rate"
				ev.Reply = &message.Reply{Code: 421, Text: "too fast", Phase: message.PhaseMail}
			}
			events = append(events, ev)
		}
	}
	first := func(x policy.Steer, classify func(*message.EventRecord) reputation.Category) string {
		list := steer.Replay(slices.Values(events), mustSet(t, carrierOf("gmx", policy.Carrier{Steering: &x})), classify)
		if len(list) == 0 {
			return ""
		}
		return fmt.Sprint(list[0].At.Sub(epoch), " ", list[0].Action, " ", list[0].To, " ", list[0].Replies)
	}
	for _, c := range []struct {
		steer    policy.Steer
		classify func(*message.EventRecord) reputation.Category
		want     string
	}{
		{policy.Steer{}, nil, "3m21s slow 180/m [421 too fast (mail)]"},
		{policy.Steer{Decrease: 80}, nil, "3m21s slow 240/m [421 too fast (mail)]"},
		{policy.Steer{Mode: policy.ModeOff}, nil, ""},
		{policy.Steer{}, func(ev *message.EventRecord) reputation.Category {
			if ev.Reply != nil {
				return reputation.MailboxFull
			}
			return reputation.Delivered
		}, ""},
	} {
		if got := first(c.steer, c.classify); got != c.want {
			t.Errorf("%+v: %q, want %q", c.steer, got, c.want)
		}
	}
	if list := steer.Replay(slices.Values(events[:0]), mustSet(t), nil); list != nil {
		t.Errorf("without events: %+v", list)
	}
}

// TestScores tell what was counted when, and why the score is what it is.
func TestScores(t *testing.T) {
	d := newDrive(t, mustSet(t, carrierOf("gmx", policy.Carrier{})))
	d.tick(row("gmx", "s1", "delivered", 90), row("gmx", "s1", "unknown-user", 10))
	for _, c := range []struct {
		after             time.Duration
		minutes, hours, d uint32
	}{{time.Second, 100, 100, 100}, {5 * time.Minute, 100, 100, 100}, {20 * time.Minute, 0, 100, 100}, {5 * time.Hour, 0, 100, 100}, {10 * time.Hour, 0, 0, 100}, {70 * time.Hour, 0, 0, 100}, {90 * time.Hour, 0, 0, 0}} {
		s := d.c.Scores(epoch.Add(c.after), steer.Filter{Carrier: "gmx", Source: "s1"})
		if len(s) != 1 || len(s[0].Windows) != 3 {
			t.Fatalf("%+v", s)
		}
		for i, want := range []uint32{c.minutes, c.hours, c.d} {
			n := s[0].Windows[i].Counts
			if got := n["delivered"] + n["unknown-user"]; got != want {
				t.Errorf("after %s the window of %s has %d, want %d", c.after, s[0].Windows[i].Span, got, want)
			}
		}
		if bad := c.hours > 0; s[0].Score < 100 != bad || len(s[0].Reasons) > 0 != bad {
			t.Errorf("after %s: %d, %q", c.after, s[0].Score, s[0].Reasons)
		}
	}
	if got := d.c.Scores(d.now, steer.Filter{Most: 1}); len(got) != 1 {
		t.Errorf("%d scores", len(got))
	}
}

// TestMemoryIsBounded: more sites and tenants than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	d := newDrive(t, mustSet(t))
	for n := range 2 {
		rows := make([]exchange.Tally, 13_000)
		for i := range rows {
			rows[i] = exchange.Tally{Carrier: policy.DefaultName, Site: fmt.Sprintf("mx%d.%d.example", i, n), Source: "s1", Tenant: fmt.Sprintf("t%d-%d", i%9000, n), Domain: "x.example", Category: "rate", N: 9}
		}
		d.ticks(2, rows...)
	}
	m := d.c.Metrics()
	if m.Lanes > 24_000 || m.Scopes > 16_000 || m.Bound > keyspace.MaxSteered || m.LostLanes == 0 || m.LostScopes == 0 || m.Unsteered == 0 {
		t.Errorf("%+v", m)
	}
	if got := len(d.c.Steering(policy.DefaultName).Lanes); got > keyspace.MaxSteered {
		t.Errorf("%d lanes in a record", got)
	}
}
