package scheduler

import (
	"fmt"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// oneSession is a scheduler with one open session, in virtual time.
type oneSession struct {
	t    *testing.T
	s    *Scheduler
	now  time.Time
	disk *disk
	lane Lane
}

// withSession opens a session at the site of a.big.example, for the first of
// the deliveries, and lets its buckets fill.
func withSession(t *testing.T, lines []string, ds ...*message.Delivery) *oneSession {
	t.Helper()
	o := &oneSession{t: t, now: worldStart, disk: newDisk()}
	o.s = New(o.now, Config{}, policyOf(t, lines...))
	o.accept(ds...)
	o.act()
	if o.lane == (Lane{}) {
		o.now = o.now.Add(time.Minute)
		o.act()
	}
	if o.lane == (Lane{}) {
		t.Fatal("no session was asked for")
	}
	o.s.SessionOpened(o.now, o.lane)
	o.now = o.now.Add(time.Hour)
	o.act()
	return o
}

func (o *oneSession) accept(ds ...*message.Delivery) {
	for _, d := range ds {
		o.disk.put(d)
		o.s.Add(o.now, d)
	}
	o.act()
}

func (o *oneSession) act() {
	for range 3 {
		for _, a := range o.s.Actions(o.now, 100) {
			switch a.Kind {
			case Resolve:
				o.s.Resolved(o.now, a.Destination, Resolution{Site: "mx.big.example", Hosts: []string{"mx.big.example"}, Until: o.now.Add(24 * time.Hour)})
			case Open:
				if o.lane == (Lane{}) {
					o.lane = a.Lane
				}
			}
		}
	}
}

// next is the session's next delivery, now or when the lane's budget has come.
func (o *oneSession) next() *message.Delivery {
	o.t.Helper()
	for range 3 {
		d, retry, ok := o.s.Next(o.now, o.lane)
		if ok {
			return d.Delivery
		}
		if retry.IsZero() {
			break
		}
		o.now = retry
	}
	o.t.Fatal("nothing is given out")
	return nil
}

var ids = newDisk()

// of makes a delivery of n recipients.
func of(k message.QueueKey, n int) *message.Delivery {
	d := ids.newDelivery(k, worldStart, worldStart, 72*time.Hour)
	d.Recipients = make([]message.Recipient, n)
	return d
}

// rest is what is left of a delivery after its first transaction.
func rest(d *message.Delivery) *message.Delivery {
	n := d.Clone()
	n.Recipients, n.Due = n.Recipients[1:], d.Due.Add(time.Microsecond)
	return n
}

var toBig = key("a.big.example", "red", "stream=bulk", "job=j1")

func TestTransactionsOfOneDeliveryAreAsFarApartAsTheRateSays(t *testing.T) {
	for name, lines := range map[string][]string{
		"carrier": {`Carrier big {"mx":["mx.big.example"],"limits":{"rate":"2/s,burst=1"}}`},
		"source":  {`Carrier big {"mx":["mx.big.example"],"per_source":{"rate":"2/s,burst=1"}}`},
	} {
		o := withSession(t, lines, of(toBig, 10))
		var times []time.Time
		for d := o.next(); d != nil; {
			times = append(times, o.now)
			switch {
			case len(d.Recipients) == 1:
				o.s.Done(o.now, d, nil)
				d = nil
			case o.s.Again(o.now, o.lane, d.ID):
				d = rest(d)
			default:
				o.s.Done(o.now, d, rest(d))
				d = o.next()
			}
		}
		if len(times) != 10 {
			t.Errorf("%s: %d transactions", name, len(times))
		}
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap != 500*time.Millisecond {
				t.Errorf("%s: %s between transactions %d and %d", name, gap, i, i+1)
			}
		}
	}
}

func TestAFurtherTransactionSpendsEveryBudget(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		job   *policy.Rate
		want  int
	}{
		"none":        {want: 20},
		"carrier":     {lines: []string{`Carrier big {"mx":["mx.big.example"],"limits":{"rate":"60/m,burst=3"}}`}, want: 3},
		"source":      {lines: []string{`Carrier big {"mx":["mx.big.example"],"per_source":{"rate":"60/m,burst=4"}}`}, want: 4},
		"tenant":      {lines: []string{`Tenant red {"rate":"60/m,burst=5"}`}, want: 5},
		"stream":      {lines: []string{`Stream bulk {"rate":"60/m,burst=6"}`}, want: 6},
		"job":         {job: &policy.Rate{N: 60, Per: time.Minute, Burst: 7}, want: 7},
		"carrier day": {lines: []string{`Carrier big {"mx":["mx.big.example"],"limits":{"per_day":8}}`}, want: 8},
		"source day":  {lines: []string{`Carrier big {"mx":["mx.big.example"],"per_source":{"per_day":9}}`}, want: 9},
		"tenant day":  {lines: []string{`Tenant red {"per_day":10}`}, want: 10},
		"stream day":  {lines: []string{`Stream bulk {"per_day":11}`}, want: 11},
	} {
		t.Run(name, func(t *testing.T) {
			d := of(toBig, 20)
			o := withSession(t, append(c.lines, `Stream other {}`), d)
			if c.job != nil {
				o.s.SetJob(o.now, "red", "j1", JobControl{Rate: c.job})
				o.now = o.now.Add(time.Hour)
				o.act()
			}
			o.next()
			n := 1
			for n < 20 && o.s.Again(o.now, o.lane, d.ID) {
				n++
			}
			if n != c.want {
				t.Errorf("%d transactions at once, want %d", n, c.want)
			}
		})
	}
}

