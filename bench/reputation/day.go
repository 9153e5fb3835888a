package reputation

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/carriers/late"
	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// day is one mind's way through the world.
type day struct {
	w        *world
	mind     mind
	now      time.Time
	s        *scheduler.Scheduler
	base     *policy.Set
	steering *policy.Steering // in force
	disk     *disk
	events   events
	chance   *rand.Rand // of the sender: jitter
	traffic  *traffic
	mood     int // next in w.moods
	carriers []*carriers.Carrier
	number   map[string]int // of a carrier
	waiting  map[string][]*session
	listed   map[string]bool // suppressed addresses
	accounts []*Account
	run      *Run
}

// run lets a mind live through the day.
func (w *world) run(ctx context.Context, name string) (*Run, error) {
	m, err := w.newMind(name)
	if err != nil {
		return nil, err
	}
	return w.live(ctx, name, m)
}

func (w *world) live(ctx context.Context, name string, m mind) (*Run, error) {
	began := time.Now()
	var err error
	d := &day{
		w: w, mind: m, now: w.start, disk: newDisk(), chance: w.dice(4), traffic: w.newTraffic(), number: map[string]int{},
		waiting: map[string][]*session{}, listed: map[string]bool{}, run: &Run{Mind: name},
	}
	if d.base, err = w.policyOf(func(p *carriers.Profile) *policy.Carrier { return m.limits(w.written(p)) }); err != nil {
		return nil, err
	}
	for i, p := range w.profiles {
		d.number[p.Name] = i
		a := &Account{Carrier: p.Name, Series: newSeries(w.o.Span)}
		d.accounts = append(d.accounts, a)
		d.carriers = append(d.carriers, w.engine(p, carriers.Options{
			OnViolation: func(carriers.Violation) { a.Violations++ },
			OnBlock:     func(b carriers.Blocked) { d.blocked(a, b) },
		}))
	}
	d.s = scheduler.New(d.now, scheduler.Config{MaxLoaded: 50_000}, d.base)
	m.begin(d.now, d.base)
	d.events.push(event{at: d.now, kind: evSecond})
	if err := d.live(ctx); err != nil {
		return nil, err
	}
	d.close()
	d.run.Took = time.Since(began)
	return d.run, nil
}

// live is the loop: whatever comes first, an event or the scheduler's own time.
func (d *day) live(ctx context.Context) error {
	for n := 0; ; n++ {
		if n&0xffff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := d.events.first()
		if wake := d.s.Wake(d.now); !wake.IsZero() && wake.Before(at) {
			at = wake
		}
		if !at.Before(d.w.end) {
			return nil
		}
		if at.After(d.now) {
			d.now = at
		}
		if !d.events.first().After(d.now) {
			e := d.events.pop()
			d.happen(&e)
		}
		d.act()
	}
}

// act carries out what the scheduler asks for, until it asks for nothing more
// at this moment.
func (d *day) act() {
	for again := true; again; {
		again = false
		for _, a := range d.s.Actions(d.now, 64) {
			d.do(a)
			again = true
		}
		var sites []string // first: to wake one may have the scheduler name it anew
		d.s.Woken(func(site string) { sites = append(sites, site) })
		for _, site := range sites {
			again = d.wake(site) || again
		}
		again = again || d.s.Pending(d.now)
	}
}

func (d *day) do(a scheduler.Action) {
	switch a.Kind {
	case scheduler.Resolve:
		c := d.carrierOf(a.Destination)
		host := d.w.profiles[c].MX[0].Name
		d.s.Resolved(d.now, a.Destination, scheduler.Resolution{Site: host, Hosts: []string{host}, Until: d.w.end.Add(time.Hour)})
	case scheduler.Page:
		ds, more, next := d.disk.page(a.Queue, a.After, a.Until, a.Limit)
		d.s.Paged(d.now, a.Queue, ds, more, next)
	case scheduler.Sweep:
		d.sweep(a)
	case scheduler.Open:
		d.open(a)
	case scheduler.Expire:
		d.expire(a.Delivery)
	default:
		panic(fmt.Sprintf("BUG: the simulated day knows no action %d: every destination resolves", a.Kind))
	}
}

// sweep ends what has expired in a queue that does not move.
func (d *day) sweep(a scheduler.Action) {
	ds, _, _ := d.disk.page(a.Queue, scheduler.Cursor{}, a.Until, 1<<30)
	var earliest time.Time
	for _, x := range ds {
		switch {
		case !x.Expires.After(a.Until):
			if d.s.Take(d.now, x) {
				d.expire(x)
			}
		case earliest.IsZero() || x.Expires.Before(earliest):
			earliest = x.Expires
		}
	}
	d.s.Swept(d.now, a.Queue, earliest, time.Duration(len(ds))*time.Millisecond) // as a disk would take
}

func (d *day) expire(x *message.Delivery) {
	d.accounts[d.carrierOf(x.Queue.Destination)].Expired++
	d.end(x, nil)
}

// end makes a transition durable and tells of it.
func (d *day) end(x, next *message.Delivery) {
	d.disk.remove(x)
	if next != nil {
		d.disk.put(next)
	}
	d.s.Done(d.now, x, next)
}

