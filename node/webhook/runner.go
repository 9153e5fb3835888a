package webhook

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// goneText is the error of a webhook that is off by its endpoint's word.
const goneText = "HTTP 410: the endpoint is gone; change the webhook to begin again"

// errGone ends a runner.
var errGone = errors.New(goneText)

// runner posts the events of one webhook. One goroutine runs it, from start to
// close; mu is for those who look.
type runner struct {
	h       *Hooks
	name    string
	log     *slog.Logger
	place   *follower
	at      position // the goroutine's own, as are the next ones
	sender  *sender
	filter  *filter
	failing time.Time // when the run of failures began
	slow    bool      // the last request took long
	most    int       // events of a batch; less after 413
	told    time.Time // when the log last heard of events given up

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	changed chan struct{} // capacity 1

	mu struct {
		sync.Mutex
		w      *policy.Webhook
		rec    record
		done   bool      // ended by itself
		oldest time.Time // of the batch that waits; zero: none does
		status Status
		counts Counts
	}
}

func newRunner(h *Hooks, name string, w *policy.Webhook, rec *record) *runner {
	r := &runner{h: h, name: name, log: h.o.Logger.With("webhook", name), changed: make(chan struct{}, 1)}
	r.place = h.shelf.join(newFilter(w), rec.At)
	r.at, _ = h.shelf.stands(r.place)
	r.mu.w, r.mu.rec = w, *rec
	r.ctx, r.stop = context.WithCancel(h.root)
	return r
}

// start begins; close ends and waits.
func (r *runner) start() { r.running.Go(r.run) }

func (r *runner) close() {
	r.stop()
	r.running.Wait()
}

func (r *runner) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.done
}

// record is what is to be kept of it.
func (r *runner) record() *record {
	at, _ := r.h.shelf.stands(r.place)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.mu.rec
	rec.At = &at
	if r.mu.done { // it holds nothing on disk any more
		rec.At = nil
	}
	return &rec
}

// change takes new settings, from the next event on.
func (r *runner) change(w *policy.Webhook) {
	r.mu.Lock()
	same := r.mu.w == w || fingerprint(r.mu.w) == fingerprint(w)
	if !same {
		r.mu.w = w
	}
	r.mu.Unlock()
	if same {
		return
	}
	r.h.shelf.refilter(r.place, newFilter(w))
	select {
	case r.changed <- struct{}{}:
	default: // it is about to look
	}
}

// settings are those in force; the sender is made anew when they changed.
func (r *runner) settings() *policy.Webhook {
	r.mu.Lock()
	w := r.mu.w
	r.mu.Unlock()
	if r.sender == nil || r.sender.w != w {
		if r.sender != nil {
			r.sender.close()
		}
		r.sender, r.filter, r.most = newSender(r.h, r.name, w), newFilter(w), math.MaxInt
	}
	return w
}

func (r *runner) run() {
	defer func() {
		if r.sender != nil {
			r.sender.close()
		}
	}()
	for r.ctx.Err() == nil {
		b, err := r.collect()
		if err != nil {
			_ = r.pause(readAgain) // the shelf has told; the context is asked above
			continue
		}
		err = r.deliver(b)
		if errors.Is(err, errGone) {
			r.finish()
			return
		}
		if err != nil {
			return // stopped with the batch undecided: its place was not passed
		}
	}
}

// collect fills a batch: until it is full, or MaxWait after its first event.
func (r *runner) collect() (*batch, error) {
	b := &batch{}
	at := r.at
	ctx, due := context.WithCancel(r.ctx)
	defer due()
	for {
		p, to, err := r.h.shelf.next(ctx, r.place, at.Place, b.events > 0)
		if r.ctx.Err() != nil {
			return nil, r.ctx.Err()
		}
		if to != at.Place { // what is between is nothing to it
			at = position{Place: to}
			if b.events == 0 {
				r.at = at
			}
		}
		if err != nil {
			b.end = at
			if b.events > 0 { // due, or the log cannot be read: that comes again
				return b, nil
			}
			return nil, err
		}
		if at.Block != p.First {
			at.Line = 0
		}
		w := r.settings()
		before := b.events
		if r.take(b, p, at.Line, min(max(w.MaxBatch, 1), r.most)) {
			return b, nil
		}
		if before == 0 && b.events > 0 {
			defer time.AfterFunc(w.MaxWait.Or(policy.DefaultMaxWait), due).Stop() // once
		}
		at = position{Place: p.End}
		if b.events == 0 {
			r.at = at
			r.h.shelf.settle(r.place, at)
		}
	}
}

// take adds the lines of a page that are wanted. It reports whether the batch is
// full; its end is then in this page.
func (r *runner) take(b *batch, p *page, from, most int) bool {
	bad := 0
	for _, n := range p.bad {
		if int(n) >= from {
			bad++
		}
	}
	full := false
	for _, n := range p.candidates(r.filter) {
		if int(n) < from || !r.filter.wants(&p.lines[n]) {
			continue
		}
		if !p.valid(n) {
			bad++
			r.log.Error("webhook leaves an event out: the line is not JSON", "block", p.First, "line", n)
			continue
		}
		if !b.fits(p.text(n)) {
			b.end, full = p.position(int(n)), true
			break
		}
		b.add(p, n)
		if b.events >= most {
			b.end, full = p.after(n), true
			break
		}
	}
	if full {
		for _, n := range p.bad { // these are counted when the rest is read
			if b.end.Place == p.at && int(n) >= max(from, b.end.Line) {
				bad--
			}
		}
	}
	if bad > 0 {
		r.mu.Lock()
		r.mu.counts.Unreadable += uint64(bad)
		r.mu.Unlock()
	}
	return full
}

