package simulate_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// A warm-up over three days in virtual time, with the parts that hold it: the
// controller that steps the days, the leader's account of permits, and the
// schedulers of three nodes. etcd is a map here, and what a node had in its memory
// is gone when it fails.

var (
	warmStart = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	warmDays  = []int64{40, 80, 160}
)

const warmStep = 30 * time.Second

// warmFault is what is broken on purpose, for the controls.
type warmFault struct {
	alone   bool // each node counts a day by itself
	forgets bool // a new leader does not read what etcd has counted
	// behind is by how much the second leader's clock is.
	behind time.Duration
}

type warmWorld struct {
	t      *testing.T
	fault  warmFault
	now    time.Time
	base   *policy.Set
	set    *policy.Set // under what stands in etcd
	days   map[string]keyspace.Day
	revs   map[string]int64
	rev    int64
	steers map[string]keyspace.Steering
	learnt map[string][]byte
	ledger *budgets.Ledger
	ctl    *steer.Controller
	term   int64
	nodes  []*warmNode
	lease  int64
	made   uint64
	sent   []time.Time // from the source that warms up, at the carrier
	caps   map[int]int64
	steps  []string // days as they were decided
}

type warmNode struct {
	name   string
	lease  int64 // 0: it is down
	floor  int64
	serial uint64
	s      *scheduler.Scheduler
	held   map[string]bool
	counts map[string]uint32 // delivered, by source, since the last report
}