func (d *day) carrierOf(domain string) int {
	return d.number[d.base.CarrierOf(domain, nil)]
}

func (d *day) happen(e *event) {
	switch e.kind {
	case evSecond:
		d.second()
		d.events.push(event{at: e.at.Add(time.Second), kind: evSecond})
	case evConnected:
		e.session.connected(e.answer)
	case evDone:
		e.session.done(e.answer, e.phase)
	case evLook:
		e.session.look(e.turn)
	case evNotice:
		d.notice(e.notice)
	}
}

// second is what happens once a second, in this order: carriers change their
// minds, the sender decides, mail comes in.
func (d *day) second() {
	for ; d.mood < len(d.w.moods) && !d.w.start.Add(d.w.moods[d.mood].After).After(d.now); d.mood++ {
		m := &d.w.moods[d.mood]
		d.carriers[m.Carrier].Retune(d.now, d.w.sources[m.Source], m.Limits)
	}
	if x, changed := d.mind.second(d.now); changed {
		d.run.Decisions++
		d.steer(x)
	}
	for _, a := range d.traffic.second(d.now) {
		d.accept(a)
	}
}

// steer puts decisions in force, as package node does.
func (d *day) steer(x *policy.Steering) {
	c := x.Since(d.steering)
	slices.SortFunc(c.Lanes, func(a, b policy.Steered) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source))
	})
	d.steering = x
	d.s.SetSteering(d.now, d.base.WithSteering(x), c)
}

// accept takes a message in. An address that is suppressed ends here.
func (d *day) accept(a arrival) {
	p := &d.w.people[a.carrier]
	account, to, t := d.accounts[a.carrier], p.addresses[a.person], p.truth[a.person]
	account.Accepted++
	account.Series.Offered[d.bucket()]++
	if t == takes {
		account.Deliverable++
	}
	if o, ok := d.mind.(*oracle); ok && !o.exists(t) || d.listed[to] {
		account.Withheld++
		return
	}
	x := &message.Delivery{
		ID: d.disk.id(), Due: d.now, Accepted: d.now, Expires: d.now.Add(a.lasts), Size: 4096,
		Queue:      message.QueueKey{Destination: domainOf(to), Priority: a.priority, Tenant: a.tenant, Pool: policy.DefaultName, Job: a.job},
		Recipients: []message.Recipient{{Address: to}},
	}
	d.disk.put(x)
	d.s.Add(d.now, x)
}

func (d *day) bucket() int { return int(d.now.Sub(d.w.start) / Step) }

func (d *day) blocked(a *Account, b carriers.Blocked) {
	a.Blocks++
	until := b.Until
	if until.After(d.w.end) {
		until = d.w.end
	}
	a.BlockedFor += until.Sub(b.At)
}

// suppress lists an address.
func (d *day) suppress(carrier int, to string, complained bool) {
	if d.listed[to] {
		return
	}
	d.listed[to] = true
	a := d.accounts[carrier]
	a.Suppressed++
	if !complained && truthOf(d.carriers[carrier], to).exists() {
		a.Wrong++
	}
}

// notice is a bounce or complaint that comes back by mail.
func (d *day) notice(n *late.Notice) {
	m := &met{at: d.now, carrier: n.Carrier, source: n.Source, to: n.To, late: true, complaint: n.Kind == late.Complaint}
	if !m.complaint {
		m.reply = parseReply("550 "+n.Status+" "+n.Text, message.PhaseDot)
	}
	if r := d.mind.read(m); r.suppress {
		d.suppress(d.number[n.Carrier], n.To, m.complaint)
	}
}

// close reckons the accounts up.
func (d *day) close() {
	for q, s := range d.disk.queues {
		a := d.accounts[d.carrierOf(q.Destination)]
		for _, p := range s.pieces {
			a.Queued += int64(len(p))
		}
	}
	d.allow()
	for i, a := range d.accounts {
		for _, s := range d.w.sources {
			a.Reputation += d.carriers[i].Standing(d.w.end, s).Score / float64(len(d.w.sources))
		}
		a.Attempts = d.carriers[i].Counters().Offered
		a.close()
	}
	d.run.Carriers, d.run.Total = d.accounts, sum(d.accounts, d.w.o.Span)
}

// allow draws what the hidden rates would have let pass.
func (d *day) allow() {
	last := make([]*Mood, len(d.w.profiles)*len(d.w.sources)) // of each lane
	add := func(m *Mood, to time.Duration) {
		each := float64(m.Limits.Rate.N) / m.Limits.Rate.Per.Seconds()
		for at := m.After; at < to; {
			b := int(at / Step)
			next := min(time.Duration(b+1)*Step, to)
			d.accounts[m.Carrier].Series.Allowed[b] += each * (next - at).Seconds()
			at = next
		}
	}
	for i := range d.w.moods {
		m := &d.w.moods[i]
		if m.After >= d.w.o.Span {
			continue
		}
		k := &last[m.Carrier*len(d.w.sources)+m.Source]
		if *k != nil {
			add(*k, m.After)
		}
		*k = m
	}
	for _, m := range last {
		add(m, d.w.o.Span)
	}
}
