package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// This file is the sender's side of handing deliveries to another node's spool;
// transfer_receive.go is the receiver's. Package node/transfer says between
// them, and why no crash in between loses a delivery or leaves it with both.

// The errors of a transfer.
var (
	// ErrMoving: the delivery is offered to another node and may not change
	// here until it is known who has it.
	ErrMoving = errors.New("delivery is being handed to another node")
	// ErrConflict: a delivery of the parcel is here already, by another way.
	ErrConflict = errors.New("delivery is already here")
	// ErrOtherSpool: the parcel is for another spool.
	ErrOtherSpool = errors.New("meant for another spool")
	// ErrManyTransfers: too many transfers are open.
	ErrManyTransfers = errors.New("too many transfers are open")
)

// The bounds of what is under way from one spool. What is offered is in memory,
// some 200 bytes a delivery.
const (
	MaxTransfers          = 64
	MaxTransferDeliveries = 1024
)

// Peer is a node that deliveries go to: its name, and its spool's NodeID, which
// tells it from a node of the same name with another disk.
type Peer struct {
	Name  string `json:"name"`
	Spool string `json:"spool"`
}

func (p *Peer) check() error {
	if !validNodeID(p.Spool) || !validName(p.Name, 1, 64) {
		return fmt.Errorf("%w: node %q with spool %q", ErrInvalid, p.Name, p.Spool)
	}
	return nil
}

// Transfer is a batch of deliveries on the way to another node: offered, and
// not known to be there or to have been refused. Its number is never used again
// by this spool.
type Transfer struct {
	Number     uint64    `json:"number"`
	To         Peer      `json:"to"`
	Created    time.Time `json:"created"`
	Deliveries int       `json:"deliveries"`
	Recipients int       `json:"recipients"`
}

// offer is a transfer with its deliveries.
type offer struct {
	Transfer
	entries []offered
	applied bool // the builder has taken it; under the lock of transfers
}

// offered is one delivery of an offer, as it stands.
type offered struct {
	id         message.DeliveryID
	attempts   uint16
	recipients int
	place      []byte // its queue key without the id
}

func (o *offered) queueKey() []byte { return appendDeliveryID(bytes.Clone(o.place), o.id) }

func (o *offered) prefix() []byte { return o.place[:len(o.place)-dueLen] }

// transfers is what is offered, as the disk has it. A delivery is in it from
// before its offer is durable until after the end of the offer is.
type transfers struct {
	any atomic.Bool // something is offered; what most moves look at
	mu  struct {
		sync.Mutex
		next uint64 // number
		open map[uint64]*offer
		by   map[message.DeliveryID]uint64
	}
	stored uint64 // the builder's: next, as the disk has it
}

