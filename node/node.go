package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/compose"
	"hikyaku/node/credential"
	"hikyaku/node/delivery"
	"hikyaku/node/dkim"
	"hikyaku/node/events"
	"hikyaku/node/ingest"
	"hikyaku/node/mx"
	"hikyaku/node/replies"
	"hikyaku/reputation"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Node is one machine. Everything is wired in New; Run serves.
type Node struct {
	cfg      Config
	name     string
	hostname string
	log      *slog.Logger
	started  time.Time
	began    time.Time // the same on the monotonic clock, whatever Config.Now says

	ids      message.IDs
	policy   atomic.Pointer[policy.Set]
	signers  atomic.Pointer[dkim.Signers]
	access   *credential.Current
	spool    *spool.Store
	events   *events.Log
	resolver *mx.Resolver
	client   *delivery.Client
	dispatch *dispatcher
	content  *contentCache
	smtp     *ingest.SMTPServer
	http     *ingest.HTTPServer
	trace    *traces
	pace     *pace
	replies  *replies.Book
	again    again
	news     news
	rates    *rates
	surveys  surveys
	count    counters
	cluster  cluster
	mover    mover

	days    *dayCounts
	jobs    jobOrders
	actions actionLoop
	// deciding is held for reading from the moment an outcome looks for orders
	// about its delivery until it is handed to the spool.
	deciding sync.RWMutex

	root      context.Context // of all that outlives a request; ended by stopWork
	stopWork  context.CancelFunc
	tasks     gate // goroutines of the dispatcher and of actions
	commits   gate // transitions that the spool has not answered
	draining  atomic.Bool
	recovered atomic.Bool
	serving   atomic.Bool // the listeners are open
	policyMu  sync.Mutex  // orders policy changes
}

