package events

import (
	"errors"
	"fmt"
	"time"
)

// writer is the state of the flusher: the only one that touches the active
// segment.
type writer struct {
	enc    *encoder
	seg    *segment // nil until the next block is written
	f      File
	off    int64 // where the next block goes
	synced int64 // durable length
	begun  time.Time

	last     uint64 // last number written, durable or not
	unsynced uint64 // last number written when it is not durable, else 0
	todo     batch  // taken from the buffer, not yet written
	done     int    // marks of todo that are written
	out      []byte
	broken   bool // a sync failed: the file must be cut back before anything else
	err      error
	swept    time.Time // last look for segments to remove
}

func (w *writer) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}

// refillBytes bounds what is read from the outbox at once.
const refillBytes = 4 << 20

// run is the flusher. It writes when a block's worth has collected, and syncs
// at every tick if there is something to sync.
func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(l.o.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
			if l.w.err == nil { // a failing disk is tried again at ticks only
				l.cycle(false)
			}
		case <-l.urge:
			if l.w.err == nil {
				l.cycle(true)
			}
		case <-tick.C:
			l.cycle(true)
		case <-l.stop:
			l.cycle(true)
			return
		}
	}
}

// cycle does what there is to do; an error is kept, counted, and tried again
// at the next tick.
func (l *Log) cycle(sync bool) {
	err := l.repair()
	if err == nil {
		err = l.drain()
	}
	if err == nil {
		err = l.catchUp()
	}
	if sync {
		// What was written is worth syncing even if writing more failed.
		err = errors.Join(err, l.sync())
		err = errors.Join(err, l.rotate(), l.sweep())
	}
	l.note(err)
}

func (l *Log) note(err error) {
	if err != nil && (l.w.err == nil || l.w.err.Error() != err.Error()) {
		l.o.Logger.Error("event log cannot be written; events wait in the spool", "error", err)
	}
	if err == nil && l.w.err != nil {
		l.o.Logger.Info("event log can be written again")
	}
	l.w.err = err
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.m.LastError = ""
	if err != nil {
		l.mu.m.Errors++
		l.mu.m.LastError = err.Error()
	}
}

// drain writes what Write has collected.
func (l *Log) drain() error {
	w := &l.w
	for {
		if w.done == len(w.todo.marks) {
			w.todo.reset()
			w.done = 0
			l.mu.Lock()
			w.todo, l.mu.fill = l.mu.fill, w.todo
			l.mu.Unlock()
			if len(w.todo.marks) == 0 {
				return nil
			}
		}
		if err := l.writeTodo(); err != nil {
			return err
		}
	}
}

// writeTodo writes the rest of w.todo in blocks of about BlockBytes. What is
// written is marked done, so a failed call is simply repeated.
func (l *Log) writeTodo() error {
	w := &l.w
	for w.done < len(w.todo.marks) {
		from := 0
		if w.done > 0 {
			from = w.todo.marks[w.done-1].end
		}
		i := w.done + 1
		for i < len(w.todo.marks) && w.todo.marks[i].end-from <= l.o.BlockBytes {
			i++
		}
		first, last := w.todo.marks[w.done], w.todo.marks[i-1]
		if err := l.writeBlock(first.seq, last.seq, w.todo.lines[from:last.end]); err != nil {
			return err
		}
		w.done = i
	}
	return nil
}

// catchUp reads the outbox while the log lags. It never goes beyond what Write
// was told of: the outbox may show a commit before it is durable.
func (l *Log) catchUp() error {
	for {
		l.mu.Lock()
		lagging, seen, buffered := l.mu.lagging, l.mu.seen, len(l.mu.fill.marks) > 0
		l.mu.Unlock()
		if !lagging {
			return nil
		}
		if buffered { // taken before the log began to lag: older than what the outbox is asked for
			if err := l.drain(); err != nil {
				return err
			}
			continue
		}
		complete, err := l.refill(seen)
		if err != nil {
			return err
		}
		select {
		case <-l.stop: // the rest stays in the outbox
			return nil
		default:
		}
		if complete {
			err = l.bridge()
		} else {
			// A long way to go: let readers and the spool's trimming follow.
			err = errors.Join(l.sync(), l.rotate())
		}
		if err != nil {
			return err
		}
	}
}

