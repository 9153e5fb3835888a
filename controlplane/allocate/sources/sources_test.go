package sources_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/keyspace"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

const (
	ttl        = 10 * time.Second
	quarantine = 10 * time.Second
	settle     = 30 * time.Second
	minHold    = 5 * time.Minute
)

// world is the allocator with etcd and nodes. After each write it checks what
// must always be true.
type world struct {
	t       testing.TB
	now     time.Time
	a       *sources.Allocator
	cfg     sources.Config
	policy  int64
	sources []sources.Source
	nodes   []sources.Node
	etcd    map[string]sources.Assigned
	words   map[string]sources.Word
	rev     int64
	lease   int64
	// ends is when the process behind a lease stopped for good; stop is when
	// its registration went, and it has used nothing since.
	stop   map[int64]time.Time
	dead   map[int64]bool
	slow   map[string]bool // nodes that do not answer a release
	moves  int             // sources that changed hands
	writes int
}

func newWorld(t testing.TB, cfg sources.Config) *world {
	cfg.TTL, cfg.Quarantine, cfg.Settle, cfg.MinHold = ttl, quarantine, settle, minHold
	w := &world{
		t: t, now: start, cfg: cfg, policy: 1, etcd: map[string]sources.Assigned{}, words: map[string]sources.Word{},
		stop: map[int64]time.Time{}, dead: map[int64]bool{}, slow: map[string]bool{}, lease: 1000,
	}
	w.a = sources.New(w.now, cfg)
	return w
}

func (w *world) addSources(n, pools int, labels map[string]string) {
	for range n {
		i := len(w.sources)
		w.sources = append(w.sources, sources.Source{Name: fmt.Sprintf("s%05d", i), Movable: true, Labels: labels, Pools: []string{fmt.Sprintf("p%03d", i%pools)}})
	}
	w.policy++
}

func (w *world) join(name string, change ...func(*sources.Node)) *sources.Node {
	w.lease++
	n := sources.Node{Name: name, Lease: w.lease}
	for _, c := range change {
		c(&n)
	}
	w.nodes = append(w.nodes, n)
	return &w.nodes[len(w.nodes)-1]
}

func (w *world) joinMany(n int) {
	for i := range n {
		w.join(fmt.Sprintf("n%04d", i))
	}
}

func (w *world) node(name string) *sources.Node {
	i := slices.IndexFunc(w.nodes, func(n sources.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &w.nodes[i]
}

// die lets a node's registration vanish.
func (w *world) die(name string) {
	w.stop[w.node(name).Lease] = w.now
	w.nodes = slices.DeleteFunc(w.nodes, func(n sources.Node) bool { return n.Name == name })
}

func (w *world) input() sources.Input {
	in := sources.Input{Policy: w.policy, Sources: w.sources, Nodes: slices.Clone(w.nodes)}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for k := range w.etcd {
			if !yield(k) {
				return
			}
		}
	}) {
		in.Assigned = append(in.Assigned, w.etcd[name])
		if word, ok := w.words[name]; ok {
			in.Words = append(in.Words, word)
		}
	}
	return in
}

// step makes one decision and writes all of it.
func (w *world) step() sources.Decision {
	w.t.Helper()
	d := w.a.Step(w.now, w.input())
	for _, c := range d.Changes {
		w.write(c)
	}
	return d
}

// write is a guarded transaction, with all that must be true of it.
func (w *world) write(c sources.Change) bool {
	w.t.Helper()
	old, ok := w.etcd[c.New.Source]
	if old.Revision != c.Revision || ok != (c.Revision != 0) {
		return false
	}
	w.rev++
	w.writes++
	if c.New.State == keyspace.Held {
		w.mayGive(old, c.New)
		if old.Node != "" && old.Node != c.New.Node {
			w.moves++
		}
	} else if c.New.Epoch != old.Epoch {
		w.t.Fatalf("%s: epoch %d became %d without a new holder", c.New.Source, old.Epoch, c.New.Epoch)
	}
	if c.New.Reason == "" || c.New.Since.IsZero() {
		w.t.Fatalf("%s: a change without reason or time: %+v", c.New.Source, c.New)
	}
	w.etcd[c.New.Source] = sources.Assigned{Revision: w.rev, Assignment: c.New}
	return true
}

