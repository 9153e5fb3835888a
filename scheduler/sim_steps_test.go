package scheduler

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// randomPolicy is always one under which all mail can go in the end.
func (m *sim) randomPolicy() *policy.Set {
	r := m.rnd
	rate := func(field string) string {
		return fmt.Sprintf(`"%s":"%s"`, field, pick(r, "1/s", "5/s", "50/s,burst=10", "1000/s", "30/m,burst=3"))
	}
	limits := func() string {
		s := "{" + rate("rate")
		if r.IntN(2) == 0 {
			s += fmt.Sprintf(`,"connections":%d`, 1+r.IntN(4))
		}
		if r.IntN(3) == 0 {
			s += "," + rate("connection_rate")
		}
		if r.IntN(4) == 0 {
			s += fmt.Sprintf(`,"per_day":%d`, 40+r.IntN(100))
		}
		return s + "}"
	}
	lines := []string{`Source ip1 {"address":"192.0.2.1"}`, `Source ip2 {"address":"192.0.2.2"}`, `Source ip3 {"address":"192.0.2.3","node":"here"}`, "Source off {\"disabled\":true}"}
	lines = append(lines, fmt.Sprintf(`Pool two {"sources":[{"name":"ip1","weight":%d},{"name":"ip2","weight":%d},{"name":"off"}]}`, 1+r.IntN(5), 1+r.IntN(5)))
	lines = append(lines, pick(r, `Pool empty {"sources":[{"name":"off"}]}`, `Pool empty {"sources":[{"name":"ip3"},{"name":"off"}]}`))
	lines = append(lines, `Carrier big {"mx":["mx.big.example"],"limits":`+limits()+`,"per_source":`+limits()+pick(r, "", `,"per_pool":{"two":`+limits()+`}`)+`}`)
	if r.IntN(2) == 0 {
		lines = append(lines, `Carrier default {"limits":`+limits()+`}`)
	}
	if r.IntN(2) == 0 {
		lines = append(lines, `Tenant red {"weight":3,`+rate("rate")+pick(r, "", `,"carriers":{"big":{`+rate("rate")+`,"per_day":50},"default":{`+rate("rate")+`}}`)+`}`, `Tenant blue {"per_day":60,`+rate("rate")+`}`)
	} else {
		lines = append(lines, `Tenant red {}`, `Tenant blue {}`)
	}
	if r.IntN(2) == 0 {
		lines = append(lines, `Stream bulk {"weight":2,`+rate("rate")+`}`)
	} else {
		lines = append(lines, `Stream bulk {}`)
	}
	lines = append(lines, `Stream day {"windows":[{"start":"08:00","end":"20:00"}]}`)
	for i, on := range []string{`"carrier":"big"`, `"carrier":"big","pool":"default"`, `"tenant":"red","job":"j1"`, `"tenant":"blue","carrier":"big"`, `"carrier":"default","source":"ip2"`} {
		if r.IntN(5) == 0 {
			until := m.now.Add(time.Duration(r.IntN(900)) * time.Second).UTC().Format(time.RFC3339)
			lines = append(lines, fmt.Sprintf(`Throttle t%d {%s,%s,"expires":"%s"}`, i, on, rate("rate"), until))
		}
	}
	return policyOf(m.t, lines...)
}

// step does one random thing.
func (m *sim) step() {
	switch p := m.rnd.IntN(100); {
	case p < 25:
		m.accept()
	case p < 35:
		if len(m.handovers) > 0 {
			m.handOver(m.rnd.IntN(len(m.handovers)))
		}
	case p < 55:
		m.doWork()
	case p < 65:
		for _, a := range m.s.Actions(m.now, 1+m.rnd.IntN(20)) {
			m.act(a)
		}
	case p < 80:
		m.session()
	case p < 90:
		m.advance()
	default:
		m.operator()
	}
}

func (m *sim) accept() {
	q, late := m.randomKey(), len(m.handovers)
	for range 1 + m.rnd.IntN(8) {
		due := m.now
		if m.chance(10) {
			due = due.Add(time.Duration(m.rnd.IntN(3600)) * time.Second)
		}
		expires := 72 * time.Hour
		if m.chance(20) {
			expires = time.Duration(m.rnd.IntN(900)) * time.Second
		}
		d := m.disk.newDelivery(q, m.now, due, expires)
		d.Recipients = make([]message.Recipient, pick(m.rnd, 1, 1, 2, 5))
		m.disk.put(d)
		m.handovers = append(m.handovers, d)
	}
	if m.chance(70) {
		for len(m.handovers) > late {
			m.handOver(len(m.handovers) - 1)
		}
	}
}

// handOver gives the i-th delivery that waits for it to the scheduler.
func (m *sim) handOver(i int) {
	d := m.handovers[i]
	m.handovers = append(m.handovers[:i], m.handovers[i+1:]...)
	loaded := m.s.Add(m.now, d)
	m.note("add %s %v loaded %v", d.ID, d.Queue, loaded)
}