func warmPolicy(t *testing.T) *policy.Set {
	var rs []policy.Resource
	add := func(kind, name, spec string) {
		r := policy.Resource{Kind: kind, Name: name, Spec: policy.NewSpec(kind)}
		if err := json.Unmarshal([]byte(spec), r.Spec); err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	add("Reputation", "default", `{"catalogue":"none"}`)
	add("Carrier", "big", `{"domains":["a.example"]}`)
	pool := `{"name":"new","weight":50}`
	add("Source", "new", `{"address":"192.0.2.9"}`)
	for i := range 3 {
		add("Source", fmt.Sprintf("old%d", i), fmt.Sprintf(`{"address":"192.0.2.%d"}`, i+1))
		pool += fmt.Sprintf(`,{"name":"old%d"}`, i)
	}
	add("Pool", "ips", `{"sources":[`+pool+`]}`)
	days, err := json.Marshal(warmDays)
	if err != nil {
		t.Fatal(err)
	}
	add("WarmUp", "new", `{"source":"new","carriers":["big"],"days":`+string(days)+`}`)
	set, problems := policy.New(rs)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	set.Revision = 1
	return set
}

func newWarmWorld(t *testing.T, fault warmFault) *warmWorld {
	w := &warmWorld{t: t, fault: fault, now: warmStart, base: warmPolicy(t), days: map[string]keyspace.Day{}, revs: map[string]int64{},
		steers: map[string]keyspace.Steering{}, learnt: map[string][]byte{}, caps: map[int]int64{}}
	w.set = w.base
	for i := range 3 {
		w.nodes = append(w.nodes, &warmNode{name: fmt.Sprintf("n%d", i), floor: exchange.FullShare / 30})
		w.start(i)
	}
	w.elect()
	w.hold(0)
	return w
}

// start begins a node's process, with nothing in its memory.
func (w *warmWorld) start(i int) {
	n := w.nodes[i]
	w.lease++
	n.lease, n.serial, n.counts = w.lease, 0, map[string]uint32{}
	n.s = scheduler.New(w.now, scheduler.Config{}, w.set)
	n.held = map[string]bool{fmt.Sprintf("old%d", i): true}
	n.s.SetSources(w.now, n.held)
}

// hold gives the new source to a node; whoever had it is dead.
func (w *warmWorld) hold(i int) {
	n := w.nodes[i]
	n.held = maps.Clone(n.held)
	n.held["new"] = true
	n.s.SetSources(w.now, n.held)
}

// elect begins a term: a new account and a new controller, from what etcd has.
func (w *warmWorld) elect() {
	w.term++
	w.ledger = budgets.New(budgets.Config{Leader: "c", Term: w.term, Elected: w.now, Wall: w.clock()})
	w.ctl = steer.New(w.base, w.clock())
	for name, b := range w.learnt {
		if err := w.ctl.Restore(name, b); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, r := range w.steers {
		w.ctl.Adopt(name, r)
	}
	w.limits()
	w.members()
	if w.fault.forgets {
		return
	}
	for key := range w.days {
		w.tellDay(key)
	}
}

// clock is that of the leader's wall.
func (w *warmWorld) clock() time.Time {
	if w.term < 2 {
		return w.now
	}
	return w.now.Add(-w.fault.behind)
}

func (w *warmWorld) tellDay(key string) {
	scope, err := budgets.ParseDayKey(key)
	if err == nil {
		err = w.ledger.SetDay(w.now, scope, w.revs[key], w.days[key])
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// limits tells the leader's account what holds, as controlplane does.
func (w *warmWorld) limits() {
	set, now := w.set, w.now
	w.ledger.SetPolicy(w.now, budgets.Policy{Revision: set.Revision, Daily: set.Daily(now), Limit: func(x exchange.Scope) budgets.Limit {
		l := set.SpanningAt(now, policy.Selector{Carrier: x.Carrier, Pool: x.Pool, Source: x.Source, Tenant: x.Tenant, Stream: x.Stream, Job: x.Job}, x.Site)
		return budgets.Limit{PerDay: l.PerDay}
	}})
}

func (w *warmWorld) members() {
	var ms []budgets.Member
	for i, n := range w.nodes {
		ms = append(ms, budgets.Member{Name: n.name, Lease: n.lease, Rank: int64(i), Floor: n.floor})
	}
	w.ledger.SetMembers(w.now, ms)
}

// decide is the leader's round: what changes is in etcd, and then on all nodes.
func (w *warmWorld) decide() {
	for _, d := range w.ctl.Decide(w.clock()) {
		if d.Source == "new" {
			w.steps = append(w.steps, fmt.Sprintf("%s: %s %s", w.now.Sub(warmStart).Round(time.Minute), d.Action, d.To))
		}
	}
	dirty := w.ctl.Dirty()
	for _, name := range dirty {
		w.steers[name] = w.ctl.Steering(name)
	}
	if len(dirty) > 0 {
		x := keyspace.Merge(w.steers)
		changes := x.Since(w.set.Steering())
		w.set = w.base.WithSteering(x)
		w.limits()
		for _, n := range w.nodes {
			if n.lease != 0 {
				n.s.SetSteering(w.now, w.set, changes)
			}
		}
	}
	if w.now.Sub(warmStart)%(10*time.Minute) == 0 {
		w.learnt["big"] = w.ctl.Snapshot("big")
	}
}

// due writes what the account wants written.
func (w *warmWorld) due() {
	due := w.ledger.Due(w.now)
	for _, d := range due.Days {
		w.rev++
		w.days[d.Key], w.revs[d.Key] = d.Day, w.rev
		w.tellDay(d.Key)
	}
	for _, f := range due.Floors {
		for _, n := range w.nodes {
			if n.name == f.Name {
				n.floor = f.Floor
			}
		}
		w.members()
	}
}

// exchange is one node's report and its answer.
func (w *warmWorld) exchange(n *warmNode) {
	n.serial++
	r := exchange.Report{Node: n.name, Lease: n.lease, Serial: n.serial, Floor: n.floor, Revision: 1, Demands: n.s.Demands(w.now, exchange.MaxScopes)}
	for _, source := range slices.Sorted(maps.Keys(n.counts)) {
		r.Tallies = append(r.Tallies, exchange.Tally{Carrier: "big", Source: source, Tenant: "red", Category: "delivered", N: n.counts[source]})
	}
	clear(n.counts)
	w.ctl.Observe(w.clock(), n.name, r.Tallies, nil)
	var a exchange.Answer
	if err := w.ledger.Report(w.now, &r, &a); err != nil {
		w.t.Fatalf("%s: %v", n.name, err)
	}
	g := scheduler.Grants{Spanning: true, Floor: a.Floor, Rank: a.Rank, Lease: n.lease, Revision: a.Revision, Until: w.now.Add(a.TTL - exchange.GrantMargin), Grants: a.Grants}
	if w.fault.alone {
		g = scheduler.Grants{}
	}
	n.s.SetGrants(w.now, g)
}

// carry lets a node send what it may.
func (w *warmWorld) carry(n *warmNode) {
	for {
		acts := n.s.Actions(w.now, 100)
		if len(acts) == 0 {
			return
		}
		for i := range acts {
			switch a := &acts[i]; a.Kind {
			case scheduler.Resolve:
				n.s.Resolved(w.now, a.Destination, scheduler.Resolution{Site: "mx.a.example", Hosts: []string{"mx.a.example"}, Until: w.now.Add(24 * time.Hour)})
			case scheduler.Open:
				w.session(n, a.Lane)
			case scheduler.Page:
				n.s.Paged(w.now, a.Queue, nil, false, time.Time{})
			}
		}
	}
}

func (w *warmWorld) session(n *warmNode, l scheduler.Lane) {
	n.s.SessionOpened(w.now, l)
	for {
		d, _, ok := n.s.Next(w.now, l)
		if !ok {
			break
		}
		n.counts[l.Source]++
		if l.Source == "new" {
			w.sent = append(w.sent, w.now)
		}
		n.s.Done(w.now, d.Delivery, nil)
	}
	n.s.SessionClosed(w.now, l, true, nil)
}

// accept takes a message in at a node.
func (w *warmWorld) accept(n *warmNode) {
	w.made++
	d := &message.Delivery{Queue: message.QueueKey{Destination: "a.example", Tenant: "red", Stream: "default", Pool: "ips", Priority: message.Normal}, Accepted: w.now, Due: w.now, Expires: w.now.Add(time.Hour)}
	binary.BigEndian.PutUint64(d.ID.Message[8:], w.made)
	n.s.Add(w.now, d)
}

// play runs the three days: the holder of the new source fails on the first, the
// leader on the second, the next holder on the third.
func (w *warmWorld) play() {
	at := func(d time.Duration) bool { return w.now.Sub(warmStart) == d }
	for ; w.now.Before(warmStart.Add(72 * time.Hour)); w.now = w.now.Add(warmStep) {
		switch {
		case at(10 * time.Hour):
			w.fail(0)
		case at(10*time.Hour + time.Minute):
			w.hold(1)
		case at(20 * time.Hour):
			w.start(0)
			w.members()
		case at(30 * time.Hour):
			w.elect()
		case at(58 * time.Hour):
			w.fail(1)
		case at(58*time.Hour + time.Minute):
			w.hold(2)
		}
		w.decide()
		for _, p := range w.ctl.Progress(w.clock()) {
			day := int(w.now.Sub(warmStart) / (24 * time.Hour))
			w.caps[day] = max(w.caps[day], p.PerDay)
		}
		for i, n := range w.nodes {
			if n.lease == 0 {
				continue
			}
			w.exchange(n)
			w.due()
			if int(w.now.Sub(warmStart)/warmStep)%4 == i {
				w.accept(n) // every two minutes
			}
			w.carry(n)
		}
	}
}

func (w *warmWorld) fail(i int) {
	n := w.nodes[i]
	n.lease, n.s = 0, nil
	w.members()
}

// over names what was sent too much: on a day of the warm-up, and in any 24 hours.
func (w *warmWorld) over() (wrong []string) {
	perDay := map[int]int64{}
	for _, at := range w.sent {
		perDay[int(at.Sub(warmStart)/(24*time.Hour))]++
	}
	for day := range 3 {
		if perDay[day] > w.caps[day] {
			wrong = append(wrong, fmt.Sprintf("day %d: %d of %d", day+1, perDay[day], w.caps[day]))
		}
	}
	from := 0
	for to, at := range w.sent {
		for at.Sub(w.sent[from]) >= 24*time.Hour {
			from++
		}
		if n, most := int64(to-from+1), w.caps[int(at.Sub(warmStart)/(24*time.Hour))]; n > most {
			wrong = append(wrong, fmt.Sprintf("%d in the 24 hours to %s, where %d are allowed", n, at.Format(time.DateTime), most))
			break
		}
	}
	w.t.Logf("sent by day: %v, allowed %v; decided: %q", perDay, w.caps, w.steps)
	return wrong
}

func TestWarmUpHoldsThroughFailures(t *testing.T) {
	// A day of a warm-up is 24 hours, and the count is of the last 24: there is no
	// midnight, and no hour that is there twice.
	for _, behind := range []time.Duration{0, 90 * time.Minute} {
		w := newWarmWorld(t, warmFault{behind: behind})
		w.play()
		for _, wrong := range w.over() {
			t.Errorf("the next leader's clock %s behind: %s", behind, wrong)
		}
		perDay := map[int]int64{}
		for _, at := range w.sent {
			perDay[int(at.Sub(warmStart)/(24*time.Hour))]++
		}
		for day, want := range warmDays {
			if w.caps[day] != want || perDay[day] < want*6/10 {
				t.Errorf("the next leader's clock %s behind: day %d: %d were sent, %d allowed; the day's count is %d", behind, day+1, perDay[day], w.caps[day], want)
			}
		}
	}
}

// The negative controls: without permits, or without their count in etcd, the
// same story sends too much, and that is seen.
func TestWarmUpWithoutItsCountIsSeen(t *testing.T) {
	for name, fault := range map[string]warmFault{"each node counts by itself": {alone: true}, "a new leader has forgotten the count": {forgets: true}} {
		w := newWarmWorld(t, fault)
		w.play()
		if len(w.over()) == 0 {
			t.Errorf("%s: nothing is seen", name)
		}
	}
}
