package steer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// TestANewLeaderGoesOn: with what the old one had learnt it needs neither a block
// nor an hour to find the limit again.
func TestANewLeaderGoesOn(t *testing.T) {
	p := plants["gmail"]
	l := newLoop(t, gmx(t, p.limit/2), &p, 300)
	l.run(2 * time.Hour)
	learnt, force := l.c.Snapshot("gmx"), l.c.Steering("gmx")
	for name, restore := range map[string]func(c *steer.Controller) error{
		"from what was learnt and what is in force": func(c *steer.Controller) error {
			err := c.Restore("gmx", learnt)
			c.Adopt("gmx", force)
			return err
		},
		"from what is in force alone": func(c *steer.Controller) error {
			c.Adopt("gmx", force)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := p // a copy
			m := newLoop(t, gmx(t, p.limit/2), &p, 300)
			m.c = steer.New(gmx(t, p.limit/2), l.now)
			m.now, m.carry = l.now, 0
			if err := restore(m.c); err != nil {
				t.Fatal(err)
			}
			m.hear()
			m.pending[0] = m.pending[1]
			before := p.delivered
			m.run(30 * time.Minute)
			if part := (p.delivered - before) / 1800 / p.limit; part < 0.9 || p.blocks > 0 {
				t.Errorf("%.3f of the limit in half an hour, %d blocks", part, p.blocks)
			}
		})
	}
}

// TestRestsOutliveALeader: the same states hold, until the same times.
func TestRestsOutliveALeader(t *testing.T) {
	set := mustSet(t, source("s1"), source("s2"), source("s3"), carrierOf("gmx", policy.Carrier{}))
	d := newDrive(t, set)
	d.ticks(30, row("gmx", "s1", "delivered", 20), row("gmx", "s2", "delivered", 20), row("gmx", "s3", "delivered", 20))
	d.tick(row("gmx", "s1", "blocked", 20), row("gmx", "s2", "rate", 20), row("gmx", "s3", "connections", 20))
	if err := d.c.Retire(d.now, "gmx", "", "s3", "kim"); err != nil {
		t.Fatal(err)
	}
	want := d.c.Steering("gmx")
	c := steer.New(set, d.now)
	if err := c.Restore("gmx", d.c.Snapshot("gmx")); err != nil {
		t.Fatal(err)
	}
	c.Adopt("gmx", want)
	got := c.Steering("gmx")
	for i := range want.Lanes {
		a, b := want.Lanes[i], got.Lanes[i]
		if a.State != b.State || a.Rests != b.Rests || a.Decision != b.Decision || a.Source != b.Source {
			t.Errorf("%+v is %+v with the next leader", a, b)
		}
	}
	if want.Lanes[0].State != policy.StateBlocked || want.Lanes[1].State != policy.StateResting || want.Lanes[2].State != policy.StateRetired {
		t.Errorf("%+v", want.Lanes)
	}
	// The second block in a row is longer for both.
	for _, x := range []*steer.Controller{d.c, c} {
		m := &drive{t: t, c: x, now: want.Lanes[0].Rests.Time().Add(time.Second)}
		m.list = x.Decide(m.now)
		m.tick(row("gmx", "s1", "blocked", 2))
		if last := m.list[len(m.list)-1]; last.Action != "block" || last.Until.Sub(last.At) < 59*time.Minute {
			t.Errorf("%+v", last)
		}
	}
}

