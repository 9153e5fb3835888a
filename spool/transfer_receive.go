package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// Answer is what a receiver says of a transfer.
type Answer string

// The answers.
const (
	// Stored: its deliveries are here, durably, since this parcel.
	Stored Answer = "stored"
	// Had: they came with an earlier copy of it. What became of them since does
	// not matter: they are not the sender's any more.
	Had Answer = "had"
	// Fenced: it is not here, and never will be.
	Fenced Answer = "fenced"
	// Forgotten: its number is below the floor that its sender has told. To a
	// parcel it means refused; whether an earlier copy came is not known any more.
	Forgotten Answer = "forgotten"
)

// errAnswer lets the builder answer without changing anything.
type errAnswer struct{ answer Answer }

func (e *errAnswer) Error() string { return string(e.answer) }

func answerOf(err error, otherwise Answer) (Answer, error) {
	var a *errAnswer
	switch {
	case err == nil:
		return otherwise, nil
	case errors.As(err, &a):
		return a.answer, nil
	}
	return "", err
}

// Receive stores the deliveries of a parcel, their messages, a receipt and the
// events given, and returns when all of it is durable, in one batch. A parcel
// that came before, or was fenced, changes nothing. The errors: ErrOtherSpool,
// and ErrConflict when one of its deliveries is here by another way, as when
// this spool has offered it to somebody and does not know yet who has it.
func (s *Store) Receive(p *Parcel, events []byte) (Answer, error) {
	if err := s.enterWrite(); err != nil {
		return "", err
	}
	defer s.leave()
	if p.To != s.nodeID {
		return "", fmt.Errorf("%w: the parcel is for %s, this is %s", ErrOtherSpool, p.To, s.nodeID)
	}
	r := s.newRequest(kindReceive, 512*p.Deliveries())
	r.parcel = p
	for i := range p.Items {
		it := &p.Items[i]
		sole := it.Message.Deliveries == 1
		for at, d := range it.Deliveries {
			r.receiveDelivery(d, it.records[at], sole)
		}
	}
	r.events = append(r.events, events...)
	answer, err := answerOf(s.settleWrite(r), Stored)
	if err != nil {
		return "", fmt.Errorf("receive transfer %d of %s: %w", p.Number, p.From.Name, err)
	}
	return answer, nil
}

// receiveDelivery is setDelivery with the record as it came. The record's sum
// was checked with the same key.
func (r *request) receiveDelivery(d *message.Delivery, record []byte, sole bool) {
	r.key = appendQueueKey(r.key[:0], d)
	must(r.frag.Set(r.key, record, nil))
	r.tally(r.key[:len(r.key)-dueLen-deliveryIDLen], +1)
	r.index = appendIndexKey(r.index[:0], d.ID)
	at := pointerTo(d, sole, r.key)
	r.value = at.append(r.value[:0], r.index)
	r.setAt(r.index)
	r.ids = append(r.ids, d.ID)
	r.addCount(&d.Queue, jobCounts{Accepted: int64(len(d.Recipients))})
}

// addParcel is the builder's part of Receive. Its batch holds submissions
// beside it, and nothing that could change a message or a receipt (pick.go), so
// that what it reads is what stands.
func (c *committer) addParcel(b *pebble.Batch, r *request) error {
	p, s := r.parcel, c.s
	known, err := s.knownTransfer(p.From.Spool, p.Number)
	if err != nil {
		return err
	}
	if known != "" {
		return &errAnswer{known}
	}
	for _, id := range r.ids {
		c.index = appendIndexKey(c.index[:0], id)
		here, err := s.has(c.index)
		if err == nil && here {
			err = fmt.Errorf("%s: %w", id, ErrConflict)
		}
		if err != nil {
			return err
		}
	}
	frag := s.db.NewBatch()
	fresh := make([]bool, len(p.Items))
	for i := range p.Items {
		if fresh[i], err = c.addParcelMessage(frag, &p.Items[i]); err != nil {
			return errors.Join(err, frag.Close())
		}
	}
	if err := c.addJobOrders(frag, p.Jobs); err != nil {
		return errors.Join(err, frag.Close())
	}
	if err := s.addReceipt(frag, p.From, p.Number, &receipt{at: s.now(), name: p.From.Name, deliveries: len(r.ids)}); err != nil {
		return errors.Join(err, frag.Close())
	}
	if err := s.addFloor(frag, p.From.Spool, p.Floor, p.Number); err != nil {
		return errors.Join(err, frag.Close())
	}
	s.raiseFormat(frag)
	// From here on nothing fails.
	must(b.Apply(r.frag, nil))
	must(b.Apply(frag, nil))
	for i := range p.Items {
		m, n := p.Items[i].Message, int32(len(p.Items[i].Deliveries))
		if had, ok := c.shared[m.ID]; ok {
			c.shared[m.ID] = had + n
		} else if fresh[i] && m.Deliveries != 1 {
			c.shared[m.ID] = n
		}
	}
	return frag.Close()
}

