package fault

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/ledger"
	"hikyaku/bench/load"
	"hikyaku/bench/load/mix"
	"hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/state"
)

// The carriers of all stories, and what policy says of them.
const (
	brisk  = "brisk"  // a budget over all sources
	steady = "steady" // a budget for each source
	open   = "open"   // no limit
	daily  = "daily"  // a budget of a day, which is used up

	briskRate, briskBurst, briskConnections = 60, 12, 8
	steadyRate, steadyBurst                 = 3, 3
	dailyLimit                              = 120

	// slack is what may lie between a sender's decision and a receiver's clock on
	// a busy machine; the simulated carriers of the load suite allow as much.
	slack = 250 * time.Millisecond
	// repeatWindow is how long a receiver's promise may be known to nobody but the
	// process that got it: the time to its durable record, on a busy machine.
	repeatWindow = 250 * time.Millisecond

	movables = 6
	nodes    = 3

	// The leases of the stories; few is what a decision, and mail to show it,
	// may take beyond them.
	leaseTTL, quarantine = 4 * time.Second, 4 * time.Second
	leaderTTL            = 5 * time.Second
	few                  = 8 * time.Second
)

// movable and pinned are source addresses.
func movable(i int) string { return fmt.Sprintf("127.91.0.%d", i+1) }
func pinned(i int) string  { return fmt.Sprintf("127.92.0.%d", i+1) }

// stagePolicy is the policy of all stories.
func stagePolicy() string {
	var b strings.Builder
	resource := func(kind, name, spec string, args ...any) {
		fmt.Fprintf(&b, "kind: %s\nname: %s\nspec: {%s}\n---\n", kind, name, fmt.Sprintf(spec, args...))
	}
	carrier := func(name, limits string) {
		resource("Carrier", name, `domains: [%s], retry: {schedule: [1s, 2s, 3s]}, backoff: 1s, %s`, Domain(name), limits)
	}
	carrier(brisk, fmt.Sprintf(`limits: {rate: "%d/s,burst=%d", connections: %d}`, briskRate, briskBurst, briskConnections))
	carrier(steady, fmt.Sprintf(`per_source: {rate: "%d/s,burst=%d", connections: 4}`, steadyRate, steadyBurst))
	carrier(open, `per_source: {connections: 4}, steering: {rest: 1m, every: 2s}`)
	carrier(daily, fmt.Sprintf(`limits: {per_day: %d}`, dailyLimit))
	var all, bound []string
	for i := range movables {
		name := fmt.Sprintf("s%d", i+1)
		resource("Source", name, `address: %s, ehlo: %s.source.test`, movable(i), name)
		all = append(all, "{name: "+name+"}")
	}
	for i := range nodes {
		name := fmt.Sprintf("p%d", i+1)
		resource("Source", name, `address: %s, node: n%d, ehlo: n%d.e0.%s.test`, pinned(i), i+1, i+1, name)
		bound = append(bound, "{name: "+name+"}")
	}
	resource("Pool", "default", "sources: [%s]", strings.Join(all, ", "))
	resource("Pool", "bound", "sources: [%s]", strings.Join(bound, ", "))
	resource("Stream", "free", "pool: default")
	resource("Stream", "bound", "pool: bound")
	resource("Route", "stage", `domains: ["*"], allow_networks: [127.0.0.0/8]`)
	return strings.TrimSuffix(b.String(), "---\n")
}

// script is how a story's stage is set.
type script struct {
	seed uint64
	args []string // of serve
	// busy is how long a receiver takes for a message before it answers: a time in
	// which a node that is hit does not know yet whether it was taken.
	busy time.Duration
	// quarantine of sources; default that of all stories.
	quarantine time.Duration
	// weights are the messages a second that are handed in to each carrier, rate
	// their sum.
	weights map[string]float64
	rate    float64
	// bound is the share of the mail that goes by the sources bound to each node.
	bound float64
}

// usual is demand above the budgets of brisk and steady, so that every source is
// needed, and modest for the others.
func usual(seed uint64) script {
	return script{seed: seed, weights: map[string]float64{brisk: 80, steady: 30, open: 15, daily: 8}, bound: 0.3, busy: 50 * time.Millisecond}
}

// pressed is demand by which the sources bound to one node alone could use up
// more than its part of the budget of brisk.
func pressed(seed uint64) script {
	return script{seed: seed, weights: map[string]float64{brisk: 140, steady: 20, open: 10}, bound: 0.8}
}