// mayGive checks a new holder against the one before.
func (w *world) mayGive(old sources.Assigned, next keyspace.Assignment) {
	w.t.Helper()
	if next.Epoch <= old.Epoch {
		w.t.Fatalf("%s: epoch %d after %d", next.Source, next.Epoch, old.Epoch)
	}
	n := w.node(next.Node)
	if _, gone := w.stop[next.Lease]; !gone && (n == nil || n.Lease != next.Lease) {
		w.t.Fatalf("%s was given to %s by lease %d: %+v", next.Source, next.Node, next.Lease, n)
	}
	if old.Node == "" || old.Lease == 0 {
		return
	}
	word := w.words[next.Source]
	stopped, gone := w.stop[old.Lease]
	switch {
	case word.Released && word.Lease == old.Lease && word.Epoch == old.Epoch:
	case w.dead[old.Lease]:
	case gone && w.now.Sub(stopped) >= quarantine:
	default:
		w.t.Fatalf("%s went from %s to %s while %s may use it (lease gone %v since %s)", next.Source, old.Node, next.Node, old.Node, gone, w.now.Sub(stopped))
	}
}

// answer lets nodes do what assignments ask of them.
func (w *world) answer() {
	for name, r := range w.etcd {
		n := w.node(r.Node)
		if r.State == keyspace.Releasing && n != nil && n.Lease == r.Lease && !w.slow[r.Node] {
			w.words[name] = sources.Word{Source: name, Node: r.Node, Lease: r.Lease, Epoch: r.Epoch, Released: true}
		}
	}
}

// run steps each second.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	w.runBy(d, time.Second)
}

func (w *world) runBy(d, step time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(step) {
		w.step()
		w.answer()
	}
}

func (w *world) load() map[string]int {
	load := map[string]int{}
	for _, n := range w.nodes {
		load[n.Name] = 0
	}
	for _, r := range w.etcd {
		if r.State == keyspace.Held {
			load[r.Node]++
		}
	}
	return load
}

func spanOf(load map[string]int) (least, most int) {
	least = 1 << 30
	for _, n := range load {
		least, most = min(least, n), max(most, n)
	}
	return least, most
}

func (w *world) wantEven(by int) {
	w.t.Helper()
	if least, most := spanOf(w.load()); most-least > by {
		w.t.Errorf("%s after the start nodes hold between %d and %d", w.now.Sub(start), least, most)
	}
}

func (w *world) held() int {
	n := 0
	for _, r := range w.etcd {
		if r.State == keyspace.Held {
			n++
		}
	}
	return n
}

func TestFirstDecisionSpreadsEvenly(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(103, 7, nil)
	w.joinMany(10)
	w.step()
	w.wantEven(1)
	if w.held() != 103 {
		t.Errorf("%d of 103 are held", w.held())
	}
	// 103 sources of 7 pools: about 15 of each pool, on ten nodes.
	byPool := map[string]map[string]int{}
	for _, s := range w.sources {
		if byPool[s.Pools[0]] == nil {
			byPool[s.Pools[0]] = map[string]int{}
		}
		byPool[s.Pools[0]][w.etcd[s.Name].Node]++
	}
	for pool, nodes := range byPool {
		if len(nodes) < 9 {
			t.Errorf("pool %s is on %d nodes only", pool, len(nodes))
		}
	}
	// Steady: nothing more happens.
	w.writes = 0
	w.run(30 * time.Minute)
	if w.writes != 0 {
		t.Errorf("%d writes without a cause", w.writes)
	}
}