func TestNothingThatStopsADeliveryLetsAFurtherTransactionBegin(t *testing.T) {
	hold := func(c message.Scope) func(*oneSession) {
		return func(o *oneSession) { o.s.Hold(o.now, Hold{ID: "h", Scope: c}) }
	}
	for name, stop := range map[string]func(*oneSession){
		"hold of the job":         hold(message.Scope{Job: "j1"}),
		"hold of the destination": hold(message.Scope{Destination: "a.big.example"}),
		"hold of the carrier":     hold(message.Scope{Carrier: "big"}),
		"hold of the source":      hold(message.Scope{Source: "ip1"}),
		"tenant from the source":  hold(message.Scope{Source: "ip1", Tenant: "red"}),
		"pause of the job":        func(o *oneSession) { o.s.SetJob(o.now, "red", "j1", JobControl{Paused: true}) },
		"end of the window":       func(o *oneSession) { o.now = o.now.Add(12 * time.Hour) },
		"expiry":                  func(o *oneSession) { o.now = o.now.Add(72 * time.Hour) },
		"source out of the pool": func(o *oneSession) {
			o.s.SetPolicy(o.now, policyOf(o.t, `Source ip1 {}`, `Source ip2 {}`, `Pool default {"sources":[{"name":"ip2"}]}`, `Stream bulk {}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := of(toBig, 3)
			o := withSession(t, []string{`Source ip1 {}`, `Pool default {"sources":[{"name":"ip1"}]}`, `Carrier big {"mx":["mx.big.example"]}`,
				`Stream bulk {"windows":[{"start":"08:00","end":"20:00"}]}`}, d)
			o.next()
			if !o.s.Again(o.now, o.lane, d.ID) {
				t.Fatal("no further transaction although nothing stands in its way")
			}
			stop(o)
			if o.s.Again(o.now, o.lane, d.ID) {
				t.Error("a further transaction")
			}
		})
	}
}

func TestTheLastOfABudgetIsForTheMailWhoseTurnItIs(t *testing.T) {
	low, urgent := key("a.big.example", "red", "priority=low"), key("a.big.example", "blue", "priority=high")
	d := of(low, 50)
	o := withSession(t, []string{`Carrier big {"mx":["mx.big.example"],"limits":{"rate":"60/m,burst=4"}}`}, d)
	o.next()
	o.accept(of(urgent, 1))
	n := 1
	for n < 50 && o.s.Again(o.now, o.lane, d.ID) {
		n++
	}
	if n != 3 {
		t.Errorf("%d transactions of a budget of 4 while urgent mail is ready, want 3", n)
	}
	o.s.Done(o.now, d, rest(d))
	if got := o.next(); got.Queue != urgent {
		t.Errorf("%v goes before urgent mail", got.Queue)
	}
}

func TestWhatIsLeftOfADeliveryStandsFirst(t *testing.T) {
	first, second := of(toBig, 2), of(toBig, 1)
	o := withSession(t, nil, first, second)
	if got := o.next(); got != first {
		t.Fatalf("%s first", got.ID)
	}
	left := rest(first)
	o.s.Done(o.now, first, left)
	if got := o.next(); got != left {
		t.Errorf("%s goes before what is left of %s", got.ID, first.ID)
	}
	if err := o.s.check(at(o.now)); err != nil {
		t.Error(err)
	}
}

func TestFurtherTransactionsCountForFairness(t *testing.T) {
	red, blue := key("a.big.example", "red"), key("a.big.example", "blue")
	var ds []*message.Delivery
	for range 100 {
		ds = append(ds, of(red, 10), of(blue, 1))
	}
	o := withSession(t, nil, ds...)
	sent := map[string]int{}
	for range 60 {
		d := o.next()
		for i := range d.Recipients {
			if i > 0 && !o.s.Again(o.now, o.lane, d.ID) {
				t.Fatal("no further transaction")
			}
			sent[d.Queue.Tenant]++
		}
		o.s.Done(o.now, d, nil)
	}
	if r, b := sent["red"], sent["blue"]; r > b+20 || b > r+20 {
		t.Errorf("%d transactions of one tenant and %d of the other", r, b)
	}
}

func TestEachConnectionSpendsTheConnectionRate(t *testing.T) {
	for limits, want := range map[string]int{"{}": 9, `{"connection_rate":"60/m,burst=3"}`: 3} {
		for _, scope := range []string{"limits", "per_source"} {
			o := withSession(t, []string{fmt.Sprintf(`Carrier big {"mx":["mx.big.example"],"%s":%s}`, scope, limits)}, of(toBig, 1))
			o.now = o.now.Add(time.Hour)
			n := 0
			for n < 9 && o.s.Reconnect(o.now, o.lane) {
				n++
			}
			if n != want {
				t.Errorf("%s %s: %d further connections, want %d", scope, limits, n, want)
			}
			if o.now = o.now.Add(time.Second); !o.s.Reconnect(o.now, o.lane) {
				t.Errorf("%s %s: none a second later", scope, limits)
			}
			o.s.Hold(o.now, Hold{ID: "h", Scope: message.Scope{Source: o.lane.Source}})
			if o.now = o.now.Add(time.Second); o.s.Reconnect(o.now, o.lane) {
				t.Errorf("%s %s: one from a source that is held", scope, limits)
			}
		}
	}
}