// light is demand that every budget can carry.
func light(seed uint64) script {
	return script{seed: seed, weights: map[string]float64{brisk: 15, steady: 8, open: 10}, bound: 0.3}
}

// stage is one story's world: a cluster under load, and who watches it.
type stage struct {
	testing.TB
	*Cluster
	script
	ctx  context.Context
	rng  *rand.Rand
	w    *Witness
	l    *ledger.Ledger
	cuts []Cut
	// still are times in which a node's process stood still.
	still []standstill
	load  *load.Source
	begun time.Time
	end   func() // of the load; waits for it
}

// standstill is a time in which a node could do nothing, not even close a
// connection.
type standstill struct {
	node     string
	from, to time.Duration
}

// set starts everything and waits until every source is in use.
func set(t testing.TB, sc script) *stage {
	t.Helper()
	for _, w := range sc.weights {
		sc.rate += w
	}
	if sc.quarantine == 0 {
		sc.quarantine = quarantine
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	s := &stage{TB: t, ctx: ctx, script: sc, rng: rand.New(rand.NewPCG(sc.seed, 0)), l: ledger.New(200_000), begun: time.Now()}
	var err error
	if s.w, err = Watch(s.l, brisk, steady, open, daily); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.must("close the witness", s.w.Close()) })
	s.Cluster, err = StartCluster(ctx, Options{
		Dir: directory(t), Host: ownHost(), Nodes: nodes, Resolver: s.w.DNS, Port: s.w.Port, Policy: stagePolicy(), Args: append([]string{"--ehlo-epoch"}, sc.args...),
		LeaseTTL: leaseTTL.String(), Quarantine: sc.quarantine.String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.tell()
		}
		s.must("close the cluster", s.Cluster.Close())
	})
	s.w.Slow(sc.busy)
	s.feed()
	needed := sc.weights[steady]*(1-sc.bound) > movables*steadyRate
	s.until(90*time.Second, "mail from every source", func() bool {
		for i := range movables {
			if _, ok := s.w.Last(movable(i)); !ok && needed {
				return false
			}
		}
		for i := range nodes {
			if _, ok := s.w.Last(pinned(i)); !ok {
				return false
			}
		}
		return true
	})
	s.say("the stage is set after %.1f s", time.Since(s.begun).Seconds())
	return s
}

// clusters counts those that this process has started.
var clusters atomic.Uint32

// ownHost is a loopback address that nobody else listens on, as far as chance
// goes. While a node is down its ports are free, and on 127.0.0.1 some other
// test's mail server would be given one of them, and take the mail.
func ownHost() string {
	n := clusters.Add(1)
	return netip.AddrFrom4([4]byte{127, 100 + byte(os.Getpid()>>8&0x7f), byte(os.Getpid()), byte(1 + n%250)}).String()
}

// logs is where what is left of a story is kept, if anywhere.
var logs = os.Getenv("HIKYAKU_FAULT_LOGS")

// directory is for the data of a story's processes.
func directory(t testing.TB) string {
	t.Helper()
	if logs == "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(logs, strings.NewReplacer("/", "-").Replace(t.Name())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir) // what is left of it disturbs nobody
		}
	})
	return dir
}

// feed hands mail in at all nodes until the story's end.
func (s *stage) feed() {
	s.Helper()
	var to mix.Destinations
	for _, c := range slices.Sorted(maps.Keys(s.weights)) {
		to.Names = append(to.Names, mix.Domain{Name: Domain(c), Weight: s.weights[c]})
	}
	var addrs []string
	for _, n := range s.Nodes {
		addrs = append(addrs, n.SMTP)
	}
	streams := []mix.Stream{{Name: "free", Weight: 1 - s.bound}, {Name: "bound", Weight: s.bound}}
	source, err := load.New(load.Options{
		Mix:   &mix.Mix{Seed: s.seed, Recipients: s.l.Len(), Destinations: to, Streams: streams, Sizes: []mix.Share{{Bytes: 1024, Weight: 1}}},
		Addrs: addrs, Connections: 4 * len(addrs), Rate: s.rate, Poisson: true, Attempts: 3, Timeout: 10 * time.Second, GiveUp: time.Hour, Ledger: s.l,
	})
	if err != nil {
		s.Fatal(err)
	}
	s.load = source
	ctx, cancel := context.WithCancel(s.ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if _, err := source.Run(ctx); err != nil && ctx.Err() == nil {
			s.Errorf("the source of mail: %v", err)
		}
	})
	s.end = func() { cancel(); running.Wait() }
	s.Cleanup(s.end)
}

