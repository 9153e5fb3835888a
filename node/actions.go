package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"hikyaku/node/api"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// actionLoop ends holds whose time is over and knows the sweeps that run.
type actionLoop struct {
	mu struct {
		sync.Mutex
		holds  map[string]spool.Action // those that end by themselves
		sweeps map[string]context.CancelFunc
	}
}

const holdCheck = time.Second

// loop ends holds whose time is over. Owned by Node.Run.
func (l *actionLoop) loop(ctx context.Context, n *Node) {
	tick := time.NewTicker(holdCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, a := range l.expired(n.now()) {
				n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, a.ID) })
				if err := n.spool.DeleteAction(ctx, a.ID, n.actionEvent(message.EventReleased, &a, "its time is over", "")...); err != nil {
					n.log.Error("end hold", "action", a.ID, "error", err)
				}
			}
		}
	}
}

func (l *actionLoop) expired(now time.Time) (as []spool.Action) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.mu.holds {
		if !a.Expires.After(now) {
			as = append(as, a)
			delete(l.mu.holds, id)
		}
	}
	return as
}

// note keeps a hold that ends by itself.
func (l *actionLoop) note(a spool.Action) {
	if a.Expires.IsZero() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.holds == nil {
		l.mu.holds = map[string]spool.Action{}
	}
	l.mu.holds[a.ID] = a
}

// forget drops a hold that was taken back, or stops a sweep.
func (l *actionLoop) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.holds, id)
	if stop := l.mu.sweeps[id]; stop != nil {
		stop()
	}
}

// running notes a sweep; nil ends that.
func (l *actionLoop) running(id string, stop context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.sweeps == nil {
		l.mu.sweeps = map[string]context.CancelFunc{}
	}
	if stop == nil {
		delete(l.mu.sweeps, id)
	} else {
		l.mu.sweeps[id] = stop
	}
}

// isRunning reports whether a sweep of the id runs.
func (l *actionLoop) isRunning(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.sweeps[id] != nil
}

