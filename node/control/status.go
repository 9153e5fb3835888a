package control

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Status is how the node stands with the control plane.
type Status struct {
	Registered   bool
	Lease        int64
	Holds        time.Duration // how long the lease still holds without a renewal
	Leader       string
	LeaderAt     string
	Term         int64
	LastExchange time.Duration // ago; negative: there was none
	GrantsLeft   time.Duration // 0: the node is down to its floor
	Grants       int
	Floor, Rank  int64
	Members      int64
	Revision     int64 // the newest policy that the leader knows
	Draining     bool
	Sources      []SourceStatus // by name
	Alarms       []string       // what an operator should look at
}

// SourceStatus is one source that the node uses, or is letting go.
type SourceStatus struct {
	Source string
	Epoch  int64
	Pinned bool   // it needs no lease
	State  string // attaching, ready, ending, released
	Fault  string
	Open   int // connections
}

var phaseNames = [...]string{attaching: "attaching", ready: "ready", ending: "ending", released: "released"}

// Status is a snapshot.
func (c *Control) Status() Status {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.mu
	f := &m.force
	s := Status{Leader: m.leader.Name, LeaderAt: m.leader.Address, Term: m.leader.term, LastExchange: -1, Grants: len(f.list),
		Floor: f.floor, Rank: f.rank, Members: f.members, Revision: f.policy, Draining: f.drain}
	if c.alive(m.reg, now) {
		s.Registered, s.Lease, s.Holds = true, m.reg.lease, max(0, m.reg.keeper.Until().Sub(now))
	}
	if !m.last.IsZero() {
		s.LastExchange = now.Sub(m.last)
	}
	if !f.until.IsZero() {
		s.GrantsLeft = max(0, f.until.Sub(now))
	}
	for _, t := range m.tenures {
		s.Sources = append(s.Sources, SourceStatus{Source: t.source, Epoch: t.epoch, Pinned: t.fixed, State: phaseNames[t.phase], Fault: t.fault, Open: t.hold.uses()})
	}
	slices.SortFunc(s.Sources, func(a, b SourceStatus) int { return strings.Compare(a.Source, b.Source) })
	for _, what := range slices.Sorted(maps.Keys(m.alarms)) {
		s.Alarms = append(s.Alarms, m.alarms[what])
	}
	return s
}

// alarm notes what is wrong, and logs it when it is news.
func (c *Control) alarm(what, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarmLocked(what, text)
}

// maxAlarms bounds what is kept; each stands for one thing that can be wrong.
const maxAlarms = 100

func (c *Control) alarmLocked(what, text string) {
	old, is := c.mu.alarms[what]
	if !is {
		if len(c.mu.alarms) >= maxAlarms {
			return
		}
		c.log.Error(text)
	} else if old != text {
		c.log.Debug(text)
	}
	c.mu.alarms[what] = text
}

func (c *Control) clearAlarm(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text, is := c.mu.alarms[what]; is {
		delete(c.mu.alarms, what)
		c.log.Info("no longer: " + text)
	}
}

// Metrics counts since the start.
type Metrics struct {
	Registrations   uint64
	Losses          uint64 // of the lease
	Renewals        uint64
	Exchanges       uint64
	ExchangeErrors  uint64
	StaleAnswers    uint64 // of a leader that was none any more
	GrantsRunOut    uint64
	CutConnections  uint64 // of sources that were not ours any more
	WatchBreaks     uint64
	SourcesUsable   int64
	SourcesFaulty   int64
	SourcesReleased int64 // not taken back by the leader yet
}

type counters struct {
	registrations, losses, renewals, exchanges, exchangeErrors, stale, expired, cut, watchBreaks atomic.Uint64
}

// Metrics is a snapshot.
func (c *Control) Metrics() Metrics {
	n := &c.count
	s := Metrics{Registrations: n.registrations.Load(), Losses: n.losses.Load(), Renewals: n.renewals.Load(), Exchanges: n.exchanges.Load(),
		ExchangeErrors: n.exchangeErrors.Load(), StaleAnswers: n.stale.Load(), GrantsRunOut: n.expired.Load(), CutConnections: n.cut.Load(), WatchBreaks: n.watchBreaks.Load()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.mu.tenures {
		switch {
		case t.fault != "":
			s.SourcesFaulty++
		case t.phase == ready:
			s.SourcesUsable++
		case t.phase == released:
			s.SourcesReleased++
		}
	}
	return s
}
