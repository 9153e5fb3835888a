package webhook

import (
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

const (
	// readers is how many blocks are read and unpacked at a time.
	readers = 2
	// shelfBytes bounds the pages that are kept, shelfPages their number.
	shelfBytes = 32 << 20
	shelfPages = 1024
	// maxHints is how many pages a webhook that is behind is told of; after that
	// it reads them all.
	maxHints = 1024
	// readAgain is how long to wait after an error of the log, so that a broken
	// disk is not asked without end.
	readAgain = 30 * time.Second
)

// shelf reads the log for all webhooks. What is new is unpacked and indexed once,
// by watch; a webhook for which there is nothing in it is not even woken. One
// that is behind is told which pages have something for it, and reads those.
//
// The first form gave each webhook a reader and an offset of its own. With 1,000
// of them each block was unpacked 1,000 times, and offsets took 4,000 syncs a
// second of the disk that mail needs.
type shelf struct {
	log    Log
	logger *slog.Logger
	slots  chan Cursor
	roused chan struct{} // capacity 1: there is somebody to read for
	dirty  func()        // some place has moved

	mu struct {
		sync.Mutex
		tail   Place // everyone was shown what is before it
		all    map[*follower]bool
		pages  map[Place]*list.Element // of *page
		used   list.List               // the last used in front
		bytes  int
		broken string // why the log cannot be read
	}
}

// follower is one webhook's place. All fields but wake are under the shelf's
// lock.
type follower struct {
	wake   chan struct{} // capacity 1
	filter *filter
	at     position // up to here everything is dealt with
	// parked says that it stands at the tail and moves with it, open that events
	// it has collected are not dealt with yet: then at stays.
	parked, open bool
	resume       Place // where it goes on after it was woken
	// knows says that hints are all pages after at with something for it, up to
	// full, if that is set, or to the tail.
	knows bool
	hints []hint
	full  *Place
	seen  Place  // the last page it went to; hints know nothing of what is before
	lost  uint64 // numbers that were gone before it read them
	// missed is the number of the page before which some were missing last.
	missed uint64
}

// hint is a page with something in it.
type hint struct {
	at    Place
	first uint64
}

func newShelf(log Log, logger *slog.Logger, dirty func()) *shelf {
	s := &shelf{log: log, logger: logger, dirty: dirty, slots: make(chan Cursor, readers), roused: make(chan struct{}, 1)}
	for range readers {
		s.slots <- log.Cursor()
	}
	s.mu.all, s.mu.pages = map[*follower]bool{}, map[Place]*list.Element{}
	return s
}

// close is called when nobody reads any more.
func (s *shelf) close() {
	for range readers {
		(<-s.slots).Close()
	}
}

// join makes a follower. Without a place it begins now.
func (s *shelf) join(f *filter, at *position) *follower {
	x := &follower{wake: make(chan struct{}, 1), filter: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.all) == 0 {
		s.mu.tail = s.log.End()
	}
	x.at = position{Place: s.mu.tail}
	if at != nil {
		x.at = *at
	}
	s.mu.all[x] = true
	select {
	case s.roused <- struct{}{}:
	default:
	}
	return x
}

func (s *shelf) leave(f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.all, f)
}

// refilter changes what a follower wants, from where it stands.
func (s *shelf) refilter(x *follower, f *filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(x.filter, f) {
		return // what it was told of is still all
	}
	x.filter = f
	if !x.parked {
		x.knows, x.hints, x.full = false, nil, nil
	}
}

// settle says that all before a position is dealt with.
func (s *shelf) settle(x *follower, at position) {
	s.mu.Lock()
	x.at, x.open = at, false
	s.mu.Unlock()
	s.dirty()
}

// stands is up to where everything is dealt with, and what was lost.
func (s *shelf) stands(x *follower) (at position, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standsLocked(x), x.lost
}

func (s *shelf) standsLocked(x *follower) position {
	if x.parked && !x.open {
		return position{Place: s.mu.tail}
	}
	return x.at
}

// broken is why the log cannot be read, "" if it can.
func (s *shelf) broken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.broken
}

