package gossip

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It is its own type, so that the methods
// are not part of Gossip.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta goes with alive messages. It never changes while a process runs.
func (d delegate) NodeMeta(limit int) []byte {
	b, err := json.Marshal(meta{d.g.version, d.g.boot})
	if err != nil || len(b) > limit {
		panic("BUG: gossip: meta does not fit")
	}
	return b
}

// NotifyMsg takes a state or a warning. The bytes are memberlist's; decoding
// copies.
func (d delegate) NotifyMsg(b []byte) {
	if len(b) > 1 && b[1] == kindWarning {
		t, err := decodeWarning(b)
		if err != nil {
			d.g.unreadable(err)
			return
		}
		d.g.takeWarning(t)
		return
	}
	t, err := decodeState(b)
	if err != nil {
		d.g.unreadable(err)
		return
	}
	if d.g.hearState(t) {
		d.g.states.QueueBroadcast(&broadcast{t.From, encode(kindState, t)})
	}
}

// takeWarning hears a warning and passes it on.
func (g *Gossip) takeWarning(t warningText) {
	if g.hearWarning(t) {
		key := warningKey{t.From, t.Carrier, t.Source, t.Pattern}
		g.warningQueue.QueueBroadcast(&broadcast{key.String(), encode(kindWarning, t)})
	}
}

// GetBroadcasts gives what there is to pass on: warnings first.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	out := d.g.warningQueue.GetBroadcasts(overhead, limit)
	for _, b := range out {
		limit -= overhead + len(b)
	}
	if limit <= 0 {
		return out
	}
	return append(out, d.g.states.GetBroadcasts(overhead, limit)...)
}

// LocalState is all that this node knows.
func (d delegate) LocalState(bool) []byte {
	now := time.Now()
	var s syncText
	d.g.mu.Lock()
	for _, p := range d.g.mu.peers {
		if p.state.Seq > 0 {
			s.States = append(s.States, p.state)
		}
	}
	for _, w := range d.g.mu.warnings {
		if t, ok := w.left(now); ok {
			s.Warnings = append(s.Warnings, t)
		}
	}
	d.g.mu.Unlock()
	return encode(kindSync, s)
}

// MergeRemoteState takes all that another knows. It is not passed on: whoever
// could be told has heard of it, or synchronises too. But a warning is urgent.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	s, err := decodeSync(b)
	if err != nil {
		d.g.unreadable(err)
		return
	}
	for _, t := range s.States {
		if err := t.check(); err != nil {
			d.g.unreadable(err)
			continue
		}
		d.g.hearState(t)
	}
	for _, t := range s.Warnings {
		if err := t.check(); err != nil {
			d.g.unreadable(err)
			continue
		}
		d.g.takeWarning(t)
	}
}

func (g *Gossip) unreadable(err error) {
	g.mu.Lock()
	g.mu.metrics.Unreadable++
	g.mu.Unlock()
	g.log.Debug("gossip: a text was dropped", "error", err)
}

// broadcast is one text in a queue; a later one of its name takes its place.
type broadcast struct {
	name string
	text []byte
}

func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.name == b.name
}
func (b *broadcast) Name() string    { return b.name }
func (b *broadcast) Message() []byte { return b.text }
func (b *broadcast) Finished()       {}
