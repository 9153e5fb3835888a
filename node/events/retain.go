package events

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// sweepInterval is how often the log looks for segments to remove.
const sweepInterval = time.Minute

// sweep removes the oldest sealed segments that are past the retention by age
// or by bytes. A segment that a consumer has yet to read stays, until all
// segments together pass HardBytes: a consumer that stands still must not fill
// the disk that mail needs. What it loses is counted when it comes back.
func (l *Log) sweep() error {
	now := l.o.Now()
	if now.Sub(l.w.swept) < sweepInterval {
		return nil
	}
	l.w.swept = now
	for {
		s := l.expendable(now)
		if s == nil {
			return nil
		}
		if err := l.removeSegment(s); err != nil {
			return fmt.Errorf("remove segment %s: %w", s.base, err)
		}
	}
}

// expendable is the oldest segment if it may go, else nil.
func (l *Log) expendable(now time.Time) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.segments) == 0 || !l.mu.segments[0].sealed {
		return nil
	}
	total := int64(0)
	for _, s := range l.mu.segments {
		total += s.Bytes
	}
	oldest := l.mu.segments[0]
	if total > l.o.HardBytes {
		return oldest
	}
	// A segment is as old as its last event, so that nothing goes early.
	old := now.Sub(time.UnixMicro(max(oldest.To, oldest.start.UnixMicro()))) >= l.o.Retention
	if !old && total <= l.o.RetentionBytes {
		return nil
	}
	for _, c := range l.mu.consumers {
		if c.offset.Segment <= oldest.base && !(c.offset.Segment == oldest.base && c.offset.Position >= oldest.Bytes) {
			return nil
		}
	}
	return oldest
}

// removeSegment takes the segment from the readers' list first: a search that
// has it open reads on, the next does not see it.
func (l *Log) removeSegment(s *segment) error {
	l.mu.Lock()
	l.mu.segments = append([]*segment(nil), l.mu.segments[1:]...)
	l.mu.m.RemovedBytes += s.Bytes
	l.mu.Unlock()
	err := l.o.FS.Remove(segmentPath(l.o.Dir, s.base))
	index := filepath.Join(l.o.Dir, s.base+indexSuffix)
	if _, statErr := readFile(l.o.FS, index, 4096); statErr == nil {
		err = errors.Join(err, l.o.FS.Remove(index))
	}
	return errors.Join(err, l.o.FS.SyncDir(l.o.Dir))
}
