package exchange

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// reader walks over one message, then over one section of it. The first error
// stays; after it everything reads as zero.
type reader struct {
	b       []byte
	strings []string
	err     error
}

func (rd *reader) fail(format string, a ...any) {
	if rd.err == nil {
		rd.err = fmt.Errorf(format, a...)
	}
	rd.b = nil
}

func (rd *reader) uint() uint64 {
	if rd.err != nil {
		return 0
	}
	v, n := binary.Uvarint(rd.b)
	if n <= 0 {
		rd.fail("it ends, or has a number that is too large")
		return 0
	}
	rd.b = rd.b[n:]
	return v
}

func (rd *reader) int() int64 {
	v := rd.uint()
	if v > math.MaxInt64 {
		rd.fail("a number of %d", v)
		return 0
	}
	return int64(v)
}

func (rd *reader) count() int64 { return int64(rd.upTo("a count", MaxCount)) }

func (rd *reader) share() int64 { return int64(rd.upTo("a share", FullShare)) }

func (rd *reader) upTo(what string, most uint64) uint64 {
	v := rd.uint()
	if v > most {
		rd.fail("%s of %d: at most %d", what, v, most)
		return 0
	}
	return v
}

func (rd *reader) bool() bool { return rd.upTo("a yes or no", 1) == 1 }

func (rd *reader) float(most float64) float64 {
	if rd.err == nil && len(rd.b) < 8 {
		rd.fail("it ends in a number")
	}
	if rd.err != nil {
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(rd.b))
	rd.b = rd.b[8:]
	if !(v >= 0 && v <= most) { // NaN too
		rd.fail("a number of %g: want 0 to %g", v, most)
		return 0
	}
	return v
}

func (rd *reader) text() string {
	p := rd.upTo("the place of a text", uint64(len(rd.strings)))
	if p == 0 {
		return ""
	}
	return rd.strings[p-1]
}

// rows reads how many rows follow, each of at least so many bytes, so that no
// more memory is taken than the message could fill.
func (rd *reader) rows(what string, most, rowBytes int) int {
	n := rd.upTo("the number of "+what, uint64(most))
	if n*uint64(rowBytes) > uint64(len(rd.b)) {
		rd.fail("%d %s in %d bytes", n, what, len(rd.b))
		return 0
	}
	return int(n)
}

func readRows[T any](rd *reader, into []T, what string, most, rowBytes int, read func(*reader, *T)) []T {
	n := rd.rows(what, most, rowBytes)
	into = slices.Grow(into[:0], n)[:n]
	for i := range into {
		read(rd, &into[i])
	}
	if rd.err == nil && len(rd.b) > 0 {
		rd.fail("%d bytes behind the last of %s", len(rd.b), what)
	}
	return into
}

func (rd *reader) scope(s *Scope) {
	*s = Scope{Kind: Kind(rd.upTo("a kind of scope", uint64(kinds-1)))}
	for i, f := range s.fields() {
		if scopeFields[s.Kind]&(1<<i) != 0 {
			*f = rd.text()
		}
	}
}

func (rd *reader) holding(h *Holding) {
	h.Share, h.Burst, h.LinkBurst, h.Connections, h.Issued, h.Void = rd.share(), rd.count(), rd.count(), rd.count(), rd.count(), rd.count()
}

func (rd *reader) demand(d *Demand) {
	rd.scope(&d.Scope)
	rd.holding(&d.Holding)
	d.Backlog, d.Used, d.Open, d.Spent, d.Returned, d.Kept = rd.count(), rd.count(), rd.count(), rd.count(), rd.count(), rd.count()
}

func (rd *reader) grant(g *Grant) {
	rd.scope(&g.Scope)
	rd.holding(&g.Holding)
}

func (rd *reader) source(s *HeldSource) {
	*s = HeldSource{Source: rd.text(), Epoch: rd.count(), Released: rd.bool(), Fault: rd.text(), Backlog: rd.count()}
}

