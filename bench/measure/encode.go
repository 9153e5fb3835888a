package measure

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The encoded form is HdrHistogram's "V2 compressed": a cookie and a length
// before a zlib stream of a 40-byte header and the counts, in base64. See
// https://github.com/HdrHistogram/HdrHistogram, AbstractHistogram.java.
const (
	plainCookie      = 0x1c849303 | 0x10 // 0x10: counts are ZigZag LEB128 numbers
	compressedCookie = 0x1c849304 | 0x10
	headerBytes      = 40
	maxEncodedBytes  = 1 << 20 // of base64; a full histogram needs less than 300 kB
)

// Encode is the histogram as text that every HdrHistogram tool reads. The unit
// is the microsecond.
func (h *Histogram) Encode() string {
	used := []uint64{0} // of an empty histogram the others write one cell too
	for i, n := range h.counts {
		if n > 0 {
			used = h.counts[:i+1]
		}
	}
	counts := appendCounts(nil, used)
	plain := make([]byte, 0, headerBytes+len(counts))
	plain = binary.BigEndian.AppendUint32(plain, plainCookie)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(counts)))
	plain = binary.BigEndian.AppendUint32(plain, 0) // normalizing index offset
	plain = binary.BigEndian.AppendUint32(plain, significant)
	plain = binary.BigEndian.AppendUint64(plain, lowestMicros)
	plain = binary.BigEndian.AppendUint64(plain, highestMicros)
	plain = binary.BigEndian.AppendUint64(plain, math.Float64bits(1)) // integer to double ratio
	plain = append(plain, counts...)
	var out bytes.Buffer
	out.Write(make([]byte, 8))
	z := zlib.NewWriter(&out)
	_, werr := z.Write(plain)
	if err := errors.Join(werr, z.Close()); err != nil {
		panic("BUG: compress into memory: " + err.Error())
	}
	b := out.Bytes()
	binary.BigEndian.PutUint32(b, compressedCookie)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-8))
	return base64.StdEncoding.EncodeToString(b)
}

// appendCounts writes each count as a ZigZag LEB128 number, and a run of n
// empty cells as the one number -n.
func appendCounts(dst []byte, counts []uint64) []byte {
	for i := 0; i < len(counts); {
		if counts[i] > 0 {
			dst = appendZigZag(dst, int64(counts[i]))
			i++
			continue
		}
		run := i
		for i < len(counts) && counts[i] == 0 {
			i++
		}
		if i-run == 1 { // the others write a lone empty cell as 0
			dst = append(dst, 0)
			continue
		}
		dst = appendZigZag(dst, -int64(i-run))
	}
	return dst
}

// appendZigZag writes LEB128 of at most nine bytes: the ninth has all its eight
// bits for the number, other than in the common varint.
func appendZigZag(dst []byte, v int64) []byte {
	u := uint64(v<<1) ^ uint64(v>>63)
	for range 8 {
		if u < 0x80 {
			return append(dst, byte(u))
		}
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

func readZigZag(b []byte) (v int64, n int) {
	u := uint64(0)
	for n = range min(len(b), 9) {
		if n == 8 {
			u |= uint64(b[n]) << 56
		} else {
			u |= uint64(b[n]&0x7f) << (7 * n)
		}
		if b[n] < 0x80 || n == 8 {
			return int64(u>>1) ^ -int64(u&1), n + 1
		}
	}
	return 0, 0
}

// DecodeHistogram reads what Encode wrote, or another HdrHistogram with the same
// range and digits.
func DecodeHistogram(s string) (*Histogram, error) {
	h, err := decode(s)
	if err != nil {
		return nil, fmt.Errorf("read HdrHistogram: %w", err)
	}
	return h, nil
}

func decode(s string) (*Histogram, error) {
	if len(s) > maxEncodedBytes {
		return nil, fmt.Errorf("%d bytes are more than a histogram needs", len(s))
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 || binary.BigEndian.Uint32(b) != compressedCookie {
		return nil, errors.New("not in the V2 compressed form")
	}
	if int64(binary.BigEndian.Uint32(b[4:])) != int64(len(b)-8) {
		return nil, errors.New("cut off, or with something behind it")
	}
	z, err := zlib.NewReader(bytes.NewReader(b[8:]))
	if err != nil {
		return nil, err
	}
	const most = headerBytes + 9*cells
	plain, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return nil, err
	}
	if len(plain) < headerBytes || len(plain) > most {
		return nil, fmt.Errorf("%d bytes cannot be a histogram", len(plain))
	}
	be := binary.BigEndian
	switch {
	case be.Uint32(plain) != plainCookie || int64(be.Uint32(plain[4:])) != int64(len(plain)-headerBytes):
		return nil, errors.New("the header does not fit the content")
	case be.Uint32(plain[12:]) != significant || be.Uint64(plain[16:]) != lowestMicros || be.Uint64(plain[24:]) != highestMicros:
		return nil, errors.New("another range or precision than 1 µs to 1 h in three digits")
	}
	return readCounts(plain[headerBytes:])
}

func readCounts(b []byte) (*Histogram, error) {
	h := &Histogram{counts: make([]uint64, cells)}
	for i := 0; len(b) > 0; {
		v, n := readZigZag(b)
		if n == 0 {
			return nil, errors.New("a count is cut off")
		}
		b = b[n:]
		switch {
		case v < 0 && v >= -cells && i-int(v) <= cells:
			i -= int(v)
		case v >= 0 && i < cells:
			h.counts[i] = uint64(v)
			if h.total += uint64(v); h.total > math.MaxInt64 {
				return nil, errors.New("more values than can be counted")
			}
			i++
		default:
			return nil, errors.New("more cells than the range has")
		}
	}
	return h, nil
}