// over ends a stage before its test does, so that the next can be set.
func (s *stage) over() {
	s.end()
	for _, n := range s.Nodes {
		_ = n.Kill() // that it was killed is no news
	}
	s.must("end etcd", s.Etcd.Close())
}

// say notes what happens, on the witness' clock.
func (s *stage) say(format string, args ...any) {
	s.Helper()
	s.Logf("%7.3f "+format, append([]any{s.w.Now().Seconds()}, args...)...)
}

func (s *stage) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// until waits for a condition.
func (s *stage) until(within time.Duration, what string, cond func() bool) time.Duration {
	s.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Since(began) > within {
			s.Fatalf("at %.3f: not within %v: %s", s.w.Now().Seconds(), within, what)
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("at %.3f: the story takes too long: %s", s.w.Now().Seconds(), what)
		case <-tick.C:
		}
	}
	return time.Since(began)
}

// pass lets time go by under load.
func (s *stage) pass(d time.Duration) {
	s.Helper()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
		s.Fatal("the story takes too long")
	}
}

// ask is the cluster's API at a node that runs, other than some.
func (s *stage) ask(except ...*Node) *client.Cluster {
	s.Helper()
	for _, n := range s.Nodes {
		if n.Running() && !slices.Contains(except, n) {
			c, err := client.New("http://"+n.Admin, client.Options{Timeout: 5 * time.Second})
			s.must("client", err)
			return c.Cluster("the story")
		}
	}
	s.Fatal("no node runs")
	return nil
}

// leader is the node whose process leads.
func (s *stage) leader() *Node {
	s.Helper()
	var l *state.Leader
	s.until(30*time.Second, "a leader", func() (ok bool) {
		var err error
		l, err = s.ask().Leader(s.ctx)
		return err == nil && l.Name != ""
	})
	return s.named(l.Name)
}

func (s *stage) named(id string) *Node {
	s.Helper()
	i := slices.IndexFunc(s.Nodes, func(n *Node) bool { return n.ID == id })
	if i < 0 {
		s.Fatalf("no node %q", id)
	}
	return s.Nodes[i]
}

// other is a node by chance that is not one of some.
func (s *stage) other(than ...*Node) *Node {
	rest := slices.DeleteFunc(slices.Clone(s.Nodes), func(n *Node) bool { return slices.Contains(than, n) })
	return rest[s.rng.IntN(len(rest))]
}

// sources lists the sources; nil while there is no answer.
func (s *stage) sources(except ...*Node) []state.Source {
	list, err := s.ask(except...).Sources(s.ctx, client.SourceFilter{})
	if err != nil {
		return nil
	}
	return list
}

// held are the addresses of the movable sources of a node. One that joined a moment
// after the sources were given out gets its part when it has lived for half a
// minute, and not before (package allocate/sources, Settle).
func (s *stage) held(n *Node) (addresses []string) {
	s.Helper()
	s.until(90*time.Second, "what "+n.ID+" holds", func() bool {
		addresses = nil
		for _, src := range s.sources() {
			if src.Mode == state.Movable && src.State == "held" && src.Node == n.ID {
				addresses = append(addresses, src.Address)
			}
		}
		return len(addresses) > 0
	})
	return addresses
}

// moved waits until all addresses send from other nodes than one, and says how
// long after a time the last of them began to.
func (s *stage) moved(addresses []string, from *Node, since, within time.Duration) time.Duration {
	s.Helper()
	var last time.Duration
	at := map[string]time.Duration{}
	defer func() {
		if s.Failed() {
			s.say("seen elsewhere: %v; the cluster says:", at)
			for _, src := range s.sources() {
				s.Logf("%+v", src)
			}
		}
	}()
	s.until(since+within-s.w.Now(), fmt.Sprintf("mail from %v by another node than %s", addresses, from.ID), func() bool {
		for _, a := range addresses {
			if m, ok := s.w.Last(a); ok && m.At > since && m.Node != from.ID && at[a] == 0 {
				at[a] = m.At
				last = max(last, m.At)
			}
		}
		return len(at) == len(addresses)
	})
	s.say("%d sources of %s are in use elsewhere, the last %.1f s after", len(addresses), from.ID, (last - since).Seconds())
	return last - since
}

