package steer

import (
	"hash/maphash"
)

// rowKey is what of a Tally says where it counts.
type rowKey struct{ carrier, site, source, tenant, job, domain string }

// row is where a Tally counts. nil is nowhere.
type row struct {
	lane                                *laneEntry
	tenant, tenantCarrier, domain, work *scopeEntry
	removals                            int64 // of both tables, when none of them was gone
}

func (r *row) stale() bool {
	return r.lane != nil && r.lane.gone || gone(r.tenant) || gone(r.tenantCarrier) || gone(r.domain) || gone(r.work)
}

func gone(e *scopeEntry) bool { return e != nil && e.gone }

// rows finds the row of a key by its hash alone. Twenty thousand rows a second come
// in the order of a map, and each look that is saved is one into memory that is in
// no cache. The hash is of 64 bits and seeded, so that nobody can aim: among a
// billion keys, the chance that any is taken for one of maxRows others is two in a
// million, and then some counts are a neighbour's.
type rows struct {
	seed  maphash.Seed
	slots []rowSlot // a power of two
	n     int
}

type rowSlot struct {
	hash uint64
	row  *row
}

func newRows() *rows { return &rows{seed: maphash.MakeSeed(), slots: make([]rowSlot, 2*maxRows)} }

// find gives the slot of a key; its row is nil when it is new.
func (x *rows) find(k rowKey) *rowSlot {
	h := maphash.Comparable(x.seed, k)
	for i := h; ; i++ {
		s := &x.slots[i%uint64(len(x.slots))]
		if s.row == nil || s.hash == h {
			s.hash = h
			return s
		}
	}
}

// put fills a slot that find gave. When there are too many all are forgotten: it
// is a cache.
func (x *rows) put(s *rowSlot, r *row) {
	if s.row == nil {
		if x.n++; x.n > maxRows {
			x.clear()
			return
		}
	}
	s.row = r
}

func (x *rows) clear() {
	clear(x.slots)
	x.n = 0
}