func TestCapacityAndLabels(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.join("big", func(n *sources.Node) { n.Capacity = 3 })
	w.join("small")
	w.join("tokyo", func(n *sources.Node) { n.Labels = map[string]string{"site": "tokyo"}; n.Capacity = 2 })
	w.addSources(30, 3, nil)
	w.addSources(10, 1, map[string]string{"site": "tokyo"})
	w.addSources(2, 1, map[string]string{"site": "osaka"})
	d := w.step()
	if d.Homeless != 2 || w.held() != 40 {
		t.Errorf("%d homeless, %d held", d.Homeless, w.held())
	}
	load := w.load()
	for _, s := range w.sources[30:40] {
		if w.etcd[s.Name].Node != "tokyo" {
			t.Errorf("%s is at %q", s.Name, w.etcd[s.Name].Node)
		}
	}
	if load["big"] < 2*load["small"] {
		t.Errorf("capacity 3 to 1 to 2: %v", load)
	}
	// The label goes: so do the sources, and nobody else may have them.
	w.node("tokyo").Labels = nil
	w.run(10 * time.Second)
	for _, s := range w.sources[30:40] {
		if r := w.etcd[s.Name]; r.State != keyspace.Free || r.Node != "" || r.Epoch != 1 {
			t.Errorf("%s: %+v", s.Name, r)
		}
	}
}

func TestBacklogDrawsSources(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.joinMany(5)
	w.node("n0003").Backlog = map[string]int64{"p000": 500}
	w.addSources(1, 1, nil)
	w.step()
	if got := w.etcd["s00000"].Node; got != "n0003" {
		t.Errorf("the source went to %s", got)
	}
}

func TestDeath(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(100, 5, nil)
	w.joinMany(10)
	w.run(time.Minute)
	had := w.load()["n0004"]
	w.die("n0004")
	w.moves = 0
	w.run(quarantine - time.Second)
	if w.moves != 0 || w.held() != 100-had {
		t.Errorf("%d moved in the quarantine, %d held", w.moves, w.held())
	}
	w.run(3 * time.Second)
	if w.moves != had || w.held() != 100 {
		t.Errorf("%d moved, the dead one had %d; %d held", w.moves, had, w.held())
	}
	w.wantEven(1)
	// It comes back: its part comes, slowly, and never more than that.
	w.moves = 0
	w.join("n0004")
	w.run(settle - 2*time.Second)
	if w.moves != 0 {
		t.Errorf("%d moves to a node that is hardly there", w.moves)
	}
	before := w.moves
	w.run(time.Minute)
	if got := w.moves - before; got > 11 {
		t.Errorf("%d moves in a minute", got)
	}
	w.run(20 * time.Minute)
	if w.moves > 10 {
		t.Errorf("%d moves for a fair share of 10", w.moves)
	}
	w.wantEven(1)
}

func TestNewIncarnationHasItsSourcesAtOnce(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(20, 2, nil)
	w.joinMany(4)
	w.run(time.Minute)
	before := w.load()["n0001"]
	old := w.node("n0001").Lease
	w.dead[old] = true
	w.lease++
	n := w.node("n0001")
	n.Replaces, n.Lease = old, w.lease
	w.moves = 0
	w.step()
	if w.moves != 0 || w.load()["n0001"] != before {
		t.Errorf("%d moves; it holds %d of %d", w.moves, w.load()["n0001"], before)
	}
	for _, r := range w.etcd {
		if r.Node == "n0001" && (r.Epoch != 2 || r.Lease != w.lease) {
			t.Errorf("%+v", r)
		}
	}
	// Without that proof the next one waits, and has them again.
	w.die("n0001")
	w.join("n0001")
	w.run(quarantine - time.Second)
	if w.load()["n0001"] != 0 {
		t.Error("given back within the quarantine")
	}
	w.run(3 * time.Second)
	if w.load()["n0001"] != before || w.moves != 0 {
		t.Errorf("%d moves; it holds %d of %d", w.moves, w.load()["n0001"], before)
	}
}

