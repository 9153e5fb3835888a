package spool

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// Report is what Verify found.
type Report struct {
	Deliveries   int64 `json:"deliveries"`
	Recipients   int64 `json:"recipients"`
	Queues       int64 `json:"queues"`
	Destinations int64 `json:"destinations"`
	Messages     int64 `json:"messages"`
	ContentBytes int64 `json:"content_bytes"`
	EndStates    int64 `json:"end_states"` // recipients
	Outbox       int64 `json:"outbox"`
	Jobs         int64 `json:"jobs"`
	Actions      int64 `json:"actions"`
	Idempotency  int64 `json:"idempotency_keys"`
	Transfers    int64 `json:"transfers"` // open, to other nodes
	Moving       int64 `json:"moving"`    // deliveries in them
	Receipts     int64 `json:"receipts"`  // of transfers from other nodes
	Gone         int64 `json:"gone"`      // notes of where deliveries went
	PastOrders   int64 `json:"past_orders"`
	Quarantined  int64 `json:"quarantined"`

	ProblemCount int64    `json:"problem_count"`
	Problems     []string `json:"problems,omitempty"` // the first maxProblems
}

const maxProblems = 100

// OK reports whether nothing is wrong. Records in quarantine are not wrong:
// they are known.
func (r *Report) OK() bool { return r.ProblemCount == 0 }

