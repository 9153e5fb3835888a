package fault

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/state"
)

// story is one fault, or several, under load. The seed chooses who is hit, and
// in what order.
type story struct {
	name string
	play func(t testing.TB, seed uint64, long bool)
}

var stories = []story{
	{"a node is killed", killNode},
	{"the leader is killed", killLeader},
	{"etcd members are killed", killMembers},
	{"a node stands still", standStill},
	{"keep-alive answers are late", lateAnswers},
	{"a node is cut off", cutOff},
	{"the leader is cut off", cutOffLeader},
	{"etcd has no quorum", noQuorum},
	{"a node is drained", drain},
	{"all nodes restart in turn", rollingRestart},
	{"a carrier blocks a source", blockSource},
	{"chaos", chaos},
}

// TestStories plays each story once; with HIKYAKU_LONG=1 with many seeds, and the
// first of them in its longer form.
func TestStories(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes and real leases")
	}
	first, count, long := uint64(1), uint64(1), os.Getenv("HIKYAKU_LONG") == "1"
	if long {
		first, count = 0, longSeeds
	}
	for _, st := range stories {
		for seed := first; seed < first+count; seed++ {
			t.Run(fmt.Sprintf("%s/%d", st.name, seed), func(t *testing.T) {
				t.Parallel()
				st.play(t, seed, long && seed == first)
			})
		}
	}
}

// longSeeds is how many of each story the long form plays.
const longSeeds = 5

// ends is how most stories end: all is well, budgets are used again, and what no
// budget holds back is delivered.
func (s *stage) ends() verdict {
	s.Helper()
	s.healthy(60 * time.Second)
	if s.weights[brisk] > briskRate {
		s.flows(45 * time.Second)
	}
	s.quiet()
	s.drained(60*time.Second, open)
	return s.judge()
}

// perCrash bounds the repeats that a crash may cause: the transactions that a
// node has under way, and those whose record was not on disk. Each is looked at
// on its own as well (Repeats).
const perCrash = 30

func killNode(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	x := s.other(s.leader())
	held := s.held(x)
	at := s.kill(x)
	s.moved(held, x, at, leaseTTL+quarantine+few)
	s.restart(x)
	s.fine(s.ends(), perCrash)
}

func killLeader(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	x := s.leader()
	held := s.held(x)
	at := s.kill(x)
	// Who leads next learns only then who is gone.
	s.moved(held, x, at, max(leaseTTL, leaderTTL)+quarantine+few)
	s.restart(x)
	s.fine(s.ends(), perCrash)
}

// killMembers kills each etcd member in turn, and so its leader at least once.
func killMembers(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	for _, i := range s.rng.Perm(nodes) {
		s.say("kill -9 of etcd member %d", i)
		_ = s.Etcd.Process(i).Kill() // that it was killed is no news
		s.pass(3 * time.Second)
		s.must("restart etcd", s.Etcd.Restart(s.ctx, i))
		s.pass(2 * time.Second)
		s.healthy(60 * time.Second)
	}
	s.fine(s.ends(), 0)
}

// standStill stops a process until its sources are elsewhere, and lets it go on
// with all that it believes.
func standStill(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	x := s.other()
	held := s.held(x)
	at, resume := s.stop(x)
	s.moved(held, x, at, max(leaseTTL, leaderTTL)+quarantine+few)
	s.pass(time.Second)
	resume()
	s.fine(s.ends(), perCrash)
}

// lateAnswers lets etcd's answers to a node arrive when its lease has run out.
func lateAnswers(t testing.TB, seed uint64, long bool) {
	s := set(t, usual(seed))
	x := s.other(s.leader())
	held := s.held(x)
	if long {
		s.late(x)
	}
	at := s.w.Now()
	s.weather(x, Weather{Down: leaseTTL + leaseTTL/2})
	s.moved(held, x, at, leaseTTL+quarantine+few)
	s.pass(2 * time.Second)
	s.weather(x, Weather{})
	s.fine(s.ends(), perCrash)
}

// late delays etcd's answers to a node by a time that its connections bear.
func (s *stage) late(x *Node) {
	s.Helper()
	s.weather(x, Weather{Down: bearable})
	s.pass(2 * leaseTTL)
}

// bearable is just below what ends a connection to etcd, on which nothing comes
// for that long after a ping.
const bearable = 1900 * time.Millisecond

