package webhook

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// commitEvery is how often a place is written. Each is two syncs, on the disk
// that mail needs; a crash repeats what was posted since.
const commitEvery = time.Second

// goneText is the error of a webhook that is off by its endpoint's word.
const goneText = "HTTP 410: the endpoint is gone; change the webhook to begin again"

// errGone ends a runner.
var errGone = errors.New(goneText)

// runner posts the events of one webhook. One goroutine runs it, from start to
// close; mu is for those who look.
type runner struct {
	h        *Hooks
	id, name string
	log      *slog.Logger
	feed     feed
	sender   *sender // the goroutine's own, as are the next ones
	filter   *filter
	failing  time.Time // when the run of failures began
	told     time.Time // when the log last heard of events given up

	// What is dealt with but not written yet. It is not where the feed stands,
	// which may be in the middle of a batch.
	dirty   bool
	commit  func() error // nil: no block since the last
	dealt   place        // in the block after it
	written time.Time

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	changed chan struct{} // capacity 1

	mu struct {
		sync.Mutex
		w       *policy.Webhook
		rec     record
		done    bool // ended by itself
		seq     uint64
		oldest  time.Time // of the batch that waits; zero: none does
		status  Status
		counts  Counts
		stalled string // why the log cannot be read
	}
}

func newRunner(h *Hooks, id, name string, w *policy.Webhook, reader Reader, rec *record) *runner {
	r := &runner{h: h, id: id, name: name, log: h.o.Logger.With("webhook", name), changed: make(chan struct{}, 1)}
	r.feed = feed{reader: reader, skip: place{rec.Block, rec.Lines}}
	r.mu.w, r.mu.rec = w, *rec
	r.mu.seq = h.o.Log.Head()
	r.ctx, r.stop = context.WithCancel(h.root)
	return r
}

// start begins; close ends and waits.
func (r *runner) start() { r.running.Go(r.run) }

func (r *runner) close() {
	r.stop()
	r.running.Wait()
	r.feed.reader.Close()
}

func (r *runner) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.done
}

func (r *runner) record() *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.mu.rec
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
		r.sender, r.filter = newSender(r.h, r.name, w), newFilter(w)
	}
	return w
}

func (r *runner) run() {
	defer func() {
		r.checkpoint()
		if r.sender != nil {
			r.sender.close()
		}
	}()
	for r.ctx.Err() == nil {
		b, err := r.collect()
		if err != nil {
			r.stall(err)
			continue
		}
		if b == nil {
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
		r.moved()
	}
}

// stall waits after an error of the log, so that a broken disk is not asked
// without end.
func (r *runner) stall(err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	known := r.mu.stalled != ""
	r.mu.stalled = err.Error()
	r.mu.Unlock()
	if !known {
		r.log.Error("webhook cannot read the event log", "error", err)
	}
	r.pause(lastWait / 10)
}

// collect fills a batch: until it is full, or MaxWait after its first event. It
// is nil when there is nothing to send yet.
func (r *runner) collect() (*batch, error) {
	b := &batch{store: r.h.o.Store}
	var due time.Time // when the batch goes as it is
	for {
		w := r.settings()
		wait := time.Time{}
		switch {
		case b.events > 0:
			wait = due
		case r.dirty:
			wait = r.written.Add(commitEvery)
		}
		line, at, err := r.next(wait)
		switch {
		case r.ctx.Err() != nil:
			return nil, r.ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if b.events == 0 {
				r.moved()
				return nil, nil
			}
			b.seal(r.name, r.h.o.Node)
			return b, nil
		case err != nil && b.events > 0:
			// The feed is past these; the error comes again.
			b.seal(r.name, r.h.o.Node)
			return b, nil
		case err != nil:
			return nil, err
		}
		if !r.settled(w) {
			w = r.settings()
		}
		want, err := r.filter.wants(line)
		if err != nil {
			r.unreadable(at, err)
		}
		if want {
			b.add(at, line)
			if b.events == 1 {
				due = time.Now().Add(w.MaxWait.Or(policy.DefaultMaxWait))
			}
			if b.events >= max(w.MaxBatch, 1) || len(b.body) >= maxBody {
				b.seal(r.name, r.h.o.Node)
				return b, nil
			}
		} else if b.events == 0 && len(r.feed.rest) == 0 {
			r.moved()
		}
	}
}

// unreadable counts a line that cannot be posted. It stays in the log.
func (r *runner) unreadable(at place, err error) {
	r.mu.Lock()
	r.mu.counts.Unreadable++
	r.mu.Unlock()
	r.log.Error("webhook leaves an event out", "block", at.block, "line", at.line, "error", err)
}

// settled reports whether these settings are still in force.
func (r *runner) settled(w *policy.Webhook) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.w == w
}