// restoreActions puts what was ordered before the start in force again.
func (n *Node) restoreActions(ctx context.Context) error {
	as, err := n.spool.Actions()
	if err != nil {
		return fmt.Errorf("read actions: %w", err)
	}
	for _, a := range as {
		switch {
		case a.Message != "":
			err = n.resumeOnMessage(ctx, a)
		case a.Kind == api.VerbHold:
			n.holdScope(a)
		default:
			n.startSweep(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// actionEvent is the record of a hold or its end: one for the action, under
// the action's id, not one for each delivery it holds; those can be millions,
// and it changes nothing in the ledger.
func (n *Node) actionEvent(typ message.EventType, a *spool.Action, reason, author string) []byte {
	id, _ := message.ParseID(a.ID) // ours
	meta, err := json.Marshal(map[string]string{"action": a.ID, "reason": reason, "author": author})
	if err != nil {
		panic("BUG: strings cannot be encoded: " + err.Error())
	}
	s := &a.Scope
	e := message.Event{Type: typ, Time: n.now(), ID: message.DeliveryID{Message: id}, Node: n.name, Tenant: s.Tenant, Stream: s.Stream, Pool: s.Pool,
		Job: s.Job, Destination: s.Destination, Carrier: s.Carrier, Source: s.Source, Metadata: meta}
	return e.AppendJSON(nil)
}

func (n *Node) holdScope(a spool.Action) {
	n.actions.note(a)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		s.Hold(now, scheduler.Hold{ID: a.ID, Scope: a.Scope, Reason: a.Reason})
	})
}

// Act is api.Node.
func (n *Node) Act(ctx context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	if r.Message != "" {
		return n.actOnMessage(ctx, r)
	}
	scope := r.Scope.Message()
	if scope.IsZero() && !r.All {
		return nil, fmt.Errorf("%w: the scope is empty, which is everything; say all if that is meant", api.ErrInvalid)
	}
	if scope.Source != "" && r.Verb != api.VerbHold && r.Verb != api.VerbRelease {
		return nil, fmt.Errorf("%w: a source can be held and released; queued mail belongs to no source", api.ErrInvalid)
	}
	if r.Verb == api.VerbRelease {
		return n.release(ctx, r, scope)
	}
	a, err := n.newAction(r, scope)
	if err != nil {
		return nil, err
	}
	if r.Expires != nil && r.Verb == api.VerbHold {
		if a.Expires = r.Expires.UTC(); !a.Expires.After(a.Created) {
			return nil, fmt.Errorf("%w: the hold would end in the past", api.ErrInvalid)
		}
	}
	res := &api.ActionResult{Action: apiAction(&a)}
	switch {
	case r.Verb == api.VerbHold:
		if err := n.spool.PutAction(ctx, a, n.actionEvent(message.EventHeld, &a, a.Reason, a.Author)...); err != nil {
			return nil, err
		}
		n.holdScope(a)
		res.Affected = n.queuedIn(scope)
		return res, nil
	case r.Verb == api.VerbRetry: // it is done or not; nothing holds meanwhile, nothing goes on after a crash
	case n.actions.isRunning(a.ID): // ordered again
		res.Running = true
		return res, nil
	default:
		if err := n.spool.PutAction(ctx, a); err != nil {
			return nil, err
		}
	}
	return res, n.startSweep(a).waitInto(ctx, res)
}

// orderSlack is how far the clock of who made an order's id may be behind the
// node's without mail escaping that was here when the order came.
const orderSlack = 10 * time.Second

// newAction makes the action of an order. An order that brings its own id may
// come again, perhaps long after it was carried out: the time in the id bounds
// which mail is meant.
func (n *Node) newAction(r *api.ActionRequest, scope message.Scope) (spool.Action, error) {
	a := spool.Action{Kind: r.Verb, Scope: scope, Reason: r.Reason, Author: r.Author, Created: n.now()}
	if r.ID == "" {
		a.ID = n.ids.New(a.Created).String()
		return a, nil
	}
	id, err := message.ParseID(r.ID)
	if err != nil {
		return a, fmt.Errorf("%w: id: %w", api.ErrInvalid, err)
	}
	a.ID = id.String()
	if meant := id.Time().Add(orderSlack); meant.Before(a.Created) {
		a.Created = meant
	}
	return a, nil
}

func apiAction(a *spool.Action) api.Action {
	out := api.Action{ID: a.ID, Verb: a.Kind, Scope: api.Scope(a.Scope), Message: a.Message, Reason: a.Reason, Author: a.Author, Created: a.Created}
	if !a.Expires.IsZero() {
		out.Expires = &a.Expires
	}
	return out
}

// release ends the holds that were made with the same scope.
func (n *Node) release(ctx context.Context, r *api.ActionRequest, scope message.Scope) (*api.ActionResult, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	var res *api.ActionResult
	for _, a := range as {
		if a.Kind == api.VerbHold && a.Scope == scope {
			if res, err = n.takeBack(ctx, &a, r.Reason, r.Author); err != nil {
				return nil, err
			}
		}
	}
	if res == nil {
		return nil, fmt.Errorf("%w: nothing is held with this scope; \"hikyaku actions ls\" shows what is", api.ErrNotFound)
	}
	res.Verb, res.Reason, res.Author = api.VerbRelease, r.Reason, r.Author
	return res, nil
}

// Actions is api.Node.
func (n *Node) Actions(context.Context) ([]api.Action, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	out := make([]api.Action, len(as))
	for i := range as {
		out[i] = apiAction(&as[i])
	}
	return out, nil
}

// DeleteAction is api.Node: it ends a hold, or stops a cancel on its way.
func (n *Node) DeleteAction(ctx context.Context, id string) (*api.ActionResult, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	for i := range as {
		if as[i].ID == id {
			return n.takeBack(ctx, &as[i], "taken back", "")
		}
	}
	return nil, fmt.Errorf("%w: action %s", api.ErrNotFound, id)
}

func (n *Node) takeBack(ctx context.Context, a *spool.Action, reason, author string) (*api.ActionResult, error) {
	var events []byte
	if a.Kind == api.VerbHold {
		events = n.actionEvent(message.EventReleased, a, reason, author)
	}
	if err := n.spool.DeleteAction(ctx, a.ID, events...); err != nil {
		return nil, err
	}
	n.actions.forget(a.ID)
	n.mover.past.forget(a.ID)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, a.ID) })
	return &api.ActionResult{Action: apiAction(a), Affected: n.queuedIn(a.Scope)}, nil
}

// queuedIn counts what is queued in a scope.
func (n *Node) queuedIn(scope message.Scope) (total int64) {
	for _, q := range n.queuesIn(scope) {
		total += q.queued
	}
	return total
}
