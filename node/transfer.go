package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"hikyaku/node/transfer"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// This file decides what goes to which other node: mail whose pool has no source
// here, and all mail while a person has ordered the node to drain. How it gets
// there is node/transfer's; transfer_host.go is what this node does when
// deliveries leave and come.

// TransferConfig is how other nodes are reached.
type TransferConfig struct {
	// Address gives the base URL of a node's peer listener: "https://10.0.0.2:7946".
	Address      func(node string) (url string, err error)
	Client       *http.Client // with the cluster's credentials
	BytesASecond int64        // sent at most; 0 is no bound
}

// mover hands deliveries to other nodes. Its loop is a goroutine of Node.Run.
type mover struct {
	n    *Node
	t    *transfer.Transfer // nil: there are no other nodes
	past pastOrders
	came arrivals
	mu   struct {
		sync.Mutex
		rest  map[batchKey]time.Time           // nothing goes there before
		unfit map[message.DeliveryID]time.Time // not tried again before
		turn  int
	}
}

const (
	// moveEvery is how often stranded mail is looked for.
	moveEvery = time.Second
	// parcelsAtOnce are on the way to other nodes.
	parcelsAtOnce = 4
	// parcelDeliveries are in a parcel, if they are small. More share a sync, but
	// come back together when the other node refuses one of them.
	parcelDeliveries = 512
	parcelBytes      = 1 << 20
	// moveRest is how long a node that took nothing is left alone.
	moveRest = 5 * time.Second
	// unfitRest is how long a delivery that cannot be handed over is not tried.
	unfitRest = 10 * time.Minute
	maxUnfit  = 10_000
	// strandedAtOnce are the queues looked at in one round.
	strandedAtOnce = 1024
	// lastParcels is how long the end of the node waits for parcels on the way.
	lastParcels = 5 * time.Second
)

// openTransfer makes the mover; without TransferConfig it does nothing.
func (n *Node) openTransfer() (err error) {
	m := &n.mover
	m.n = n
	m.mu.rest, m.mu.unfit = map[batchKey]time.Time{}, map[message.DeliveryID]time.Time{}
	c := n.cfg.Transfer
	if c == nil {
		return nil
	}
	m.t, err = transfer.New(transfer.Options{Name: n.name, Spool: n.spool, Host: transferHost{n}, Address: c.Address, Client: c.Client,
		Logger: n.log, Now: n.cfg.Now, ParcelBytes: parcelBytes, BytesASecond: c.BytesASecond})
	return err
}

// TransferHandler answers other nodes; nil when there are none. The caller
// mounts it at transfer.Path and below, behind the cluster's authentication.
func (n *Node) TransferHandler() http.Handler {
	if n.mover.t == nil {
		return nil
	}
	return n.mover.t.Handler()
}

// Transfers lists the transfers of which it is not known who has their
// deliveries, oldest first.
func (n *Node) Transfers() []transfer.Open {
	if n.mover.t == nil {
		return nil
	}
	return n.mover.t.Open()
}

// TransferMetrics is a snapshot for the metrics page.
func (n *Node) TransferMetrics() transfer.Metrics {
	if n.mover.t == nil {
		return transfer.Metrics{}
	}
	return n.mover.t.Metrics()
}

// ReclaimTransfer is transfer.Transfer.Reclaim.
func (n *Node) ReclaimTransfer(number uint64, gone string) error {
	if n.mover.t == nil {
		return fmt.Errorf("transfer %d: %w", number, spool.ErrNotFound)
	}
	return n.mover.t.Reclaim(number, gone)
}

