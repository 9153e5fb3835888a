package gossip

// window remembers which numbers of one sender were taken: the highest, and
// which of the 63 below it. What is older than that counts as taken, so a
// recording of old packets brings nothing back (as in RFC 4303 3.4.3).
type window struct {
	top  uint64
	bits uint64 // bit i: top-i was taken
}

// take reports whether n is new, and notes it. Numbers begin with 1.
func (w *window) take(n uint64) bool {
	switch {
	case n == 0:
		return false
	case n > w.top:
		if shift := n - w.top; shift < 64 {
			w.bits <<= shift
		} else {
			w.bits = 0
		}
		w.top, w.bits = n, w.bits|1
		return true
	case w.top-n >= 64:
		return false
	}
	bit := uint64(1) << (w.top - n)
	if w.bits&bit != 0 {
		return false
	}
	w.bits |= bit
	return true
}