func TestDrainMovesAllAtOnce(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(200, 5, nil)
	w.joinMany(4)
	w.run(time.Minute)
	w.node("n0002").Drain = true
	w.step()
	if n := w.load()["n0002"]; n != 0 {
		t.Errorf("%d still held by a node that drains", n)
	}
	w.answer()
	w.step()
	if w.held() != 200 || w.load()["n0002"] != 0 {
		t.Errorf("held %d, %v", w.held(), w.load())
	}
	// A node that does not answer keeps them until its lease goes.
	w.node("n0001").Drain = true
	w.slow["n0001"] = true
	w.run(time.Minute)
	if w.held() >= 200 {
		t.Error("taken from a node that has not let go")
	}
	w.die("n0001")
	w.run(quarantine + 2*time.Second)
	if w.held() != 200 {
		t.Errorf("held %d", w.held())
	}
}

// TestNewLeaderWaitsLonger: it cannot know since when a lease is gone.
func TestNewLeaderWaitsLonger(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(20, 2, nil)
	w.joinMany(4)
	w.run(time.Minute)
	w.die("n0000")
	w.stop[1001] = w.now.Add(ttl) // as the new leader must think
	w.a = sources.New(w.now, w.cfg)
	d := w.step()
	if want := w.now.Add(ttl + quarantine); !d.Next.Equal(want) {
		t.Errorf("next at %s, want %s", d.Next, want)
	}
	w.run(ttl + quarantine - time.Second)
	if w.held() != 15 {
		t.Errorf("held %d", w.held())
	}
	w.run(3 * time.Second)
	if w.held() != 20 {
		t.Errorf("held %d", w.held())
	}
}

func TestPolicyTakesAndGives(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(4, 1, nil)
	w.joinMany(2)
	w.run(10 * time.Second)
	w.sources[0].Movable = false // pinned now
	w.sources = w.sources[:3:3]  // s3 removed
	pinned, removed := "s00000", "s00003"
	w.policy++
	w.run(10 * time.Second)
	for _, name := range []string{pinned, removed} {
		if r := w.etcd[name]; r.State != keyspace.Free || r.Epoch != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	w.sources = append(w.sources, sources.Source{Name: removed, Movable: true})
	w.policy++
	w.run(10 * time.Second)
	if r := w.etcd[removed]; r.State != keyspace.Held || r.Epoch != 2 {
		t.Errorf("back in the policy: %+v", r)
	}
	w.sources = append(w.sources, sources.Source{Name: "default"})
	w.policy++
	w.run(10 * time.Second)
	if _, ok := w.etcd["default"]; ok {
		t.Error("a source without an address was assigned")
	}
}

func TestFaultMovesASourceOnce(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(1, 1, nil)
	w.joinMany(2)
	w.run(10 * time.Second)
	r := w.etcd["s00000"]
	w.words["s00000"] = sources.Word{Source: "s00000", Node: r.Node, Lease: r.Lease, Epoch: r.Epoch, Fault: "no such address"}
	w.run(time.Minute)
	now := w.etcd["s00000"]
	if now.Node == r.Node || now.State != keyspace.Held {
		t.Errorf("after a fault: %+v", now)
	}
	if w.moves != 1 {
		t.Errorf("%d moves", w.moves)
	}
}

// TestPoolsSpreadByExchange: two pools, each on one node. Even numbers, so only
// an exchange of sources helps.
func TestPoolsSpreadByExchange(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.joinMany(2)
	for i := range 8 {
		name, node := fmt.Sprintf("s%05d", i), w.nodes[i/4]
		w.sources = append(w.sources, sources.Source{Name: name, Movable: true, Pools: []string{fmt.Sprint("p", i/4)}})
		w.rev++
		w.etcd[name] = sources.Assigned{Revision: w.rev, Assignment: keyspace.Assignment{Source: name, Epoch: 1, Node: node.Name, Lease: node.Lease, State: keyspace.Held, Since: start, Reason: "test"}}
	}
	w.run(30 * time.Minute)
	for _, n := range w.nodes {
		count := map[string]int{}
		for _, s := range w.sources {
			if w.etcd[s.Name].Node == n.Name {
				count[s.Pools[0]]++
			}
		}
		if count["p0"] != 2 || count["p1"] != 2 {
			t.Errorf("%s has %v", n.Name, count)
		}
	}
	if w.moves != 4 {
		t.Errorf("%d moves", w.moves)
	}
}

// TestStepTwiceAsksOnce: a decision that is not in etcd yet is made again, not
// another one on top.
func TestStepTwiceAsksOnce(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(100, 5, nil)
	w.joinMany(2)
	w.run(time.Minute)
	w.join("n0002")
	w.run(minHold + settle)
	asked := map[string]bool{}
	for i := 0; len(asked) == 0 && i < 100; i++ {
		w.now = w.now.Add(time.Second)
		for range 20 {
			for _, c := range w.a.Step(w.now, w.input()).Changes {
				asked[c.New.Source] = true
			}
		}
	}
	if len(asked) > 1 {
		t.Errorf("%d asked for at one time", len(asked))
	}
}

// TestRandomWorlds: deaths, joins, drains, labels, new leaders, writes that do
// not happen, decisions on old data.
func TestRandomWorlds(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		randomWorld(t, seed)
	}
}

