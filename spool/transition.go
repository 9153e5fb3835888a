package spool

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// Transition moves one delivery: an attempt ended, or an admin decided. It is
// atomic with its events, end states and notices.
type Transition struct {
	Delivery *message.Delivery // as it stands in the spool: queue, due time and id are its key
	Next     *message.Delivery // as it shall stand, nil when nothing is left of it
	Final    []Final           // recipients that reached an end state
	Submit   []*Submission     // notices born of it
	Events   []byte            // encoded lines for the outbox
}

// Commit makes a transition durable and then calls done once: with nil; with
// ErrGone when the delivery is not in the spool as given, that is in this
// queue, with this due time, attempts and recipients (nothing was changed;
// doing a transition twice is harmless); with ErrMoving when it is offered to
// another node; or with ErrFailed when the process is ending. It does not wait
// for the sync.
//
// Every recipient of Delivery must be in Next or in Final; otherwise done gets
// ErrInvalid before Commit returns (design.md 5.2). If Next has the due time
// of Delivery, Commit moves it on by a microsecond, before it returns, so that
// each standing of a delivery has a key of its own.
//
// done runs on the goroutine that acknowledges: it must be quick and must not
// call Commit, Append or Close. Commit blocks while maxWaiting requests wait.
func (s *Store) Commit(t *Transition, done func(error)) {
	if err := s.enterWrite(); err != nil {
		done(err)
		return
	}
	defer s.leave()
	if err := t.check(); err != nil {
		done(err)
		return
	}
	r := s.newRequest(kindMove, 1024)
	r.done = done
	r.encodeTransition(t, s.now())
	if err := s.commits.enqueue(r); err != nil {
		done(err)
	}
}

func (t *Transition) check() error {
	d, n := t.Delivery, t.Next
	if d == nil {
		return fmt.Errorf("%w: transition without a delivery", ErrInvalid)
	}
	left := 0
	if n != nil {
		left = len(n.Recipients)
		if n.ID != d.ID || left == 0 || n.Due.UnixMicro() < 0 {
			return fmt.Errorf("%w: transition of %s to %s with %d recipients", ErrInvalid, d.ID, n.ID, left)
		}
		if err := checkQueue(&n.Queue); err != nil {
			return err
		}
	}
	if len(t.Final)+left != len(d.Recipients) {
		return fmt.Errorf("%w: transition of %s: %d recipients, but %d end and %d stay", ErrInvalid, d.ID, len(d.Recipients), len(t.Final), left)
	}
	for i := range t.Final {
		if !t.Final[i].State.Final() {
			return fmt.Errorf("%w: transition of %s: %s is no end state", ErrInvalid, d.ID, t.Final[i].State)
		}
	}
	for _, sub := range t.Submit {
		if err := sub.check(); err != nil {
			return err
		}
		if sub.Idempotency != nil {
			return fmt.Errorf("%w: notice with an idempotency key", ErrInvalid)
		}
	}
	return checkQueue(&d.Queue)
}

// encodeTransition writes what does not depend on the present state into the
// request's fragment; applyMove does the rest.
func (r *request) encodeTransition(t *Transition, now time.Time) {
	d := t.Delivery
	r.id = d.ID
	r.from = appendQueueKey(r.from[:0], d)
	r.now = pointerTo(d, false, r.from)
	r.tally(r.from[:len(r.from)-dueLen-deliveryIDLen], -1)
	r.ids = append(r.ids, d.ID)
	if n := t.Next; n != nil {
		r.to = appendQueueKey(r.to[:0], n)
		if bytes.Equal(r.from, r.to) {
			n.Due = n.Due.Add(time.Microsecond)
			r.to = appendQueueKey(r.to[:0], n)
		}
		r.next = pointerTo(n, false, r.to)
		r.value = appendDelivery(r.value[:0], r.to, n)
		r.setAt(r.to)
		r.tally(r.to[:len(r.to)-dueLen-deliveryIDLen], +1)
	}
	if len(t.Final) > 0 {
		r.key = appendFinalKey(r.key[:0], bucketOf(now), d.ID, len(d.Recipients))
		r.value = appendFinals(r.value[:0], r.key, &d.Queue, t.Final)
		r.set()
		r.addCount(&d.Queue, countFinals(t.Final))
	}
	r.events = append(r.events, t.Events...)
	for _, sub := range t.Submit {
		r.encodeSubmission(sub)
	}
}