// New opens the data directory and builds everything; nothing listens yet.
func New(cfg Config) (_ *Node, err error) {
	cfg = cfg.withDefaults()
	n := &Node{cfg: cfg, name: cfg.Name, hostname: cfg.Hostname, log: cfg.Logger, started: cfg.Now(), began: time.Now(), trace: newTraces(), pace: newPace(),
		replies: replies.New(reputation.Shipped())}
	n.root, n.stopWork = context.WithCancel(context.Background())
	n.count.init()
	if n.hostname == "" {
		if n.hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("host name: %w", err)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.openStores(); err != nil {
		return nil, err
	}
	cfg.Resolver.Own = append(cfg.Resolver.Own, n.hostname)
	if n.resolver, err = mx.New(cfg.Resolver); err != nil {
		return nil, err
	}
	n.client = delivery.New(cfg.Delivery.Client)
	n.content = newContentCache(cfg.HandoffBytes)
	n.rates = newRates(n.now())
	set := cfg.Policy.Snapshot()
	n.access = credential.NewCurrent(set, credential.NewVerifier(2))
	n.dispatch = newDispatcher(n, scheduler.New(n.now(), cfg.Scheduler, set))
	n.days = newDayCounts(n)
	if err := n.days.load(); err != nil {
		return nil, err
	}
	if err := n.openCluster(); err != nil {
		return nil, err
	}
	if err := n.openTransfer(); err != nil {
		return nil, err
	}
	if err := n.openNews(); err != nil {
		return nil, err
	}
	n.usePolicy(set)
	return n, n.openIngest()
}

func (n *Node) openStores() (err error) {
	o := n.cfg.Spool
	o.Dir = filepath.Join(n.cfg.DataDir, "spool")
	o.Logger = n.log
	if n.spool, err = spool.Open(o); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	e := n.cfg.Events
	e.Dir, e.Store, e.Logger = filepath.Join(n.cfg.DataDir, "events"), n.spool.NodeID(), n.log
	e.Refill = n.spool.Outbox
	e.Acked = func(upTo uint64) {
		if err := n.spool.AckOutbox(upTo); err != nil && !errors.Is(err, spool.ErrClosed) {
			n.log.Error("acknowledge events", "error", err)
		}
	}
	if n.events, err = events.Open(e); err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	// What the log has is dropped from the outbox, what it lacks is replayed.
	if err := n.spool.AckOutbox(n.events.LastSeq()); err != nil {
		return fmt.Errorf("acknowledge events: %w", err)
	}
	err = n.spool.Outbox(n.events.LastSeq(), func(seq uint64, lines []byte) error {
		n.events.Write(seq, lines)
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay events: %w", err)
	}
	n.spool.OnEvents(n.events.Write)
	return nil
}

func (n *Node) openIngest() (err error) {
	n.smtp, err = ingest.NewSMTPServer(ingest.SMTPOptions{Listeners: n.cfg.SMTP, Acceptor: n, Authenticator: n.access, Logger: n.log,
		Hostname: n.hostname, MaxContentBytes: n.cfg.MaxContentMemory})
	if err != nil {
		return err
	}
	n.smtp.SetTracer(n.trace)
	if n.cfg.HTTP == nil {
		return nil
	}
	n.http, err = ingest.NewHTTPServer(ingest.HTTPOptions{Listener: *n.cfg.HTTP, Logger: n.log, Hostname: n.hostname, Backend: ingest.HTTPBackend{
		Acceptor: n, Authenticator: n.access, Queue: clientQueue{n}, Idempotency: n.spool,
		Compile: compileTemplate, Rest: n.pace.rest, Healthy: func() bool { return len(n.NotReady()) == 0 },
	}})
	return err
}

// compileTemplate joins ingest to compose, which do not know each other.
func compileTemplate(t *message.Template) (ingest.CompiledTemplate, []ingest.Problem) {
	t.Static = !compose.HasTags(t)
	c, err := compose.Compile(t)
	if err == nil {
		return c, nil
	}
	var list compose.Errors
	if !errors.As(err, &list) {
		return nil, []ingest.Problem{{Reason: err.Error()}}
	}
	ps := make([]ingest.Problem, len(list))
	for i, e := range list {
		ps[i] = ingest.Problem{Path: e.Field, Reason: e.Err.Error()}
	}
	return nil, ps
}

// now is the time in the resolution that the spool keeps.
func (n *Node) now() time.Time { return n.cfg.Now().UTC().Truncate(time.Microsecond) }

func (n *Node) random() uint64 { return rand.Uint64() }

// usePolicy puts a snapshot in force: for acceptance, signing and dispatch.
func (n *Node) usePolicy(set *policy.Set) {
	n.policyMu.Lock()
	defer n.policyMu.Unlock()
	switch old := n.policy.Load(); {
	case old == nil:
	case set.SamePolicy(old):
		n.useSteering(old, set)
		return
	case set.Revision < old.Revision:
		return // a newer one overtook it
	}
	n.applyPolicy(set)
}

// applyPolicy is usePolicy for all of a set. The caller holds policyMu.
func (n *Node) applyPolicy(set *policy.Set) {
	signers, errs := n.nextSigners(set)
	for _, err := range errs {
		n.log.Error("signing key cannot be used; mail of its domain goes without its signature", "error", err)
	}
	for _, err := range signers.Slow() {
		n.log.Warn("signing key stays with crypto/rsa; its signatures cost more", "error", err)
	}
	n.signers.Store(signers)
	n.access.SetPolicy(set)
	n.newRules(set)
	n.policy.Store(set)
	n.news.hooks.Apply(set)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.SetPolicy(now, set) })
	if c := n.cluster.control; c != nil {
		c.UsePolicy(set)
	}
}

func (n *Node) nextSigners(set *policy.Set) (*dkim.Signers, []error) {
	if old := n.signers.Load(); old != nil {
		return old.Update(set)
	}
	return dkim.NewSigners(set, os.ReadFile)
}

// Reload reads certificates and key files again (SIGHUP).
func (n *Node) Reload() error {
	n.policyMu.Lock()
	n.applyPolicy(n.policy.Load())
	n.policyMu.Unlock()
	return n.smtp.ReloadCertificates()
}

// Run serves until ctx ends, then drains: listeners close, what is in hand
// comes to its end or is given back, and everything stays on disk. When it
// returns no goroutine of the node is left. Run a Node once.
func (n *Node) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	leave, err := n.startCluster(ctx, fail)
	if err != nil {
		return err
	}
	unsubscribe := n.cfg.Policy.Subscribe(n.usePolicy)
	n.usePolicy(n.cfg.Policy.Snapshot()) // it may have changed since New
	var loops, enders sync.WaitGroup
	loopCtx, stopLoops := context.WithCancel(n.root)
	loops.Go(func() { n.dispatch.loop(loopCtx) })
	loops.Go(func() { n.dispatch.sweepLoop(loopCtx) })
	loops.Go(func() { n.rates.loop(loopCtx, n) })
	loops.Go(func() { n.pace.loop(loopCtx) })
	loops.Go(func() { n.actions.loop(loopCtx, n) })
	for range endWorkers {
		enders.Go(func() { n.dispatch.endLoop(n.root) })
	}
	enders.Go(func() { n.days.loop(n.root) })
	enders.Go(func() { n.news.list.Run(n.root) })
	err = n.recover(ctx)
	if err == nil {
		loops.Go(func() { n.mover.run(loopCtx) })
		err = n.listen()
	}
	if err == nil {
		n.serving.Store(true)
		n.log.Info("ready", "node", n.name, "queued", n.spool.Stats().Deliveries)
		<-ctx.Done()
	} else if ctx.Err() != nil {
		err = nil // told to end while still starting
	}
	n.draining.Store(true)
	unsubscribe()
	stopLoops()
	loops.Wait()
	n.drain()
	n.stopWork()
	n.tasks.shut()
	leave() // nothing is sent from any source any more
	enders.Wait()
	n.commits.shut() // their events go to the log, which Close flushes
	// Nothing is sent any more, so no allowance need count as used.
	return errors.Join(err, clusterFailed(ctx), n.days.save(false))
}

