package webhook

import "time"

// This file is what follows from the answers that a runner gets.

func (r *runner) taken(b *batch, now time.Time) {
	if !r.failing.IsZero() {
		if g := r.lastGivenUp(); g != nil && g.Since.Equal(r.failing) && g.At.After(r.told) {
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

func (r *runner) lastGivenUp() *Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.rec.LastGivenUp
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
	store := r.h.o.Store
	r.mu.Lock()
	g := Range{
		First: eventID(store, b.first), Last: eventID(store, b.last), Events: b.events,
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

// finish is the end by the endpoint's word: its place is given up, so that it
// holds nothing on disk.
func (r *runner) finish() {
	r.log.Error("webhook is off", "error", errGone)
	r.mu.Lock()
	r.mu.rec.Gone, r.mu.rec.GoneAt = fingerprint(r.sender.w), time.Now().UTC()
	r.mu.done = true
	r.mu.Unlock()
	r.h.poke()
}

// fill says how the runner stands.
func (r *runner) fill(s *Status, head uint64, now time.Time, broken string) {
	open := r.h.breakers.open(r.url())
	at, lost := r.h.shelf.stands(r.place)
	r.mu.Lock()
	defer r.mu.Unlock()
	st := &r.mu.status
	s.LastSuccess, s.LastError, s.LastErrorAt, s.NextTry, s.Since = st.LastSuccess, st.LastError, st.LastErrorAt, st.NextTry, st.Since
	s.Counts, s.Counts.GivenUp, s.GivenUp = r.mu.counts, r.mu.rec.GivenUp, r.mu.rec.LastGivenUp
	s.Counts.Lost += lost
	s.Behind = head - min(at.Seq, head)
	if !r.mu.oldest.IsZero() {
		s.Lag = max(now.Sub(r.mu.oldest), 0)
	}
	switch {
	case r.mu.done:
		s.State, s.Since, s.LastError = StateGone, r.mu.rec.GoneAt, goneText
	case broken != "":
		s.State, s.LastError = StateBroken, broken
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
