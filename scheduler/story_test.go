package scheduler

import (
	"cmp"
	"container/heap"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// story plays a Scheduler in virtual time with sessions that behave as those
// of package delivery do, and draws what was sent, second by second.
type story struct {
	t      *testing.T
	s      *Scheduler
	now    time.Time
	start  time.Time
	disk   *disk
	events eventHeap
	made   int
	idle   []*storySession

	label   func(d *message.Delivery, l Lane) string
	latency func(l Lane) time.Duration // of one message; default 20 ms
	dead    func(site string, at time.Duration) bool
	sent    map[string]map[int]int // by label and interval
	opens   map[int]int
	step    time.Duration              // width of an interval
	peak    int                        // most sessions at once
	mute    bool                       // look-ups are not answered
	most    int                        // messages a session may carry; 0 is no bound
	takes   func(at time.Duration) int // connections that a peer takes at once from a lane; nil is no bound
	live    map[Lane]int
}

type event struct {
	at  time.Time
	seq int
	fn  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return cmp.Or(h[i].at.Compare(h[j].at), cmp.Compare(h[i].seq, h[j].seq)) < 0
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	e := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return e
}

func newStory(t *testing.T, cfg Config, lines ...string) *story {
	st := &story{t: t, now: worldStart, start: worldStart, disk: newDisk(), sent: map[string]map[int]int{}, opens: map[int]int{}, step: time.Second, live: map[Lane]int{}}
	st.s = New(st.now, cfg, policyOf(t, lines...))
	st.latency = func(Lane) time.Duration { return 20 * time.Millisecond }
	st.dead = func(string, time.Duration) bool { return false }
	st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Tenant }
	return st
}

func (st *story) at(after time.Duration, fn func()) {
	st.made++
	heap.Push(&st.events, event{st.start.Add(after), st.made, fn})
}

func (st *story) in(wait time.Duration, fn func()) { st.at(st.now.Add(wait).Sub(st.start), fn) }

// key makes "tenant/stream/job@destination" with priority and pool.
func key(dest, tenant string, more ...string) message.QueueKey {
	k := message.QueueKey{Destination: dest, Tenant: tenant, Priority: message.Normal, Pool: "default", Stream: "default"}
	for _, m := range more {
		name, value, _ := strings.Cut(m, "=")
		switch name {
		case "stream":
			k.Stream = value
		case "job":
			k.Job = value
		case "pool":
			k.Pool = value
		case "priority":
			k.Priority, _ = message.ParsePriority(value)
		}
	}
	return k
}

// accept takes n deliveries at once.
func (st *story) accept(k message.QueueKey, n int) {
	for range n {
		d := st.disk.newDelivery(k, st.now, st.now, 72*time.Hour)
		st.disk.put(d)
		st.s.Add(st.now, d)
	}
}

// stream accepts one delivery each interval from one time to another.
func (st *story) stream(k message.QueueKey, from, to, every time.Duration) {
	for t := from; t < to; t += every {
		st.at(t, func() { st.accept(k, 1) })
	}
}

func (st *story) play(until time.Duration) {
	end := st.start.Add(until)
	for {
		st.settle()
		next := end
		if w := st.s.Wake(st.now); !w.IsZero() && w.Before(next) {
			next = w
		}
		if len(st.events) > 0 && st.events[0].at.Before(next) {
			next = st.events[0].at
		}
		if next.After(st.now) {
			st.now = next
		}
		if !st.now.Before(end) {
			return
		}
		st.due()
	}
}

// due lets happen what has come due.
func (st *story) due() {
	for len(st.events) > 0 && !st.events[0].at.After(st.now) {
		heap.Pop(&st.events).(event).fn()
		st.settle()
	}
}

func (st *story) settle() {
	for {
		acts := st.s.Actions(st.now, 1000)
		for i := range acts {
			st.act(acts[i])
		}
		woken := st.wake()
		if len(acts) == 0 && !woken {
			return
		}
	}
}

func (st *story) wake() (some bool) {
	st.s.Woken(func(site string) {
		lanes := map[Lane]bool{}
		for _, ss := range slices.Clone(st.idle) {
			if ss.lane.Site == site && !lanes[ss.lane] {
				lanes[ss.lane] = true
				st.in(0, ss.pull)
				some = true
			}
		}
	})
	return some
}

func (st *story) act(a Action) {
	switch a.Kind {
	case Resolve:
		if st.mute {
			return
		}
		// a.b.example and c.b.example share the hosts of b.example.
		labels := strings.Split(a.Destination, ".")
		host := "mx." + strings.Join(labels[len(labels)-2:], ".")
		st.s.Resolved(st.now, a.Destination, Resolution{Site: host, Hosts: []string{host}, Until: st.now.Add(time.Hour)})
	case Page:
		st.in(time.Millisecond, func() {
			ds, more := st.disk.page(&a)
			var next time.Time
			if more {
				next, more = st.disk.nextDue(&a, ds)
			}
			st.s.Paged(st.now, a.Queue, ds, more, next)
		})
	case Sweep:
		st.in(time.Millisecond, func() { st.s.Swept(st.now, a.Queue, st.now.Add(72*time.Hour), 0) })
	case Open:
		st.open(a)
	case Expire:
		st.end(a.Delivery, 0)
	case Defer:
		st.end(a.Delivery, time.Minute)
	default:
		st.t.Fatalf("an action of kind %d", a.Kind)
	}
}

