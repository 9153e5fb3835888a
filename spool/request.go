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
	kindBarrier                    // has ack; answered when all before it is durable
)

// request is one caller's part of a batch. It belongs to the caller until
// enqueue, then to the committer until the answer; after the answer to ack, to
// the caller again, and after done returned, to the pool.
type request struct {
	kind  requestKind
	frag  *pebble.Batch // encoded by the caller
	write func(b *pebble.Batch) error
	ack   chan error // capacity 1
	done  func(error)
	err   error // the builder's verdict, when it refused

	id        message.DeliveryID // kindMove: the delivery and its two keys
	from, to  []byte
	now, next pointer // its standing before and after
	idem      *Idempotency
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

var requestPool = sync.Pool{New: func() any { return &request{ack: make(chan error, 1)} }}

// newRequest takes a request from the pool, with a fragment of about size bytes.
func (s *Store) newRequest(kind requestKind, size int) *request {
	r := requestPool.Get().(*request)
	r.kind = kind
	if kind == kindAppend || kind == kindMove {
		r.frag = s.db.NewBatchWithSize(size)
	}
	return r
}

// maxPooled is the largest scratch that goes back into the pool.
const maxPooled = 64 << 10

// recycle is the owner's last act.
func (r *request) recycle() {
	if r.frag != nil {
		_ = r.frag.Close() // gives the buffer back to Pebble; it cannot fail
	}
	if cap(r.value)+cap(r.events)+cap(r.names)+32*cap(r.ids) > maxPooled {
		return
	}
	*r = request{
		ack: r.ack, from: r.from[:0], to: r.to[:0],
		ids: r.ids[:0], shared: r.shared[:0], tallies: r.tallies[:0], jobs: r.jobs[:0], events: r.events[:0],
		key: r.key[:0], index: r.index[:0], value: r.value[:0], names: r.names[:0],
	}
	requestPool.Put(r)
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
	return n
}
