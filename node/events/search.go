package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"hikyaku/spool/message"
)

// Found says what a search looked at.
type Found struct {
	Matches       int   `json:"matches"`
	Segments      int   `json:"segments"`       // opened
	Blocks        int   `json:"blocks"`         // decompressed
	BlocksSkipped int   `json:"blocks_skipped"` // passed by time or id
	ContentBytes  int64 `json:"json_bytes"`     // decompressed
	DamagedBytes  int64 `json:"damaged_bytes"`  // stepped over
	Limited       bool  `json:"limited"`        // ended by the limit; there may be more
}

// errLimit ends a search that has found enough.
var errLimit = errors.New("limit reached")

// search is one pass over the log. Its place can be kept to go on later.
type search struct {
	files FS
	dir   string
	m     *matcher
	fn    func(*message.EventRecord, []byte) error
	at    offset // blocks before it are done
	found Found
}

// Search calls fn with every durable line that q picks, oldest first. rec and
// line are valid until fn returns; an error of fn ends the search and is
// returned.
func (l *Log) Search(ctx context.Context, q Query, fn func(rec *message.EventRecord, line []byte) error) (Found, error) {
	m, err := newMatcher(q)
	if err != nil {
		return Found{}, err
	}
	s := &search{files: l.o.FS, dir: l.o.Dir, m: m, fn: fn}
	err = s.segments(ctx, l.snapshot())
	return s.result(err)
}

// SearchDir is Search over a directory that no process writes, or a copy of
// one. Nothing in it is changed. A torn tail counts as damage.
func SearchDir(ctx context.Context, dir string, q Query, fn func(rec *message.EventRecord, line []byte) error) (Found, error) {
	m, err := newMatcher(q)
	if err != nil {
		return Found{}, err
	}
	files := osFS{}
	segs, err := listSegments(files, dir)
	if err != nil {
		return Found{}, err
	}
	if len(segs) == 0 {
		return Found{}, fmt.Errorf("no event log segments (*%s) in %s", segmentSuffix, dir)
	}
	for _, s := range segs {
		if err := loadSummary(files, dir, s); err != nil {
			return Found{}, err
		}
	}
	s := &search{files: files, dir: dir, m: m, fn: fn}
	err = s.segments(ctx, segs)
	return s.result(err)
}

// Tail calls fn with matching lines as they become durable, until ctx ends or
// fn returns an error. With q.Since it begins there, otherwise now.
func (l *Log) Tail(ctx context.Context, q Query, fn func(rec *message.EventRecord, line []byte) error) (Found, error) {
	m, err := newMatcher(q)
	if err != nil {
		return Found{}, err
	}
	s := &search{files: l.o.FS, dir: l.o.Dir, m: m, fn: fn}
	if q.Since.IsZero() {
		l.mu.Lock()
		s.at = l.startLocked(FromNow)
		l.mu.Unlock()
	}
	for {
		l.mu.Lock()
		changed := l.mu.changed
		l.mu.Unlock()
		if err := s.segments(ctx, l.snapshot()); err != nil {
			return s.result(err)
		}
		select {
		case <-changed:
		case <-l.done:
			return s.result(ErrClosed)
		case <-ctx.Done():
			return s.result(ctx.Err())
		}
	}
}

func (l *Log) snapshot() []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*segment(nil), l.mu.segments...)
}

func (s *search) result(err error) (Found, error) {
	if errors.Is(err, errLimit) {
		s.found.Limited, err = true, nil
	}
	return s.found, err
}

// segments goes through what lies after s.at.
func (s *search) segments(ctx context.Context, segs []*segment) error {
	for _, g := range segs {
		if g.base < s.at.Segment {
			continue
		}
		from := int64(0)
		if g.base == s.at.Segment {
			from = s.at.Position
		}
		if from >= g.Bytes || !s.m.wantsSegment(&g.summary) {
			continue
		}
		if err := s.segment(ctx, g, from); err != nil {
			return err
		}
		s.at = offset{Segment: g.base, Position: g.Bytes}
	}
	return nil
}

func (s *search) segment(ctx context.Context, g *segment, from int64) error {
	f, err := s.files.Open(segmentPath(s.dir, g.base))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // retention took it meanwhile
	}
	if err != nil {
		return fmt.Errorf("open segment %s: %w", g.base, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("size of segment %s: %w", g.base, err)
	}
	dec := newDecoder()
	defer dec.Close()
	sc := scanner{f: f, off: from, size: min(size, g.Bytes)}
	defer func() { s.found.DamagedBytes += sc.damaged }()
	s.found.Segments++
	for ctx.Err() == nil {
		b, err := sc.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", g.base, err)
		}
		if !s.m.wantsBlock(&b.header) {
			s.found.BlocksSkipped++
			continue
		}
		lines, err := sc.lines(&b, dec)
		if errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", g.base, err)
		}
		s.found.Blocks++
		s.found.ContentBytes += int64(len(lines))
		if err := s.m.each(lines, s.match); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *search) match(rec *message.EventRecord, line []byte) error {
	if err := s.fn(rec, line); err != nil {
		return err
	}
	s.found.Matches++
	if s.m.q.Limit > 0 && s.found.Matches >= s.m.q.Limit {
		return errLimit
	}
	return nil
}