// next is the feed's, until a time. While it waits the lock of nothing is held.
func (r *runner) next(until time.Time) ([]byte, place, error) {
	if len(r.feed.rest) > 0 || until.IsZero() {
		return r.feed.next(r.ctx)
	}
	ctx, cancel := context.WithDeadline(r.ctx, until)
	defer cancel()
	return r.feed.next(ctx)
}

// moved notes that all before the feed's place is dealt with, and writes it down
// now and then.
func (r *runner) moved() {
	if r.written.IsZero() {
		r.written = time.Now()
	}
	commit, rest := r.feed.mark()
	if commit != nil {
		r.commit = commit
	}
	r.dealt, r.dirty = rest, true
	r.mu.Lock()
	if len(r.feed.rest) == 0 {
		r.mu.oldest = time.Time{}
	}
	r.mu.stalled = ""
	r.mu.seq = max(r.mu.seq, r.feed.head)
	r.mu.Unlock()
	if time.Since(r.written) >= commitEvery {
		r.checkpoint()
	}
}

// checkpoint makes what is dealt with durable: the log's offset, then how far
// into the block after it. A crash between the two repeats events.
func (r *runner) checkpoint() {
	if !r.dirty {
		return
	}
	var err error
	if r.commit != nil {
		err = r.commit()
	}
	r.dirty, r.commit, r.written = false, nil, time.Now()
	r.mu.Lock()
	r.mu.rec.Block, r.mu.rec.Lines = r.dealt.block, r.dealt.line
	rec := r.mu.rec
	r.mu.Unlock()
	if err == nil {
		err = rec.write(r.h.o.Dir, r.id)
	}
	r.mu.Lock()
	r.mu.counts.Commits++
	if err != nil {
		r.mu.counts.Unwritten++
	}
	r.mu.Unlock()
	if err != nil {
		r.log.Error("webhook's place cannot be written", "error", err)
	}
}

// deliver tries a batch until it is taken or given up. The error is the
// context's, or errGone.
func (r *runner) deliver(b *batch) error {
	r.mu.Lock()
	r.mu.oldest = b.oldest
	r.mu.Unlock()
	for {
		w := r.settings()
		now := time.Now()
		if r.expired(b, w, now) {
			r.giveUp(b, now)
			return nil
		}
		if wait := r.h.breakers.begin(w.URL, r.id, now); wait > 0 {
			if err := r.waitFor(now, wait); err != nil {
				return err
			}
			continue
		}
		a := r.sender.post(r.ctx, b.id, b.body)
		if r.ctx.Err() != nil {
			r.h.breakers.abandon(w.URL, r.id)
			return r.ctx.Err()
		}
		now = time.Now()
		wait := r.h.breakers.end(w.URL, r.id, a.err == nil, a.retryAfter, now)
		switch {
		case a.err == nil:
			r.taken(b, now)
			return nil
		case a.status == 410:
			r.note(a.err, now, time.Time{})
			return errGone
		}
		r.note(a.err, now, now.Add(wait))
		if err := r.waitFor(now, wait); err != nil {
			return err
		}
	}
}