func (m *sim) doWork() {
	for range 1 + m.rnd.IntN(4) {
		if len(m.work) == 0 {
			return
		}
		i := m.rnd.IntN(len(m.work))
		fn := m.work[i]
		m.work = append(m.work[:i], m.work[i+1:]...)
		fn()
	}
}

func (m *sim) session() {
	if len(m.sessions) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.sessions))
	ss := m.sessions[i]
	switch {
	case ss.leaving:
	case ss.busy == 0 && m.chance(4):
		m.close(i, pick(m.rnd, nil, nil, &message.Reply{Code: 421}))
	case ss.awake || ss.waiting && m.chance(20):
		m.pull(ss)
	}
}

func (m *sim) advance() {
	d := time.Duration(m.rnd.IntN(1000))
	switch m.rnd.IntN(20) {
	case 0:
		d *= 4 * time.Second
	case 1, 2, 3:
		d *= 100 * time.Millisecond
	default:
		d *= time.Millisecond
	}
	// A hand-over may be late, but not longer than the scheduler remembers.
	for i := len(m.handovers) - 1; i >= 0; i-- {
		if m.now.Add(d).Sub(m.handovers[i].Accepted) > time.Duration(lateSpan) {
			m.handOver(i)
		}
	}
	m.pass(m.now.Add(d))
	if m.grants.Spanning && m.chance(40) {
		m.setGrants(m.randomGrants()) // the next answer of the leader
	}
}

// pass lets time pass. When a throttle ends, the scheduler is told at once, as
// its own timer would tell it.
func (m *sim) pass(to time.Time) {
	next := m.s.set.NextExpiry(m.now)
	m.now = to
	if !next.IsZero() && !next.After(to) {
		for _, a := range m.s.Actions(m.now, 20) {
			m.act(a)
		}
		m.watch.limits(m)
	}
	m.awaken()
}

// awaken wakes sessions whose retry time has come.
func (m *sim) awaken() {
	for _, ss := range m.sessions {
		if ss.waiting && !ss.retry.IsZero() && !ss.retry.After(m.now) {
			ss.awake = true
		}
	}
}

// operator does what an operator might.
func (m *sim) operator() {
	r := m.rnd
	if m.chance(30) {
		m.cluster()
		return
	}
	switch r.IntN(12) {
	case 0, 1:
		m.made++
		h := Hold{ID: fmt.Sprintf("a%d", m.made), Reason: "test"}
		k := m.randomKey()
		h.Scope = pick(r, message.Scope{Destination: k.Destination}, message.Scope{Tenant: k.Tenant}, message.Scope{Stream: k.Stream, Tenant: k.Tenant},
			message.Scope{Job: "j1"}, message.Scope{Carrier: "big"}, message.Scope{Source: "ip1"}, message.Scope{Source: "ip2", Carrier: "big"},
			message.Scope{Source: "ip1", Tenant: k.Tenant}, message.Scope{Pool: "two"})
		m.note("hold %+v", h)
		m.s.Hold(m.now, h)
		m.holds = append(m.holds, h.ID)
	case 2, 3, 4:
		if len(m.holds) > 0 {
			m.note("release %s", m.holds[0])
			m.s.Release(m.now, m.holds[0])
			m.holds = m.holds[1:]
		}
	case 5:
		c := JobControl{Paused: m.chance(40)}
		if m.chance(50) {
			c.Rate = pick(r, &policy.Rate{N: 0, Per: time.Second}, &policy.Rate{N: 2, Per: time.Second})
		}
		tenant, job := pick(r, "red", "blue", "default"), pick(r, "j1", "j2")
		m.note("job %s %s %+v", tenant, job, c)
		m.setJob(jobKey{tenant, job}, c)
	case 6:
		if m.chance(30) {
			m.note("policy")
			m.watch.limits(m)
			m.s.SetPolicy(m.now, m.randomPolicy().WithSteering(m.steering))
			m.watch.limits(m)
		}
	default:
		// Cancel or retry something that is on disk, or was.
		if d := m.someDelivery(); d != nil && m.handed(d) {
			next := pick(r, nil, m.next(d, 0))
			if m.chance(50) {
				m.take(d, next)
			} else {
				m.later(func() { m.take(d, next) })
			}
		}
	}
}

func (m *sim) someDelivery() *message.Delivery {
	var id message.DeliveryID
	if m.disk.made == 0 {
		return nil
	}
	binary.BigEndian.PutUint64(id.Message[8:], 1+m.rnd.Uint64N(m.disk.made))
	return m.disk.byID[id]
}

func (m *sim) setJob(key jobKey, c JobControl) {
	m.jobs[key] = c
	m.s.SetJob(m.now, key.tenant, key.job, c)
	m.watch.limits(m)
}

// handed reports whether the scheduler may know of d.
func (m *sim) handed(d *message.Delivery) bool {
	for _, h := range m.handovers {
		if h.ID == d.ID {
			return false
		}
	}
	return true
}

// restless is how long the cluster goes on moving while the mail goes.
const restless = 300

// calm gives the node all sources and budgets for itself.
func (m *sim) calm() {
	m.setSources(nil)
	m.setGrants(Grants{Lease: 1})
	m.setSteering(nil)
	m.s.SetRefuges(m.now, nil)
}