// addParcelMessage writes the records of a message that are not here. Keys
// under m and b are written once (doc.go), and may be here from another
// delivery of the message that came before. fresh says that neither was.
func (c *committer) addParcelMessage(b *pebble.Batch, it *ParcelItem) (fresh bool, err error) {
	fresh = true
	for _, rec := range [...]struct {
		kind  byte
		value []byte
	}{{kindMeta, it.meta}, {kindContent, it.content}} {
		c.key = appendIDKey(c.key[:0], rec.kind, it.Message.ID)
		here, err := c.s.has(c.key)
		if err != nil {
			return false, err
		}
		if here {
			fresh = false
		} else {
			must(b.Set(c.key, rec.value, nil))
		}
	}
	return fresh, nil
}

// has reports whether a record, or what is in quarantine of it, is here.
func (s *Store) has(key []byte) (bool, error) {
	_, closer, err := s.db.Get(key)
	if err == nil {
		return true, closer.Close()
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return false, fmt.Errorf("read spool: %w", err)
	}
	return s.inQuarantine(key)
}

// addJobOrders keeps what stood for jobs at the sender, unless what stands here
// is newer. A cancel is final and wins over everything.
func (c *committer) addJobOrders(b *pebble.Batch, orders []JobOrderOf) error {
	for i := range orders {
		o := &orders[i]
		key := appendPairKey(nil, kindJob, o.Tenant, o.Job)
		v, err := c.s.get(key)
		if err != nil {
			return err
		}
		var here JobOrder
		if v != nil && decodeJSON(key, v, &here) == nil && !o.replaces(&here) {
			continue
		}
		v, err = encodeJSON(key, &o.JobOrder)
		if err != nil {
			return err
		}
		must(b.Set(key, v, nil))
	}
	return nil
}

func (o *JobOrder) replaces(here *JobOrder) bool {
	if (o.State == JobCancelled) != (here.State == JobCancelled) {
		return o.State == JobCancelled
	}
	return o.Updated.After(here.Updated)
}

func (st JobState) valid() bool { return st == JobActive || st == JobPaused || st == JobCancelled }

// knownTransfer is what this spool has said of a transfer; "" is nothing.
func (s *Store) knownTransfer(from string, number uint64) (Answer, error) {
	key := receiptKey(from, number)
	v, err := s.get(key)
	if err != nil {
		return "", err
	}
	if v != nil {
		r, err := decodeReceipt(key, v)
		if err != nil {
			// Neither answer would be safe. The record stays where it is.
			return "", fmt.Errorf("receipt of transfer %d of %s: %w", number, from, err)
		}
		if r.fenced {
			return Fenced, nil
		}
		return Had, nil
	}
	f, err := s.floorOf(from)
	if err != nil || number >= f.floor {
		return "", err
	}
	return Forgotten, nil
}

func (s *Store) floorOf(from string) (floorRecord, error) {
	key := receiptsKey(from)
	v, err := s.get(key)
	if v == nil || err != nil {
		return floorRecord{}, err
	}
	f, err := decodeFloor(key, v)
	if err != nil {
		return f, fmt.Errorf("what is known of spool %s: %w", from, err)
	}
	return f, nil
}

func (s *Store) addReceipt(b *pebble.Batch, from Peer, number uint64, r *receipt) error {
	key := receiptKey(from.Spool, number)
	return b.Set(key, appendReceipt(nil, key, r), nil)
}

