package budgets

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// Timing of sharing. What nodes have to know of is in package exchange.
const (
	// Turn is how long a node keeps its part of a burst that is too small for
	// all, and turnMessages how many messages' time at least.
	Turn         = 15 * time.Second
	turnMessages = 4
	maxTurn      = time.Hour
	// Recently is how long a node that used a scope has a part of its head room.
	Recently = 30 * time.Second
	// Forget is when a scope that nobody speaks of is forgotten.
	Forget = time.Minute
	// ConnectionLinger is how long the connections of a node that is silent are
	// counted after its grants have run out. A server waits five minutes for the
	// next command (RFC 5321 4.5.3.2.7), so then they are gone even if the node
	// has stopped with all of them open.
	ConnectionLinger = 5 * time.Minute
	// PermitAhead is how much demand the permits in the leader's hand cover,
	// which is how often a busy daily budget is written to etcd.
	PermitAhead = time.Minute
)

// maxScopes bounds the scopes of all nodes together. The rest stay at floors.
const maxScopes = 100_000

// Why a report is refused.
var (
	ErrUnknown = errors.New("the node is no member")
	ErrLease   = errors.New("the report is not of the node's registered lease")
	ErrOld     = errors.New("the report is older than one already answered")
)

// Limit is the whole of a budget as nodes have to share it. A rate without Per,
// no connections and no daily count are no limit of that kind.
type Limit struct {
	N           int64 // messages
	Per         time.Duration
	Burst       int64 // at least 1 with a rate
	LinkN       int64 // new connections
	LinkPer     time.Duration
	LinkBurst   int64
	Connections int64
	PerDay      int64
}

// IsZero reports whether nothing is limited.
func (l Limit) IsZero() bool { return l == Limit{} }

// Member is a member of the cluster (keyspace.Member), alive or not.
type Member struct {
	Name  string
	Lease int64 // of its registration; 0 while it has none
	Rank  int64
	Floor int64 // as it stands in etcd
	Drain bool
	// Drained: its drain is over, so nothing of it is open.
	Drained bool
}

// Config is what a leader begins with.
type Config struct {
	Leader string
	Term   int64
	// Elected is when this process won the office, on the clock of all later
	// times; Wall is the wall clock then, for the dates of daily counts. Wall
	// defaults to Elected. The wall clocks of control planes may be ten minutes
	// apart.
	Elected, Wall time.Time
}

// Ledger is what a leader knows of budgets. Not for concurrent use.
type Ledger struct {
	cfg    Config
	policy Policy

	members []*member // sorted by name
	byName  map[string]*member
	ghosts  []*member // removed, with grants that have not run out
	settled bool      // every member has confirmed an answer of this term, or TTL has passed
	counted bool      // every member has told its connections, or they are closed by now
	ceiling int64     // of all floors together (floor.go)
	shrunk  time.Time // when a member was removed last
	begun   bool      // members have been told

	scopes map[exchange.Scope]*scope
	list   []*scope // the same, in the order they came
	swept  time.Time
	ticked time.Time

	metrics Metrics

	shares, conns []int64 // wants, while a level is worked out
}

// Metrics count what happened since the ledger began.
type Metrics struct {
	Reports    uint64
	Refused    uint64 // reports
	Crowded    uint64 // demands beyond maxScopes
	Expired    uint64 // nodes whose grants ran out
	DayWrites  uint64 // records of daily counts that were confirmed
	Permits    uint64 // given to nodes
	TurnsTaken uint64
}

// New begins a term without members, limits and daily counts: SetPolicy,
// SetMembers and SetDay come before the first report.
func New(cfg Config) *Ledger {
	if cfg.Wall.IsZero() {
		cfg.Wall = cfg.Elected
	}
	return &Ledger{
		cfg: cfg, byName: map[string]*member{}, scopes: map[exchange.Scope]*scope{},
		swept: cfg.Elected, shrunk: cfg.Elected,
		policy: Policy{Limit: func(exchange.Scope) Limit { return Limit{} }},
	}
}

// Metrics is a snapshot.
func (l *Ledger) Metrics() Metrics { return l.metrics }

// Settled reports whether the old leader's grants no longer matter.
func (l *Ledger) Settled() bool { return l.settled }

// Policy is what a revision of the policy says of budgets.
type Policy struct {
	Revision int64
	// Daily: some limit of a day is shared.
	Daily bool
	// Limit must give the same answer for the same scope each time.
	Limit func(exchange.Scope) Limit
}

