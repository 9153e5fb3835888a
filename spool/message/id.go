package message

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ID names one message. It is a ULID (https://github.com/ulid/spec): 48 bits of
// Unix milliseconds, then 80 bits that are random at the start of each
// millisecond and count up within it, so byte order is order of creation.
type ID [16]byte

// idText is Crockford's base 32 in lower case; i, l, o and u are left out.
const idText = "0123456789abcdefghjkmnpqrstvwxyz"

// IDTextLen is the length of ID's text form.
const IDTextLen = 26

var idValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(idText) {
		t[idText[i]] = byte(i)
		if c := idText[i]; c >= 'a' {
			t[c-'a'+'A'] = byte(i)
		}
	}
	return t
}()

// ErrBadID is returned by ParseID and ParseDeliveryID.
var ErrBadID = errors.New("not a message id: want 26 letters and digits, as in 01jd3q8v5x2m9k7c4t6r0w1yza")

// String is the 26-letter text form, lower case.
func (id ID) String() string { return string(id.AppendText(make([]byte, 0, IDTextLen))) }

// AppendText appends the 26-letter text form to b.
func (id ID) AppendText(b []byte) []byte {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var t [IDTextLen]byte
	for i := IDTextLen - 1; i >= 0; i-- {
		t[i] = idText[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return append(b, t[:]...)
}

// Time is when the message was accepted, to the millisecond.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
}

// IsZero reports whether id was never set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText and UnmarshalText give JSON and YAML the text form.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// ParseID reads the text form, in either case. The error is ErrBadID.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != IDTextLen || s[0] > '7' {
		return id, ErrBadID
	}
	var hi, lo uint64
	for i := range len(s) {
		v := idValue[s[i]]
		if v == 0xff {
			return ID{}, ErrBadID
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(v)
	}
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id, nil
}

// IDs makes IDs that never repeat and never go down, also when the clock does.
// The zero value is ready; safe for concurrent use.
type IDs struct {
	mu struct {
		sync.Mutex
		last ID
	}
}

// New returns the next ID for the given time.
func (g *IDs) New(now time.Time) ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var id ID
	ms := uint64(now.UnixMilli())
	if last := binary.BigEndian.Uint64(g.mu.last[:8]) >> 16; ms <= last {
		id = g.mu.last
		if lo := binary.BigEndian.Uint64(id[8:]) + 1; lo != 0 {
			binary.BigEndian.PutUint64(id[8:], lo)
		} else {
			binary.BigEndian.PutUint64(id[8:], 0)
			binary.BigEndian.PutUint64(id[:8], binary.BigEndian.Uint64(id[:8])+1)
		}
	} else {
		binary.BigEndian.PutUint64(id[:8], ms<<16)
		if _, err := rand.Read(id[6:]); err != nil {
			panic("BUG: crypto/rand.Read never fails: " + err.Error())
		}
		id[8] &= 0x7f // room to count up
	}
	g.mu.last = id
	return id
}

// DeliveryID names one delivery: its message and its number within it.
// Text form: the message's id, a hyphen, the number: 01jd3q…yza-0.
type DeliveryID struct {
	Message ID
	Index   uint16
}

// MaxDeliveries is how many deliveries one message can have.
const MaxDeliveries = 1 << 16

// String is the text form.
func (d DeliveryID) String() string { return string(d.AppendText(nil)) }

// AppendText appends the text form to b.
func (d DeliveryID) AppendText(b []byte) []byte {
	b = append(d.Message.AppendText(b), '-')
	return strconv.AppendUint(b, uint64(d.Index), 10)
}

// MarshalText gives JSON the text form.
func (d DeliveryID) MarshalText() ([]byte, error) { return d.AppendText(nil), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *DeliveryID) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDeliveryID(string(b))
	return err
}

// ParseDeliveryID reads the text form of a delivery. A bare message id is an
// error here: callers that take either try ParseID first.
func ParseDeliveryID(s string) (DeliveryID, error) {
	m, n, ok := strings.Cut(s, "-")
	id, err := ParseID(m)
	if err != nil || !ok {
		return DeliveryID{}, fmt.Errorf("delivery id: %w, a hyphen and a number", ErrBadID)
	}
	i, err := strconv.ParseUint(n, 10, 16)
	if err != nil {
		return DeliveryID{}, fmt.Errorf("delivery id: the number after the hyphen must be 0 to %d", MaxDeliveries-1)
	}
	return DeliveryID{id, uint16(i)}, nil
}