// run moves deliveries until ctx ends. What is on the way then is resolved, or
// stays offered until the next start.
func (m *mover) run(ctx context.Context) {
	if m.t == nil {
		return
	}
	var resolver sync.WaitGroup
	resolver.Go(func() { m.t.Run(ctx) })
	defer resolver.Wait()
	// Parcels on the way when the node ends may arrive: what is known is not
	// asked for after the next start.
	send, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastParcels, cancel) })()
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if m.round(ctx, send) > 0 {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// batchKey is what the deliveries of a parcel share. Held ones go apart: the
// other node may refuse them.
type batchKey struct {
	to   string
	held bool
}

type batch struct {
	ds    []*message.Delivery
	bytes int
}

// round looks once at all that should go, and returns how many deliveries went.
func (m *mover) round(ctx, send context.Context) (moved int) {
	n := m.n
	queues, until := m.wanted()
	if len(queues) == 0 {
		return 0
	}
	all := n.Homes()
	homes, shelters := map[string][]string{}, refuges(all)
	for i := range all {
		if h := &all[i]; h.Carrier == "" {
			homes[h.Pool] = h.Nodes
		}
	}
	var out outgoing
	out.init(ctx, send, m)
	for i := range queues {
		if ctx.Err() != nil {
			break
		}
		q := &queues[i]
		to, shunned := m.homesOf(q, homes, shelters)
		m.moveQueue(&out, q, to, until, shunned)
	}
	return out.finish()
}

// wanted are the queues that should go elsewhere, by priority, and up to which
// due time.
func (m *mover) wanted() (queues []message.QueueKey, until time.Time) {
	n := m.n
	if !n.Drained() {
		until = n.now() // what is not due may find a source here
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { queues = s.Stranded(now, strandedAtOnce) })
		return queues, until
	}
	for _, q := range n.queuesIn(message.Scope{}) {
		queues = append(queues, q.key)
	}
	slices.SortStableFunc(queues, func(a, b message.QueueKey) int { return int(a.Priority) - int(b.Priority) })
	return queues, time.Unix(1<<40, 0)
}

// homesOf are the nodes that a queue's mail may go to: those whose sources may be
// used at its carrier, where others may not. shunned says that it goes only since
// this node's own may not: then what has just come stays.
func (m *mover) homesOf(q *message.QueueKey, homes map[string][]string, shelters map[scheduler.Refuge][]string) (to []string, shunned bool) {
	if len(shelters) == 0 {
		return homes[q.Pool], false
	}
	var v scheduler.QueueView
	own := false
	m.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		v, _ = s.QueueViewOf(now, *q)
		own = s.HasSources(q.Pool)
	})
	if nodes := shelters[scheduler.Refuge{Pool: q.Pool, Carrier: v.Carrier}]; nodes != nil {
		return nodes, own && !m.n.Drained()
	}
	if own && !m.n.Drained() {
		return nil, false // it has been taken back meanwhile
	}
	return homes[q.Pool], false
}

// moveQueue takes the deliveries of a queue, page by page, into parcels for its
// homes.
func (m *mover) moveQueue(out *outgoing, q *message.QueueKey, homes []string, until time.Time, shunned bool) {
	n := m.n
	var after spool.Cursor
	for out.ctx.Err() == nil {
		key, ok := m.choose(q, homes)
		if !ok {
			return
		}
		ds, more, err := n.spool.Page(*q, after, until, parcelDeliveries)
		if err != nil {
			n.log.Error("read queue", "destination", q.Destination, "error", err)
			return
		}
		if len(ds) > 0 {
			last := ds[len(ds)-1]
			after = spool.Cursor{Due: last.Due, ID: last.ID}
		}
		taken := m.take(ds, shunned)
		out.add(key, taken)
		if shunned && len(taken) == 0 {
			return // what has just come stands first; it is not read again and again
		}
		if !more || len(ds) == 0 {
			return
		}
	}
}

// choose picks the node that the next deliveries of a queue go to: in turn, of
// those that have sources of its pool and are not left alone for now.
func (m *mover) choose(q *message.QueueKey, homes []string) (batchKey, bool) {
	if len(homes) == 0 {
		return batchKey{}, false
	}
	held := false
	m.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		if v, ok := s.QueueViewOf(now, *q); ok {
			held = v.Held
		}
	})
	now := m.n.now()
	m.mu.Lock()
	turn := m.mu.turn
	m.mu.turn++
	m.mu.Unlock()
	for i := range homes {
		key := batchKey{homes[(turn+i)%len(homes)], held}
		if key.to == m.n.name || m.t.Unresolved(key.to) > 0 {
			continue
		}
		m.mu.Lock()
		rest := m.mu.rest[key].After(now)
		m.mu.Unlock()
		if !rest {
			return key, true
		}
	}
	return batchKey{}, false
}