// watch reads what is new, for all.
func (s *shelf) watch(ctx context.Context) {
	for ctx.Err() == nil {
		changed := s.log.Changed()
		s.mu.Lock()
		tail, wanted := s.mu.tail, len(s.mu.all) > 0
		s.mu.Unlock()
		if !wanted {
			select {
			case <-s.roused:
			case <-ctx.Done():
			}
			continue
		}
		p, err := s.page(ctx, tail)
		if err == nil {
			s.show(p)
			continue
		}
		again := (<-chan time.Time)(nil)
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			t := time.NewTimer(readAgain)
			again, changed = t.C, nil
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// show tells everyone of a new page.
func (s *shelf) show(p *page) {
	s.mu.Lock()
	if p.at != s.mu.tail { // all had left, and somebody came
		s.mu.Unlock()
		return
	}
	gap := p.gap()
	for x := range s.mu.all {
		if x.parked || x.knows {
			x.lost += gap
		}
		if (x.parked || x.knows) && p.concerns(x.filter) {
			s.noteLocked(x, p)
		}
	}
	s.mu.tail = p.End
	s.mu.Unlock()
	s.dirty()
	if gap > 0 {
		s.logger.Error("the event log lacks numbers that webhooks have not had", "numbers", gap, "before", p.First)
	}
	if len(p.bad) > 0 {
		s.logger.Error("webhooks leave lines of the event log out that are not JSON", "block", p.First, "lines", len(p.bad))
	}
}

// noteLocked wakes a parked follower, or notes the page for one that is behind.
func (s *shelf) noteLocked(x *follower, p *page) {
	h := hint{p.at, p.First}
	if x.parked {
		x.parked, x.resume, x.hints = false, p.at, append(x.hints[:0], h)
		if !x.open {
			x.at = position{Place: p.at}
		}
		select {
		case x.wake <- struct{}{}:
		default: // there is room: a parked one has taken what was in it
		}
		return
	}
	switch {
	case x.full != nil:
	case len(x.hints) >= maxHints:
		x.full = &h.at
	default:
		x.hints = append(x.hints, h)
	}
}

// gap is how many numbers are missing before the page.
func (p *page) gap() uint64 { return p.Prev - min(p.at.Seq, p.Prev) }

// next is the next page after a place with something for a follower. It waits
// for one until ctx ends; the place is then where the follower stands. open says
// that it has collected events.
func (s *shelf) next(ctx context.Context, x *follower, at Place, open bool) (*page, Place, error) {
	for {
		to, want, park := s.step(x, at, open)
		if park {
			select {
			case <-x.wake:
			case <-ctx.Done():
			}
			if at = s.unpark(x); ctx.Err() != nil {
				return nil, at, ctx.Err()
			}
			continue
		}
		if ctx.Err() != nil {
			return nil, at, ctx.Err()
		}
		p, err := s.page(ctx, to)
		if errors.Is(err, io.EOF) {
			at = s.leap(x, to)
			continue
		}
		if err != nil {
			return nil, at, err
		}
		s.missed(x, p, want)
		return p, to, nil
	}
}

// step decides where a follower goes from a place. want is the first number of
// the page that is expected there, 0 where it is not known.
func (s *shelf) step(x *follower, at Place, open bool) (to Place, want uint64, park bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.open = open
	switch {
	case !at.before(s.mu.tail):
		x.knows, x.hints, x.full = true, nil, nil
	case at.before(x.seen): // back, to the second half of a batch
		x.knows, x.hints, x.full = false, nil, nil
	}
	defer func() { x.seen = to }()
	if !x.knows {
		return at, 0, false
	}
	n := 0
	for n < len(x.hints) && x.hints[n].at.before(at) {
		n++
	}
	x.hints = x.hints[n:]
	if len(x.hints) > 0 {
		return x.hints[0].at, x.hints[0].first, false
	}
	if x.full != nil { // what came after is not known page by page
		to = *x.full
		x.knows, x.hints, x.full = false, nil, nil
		if to.before(at) {
			to = at
		}
		return to, 0, false
	}
	x.parked = true
	return at, 0, true
}

// unpark ends waiting, whoever ended it.
func (s *shelf) unpark(x *follower) Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-x.wake: // both came at once
	default:
	}
	if !x.parked {
		return x.resume
	}
	x.parked = false
	if !x.open {
		x.at = position{Place: s.mu.tail}
	}
	return s.mu.tail
}

// leap goes to the tail from a place after which there is nothing although the
// log goes on: the log was removed, or what is after it.
func (s *shelf) leap(x *follower, at Place) Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.lost += s.mu.tail.Seq - min(at.Seq, s.mu.tail.Seq)
	x.knows, x.hints, x.full = true, nil, nil
	return s.mu.tail
}

// missed counts what is not there any more, once: a page can be gone to again.
// Gaps before a page that hints know were counted when it was shown.
func (s *shelf) missed(x *follower, p *page, want uint64) {
	gap := p.gap()
	if want == p.First || gap == 0 {
		return
	}
	s.mu.Lock()
	again := x.missed == p.First
	if !again {
		x.missed = p.First
		x.lost += gap
	}
	s.mu.Unlock()
	if !again {
		s.logger.Error("the event log was trimmed before a webhook had read it", "numbers", gap, "before", p.First)
	}
}

// page is the first page after a place: io.EOF when there is none.
func (s *shelf) page(ctx context.Context, at Place) (*page, error) {
	if p := s.kept(at); p != nil {
		return p, nil
	}
	var c Cursor
	select {
	case c = <-s.slots:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { s.slots <- c }()
	if p := s.kept(at); p != nil { // somebody else has read it meanwhile
		return p, nil
	}
	b, err := c.Read(at)
	s.verdict(err)
	if err != nil {
		return nil, err
	}
	p := newPage(at, b)
	s.keep(p)
	return p, nil
}

// verdict notes whether the log can be read.
func (s *shelf) verdict(err error) {
	text := ""
	if err != nil && !errors.Is(err, io.EOF) {
		text = err.Error()
	}
	s.mu.Lock()
	was := s.mu.broken
	s.mu.broken = text
	s.mu.Unlock()
	if was == "" && text != "" {
		s.logger.Error("webhooks cannot read the event log", "error", err)
	}
}

func (s *shelf) kept(at Place) *page {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.mu.pages[at]
	if e == nil {
		return nil
	}
	s.mu.used.MoveToFront(e)
	return e.Value.(*page)
}

func (s *shelf) keep(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.pages[p.at] != nil {
		return
	}
	s.mu.pages[p.at] = s.mu.used.PushFront(p)
	s.mu.bytes += p.size()
	for s.mu.used.Len() > 1 && (s.mu.bytes > shelfBytes || s.mu.used.Len() > shelfPages) {
		e := s.mu.used.Back()
		old := s.mu.used.Remove(e).(*page)
		delete(s.mu.pages, old.at)
		s.mu.bytes -= old.size()
	}
}

// again is the page of a part that was collected before.
func (s *shelf) again(ctx context.Context, x *part) (*page, error) {
	p, err := s.page(ctx, x.at)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errTrimmed
	case err != nil:
		return nil, err
	case p.First != x.block:
		return nil, errTrimmed
	}
	return p, nil
}