// applyMove checks a transition against the store and adds it to the batch.
// It runs on the committing goroutine alone, so what it reads is what the
// batches before this one left.
func (c *committer) applyMove(b *pebble.Batch, r *request) error {
	if c.s.transfers.fixed(r.id) {
		return ErrMoving
	}
	c.index = appendIndexKey(c.index[:0], r.id)
	entry, sole, err := c.checkMove(b, r)
	if err != nil {
		return err
	}
	last := false
	if len(r.to) == 0 {
		// Before the first write, because it can fail.
		if last, err = c.dropReference(r.id.Message, sole, entry); err != nil {
			return err
		}
	}
	must(b.SingleDelete(r.from, nil))
	if entry == entryGood {
		must(b.SingleDelete(c.index, nil))
	}
	if len(r.to) > 0 {
		at := r.next
		at.sole = sole
		c.value = at.append(c.value[:0], c.index)
		must(b.Set(c.index, c.value, nil))
	}
	if last {
		c.key = appendIDKey(c.key[:0], kindMeta, r.id.Message)
		must(b.SingleDelete(c.key, nil))
		c.key[0] = kindContent
		must(b.SingleDelete(c.key, nil))
	}
	must(b.Apply(r.frag, nil))
	return nil
}

// entry is what became of a delivery's index entry.
type entry uint8

const (
	entryGood    entry = iota
	entryDamaged       // moved to quarantine in this batch
	entryMissing
)

// checkMove finds out whether the delivery stands where the transition says.
// An index entry that is missing or damaged does not stop the mail: the queue
// record itself is asked then.
func (c *committer) checkMove(b *pebble.Batch, r *request) (e entry, sole bool, err error) {
	e = entryMissing
	v, closer, err := c.s.db.Get(c.index)
	switch {
	case err == nil:
		var at pointer
		if at, err = decodePointer(c.index, v); err != nil {
			e = entryDamaged
			c.s.quarantineInto(b, c.index, v, err)
		} else if err = ErrGone; at.sameStanding(&r.now) {
			e, sole, err = entryGood, at.sole, nil
		}
		if cerr := closer.Close(); cerr != nil {
			return e, false, fmt.Errorf("read spool: %w", cerr)
		}
		if e == entryGood || errors.Is(err, ErrGone) {
			return e, sole, err
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return e, false, fmt.Errorf("read spool: %w", err)
	}
	v, closer, err = c.s.db.Get(r.from)
	if errors.Is(err, pebble.ErrNotFound) {
		return e, false, ErrGone
	}
	if err != nil {
		return e, false, fmt.Errorf("read spool: %w", err)
	}
	d, err := decodeQueued(r.from, v)
	if cerr := closer.Close(); err != nil || cerr != nil {
		return e, false, fmt.Errorf("read spool: %w", errors.Join(err, cerr))
	}
	if at := pointerTo(d, false, r.from); !at.sameStanding(&r.now) {
		return e, false, ErrGone
	}
	return e, false, nil
}

// sharedContent is a message with several deliveries and how many there are.
type sharedContent struct {
	id message.ID
	n  int32
}

// maxShared bounds the reference counts in memory. What is not there is
// counted anew from the index.
const maxShared = 1 << 16

// dropReference reports whether this was the message's last delivery.
func (c *committer) dropReference(id message.ID, sole bool, e entry) (last bool, err error) {
	if sole {
		return true, nil
	}
	n, ok := c.shared[id]
	if !ok {
		if n, err = c.countReferences(id); err != nil {
			return false, err
		}
		if e == entryMissing {
			n++ // this one, whose entry is not there to be counted
		}
	}
	if n--; n > 0 {
		c.shared[id] = n
		return false, nil
	}
	delete(c.shared, id)
	return true, nil
}

// countReferences counts the deliveries of a message by their index entries,
// also those in quarantine. At most 65,536, some 20 ms; then the count is
// remembered. A stored counter would be no cheaper (as many merge operands)
// and could drift.
func (c *committer) countReferences(id message.ID) (int32, error) {
	var n int32
	for _, prefix := range [][]byte{
		appendIDKey(nil, kindIndex, id),
		append([]byte{kindQuarantine}, appendIDKey(nil, kindIndex, id)...),
	} {
		it, err := c.s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
		if err != nil {
			return 0, fmt.Errorf("count references: %w", err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return 0, fmt.Errorf("count references: %w", err)
		}
	}
	return n, nil
}

// trimShared makes room between two batches. It drops the smallest of a few
// picked at random, which are the cheapest to count again. Never within a
// batch: counting sees only what earlier batches did.
func (c *committer) trimShared() {
	for len(c.shared) > maxShared {
		var drop message.ID
		least, seen := int32(0), 0
		for id, n := range c.shared {
			if seen == 0 || n < least {
				drop, least = id, n
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(c.shared, drop)
	}
}
