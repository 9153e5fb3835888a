package events

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A block is what one flush appends: a skippable frame and a zstd frame.
// Integers are little endian, as in zstd.
//
//	 0  magic of a skippable frame      4
//	 4  length of what follows          4
//	 8  "HKE1"                          4
//	12  records (lines)                 4
//	16  store: whose sequence numbers   8
//	24  first sequence number           8
//	32  last sequence number            8
//	40  last number of the block before 8
//	48  acked when it was written       8
//	56  earliest event, Unix µs         8
//	64  latest event, Unix µs           8
//	72  length of the zstd frame        4
//	76  length of its content           4
//	80  CRC-32C of the zstd frame       4
//	84  length of the id filter         4
//	88  id filter
//	    CRC-32C of all of the above     4
const (
	fixedBytes  = 88
	crcBytes    = 4
	maxFilter   = 1 << 20
	maxContent  = 512 << 20 // a bound on what a header can make us allocate
	blockFormat = "HKE1"
)

// skippableMagic is one of the sixteen that zstd reserves for users.
var skippableMagic = [4]byte{0x5b, 0x2a, 0x4d, 0x18}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that the bytes at an offset are not a whole, sound block.
var errDamaged = errors.New("damaged block")

// header describes one block.
type header struct {
	records      uint32
	store        uint64
	first, last  uint64
	prev         uint64 // last number of the block before
	acked        uint64 // durable when this block was written
	from, to     int64  // Unix µs
	frameBytes   uint32
	contentBytes uint32
	frameCRC     uint32
	filter       filter
}

// size is the length of the skippable frame.
func (h *header) size() int64 { return fixedBytes + int64(len(h.filter)) + crcBytes }

// append appends the skippable frame.
func (h *header) append(b []byte) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, skippableMagic[:]...)
	b = le.AppendUint32(b, uint32(h.size()-8))
	b = append(b, blockFormat...)
	b = le.AppendUint32(b, h.records)
	b = le.AppendUint64(b, h.store)
	b = le.AppendUint64(b, h.first)
	b = le.AppendUint64(b, h.last)
	b = le.AppendUint64(b, h.prev)
	b = le.AppendUint64(b, h.acked)
	b = le.AppendUint64(b, uint64(h.from))
	b = le.AppendUint64(b, uint64(h.to))
	b = le.AppendUint32(b, h.frameBytes)
	b = le.AppendUint32(b, h.contentBytes)
	b = le.AppendUint32(b, h.frameCRC)
	b = le.AppendUint32(b, uint32(len(h.filter)))
	b = append(b, h.filter...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseFixed reads the fixed part; filterBytes more bytes and a checksum follow.
func parseFixed(b []byte) (h header, filterBytes int, err error) {
	le := binary.LittleEndian
	if len(b) < fixedBytes || !bytes.Equal(b[:4], skippableMagic[:]) || string(b[8:12]) != blockFormat {
		return header{}, 0, errDamaged
	}
	h = header{
		records: le.Uint32(b[12:]), store: le.Uint64(b[16:]),
		first: le.Uint64(b[24:]), last: le.Uint64(b[32:]), prev: le.Uint64(b[40:]), acked: le.Uint64(b[48:]),
		from: int64(le.Uint64(b[56:])), to: int64(le.Uint64(b[64:])),
		frameBytes: le.Uint32(b[72:]), contentBytes: le.Uint32(b[76:]), frameCRC: le.Uint32(b[80:]),
	}
	n := le.Uint32(b[84:])
	if n > maxFilter || le.Uint32(b[4:]) != fixedBytes-8+n+crcBytes || h.contentBytes > maxContent || h.last < h.first {
		return header{}, 0, errDamaged
	}
	return h, int(n), nil
}

// parseHeader reads the whole skippable frame and checks its checksum. The
// filter refers to b.
func parseHeader(b []byte) (header, error) {
	h, n, err := parseFixed(b)
	if err != nil {
		return header{}, err
	}
	end := fixedBytes + n
	if len(b) < end+crcBytes || binary.LittleEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return header{}, errDamaged
	}
	h.filter = filter(b[fixedBytes:end])
	return h, nil
}

// encoder packs lines into blocks. Not safe for concurrent use.
type encoder struct {
	zstd  *zstd.Encoder
	frame []byte
	keys  []uint64
	bits  filter
}

func newEncoder() *encoder {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic("BUG: zstd options: " + err.Error())
	}
	return &encoder{zstd: z}
}

