package suppression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The first byte of a key says what lies there; doc.go has the table.
const (
	kindEntry    = 'e'
	kindSighting = 's'
	kindDue      = 'x'
	kindLog      = 'l'
	kindVector   = 'v'
	// kindQuarantine is what could not be read, when it was written over.
	kindCount      = 'c'
	kindQuarantine = 'z'
	kindStore      = '!'
)

// Origin is one life of a store.
type Origin uint64

// String is 16 hexadecimal digits.
func (o Origin) String() string { return fmt.Sprintf("%016x", uint64(o)) }

// What a record says.
const (
	stateLive    = 1
	stateRemoved = 2
	stateSeen    = 3
)

// record is what lies under an entry's or sighting's key.
type record struct {
	state  uint8
	kind   Kind
	time   int64 // µs; with origin, which of two records counts
	origin Origin
	seq    uint64 // the operation's number at its origin
	added  int64  // µs; of a sighting: when first seen
	until  int64  // s; 0 is never

	category, reason, event, by string
}

const recordVersion = 1

// after reports whether r counts and not o.
func (r *record) after(o *record) bool {
	if r.time != o.time {
		return r.time > o.time
	}
	return r.origin > o.origin
}

func appendRecord(b []byte, r *record) []byte {
	b = append(b, recordVersion, r.state, byte(r.kind))
	b = binary.AppendUvarint(b, uint64(r.time))
	b = binary.BigEndian.AppendUint64(b, uint64(r.origin))
	b = binary.AppendUvarint(b, r.seq)
	b = binary.AppendUvarint(b, uint64(r.added))
	b = binary.AppendUvarint(b, uint64(r.until))
	for _, s := range [...]string{r.category, r.reason, r.event, r.by} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

var errRecord = errors.New("malformed record")

// reader reads the parts of a record; the first fault stays.
type reader struct {
	b   []byte
	bad bool
}

func (f *reader) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

// span reads a time that fits a record.
func (f *reader) span() int64 {
	v := f.uvarint()
	if v > uint64(latest.UnixMicro()) {
		f.bad = true
		return 0
	}
	return int64(v)
}

func (f *reader) fixed64() uint64 {
	if len(f.b) < 8 {
		f.bad, f.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(f.b)
	f.b = f.b[8:]
	return v
}

func (f *reader) byte() byte {
	if len(f.b) == 0 {
		f.bad = true
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

// bytes reads a length, at most limit, and so many bytes, which stay the
// reader's.
func (f *reader) bytes(limit int) []byte {
	n := f.uvarint()
	if f.bad || n > uint64(limit) || n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func parseRecord(b []byte) (record, error) {
	f := reader{b: b}
	if v := f.byte(); v != recordVersion {
		return record{}, fmt.Errorf("%w: version %d", errRecord, v)
	}
	r := record{state: f.byte(), kind: Kind(f.byte()), time: f.span()}
	r.origin, r.seq = Origin(f.fixed64()), f.uvarint()
	r.added, r.until = f.span(), f.span()
	r.category, r.reason = string(f.bytes(MaxCategory)), string(f.bytes(MaxReason))
	r.event, r.by = string(f.bytes(MaxEvent)), string(f.bytes(MaxBy))
	switch {
	case f.bad, len(f.b) > 0:
		return record{}, fmt.Errorf("%w of %d bytes", errRecord, len(b))
	case r.state < stateLive, r.state > stateSeen, r.origin == 0, r.seq == 0, r.time == 0, r.state == stateLive && (r.kind == 0 || r.kind >= kinds):
		return record{}, fmt.Errorf("%w: state %d, kind %d, operation %s/%d", errRecord, r.state, r.kind, r.origin, r.seq)
	}
	return r, nil
}

// quickRecord reads only what it takes to know whether a record holds at now:
// no text is copied.
func quickRecord(b []byte) (state uint8, until int64, err error) {
	f := reader{b: b}
	version := f.byte()
	state = f.byte()
	f.byte()
	f.uvarint()
	f.fixed64()
	f.uvarint()
	f.uvarint()
	until = f.span()
	if f.bad || version != recordVersion {
		return 0, 0, fmt.Errorf("%w of %d bytes", errRecord, len(b))
	}
	return state, until, nil
}

// due is when a record is to be looked at again, in seconds; 0 is never. An
// entry whose time is over becomes a tombstone (ended) with the stamp that it
// had: if it were deleted, an older record that comes late would stand again.
func (r *record) due() int64 {
	switch r.state {
	case stateRemoved:
		return max(r.time/1e6, r.until) + int64(TombstoneFor/time.Second)
	case stateSeen:
		return r.added/1e6 + int64(SightingFor/time.Second)
	}
	return r.until
}

// over reports whether a record is no more than what would be deleted now.
func (r *record) over(now time.Time) bool {
	due := r.due()
	return r.state != stateLive && due <= now.Unix()
}

// ended is what becomes of an entry whose time is over.
func (r *record) ended() record {
	e := *r
	e.state = stateRemoved
	return e
}

// live reports whether the record suppresses at a time.
func (r *record) live(now time.Time) bool {
	return r.state == stateLive && (r.until == 0 || now.Unix() < r.until)
}

func (r *record) entry(k *key) Entry {
	e := Entry{
		Tenant: k.tenant, Address: k.local + "@" + k.domain, Stream: k.stream, Kind: r.kind, Category: r.category, Reason: r.reason,
		Event: r.event, By: r.by, Added: time.UnixMicro(r.added).UTC(),
	}
	if r.until > 0 {
		e.Expires = time.Unix(r.until, 0).UTC()
	}
	return e
}

func recordOf(e *Entry, now time.Time) record {
	r := record{
		state: stateLive, kind: e.Kind, category: cut(e.Category, MaxCategory), reason: cut(e.Reason, MaxReason),
		event: cut(e.Event, MaxEvent), by: cut(e.By, MaxBy), added: now.UnixMicro(),
	}
	if !e.Added.IsZero() {
		r.added = e.Added.UnixMicro()
	}
	if !e.Expires.IsZero() {
		r.until = e.Expires.Unix()
	}
	return r
}

// key is a parsed key of an entry or sighting.
type key struct {
	class                         byte
	tenant, domain, local, stream string
}

// maxKey bounds a key, with its three separators and its first byte.
const maxKey = 4 + MaxTenant + MaxDomain + MaxLocal + MaxStream

func appendKey(b []byte, class byte, tenant, address, stream string) []byte {
	local, domain := splitAddress(address)
	b = append(append(append(b, class), tenant...), 0)
	b = append(append(b, domain...), 0)
	b = append(append(b, local...), 0)
	return append(b, stream...)
}

// parseKey reads a key and checks its bounds: it may come from another node.
func parseKey(b []byte) (k key, err error) {
	fail := func() (key, error) { return key{}, fmt.Errorf("malformed key %.80q", b) }
	if len(b) < 4 || len(b) > maxKey || b[0] != kindEntry && b[0] != kindSighting || bytes.Count(b, []byte{0}) != 3 {
		return fail()
	}
	k.class = b[0]
	parts := strings.SplitN(string(b[1:]), "\x00", 4)
	k.tenant, k.domain, k.local, k.stream = parts[0], parts[1], parts[2], parts[3]
	r := Ref{k.tenant, k.local + "@" + k.domain, k.stream}
	if r.Check() != nil || strings.Contains(k.domain, "@") || k.class == kindSighting && k.stream != "" {
		return fail()
	}
	return k, nil
}