func randomWorld(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	w := newWorld(t, sources.Config{})
	w.addSources(1+rnd.IntN(60), 1+rnd.IntN(8), nil)
	w.addSources(rnd.IntN(20), 2, map[string]string{"site": "a"})
	made := 0
	join := func(replaces int64, name string) {
		site := []string{"a", "b"}[rnd.IntN(2)]
		w.join(name, func(n *sources.Node) {
			n.Labels, n.Capacity, n.Replaces = map[string]string{"site": site}, rnd.IntN(4), replaces
		})
	}
	var old []sources.Change
	for range 400 {
		w.now = w.now.Add(time.Duration(rnd.Int64N(int64(4 * time.Second))))
		switch k := rnd.IntN(24); {
		case k == 0 && len(w.nodes) < 9 || len(w.nodes) == 0:
			made++
			join(0, fmt.Sprintf("n%03d", made))
		case k == 1:
			w.die(w.nodes[rnd.IntN(len(w.nodes))].Name)
		case k == 2: // a new incarnation, at once
			n := w.nodes[rnd.IntN(len(w.nodes))]
			w.dead[n.Lease] = true
			w.die(n.Name)
			join(n.Lease, n.Name)
		case k == 3:
			n := &w.nodes[rnd.IntN(len(w.nodes))]
			n.Drain = !n.Drain
		case k == 4:
			w.a = sources.New(w.now, w.cfg)
		case k == 5:
			w.sources[rnd.IntN(len(w.sources))].Movable = rnd.IntN(3) > 0
			w.policy++
		case k == 6:
			n := w.nodes[rnd.IntN(len(w.nodes))]
			w.slow[n.Name] = !w.slow[n.Name]
		case k == 7: // one that was registered before comes again
			made++
			if rnd.IntN(2) == 0 && made > 1 {
				name := fmt.Sprintf("n%03d", 1+rnd.IntN(made-1))
				if w.node(name) == nil {
					join(0, name)
				}
			}
		}
		w.answer()
		d := w.a.Step(w.now, w.input())
		for _, c := range append(old, d.Changes...) {
			if rnd.IntN(5) > 0 {
				w.write(c)
			} else {
				old = append(old, c) // comes later, or again
			}
		}
		old = old[max(0, len(old)-20):]
	}
	// Peace: everything that can be held is, evenly within each class.
	clear(w.slow)
	for i := range w.nodes {
		w.nodes[i].Drain, w.nodes[i].Capacity = false, 1
	}
	w.run(ttl + quarantine + 5*time.Second)
	able := slices.ContainsFunc(w.nodes, func(n sources.Node) bool { return n.Labels["site"] == "a" })
	for _, s := range w.sources {
		r, ok := w.etcd[s.Name]
		want := keyspace.Free
		if s.Movable && len(w.nodes) > 0 && (s.Labels == nil || able) {
			want = keyspace.Held
		}
		if ok && r.State != want || !ok && want == keyspace.Held {
			t.Fatalf("seed %d: %s (movable %v, labels %v) stands as %+v", seed, s.Name, s.Movable, s.Labels, r)
		}
	}
	w.runBy(3*time.Hour, 15*time.Second)
	w.writes = 0
	w.run(10 * time.Minute)
	if w.writes != 0 {
		t.Fatalf("seed %d: %d writes three hours after the last cause", seed, w.writes)
	}
}