// append appends one block of lines; h has store, first, last and acked set.
// now stands in for the time of lines that have none.
func (e *encoder) append(b []byte, h *header, lines []byte, now time.Time) []byte {
	e.frame = e.zstd.EncodeAll(lines, e.frame[:0])
	e.survey(h, lines, now)
	h.frameBytes, h.contentBytes = uint32(len(e.frame)), uint32(len(lines))
	h.frameCRC = crc32.Checksum(e.frame, castagnoli)
	return append(h.append(b), e.frame...)
}

// survey counts the lines, finds their span of time and fills the id filter.
// It reads the fixed beginning of each line instead of decoding JSON.
func (e *encoder) survey(h *header, lines []byte, now time.Time) {
	e.keys = e.keys[:0]
	h.records, h.from, h.to = 0, 0, 0
	var last uint64
	for len(lines) > 0 {
		line := lines
		if i := bytes.IndexByte(lines, '\n'); i >= 0 {
			line, lines = lines[:i], lines[i+1:]
		} else {
			lines = nil
		}
		h.records++
		at, id, ok := lineStart(line)
		if !ok {
			continue
		}
		if h.from == 0 || at < h.from {
			h.from = at
		}
		h.to = max(h.to, at)
		if key := hashID(id); key != last {
			e.keys = append(e.keys, key)
			last = key
		}
	}
	if h.from == 0 {
		h.from, h.to = now.UnixMicro(), now.UnixMicro()
	}
	e.bits = e.bits.reset(len(e.keys))
	for _, k := range e.keys {
		e.bits.add(k)
	}
	h.filter = e.bits
}

const (
	timeMark = `","time":"`
	idMark   = `","id":"`
	timeLen  = len("2006-01-02T15:04:05.000000Z")
	idLen    = 26
)

// lineStart reads time and message id from the beginning of a line as
// message.Event.AppendJSON writes it: {"type":"…","time":"…","id":"…-n"
func lineStart(line []byte) (unixMicro int64, id []byte, ok bool) {
	head := line[:min(len(line), 40)]
	i := bytes.Index(head, []byte(timeMark))
	if i < 0 {
		return 0, nil, false
	}
	i += len(timeMark)
	j := i + timeLen
	if len(line) < j+len(idMark)+idLen || string(line[j:j+len(idMark)]) != idMark {
		return 0, nil, false
	}
	at, ok := parseTime(line[i:j])
	if !ok {
		return 0, nil, false
	}
	j += len(idMark)
	return at, line[j : j+idLen], true
}

// parseTime reads 2006-01-02T15:04:05.000000Z, about twenty times faster than
// time.Parse.
func parseTime(b []byte) (unixMicro int64, ok bool) {
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != '.' || b[26] != 'Z' {
		return 0, false
	}
	num := func(from, to int) int {
		n := 0
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				ok = false
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	ok = true
	t := time.Date(num(0, 4), time.Month(num(5, 7)), num(8, 10), num(11, 13), num(14, 16), num(17, 19), num(20, 26)*1000, time.UTC)
	return t.UnixMicro(), ok
}

// filter is a Bloom filter over message ids: ten bits an id, seven probes,
// about one false hit in a hundred. A search for one message skips the blocks
// that do not know it without decompressing them.
type filter []byte

const (
	filterBits   = 10
	filterProbes = 7
)

// reset returns an empty filter for n ids.
func (f filter) reset(n int) filter {
	size := min((n*filterBits+7)/8, maxFilter)
	if cap(f) < size {
		return make(filter, size)
	}
	f = f[:size]
	clear(f)
	return f
}

func (f filter) add(key uint64) {
	f.probe(key, func(i uint64) bool { f[i>>3] |= 1 << (i & 7); return true })
}

// has is false only when the id was not added. An empty filter knows nothing
// and says true.
func (f filter) has(key uint64) bool {
	return f.probe(key, func(i uint64) bool { return f[i>>3]&(1<<(i&7)) != 0 })
}

func (f filter) probe(key uint64, bit func(uint64) bool) bool {
	n := uint64(len(f)) * 8
	if n == 0 {
		return true
	}
	step := key>>32 | 1
	for range filterProbes {
		if !bit(key % n) {
			return false
		}
		key += step
	}
	return true
}

// hashID is FNV-1a with a final mix. It is part of the format.
func hashID(id []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range id {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}