// expired reports whether a batch is to be given up. Its newest event counts,
// and the run of failures: what was old when the node came back is tried as long
// as anything else.
func (r *runner) expired(b *batch, w *policy.Webhook, now time.Time) bool {
	if r.failing.IsZero() {
		return false
	}
	from := r.failing
	if b.newest.After(from) {
		from = b.newest
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

func (r *runner) taken(b *batch, now time.Time) {
	if !r.failing.IsZero() {
		if g := r.record().LastGivenUp; g != nil && g.Since.Equal(r.failing) && g.At.After(r.told) {
			r.tellGivenUp(g, now)
		}
		r.log.Info("webhook is taken again", "after", now.Sub(r.failing).Round(time.Second))
		r.failing = time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.status.LastSuccess, r.mu.status.NextTry = now, time.Time{}
	r.mu.status.Since = time.Time{}
	r.mu.counts.Posted += uint64(b.events)
	r.mu.counts.Batches++
}

// note keeps a failure. The log hears of the first of a run only.
func (r *runner) note(err error, now, next time.Time) {
	first := r.failing.IsZero()
	if first {
		r.failing = now
	}
	r.mu.Lock()
	s := &r.mu.status
	s.LastError, s.LastErrorAt, s.NextTry, s.Since = err.Error(), now, next, r.failing
	r.mu.counts.Failures++
	r.mu.Unlock()
	if first {
		r.log.Warn("webhook is not taken", "endpoint", endpoint(r.sender.w.URL), "error", err)
	}
}

// giveUp counts a batch that will not be posted. Those of one run of failures
// are shown as one range.
func (r *runner) giveUp(b *batch, now time.Time) {
	r.mu.Lock()
	g := Range{
		First: b.eventID(b.first), Last: b.eventID(b.last), Events: b.events,
		From: b.oldest, To: b.newest, Since: r.failing, At: now, Why: r.mu.status.LastError,
	}
	if last := r.mu.rec.LastGivenUp; last != nil && last.Since.Equal(r.failing) {
		g.First, g.From, g.Events = last.First, last.From, last.Events+b.events
	}
	r.mu.rec.LastGivenUp = &g
	r.mu.rec.GivenUp += uint64(b.events)
	r.mu.Unlock()
	if now.Sub(r.told) >= tellEvery {
		r.tellGivenUp(&g, now)
	}
}

// tellEvery is how often the log hears of batches that are given up: after a day
// of failures it is one after the other.
const tellEvery = time.Minute

func (r *runner) tellGivenUp(g *Range, now time.Time) {
	r.told = now
	r.log.Error("webhook events are given up", "first", g.First, "last", g.Last, "events", g.Events, "from", g.From, "to", g.To, "error", g.Why)
}

// finish is the end by the endpoint's word: the offset is given up, so that it
// holds nothing on disk, and manage forgets it.
func (r *runner) finish() {
	r.log.Error("webhook is off", "error", errGone)
	r.mu.Lock()
	r.mu.rec.Gone, r.mu.rec.GoneAt = fingerprint(r.sender.w), time.Now().UTC()
	r.mu.rec.Block, r.mu.rec.Lines = 0, 0
	rec := r.mu.rec
	r.mu.done = true
	r.mu.Unlock()
	r.dirty = false
	if err := rec.write(r.h.o.Dir, r.id); err != nil {
		r.log.Error("that a webhook is off cannot be written", "error", err)
	}
	r.h.poke()
}

// fill says how the runner stands.
func (r *runner) fill(s *Status, head uint64, now time.Time) {
	open := r.h.breakers.open(r.url())
	r.mu.Lock()
	defer r.mu.Unlock()
	st := &r.mu.status
	s.LastSuccess, s.LastError, s.LastErrorAt, s.NextTry, s.Since = st.LastSuccess, st.LastError, st.LastErrorAt, st.NextTry, st.Since
	s.Counts, s.Counts.GivenUp, s.GivenUp = r.mu.counts, r.mu.rec.GivenUp, r.mu.rec.LastGivenUp
	s.Behind = head - min(r.mu.seq, head)
	if !r.mu.oldest.IsZero() {
		s.Lag = max(now.Sub(r.mu.oldest), 0)
	}
	switch {
	case r.mu.done:
		s.State, s.Since, s.LastError = StateGone, r.mu.rec.GoneAt, goneText
	case r.mu.stalled != "":
		s.State, s.LastError = StateBroken, r.mu.stalled
	case open:
		s.State = StateOpen
	case !st.Since.IsZero():
		s.State = StateRetrying
	}
}

func (r *runner) url() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.w.URL
}
