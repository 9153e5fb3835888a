package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// appendOffer appends the record of an open transfer. Its number is in the key.
func appendOffer(b, key []byte, o *offer) []byte {
	start := len(b)
	b = append(b, recordVersion)
	b = appendText(b, o.To.Name)
	b = appendText(b, o.To.Spool)
	b = appendTime(b, o.Created)
	b = binary.AppendUvarint(b, uint64(len(o.entries)))
	for i := range o.entries {
		e := &o.entries[i]
		b = appendBytes(b, appendDeliveryID(nil, e.id))
		b = binary.AppendUvarint(b, uint64(e.attempts))
		b = binary.AppendUvarint(b, uint64(e.recipients))
		b = appendBytes(b, e.place)
	}
	return seal(b, start, key)
}

func decodeOffer(key, value []byte) (*offer, error) {
	f, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	if len(key) != 9 {
		return nil, fmt.Errorf("%w: key", errDamaged)
	}
	o := &offer{Transfer: Transfer{Number: binary.BigEndian.Uint64(key[1:])}}
	o.To = Peer{Name: f.str(), Spool: f.str()}
	o.Created = f.time()
	o.entries = make([]offered, f.count())
	for i := range o.entries {
		e := &o.entries[i]
		id := f.bytes()
		e.attempts = uint16(f.below(math.MaxUint16 + 1))
		e.recipients = int(f.below(math.MaxInt32))
		e.place = f.bytes()
		if len(id) != deliveryIDLen || len(e.place) <= dueLen {
			f.fail()
			break
		}
		e.id = deliveryIDOf(id)
		o.Recipients += e.recipients
	}
	o.Deliveries = len(o.entries)
	return o, f.done()
}

// Receipts and fences lie under the sender's spool and the number of the
// transfer; the record without a number holds what is below the sender's floor.
func receiptsKey(from string) []byte { return appendName([]byte{kindReceipt}, from) }

func receiptKey(from string, number uint64) []byte {
	return binary.BigEndian.AppendUint64(receiptsKey(from), number)
}

// receipt says what became of a transfer from another spool.
type receipt struct {
	fenced     bool // it was not here when its sender asked, and never will be
	at         time.Time
	name       string // of the sender's node
	deliveries int
}

func appendReceipt(b, key []byte, r *receipt) []byte {
	start := len(b)
	b = appendBool(append(b, recordVersion), r.fenced)
	b = appendTime(b, r.at)
	b = appendText(b, r.name)
	b = binary.AppendUvarint(b, uint64(r.deliveries))
	return seal(b, start, key)
}

func decodeReceipt(key, value []byte) (r receipt, err error) {
	f, err := unseal(key, value)
	if err != nil {
		return r, err
	}
	r = receipt{fenced: f.bool(), at: f.time(), name: f.str(), deliveries: int(f.below(math.MaxInt32))}
	return r, f.done()
}

// floorRecord is what is known of one sender: no transfer below floor is open
// there, and none above high was ever seen.
type floorRecord struct {
	floor, high uint64
	at          time.Time
}

func appendFloor(b, key []byte, r *floorRecord) []byte {
	start := len(b)
	b = binary.AppendUvarint(append(b, recordVersion), r.floor)
	b = binary.AppendUvarint(b, r.high)
	b = appendTime(b, r.at)
	return seal(b, start, key)
}

func decodeFloor(key, value []byte) (r floorRecord, err error) {
	f, err := unseal(key, value)
	if err != nil {
		return r, err
	}
	r = floorRecord{floor: f.uvarint(), high: f.uvarint(), at: f.time()}
	return r, f.done()
}

// Gone says where a delivery went. It is kept StatusRetention after that.
type Gone struct {
	To         Peer      `json:"to"`
	At         time.Time `json:"at"`
	Recipients int       `json:"recipients"`
}

func goneKey(bucket uint32, id message.DeliveryID) []byte {
	return appendDeliveryID(appendGoneBucket(nil, bucket), id)
}

func appendGoneBucket(b []byte, bucket uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kindGone), bucket)
}

const goneKeyLen = 1 + 4 + deliveryIDLen

func appendGone(b, key []byte, q *message.QueueKey, g *Gone) []byte {
	start := len(b)
	b = appendQueueName(append(b, recordVersion), q)
	b = appendText(b, g.To.Name)
	b = appendText(b, g.To.Spool)
	b = appendTime(b, g.At)
	b = binary.AppendUvarint(b, uint64(g.Recipients))
	return seal(b, start, key)
}

func decodeGone(key, value []byte) (q message.QueueKey, g Gone, err error) {
	f, err := unseal(key, value)
	if err != nil {
		return q, g, err
	}
	q = f.queueName()
	g = Gone{To: Peer{Name: f.str(), Spool: f.str()}, At: f.time(), Recipients: int(f.below(math.MaxInt32))}
	return q, g, f.done()
}

// goneStatuses finds where the deliveries of a message went.
func (s *Store) goneStatuses(snap *pebble.Snapshot, id message.ID, from uint16, limit int, at func(uint16) *Status) (bad []badRecord, err error) {
	now := s.now()
	first := bucketOf(now.Add(-s.opt.StatusRetention))
	if b := bucketOf(id.Time().Add(-bucketSpan)); b > first {
		first = b
	}
	last := bucketOf(now) + 1
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendGoneBucket(nil, first), UpperBound: appendGoneBucket(nil, last+1)})
	if err != nil {
		return nil, fmt.Errorf("read transfers: %w", err)
	}
	for b := first; b <= last && it.SeekGE(appendGoneBucket(nil, b)); b++ {
		start := goneKey(b, message.DeliveryID{Message: id, Index: from})
		end := keyEnd(append(appendGoneBucket(nil, b), id[:]...))
		seen := 0
		for ok := it.SeekGE(start); ok && string(it.Key()) < string(end) && seen < limit; ok = it.Next() {
			if len(it.Key()) != goneKeyLen {
				continue
			}
			seen++
			q, g, derr := decodeGone(it.Key(), it.Value())
			if derr != nil {
				bad = append(bad, badRecord{slices.Clone(it.Key()), slices.Clone(it.Value()), derr})
				continue
			}
			if st := at(deliveryIDOf(it.Key()[5:]).Index); st.Queued == nil {
				st.Queue, st.Gone = q, &g
			}
		}
	}
	return bad, errors.Join(it.Error(), it.Close())
}

// expireGone forgets where deliveries went, as expireFinals does end states.
func (s *Store) expireGone(now time.Time) error {
	end := appendGoneBucket(nil, bucketOf(now.Add(-s.opt.StatusRetention)))
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindGone}, UpperBound: end})
	if err != nil {
		return fmt.Errorf("expire transfers: %w", err)
	}
	var first []byte
	if it.First() {
		first = slices.Clone(it.Key())
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil || first == nil {
		return err
	}
	return s.housekeepingWrite(func(b *pebble.Batch) error { return b.DeleteRange(first, end, nil) })
}