// kill ends a node as a crash would.
func (s *stage) kill(n *Node) (at time.Duration) {
	s.Helper()
	s.say("kill -9 of %s", n.ID)
	_ = n.Kill() // that it was killed is no news
	at = s.w.Now()
	s.cuts = append(s.cuts, Cut{at, n.ID})
	return at
}

func (s *stage) restart(n *Node) {
	s.Helper()
	s.must("restart of "+n.ID, n.Restart(s.ctx))
	s.say("%s runs again", n.ID)
}

// stop lets a process stand still; the answer lets it go on.
func (s *stage) stop(n *Node) (at time.Duration, resume func()) {
	s.Helper()
	s.must("stop "+n.ID, n.Process().Pause())
	at = s.w.Now()
	s.say("SIGSTOP of %s", n.ID)
	s.cuts = append(s.cuts, Cut{at, n.ID})
	return at, func() {
		s.Helper()
		s.still = append(s.still, standstill{n.ID, at, s.w.Now()})
		s.must("resume "+n.ID, n.Process().Resume())
		s.say("SIGCONT of %s", n.ID)
	}
}

// healthy waits until every node runs, is registered and has its exchange, no
// movable source is without a holder, and what has no narrow budget has gone.
func (s *stage) healthy(within time.Duration) {
	s.Helper()
	var why string
	took := s.until(within, "a healthy cluster", func() bool { why = s.unwell(); return why == "" })
	s.say("healthy again after %.1f s", took.Seconds())
}

func (s *stage) unwell() string {
	for _, n := range s.Nodes {
		if !n.Running() {
			return n.ID + " does not run"
		}
	}
	list, err := s.ask().Nodes(s.ctx)
	if err != nil {
		return err.Error()
	}
	for _, n := range list {
		if !n.Live || n.ExchangeAge == nil || *n.ExchangeAge > 3 {
			return n.Name + " is not live"
		}
	}
	if len(list) != nodes {
		return fmt.Sprintf("%d members", len(list))
	}
	sources := s.sources()
	if len(sources) == 0 {
		return "no sources"
	}
	for _, src := range sources {
		if src.Mode == state.Movable && src.State != "held" {
			return src.Name + " is " + src.State
		}
	}
	return ""
}

// queued is how many deliveries wait for a carrier on all nodes; false while
// not all nodes have said so.
func (s *stage) queued(carrier string) (n int64, ok bool) {
	q, err := s.ask().Queues(s.ctx, api.MailScope{Destination: Domain(carrier)}, "", client.Where{Limit: 1000})
	if err != nil || !q.Complete || !q.Counted || q.Next != "" {
		return 0, false
	}
	for i := range q.Queues {
		n += q.Queues[i].Queued
	}
	return n, true
}

// flows waits until a carrier gets most of its budget again.
func (s *stage) flows(within time.Duration) {
	s.Helper()
	const span, part = 3 * time.Second, 0.7
	type point struct {
		at time.Duration
		n  int
	}
	points := []point{{s.w.Now(), s.w.Count(brisk)}}
	s.until(within, "most of the budget of "+brisk+" in use", func() bool {
		now := point{s.w.Now(), s.w.Count(brisk)}
		points = append(points, now)
		for len(points) > 2 && now.at-points[1].at >= span {
			points = points[1:]
		}
		d := (now.at - points[0].at).Seconds()
		return d >= span.Seconds() && float64(now.n-points[0].n) >= part*briskRate*d
	})
}

// drained waits until nothing waits for the carriers.
func (s *stage) drained(within time.Duration, carriers ...string) time.Duration {
	s.Helper()
	left := map[string]int64{}
	said := time.Now()
	return s.until(within, fmt.Sprintf("nothing queued for %v", carriers), func() bool {
		empty := true
		for _, c := range carriers {
			n, ok := s.queued(c)
			left[c] = n
			empty = empty && ok && n == 0
		}
		if !empty && time.Since(said) > 5*time.Second {
			said = time.Now()
			s.say("still queued: %v", left)
		}
		return empty
	})
}

// tell shows what the processes said, when a story has failed.
func (s *stage) tell() {
	s.Helper()
	for _, n := range s.Nodes {
		if logs != "" {
			if err := os.WriteFile(filepath.Join(n.Dir, "output"), []byte(n.Output()), 0o600); err != nil {
				s.Log(err)
			}
		}
		s.Logf("%s says:\n%s", n.ID, candidate.Tail(n.Output(), 3000))
	}
}