func (r *Report) problem(format string, args ...any) {
	if r.ProblemCount++; len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// Verify checks the spool in dir, which no process has open (or a copy of
// one): every record, and that they agree. It changes nothing. progress, if
// not nil, hears now and then how many records were read.
func Verify(dir string, progress func(records int64)) (Report, error) {
	s, err := openOffline(dir)
	if err != nil {
		return Report{}, err
	}
	r, err := s.Verify(progress)
	return r, errors.Join(err, s.Close())
}

func openOffline(dir string) (*Store, error) {
	return Open(Options{Dir: dir, ReadOnly: true, MemTableSize: 16 << 20})
}

// verifier walks over one snapshot.
type verifier struct {
	s        *Store
	snap     *pebble.Snapshot
	report   Report
	progress func(int64)
	records  int64
	lastSeq  uint64
	queue    []byte
	dest     []byte
	offered  map[message.DeliveryID]uint64 // by which transfer
	sender   []byte                        // whose receipts follow, as a key
	floor    floorRecord                   // what is known of it
}

// Verify checks an open store. It reads everything, so it is for tests and
// offline use; what it finds is as of one moment.
func (s *Store) Verify(progress func(records int64)) (Report, error) {
	if err := s.enter(); err != nil {
		return Report{}, err
	}
	defer s.leave()
	v := &verifier{s: s, snap: s.db.NewSnapshot(), progress: progress}
	err := v.run()
	return v.report, errors.Join(err, v.snap.Close())
}

func (v *verifier) run() error {
	it, err := v.snap.NewIter(nil)
	if err != nil {
		return fmt.Errorf("verify spool: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = v.record(it.Key(), it.Value())
		if v.records++; v.records%100_000 == 0 && v.progress != nil {
			v.progress(v.records)
		}
	}
	if v.progress != nil {
		v.progress(v.records)
	}
	return errors.Join(err, it.Error(), it.Close())
}

func (v *verifier) record(key, value []byte) error {
	r := &v.report
	var bad error
	switch key[0] {
	case kindQueue:
		return v.delivery(key, value)
	case kindIndex:
		return v.pointer(key, value)
	case kindMeta:
		return v.message(key, value)
	case kindContent:
		return v.content(key, value)
	case kindFinal:
		var fs []Final
		_, fs, bad = decodeFinals(key, value)
		r.EndStates += int64(len(fs))
	case kindIdempotency:
		r.Idempotency++
		_, bad = decodeIdempotency(key, value)
	case kindCounters:
		var c jobCounts
		r.Jobs++
		if c, bad = decodeCounts(value); bad == nil && c.Accepted < c.Delivered+c.Bounced+c.Expired+c.Cancelled {
			r.problem("job %q: more recipients ended than were accepted: %+v", key[1:], c)
		}
	case kindJob:
		bad = decodeJSON(key, value, new(JobOrder))
	case kindAction:
		r.Actions++
		bad = decodeJSON(key, value, new(Action))
	case kindOutbox:
		r.Outbox++
		_, bad = unseal(key, value)
		seq := outboxSeq(key)
		if v.lastSeq != 0 && seq != v.lastSeq+1 {
			r.problem("outbox: %d follows %d", seq, v.lastSeq)
		}
		v.lastSeq = seq
	case kindQuarantine:
		r.Quarantined++
	case kindStore:
		_, bad = unseal(key, value)
	case kindIdemExpiry:
	case kindTransfer:
		return v.transfer(key, value)
	case kindReceipt:
		bad = v.receipt(key, value)
	case kindGone:
		r.Gone++
		_, _, bad = decodeGone(key, value)
	case kindPast:
		r.PastOrders++
		bad = decodeJSON(key, value, new(Action))
	default:
		r.problem("unknown record %q", key)
	}
	if bad != nil {
		r.problem("record %q: %v", key, bad)
	}
	return nil
}

// has reports whether key, or its record in quarantine, is there.
func (v *verifier) has(key []byte) (bool, error) {
	for _, k := range [][]byte{key, quarantineKey(key)} {
		_, closer, err := v.snap.Get(k)
		if err == nil {
			return true, closer.Close()
		}
		if !errors.Is(err, pebble.ErrNotFound) {
			return false, fmt.Errorf("verify spool: %w", err)
		}
	}
	return false, nil
}

// delivery checks that a queued delivery has its message and its index entry.
func (v *verifier) delivery(key, value []byte) error {
	r := &v.report
	r.Deliveries++
	d, err := decodeQueued(key, value)
	if err != nil {
		r.problem("delivery %q: %v", key, err)
		return nil
	}
	r.Recipients += int64(len(d.Recipients))
	if prefix := key[:len(key)-dueLen-deliveryIDLen]; !bytes.Equal(prefix, v.queue) {
		v.queue = append(v.queue[:0], prefix...)
		r.Queues++
		if d.Queue.Destination != string(v.dest) {
			v.dest = append(v.dest[:0], d.Queue.Destination...)
			r.Destinations++
		}
	}
	for _, kind := range [...]byte{kindMeta, kindContent} {
		if ok, err := v.has(appendIDKey(nil, kind, d.ID.Message)); err != nil {
			return err
		} else if !ok {
			r.problem("delivery %s is queued but record %c of its message is missing", d.ID, kind)
		}
	}
	index := appendIndexKey(nil, d.ID)
	p, closer, err := v.snap.Get(index)
	if errors.Is(err, pebble.ErrNotFound) {
		if ok, err := v.has(index); err != nil || ok {
			return err
		}
		r.problem("delivery %s is queued but not in the index", d.ID)
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify spool: %w", err)
	}
	want := pointerTo(d, false, key)
	if at, err := decodePointer(index, p); err != nil || !at.sameStanding(&want) {
		r.problem("delivery %s is queued at %q but the index says %q (%v)", d.ID, key, at.place, err)
	}
	return closer.Close()
}

// pointer checks that an index entry leads to a delivery.
func (v *verifier) pointer(key, value []byte) error {
	at, err := decodePointer(key, value)
	if err != nil || len(key) != 1+deliveryIDLen {
		v.report.problem("index entry %q: %v", key, err)
		return nil
	}
	if ok, err := v.has(append(bytes.Clone(at.place), key[1:]...)); err != nil {
		return err
	} else if !ok {
		v.report.problem("delivery %s is in the index but not queued", deliveryIDOf(key[1:]))
	}
	return nil
}

// message checks that a message has content and a delivery that needs it.
func (v *verifier) message(key, value []byte) error {
	r := &v.report
	r.Messages++
	id := message.ID{}
	if copy(id[:], key[1:]); len(key) != 17 {
		r.problem("message %q: key", key)
		return nil
	}
	if _, err := decodeMeta(key, value, id); err != nil {
		r.problem("message %s: %v", id, err)
	}
	for _, prefix := range [][]byte{appendIDKey(nil, kindIndex, id), quarantineKey(appendIDKey(nil, kindIndex, id))} {
		it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
		if err != nil {
			return fmt.Errorf("verify spool: %w", err)
		}
		found := it.First()
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("verify spool: %w", err)
		}
		if found {
			return nil
		}
	}
	r.problem("message %s has no delivery left", id)
	return nil
}

func (v *verifier) content(key, value []byte) error {
	r := &v.report
	var m message.Message
	if err := decodeContent(key, value, &m); err != nil {
		r.problem("content %q: %v", key, err)
		return nil
	}
	r.ContentBytes += int64(m.Size())
	meta := bytes.Clone(key)
	meta[0] = kindMeta
	if ok, err := v.has(meta); err != nil {
		return err
	} else if !ok {
		r.problem("content %q has no message", key)
	}
	return nil
}
