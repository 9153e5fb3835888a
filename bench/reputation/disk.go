package reputation

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// disk is a spool without a disk: every queue's deliveries in the order of their
// due times, in pieces of bounded length, so that neither a deep queue nor
// retries far behind make a change dear.
type disk struct {
	queues map[message.QueueKey]*shelf
	made   uint64
	count  int
}

type shelf struct{ pieces [][]*message.Delivery }

const pieceSize = 256

func newDisk() *disk { return &disk{queues: map[message.QueueKey]*shelf{}} }

func order(a, b *message.Delivery) int { return follows(a, scheduler.Cursor{Due: b.Due, ID: b.ID}) }

// follows compares a delivery with a place in its queue.
func follows(d *message.Delivery, c scheduler.Cursor) int {
	if o := cmp.Compare(d.Due.UnixMicro(), c.Due.UnixMicro()); o != 0 {
		return o
	}
	return bytes.Compare(d.ID.Message[:], c.ID.Message[:])
}

// id gives a new delivery its name.
func (k *disk) id() (id message.DeliveryID) {
	k.made++
	binary.BigEndian.PutUint64(id.Message[8:], k.made)
	return id
}

func (k *disk) put(d *message.Delivery) {
	s := k.queues[d.Queue]
	if s == nil {
		s = &shelf{}
		k.queues[d.Queue] = s
	}
	k.count++
	i := s.pieceOf(d)
	if i == len(s.pieces) {
		if i == 0 || len(s.pieces[i-1]) >= pieceSize {
			s.pieces = append(s.pieces, nil)
		} else {
			i--
		}
	}
	p := s.pieces[i]
	at, _ := slices.BinarySearchFunc(p, d, order)
	p = slices.Insert(p, at, d)
	s.pieces[i] = p
	if len(p) > 2*pieceSize {
		s.pieces[i] = slices.Clone(p[:pieceSize])
		s.pieces = slices.Insert(s.pieces, i+1, slices.Clone(p[pieceSize:]))
	}
}

// pieceOf is the first piece whose last delivery is not before d.
func (s *shelf) pieceOf(d *message.Delivery) int {
	i, _ := slices.BinarySearchFunc(s.pieces, d, func(p []*message.Delivery, d *message.Delivery) int { return order(p[len(p)-1], d) })
	return i
}

func (k *disk) remove(d *message.Delivery) {
	s := k.queues[d.Queue]
	i := s.pieceOf(d)
	at, ok := slices.BinarySearchFunc(s.pieces[i], d, order)
	if !ok {
		panic("BUG: a delivery that ends is not on the disk")
	}
	k.count--
	if s.pieces[i] = slices.Delete(s.pieces[i], at, at+1); len(s.pieces[i]) == 0 {
		s.pieces = slices.Delete(s.pieces, i, i+1)
	}
}

// page reads at most limit deliveries behind a place that are due, says whether
// there are more at whatever time, and when the first of those is due.
func (k *disk) page(q message.QueueKey, after scheduler.Cursor, until time.Time, limit int) (ds []*message.Delivery, more bool, next time.Time) {
	s := k.queues[q]
	if s == nil {
		return nil, false, next
	}
	i, _ := slices.BinarySearchFunc(s.pieces, after, func(p []*message.Delivery, c scheduler.Cursor) int {
		if follows(p[len(p)-1], c) <= 0 {
			return -1
		}
		return 1
	})
	for ; i < len(s.pieces); i++ {
		for _, d := range s.pieces[i] {
			switch {
			case follows(d, after) <= 0:
			case d.Due.After(until) || len(ds) == limit:
				return ds, true, d.Due
			default:
				ds = append(ds, d)
			}
		}
	}
	return ds, false, next
}