// TestATrialOutlivesALeader of whose knowledge nothing was written: it is as fast as
// the old one had decided, and not a twentieth of that.
func TestATrialOutlivesALeader(t *testing.T) {
	set := mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{}))
	d := newDrive(t, set)
	d.ticks(60, row("gmx", "s1", "delivered", 10))
	d.tick(row("gmx", "s1", "blocked", 20))
	want := d.c.Steering("gmx").Lanes[0]
	c := steer.New(set, d.now)
	c.Adopt("gmx", d.c.Steering("gmx"))
	d.c, d.now = c, want.Rests.Time()
	d.ticks(2)
	if l := d.c.Steering("gmx").Lanes[0]; l.State != policy.StateTrial || *l.Rate != *want.Rate {
		t.Errorf("%s at %s, want a trial at %s", l.State, l.Rate, want.Rate)
	}
	list := len(d.list)
	for range 20 {
		d.tick(row("gmx", "s1", "delivered", 1))
	}
	if got := actions(d.list[list:]); got == "" || d.c.Steering("gmx").Lanes[0].State != policy.StateSlowed {
		t.Errorf("20 delivered on probation: %q, %+v", got, d.c.Steering("gmx").Lanes)
	}
}

// TestSourcesThatAreGoneAreNotAdopted: one that left policy while nobody led would
// else be retired for good, also when a new one gets its name.
func TestSourcesThatAreGoneAreNotAdopted(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1"), source("s2"), carrierOf("gmx", policy.Carrier{})))
	for _, name := range []string{"s1", "s2"} {
		if err := d.c.Retire(d.now, "gmx", "", name, "kim"); err != nil {
			t.Fatal(err)
		}
	}
	c := steer.New(mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{})), d.now)
	if err := c.Restore("gmx", d.c.Snapshot("gmx")); err != nil {
		t.Fatal(err)
	}
	c.Adopt("gmx", d.c.Steering("gmx"))
	if got := c.Steering("gmx").Lanes; len(got) != 1 || got[0].Source != "s1" || got[0].State != policy.StateRetired {
		t.Errorf("%+v", got)
	}
}

// TestHoldsOutliveALeader.
func TestHoldsOutliveALeader(t *testing.T) {
	set := guarded(t, policy.Guard{})
	d := newDrive(t, set)
	d.ticks(20, mail("docomo", "", "delivered", 90), mail("docomo", "", "unknown-user", 10))
	c := steer.New(set, d.now)
	if err := c.Restore(keyspace.TenantSteering, d.c.Snapshot(keyspace.TenantSteering)); err != nil {
		t.Fatal(err)
	}
	c.Adopt(keyspace.TenantSteering, d.c.Steering(keyspace.TenantSteering))
	if got := c.Steering(keyspace.TenantSteering).Holds; len(got) != 1 || got[0] != d.holds()[0] {
		t.Fatalf("%+v, want %+v", got, d.holds())
	}
	d.c = c
	d.ticks(3601)
	if got := actions(d.list); len(d.holds()) > 0 || got[len(got)-12:] != "hold-is-over" {
		t.Errorf("after an hour: %s", got)
	}
}

// TestASnapshotIsBounded, and what it costs to forget goes last.
func TestASnapshotIsBounded(t *testing.T) {
	d := newDrive(t, mustSet(t, source("s1")))
	var rows []exchange.Tally
	for i := range 6000 {
		r := row(policy.DefaultName, "s1", "delivered", 9)
		r.Site = fmt.Sprintf("mx%d.a-rather-long-name-of-a-site.example", i)
		rows = append(rows, r)
	}
	d.ticks(3, rows...)
	for i := range 100 {
		rows[i*50].Category = "rate"
	}
	d.ticks(2, rows...)
	b := d.c.Snapshot(policy.DefaultName)
	if len(b) > steer.MaxSnapshot || len(b) < steer.MaxSnapshot/2 {
		t.Errorf("%d bytes", len(b))
	}
	c := steer.New(mustSet(t, source("s1")), d.now)
	if err := c.Restore(policy.DefaultName, b); err != nil {
		t.Fatal(err)
	}
	if got := len(c.Steering(policy.DefaultName).Lanes); got != 100 {
		t.Errorf("%d of 100 sites that were steered are back", got)
	}
}

