package events

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
)

// recover finds out what is in the directory and where writing goes on.
//
// Only the last segment can have a torn tail: a segment is synced whole before
// the next one is begun. Damage in it is one of two things. If the block after
// the damage says that everything before it was acked, those bytes were durable
// once and the disk lost them: they stay where they are and are stepped over.
// Otherwise the crash interrupted writes that nobody was promised: the tail is
// moved aside, and the outbox still has its lines.
func (l *Log) recover() error {
	segs, err := listSegments(l.o.FS, l.o.Dir)
	if err != nil {
		return err
	}
	for len(segs) > 0 {
		last := segs[len(segs)-1]
		gone, err := l.recoverLast(last)
		if err != nil {
			return fmt.Errorf("recover segment %s: %w", last.base, err)
		}
		if !gone {
			break
		}
		segs = segs[:len(segs)-1]
	}
	for i, s := range segs {
		if i == len(segs)-1 {
			break // recoverLast knows it already
		}
		if err := loadSummary(l.o.FS, l.o.Dir, s); err != nil {
			return err
		}
	}
	var acked uint64
	for _, s := range segs {
		if s.Store == l.store {
			acked = max(acked, s.Last)
		}
	}
	l.mu.segments = segs
	l.mu.acked, l.mu.seen, l.w.last = acked, acked, acked
	return l.resume()
}

// resume goes on writing the last segment if it has room; otherwise the next
// block begins a new one.
func (l *Log) resume() error {
	n := len(l.mu.segments)
	if n == 0 {
		return nil
	}
	last := *l.mu.segments[n-1]
	if last.sealed || last.Store != l.store || last.Bytes >= l.o.SegmentBytes ||
		l.o.Now().Sub(last.start) >= l.o.SegmentAge {
		last.sealed = true
		l.mu.segments[n-1] = &last
		return nil
	}
	f, err := l.o.FS.OpenWrite(segmentPath(l.o.Dir, last.base))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", last.base, err)
	}
	l.w.seg, l.w.f, l.w.begun = &last, f, last.start
	l.w.off, l.w.synced = last.Bytes, last.Bytes
	return nil
}

// recoverLast reads the last segment, cuts a torn tail and fills in s. gone
// says that nothing of the segment is left.
func (l *Log) recoverLast(s *segment) (gone bool, err error) {
	name := segmentPath(l.o.Dir, s.base)
	f, err := l.o.FS.OpenWrite(name)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	blocks, damaged, err := readBlocks(f, size)
	if err != nil {
		return false, err
	}
	cut := tornAt(blocks, size)
	if cut == size {
		s.damaged = damaged
	}
	for i := range blocks {
		if blocks[i].off < cut {
			s.add(&blocks[i].header, blocks[i].end())
		}
	}
	if cut < size {
		if err := l.moveAside(f, s.base, cut, size); err != nil {
			return false, err
		}
	}
	s.Bytes = cut
	if cut > 0 {
		// The crash may have come between write and fsync, with the pages still
		// in the system's memory. LastSeq is a promise, so make it true.
		return false, f.Sync()
	}
	if err := l.o.FS.Remove(name); err != nil {
		return false, err
	}
	return true, l.o.FS.SyncDir(l.o.Dir)
}

// readBlocks returns every sound block of the file, checksums checked.
func readBlocks(f File, size int64) (blocks []block, damaged int64, err error) {
	sc := scanner{f: f, size: size, verify: true}
	for {
		b, err := sc.next()
		if errors.Is(err, io.EOF) {
			return blocks, sc.damaged, nil
		}
		if err != nil {
			return nil, 0, err
		}
		b.filter = make(filter, len(b.filter)) // only its length matters here
		blocks = append(blocks, b)
	}
}

// tornAt is the offset at which the torn tail begins, or size.
func tornAt(blocks []block, size int64) int64 {
	var acked uint64
	for i := range blocks {
		acked = max(acked, blocks[i].acked)
	}
	end := int64(0)
	for i := range blocks {
		b := &blocks[i]
		if b.off > end && b.prev > acked {
			return end
		}
		end = b.end()
	}
	return end
}

// moveAside copies the tail into a .torn file and cuts it off.
func (l *Log) moveAside(f File, base string, cut, size int64) error {
	name := filepath.Join(l.o.Dir, base+"."+strconv.FormatInt(cut, 10)+tornSuffix)
	t, err := l.o.FS.OpenWrite(name)
	if err != nil {
		return err
	}
	err = copyRange(t, f, cut, size)
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("save torn tail: %w", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return err
	}
	if err := f.Truncate(cut); err != nil {
		return fmt.Errorf("cut torn tail: %w", err)
	}
	l.mu.m.TornTails++
	l.o.Logger.Warn("event log had a torn tail after a crash; its lines come again from the spool",
		"segment", base, "bytes", size-cut, "saved_as", filepath.Base(name))
	return f.Sync()
}

func copyRange(dst io.WriterAt, src io.ReaderAt, from, to int64) error {
	buf := make([]byte, 1<<20)
	for off := from; off < to; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), to-off)]
		if _, err := readFull(src, b, off); err != nil {
			return err
		}
		if _, err := dst.WriteAt(b, off-from); err != nil {
			return err
		}
	}
	return nil
}
