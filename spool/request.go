package spool

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

type requestKind uint8

const (
	kindAppend  requestKind = iota // has ack
	kindMove                       // has done
	kindWrite                      // has ack; write adds to the batch itself
	kindBarrier                    // has ack; answered when all before it is durable and handed on
	kindReceive                    // has ack; a parcel from another spool
)

// request is one caller's part of a batch. It belongs to the caller until
// enqueue, then to the committer until the answer; after the answer to ack, to
// the caller again, and after done returned, to the pool.
type request struct {
	s     *Store
	kind  requestKind
	frag  *pebble.Batch // encoded by the caller; kept when the request is recycled
	write func(b *pebble.Batch) error
	ack   chan error // capacity 1
	done  func(error)
	err   error // the builder's verdict, when it refused

	id        message.DeliveryID // kindMove: the delivery and its two keys
	from, to  []byte
	now, next pointer // its standing before and after
	idem      *Idempotency
	parcel    *Parcel              // kindReceive
	ids       []message.DeliveryID // to hide until synced
	shared    []sharedContent
	tallies   []tally
	jobs      []jobDelta
	events    []byte

	key, index, value, names []byte // scratch; names is what tallies and jobs point into
}

// tally is a change of the number of deliveries in one queue.
type tally struct {
	from, to int // of request.names: the queue's prefix
	n        int32
}

// requests are the pools of one store, by the size of the fragment: a fragment
// that has held a message of 100 KB must not lie idle under an outcome of a few
// hundred bytes, while the next such message allocates another.
type requests struct{ small, large sync.Pool }

// largeFragment is from where on a fragment is large.
const largeFragment = 16 << 10

func (p *requests) of(size int) *sync.Pool {
	if size > largeFragment {
		return &p.large
	}
	return &p.small
}

// newRequest takes a request from the pool, with a fragment of about size bytes.
func (s *Store) newRequest(kind requestKind, size int) *request {
	r, ok := s.requests.of(size).Get().(*request)
	if !ok {
		r = &request{s: s, ack: make(chan error, 1)}
	}
	r.kind = kind
	if r.frag == nil && (kind == kindAppend || kind == kindMove || kind == kindReceive) {
		r.frag = s.db.NewBatchWithSize(size)
	}
	return r
}

// What goes back into the pool is no larger.
const (
	maxPooled         = 64 << 10
	maxPooledFragment = 256 << 10
)

// recycle is the owner's last act.
func (r *request) recycle() {
	size := 0
	if r.frag != nil {
		size = r.frag.Len()
	}
	if size > maxPooledFragment || cap(r.value)+cap(r.events)+cap(r.names)+32*cap(r.ids) > maxPooled {
		return
	}
	// Closing the fragment would give its buffer to Pebble's one pool for
	// batches of all sizes, where a batch of the committer finds it too small
	// and an outcome too large.
	if r.frag != nil {
		r.frag.Reset()
	}
	*r = request{
		s: r.s, frag: r.frag,
		ack: r.ack, from: r.from[:0], to: r.to[:0],
		ids: r.ids[:0], shared: r.shared[:0], tallies: r.tallies[:0], jobs: r.jobs[:0], events: r.events[:0],
		key: r.key[:0], index: r.index[:0], value: r.value[:0], names: r.names[:0],
	}
	r.s.requests.of(size).Put(r)
}

// set adds value under key to the fragment.
func (r *request) set() { r.setAt(r.key) }

func (r *request) setAt(key []byte) { must(r.frag.Set(key, r.value, nil)) }

func (r *request) tally(prefix []byte, n int32) {
	from := len(r.names)
	r.names = append(r.names, prefix...)
	r.tallies = append(r.tallies, tally{from, len(r.names), n})
}

func (r *request) size() int {
	n := len(r.events) + 512
	if r.frag != nil {
		n += r.frag.Len()
	}
	if r.parcel != nil {
		n += r.parcel.contentBytes()
	}
	return n
}
