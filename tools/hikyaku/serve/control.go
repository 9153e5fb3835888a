package serve

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"hikyaku/controlplane"
	"hikyaku/controlplane/store"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/config"
)

// decider is the control plane's part of this process: policy in etcd, and the
// one that stands for election. It opens when etcd answers, which may be after
// the node has begun to carry mail.
type decider struct {
	store   *store.Etcd
	control *controlplane.Control
	done    chan struct{} // closed when Run has ended
}

// openDecider opens the control plane once.
func (p *process) openDecider(ctx context.Context) (_ *decider, err error) {
	if err := store.CheckVersions(ctx, p.etcd.client, etcdPatience); err != nil {
		return nil, err
	}
	d := &decider{done: make(chan struct{})}
	d.store, err = store.OpenEtcd(ctx, p.etcd.client, store.Options{
		Keys: p.etcd.keys, Key: p.etcd.key, DataDir: p.cfg.Node.DataDir, ImportDir: p.cfg.Path("policy"), Logger: p.log,
	})
	if err != nil {
		return nil, err
	}
	if err := seed(ctx, d.store, p.o.policy, p.log); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	d.control, err = controlplane.New(controlplane.Options{
		Client: p.etcd.client, Keys: p.etcd.keys, Key: p.etcd.key, Name: p.cfg.Node.Name, Address: p.advertise, Version: build.This().Version,
		Store: d.store, Peer: p.peers.Client(), Scheme: p.peers.Scheme(), Logger: p.log,
		Timing: controlplane.Timing{NodeTTL: p.cfg.Cluster.LeaseTTL.D(), Quarantine: p.cfg.Cluster.Quarantine.D(), Settle: settle, MinHold: minHold},
	})
	if err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	// Whoever led from this etcd before is dead: its directory is locked by us.
	if p.etcd.server != nil {
		if err := d.control.Succeed(ctx); err != nil {
			return nil, errors.Join(err, d.control.Close(), d.store.Close())
		}
	}
	return d, nil
}

// run leads or stands by until ctx ends.
func (d *decider) run(ctx context.Context, log *slog.Logger) {
	defer close(d.done)
	if err := d.control.Run(ctx); err != nil {
		log.Error("control plane", "error", err)
	}
}

// close waits for run, whose context has ended.
func (d *decider) close() error {
	<-d.done
	return errors.Join(d.control.Close(), d.store.Close())
}

// Balance: a node that has come gets its part of the sources soon, since a
// source that is given back moves within a second; one that comes and goes costs
// each source a move a minute at most.
const (
	settle  = 15 * time.Second
	minHold = time.Minute
)

// Patience with an etcd that does not answer.
const (
	etcdPatience = 5 * time.Second
	reopenEvery  = 2 * time.Second
)

// decide opens the control plane if etcd answers. later says that it has to be
// opened when it does, while the node goes on with what it knows.
func (p *process) decide(ctx context.Context) (later bool, err error) {
	if !p.cfg.Decides() {
		return false, nil
	}
	first, cancel := context.WithTimeout(ctx, 2*etcdPatience)
	d, err := p.openDecider(first)
	cancel()
	switch {
	case err == nil:
		p.begin(ctx, d)
		return false, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case !p.cfg.Carries() || !unreachable(err):
		return false, err
	}
	p.log.Error("etcd does not answer: the node goes on with what it knows, the control plane opens when it does", "error", err)
	return true, nil
}

// unreachable reports whether an error may go away by itself.
func unreachable(err error) bool {
	return errors.Is(err, store.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded)
}

func (p *process) decideLater(ctx context.Context) {
	tick := time.NewTicker(reopenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, 4*etcdPatience)
		d, err := p.openDecider(try)
		cancel()
		switch {
		case err == nil:
			p.log.Info("etcd answers: the control plane is open")
			p.begin(ctx, d)
			p.serveParts()
			return
		case !unreachable(err) && ctx.Err() == nil:
			p.log.Error("the control plane cannot open", "error", err)
		}
	}
}

// begin runs an open control plane.
func (p *process) begin(ctx context.Context, d *decider) {
	p.tasks.Go(func() { d.run(ctx, p.log) })
	p.mu.Lock()
	p.mu.decider = d
	p.mu.Unlock()
}

// roleName is for the log.
func roleName(cfg *config.Config) string {
	switch {
	case !cfg.Carries():
		return "control plane"
	case !cfg.Decides():
		return "node"
	}
	return "node and control plane"
}
