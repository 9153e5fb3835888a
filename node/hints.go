package node

import (
	"fmt"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// Hints are what nodes tell each other by gossip: how they are, and that a
// carrier refuses a source. A hint from elsewhere is a brake for a while and
// nothing more; sources, budgets and orders never come this way (design.md 5.9).

// Hinter spreads a warning to all nodes.
type Hinter interface {
	// Warn says that a carrier refuses one of our sources: what it said, in a
	// word. It must not block.
	Warn(carrier, source, pattern string)
}

// Hints are how this node is, for others to see.
type Hints struct {
	Load   float64 // 0 idle to 1: the part of the connections in use
	Queued int64
	Drain  bool
	// Waiting is the mail that could go but for budgets, by carrier, of those
	// with a limit that spans nodes.
	Waiting map[string]int64
}

// Hints reads how the node is.
func (n *Node) Hints() Hints {
	h := Hints{Queued: n.spool.Stats().Deliveries, Drain: n.Drained()}
	if most := n.cfg.Scheduler.MaxSessions; most > 0 {
		h.Load = float64(n.dispatch.running()) / float64(most)
	}
	if w := n.cluster.waiting.Load(); w != nil {
		h.Waiting = *w
	}
	return h
}

// noteWaiting keeps what the last report said of carriers.
func (n *Node) noteWaiting(ds []exchange.Demand) {
	waiting := map[string]int64{}
	for i := range ds {
		if d := &ds[i]; d.Kind == exchange.Carrier && d.Carrier != policy.DefaultName {
			waiting[d.Carrier] += d.Backlog
		}
	}
	n.cluster.waiting.Store(&waiting)
}

// Brake stops a source at a carrier for a while, at most a minute, since another
// node was refused there.
func (n *Node) Brake(carrier, source string, until time.Time) {
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Brake(now, carrier, source, until) })
}

// hint warns the other nodes when a carrier refuses this source before it has
// looked at any mail: at its greeting, EHLO or MAIL (so much is about the
// source, whatever the words mean in full).
func (o *outbound) hint(r *message.Reply) {
	n := o.d.n
	if n.cfg.Hinter == nil || o.carrier == policy.DefaultName || r.Code < 400 || r.Fault != message.FaultNone {
		return
	}
	switch r.Phase {
	case message.PhaseBanner, message.PhaseEHLO, message.PhaseMail:
		n.cfg.Hinter.Warn(o.carrier, o.lane.Source, fmt.Sprintf("%d %s at %s", r.Code, r.Enhanced, r.Phase))
	}
}