// moving is the transfer that a delivery is in.
func (t *transfers) moving(id message.DeliveryID) (Transfer, bool) {
	if !t.any.Load() {
		return Transfer{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.mu.by[id]
	if !ok {
		return Transfer{}, false
	}
	return t.mu.open[n].Transfer, true
}

// hides reports whether no page may show a delivery.
func (t *transfers) hides(id message.DeliveryID) bool {
	if !t.any.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.mu.by[id]
	return ok
}

// fixed reports whether no transition may change a delivery. One that was handed
// in before its offer goes first; then the offer finds that it does not stand as
// it was packed.
func (t *transfers) fixed(id message.DeliveryID) bool {
	if !t.any.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.mu.by[id]
	return ok && t.mu.open[n].applied
}

// addLocked notes an offer.
func (t *transfers) addLocked(o *offer) {
	t.mu.open[o.Number] = o
	for i := range o.entries {
		t.mu.by[o.entries[i].id] = o.Number
	}
	t.any.Store(true)
}

// remove forgets an offer that is over on disk.
func (t *transfers) remove(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.mu.open[number]
	if o == nil {
		return
	}
	delete(t.mu.open, number)
	for i := range o.entries {
		delete(t.mu.by, o.entries[i].id)
	}
	t.any.Store(len(t.mu.open) > 0)
}

const nextTransfer = "transfer"

// loadTransfers reads what was offered before the start. It never skips an
// offer that it cannot read: its deliveries could be sent by two nodes.
func (s *Store) loadTransfers() error {
	t := &s.transfers
	t.mu.open, t.mu.by = map[uint64]*offer{}, map[message.DeliveryID]uint64{}
	text, err := s.getState(nextTransfer)
	if err != nil {
		return err
	}
	t.mu.next, _ = strconv.ParseUint(text, 10, 64)
	t.mu.next = max(t.mu.next, 1)
	prefix := []byte{kindTransfer}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return fmt.Errorf("read transfers: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var o *offer
		o, err = decodeOffer(it.Key(), it.Value())
		switch {
		case err == nil:
			o.applied = true
			t.addLocked(o)
			t.mu.next = max(t.mu.next, o.Number+1)
		case s.opt.ReadOnly:
			s.stats.unreadable.Add(1) // Verify tells
			err = nil
		default:
			err = fmt.Errorf("transfer %x: its deliveries may be on another node, so they must not be sent from here: %w", it.Key()[1:], err)
		}
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read transfers: %w", err)
	}
	t.stored = t.mu.next
	return nil
}

// Transfers lists those that are open, oldest first.
func (s *Store) Transfers() []Transfer {
	t := &s.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	ts := make([]Transfer, 0, len(t.mu.open))
	for _, o := range t.mu.open {
		ts = append(ts, o.Transfer)
	}
	slices.SortFunc(ts, func(a, b Transfer) int { return compareNumbers(a.Number, b.Number) })
	return ts
}

func compareNumbers(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Moving is the transfer that a delivery is offered in.
func (s *Store) Moving(id message.DeliveryID) (Transfer, bool) { return s.transfers.moving(id) }

// Floor is the number below which no transfer from here to the spool is open,
// now or later: the receiver may forget what it knows of those.
func (s *Store) Floor(spool string) uint64 {
	t := &s.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	floor := t.mu.next
	for n, o := range t.mu.open {
		if o.To.Spool == spool {
			floor = min(floor, n)
		}
	}
	return floor
}

// SkipNumbers makes later transfers have numbers above high. A receiver that
// knows higher ones than this spool has seen an earlier life of it: the disk
// was set back to an older state.
func (s *Store) SkipNumbers(high uint64) {
	t := &s.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.next = max(t.mu.next, high+1)
}

// TransferDeliveries reads the deliveries of an open transfer. Those that
// cannot be read are left out.
func (s *Store) TransferDeliveries(number uint64) ([]*message.Delivery, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	o := s.offerOf(number)
	if o == nil {
		return nil, fmt.Errorf("transfer %d: %w", number, ErrNotFound)
	}
	ds := make([]*message.Delivery, 0, len(o.entries))
	for i := range o.entries {
		err := s.read(o.entries[i].queueKey(), func(key, value []byte) error {
			d, err := decodeQueued(key, value)
			if err == nil {
				ds = append(ds, d)
			}
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnreadable) {
			return nil, fmt.Errorf("transfer %d: %w", number, err)
		}
	}
	return ds, nil
}

func (s *Store) offerOf(number uint64) *offer {
	t := &s.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.open[number]
}

// BeginTransfer offers a packed parcel's deliveries to a node and returns when
// that is durable. From then on, also after a restart, no page shows them and
// no Transition changes them, until FinishTransfer or ReturnTransfer. The error
// is ErrGone when one of them does not stand as it was packed; then nothing is
// offered.
func (s *Store) BeginTransfer(to Peer, p *Parcel) (Transfer, error) {
	if err := s.enterWrite(); err != nil {
		return Transfer{}, err
	}
	defer s.leave()
	if err := to.check(); err != nil {
		return Transfer{}, err
	}
	if to.Spool == s.nodeID {
		return Transfer{}, fmt.Errorf("%w: a transfer to itself", ErrInvalid)
	}
	if n := len(p.packed); n == 0 || n > MaxTransferDeliveries {
		return Transfer{}, fmt.Errorf("%w: transfer of %d deliveries", ErrInvalid, n)
	}
	o, err := s.newOffer(to, p)
	if err != nil {
		return Transfer{}, err
	}
	r := s.newRequest(kindWrite, 0)
	for i := range o.entries {
		r.ids = append(r.ids, o.entries[i].id)
	}
	r.write = func(b *pebble.Batch) error { return s.commits.addOffer(b, o) }
	if err := s.settleWrite(r); err != nil {
		s.transfers.remove(o.Number)
		return Transfer{}, fmt.Errorf("offer %d deliveries to %s: %w", len(o.entries), to.Name, err)
	}
	return o.Transfer, nil
}

// settleWrite waits for the answer for as long as it takes: what is in memory
// must follow what is on disk.
func (s *Store) settleWrite(r *request) error {
	if err := s.commits.enqueue(r); err != nil {
		return err
	}
	err := <-r.ack
	r.recycle()
	return err
}

// newOffer takes a number. The offer is open from here on, so that no floor
// passes it.
func (s *Store) newOffer(to Peer, p *Parcel) (*offer, error) {
	t := &s.transfers
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.open) >= MaxTransfers {
		return nil, fmt.Errorf("%w: %d", ErrManyTransfers, len(t.mu.open))
	}
	o := &offer{Transfer: Transfer{Number: t.mu.next, To: to, Created: s.now(), Deliveries: len(p.packed)}, entries: p.packed}
	for i := range o.entries {
		o.Recipients += o.entries[i].recipients
		if _, ok := t.mu.by[o.entries[i].id]; ok {
			return nil, fmt.Errorf("%s: %w", o.entries[i].id, ErrMoving)
		}
	}
	t.mu.next++
	t.addLocked(o)
	return o, nil
}

// addOffer is the builder's part of BeginTransfer.
func (c *committer) addOffer(b *pebble.Batch, o *offer) error {
	for i := range o.entries {
		e := &o.entries[i]
		key := appendIndexKey(nil, e.id)
		v, closer, err := c.s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return fmt.Errorf("%s: %w", e.id, ErrGone)
		}
		if err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		at, err := decodePointer(key, v)
		stands := err == nil && at.attempts == e.attempts && at.recipients == e.recipients && bytes.Equal(at.place, e.place)
		if err := closer.Close(); err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		if !stands {
			return fmt.Errorf("%s: %w", e.id, ErrGone)
		}
	}
	t := &c.s.transfers
	if o.Number >= t.stored {
		t.stored = o.Number + 1
		setState(b, nextTransfer, strconv.FormatUint(t.stored, 10))
	}
	c.s.raiseFormat(b)
	key := transferKey(o.Number)
	must(b.Set(key, appendOffer(nil, key, o), nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	o.applied = true
	return nil
}

// raiseFormat marks the spool as one that an older program must not open: it
// would send what is offered, and know no receipts. It stays marked.
func (s *Store) raiseFormat(b *pebble.Batch) {
	if s.format.Load() < transferFormat {
		s.format.Store(transferFormat)
		setState(b, "format", strconv.Itoa(transferFormat))
	}
}

// FinishTransfer ends an open transfer whose deliveries the receiver has: they
// are deleted here, with a note of where they went, and with the events given.
// It returns when that is durable. The error is ErrNotFound when no such
// transfer is open: doing it twice is harmless.
func (s *Store) FinishTransfer(number uint64, events []byte) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	o := s.offerOf(number)
	if o == nil {
		return fmt.Errorf("transfer %d: %w", number, ErrNotFound)
	}
	r := s.newRequest(kindWrite, 0)
	r.events = append(r.events, events...)
	for i := range o.entries {
		e := &o.entries[i]
		r.ids = append(r.ids, e.id)
		r.tally(e.prefix(), -1)
		if q, ok := parseQueuePrefix(e.prefix()); ok {
			r.addCount(&q, jobCounts{Accepted: -int64(e.recipients)})
		}
	}
	r.write = func(b *pebble.Batch) error { return s.commits.dropOffer(b, o) }
	if err := s.settleWrite(r); err != nil {
		return fmt.Errorf("finish transfer %d: %w", number, err)
	}
	s.transfers.remove(number)
	return nil
}

// dropOffer is the builder's part of FinishTransfer. Nothing goes into the
// batch unless all of it does.
func (c *committer) dropOffer(b *pebble.Batch, o *offer) (err error) {
	key := transferKey(o.Number)
	if v, err := c.s.get(key); err != nil || v == nil {
		return errors.Join(err, fmt.Errorf("transfer %d: %w", o.Number, ErrNotFound))
	}
	type count struct {
		id    message.ID
		n     int32
		known bool
	}
	var before []count // of references, to be put back after an error
	defer func() {
		if err == nil {
			return
		}
		for _, was := range slices.Backward(before) {
			if was.known {
				c.shared[was.id] = was.n
			} else {
				delete(c.shared, was.id)
			}
		}
	}()
	frag := c.s.db.NewBatch()
	defer func() { err = errors.Join(err, frag.Close()) }()
	now := c.s.now()
	for i := range o.entries {
		e := &o.entries[i]
		m := &request{id: e.id, from: e.queueKey(), now: pointer{attempts: e.attempts, recipients: e.recipients, place: e.place}}
		c.index = appendIndexKey(c.index[:0], e.id)
		entry, sole, err := c.checkMove(frag, m)
		if errors.Is(err, ErrGone) {
			// No transition can have moved it, so its records are in quarantine.
			c.s.log.Error("a delivery that was handed over is not where it was; what is in quarantine of it must not be restored", "id", e.id.String(), "to", o.To.Name)
			continue
		}
		if err != nil {
			return err
		}
		n, known := c.shared[e.id.Message]
		before = append(before, count{e.id.Message, n, known})
		last, err := c.dropReference(e.id.Message, sole, entry)
		if err != nil {
			return err
		}
		c.dropStanding(frag, m, entry, last)
		gone := goneKey(bucketOf(now), e.id)
		q, _ := parseQueuePrefix(e.prefix())
		must(frag.Set(gone, appendGone(nil, gone, &q, &Gone{To: o.To, At: now, Recipients: e.recipients}), nil))
	}
	must(frag.Delete(key, nil))
	must(b.Apply(frag, nil))
	return nil
}

// dropStanding removes the records of a delivery that leaves, and those of its
// message if it is the last.
func (c *committer) dropStanding(b *pebble.Batch, r *request, e entry, last bool) {
	must(b.SingleDelete(r.from, nil))
	if e == entryGood {
		must(b.SingleDelete(c.index, nil))
	}
	if last {
		c.key = appendIDKey(c.key[:0], kindMeta, r.id.Message)
		must(b.SingleDelete(c.key, nil))
		c.key[0] = kindContent
		must(b.SingleDelete(c.key, nil))
	}
}

// ReturnTransfer ends an open transfer whose deliveries the receiver does not
// have and will never take: they are active here again. It returns when that is
// durable. The error is ErrNotFound when no such transfer is open.
//
// INVARIANT: the caller knows that the receiver has fenced the transfer. A late
// copy of the parcel would otherwise make its deliveries active on both.
func (s *Store) ReturnTransfer(number uint64) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	o := s.offerOf(number)
	if o == nil {
		return fmt.Errorf("transfer %d: %w", number, ErrNotFound)
	}
	r := s.newRequest(kindWrite, 0)
	r.write = func(b *pebble.Batch) error {
		key := transferKey(number)
		if v, err := s.get(key); err != nil || v == nil {
			return errors.Join(err, fmt.Errorf("transfer %d: %w", number, ErrNotFound))
		}
		return b.Delete(key, nil)
	}
	if err := s.settleWrite(r); err != nil {
		return fmt.Errorf("return transfer %d: %w", number, err)
	}
	s.transfers.remove(number)
	return nil
}

func transferKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindTransfer}, number)
}