// finish takes away all that stands in the way and lets all mail go, as fast
// as it may and with nothing but the scheduler's own word on when to look.
func (m *sim) finish() {
	m.ending = true
	m.note("finish: %d on disk", len(m.disk.byID))
	for _, id := range m.holds {
		m.s.Release(m.now, id)
	}
	for _, key := range []jobKey{{"red", "j1"}, {"red", "j2"}, {"blue", "j1"}, {"blue", "j2"}, {"default", "j1"}, {"default", "j2"}} {
		m.setJob(key, JobControl{})
	}
	for m.steps = range 60_000 {
		switch {
		case m.steps == restless:
			m.calm()
		case m.steps < restless && m.chance(20):
			m.cluster()
		}
		for len(m.handovers) > 0 {
			m.handOver(0)
		}
		if m.settleAll(); len(m.disk.byID) == 0 && len(m.out) == 0 {
			return
		}
		if err := m.s.lostWake(at(m.now), m.retries); err != nil {
			m.fail("%v", err)
		}
		if err := m.s.lostHunger(at(m.now), m.retries); err != nil {
			m.fail("%v", err)
		}
		if err := m.s.check(at(m.now)); err != nil {
			m.fail("%v", err)
		}
		m.sleep()
	}
	for _, w := range m.s.WhyScope(m.now, message.Scope{}, 50) {
		m.note("%v: %+v", w.Key, w.Reasons)
	}
	m.fail("%d on disk, %d out, and no end", len(m.disk.byID), len(m.out))
}

// retries reports whether a session of the lane will look again by itself.
func (m *sim) retries(l Lane) bool {
	return slices.ContainsFunc(m.sessions, func(ss *simSession) bool { return ss.lane == l && ss.retry.After(m.now) })
}

// settleAll lets everything happen that can happen without time passing.
func (m *sim) settleAll() {
	rounds := 0
	for idle := false; !idle; rounds++ {
		if idle = true; rounds > 10_000 {
			m.fail("there is always something to do")
		}
		for len(m.work) > 0 {
			m.doWork()
			idle = false
		}
		for _, a := range m.s.Actions(m.now, 100) {
			m.act(a)
			idle = false
		}
		m.wake()
		for _, ss := range m.sessions {
			if ss.awake {
				m.pull(ss)
				m.wake()
				idle = false
			}
		}
	}
}

// sleep passes the time to the next thing that is known to come.
func (m *sim) sleep() {
	next := m.s.Wake(m.now)
	for i := 0; i < len(m.sessions); i++ {
		ss := m.sessions[i]
		if !ss.leaving && !ss.since.Add(5*time.Second).After(m.now) {
			m.close(i, nil)
			return
		}
		for _, t := range []time.Time{ss.since.Add(5 * time.Second), ss.retry} {
			if t.After(m.now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	if next.IsZero() && (m.held != nil || m.grants.Spanning || m.steering != nil) {
		m.calm() // it has no source, or no part of a budget, and no grant will come
		return
	}
	if next.IsZero() {
		for _, w := range m.s.WhyScope(m.now, message.Scope{}, 50) {
			m.note("%v: %+v", w.Key, w.Reasons)
		}
		m.fail("nothing is to come, and %d are on disk", len(m.disk.byID))
	}
	if next.Before(m.now) {
		next = m.now
	}
	if next.Equal(m.now) {
		m.stalls++
		if m.stalls > 1000 {
			m.fail("the scheduler wakes without a reason")
		}
		return
	}
	m.stalls = 0
	m.pass(next)
}

// forget lets time pass until nothing need be remembered.
func (m *sim) forget() {
	for len(m.sessions) > 0 {
		m.close(0, nil)
	}
	for range 3 {
		m.now = m.now.Add(49 * time.Hour)
		m.settleAll()
		for len(m.sessions) > 0 {
			m.close(0, nil)
		}
	}
	c := m.s.Counts()
	if c.Queues+c.Destinations+c.Sites+c.Lanes+c.Loaded+c.InFlight+c.Sessions+c.Paging+c.PageWaiting+c.Resolving+c.ResolveWaiting != 0 {
		m.fail("left at the end: %+v\n%s", c, m.show())
	}
	if len(m.s.timers)+len(m.s.oldest)+m.s.inLine.n+m.s.around.n+len(m.s.items)+len(m.s.out)+m.s.hungering+len(m.s.woken) != 0 || m.s.recent.oldest() != nil {
		m.fail("left at the end: %d timers, %d items, %d actions, %d hungry", len(m.s.timers), len(m.s.items), len(m.s.out), m.s.hungering)
	}
	for key := range m.s.limits.links {
		if key.site != "" {
			m.fail("left at the end: the budget %v", key)
		}
	}
}

// show is everything about one queue that is left.
func (m *sim) show() string {
	for _, q := range m.s.queues {
		return fmt.Sprintf("%+v\ndest %+v\nflow %v now %d sets %d timers %d first %+v", *q, *q.dest, q.flow != nil, m.instant(), len(m.s.pools[q.key.Pool]), len(m.s.timers), m.s.timers.first())
	}
	return ""
}
