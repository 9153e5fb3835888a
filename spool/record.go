package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A record is a version byte, its fields, and the CRC-32C of key, version and
// fields. The key is in the sum so that a record which turns up under another
// key does not pass. Pebble has sums of its own for blocks and the WAL; this
// one also covers memory, copying tools and our own mistakes.
//
// Fields are uvarints, length-prefixed bytes and times; there are no names and
// no optional fields: what changes, changes the version. testdata/v1.txt holds
// records of version 1 that must stay readable.
const (
	recordVersion = 1
	sumLen        = 4
	// maxField bounds one length-prefixed field; content is not a field.
	maxField = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged record")

// seal closes the record that begins at b[start:] and lies under key.
func seal(b []byte, start int, key []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[start:])
	return binary.LittleEndian.AppendUint32(b, sum)
}

// unseal checks a record and returns a reader of its fields.
func unseal(key, value []byte) (fields, error) {
	if len(value) < 1+sumLen {
		return fields{}, fmt.Errorf("%w: %d bytes", errDamaged, len(value))
	}
	body := value[:len(value)-sumLen]
	want := binary.LittleEndian.Uint32(value[len(body):])
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body) != want {
		return fields{}, fmt.Errorf("%w: checksum differs", errDamaged)
	}
	if body[0] != recordVersion {
		return fields{}, fmt.Errorf("%w: version %d, this program knows %d", errDamaged, body[0], recordVersion)
	}
	return fields{b: body[1:]}, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// appendTime writes microseconds, shifted by one so that zero is the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	us := t.UnixMicro()
	return binary.AppendUvarint(b, uint64(us<<1)^uint64(us>>63)+1)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// sharedText is up to which size a record's text fields share one string: one
// short field must not keep a record of megabytes in memory.
const sharedText = 4 << 10

// fields reads a record's fields in order. After the first that does not fit,
// all further reads give zero values and done reports the error.
type fields struct {
	b    []byte
	text string // b as a string, made once, so that the text fields share one allocation
	off  int
	bad  bool
}

func (f *fields) fail() { f.bad, f.off = true, len(f.b) }

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b[f.off:])
	if n <= 0 {
		f.fail()
		return 0
	}
	f.off += n
	return v
}

// below reads a uvarint that must be under limit: an enumeration or a count.
func (f *fields) below(limit uint64) uint64 {
	v := f.uvarint()
	if v >= limit {
		f.fail()
		return 0
	}
	return v
}

func (f *fields) next() (from, to int) {
	n := f.below(maxField)
	if n > uint64(len(f.b)-f.off) {
		f.fail()
		return 0, 0
	}
	from = f.off
	f.off += int(n)
	return from, f.off
}

func (f *fields) str() string {
	from, to := f.next()
	if from == to {
		return ""
	}
	if len(f.b) > sharedText {
		return string(f.b[from:to])
	}
	if f.text == "" {
		f.text = string(f.b)
	}
	return f.text[from:to]
}

// bytes gives a copy, nil when empty.
func (f *fields) bytes() []byte {
	from, to := f.next()
	if from == to {
		return nil
	}
	return append([]byte(nil), f.b[from:to]...)
}

func (f *fields) time() time.Time {
	v := f.uvarint()
	if v == 0 {
		return time.Time{}
	}
	v--
	return time.UnixMicro(int64(v>>1) ^ -int64(v&1)).UTC()
}

func (f *fields) bool() bool { return f.below(2) == 1 }

// count reads how many items follow; each takes at least one byte, so a
// damaged count cannot ask for more memory than the record has bytes.
func (f *fields) count() int { return int(f.below(uint64(len(f.b)-f.off) + 1)) }

// rest takes all that is left.
func (f *fields) rest() []byte {
	b := f.b[f.off:]
	f.off = len(f.b)
	return b
}

// done reports whether every field fitted and nothing is left over.
func (f *fields) done() error {
	if f.bad || f.off != len(f.b) {
		return fmt.Errorf("%w: fields do not fit", errDamaged)
	}
	return nil
}