func (rd *reader) signal(s *Signal) {
	*s = Signal{Carrier: rd.text(), Source: rd.text(), Tenant: rd.text(), Delivered: rd.uint32(), Deferred: rd.uint32(), Bounced: rd.uint32(), Connected: rd.uint32(), Refused: rd.uint32()}
}

func (rd *reader) uint32() uint32 { return uint32(rd.upTo("a count of signals", math.MaxUint32)) }

func (rd *reader) tally(t *Tally) {
	for _, f := range [...]*string{&t.Carrier, &t.Site, &t.Source, &t.Tenant, &t.Stream, &t.Job, &t.Domain, &t.Category} {
		*f = rd.text()
	}
	t.N = rd.uint32()
}

func (rd *reader) sample(s *Sample) {
	for _, f := range [...]*string{&s.Carrier, &s.Source, &s.Category, &s.Phase, &s.Enhanced, &s.Text} {
		*f = rd.text()
	}
	s.Code = uint16(rd.upTo("a reply code", 999))
	s.N = rd.uint32()
}

func (rd *reader) carrierHome(h *Home) {
	h.Pool, h.Carrier = rd.text(), rd.text()
	rd.homeNodes(h)
}

func (rd *reader) home(h *Home) {
	h.Pool, h.Carrier = rd.text(), ""
	rd.homeNodes(h)
}

func (rd *reader) homeNodes(h *Home) {
	h.Nodes = make([]string, rd.rows("nodes of a pool", MaxHomeNodes, 1))
	for i := range h.Nodes {
		h.Nodes[i] = rd.text()
	}
}

// decode reads the frame, and calls section with each section that it does not
// know itself, which may be one that section does not know either.
func decode(b []byte, kind byte, section func(rd *reader, tag uint64)) error {
	if err := decodeFrame(b, kind, section); err != nil {
		return fmt.Errorf("decode exchange: %w", err)
	}
	return nil
}

func decodeFrame(b []byte, kind byte, section func(rd *reader, tag uint64)) error {
	if len(b) > MaxWire {
		return fmt.Errorf("%d bytes: at most %d", len(b), MaxWire)
	}
	if len(b) < 2 || b[0] != 'H' || b[1] != kind {
		return fmt.Errorf("it does not begin as one of kind %q does", kind)
	}
	rd := &reader{b: b[2:]}
	version, oldest := rd.uint(), rd.uint()
	if rd.err == nil && (oldest > wireVersion || version < wireMinVersion) {
		return fmt.Errorf("%w: it is of version %d, for %d and later; this build is %d", ErrVersion, version, oldest, wireVersion)
	}
	last, head := uint64(0), false
	for rd.err == nil && len(rd.b) > 0 {
		tag, n := rd.uint(), rd.uint()
		switch {
		case rd.err != nil:
		case tag <= last:
			rd.fail("section %d comes after section %d", tag, last)
		case n > uint64(len(rd.b)):
			rd.fail("section %d has %d bytes of %d", tag, n, len(rd.b))
		default:
			last, head = tag, head || tag == tagHead
			part := &reader{b: rd.b[:n], strings: rd.strings}
			if tag == tagStrings {
				rd.strings = part.table()
			} else {
				section(part, tag) // one that it does not know is a newer version's
			}
			if part.err != nil {
				return fmt.Errorf("section %d: %w", tag, part.err)
			}
			rd.b = rd.b[n:]
		}
	}
	if rd.err == nil && !head {
		rd.fail("it has no head")
	}
	return rd.err
}

func (rd *reader) table() []string {
	out := make([]string, rd.rows("texts", maxStrings, 1))
	for i := range out {
		n := int(rd.upTo("the length of a text", min(maxString, uint64(len(rd.b)))))
		if n > len(rd.b) {
			rd.fail("it ends in a text")
			break
		}
		// Each on its own, since the leader keeps some of them: a part of one
		// long text would keep the whole.
		out[i] = string(rd.b[:n])
		rd.b = rd.b[n:]
	}
	return out
}
