package webhook

import (
	"bytes"
	"context"
)

// feed gives out the lines of the log with their places.
type feed struct {
	reader Reader
	block  Block  // the one being given out
	rest   []byte // of its lines
	line   int    // number of the next line
	// skip is what was dealt with before the last orderly stop.
	skip   place
	passed func() error // commits the blocks before this one; nil: done or none
	head   uint64       // last number of the blocks that were given out whole
}

// next is the next line, valid until the call after it. It waits for one until
// ctx ends.
func (f *feed) next(ctx context.Context) ([]byte, place, error) {
	for {
		line, rest, _ := bytes.Cut(f.rest, []byte{'\n'})
		if len(f.rest) > 0 {
			at := place{f.block.First, f.line}
			f.rest, f.line = rest, f.line+1
			if len(line) == 0 {
				continue
			}
			return line, at, nil
		}
		if err := f.turn(ctx); err != nil {
			return nil, place{}, err
		}
	}
}

// turn goes to the next block. The one before was given out whole.
func (f *feed) turn(ctx context.Context) error {
	b, err := f.reader.Next(ctx)
	if err != nil {
		return err
	}
	if f.block.Commit != nil {
		f.passed, f.head = f.block.Commit, f.block.Last
	}
	f.block, f.rest, f.line = b, b.Lines, 0
	for f.skip.block == b.First && f.line < f.skip.line && len(f.rest) > 0 {
		_, f.rest, _ = bytes.Cut(f.rest, []byte{'\n'})
		f.line++
	}
	return nil
}

// mark is where the feed stands: what to commit (nil where that is done), and
// how far into the block after that.
func (f *feed) mark() (commit func() error, rest place) {
	commit, f.passed = f.passed, nil
	if len(f.rest) > 0 {
		return commit, place{f.block.First, f.line}
	}
	if f.block.Commit != nil {
		commit, f.head = f.block.Commit, f.block.Last
		f.block.Commit = nil
	}
	return commit, place{}
}