// deliver tries a batch until it is taken or given up. The error is the
// context's, or errGone.
func (r *runner) deliver(b *batch) error {
	r.mu.Lock()
	r.mu.oldest = b.oldest
	r.mu.Unlock()
	tried := time.Time{}
	for {
		w := r.settings()
		now := time.Now()
		if r.expired(b, w, tried, now) {
			r.giveUp(b, now)
			r.decided(b)
			return nil
		}
		if wait := r.h.breakers.begin(w.URL, r.name, now); wait > 0 {
			if err := r.waitFor(now, wait); err != nil {
				return err
			}
			continue
		}
		if tried.IsZero() {
			tried = now
		}
		a, err := r.post(b)
		if err != nil {
			r.h.breakers.abandon(w.URL, r.name)
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			if errors.Is(err, errTrimmed) {
				r.decided(b)
				return nil
			}
			_ = r.pause(readAgain) // the log cannot be read; the shelf has told
			continue
		}
		now = time.Now()
		if a.status == http.StatusRequestEntityTooLarge && b.events > 1 {
			r.h.breakers.abandon(w.URL, r.name)
			r.count(func(c *Counts) { c.Failures++ })
			b = b.half() // the rest is read again from where this one ends
			r.most = b.events
			continue
		}
		wait := r.h.breakers.end(w.URL, r.name, a.err == nil, a.retryAfter, now)
		switch {
		case a.err == nil:
			r.taken(b, now)
			r.decided(b)
			return nil
		case a.status == http.StatusGone:
			r.note(a.err, now, time.Time{})
			return errGone
		}
		r.note(a.err, now, now.Add(wait))
		if err := r.waitFor(now, wait); err != nil {
			return err
		}
	}
}

// decided says that a batch is dealt with.
func (r *runner) decided(b *batch) {
	r.at = b.end
	r.h.shelf.settle(r.place, b.end)
	r.mu.Lock()
	r.mu.oldest = time.Time{}
	r.mu.Unlock()
}

// errTrimmed is a batch of which retention has left nothing.
var errTrimmed = errors.New("the event log was trimmed")

// post sends a batch once. The error is that it could not be read.
func (r *runner) post(b *batch) (answer, error) {
	leave, err := r.h.lanes.enter(r.ctx, r.slow || !r.failing.IsZero())
	if err != nil {
		return answer{}, err
	}
	defer leave()
	id := b.id(r.name, r.h.o.Store)
	body, err := r.body(id, b)
	if err == nil {
		err = r.ctx.Err() // a lane may have been free all the same
	}
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := r.requestContext()
	defer cancel()
	a := r.sender.post(ctx, id, body)
	r.h.lanes.used(r.sender)
	r.slow = a.took > slowAfter
	if a.err == nil {
		return a, nil // taken, whatever has ended meanwhile
	}
	return a, r.ctx.Err()
}

// requestContext outlives the runner for a while when all webhooks end: the answer
// to what has been sent is worth waiting for, or the next start sends it again.
func (r *runner) requestContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	stop := context.AfterFunc(r.ctx, func() {
		if r.h.root.Err() == nil { // this one ends, by an order that waits for it
			cancel()
			return
		}
		late := time.NewTimer(closeWithin)
		defer late.Stop()
		select {
		case <-late.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		stop()
		cancel()
	}
}

// body reads the events of a batch. Those that retention took meanwhile are
// counted as lost.
func (r *runner) body(id string, b *batch) ([]byte, error) {
	head := envelope(id, r.name, r.h.o.Node)
	out := make([]byte, 0, len(head)+b.bytes+eventExtra)
	out = append(out, head...)
	events, lost := 0, 0
	var there []part
	for _, x := range b.parts {
		p, err := r.h.shelf.again(r.ctx, &x)
		if errors.Is(err, errTrimmed) {
			lost += len(x.lines)
			continue
		}
		if err != nil {
			return nil, err
		}
		there = append(there, x)
		for _, n := range x.lines {
			if events > 0 {
				out = append(out, ',')
			}
			out = appendEvent(out, r.h.o.Store, mark{p.First, int(n)}, p.text(n))
			events++
		}
	}
	if lost > 0 {
		b.parts, b.events = there, b.events-lost
		r.count(func(c *Counts) { c.Lost += uint64(lost) })
		r.log.Error("the event log was trimmed before a webhook had posted it", "events", lost)
	}
	if events == 0 {
		return nil, errTrimmed
	}
	return append(out, "\n]}\n"...), nil
}

// expired reports whether a batch is to be given up. Its newest event counts,
// and the run of failures: what was old when the node came back is tried as long
// as anything else. An event from the future, of a clock that was wrong, is as
// old as the first try.
func (r *runner) expired(b *batch, w *policy.Webhook, tried, now time.Time) bool {
	if r.failing.IsZero() {
		return false
	}
	from, newest := r.failing, b.newest
	if !tried.IsZero() && newest.After(tried) {
		newest = tried
	}
	if newest.After(from) {
		from = newest
	}
	return now.Sub(from) >= w.GiveUpAfter.Or(policy.DefaultGiveUpAfter)
}

// waitFor waits, but not beyond a change of settings.
func (r *runner) waitFor(now time.Time, wait time.Duration) error {
	r.mu.Lock()
	r.mu.status.NextTry = now.Add(wait)
	r.mu.Unlock()
	return r.pause(wait)
}

func (r *runner) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.changed:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *runner) count(what func(*Counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what(&r.mu.counts)
}
