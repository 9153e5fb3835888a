package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node"
	"hikyaku/node/api"
	"hikyaku/node/attach"
	"hikyaku/node/control"
	"hikyaku/node/control/follow"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/config"
	"hikyaku/tools/hikyaku/peer"
)

// process is one "hikyaku serve": a node, a control plane or both, joined by
// nothing but etcd and HTTP even in one process.
//
// What is open at which time: etcd and the peer address first, since others are
// told of it; then the control plane, which a new cluster needs before there is
// any policy; then the node. The admin API and the peer listener serve what is
// open at the moment.
type process struct {
	cfg *config.Config
	o   serveOptions
	log *slog.Logger

	token     string // of the admin API, "" for none
	etcd      *etcd
	peers     *peer.Peers
	listener  net.Listener // of peers
	advertise string
	started   time.Time
	follower  *follow.Follower // nil without the role of a node
	rumours   *rumours         // nil likewise
	node      *node.Node       // nil likewise
	steering  *control.Control // nil likewise
	addresses *attach.Table    // nil likewise

	admin, peerDoor door
	tasks           sync.WaitGroup
	endTasks        context.CancelFunc
	mu              struct {
		sync.Mutex
		decider *decider // nil until it is open
	}
}

// door is a handler that can be replaced while it is in use.
type door struct{ h atomic.Pointer[http.Handler] }

func (d *door) open(h http.Handler) { d.h.Store(&h) }

// ServeHTTP is http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := d.h.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	http.Error(w, "starting", http.StatusServiceUnavailable)
}

