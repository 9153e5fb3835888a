package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node's part in the talk. Safe for concurrent use.
type Gossip struct {
	name, version string
	boot          int64
	pace          pace
	log           *slog.Logger
	onWarning     func(Warning)

	list                 *memberlist.Memberlist
	complaints           *complaints
	states, warningQueue *memberlist.TransmitLimitedQueue
	calls                chan Warning
	tellNow, joinNow     chan struct{}

	stop context.CancelFunc
	done sync.WaitGroup

	keys sync.Mutex // one change of the ring at a time
	ring *memberlist.Keyring

	leaving sync.Mutex // Leave and Close, one at a time; before mu

	mu struct {
		sync.Mutex
		closed     bool
		join       []string
		peers      map[string]*peer
		lost       map[string]lost
		own        stateText
		warnings   map[warningKey]warned
		ofNode     map[string]int // warnings by node
		warningSeq uint64
		allowance  allowance
		metrics    Metrics
	}
}

var errClosed = errors.New("gossip: closed")

// Start listens and takes part. Others are joined in the background, again and
// again: a node must be able to start when it is the first, or alone. ctx is for
// looking up Options.Advertise only.
func Start(ctx context.Context, o Options) (*Gossip, error) {
	c, err := o.config(ctx)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	g := &Gossip{
		name: o.Name, version: o.Version, boot: time.Now().UnixNano(), pace: o.pace(), log: o.Logger, onWarning: o.OnWarning,
		complaints: &complaints{log: o.Logger}, ring: c.Keyring,
		calls: make(chan Warning, callsWaiting), tellNow: make(chan struct{}, 1), joinNow: make(chan struct{}, 1),
	}
	g.states = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: c.RetransmitMult}
	// Each member passes a text on to RetransmitMult x log10(n+1) others at random,
	// so of 40 one was left out in a run of 15, until the next synchronisation.
	// Warnings are few, and go to twice as many.
	g.warningQueue = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: 2 * c.RetransmitMult}
	g.mu.join = slices.Clone(o.Join)
	g.mu.peers, g.mu.lost = map[string]*peer{}, map[string]lost{}
	g.mu.warnings, g.mu.ofNode = map[warningKey]warned{}, map[string]int{}
	g.mu.own = stateText{From: g.name, Boot: g.boot}

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	c.Logger = g.complaints.logger()
	d := delegate{g}
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	open := o.transport
	if open == nil {
		open = func(c *memberlist.Config) (memberlist.NodeAwareTransport, error) { return listen(running, c) }
	}
	if c.Transport, err = open(c); err != nil {
		stop()
		return nil, fmt.Errorf("gossip: listen on %s: %w", o.Listen, err)
	}
	if g.list, err = memberlist.Create(c); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("gossip: start: %w", err), c.Transport.Shutdown())
	}
	g.done.Go(func() { g.talk(running) })
	g.done.Go(func() { g.keepJoined(running) })
	return g, nil
}

// count is how many members there are.
func (g *Gossip) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mu.peers)
}

// Address is where others reach this node's gossip.
func (g *Gossip) Address() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if me := g.mu.peers[g.name]; me != nil {
		return me.addr.String()
	}
	return ""
}

// SetJoin replaces the addresses by which members are found, "host:port": those
// of all registered nodes, for instance.
func (g *Gossip) SetJoin(addresses []string) {
	g.mu.Lock()
	g.mu.join = slices.Clone(addresses[:min(len(addresses), MaxMembers)])
	g.mu.Unlock()
	select {
	case g.joinNow <- struct{}{}:
	default:
	}
}

// talk tells the state, calls OnWarning and forgets what is over, until ctx
// ends.
func (g *Gossip) talk(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-g.calls:
			if g.onWarning != nil {
				g.onWarning(w)
			}
		case <-g.tellNow:
			g.tell()
			next = time.Now().Add(tellEvery(g.count()))
		case now := <-tick.C:
			g.mu.Lock()
			g.expireLocked(now)
			for name, l := range g.mu.lost {
				if now.Sub(l.at) > g.pace.forget {
					delete(g.mu.lost, name)
				}
			}
			g.mu.Unlock()
			if !now.Before(next) {
				g.tell()
				next = now.Add(tellEvery(g.count()))
			}
		}
	}
}

// triesAtOnce is how many addresses a round of joining tries side by side: each
// may be dead, and take the whole timeout.
const triesAtOnce = 8

// keepJoined tries the addresses of those who should be members and are not,
// until ctx ends.
func (g *Gossip) keepJoined(ctx context.Context) {
	tick := time.NewTicker(g.pace.rejoin)
	defer tick.Stop()
	for {
		var round sync.WaitGroup
		for _, address := range g.missing() {
			round.Go(func() { g.tryJoin(ctx, address) })
		}
		round.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.joinNow:
		}
	}
}

func (g *Gossip) tryJoin(ctx context.Context, address string) {
	if err := g.joinOne(ctx, address); err != nil && ctx.Err() == nil {
		g.mu.Lock()
		g.mu.metrics.JoinsFailed++
		g.mu.Unlock()
		g.log.Debug("gossip: join", "address", address, "error", err)
	}
}

// missing are some addresses where a member should be and none is, in random
// order.
func (g *Gossip) missing() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	have := map[string]bool{}
	for _, p := range g.mu.peers {
		have[p.addr.String()] = true
	}
	var out []string
	add := func(a string) {
		if !have[a] {
			have[a] = true
			out = append(out, a)
		}
	}
	for _, a := range g.mu.join {
		add(a)
	}
	for _, l := range g.mu.lost {
		add(l.addr.String())
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), triesAtOnce)]
}

func (g *Gossip) joinOne(ctx context.Context, address string) error {
	found, err := resolve(ctx, address)
	if err != nil {
		return err
	}
	for _, a := range found {
		if g.knows(a) {
			return nil // a name of a member
		}
		if _, e := g.list.Join([]string{a.String()}); e != nil {
			err = errors.Join(err, e)
			continue
		}
		return nil
	}
	return err
}

// knows reports whether a member is at the address.
func (g *Gossip) knows(a netip.AddrPort) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.mu.peers {
		if p.addr == a {
			return true
		}
	}
	return false
}

// Leave tells the others that this node goes, so that they need not find out,
// and waits until some have been told or ctx ends. Call Close after it.
func (g *Gossip) Leave(ctx context.Context) error {
	g.leaving.Lock()
	defer g.leaving.Unlock()
	g.mu.Lock()
	closed := g.mu.closed
	g.mu.Unlock()
	if closed {
		return nil
	}
	wait := 5 * time.Second
	if until, ok := ctx.Deadline(); ok {
		wait = max(time.Until(until), time.Millisecond)
	}
	if err := g.list.Leave(wait); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// Close ends it. No callback comes after it has returned.
func (g *Gossip) Close() error {
	g.leaving.Lock()
	defer g.leaving.Unlock()
	g.mu.Lock()
	was := g.mu.closed
	g.mu.closed = true
	g.mu.Unlock()
	if was {
		return nil
	}
	g.stop()
	g.done.Wait()
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("gossip: close: %w", err)
	}
	return nil
}
