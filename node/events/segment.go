package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	segmentSuffix = ".jsonl.zst"
	indexSuffix   = ".idx"
	tornSuffix    = ".torn"
	timeLayout    = "20060102T150405.000000Z"
)

// segment is one file of the log. Its base name is the time it was begun, then
// its first sequence number; names only go up, so their order is the order of
// the log also when the clock steps back.
type segment struct {
	base    string
	start   time.Time
	sealed  bool
	damaged int64 // bytes that are no block, found so far
	summary
}

// summary is what the sidecar index of a sealed segment holds: enough to know
// without opening the segment whether a search has business there.
type summary struct {
	Store        uint64 `json:"store,omitempty"`
	First        uint64 `json:"first_seq"`
	Last         uint64 `json:"last_seq"`
	Records      uint64 `json:"records"`
	From         int64  `json:"from_us"`
	To           int64  `json:"to_us"`
	Bytes        int64  `json:"bytes"` // durable length of the file
	ContentBytes int64  `json:"json_bytes"`
}

func (s *summary) add(h *header, end int64) {
	if s.Records == 0 && s.Last == 0 {
		s.First, s.From = h.first, h.from
	}
	s.Store, s.Last = h.store, h.last
	s.From, s.To = min(s.From, h.from), max(s.To, h.to)
	s.Records += uint64(h.records)
	s.ContentBytes += int64(h.contentBytes)
	s.Bytes = end
}

func segmentBase(start time.Time, first uint64) string {
	return start.UTC().Format(timeLayout) + "-" + fmt.Sprintf("%020d", first)
}

// parseSegment reads a segment's file name.
func parseSegment(name string) (*segment, bool) {
	base, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return nil, false
	}
	at, seq, ok := strings.Cut(base, "-")
	if !ok {
		return nil, false
	}
	start, err := time.Parse(timeLayout, at)
	if err != nil {
		return nil, false
	}
	first, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return nil, false
	}
	return &segment{base: base, start: start, summary: summary{First: first}}, true
}

// listSegments finds the segments in dir, oldest first, knowing no more than
// their names.
func listSegments(fs FS, dir string) ([]*segment, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list event log: %w", err)
	}
	slices.Sort(names)
	var out []*segment
	for _, n := range names {
		if s, ok := parseSegment(n); ok {
			out = append(out, s)
		}
	}
	return out, nil
}

func segmentPath(dir, base string) string { return filepath.Join(dir, base+segmentSuffix) }

// loadSummary fills in a sealed segment from its sidecar, or from the blocks'
// headers when the sidecar is missing or unreadable.
func loadSummary(fs FS, dir string, s *segment) error {
	b, err := readFile(fs, filepath.Join(dir, s.base+indexSuffix), 4096)
	if err == nil && json.Unmarshal(b, &s.summary) == nil && s.Last >= s.First && s.Bytes >= 0 {
		s.sealed = true
		return nil
	}
	f, err := fs.Open(segmentPath(dir, s.base))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.base, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("size of segment %s: %w", s.base, err)
	}
	sum := summary{First: s.First}
	sc := scanner{f: f, size: size}
	for {
		blk, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", s.base, err)
		}
		sum.add(&blk.header, blk.end())
	}
	sum.Bytes = size
	s.summary, s.sealed, s.damaged = sum, true, sc.damaged
	return nil
}

// storeSummary writes the sidecar of a sealed segment.
func storeSummary(fs FS, dir string, s *segment) error {
	b, err := json.Marshal(&s.summary)
	if err != nil {
		return err
	}
	return replaceFile(fs, dir, filepath.Join(dir, s.base+indexSuffix), append(b, '\n'))
}

// block is a header and where it stands.
type block struct {
	header
	off int64 // of the skippable frame
}

func (b *block) frameOff() int64 { return b.off + b.size() }
func (b *block) end() int64      { return b.frameOff() + int64(b.frameBytes) }

// scanner walks the blocks of a file up to size. Damage is stepped over: it
// looks for the next sound block and counts the bytes between.
type scanner struct {
	f       File
	off     int64
	size    int64
	verify  bool // check every frame's checksum, not only headers
	damaged int64
	head    []byte
	frame   []byte
	content []byte
}

