package reputation

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func said(at time.Time, carrier, to, reply string, phase message.Phase) *met {
	return &met{at: at, carrier: carrier, source: "ip1", tenant: "shop", to: to, reply: parseReply(reply, phase)}
}

// TestTextRules: the threshold within an hour, the sanction, its end.
func TestTextRules(t *testing.T) {
	r, err := newTextRules(1)
	if err != nil {
		t.Fatal(err)
	}
	const text = "421 4.7.28 Our system has detected an unusual rate of mail"
	lane := policy.Steered{Carrier: "gmail", Source: "ip1"}
	course := func(at time.Time) *policy.Course {
		x, changed := r.second(at)
		if !changed {
			return nil
		}
		return x.Lanes[lane]
	}
	r.read(said(noon, "gmail", "u1@gmail.test", text, message.PhaseMail))
	r.read(said(noon.Add(61*time.Minute), "gmail", "u1@gmail.test", text, message.PhaseMail))
	if c := course(noon.Add(61 * time.Minute)); c != nil {
		t.Fatalf("two in more than an hour brought %+v", c)
	}
	second := noon.Add(62 * time.Minute)
	r.read(said(second, "gmail", "u1@gmail.test", text, message.PhaseMail))
	if c := course(second); c == nil || c.Rate.String() != "10/m" {
		t.Fatalf("two within an hour brought %+v, want 10/m", c)
	}
	if c := course(second.Add(30 * time.Minute)); c != nil {
		t.Fatalf("after half an hour there still is %+v", c)
	}
	r.read(said(second, "yahoo", "u1@yahoo.test", "421 4.7.0 [TSS04] Messages from ip1 temporarily deferred", message.PhaseMail))
	x, _ := r.second(second)
	if c := x.Lanes[policy.Steered{Carrier: "yahoo", Source: "ip1"}]; c == nil || !c.Resting(second.Add(119*time.Minute)) || c.Resting(second.Add(121*time.Minute)) {
		t.Fatalf("TSS04 brought %+v, want a rest of two hours", c)
	}
}

// TestWhatSuppresses: how each mind reads what is said of a recipient.
func TestWhatSuppresses(t *testing.T) {
	for _, tt := range []struct {
		carrier, reply string
		phase          message.Phase
		usual, ours    bool
	}{
		{"gmail", "550 5.1.1 The email account that you tried to reach does not exist.", message.PhaseRcpt, true, true},
		{"docomo", "550 Unknown user u1@docomo.test", message.PhaseRcpt, true, true},
		{"docomo", "550 Unknown user u1@docomo.test", message.PhaseDot, true, false},
		{"au", "550 : User unknown", message.PhaseDot, true, false},
		{"qq", "550 Mailbox unavailable or access denied", message.PhaseMail, true, false},
		{"qq", "550 Mailbox not found.", message.PhaseRcpt, true, true},
		{"yahoo-japan", "553 Mail from ip1 not allowed - VS98-IP0 deferred", message.PhaseMail, false, false},
		{"outlook", "451 4.7.651 The mail server [ip1] has been temporarily rate limited", message.PhaseMail, false, false},
	} {
		m := said(noon, tt.carrier, "u1@x.test", tt.reply, tt.phase)
		if got := usual(m).suppress; got != tt.usual {
			t.Errorf("%s: %q after %s: the usual reading suppresses: %v", tt.carrier, tt.reply, tt.phase, got)
		}
		if got := newOurs(false).read(m).suppress; got != tt.ours {
			t.Errorf("%s: %q after %s: ours suppresses: %v", tt.carrier, tt.reply, tt.phase, got)
		}
	}
}

// TestSecondSight: where one is not enough, two of one day are not either.
func TestSecondSight(t *testing.T) {
	o := newOurs(false)
	const text = "550 <u1@ezweb.test>: User unknown"
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{{noon, false}, {noon.Add(11 * time.Hour), false}, {noon.Add(13 * time.Hour), true}} {
		if r := o.read(said(tt.at, "au", "u1@ezweb.test", text, message.PhaseRcpt)); !r.final || r.suppress != tt.want {
			t.Errorf("at %s: %+v, want final, suppress %v", tt.at.Format("15:04"), r, tt.want)
		}
	}
}

// TestDisk compares it with a sorted slice.
func TestDisk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k, q := newDisk(), message.QueueKey{Destination: "a.test"}
	var all []*message.Delivery
	for step := range 20_000 {
		if len(all) > 0 && r.IntN(100) < 45 {
			i := r.IntN(len(all))
			k.remove(all[i])
			all = slices.Delete(all, i, i+1)
			continue
		}
		d := &message.Delivery{ID: k.id(), Queue: q, Due: noon.Add(time.Duration(r.IntN(5000)) * time.Second)}
		k.put(d)
		i, _ := slices.BinarySearchFunc(all, d, order)
		all = slices.Insert(all, i, d)
		if step%500 != 0 {
			continue
		}
		from, until, limit := r.IntN(len(all)), noon.Add(time.Duration(r.IntN(6000))*time.Second), 1+r.IntN(400)
		after := scheduler.Cursor{Due: all[from].Due, ID: all[from].ID}
		got, more, next := k.page(q, after, until, limit)
		want := all[from+1:]
		n := 0
		for n < len(want) && n < limit && !want[n].Due.After(until) {
			n++
		}
		if !slices.Equal(got, want[:n]) || more != (n < len(want)) || more && !next.Equal(want[n].Due) {
			t.Fatalf("step %d: %d deliveries, more %v, next %v; want %d of %d", step, len(got), more, next, n, len(want))
		}
	}
	if k.count != len(all) {
		t.Fatalf("counts %d, has %d", k.count, len(all))
	}
}