// TestCountsComeBack in the windows of hours and days.
func TestCountsComeBack(t *testing.T) {
	set := mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{}))
	d := newDrive(t, set)
	d.ticks(600, row("gmx", "s1", "delivered", 10), row("gmx", "s1", "unknown-user", 1))
	c := steer.New(set, d.now)
	for _, name := range []string{"gmx", keyspace.TenantSteering} {
		if err := c.Restore(name, d.c.Snapshot(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []steer.Filter{{Carrier: "gmx", Source: "s1"}, {Tenant: "acme", Carrier: "gmx"}} {
		s := c.Scores(d.now, f)
		if len(s) != 1 || s[0].Windows[1].Counts["delivered"] != 6000 || s[0].Windows[2].Counts["unknown-user"] != 600 {
			t.Errorf("%+v", s)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	c := steer.New(mustSet(t, carrierOf("gmx", policy.Carrier{})), epoch)
	for name, b := range map[string]string{
		"no JSON":         `{`,
		"another version": `{"v":99}`,
		"a rate below 0":  `{"v":1,"lanes":[{"source":"s1","state":"slowed","rate":-1}]}`,
		"a rate of 1e300": `{"v":1,"lanes":[{"source":"s1","state":"slowed","rate":1e300}]}`,
		"no such state":   `{"v":1,"lanes":[{"source":"s1","state":"happy"}]}`,
	} {
		if err := c.Restore("gmx", []byte(b)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := c.Restore("gmx", bytes.Repeat([]byte(" "), steer.MaxSnapshot+1)); err == nil {
		t.Error("too many bytes are taken")
	}
	if got := c.Steering("gmx"); len(got.Lanes) > 0 {
		t.Errorf("%+v", got)
	}
}

// FuzzRestore: whatever the bytes are, the controller goes on, and what it says is
// in force is within its bounds.
func FuzzRestore(f *testing.F) {
	set := mustSet(f, source("s1"), carrierOf("gmx", policy.Carrier{PerSource: policy.Limits{Rate: &policy.Rate{N: 100, Per: time.Second}}}),
		policy.Resource{Kind: policy.KindWarmUp, Name: "new", Spec: &policy.WarmUp{Source: "s1", Days: []int64{10, 20}}})
	p := plants["gmail"]
	l := newLoop(f, set, &p, 300)
	l.run(20 * time.Minute)
	f.Add(l.c.Snapshot("gmx"), []byte(`{}`))
	force, err := json.Marshal(l.c.Steering("gmx"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"v":1,"lanes":[{"source":"s1","state":"probation","wait":86400,"until":"9999-12-31T00:00:00Z","warm":{"name":"new","day":-5,"sent":-1,"ends":"0001-01-01T00:00:00Z"},"counts":[[1],[]]}]}`), force)
	f.Add([]byte(`{"v":1,"scopes":[{"tenant":"acme","carrier":"gmx","sample":[1,2,3],"counts":[]}]}`), []byte(`{"lanes":[{"source":"s1","state":"warming","per_day":9223372036854775807}],"holds":[{"tenant":"acme","until":"2026-11-22T01:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, learnt, force []byte) {
		d := newDrive(t, set)
		for _, name := range []string{"gmx", keyspace.TenantSteering} {
			if err := d.c.Restore(name, learnt); err == nil && !json.Valid(learnt) {
				t.Fatalf("taken: %q", learnt)
			}
			var s keyspace.Steering
			if json.Unmarshal(force, &s) == nil {
				d.c.Adopt(name, s)
			}
		}
		for range 3 {
			d.ticks(20, row("gmx", "s1", "delivered", 5), row("gmx", "s1", "rate", 5))
			d.now = d.now.Add(7 * time.Hour)
			for _, x := range d.c.Steering("gmx").Lanes {
				if x.PerDay < 0 || x.PerDay > 20 || x.Rate != nil && (x.Rate.N < 1 || x.Rate.Per <= 0) || x.Connections < 0 {
					t.Fatalf("%+v", x)
				}
			}
			if b := d.c.Snapshot("gmx"); len(b) > steer.MaxSnapshot {
				t.Fatalf("%d bytes", len(b))
			}
			d.c.Progress(d.now)
			d.c.Scores(d.now, steer.Filter{})
		}
	})
}