// SetPolicy puts a policy in force. Call it again when a throttle ends.
func (l *Ledger) SetPolicy(now time.Time, p Policy) {
	l.policy = p
	for _, s := range l.list {
		if next := p.Limit(s.id).sane(); next != s.limit {
			s.limit = next
			l.reckon(s)
		}
	}
	l.Tick(now)
}

// sane is the limit without values that make no sense.
func (l Limit) sane() Limit {
	if l.Per <= 0 {
		l.N, l.Per, l.Burst = 0, 0, 0
	} else {
		l.N, l.Burst = max(l.N, 0), max(l.Burst, 1)
	}
	if l.LinkPer <= 0 {
		l.LinkN, l.LinkPer, l.LinkBurst = 0, 0, 0
	} else {
		l.LinkN, l.LinkBurst = max(l.LinkN, 0), max(l.LinkBurst, 1)
	}
	l.Connections, l.PerDay = max(l.Connections, 0), max(l.PerDay, 0)
	return l
}

// SetMembers tells all members, whenever one of them has changed. A member that
// is missing has been removed: somebody vouches that it does not send any more.
func (l *Ledger) SetMembers(now time.Time, members []Member) {
	seen := make(map[string]bool, len(members))
	for _, want := range members {
		seen[want.Name] = true
		m := l.byName[want.Name]
		if m == nil {
			m = &member{Member: Member{Name: want.Name, Rank: want.Rank}, stakes: map[*scope]*stake{}}
			l.byName[want.Name] = m
			i, _ := slices.BinarySearchFunc(l.members, want.Name, func(m *member, name string) int { return cmp.Compare(m.Name, name) })
			l.members = slices.Insert(l.members, i, m)
		}
		if want.Lease != m.Lease && want.Lease != 0 {
			m.newLease(want.Lease)
		}
		m.Lease, m.Drain, m.Drained = want.Lease, want.Drain, want.Drained
		m.recorded = want.Floor
		l.changeFloor(m, max(want.Floor, l.planned(m)), want.Rank)
	}
	for _, m := range slices.Clone(l.members) {
		if !seen[m.Name] {
			l.remove(now, m)
		}
	}
	if !l.begun {
		l.begun = true
		l.beginFloors()
	}
	l.planFloors(now)
	l.Tick(now)
}

func (l *Ledger) remove(now time.Time, m *member) {
	l.members = slices.DeleteFunc(l.members, func(o *member) bool { return o == m })
	delete(l.byName, m.Name)
	l.shrunk, l.ceiling = now, l.ceiling-m.recorded
	l.changeFloor(m, 0, m.Rank)
	l.ghosts = append(l.ghosts, m)
}

// Tick does what falls due without a report: grants that run out, scopes that
// are forgotten. Report calls it too; call it about once a second.
func (l *Ledger) Tick(now time.Time) {
	l.ticked = now
	l.settle(now)
	for _, m := range l.members {
		l.expire(now, m)
	}
	l.ghosts = slices.DeleteFunc(l.ghosts, func(m *member) bool {
		l.expire(now, m)
		return len(m.stakes) == 0
	})
	if now.Sub(l.swept) >= Forget/6 {
		l.swept = now
		l.sweep(now)
		l.planFloors(now)
	}
}

// settle notes when nothing that the old leader granted can hold any more, and
// when the connections of all members are known: of one that is silent since
// before this leader's time nobody knows how many it left open.
func (l *Ledger) settle(now time.Time) {
	if !l.counted && l.begun {
		l.counted = now.Sub(l.cfg.Elected) >= exchange.GrantTTL+ConnectionLinger ||
			!slices.ContainsFunc(l.members, func(m *member) bool { return !m.heard && !m.Drained })
	}
	if l.settled {
		return
	}
	if now.Sub(l.cfg.Elected) < exchange.GrantTTL {
		for _, m := range l.members {
			if !m.settled {
				return
			}
		}
		if !l.begun {
			return
		}
	}
	l.settled = true
	for _, s := range l.list {
		s.levelAt = time.Time{}
	}
}

// SetDay tells what etcd holds of a daily budget: at the beginning, when a watch
// brings it, and when a write from Due has succeeded. A record that is gone is
// one without slots.
func (l *Ledger) SetDay(now time.Time, id exchange.Scope, revision int64, d keyspace.Day) error {
	s := l.scopes[id]
	if s == nil {
		if s = l.newScope(now, id, l.policy.Limit(id).sane()); s == nil {
			return fmt.Errorf("the daily count of %s: more than %d scopes", DayKey(id), maxScopes)
		}
	}
	l.seeDay(now, s, revision, d)
	return nil
}