// TestSameCallsSameDecisions.
func TestSameCallsSameDecisions(t *testing.T) {
	var first string
	for range 5 {
		w := newWorld(t, sources.Config{})
		w.addSources(300, 9, nil)
		w.joinMany(7)
		w.run(time.Minute)
		w.die("n0003")
		w.run(time.Minute)
		w.join("n0003")
		w.run(15 * time.Minute)
		var all []string
		for name, r := range w.etcd {
			all = append(all, fmt.Sprint(name, r))
		}
		slices.Sort(all)
		if got := strings.Join(all, "\n"); first == "" {
			first = got
		} else if got != first {
			t.Fatal("two runs differ")
		}
	}
}

func TestHomes(t *testing.T) {
	w := newWorld(t, sources.Config{})
	w.addSources(40, 2, nil)
	w.joinMany(20)
	w.step()
	w.nodes[3].Backlog = map[string]int64{"p000": 100}
	homes := sources.Homes(w.input())
	if len(homes) != 2 || homes[0].Pool != "p000" || len(homes[0].Nodes) != sources.MaxHomes || slices.Contains(homes[0].Nodes, "n0003") {
		t.Errorf("%+v", homes)
	}
	for _, h := range homes {
		for _, n := range h.Nodes {
			if !slices.ContainsFunc(w.sources, func(s sources.Source) bool { return s.Pools[0] == h.Pool && w.etcd[s.Name].Node == n }) {
				t.Errorf("%s has nothing of %s", n, h.Pool)
			}
		}
	}
}

func large() *world {
	w := newWorld(&testing.T{}, sources.Config{})
	w.addSources(10_000, 300, nil)
	w.joinMany(1000)
	for i := range w.nodes {
		w.nodes[i].Labels = map[string]string{"site": []string{"a", "b", "c"}[i%3]}
	}
	for i := range w.sources {
		if i%4 == 0 {
			w.sources[i].Labels = map[string]string{"site": []string{"a", "b", "c"}[i/4%3]}
		}
		w.sources[i].Pools = append(w.sources[i].Pools, fmt.Sprintf("p%03d", (i/7)%300))
	}
	return w
}

// BenchmarkFullDecision places 10,000 sources on 1,000 nodes, from nothing.
func BenchmarkFullDecision(b *testing.B) {
	in := large().input()
	for b.Loop() {
		if d := sources.New(start, sources.Config{}).Step(start, in); len(d.Changes) != 10_000 {
			b.Fatal(len(d.Changes))
		}
	}
}

// BenchmarkDeathOfTenNodes is the decision about their hundred sources.
func BenchmarkDeathOfTenNodes(b *testing.B) {
	w := large()
	w.step()
	before := w.input()
	after := before
	after.Nodes = before.Nodes[10:]
	for b.Loop() {
		a := sources.New(start, sources.Config{})
		a.Step(start, before)
		a.Step(start.Add(time.Second), after)
	}
}

// BenchmarkSteady is a step in which nothing happens.
func BenchmarkSteady(b *testing.B) {
	w := large()
	w.step()
	now := w.now
	in := w.input()
	w.a.Step(now, in)
	for b.Loop() {
		now = now.Add(time.Second)
		w.a.Step(now, in)
	}
}
