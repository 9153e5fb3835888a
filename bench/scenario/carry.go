package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"hikyaku/bench/load"
	"hikyaku/bench/measure"
)

// carry sends everything and waits until it has arrived.
func (t *trial) carry(ctx context.Context) error {
	stopView := t.showing(ctx)
	defer stopView()
	if err := t.hook(ctx, "prepare", t.plan.before); err != nil {
		return err
	}
	t.setPhase("send")
	sending, sent := context.WithCancel(ctx)
	defer sent()
	group, gctx := errgroup.WithContext(ctx)
	for _, f := range t.flows {
		if f.done {
			continue
		}
		if err := t.aim(f); err != nil {
			return err
		}
		group.Go(func() error { return f.send(gctx, t) })
	}
	profiled := t.profile(sending)
	beside := make(chan error, 1)
	go func() { // ends with sending, which sent ends; received below
		beside <- t.hook(sending, "", t.plan.during)
	}()
	err := group.Wait()
	sent()
	err = errors.Join(err, <-beside, <-profiled, t.died())
	if err == nil {
		err = t.hook(ctx, "", t.plan.sent)
	}
	if err != nil {
		return err
	}
	t.setPhase("drain")
	if err := t.settle(ctx); err != nil {
		return err
	}
	return t.hook(ctx, "", t.plan.drained)
}

// hook runs a scenario's own part of a trial.
func (t *trial) hook(ctx context.Context, phase string, f func(context.Context, *trial) error) error {
	if f == nil {
		return nil
	}
	if phase != "" {
		t.setPhase(phase)
	}
	return f(ctx, t)
}

// aim makes a flow's source, pointed at the nodes.
func (t *trial) aim(f *flow) error {
	o := &f.load
	o.Addrs = o.Addrs[:0]
	for _, h := range t.nodes {
		if o.Protocol == load.SMTP {
			o.Addrs = append(o.Addrs, h.SMTP)
		} else {
			o.Addrs = append(o.Addrs, h.HTTP)
		}
	}
	o.Ledger, o.Start = f.ledger, t.start
	source, err := load.New(*o)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	f.source.Store(source)
	return nil
}

// settle waits until the nodes have nothing queued. It gives up when nothing
// has arrived for the settle time: what is still queued then is counted by the
// audit.
func (t *trial) settle(ctx context.Context) error {
	within := t.settleTime()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, moved := t.receivedAll(), time.Now()
	for looks := 1; ; looks++ { // asking the nodes costs them more than our own counters cost us
		if err := t.died(); err != nil {
			return err
		}
		if n := t.receivedAll(); n != last {
			last = n
			if !t.plan.partial { // where mail must stay queued, the time is a bound
				moved = time.Now()
			}
		}
		if t.arrived() || time.Since(moved) > within {
			return nil
		}
		if looks%25 == 0 {
			if queues, _ := t.empty(ctx); queues {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (t *trial) settleTime() time.Duration {
	if t.plan.settle > 0 {
		return t.plan.settle
	}
	return t.run.Settle.D()
}

// arrived reports whether every accepted recipient was received.
func (t *trial) arrived() bool {
	for _, f := range t.flows {
		if !f.stuck && (f.result == nil || f.received.Load() < f.result.Accepted) {
			return false
		}
	}
	return true
}

// empty asks the nodes for their queues, and how many they have accepted in this
// life and not counted the end of: what is no longer in the spool is counted a
// moment later.
func (t *trial) empty(ctx context.Context) (queues bool, uncounted float64) {
	for i := range t.nodes {
		m, err := t.scrape(ctx, i)
		if err != nil {
			return false, 0
		}
		if v, ok := m.Value("hikyaku_queued"); !ok || v > 0 {
			return false, 0
		}
		accepted, _ := m.Value(counted[0])
		uncounted += accepted
		for _, name := range counted[1:] {
			ended, _ := m.Value(name)
			uncounted -= ended
		}
	}
	return true, uncounted
}

// awaitEmpty waits a little for the nodes to have recorded what was received.
func (t *trial) awaitEmpty(ctx context.Context) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if queues, uncounted := t.empty(ctx); queues && uncounted <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (t *trial) scrape(ctx context.Context, node int) (measure.Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return measure.Scrape(ctx, http.DefaultClient, "http://"+t.nodes[node].Admin+"/metrics")
}

func (t *trial) receivedAll() (n int64) {
	for _, f := range t.flows {
		n += f.received.Load()
	}
	return n
}

// died is an error when a node has ended that nobody ended.
func (t *trial) died() error {
	for i, h := range t.nodes {
		if !h.Running() && !t.restarting.Load() {
			return fmt.Errorf("%s has ended by itself", nodeName(i))
		}
	}
	return nil
}

// restart ends a node and starts it again on the same data.
func (t *trial) restart(ctx context.Context, i int, kill bool) error {
	h := t.nodes[i]
	t.restarting.Store(true)
	defer t.restarting.Store(false)
	if kill {
		t.killed = true
		_ = h.Kill() // it says that it was killed
	} else {
		t.restarted = true
		t.keepCounters(ctx, i)
		if err := h.Stop(40 * time.Second); err != nil {
			return fmt.Errorf("stop %s: %w", nodeName(i), err)
		}
	}
	t.watch.Ended(nodeName(i), h.Process().Cmd.ProcessState)
	if err := h.Restart(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", nodeName(i), err)
	}
	t.watch.Add(measure.Target{Name: nodeName(i), PID: h.PID()})
	return nil
}

// down ends the nodes, in order, and reads what they left.
func (t *trial) down(ctx context.Context, o *outcome) error {
	t.setPhase("audit")
	if !t.plan.partial { // the last outcomes are counted a moment after they were received
		t.awaitEmpty(ctx)
	}
	for i := range t.nodes {
		t.keepCounters(ctx, i)
	}
	for i, h := range t.nodes {
		if err := h.Stop(40 * time.Second); err != nil {
			return fmt.Errorf("stop %s: %w\n%s", nodeName(i), err, t.nodeOutput())
		}
		t.watch.Ended(nodeName(i), h.Process().Cmd.ProcessState)
	}
	t.watch.Stop()
	if err := t.inbox.close(); err != nil {
		return fmt.Errorf("stop the receivers: %w", err)
	}
	for i, h := range t.nodes {
		if err := t.audit(ctx, filepath.Join(h.Dir, "data")); err != nil {
			return fmt.Errorf("audit of %s: %w", nodeName(i), err)
		}
	}
	for _, f := range t.flows {
		f.ledger.LogRead()
	}
	o.finish(t)
	return nil
}