// addFloor raises what is known of a sender and drops the receipts below its
// floor: the sender has resolved those transfers, and what comes of them late is
// refused by the floor.
func (s *Store) addFloor(b *pebble.Batch, from string, floor, high uint64) error {
	f, err := s.floorOf(from)
	if err != nil {
		return err
	}
	now := floorRecord{floor: max(f.floor, floor), high: max(f.high, high, floor-min(floor, 1)), at: s.now()}
	if now.floor == f.floor && now.high == f.high {
		return nil
	}
	if now.floor > f.floor {
		// Receipts are never below an older floor, so this is all there are. One
		// by one: most often there is one, and a range deletion costs every read.
		first := receiptKey(from, 0)
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: receiptKey(from, now.floor)})
		if err != nil {
			return fmt.Errorf("read receipts: %w", err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			must(b.Delete(it.Key(), nil))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("read receipts: %w", err)
		}
	}
	key := receiptsKey(from)
	return b.Set(key, appendFloor(nil, key, &now), nil)
}

// AskTransfer says what became of a transfer from another spool. One that is
// not known here is fenced first, durably, so that the answer stays true when a
// late copy of its parcel comes.
func (s *Store) AskTransfer(from Peer, number uint64) (Answer, error) {
	if err := errors.Join(from.check(), checkNumber(number)); err != nil {
		return "", err
	}
	if err := s.enterWrite(); err != nil {
		return "", err
	}
	defer s.leave()
	r := s.newRequest(kindWrite, 0)
	r.write = func(b *pebble.Batch) error {
		known, err := s.knownTransfer(from.Spool, number)
		if err != nil {
			return err
		}
		if known != "" {
			return &errAnswer{known}
		}
		frag := s.db.NewBatch()
		err = errors.Join(s.addReceipt(frag, from, number, &receipt{fenced: true, at: s.now(), name: from.Name}), s.addFloor(frag, from.Spool, 0, number))
		if err == nil {
			s.raiseFormat(frag)
			must(b.Apply(frag, nil))
		}
		return errors.Join(err, frag.Close())
	}
	answer, err := answerOf(s.settleWrite(r), Fenced)
	if err != nil {
		return "", fmt.Errorf("transfer %d of %s: %w", number, from.Name, err)
	}
	return answer, nil
}

func checkNumber(number uint64) error {
	if number == 0 || number >= 1<<62 {
		return fmt.Errorf("%w: transfer number %d", ErrInvalid, number)
	}
	return nil
}

// ForgetTransfers drops what is known of a sender's transfers below its floor.
func (s *Store) ForgetTransfers(from Peer, floor uint64) error {
	if err := errors.Join(from.check(), checkNumber(floor)); err != nil {
		return err
	}
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	r := s.newRequest(kindWrite, 0)
	r.write = func(b *pebble.Batch) error {
		frag := s.db.NewBatch()
		err := s.addFloor(frag, from.Spool, floor, 0)
		if err == nil {
			must(b.Apply(frag, nil))
		}
		return errors.Join(err, frag.Close())
	}
	if err := s.settleWrite(r); err != nil {
		return fmt.Errorf("forget transfers of %s: %w", from.Name, err)
	}
	return nil
}

// Sender is what this spool knows of another that sends to it.
type Sender struct {
	Spool    string    `json:"spool"`
	Floor    uint64    `json:"floor"`
	High     uint64    `json:"high"` // the highest number seen
	Last     time.Time `json:"last"`
	Receipts int       `json:"receipts"` // kept, until their sender says that it knows
}

// SenderOf tells what is known of one sender.
func (s *Store) SenderOf(from string) (Sender, error) {
	if !validNodeID(from) {
		return Sender{}, fmt.Errorf("%w: spool %q", ErrInvalid, from)
	}
	if err := s.enter(); err != nil {
		return Sender{}, err
	}
	defer s.leave()
	f, err := s.floorOf(from)
	if err != nil {
		return Sender{}, err
	}
	out := Sender{Spool: from, Floor: f.floor, High: f.high, Last: f.at}
	first := receiptKey(from, 0)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: keyEnd(receiptsKey(from))})
	if err != nil {
		return out, fmt.Errorf("read receipts: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		out.Receipts++
		out.High = max(out.High, binary.BigEndian.Uint64(it.Key()[len(first)-8:]))
	}
	return out, errors.Join(it.Error(), it.Close())
}