// next returns the next sound block, io.EOF at the end, or a read error. The
// block's filter is valid until the next call.
func (s *scanner) next() (block, error) {
	if s.off >= s.size {
		return block{}, io.EOF
	}
	b, err := s.at(s.off, s.verify)
	if errors.Is(err, errDamaged) {
		from := s.off
		b, err = s.resync(from + 1)
		if errors.Is(err, io.EOF) {
			s.damaged += s.size - from
			s.off = s.size
			return block{}, io.EOF
		}
		s.damaged += b.off - from
	}
	if err != nil {
		return block{}, err
	}
	s.off = b.end()
	return b, nil
}

// at reads the block at an offset. errDamaged when there is none.
func (s *scanner) at(off int64, verify bool) (block, error) {
	if off+fixedBytes+crcBytes > s.size {
		return block{}, errDamaged
	}
	s.head = slices.Grow(s.head[:0], fixedBytes)[:fixedBytes]
	if _, err := readFull(s.f, s.head, off); err != nil {
		return block{}, err
	}
	_, n, err := parseFixed(s.head)
	if err != nil {
		return block{}, err
	}
	whole := fixedBytes + n + crcBytes
	if off+int64(whole) > s.size {
		return block{}, errDamaged
	}
	s.head = slices.Grow(s.head, whole-fixedBytes)[:whole]
	if _, err := readFull(s.f, s.head[fixedBytes:], off+fixedBytes); err != nil {
		return block{}, err
	}
	h, err := parseHeader(s.head)
	if err != nil {
		return block{}, err
	}
	b := block{header: h, off: off}
	if b.end() > s.size {
		return block{}, errDamaged
	}
	if verify {
		_, err = s.readFrame(&b)
	}
	return b, err
}

// resyncWindow is how much is looked through at a time.
const resyncWindow = 256 << 10

// resync finds the first sound block at or after off, with its frame checked:
// the magic number can also occur inside compressed data. io.EOF is "none".
func (s *scanner) resync(off int64) (block, error) {
	window := make([]byte, resyncWindow)
	for off < s.size {
		w := window[:min(int64(len(window)), s.size-off)]
		if _, err := readFull(s.f, w, off); err != nil {
			return block{}, err
		}
		for i := 0; ; {
			j := bytes.Index(w[i:], skippableMagic[:])
			if j < 0 {
				break
			}
			i += j
			b, err := s.at(off+int64(i), true)
			if err == nil || !errors.Is(err, errDamaged) {
				return b, err
			}
			i++
		}
		if off+int64(len(w)) >= s.size {
			break
		}
		off += int64(len(w)) - int64(len(skippableMagic)) + 1
	}
	return block{}, io.EOF
}

// readFrame reads the compressed lines of a block and checks them. The slice is
// valid until the next call.
func (s *scanner) readFrame(b *block) ([]byte, error) {
	s.frame = slices.Grow(s.frame[:0], int(b.frameBytes))[:b.frameBytes]
	if _, err := readFull(s.f, s.frame, b.frameOff()); err != nil {
		return nil, err
	}
	if crc32.Checksum(s.frame, castagnoli) != b.frameCRC {
		return nil, errDamaged
	}
	return s.frame, nil
}

// lines returns the lines of a block, valid until the next call. A block whose
// content is damaged is counted and errDamaged returned; the scan can go on.
func (s *scanner) lines(b *block, dec *zstd.Decoder) ([]byte, error) {
	frame, err := s.readFrame(b)
	if err == nil {
		s.content, err = dec.DecodeAll(frame, s.content[:0])
		if err != nil || len(s.content) != int(b.contentBytes) {
			err = errDamaged
		}
	}
	if errors.Is(err, errDamaged) {
		s.damaged += b.end() - b.off
		return nil, errDamaged
	}
	return s.content, err
}

// newDecoder makes a decoder for one goroutine.
func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxContent), zstd.IgnoreChecksum(true))
	if err != nil {
		panic("BUG: zstd options: " + err.Error())
	}
	return d
}