// take gets deliveries out of the scheduler's hands. What is in flight, or about
// to be ended, is met again in a later round; and with stay, what has come from
// another node a short while ago.
func (m *mover) take(ds []*message.Delivery, stay bool) (taken []*message.Delivery) {
	d, now := m.n.dispatch, m.n.now()
	for part := range slices.Chunk(ds, addAtOnce) {
		part = slices.DeleteFunc(part, func(del *message.Delivery) bool { return m.isUnfit(del.ID) || stay && m.came.recent(del.ID, now) })
		d.with(func(s *scheduler.Scheduler, now time.Time) {
			for _, del := range part {
				if d.verdictLocked(del, carrierOf(s, now, del)) == nil && s.Take(now, del) {
					taken = append(taken, del)
				}
			}
		})
	}
	return taken
}

func carrierOf(s *scheduler.Scheduler, now time.Time, del *message.Delivery) string {
	v, _ := s.QueueViewOf(now, del.Queue)
	return v.Carrier
}

func (m *mover) isUnfit(id message.DeliveryID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.mu.unfit[id]
	if ok && until.Before(m.n.now()) {
		delete(m.mu.unfit, id)
		return false
	}
	return ok
}

// noteUnfit keeps deliveries from being tried in every round.
func (m *mover) noteUnfit(ds []*message.Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.unfit)+len(ds) > maxUnfit {
		clear(m.mu.unfit)
	}
	for _, d := range ds {
		m.mu.unfit[d.ID] = m.n.now().Add(unfitRest)
	}
}

// outgoing are the parcels of one round.
type outgoing struct {
	ctx     context.Context // of the round, whose owner waits in finish
	sending context.Context // of parcels on the way
	m       *mover
	batches map[batchKey]*batch
	slots   chan struct{}
	wg      sync.WaitGroup
	mu      struct {
		sync.Mutex
		moved int
	}
}

func (o *outgoing) init(ctx, send context.Context, m *mover) {
	o.ctx, o.sending, o.m, o.batches, o.slots = ctx, send, m, map[batchKey]*batch{}, make(chan struct{}, parcelsAtOnce)
}

// add puts deliveries into parcels, and sends those that are full.
func (o *outgoing) add(key batchKey, ds []*message.Delivery) {
	b := o.batches[key]
	if b == nil {
		b = &batch{}
		o.batches[key] = b
	}
	for _, d := range ds {
		b.ds, b.bytes = append(b.ds, d), b.bytes+int(d.Size)
		if len(b.ds) >= parcelDeliveries || b.bytes >= parcelBytes {
			o.send(key, b.ds)
			*b = batch{}
		}
	}
}

// send waits for a slot and sends a parcel.
func (o *outgoing) send(key batchKey, ds []*message.Delivery) {
	o.slots <- struct{}{}
	o.wg.Go(func() {
		defer func() { <-o.slots }()
		n, start := o.m.n, time.Now()
		moved, err := o.m.t.Send(o.sending, key.to, ds)
		if err != nil {
			o.m.leaveAlone(key, err)
		}
		o.mu.Lock()
		o.mu.moved += moved
		o.mu.Unlock()
		n.pace.rest(o.ctx, time.Since(start))
	})
}

// finish sends what is left and waits for all.
func (o *outgoing) finish() int {
	for key, b := range o.batches {
		if len(b.ds) > 0 {
			o.send(key, b.ds)
		}
	}
	o.wg.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.moved
}

// leaveAlone notes that a node took nothing.
func (m *mover) leaveAlone(key batchKey, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	m.n.log.Warn("deliveries could not be handed over; they wait, or go to another node", "to", key.to, "held", key.held, "error", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.rest) > maxUnfit {
		clear(m.mu.rest)
	}
	m.mu.rest[key] = m.n.now().Add(moveRest)
}