func (st *story) open(a Action) {
	st.opens[st.interval()]++
	st.peak = max(st.peak, st.s.Counts().Sessions)
	if st.dead(a.Lane.Site, st.now.Sub(st.start)) {
		st.in(time.Second, func() {
			if v, ok := st.s.Victim(st.now, a.Lane); ok {
				st.end(v.Delivery, 5*time.Minute)
			}
			st.s.SessionClosed(st.now, a.Lane, false, &message.Reply{Code: 421, Text: "connection refused", Fault: message.FaultRefused})
		})
		return
	}
	st.in(30*time.Millisecond, func() {
		if st.takes != nil && st.live[a.Lane] >= st.takes(st.now.Sub(st.start)) {
			st.count("refused")
			st.s.SessionClosed(st.now, a.Lane, false, &message.Reply{Code: 421, Phase: message.PhaseBanner, Text: "too many connections"})
			return
		}
		st.live[a.Lane]++
		st.s.SessionOpened(st.now, a.Lane)
		ss := &storySession{st: st, lane: a.Lane}
		ss.pull()
	})
}

// end is an outcome: gone, or due again after wait.
func (st *story) end(d *message.Delivery, wait time.Duration) {
	var next *message.Delivery
	if wait > 0 {
		next = d.Clone()
		next.Attempts++
		next.Due = st.now.Add(wait)
	}
	if !st.disk.move(d, next) {
		st.t.Fatalf("%s was given out and is not there", d.ID)
	}
	st.s.Done(st.now, d, next)
}

// count draws one more of a label.
func (st *story) count(label string) {
	if st.sent[label] == nil {
		st.sent[label] = map[int]int{}
	}
	st.sent[label][st.interval()]++
}

func (st *story) interval() int { return int(st.now.Sub(st.start) / st.step) }

// storySession is one connection.
type storySession struct {
	st      *story
	lane    Lane
	waiting bool
	since   time.Time
	carried int
	gone    bool
}

func (ss *storySession) pull() {
	st := ss.st
	if ss.gone {
		return
	}
	if ss.waiting {
		ss.waiting = false
		st.s.Idle(ss.lane, -1)
		st.idle = slices.DeleteFunc(st.idle, func(o *storySession) bool { return o == ss })
	} else {
		ss.since = st.now
	}
	v, retry, ok := st.s.Next(st.now, ss.lane)
	if !ok {
		ss.wait(retry)
		return
	}
	st.count(st.label(v.Delivery, ss.lane))
	ss.carried++
	ss.since = st.now
	st.in(st.latency(ss.lane), func() {
		st.end(v.Delivery, 0)
		if st.most > 0 && ss.carried == st.most {
			ss.close()
			return
		}
		ss.since = st.now
		ss.pull()
	})
}

// wait is for work, five seconds at most.
func (ss *storySession) wait(retry time.Time) {
	st := ss.st
	const idle = 5 * time.Second
	if !st.now.Before(ss.since.Add(idle)) || st.s.Crowded(st.now, ss.lane) {
		ss.close()
		return
	}
	ss.waiting = true
	st.s.Idle(ss.lane, 1)
	st.idle = append(st.idle, ss)
	until := ss.since.Add(idle)
	if !retry.IsZero() && retry.Before(until) {
		until = retry
	}
	began := ss.since
	st.at(until.Sub(st.start), func() {
		if ss.waiting && ss.since.Equal(began) {
			ss.pull()
		}
	})
}

func (ss *storySession) close() {
	ss.gone = true
	ss.st.live[ss.lane]--
	ss.st.s.SessionClosed(ss.st.now, ss.lane, true, nil)
}

// draw is the curve: a row an interval, a letter a message (or a few).
func (st *story) draw(b *strings.Builder, until time.Duration) {
	var labels []string
	most := 1
	for l, counts := range st.sent {
		labels = append(labels, l)
		for _, n := range counts {
			most = max(most, n)
		}
	}
	slices.Sort(labels)
	per := (most*max(1, len(labels)) + 99) / 100
	fmt.Fprintf(b, "each letter is %d sent in %s; most connections at once: %d\n", per, st.step, st.peak)
	fmt.Fprintf(b, "%8s %5s", "time", "opens")
	for _, l := range labels {
		fmt.Fprintf(b, " %7s", l)
	}
	b.WriteByte('\n')
	rows := int((until + st.step - 1) / st.step)
	for i := 0; i < rows; i++ {
		row := st.row(labels, i, per)
		same := i + 1
		for same < rows && st.row(labels, same, per) == row {
			same++
		}
		fmt.Fprintf(b, "%8s %s\n", time.Duration(i)*st.step, row)
		if same-i > 2 {
			fmt.Fprintf(b, "%8s\n", "…")
			i = same - 2
		}
	}
	fmt.Fprintf(b, "%8s %5s", "all", "")
	for _, l := range labels {
		sum := 0
		for _, n := range st.sent[l] {
			sum += n
		}
		fmt.Fprintf(b, " %7d", sum)
	}
	b.WriteString("\n\n")
}

func (st *story) row(labels []string, i, per int) string {
	row := fmt.Sprintf("%5d", st.opens[i])
	bar := ""
	for _, l := range labels {
		n := st.sent[l][i]
		row += fmt.Sprintf(" %7d", n)
		bar += strings.Repeat(l[:1], (n+per-1)/per)
	}
	return strings.TrimRight(row+"  |"+bar, " ")
}

// golden compares with, or writes, a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the curve has changed; got\n%s\nwant\n%s", got, want)
	}
}

func rateOf(t testing.TB, s string) *policy.Rate {
	if s == "" {
		return nil
	}
	return mustRate(t, s)
}