// weather sets that of all ways of a node to etcd.
func (s *stage) weather(x *Node, w Weather) {
	s.say("between %s and etcd: %+v", x.ID, w)
	for _, p := range x.ToEtcd {
		p.Set(w)
	}
}

// isolate cuts a node off from etcd and lets nobody reach it, or heals that.
func (s *stage) isolate(x *Node, cut bool) time.Duration {
	s.say("%s cut off: %t", x.ID, cut)
	x.Isolate(cut)
	return s.w.Now()
}

// cutOff takes etcd and the peers away from a node, not its carriers.
func cutOff(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	x := s.other(s.leader())
	held := s.held(x)
	at := s.isolate(x, true)
	s.moved(held, x, at, leaseTTL+quarantine+few)
	s.boundSends(x, 10*time.Second)
	s.isolate(x, false)
	s.fine(s.ends(), perCrash)
}

// cutOffLeader does the same to the leader's node, whose bound source has mail
// for more than the node's part of a budget. Who leads next may give that part
// away only when it is used no more.
func cutOffLeader(t testing.TB, seed uint64, _ bool) {
	s := set(t, pressed(seed))
	s.flows(30 * time.Second)
	x := s.leader()
	at := s.isolate(x, true)
	s.until(leaderTTL+few, "another leader", func() bool {
		l, err := s.ask(x).Leader(s.ctx)
		return err == nil && l.Name != "" && l.Name != x.ID
	})
	s.say("another leader after %.1f s", (s.w.Now() - at).Seconds())
	s.flows(30 * time.Second)
	s.boundSends(x, 10*time.Second)
	s.isolate(x, false)
	s.fine(s.ends(), perCrash)
}

// boundSends waits until the source that is bound to a node has sent mail from now on.
func (s *stage) boundSends(x *Node, within time.Duration) {
	s.Helper()
	from := s.w.Now()
	s.until(within, "mail from the source bound to "+x.ID, func() bool {
		m, ok := s.w.Last(pinned(slices.Index(s.Nodes, x)))
		return ok && m.At > from
	})
}

// noQuorum takes the majority of etcd away for longer than any lease or grant.
func noQuorum(t testing.TB, seed uint64, long bool) {
	s := set(t, light(seed))
	outage := 20 * time.Second
	if long {
		outage = 3 * time.Minute
	}
	gone := s.rng.Perm(nodes)[:2]
	kill := s.rng.IntN(2) == 0 // else they hang
	for _, i := range gone {
		s.say("etcd member %d gone (killed: %t)", i, kill)
		if kill {
			_ = s.Etcd.Process(i).Kill() // that it was killed is no news
		} else {
			s.must("stop etcd", s.Etcd.Process(i).Pause())
		}
	}
	at := s.w.Now()
	s.pass(outage / 2)
	before := s.load.Progress().Accepted
	for _, n := range s.Nodes {
		s.boundSends(n, outage/2)
	}
	s.pass(at + outage - s.w.Now())
	if got := s.load.Progress().Accepted - before; float64(got) < s.rate*outage.Seconds()/4 {
		s.Errorf("%d messages accepted in the second half of the outage, want most of %.0f a second", got, s.rate)
	}
	for i := range movables {
		if m, ok := s.w.Last(movable(i)); ok && m.At > at+leaseTTL+quarantine {
			s.Errorf("%s was used %.1f s after etcd was gone", m.Source, (m.At - at).Seconds())
		}
	}
	for _, i := range gone {
		if kill {
			s.must("start etcd", s.Etcd.start(i))
		} else {
			s.must("resume etcd", s.Etcd.Process(i).Resume())
		}
	}
	s.say("etcd is back after %.1f s", (s.w.Now() - at).Seconds())
	s.healthy(60 * time.Second)
	s.quiet()
	// The steady carrier takes little, and what came for it during the outage waits.
	took := s.drained(120*time.Second+outage, brisk, steady, open)
	s.say("all drained %.1f s later", took.Seconds())
	s.fine(s.judge(), 0)
}