// endWorkers end what the scheduler gives out to be ended.
const endWorkers = 4

func (n *Node) listen() error {
	if err := n.smtp.Start(); err != nil {
		return err
	}
	if n.http != nil {
		if err := n.http.Start(); err != nil {
			return err
		}
	}
	return n.listenForNews()
}

// recover makes the spool's queues, holds and jobs known to the scheduler. It
// seeks from queue to queue; nothing that lies between is read.
func (n *Node) recover(ctx context.Context) error {
	if err := errors.Join(n.restoreTransfers(), n.restorePast()); err != nil {
		return err
	}
	if err := n.restoreActions(ctx); err != nil {
		return err
	}
	if err := n.restoreJobs(ctx); err != nil {
		return err
	}
	type found struct {
		q   message.QueueKey
		due time.Time
	}
	var batch []found
	flush := func() {
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for i := range batch {
				s.AddQueue(now, batch[i].q, batch[i].due)
			}
		})
		batch = batch[:0]
	}
	err := n.spool.Queues(ctx, func(q message.QueueKey, due time.Time) error {
		if batch = append(batch, found{q, due}); len(batch) == 256 {
			flush()
		}
		return nil
	})
	flush()
	if err != nil {
		return fmt.Errorf("find queues: %w", err)
	}
	n.recovered.Store(true)
	return nil
}

// drain stops taking mail, lets transactions end, then cuts off.
func (n *Node) drain() {
	n.log.Info("draining", "timeout", n.cfg.DrainTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	n.dispatch.close()
	var in sync.WaitGroup
	for _, shut := range n.shutters() {
		in.Go(func() {
			if err := shut(ctx); err != nil {
				n.log.Warn("drain", "error", err) // clients were cut off; nothing of theirs was acknowledged
			}
		})
	}
	in.Wait()
	select {
	case <-n.dispatch.empty:
	case <-ctx.Done():
		n.log.Warn("sessions cut off at the end of the drain", "sessions", n.dispatch.running())
	}
}

func (n *Node) shutters() []func(context.Context) error {
	s := []func(context.Context) error{n.smtp.Shutdown}
	if n.http != nil {
		s = append(s, n.http.Shutdown)
	}
	return append(s, n.news.shutters()...)
}

// Close flushes and closes what New opened. Call it after Run has returned.
func (n *Node) Close() error {
	n.stopWork()
	n.tasks.shut()
	n.commits.shut()
	errs := []error{n.news.close()}
	if n.events != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		// A log that cannot be flushed now is refilled from the outbox at the
		// next start.
		if err := n.events.Flush(ctx); err != nil {
			n.log.Warn("flush event log", "error", err)
		}
		cancel()
		errs = append(errs, n.events.Close())
	}
	if n.cluster.control != nil {
		errs = append(errs, n.cluster.control.Close())
	}
	if n.resolver != nil {
		n.resolver.Close()
	}
	if n.spool != nil {
		errs = append(errs, n.spool.Close())
	}
	return errors.Join(errs...)
}

// NotReady lists why the node does not serve yet, or any more.
func (n *Node) NotReady() []string {
	var why []string
	switch {
	case !n.recovered.Load():
		why = append(why, "recovering: queues are being found")
	case !n.serving.Load():
		why = append(why, "starting: the listeners are not open yet")
	}
	if n.draining.Load() {
		why = append(why, "draining")
	}
	if n.Drained() {
		why = append(why, "drained by order: new mail goes to other nodes")
	}
	if err := n.spool.Admit(); err != nil {
		why = append(why, err.Error())
	}
	return why
}
