package suppression

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// filter says "not here" without asking the disk: a Bloom filter whose eight
// bits for a key lie in one block of 32 bytes, so that a question costs one
// cache miss. It only grows fuller; a new one is built from what is stored when
// it is full (Store.refill), which also leaves out what was deleted.
//
// Pebble's own filters were measured alone: 1.4 µs and up for an absent key, a
// filter block of each level, all in a cache that has to hold them whole. They
// are still written, for the questions that pass this one.
type filter struct {
	words []atomic.Uint64 // four to a block
	room  int64           // keys it is made for
	added atomic.Int64
}

const (
	blockWords = 4
	bitsPerKey = 12
	leastRoom  = 16 << 10
)

func newFilter(room int64) *filter {
	room = max(room, leastRoom)
	blocks := (room*bitsPerKey + blockWords*64 - 1) / (blockWords * 64)
	return &filter{words: make([]atomic.Uint64, blocks*blockWords), room: room}
}

// overfull reports whether it is time for a larger one. With a third too much in
// it, 2 to 3 % of absent keys pass; to build it anew at once when it is full would
// read an imported list three times over instead of once and a half.
func (f *filter) overfull() bool { return f.added.Load() > f.room*4/3 }

func (f *filter) bytes() int64 { return int64(len(f.words)) * 8 }

// place is the first word of the key's block and the bits in it, 6 bits of
// which pick each.
func (f *filter) place(h uint64) (first int, picks uint64) {
	block, _ := bits.Mul64(h, uint64(len(f.words)/blockWords))
	return int(block) * blockWords, h * 0x9e3779b97f4a7c15
}

func mask(picks uint64, word int) uint64 {
	picks >>= 12 * word
	return 1<<(picks&63) | 1<<(picks>>6&63)
}

// add may be called by one goroutine at a time, beside has.
func (f *filter) add(h uint64) {
	first, picks := f.place(h)
	fresh := false
	for i := range blockWords {
		m := mask(picks, i)
		fresh = f.words[first+i].Or(m)&m != m || fresh
	}
	if fresh {
		f.added.Add(1)
	}
}

func (f *filter) has(h uint64) bool {
	first, picks := f.place(h)
	w := f.words[first : first+blockWords]
	for i := range w {
		if m := mask(picks, i); w[i].Load()&m != m {
			return false
		}
	}
	return true
}

// hasher makes the filter's keys. A seed of its own for each process, so that
// nobody can choose addresses that fill one block.
type hasher struct{ seed maphash.Seed }

// address is the part of a key that tenants share.
func (h hasher) address(local, domain string) uint64 {
	return mix(maphash.String(h.seed, local), maphash.String(h.seed, domain))
}

// key is for an address of a tenant; all streams of it share one.
func (h hasher) key(address uint64, class byte, tenant string) uint64 {
	if tenant == "" {
		return mix(address, uint64(class))
	}
	return mix(address, maphash.String(h.seed, tenant)+uint64(class))
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}

// filters are the one in use, and the one that will take its place while it is
// filled. Keys are added to both.
type filters struct{ use, next *filter }

// maybe reports whether the key may be stored. Without a filter anything may.
func (f *filters) maybe(h uint64) bool { return f.use == nil || f.use.has(h) }

// stored is the key of a record as it lies on the disk.
func (h hasher) stored(class byte, tenant, domain, local []byte) uint64 {
	a := mix(maphash.Bytes(h.seed, local), maphash.Bytes(h.seed, domain))
	if len(tenant) == 0 {
		return mix(a, uint64(class))
	}
	return mix(a, maphash.Bytes(h.seed, tenant)+uint64(class))
}