// drain empties a node by order, under load, and takes it back.
func drain(t testing.TB, seed uint64, _ bool) {
	sc := usual(seed)
	sc.weights[steady] += 15 // enough for every source without what the drained node refuses
	s := set(t, sc)
	x := s.other()
	held := s.held(x)
	at := s.w.Now()
	node := s.drainNode(x)
	s.say("%s is drained after %.1f s", x.ID, (s.w.Now() - at).Seconds())
	if node.SourcesLeft > 0 || node.Queued > 0 {
		s.Errorf("drained, with %d sources and %d deliveries left", node.SourcesLeft, node.Queued)
	}
	s.moved(held, x, at, 30*time.Second)
	_, err := s.ask().Undrain(s.ctx, x.ID, "the story goes on")
	s.must("undrain", err)
	s.boundSends(x, 30*time.Second)
	s.fine(s.ends(), 0)
}

// drainNode orders a drain and waits for its end.
func (s *stage) drainNode(x *Node) (last state.Node) {
	s.Helper()
	_, err := s.ask().Drain(s.ctx, x.ID, "the story wants it")
	s.must("drain", err)
	s.say("drain of %s", x.ID)
	defer func() {
		if s.Failed() {
			s.say("%+v", last)
		}
	}()
	s.until(60*time.Second, x.ID+" to be drained", func() bool {
		n, err := s.ask().Node(s.ctx, x.ID)
		if err == nil {
			last = *n
		}
		return err == nil && n.Drain == "drained"
	})
	return last
}

// rollingRestart stops each node in order and starts it again, one of them while
// etcd is out of its reach.
func rollingRestart(t testing.TB, seed uint64, _ bool) {
	s := set(t, usual(seed))
	order := s.rng.Perm(nodes)
	for turn, i := range order {
		x := s.Nodes[i]
		held := s.held(x)
		at := s.w.Now()
		s.terminate(x)
		alone := turn == len(order)-1
		if alone {
			s.moved(held, x, at, leaseTTL+quarantine+few)
			s.isolate(x, true)
		}
		s.restart(x)
		s.boundSends(x, 30*time.Second)
		if alone {
			s.isolate(x, false)
		}
		s.healthy(60 * time.Second)
	}
	s.fine(s.ends(), 0)
}

// chaos lets one fault follow the other, some at the same time.
func chaos(t testing.TB, seed uint64, long bool) {
	s := set(t, usual(seed))
	span := 30 * time.Second
	if long {
		span = 3 * time.Minute
	}
	crashes := 0
	for end := s.w.Now() + span; s.w.Now() < end; {
		heal := s.disaster(s.other())
		crashes++
		s.pass(time.Duration(1+s.rng.IntN(11)) * time.Second)
		heal()
		s.pass(time.Duration(s.rng.IntN(4)) * time.Second)
	}
	s.fine(s.ends(), perCrash*crashes)
}

// disaster is one fault by chance, and what ends it.
func (s *stage) disaster(x *Node) (heal func()) {
	s.Helper()
	i, j := s.rng.IntN(nodes), s.rng.IntN(nodes) // etcd members
	switch kind := s.rng.IntN(7); kind {
	case 0:
		s.kill(x)
		return func() { s.restart(x) }
	case 1:
		_, heal = s.stop(x)
		return heal
	case 2:
		s.isolate(x, true)
		return func() { s.isolate(x, false) }
	case 3:
		s.weather(x, Weather{Down: time.Duration(1+s.rng.IntN(8)) * time.Second})
		return func() { s.weather(x, Weather{}) }
	case 4:
		s.say("kill -9 of etcd member %d", i)
		_ = s.Etcd.Process(i).Kill() // that it was killed is no news
		return func() { s.must("start etcd", s.Etcd.Restart(s.ctx, i)) }
	case 5:
		s.say("etcd members %d and %d stand still", i, j)
		s.must("stop etcd", s.Etcd.Process(i).Pause())
		s.must("stop etcd", s.Etcd.Process(j).Pause())
		return func() {
			s.must("resume etcd", s.Etcd.Process(i).Resume())
			s.must("resume etcd", s.Etcd.Process(j).Resume())
		}
	case 6:
		s.terminate(x)
		return func() { s.restart(x) }
	default:
		panic(fmt.Sprintf("BUG: kind %d", kind))
	}
}

// terminate ends a node in order.
func (s *stage) terminate(x *Node) {
	s.Helper()
	at := s.w.Now()
	if err := x.Stop(30 * time.Second); err != nil {
		s.Errorf("%s ended with %v", x.ID, err)
	}
	s.say("%s has ended, %.1f s after SIGTERM", x.ID, (s.w.Now() - at).Seconds())
}
