package ingest

import (
	"sync"
	"sync/atomic"
)

// bufferClasses are the sizes in which content is gathered while it comes in.
// When a message is complete it is copied once, behind its trace header, into
// memory of exactly its size, and the buffer goes back: what is kept in memory
// until delivery is then no larger than the mail itself, and buffers have one
// owner, the session. Handing the gathering buffer on instead would save that
// copy (0.3 µs for 4 KiB) and waste up to three quarters of it for as long as
// the message is held.
var bufferClasses = [...]int{16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1<<30 + 64}

// buffers lends content buffers, up to a bound on the bytes lent in all.
type buffers struct {
	pools [len(bufferClasses)]sync.Pool
	lent  atomic.Int64
	limit int64
}

// get lends a buffer of at least size bytes, nil when the bound is reached.
func (b *buffers) get(size int) *[]byte {
	class := 0
	for bufferClasses[class] < size {
		class++
	}
	n := int64(bufferClasses[class])
	if b.lent.Add(n) > b.limit {
		b.lent.Add(-n)
		return nil
	}
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, bufferClasses[class])
	return &p
}

// put takes a buffer back. It is the owner's last act with it.
func (b *buffers) put(p *[]byte) {
	for class, size := range bufferClasses {
		if cap(*p) == size {
			b.lent.Add(-int64(size))
			*p = (*p)[:0]
			b.pools[class].Put(p)
			return
		}
	}
	panic("BUG: a content buffer came back in another size")
}

// grow exchanges p for a larger buffer with the same content; false, with p
// unchanged, when the bound is reached.
func (b *buffers) grow(p *[]byte, size int) (*[]byte, bool) {
	q := b.get(size)
	if q == nil {
		return p, false
	}
	*q = append((*q)[:0], *p...)
	b.put(p)
	return q, true
}
