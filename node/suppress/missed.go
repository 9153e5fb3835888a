package suppress

import (
	"context"
	"fmt"
	"time"

	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// What is fed waits in memory for some milliseconds. The event that it comes from
// is on disk, so what a crash took, or a full queue, is read from the event log:
// from a mark on, before which all was stored.

const (
	// markEvery is how often the mark moves on.
	markEvery = 10 * time.Second
	// markBehind is how far before the mark the reading begins: an outcome is fed
	// when it is durable, which is later than its event says.
	markBehind = 2 * time.Minute
)

// runMissed reads what was missed, at the start and whenever something was
// dropped, and moves the mark on while nothing is missed.
func (l *List) runMissed(ctx context.Context) {
	if l.o.Missed == nil {
		return
	}
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	m := mark{}
	for {
		if err := l.moveMark(ctx, &m); err != nil && ctx.Err() == nil {
			l.log.Error("look for what the suppression list has missed; tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mark is a time that becomes the store's mark when all that was fed before it is
// stored.
type mark struct {
	caughtUp bool // nothing is missed, but for what was dropped since
	dropped  uint64
	at       time.Time
	queued   uint64
}

func (l *List) moveMark(ctx context.Context, m *mark) error {
	if now := l.count.dropped.Load(); !m.caughtUp || now != m.dropped {
		m.dropped, m.caughtUp, m.at = now, false, time.Time{}
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		m.caughtUp = true
	}
	if !m.at.IsZero() {
		if l.count.stored.Load() < m.queued {
			return nil // the disk is slow
		}
		if err := l.store.Mark(m.at); err != nil {
			return err
		}
	}
	m.at = l.o.Now()
	m.queued = l.count.queued.Load()
	return nil
}

// catchUp feeds what was found since the mark. A list that never had one begins
// here.
func (l *List) catchUp(ctx context.Context) error {
	since, err := l.store.Marked()
	if err != nil {
		return err
	}
	if since.IsZero() {
		return l.store.Mark(l.o.Now())
	}
	var fs []suppression.Finding
	added := 0
	store := func() error {
		if len(fs) == 0 {
			return nil
		}
		_, r, err := l.store.Feed(fs)
		if err != nil {
			return fmt.Errorf("store %d findings: %w", len(fs), err)
		}
		fs, added = fs[:0], added+r.Added
		l.count.found.Add(uint64(r.Added))
		l.pokeAll(r)
		return nil
	}
	err = l.o.Missed(ctx, since.Add(-markBehind), func(v *reputation.Verdict, e *message.Event) error {
		f, ok := l.finding(v, e)
		if !ok {
			return nil
		}
		f.At = e.Time
		if fs = append(fs, f); len(fs) < feedAtOnce {
			return nil
		}
		return store()
	})
	if err == nil {
		err = store()
	}
	if err == nil && added > 0 {
		l.log.Info("the suppression list had missed findings, which the event log has", "entries", added, "since", since)
	}
	return err
}
