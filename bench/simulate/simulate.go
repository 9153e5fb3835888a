package simulate

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// MaxDrift is how far the speed of any clock is from true time, as a part.
const MaxDrift = 0.0005

// Timing of the product as the simulator uses it: the defaults.
const (
	nodeTTL      = 10 * time.Second
	nodeMargin   = 2 * time.Second
	quarantine   = 10 * time.Second
	leaderTTL    = 5 * time.Second
	leaderMargin = time.Second
)

// Options say what is simulated. The zero value is a small world with all
// faults.
type Options struct {
	Seed     uint64
	Nodes    int // default 5
	Controls int // default 3
	Sources  int // default 4 for each node
	Carriers int // default 6
	// Reach is how many carriers each node has mail for. Default all.
	Reach int
	// Duration of the whole run in virtual time, default 4m; Calm of it at the
	// end are without faults, default 90s.
	Duration, Calm time.Duration
	// Slow carriers: their limits are a few messages a minute and there are
	// daily limits on all of them, for runs of days.
	Slow   bool
	Faults Faults
	Break  Break
}

// Faults say how often something goes wrong, in a minute over the whole world.
// The zero value is the usual mix, which grows with the number of nodes.
type Faults struct {
	// None: nothing goes wrong.
	None bool
	// Level multiplies how often things happen. Default 1.
	Level float64
	// Loss is the part of messages that is lost. Default one of several, by the
	// seed.
	Loss float64
}

// Break switches one protection off each, to prove that the checks see it.
type Break struct {
	// TrustSession: a node believes in its lease for a TTL after the last reply
	// came, and looks once a second, as etcd's client does.
	TrustSession bool
	// NoQuarantine: a source goes on as soon as its holder's lease has gone.
	NoQuarantine bool
	// GrantsForever: nodes keep what they were granted until told otherwise.
	GrantsForever bool
	// RaiseUnconfirmed: the leader takes every answer as heard and obeyed.
	RaiseUnconfirmed bool
	// LeaderDoesNotWait: a new leader grants as if nobody held anything.
	LeaderDoesNotWait bool
	// PermitsUnwritten: the leader takes every daily count as written at once.
	PermitsUnwritten bool
}

func (o Options) withDefaults() Options {
	o.Nodes = cmp.Or(o.Nodes, 5)
	o.Controls = cmp.Or(o.Controls, 3)
	o.Sources = cmp.Or(o.Sources, 4*o.Nodes)
	o.Carriers = cmp.Or(o.Carriers, 6)
	o.Reach = min(cmp.Or(o.Reach, o.Carriers), o.Carriers)
	o.Duration = cmp.Or(o.Duration, 4*time.Minute)
	o.Calm = min(cmp.Or(o.Calm, 90*time.Second), o.Duration)
	o.Faults.Level = cmp.Or(o.Faults.Level, 1)
	return o
}

// String is how to run it again.
func (o Options) String() string {
	return fmt.Sprintf("seed %d, %d nodes, %d controls, %d sources, %d carriers (reach %d), %s, slow %v, faults %+v, break %+v",
		o.Seed, o.Nodes, o.Controls, o.Sources, o.Carriers, o.Reach, o.Duration, o.Slow, o.Faults, o.Break)
}

// Result is what a run showed.
type Result struct {
	Options Options
	// Hash of all events in their order: the same for the same options.
	Hash string
	// Violations of what must always hold; at most maxViolations are kept.
	Violations []Violation
	// Total is how many there were.
	Total int

	Events    uint64
	Sent      uint64
	Aborted   uint64 // transactions cut off at the end of a hold
	Residue   int    // ends of transactions begun before a process was stopped, after it went on
	Reports   uint64 // answered
	Elections int
	Moves     int // sources that went to another node
	Takeovers int // epochs
	Faults    map[string]int
	// Writes to etcd: records, transactions of up to 100 records, and the most
	// transactions in one second.
	Records, Writes, MostWrites       int
	RecordsPerSecond, WritesPerSecond float64
	// HeldAfter is how long after healing every source could be used.
	HeldAfter time.Duration
	// Use is what was sent in the last part of the calm, as a part of the
	// limits less the floors of nodes without mail or source: of those carriers
	// that have a burst for every node (Full), and of those where nodes take
	// turns.
	UseFull, UseTurns float64
	CarriersFull      int

	// Real time, measured: it is in no hash.
	Took                      time.Duration
	Decisions                 int
	DecisionMean, DecisionMax time.Duration
	ReportMean                time.Duration
}

// Violation is one thing that must not have happened.
type Violation struct {
	At   time.Duration
	What string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.At, v.What) }

// Run runs one world to its end. An error is ctx's.
func Run(ctx context.Context, o Options) (*Result, error) {
	began := time.Now()
	s := newSim(o.withDefaults())
	s.begin()
	for s.step() {
		if s.res.Events%4096 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("simulate %s: %w", s.opt, context.Cause(ctx))
		}
	}
	s.finish()
	s.res.Took = time.Since(began)
	return &s.res, nil
}
