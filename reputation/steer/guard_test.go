package steer_test

import (
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

func guarded(t testing.TB, g policy.Guard) *policy.Set {
	return mustSet(t, carrierOf("docomo", policy.Carrier{}), carrierOf("gmx", policy.Carrier{}),
		policy.Resource{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{}},
		policy.Resource{Kind: policy.KindReputation, Name: policy.DefaultName, Spec: &policy.Reputation{Guard: &g}})
}

func mail(carrier, job, category string, n uint32) exchange.Tally {
	return exchange.Tally{Carrier: carrier, Source: "s1", Tenant: "acme", Job: job, Domain: "acme.example", Category: category, N: n}
}

func (d *drive) holds() []keyspace.SteeredHold { return d.c.Steering(keyspace.TenantSteering).Holds }

// TestTheGuard holds who sends to too many unknown users, and only there.
func TestTheGuard(t *testing.T) {
	for name, c := range map[string]struct {
		guard policy.Guard
		rows  []exchange.Tally // each second, for ten of them
		want  string
		holds []keyspace.SteeredHold // by their names
	}{
		"clean": {
			rows: []exchange.Tally{mail("docomo", "", "delivered", 99), mail("docomo", "", "unknown-user", 1)},
		},
		"three of a hundred": {
			rows: []exchange.Tally{mail("docomo", "", "delivered", 97), mail("docomo", "", "unknown-user", 3)},
			want: "warn/unknown-users",
		},
		"six of a hundred": {
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 94), mail("docomo", "", "unknown-user", 6), mail("gmx", "", "delivered", 94)},
			want:  "hold/unknown-users",
			holds: []keyspace.SteeredHold{{Tenant: "acme", Carrier: "docomo"}},
		},
		"all of five": {
			rows: []exchange.Tally{},
		},
		"the job's alone": {
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 50), mail("docomo", "spring", "delivered", 40), mail("docomo", "spring", "unknown-user", 10)},
			want:  "hold/unknown-users",
			holds: []keyspace.SteeredHold{{Tenant: "acme", Job: "spring"}},
		},
		"the job's and the rest's": {
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 90), mail("docomo", "", "unknown-user", 10), mail("docomo", "spring", "delivered", 40), mail("docomo", "spring", "unknown-user", 10)},
			want:  "hold/unknown-users",
			holds: []keyspace.SteeredHold{{Tenant: "acme", Carrier: "docomo"}},
		},
		"not authenticated": {
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 70), mail("docomo", "", "auth", 30)},
			want:  "hold/authentication",
			holds: []keyspace.SteeredHold{{Tenant: "acme", Carrier: "docomo"}},
		},
		"complaints": {
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 1000), mail("docomo", "", "complained", 5)},
			want:  "hold/complaints",
			holds: []keyspace.SteeredHold{{Tenant: "acme", Carrier: "docomo"}},
		},
		"few complaints": {
			rows: []exchange.Tally{mail("docomo", "", "delivered", 1000), mail("docomo", "", "complained", 2)},
		},
		// The control: what was held above goes on with the guard switched off.
		"off": {
			guard: policy.Guard{Mode: policy.ModeOff},
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 50), mail("docomo", "", "unknown-user", 50)},
		},
		"dry run": {
			guard: policy.Guard{Mode: policy.ModeDryRun},
			rows:  []exchange.Tally{mail("docomo", "", "delivered", 94), mail("docomo", "", "unknown-user", 6)},
			want:  "hold/unknown-users",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrive(t, guarded(t, c.guard))
			d.ticks(10, c.rows...)
			if name == "all of five" {
				d.tick(mail("docomo", "", "unknown-user", 5))
			}
			if got := actions(d.list); got != c.want && got != "warn/unknown-users "+c.want {
				t.Errorf("decided %q, want %q", got, c.want)
			}
			holds := d.holds()
			for i := range holds {
				if until := holds[i].Until.Time(); until.Before(d.now.Add(59*time.Minute)) || until.After(d.now.Add(time.Hour)) {
					t.Errorf("held until %s", until)
				}
				holds[i].Held = policy.Held{}
			}
			if len(holds) != len(c.holds) || len(holds) > 0 && holds[0] != c.holds[0] {
				t.Errorf("holds %+v, want %+v", holds, c.holds)
			}
			for _, x := range d.list {
				if x.DryRun != (c.guard.Mode == policy.ModeDryRun) || x.Tenant != "acme" || x.Why == "" {
					t.Errorf("%+v", x)
				}
			}
		})
	}
}

// TestSmallSamplesNeedMore: below a full sample the ratio counts by its lower
// bound, so the fewer there are the worse they have to be.
func TestSmallSamplesNeedMore(t *testing.T) {
	for _, c := range []struct {
		n, unknown uint32
		held       bool
	}{{49, 49, false}, {50, 4, false}, {50, 6, false}, {50, 12, true}, {200, 16, false}, {200, 30, true}, {1000, 49, false}, {1000, 50, true}} {
		d := newDrive(t, guarded(t, policy.Guard{}))
		d.tick(mail("docomo", "", "delivered", c.n-c.unknown), mail("docomo", "", "unknown-user", c.unknown))
		if held := len(d.holds()) > 0; held != c.held {
			t.Errorf("%d unknown of %d: held is %v", c.unknown, c.n, held)
		}
	}
}

// TestAHoldEnds, and what was seen before it does not bring the next.
func TestAHoldEnds(t *testing.T) {
	d := newDrive(t, guarded(t, policy.Guard{Hold: policy.Duration(10 * time.Minute)}))
	bad := []exchange.Tally{mail("docomo", "", "delivered", 90), mail("docomo", "", "unknown-user", 10)}
	d.ticks(10, bad...)
	d.ticks(3, bad...) // what was under way
	d.ticks(10*60, mail("gmx", "", "delivered", 1))
	if got := actions(d.list); !strings.HasSuffix(got, "hold/unknown-users release/hold-is-over") {
		t.Fatalf("decided %s", got)
	}
	if len(d.holds()) > 0 {
		t.Error("the hold is still in force")
	}
	d.ticks(60, mail("docomo", "", "delivered", 10))
	if got := actions(d.list); !strings.HasSuffix(got, "release/hold-is-over") {
		t.Errorf("then %s", got)
	}
	d.ticks(20, bad...)
	if len(d.holds()) != 1 {
		t.Error("it begins again and is not held again")
	}
}

// TestUndoOfAHold frees the tenant at once.
func TestUndoOfAHold(t *testing.T) {
	d := newDrive(t, guarded(t, policy.Guard{}))
	d.ticks(20, mail("docomo", "", "delivered", 90), mail("docomo", "", "unknown-user", 10))
	held := d.list[len(d.list)-1]
	d.c.Dirty()
	if err := d.c.Undo(d.now, held, "kim"); err != nil {
		t.Fatal(err)
	}
	if got := d.c.Dirty(); len(d.holds()) > 0 || len(got) != 1 || got[0] != keyspace.TenantSteering {
		t.Errorf("holds %v, dirty %q", d.holds(), got)
	}
	d.tick()
	if last := d.list[len(d.list)-1]; last.Action != "undo" || !strings.Contains(last.Why, held.ID) || !strings.Contains(last.Why, "kim") {
		t.Errorf("%+v", last)
	}
	if err := d.c.Undo(d.now, held, "kim"); err == nil {
		t.Error("undone twice")
	}
}