// newProcess opens everything; nothing takes mail yet. What runs beside the node
// runs until close, whatever becomes of ctx: the node gives its sources back by
// it when it ends.
func newProcess(ctx context.Context, cfg *config.Config, o serveOptions, log *slog.Logger) (_ *process, err error) {
	p := &process{cfg: cfg, o: o, log: log, started: time.Now()}
	ctx, p.endTasks = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.token, err = cfg.Token(); err != nil {
		return nil, err
	}
	if p.etcd, err = openEtcd(ctx, cfg, log); err != nil {
		return nil, err
	}
	if s := p.etcd.server; s != nil {
		p.tasks.Go(func() {
			select {
			case err := <-s.Failed():
				log.Error("the etcd inside this process has stopped: policy cannot be changed, movable sources will be given up", "error", err)
			case <-ctx.Done():
			}
		})
	}
	if err := p.openPeers(); err != nil {
		return nil, err
	}
	later, err := p.decide(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Carries() {
		if err := p.openNode(ctx); err != nil {
			return nil, err
		}
	}
	p.serveParts()
	if later { // only now: it serves the parts anew when it opens
		p.tasks.Go(func() { p.decideLater(ctx) })
	}
	return p, nil
}

// openPeers listens for the other processes of the cluster.
func (p *process) openPeers() (err error) {
	c := &p.cfg.Cluster
	if p.peers, err = peer.New(peer.Options{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, Key: p.etcd.key, Logger: p.log}); err != nil {
		return err
	}
	if p.listener, err = p.listenForPeers(); err != nil {
		return err
	}
	if p.advertise = c.Advertise; p.advertise == "" {
		p.advertise = p.listener.Addr().String()
	}
	return nil
}

// listenForPeers opens the peer address. Where the system picks the port, it may
// pick one that a listener opened later is to have.
func (p *process) listenForPeers() (net.Listener, error) {
	for {
		l, err := p.peers.Listen(p.cfg.Cluster.Listen)
		if err != nil || !p.cfg.Uses(l.Addr()) {
			return l, err
		}
		defer l.Close() // only then: the system must pick another one
	}
}

func (p *process) openNode(ctx context.Context) (err error) {
	p.follower, err = follow.Open(ctx, follow.Options{Client: p.etcd.client, Keys: p.etcd.keys, Key: p.etcd.key, DataDir: p.cfg.Node.DataDir, Logger: p.log})
	if err != nil {
		return err
	}
	if p.rumours, err = p.openRumours(ctx); err != nil {
		return err
	}
	nc := nodeConfig(p.cfg, p.follower, p.log, p.o)
	nc.Control, nc.Hinter, nc.Members = p.newControl, p.rumours, p.nodeNames
	if nc.Feedback, err = comesBack(p.cfg, p.etcd.key); err != nil {
		return err
	}
	nc.Transfer = &node.TransferConfig{Client: p.peers.Client(), Address: func(name string) (string, error) {
		address, err := p.rumours.roll.Peer(name)
		return p.peers.Scheme() + "://" + address, err
	}}
	if p.node, err = node.New(nc); err != nil {
		return err
	}
	p.rumours.node.Store(p.node)
	p.tasks.Go(func() { p.rumours.run(ctx) })
	return nil
}

// newControl is the node's side of the control plane.
func (p *process) newControl(n control.Node, spoolID string) (node.Control, error) {
	c := &p.cfg.Cluster
	file, err := filepath.Abs(p.cfg.Path("attached.json"))
	if err != nil {
		return nil, err
	}
	p.addresses, err = attach.Open(attach.Options{File: file, Programs: c.Programs, Logger: p.log})
	if err != nil {
		return nil, err
	}
	p.steering, err = control.New(control.Options{
		Client: p.etcd.client, Keys: p.etcd.keys, Key: p.etcd.key, Name: p.cfg.Node.Name, NodeID: spoolID, DataDir: p.cfg.Node.DataDir, Version: build.This().Version,
		Peer: p.advertise, Gossip: p.rumours.address(), Labels: c.Labels, Capacity: c.Capacity, TTL: c.LeaseTTL.D(), Margin: c.LeaseMargin.D(), Quarantine: c.Quarantine.D(),
		Alone: p.etcd.server != nil, HTTP: p.peers.Client(), Scheme: p.peers.Scheme(), Node: n, Attach: p.addresses, Logger: p.log,
		Unsafe: control.Unsafe{TrustSession: p.o.unsafeTrustSession, GrantsForever: p.o.unsafeGrantsForever},
	})
	return p.steering, err
}

// policy is the policy in force here; nil while there is none.
func (p *process) policy() *policy.Set {
	if p.follower != nil {
		return p.follower.Snapshot()
	}
	if d := p.open(); d != nil {
		return d.store.Snapshot()
	}
	return nil
}

// open is the control plane, nil while it is not open.
func (p *process) open() *decider {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.decider
}

// run serves until ctx ends.
func (p *process) run(ctx context.Context) error {
	peers := p.peers.Serve(p.listener, &p.peerDoor)
	defer peers.Close()
	stop, err := p.serveAdmin()
	if err != nil {
		return err
	}
	defer stop()
	if p.node == nil {
		<-ctx.Done()
		return nil
	}
	return p.node.Run(ctx)
}

// close ends what newProcess opened.
func (p *process) close() error {
	var errs []error
	if p.node != nil {
		errs = append(errs, p.node.Close())
	}
	if p.follower != nil {
		errs = append(errs, p.follower.Close())
	}
	p.endTasks()
	p.tasks.Wait()
	if p.rumours != nil {
		errs = append(errs, p.rumours.close())
	}
	if d := p.open(); d != nil {
		errs = append(errs, d.close())
	}
	if p.listener != nil {
		if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if p.etcd != nil {
		errs = append(errs, p.etcd.Close())
	}
	return errors.Join(errs...)
}

// reload reads certificates and key files again.
func (p *process) reload() error {
	if p.node == nil {
		return nil
	}
	return p.node.Reload()
}

// serveAdmin opens the admin listener.
func (p *process) serveAdmin() (stop func(), err error) {
	cert, err := p.cfg.Certificate()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", p.cfg.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	}
	srv := api.NewServer(&p.admin)
	done := make(chan struct{})
	go func() { // ended and waited for by stop
		defer close(done)
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("admin API", "error", err)
		}
	}()
	return func() { shutDown(srv); <-done }, nil
}

// dataDir makes the data directory, for its owner only.
func dataDir(cfg *config.Config) error {
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