// bridge ends the lagging. Under a steady load there is always a number that
// came while the last ones were being read, so to wait for none would be to lag
// for ever: new writes go to the buffer again, and only the gap before them is
// read from the outbox.
func (l *Log) bridge() error {
	l.mu.Lock()
	l.mu.lagging = false
	gap := l.mu.seen
	l.mu.Unlock()
	for complete := false; !complete; {
		var err error
		if complete, err = l.refill(gap); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.mu.fill.reset() // it stands behind the gap; the outbox has it too
			l.mu.lagging = true
			return err
		}
	}
	l.w.last = max(l.w.last, gap)
	return nil
}

// refill reads numbers after the last written one, up to seen, from the outbox
// and writes them. complete says that there was no more than fits a batch.
func (l *Log) refill(seen uint64) (complete bool, err error) {
	complete, err = l.readOutbox(seen)
	if err != nil {
		return false, err
	}
	refilled := l.w.todo.records()
	if err := l.writeTodo(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.m.Refilled += refilled
	return complete, nil
}

// errFull ends a read of the outbox that has brought enough.
var errFull = errors.New("enough read")

// readOutbox reads a batch into w.todo.
func (l *Log) readOutbox(seen uint64) (complete bool, err error) {
	w := &l.w
	w.todo.reset()
	w.done = 0
	err = l.o.Refill(w.last, func(seq uint64, lines []byte) error {
		if seq <= w.last {
			return nil
		}
		if seq > seen || len(w.todo.lines) >= refillBytes {
			return errFull
		}
		w.todo.add(seq, lines)
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		w.todo.reset() // read it again rather than write half of it
		return false, fmt.Errorf("read the outbox: %w", err)
	}
	return err == nil || len(w.todo.lines) < refillBytes, nil
}

func (b *batch) records() uint64 {
	n := uint64(0)
	for _, c := range b.lines {
		if c == '\n' {
			n++
		}
	}
	return n
}

// writeBlock appends one block at the active segment's end. Nothing changes
// when it fails: the next try writes over the same place.
func (l *Log) writeBlock(first, last uint64, lines []byte) error {
	w := &l.w
	now := l.o.Now()
	if w.f == nil {
		if err := l.newSegment(first, now); err != nil {
			return err
		}
	}
	l.mu.Lock()
	acked := l.mu.acked
	l.mu.Unlock()
	h := header{store: l.store, first: first, last: last, prev: w.last, acked: acked}
	w.out = w.enc.append(w.out[:0], &h, lines, now)
	if _, err := w.f.WriteAt(w.out, w.off); err != nil {
		return fmt.Errorf("write segment %s: %w", w.seg.base, err)
	}
	size := len(w.out)
	w.off += int64(size)
	w.last, w.unsynced = last, last
	w.seg.add(&h, w.off)
	if cap(w.out) > 4*l.o.BlockBytes {
		w.out = nil // one huge submission must not keep its memory for ever
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.m.Blocks++
	l.mu.m.Records += uint64(h.records)
	l.mu.m.ContentBytes += uint64(h.contentBytes)
	l.mu.m.FileBytes += uint64(size)
	return nil
}

// newSegment begins a segment. Its file and its name are durable before the
// first block is acked, because sync is called after.
func (l *Log) newSegment(first uint64, now time.Time) error {
	w := &l.w
	start := now.UTC().Truncate(time.Microsecond)
	l.mu.Lock()
	if n := len(l.mu.segments); n > 0 && !start.After(l.mu.segments[n-1].start) {
		start = l.mu.segments[n-1].start.Add(time.Microsecond)
	}
	l.mu.Unlock()
	s := &segment{base: segmentBase(start, first), start: start, summary: summary{Store: l.store, First: first}}
	f, err := l.o.FS.OpenWrite(segmentPath(l.o.Dir, s.base))
	if err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return errors.Join(fmt.Errorf("begin segment: %w", err), f.Close())
	}
	w.seg, w.f, w.off, w.synced, w.begun = s, f, 0, 0, now
	return nil
}

// sync makes what was written durable, shows it to readers and acks it.
func (l *Log) sync() error {
	w := &l.w
	if w.broken {
		return nil // repair first
	}
	seq := w.unsynced
	if seq == 0 {
		l.ackIdle()
		return nil
	}
	if !l.o.UnsafeNoSync {
		began := time.Now()
		err := w.f.Sync()
		l.countSync(time.Since(began))
		if err != nil {
			// After a failed fsync the kernel may have dropped the pages, and
			// the next fsync may say all is well. Cut back to what is known.
			w.broken = true
			return fmt.Errorf("sync segment %s: %w", w.seg.base, err)
		}
	}
	w.synced, w.unsynced = w.off, 0
	l.publish(seq)
	return nil
}

// ackIdle moves the ack over numbers that turned out to have no lines left to
// write (the outbox had nothing more after them).
func (l *Log) ackIdle() {
	l.mu.Lock()
	behind := l.mu.acked < l.w.last
	l.mu.Unlock()
	if behind {
		l.publish(l.w.last)
	}
}

// publish lets readers see the active segment up to its durable length and
// tells the spool. Segment values are replaced, so that a reader's snapshot
// stays as it was.
func (l *Log) publish(seq uint64) {
	l.mu.Lock()
	if l.w.seg != nil {
		s := *l.w.seg
		n := len(l.mu.segments)
		if n > 0 && l.mu.segments[n-1].base == s.base {
			l.mu.segments[n-1] = &s
		} else {
			l.mu.segments = append(l.mu.segments, &s)
		}
	}
	l.mu.acked = max(l.mu.acked, seq)
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
	l.mu.Unlock()
	if l.o.Acked != nil {
		l.o.Acked(seq)
	}
}

func (l *Log) countSync(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.m.Syncs++
	l.mu.m.SyncTime += d
	l.mu.m.SyncMax = max(l.mu.m.SyncMax, d)
}

// repair cuts the active segment back to its durable length after a failed
// sync. What was beyond is read again from the outbox, which still has it.
func (l *Log) repair() error {
	w := &l.w
	if !w.broken {
		return nil
	}
	err := w.f.Truncate(w.synced)
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("cut segment %s back after a failed sync: %w", w.seg.base, err)
	}
	w.broken, w.unsynced, w.off = false, 0, w.synced
	w.todo.reset()
	w.done = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	w.last = l.mu.acked
	l.mu.fill.reset()
	l.mu.lagging = true
	l.mu.m.Lags++
	w.seg = l.durableSegmentLocked()
	return nil
}

// durableSegmentLocked is the active segment as readers know it, as the base
// for writing on.
func (l *Log) durableSegmentLocked() *segment {
	s := *l.w.seg
	n := len(l.mu.segments)
	if n > 0 && l.mu.segments[n-1].base == s.base {
		s = *l.mu.segments[n-1]
	} else {
		s.summary = summary{Store: l.store, First: s.First}
	}
	return &s
}

// rotate seals the active segment when it is large or old enough. All of it is
// durable: sync came before.
func (l *Log) rotate() error {
	w := &l.w
	if w.f == nil || w.broken || w.unsynced != 0 || w.off == 0 {
		return nil
	}
	if w.off < l.o.SegmentBytes && l.o.Now().Sub(w.begun) < l.o.SegmentAge {
		return nil
	}
	// The sidecar only saves time; without it the headers are read.
	err := storeSummary(l.o.FS, l.o.Dir, w.seg)
	err = errors.Join(err, w.close())
	w.seg.sealed = true
	seg := *w.seg
	w.seg = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.segments[len(l.mu.segments)-1] = &seg
	if err != nil {
		return fmt.Errorf("seal segment %s: %w", seg.base, err)
	}
	return nil
}
