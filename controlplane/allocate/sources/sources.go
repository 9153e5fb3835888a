package sources

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
)

// Config is how patient the allocator is. The zero value has the defaults.
type Config struct {
	// TTL is that of the nodes' leases. Default 10s.
	TTL time.Duration
	// Quarantine is how long a source rests after its holder's lease has gone.
	// Default 10s; negative is none, which is for negative controls only.
	Quarantine time.Duration
	// Settle is how long a node must have lived before sources are moved to it
	// for balance. Default 30s.
	Settle time.Duration
	// MinHold is how long a source stays before it is moved for balance. Default 5m.
	MinHold time.Duration
	// MovesPerMinute bounds moves for balance. Default a hundredth of the
	// sources, at least 10.
	MovesPerMinute int
	// FaultPause is how long a node that could not use a source is not given it
	// again. Default 10m.
	FaultPause time.Duration
}

func (c Config) withDefaults() Config {
	c.TTL = cmp.Or(c.TTL, 10*time.Second)
	c.Quarantine = max(cmp.Or(c.Quarantine, 10*time.Second), 0)
	c.Settle = cmp.Or(c.Settle, 30*time.Second)
	c.MinHold = cmp.Or(c.MinHold, 5*time.Minute)
	c.FaultPause = cmp.Or(c.FaultPause, 10*time.Minute)
	return c
}

// Source is what policy says of a source.
type Source struct {
	Name string
	// Movable: it is enabled, has an address and is not pinned to a node. What
	// is not movable is let go if somebody holds it and left alone otherwise.
	Movable bool
	// Labels that a node must have to hold it, all of them.
	Labels map[string]string
	// Pools that it serves.
	Pools []string
}

// Node is a registration that stands in etcd.
type Node struct {
	Name string
	// Lease is that of the registration; Replaces that of the incarnation
	// before, proven dead (keyspace.Registration).
	Lease, Replaces int64
	Labels          map[string]string
	Capacity        int // 0 is 1
	// Drain: it is to hold nothing.
	Drain bool
	// Backlog is the mail that waits on it, by pool.
	Backlog map[string]int64
}

// Assigned is an assignment and the mod revision at which it was read.
type Assigned struct {
	Revision int64
	keyspace.Assignment
}

// Word is what a node has said of a source in its last exchange, with the lease
// of its report (exchange.HeldSource).
type Word struct {
	Source   string
	Node     string
	Lease    int64
	Epoch    int64
	Released bool
	Fault    string
}

// Input is the world as the leader knows it: registrations and assignments read
// at one revision, or assignments no older than registrations.
type Input struct {
	// Policy is the revision of Sources. While it stays the same the allocator
	// keeps what it worked out of them; 0 is always new.
	Policy   int64
	Sources  []Source
	Nodes    []Node
	Assigned []Assigned
	Words    []Word
}

// Change is a record to write in one guarded transaction.
type Change struct {
	// Revision is the mod revision that the key must still have; 0: there must
	// be no such key.
	Revision int64
	New      keyspace.Assignment
	// Move: it is for balance, not because something had to happen.
	Move bool
}

// Decision is what Step wants.
type Decision struct {
	Changes []Change
	// Next is when something falls due without news; zero if nothing does. It is
	// only a hint: Step may be called at any time.
	Next time.Time
	// How the movable sources stand before Changes.
	Held, Releasing, Quarantined, Free int
	// Homeless have no live node that may hold them.
	Homeless int
}

// Allocator is the memory between steps: when leases were first seen and when
// they went, how long sources have been where they are, and what is on its way.
// It is the leader's; a new leader begins with a new one. Not for concurrent use.
type Allocator struct {
	cfg   Config
	start time.Time

	policy  int64
	sources []source // sorted by name
	byName  map[string]int32
	pools   []string
	classes []class
	groups  int

	leases map[int64]*leaseMemory
	pace   pace

	step stepState
}

// leaseMemory is what is known of one lease.
type leaseMemory struct {
	since time.Time // first seen
	gone  time.Time // zero while it is there
	mark  bool      // named by the input of this step
}

// stay is what is remembered of one source.
type stay struct {
	epoch int64
	since time.Time // the epoch was first seen
	// target is where a source that is being released for balance shall go.
	target string
	asked  int64 // revision for which the release was asked
	// bad is a node that could not use it, until when.
	bad      string
	badUntil time.Time
}

// New is the allocator of a leader elected at now.
func New(now time.Time, cfg Config) *Allocator {
	return &Allocator{
		cfg: cfg.withDefaults(), start: now, policy: -1,
		leases: map[int64]*leaseMemory{}, pace: pace{last: now},
	}
}

// source is a Source as Step needs it.
type source struct {
	Source
	class int32   // of its labels
	group int32   // of class and pools
	pools []int32 // indices
	stay
}

// class is one set of labels that sources ask for.
type class struct {
	key    string
	labels map[string]string
}

// learn works the policy's sources out, if they are new.
func (a *Allocator) learn(in *Input) {
	if in.Policy != 0 && in.Policy == a.policy {
		return
	}
	a.policy = in.Policy
	old, oldNames := a.sources, a.byName
	a.sources = make([]source, 0, len(in.Sources))
	a.byName = make(map[string]int32, len(in.Sources))
	a.pools, a.classes = nil, nil
	pools, classes, groups := map[string]int32{}, map[string]int32{}, map[string]int32{}
	for _, s := range in.Sources {
		a.sources = append(a.sources, source{Source: s})
	}
	slices.SortStableFunc(a.sources, func(x, y source) int { return cmp.Compare(x.Name, y.Name) })
	for i := range a.sources {
		s := &a.sources[i]
		a.byName[s.Name] = int32(i)
		if o, ok := oldNames[s.Name]; ok {
			s.stay = old[o].stay
		}
		key := labelKey(s.Labels)
		if s.class = intern(classes, key); int(s.class) == len(a.classes) {
			a.classes = append(a.classes, class{key, s.Labels})
		}
		names := slices.Compact(slices.Sorted(slices.Values(s.Pools)))
		for _, p := range names {
			n := intern(pools, p)
			if int(n) == len(a.pools) {
				a.pools = append(a.pools, p)
			}
			s.pools = append(s.pools, n)
		}
		s.group = intern(groups, key+"\x00\x00"+strings.Join(names, "\x00"))
	}
	a.groups = len(groups)
}

// intern gives each text a number, in the order of arrival.
func intern(m map[string]int32, text string) int32 {
	n, ok := m[text]
	if !ok {
		n = int32(len(m))
		m[text] = n
	}
	return n
}

func labelKey(labels map[string]string) string {
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k + "\x01" + labels[k] + "\x02")
	}
	return b.String()
}

// Step decides. It reads the input and keeps nothing of it but the policy's
// sources.
func (a *Allocator) Step(now time.Time, in Input) Decision {
	a.learn(&in)
	s := &a.step
	s.begin(a, now, &in)
	s.seeLeases()
	for i := range a.sources {
		s.judge(int32(i))
	}
	s.letStrangersGo()
	s.place()
	s.balance()
	s.forget()
	slices.SortFunc(s.out.Changes, func(x, y Change) int { return cmp.Compare(x.New.Source, y.New.Source) })
	return s.out
}
