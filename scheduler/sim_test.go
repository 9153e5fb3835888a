package scheduler

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// sim drives a Scheduler as package node does, with everything that happens
// at the same time happening in a random order, against a model of the spool.
type sim struct {
	t     *testing.T
	seed  uint64
	rnd   *rand.Rand
	s     *Scheduler
	disk  *disk
	now   time.Time
	steps int

	keys      []message.QueueKey
	manyKeys  int
	handovers []*message.Delivery // durable, not yet given to Add
	out       map[message.DeliveryID]*message.Delivery
	work      []func() // what runs elsewhere; each call is its next step
	sessions  []*simSession
	holds     []string
	jobs      map[jobKey]JobControl
	grants    Grants
	issued    map[exchange.Scope]int64 // permits ever
	voided    map[exchange.Scope]int64
	held      map[string]bool // sources; nil: all
	brakes    map[linkKey]time.Time
	steering  *policy.Steering
	seen      simSeen
	made      int // holds so far
	ending    bool
	stalls    int
	watch     *watch // of budgets; may be nil
	log       []string
}

// simSeen counts what a run should have come across.
type simSeen struct{ further, granted, permits, stranded, steered, ended int }

type simSession struct {
	lane    Lane
	waiting bool
	awake   bool
	leaving bool
	retry   time.Time
	since   time.Time
	busy    int // attempts
	served  int
}

func newSim(t *testing.T, seed uint64) *sim {
	m := &sim{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), disk: newDisk(), now: worldStart, out: map[message.DeliveryID]*message.Delivery{},
		jobs: map[jobKey]JobControl{}, issued: map[exchange.Scope]int64{}, voided: map[exchange.Scope]int64{}, brakes: map[linkKey]time.Time{}}
	cfg := Config{MaxLoaded: 1 + m.rnd.IntN(200), Page: 1 + m.rnd.IntN(20), MaxPaging: 1 + m.rnd.IntN(4), MaxResolving: 1 + m.rnd.IntN(4), MaxSessions: 1 + m.rnd.IntN(20)}
	m.s = New(m.now, cfg, m.randomPolicy())
	m.manyKeys = pick(m.rnd, 3, 20, 1000)
	m.note("config %+v", cfg)
	return m
}

func (m *sim) note(format string, args ...any) {
	m.log = append(m.log, m.now.Format("02 15:04:05.000000 ")+fmt.Sprintf(format, args...))
}

