package serve

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"hikyaku/node"
	"hikyaku/node/control/roll"
	"hikyaku/node/gossip"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/config"
)

// warnFor is how long others leave a source alone at a carrier that has refused
// it: long enough for the carrier to say it again, short enough for a mistake.
const warnFor = 20 * time.Second

// tellEvery is how often the node's state is put before the others.
const tellEvery = time.Second

// rumours are the node's gossip, and the roll by which it finds the others.
type rumours struct {
	roll   *roll.Roll
	gossip *gossip.Gossip // nil: switched off
	node   atomic.Pointer[node.Node]
	log    *slog.Logger
	kick   chan struct{} // capacity 1: the roll has changed
}

// openRumours begins to gossip; others join as the roll names them.
func (p *process) openRumours(ctx context.Context) (*rumours, error) {
	r := &rumours{log: p.log, kick: make(chan struct{}, 1)}
	r.roll = roll.New(roll.Options{Client: p.etcd.client, Keys: p.etcd.keys, Key: p.etcd.key, Logger: p.log, Changed: r.changed})
	if p.cfg.Gossip.Listen == config.Off {
		return r, nil
	}
	timing := gossip.LAN
	if config.IsLoopback(p.cfg.Gossip.Listen) {
		timing = gossip.Local
	}
	var err error
	r.gossip, err = gossip.Start(ctx, gossip.Options{
		Name: p.cfg.Node.Name, Cluster: p.follower.Cluster(), Version: build.This().Version, Listen: p.cfg.Gossip.Listen, Advertise: p.cfg.Gossip.Advertise,
		Keys: r.roll.Ring(), Timing: timing, OnWarning: r.heard, Logger: p.log,
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// address is what others gossip with; "" where there is no gossip.
func (r *rumours) address() string {
	if r.gossip == nil {
		return ""
	}
	return r.gossip.Address()
}

func (r *rumours) changed() {
	select {
	case r.kick <- struct{}{}:
	default: // it is about to look
	}
}

// Warn is node.Hinter.
func (r *rumours) Warn(carrier, source, pattern string) {
	if r.gossip == nil {
		return
	}
	if err := r.gossip.Warn(gossip.Warning{Carrier: carrier, Source: source, Pattern: pattern, Until: time.Now().Add(warnFor)}); err != nil {
		r.log.Debug("warn other nodes", "carrier", carrier, "source", source, "error", err)
	}
}

// heard takes another node's warning.
func (r *rumours) heard(w gossip.Warning) {
	r.log.Warn("another node warns of a carrier", "from", w.From, "carrier", w.Carrier, "source", w.Source, "said", w.Pattern, "until", w.Until)
	if n := r.node.Load(); n != nil {
		n.Brake(w.Carrier, w.Source, w.Until)
	}
}

// run follows the roll, joins who is on it, and tells how the node is, until ctx
// ends.
func (r *rumours) run(ctx context.Context) {
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		r.roll.Run(ctx)
	}()
	defer func() { <-done }()
	if r.gossip == nil {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
			r.gossip.SetJoin(r.roll.Gossip())
			if err := r.gossip.SetKeys(r.roll.Ring()); err != nil {
				r.log.Error("gossip keys", "error", err)
			}
		case <-tick.C:
			r.tell()
		}
	}
}

func (r *rumours) tell() {
	h := r.node.Load().Hints()
	s := gossip.State{Load: h.Load, Queued: h.Queued}
	if h.Drain {
		s.Drain = "draining"
	}
	for carrier, n := range h.Waiting {
		s.Queues = append(s.Queues, gossip.Queue{Carrier: carrier, Queued: n})
	}
	r.gossip.SetState(s)
}

// leaveWithin bounds saying good-bye.
const leaveWithin = 2 * time.Second

func (r *rumours) close() error {
	if r.gossip == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	if err := r.gossip.Leave(ctx); err != nil {
		r.log.Debug("leave the gossip", "error", err)
	}
	return r.gossip.Close()
}
