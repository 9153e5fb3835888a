package gossip

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what a node tells of itself.
type State struct {
	Load   float64 // 0 idle, 1 as busy as it can be
	Queued int64   // deliveries
	Drain  string  // "", "draining", "drained"
	// Queues are what waits for each carrier. Only the longest are told, as many
	// as fit a datagram.
	Queues []Queue
}

// Queue is what waits for one carrier.
type Queue struct {
	Carrier string
	Queued  int64
}

const maxLoad = 1000

// Member is a node that is alive, as far as gossip knows.
type Member struct {
	Name    string
	Address string // of its gossip
	Version string
	Started time.Time // its process, by its own clock
	Since   time.Time // it has been alive without a break, as seen from here
	State   State
	Heard   time.Time // of State; zero when there is none yet
}

// peer is a member, this node among them.
type peer struct {
	name    string
	addr    netip.AddrPort
	version string
	boot    int64
	since   time.Time

	state    stateText
	heard    time.Time
	warnings window
}

// lost is a member that left or died: where it is looked for, and what was
// heard of it, so that old words are not new ones when it comes back.
type lost struct {
	peer
	at time.Time
}

// Members are the nodes that are alive, this one among them, by name.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.mu.peers))
	for _, p := range g.mu.peers {
		m := Member{
			Name: p.name, Address: p.addr.String(), Version: p.version, Since: p.since, Heard: p.heard,
			State: State{Load: p.state.Load, Queued: p.state.Queued, Drain: p.state.Drain},
		}
		if p.boot != 0 {
			m.Started = time.Unix(0, p.boot)
		}
		for _, q := range p.state.Queues {
			m.State.Queues = append(m.State.Queues, Queue(q))
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// SetState tells the others how this node does: soon if Drain has changed, else
// when it is time to again. It may be called as often as wanted.
func (g *Gossip) SetState(s State) {
	t := stateText{From: g.name, Boot: g.boot, Queued: max(0, s.Queued), Drain: cut(s.Drain)}
	if s.Load > 0 { // not for NaN either
		t.Load = math.Round(min(s.Load, maxLoad)*100) / 100
	}
	for _, q := range s.Queues {
		if q.Carrier != "" && text(q.Carrier) && q.Queued > 0 {
			t.Queues = append(t.Queues, queueText(q))
		}
	}
	slices.SortFunc(t.Queues, func(a, b queueText) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(a.Carrier, b.Carrier))
	})
	t.Queues = t.Queues[:min(len(t.Queues), maxQueues)]

	g.mu.Lock()
	soon := g.mu.own.Drain != t.Drain
	t.Seq = g.mu.own.Seq
	g.mu.own = t
	g.mu.Unlock()
	if soon {
		select {
		case g.tellNow <- struct{}{}:
		default: // it is being told
		}
	}
}

// tell broadcasts the own state, with a new number.
func (g *Gossip) tell() {
	g.mu.Lock()
	g.mu.own.Seq++
	t := g.mu.own
	if me := g.mu.peers[g.name]; me != nil {
		me.state, me.heard = t, time.Now()
	}
	n := len(g.mu.peers)
	g.mu.Unlock()
	if n < 2 {
		return
	}
	b := encode(kindState, t)
	for len(b) > maxMessage && len(t.Queues) > 0 {
		t.Queues = t.Queues[:len(t.Queues)-1]
		b = encode(kindState, t)
	}
	g.states.QueueBroadcast(&broadcast{g.name, b})
}

// tellEvery is how often each node tells its state. Every node passes on every
// state to a few others, so what each sends grows with their number: at 0.2 s
// for each member it stays near 25 kB/s.
func tellEvery(members int) time.Duration {
	return min(max(time.Second, time.Duration(members)*200*time.Millisecond), time.Minute)
}

// hearState takes a state of another node, and reports whether it was news.
func (g *Gossip) hearState(s stateText) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.mu.peers[s.From]
	switch {
	case s.From == g.name:
		return false
	case p == nil || p.boot != s.Boot:
		g.mu.metrics.Foreign++
		return false
	case s.Seq <= p.state.Seq:
		return false
	}
	p.state, p.heard = s, time.Now()
	g.mu.metrics.StatesHeard++
	return true
}

var errFull = errors.New("there are too many members")

// NotifyAlive is memberlist's question whether to take a member in. It is asked
// for every alive message.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if n.Name == "" || len(n.Name) > maxName || !plain(n.Name) {
		d.g.mu.metrics.Refused++
		return errors.New("its name is out of range")
	}
	if d.g.mu.peers[n.Name] == nil && len(d.g.mu.peers) >= MaxMembers {
		d.g.mu.metrics.Refused++
		return errFull
	}
	return nil
}

// NotifyJoin and its siblings are memberlist's word on who is alive. They come
// with its lock held, which is why nothing here ever calls memberlist with ours.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	p := &peer{name: n.Name, since: time.Now()}
	if was, ok := d.g.mu.lost[n.Name]; ok {
		p.boot, p.state, p.heard, p.warnings = was.boot, was.state, was.heard, was.warnings
		delete(d.g.mu.lost, n.Name)
	}
	p.learn(n)
	d.g.mu.peers[n.Name] = p
	d.g.mu.metrics.Joined++
}

// NotifyUpdate is of a member whose meta has changed: a new process of it.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	if p := d.g.mu.peers[n.Name]; p != nil {
		p.learn(n)
	}
}

// NotifyLeave is of a member that left or died.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	p := d.g.mu.peers[n.Name]
	if p == nil || n.Name == d.g.name {
		return
	}
	delete(d.g.mu.peers, n.Name)
	d.g.mu.metrics.Gone++
	if len(d.g.mu.lost) < MaxMembers {
		d.g.mu.lost[n.Name] = lost{*p, time.Now()}
	}
}

// NotifyConflict is of two nodes of one name. The first is kept; memberlist
// complains in the log.
func (d delegate) NotifyConflict(_, _ *memberlist.Node) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.g.mu.metrics.Conflicts++
}

// learn takes what an alive message says. A new boot is a new process, of
// which nothing was heard yet.
func (p *peer) learn(n *memberlist.Node) {
	a, _ := netip.AddrFromSlice(n.Addr)
	p.addr = netip.AddrPortFrom(a.Unmap(), n.Port)
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return // a later version, perhaps: it is a member all the same
	}
	p.version = m.Version
	if p.boot != m.Boot {
		p.boot, p.state, p.heard, p.warnings = m.Boot, stateText{}, time.Time{}, window{}
	}
}

func cut(s string) string {
	if !text(s) {
		return ""
	}
	return s
}