func (m *sim) fail(format string, args ...any) {
	m.t.Helper()
	tail := m.log
	if len(tail) > 60 {
		tail = tail[len(tail)-60:]
	}
	for _, l := range tail {
		m.t.Log(l)
	}
	m.t.Fatalf("seed %d step %d: %s", m.seed, m.steps, fmt.Sprintf(format, args...))
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (m *sim) chance(percent int) bool { return m.rnd.IntN(100) < percent }

// randomKey is one of a few keys in some runs, and of very many in others.
func (m *sim) randomKey() message.QueueKey {
	if len(m.keys) < m.manyKeys {
		m.keys = append(m.keys, m.newKey())
		return m.keys[len(m.keys)-1]
	}
	return pick(m.rnd, m.keys...)
}

func (m *sim) newKey() message.QueueKey {
	r := m.rnd
	return message.QueueKey{
		Destination: fmt.Sprintf("d%d.%s", r.IntN(6), pick(r, "big.example", "small.example", "none.example", "flaky.example")),
		Priority:    message.Priority(r.IntN(3)), Tenant: pick(r, "red", "blue", "default"),
		Stream: pick(r, "", "bulk", "day"), Pool: pick(r, "default", "default", "two", "empty"), Job: pick(r, "", "", "j1", "j2"),
	}
}

// claim notes that the scheduler has given a delivery out.
func (m *sim) claim(d *message.Delivery, how string) {
	m.note("%s %s due %s", how, d.ID, d.Due.Format("15:04:05.000000"))
	if m.out[d.ID] != nil {
		m.fail("%s was given out by %s while it was out", d.ID, how)
	}
	if !m.disk.has(d) {
		m.fail("%s was given out by %s as it does not stand on disk", d.ID, how)
	}
	if d.Due.After(m.now) {
		m.fail("%s was given out by %s before it was due", d.ID, how)
	}
	m.out[d.ID] = d
}

// end makes a delivery's transition durable now and tells of it later.
func (m *sim) end(d, next *message.Delivery) {
	moved := m.disk.move(d, next)
	m.later(func() {
		delete(m.out, d.ID)
		if moved {
			m.note("done %s next %v", d.ID, next != nil)
			m.s.Done(m.now, d, next)
			return
		}
		m.note("gone %s", d.ID)
		m.s.Done(m.now, d, nil)
		m.s.AddQueue(m.now, d.Queue, d.Due)
	})
}

func (m *sim) later(fn func()) { m.work = append(m.work, fn) }

func (m *sim) next(d *message.Delivery, wait time.Duration) *message.Delivery {
	n := d.Clone()
	n.Attempts++
	n.Due = m.now.Add(wait).Truncate(time.Microsecond)
	if n.Due.After(n.Expires) {
		n.Due = n.Expires
	}
	if !n.Due.After(d.Due) {
		n.Due = d.Due.Add(time.Microsecond)
	}
	return n
}

// act carries an action out.
func (m *sim) act(a Action) {
	switch a.Kind {
	case Resolve:
		m.later(func() { m.answer(a.Destination) })
	case Page:
		m.later(func() { m.read(a) })
	case Sweep:
		m.later(func() { m.sweep(a, Cursor{}, time.Time{}) })
	case Open:
		m.mayOpenHere(&a)
		m.watch.opened(m, a.Lane)
		m.later(func() { m.connect(a) })
	case Expire, Fail, Defer:
		m.claim(a.Delivery, fmt.Sprintf("end %d", a.Kind))
		if a.Kind == Expire && a.Delivery.Expires.After(m.now) {
			m.fail("%s expired too early", a.Delivery.ID)
		}
		m.later(func() {
			if a.Kind == Defer {
				m.end(a.Delivery, m.next(a.Delivery, time.Minute))
				return
			}
			m.end(a.Delivery, nil)
		})
	}
}

func (m *sim) answer(dest string) {
	kind := dest[3:]
	m.note("resolve %s", dest)
	switch {
	case kind == "none.example", kind == "flaky.example" && m.chance(30):
		m.s.ResolveFailed(m.now, dest, message.Reply{Code: 550, Text: "no such domain"}, m.now.Add(5*time.Minute))
	case !m.ending && m.chance(20):
		m.s.ResolveFailed(m.now, dest, message.Reply{Code: 450, Text: "try again"}, m.now.Add(time.Minute))
	default:
		host := "mx." + kind
		if kind == "flaky.example" && m.chance(30) {
			host = "mx2." + kind
		}
		m.s.Resolved(m.now, dest, Resolution{Site: host, Hosts: []string{host}, Until: m.now.Add(time.Duration(m.rnd.IntN(600)) * time.Second)})
	}
}

// read answers a page in three steps, as node does: the page, the next due
// time, the answer.
func (m *sim) read(a Action) {
	if !m.ending && m.chance(5) {
		m.later(func() { m.note("page failed"); m.s.PageFailed(m.now, a.Queue) })
		return
	}
	ds, more := m.disk.page(&a)
	m.later(func() {
		var next time.Time
		if more {
			next, more = m.disk.nextDue(&a, ds)
		}
		m.later(func() {
			m.note("paged %v: %d, more %v", a.Queue, len(ds), more)
			m.s.Paged(m.now, a.Queue, ds, more, next)
		})
	})
}

func (m *sim) sweep(a Action, after Cursor, earliest time.Time) {
	ds, more := m.disk.page(&Action{Queue: a.Queue, After: after, Until: a.Until, Limit: 4})
	m.later(func() {
		for _, d := range ds {
			if d.Expires.After(a.Until) {
				if earliest.IsZero() || d.Expires.Before(earliest) {
					earliest = d.Expires
				}
			} else {
				m.take(d, nil)
			}
			after = positionOf(d).cursor()
		}
		if more && len(ds) > 0 {
			m.sweep(a, after, earliest)
			return
		}
		m.note("swept %v", a.Queue)
		m.s.Swept(m.now, a.Queue, earliest, 0)
	})
}

// take claims what is on disk, or was a moment ago.
func (m *sim) take(d, next *message.Delivery) {
	if !m.s.Take(m.now, d) {
		if m.out[d.ID] == nil && !slices.ContainsFunc(m.s.out, func(a Action) bool { return a.Delivery != nil && a.Delivery.ID == d.ID }) {
			m.fail("%s is said to be out, and is not", d.ID)
		}
		return
	}
	m.note("take %s", d.ID)
	if m.out[d.ID] != nil {
		m.fail("%s was taken while it was out", d.ID)
	}
	m.out[d.ID] = d
	m.later(func() { m.end(d, next) })
}

func (m *sim) connect(a Action) {
	if m.chance(30) && !(m.ending && m.chance(80)) {
		if m.chance(40) { // there is another host
			m.later(func() { m.reconnect(a) })
			return
		}
		reply := &message.Reply{Code: 421, Text: "no"}
		if v, ok := m.s.Victim(m.now, a.Lane); ok {
			m.claim(v.Delivery, "victim")
			m.later(func() { m.end(v.Delivery, m.next(v.Delivery, time.Minute)) })
		}
		if m.chance(20) {
			reply = nil
		}
		m.s.SessionClosed(m.now, a.Lane, false, reply)
		return
	}
	m.s.SessionOpened(m.now, a.Lane)
	m.sessions = append(m.sessions, &simSession{lane: a.Lane, awake: true, since: m.now})
}

func (m *sim) reconnect(a Action) {
	if !m.s.Reconnect(m.now, a.Lane) {
		m.note("no further connection %v", a.Lane)
		m.s.SessionClosed(m.now, a.Lane, false, nil)
		return
	}
	m.watch.opened(m, a.Lane)
	m.connect(a)
}

// pull is what a session does when it is free.
func (m *sim) pull(ss *simSession) {
	if ss.waiting {
		ss.waiting = false
		m.s.Idle(ss.lane, -1)
	}
	ss.awake, ss.retry = false, time.Time{}
	v, retry, ok := m.s.Next(m.now, ss.lane)
	if !ok && m.s.Crowded(m.now, ss.lane) {
		m.note("crowded %v", ss.lane)
		m.seen.ended++
		ss.leaving = true
		m.later(func() { m.close(slices.Index(m.sessions, ss), nil) })
		return
	}
	if !ok {
		ss.waiting, ss.retry = true, retry
		m.s.Idle(ss.lane, 1)
		return
	}
	m.claim(v.Delivery, "next")
	m.allowed(ss, &v)
	m.watch.sent(m, ss.lane, v.Delivery)
	ss.busy++
	ss.served++
	ss.since = m.now
	ss.awake = ss.busy == 1 && m.chance(30) // it may pull the next before this one ends
	m.later(func() { m.attempted(ss, v.Delivery, 1) })
}

// goOn begins a further transaction of a delivery, if it may.
func (m *sim) goOn(ss *simSession, d *message.Delivery) bool {
	if !m.s.Again(m.now, ss.lane, d.ID) {
		return false
	}
	m.note("again %s", d.ID)
	m.seen.further++
	m.allowed(ss, &Dispatch{Delivery: d, Carrier: m.s.sites[ss.lane.Site].carrier})
	m.watch.sent(m, ss.lane, d)
	return true
}

// attempted ends a transaction of a delivery. Each is for one recipient.
func (m *sim) attempted(ss *simSession, d *message.Delivery, sent int) {
	left := d.Recipients[min(sent, len(d.Recipients)):]
	if len(left) > 0 && m.goOn(ss, d) {
		m.later(func() { m.attempted(ss, d, sent+1) })
		return
	}
	ss.busy--
	if !ss.waiting && !ss.leaving {
		ss.awake = true
	}
	p := m.rnd.IntN(100)
	switch {
	case len(left) > 0 && (p < 70 || sent > 1):
		rest := d.Clone()
		rest.Recipients, rest.Due = left, d.Due.Add(time.Microsecond)
		m.end(d, rest)
	case p < 60 || m.ending && p < 95:
		m.end(d, nil)
	case p < 75:
		m.end(d, m.next(d, time.Duration(m.rnd.IntN(90))*time.Second))
	case p < 85:
		m.end(d, m.next(d, 0)) // some recipients are left
	default:
		m.note("put back %s", d.ID)
		delete(m.out, d.ID)
		m.watch.putBack(d)
		m.s.PutBack(m.now, d)
	}
}

// allowed checks what must hold for a dispatch.
func (m *sim) allowed(ss *simSession, v *Dispatch) {
	q := &v.Delivery.Queue
	for _, h := range m.s.holds {
		if h.Scope.MatchesQueue(q) && (h.Scope.Source == "" || h.Scope.Source == ss.lane.Source) && (h.Scope.Carrier == "" || h.Scope.Carrier == v.Carrier) {
			m.fail("%s went from %s although held by %+v", v.Delivery.ID, ss.lane.Source, h)
		}
	}
	if m.s.limits.paused(jobKey{q.Tenant, q.Job}) {
		m.fail("%s went although its job is paused", v.Delivery.ID)
	}
	member := false
	for _, mem := range m.s.set.Pools[q.Pool].Sources {
		member = member || mem.Name == ss.lane.Source && !m.s.set.Sources[mem.Name].Disabled
	}
	m.allowedHere(ss.lane, v)
	if !member {
		m.fail("%s of pool %s went from %s", v.Delivery.ID, q.Pool, ss.lane.Source)
	}
	if stream, _ := m.s.set.StreamOf(q.Tenant, q.Stream); stream != nil && len(stream.Windows) > 0 {
		if h := m.now.UTC().Hour(); h < 8 || h >= 20 {
			m.fail("%s went at night", v.Delivery.ID)
		}
	}
}

// settle checks after each step.
func (m *sim) settle() {
	m.wake()
	if err := m.s.check(at(m.now)); err != nil {
		m.fail("%v", err)
	}
	for key, q := range m.s.queues {
		if waits := q.loaded() > 0 || q.more; waits != (len(m.s.Why(m.now, key)) > 0) {
			m.fail("queue %v has mail waiting: %v, and why: %v", key, waits, m.s.Why(m.now, key))
		}
	}
}

// wake passes wake-ups on as node's dispatcher does: one session of each lane.
func (m *sim) wake() {
	m.s.Woken(func(site string) {
		lanes := map[Lane]bool{}
		for _, ss := range m.sessions {
			if ss.waiting && !ss.awake && ss.lane.Site == site && !lanes[ss.lane] {
				lanes[ss.lane] = true
				ss.awake = true
			}
		}
	})
}

// close ends a session.
func (m *sim) close(i int, failed *message.Reply) {
	ss := m.sessions[i]
	if ss.waiting {
		m.s.Idle(ss.lane, -1)
	}
	m.sessions = append(m.sessions[:i], m.sessions[i+1:]...)
	m.s.SessionClosed(m.now, ss.lane, true, failed)
}

// simSeeds says which runs to make: SCHEDULER_SEED=7 SCHEDULER_RUNS=100 are
// 100 of them from 7 on.
func simSeeds() (first, n uint64) {
	first, n = 1, 40
	if testing.Short() {
		n = 15
	}
	if v, err := strconv.ParseUint(os.Getenv("SCHEDULER_SEED"), 10, 64); err == nil {
		first, n = v, 1
	}
	if v, err := strconv.ParseUint(os.Getenv("SCHEDULER_RUNS"), 10, 64); err == nil {
		n = v
	}
	return first, n
}

func TestSimulation(t *testing.T) {
	first, n := simSeeds()
	var seen simSeen
	for seed := first; seed < first+n; seed++ {
		m := newSim(t, seed)
		m.watch = newWatch()
		for m.steps = range 1200 {
			m.step()
			m.settle()
		}
		m.finish()
		m.watch.check(m)
		m.forget()
		seen.further += m.seen.further
		seen.granted += m.seen.granted
		seen.permits += m.seen.permits
		seen.stranded += m.seen.stranded
		seen.steered += m.seen.steered
		seen.ended += m.seen.ended
	}
	t.Logf("%+v", seen)
	if n >= 10 && (seen.further == 0 || seen.granted == 0 || seen.permits == 0 || seen.stranded == 0 || seen.steered == 0 || seen.ended == 0) {
		t.Errorf("some of this never happened: %+v", seen)
	}
}
