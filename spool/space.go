package spool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	spaceInterval     = time.Second
	housekeepInterval = time.Minute
	// quietAfter is how long the disk must have been without errors.
	quietAfter = 10 * time.Second
)

// spaceGate is what Admit looks at. Delivery and deletes never look: they make
// room.
type spaceGate struct {
	low         atomic.Bool
	free, total atomic.Uint64
	badStat     atomic.Bool
	lastError   atomic.Int64 // of a flush or compaction, Unix nanoseconds of Options.Now
}

// Admit says whether new mail may be accepted: nil, or ErrFailed, ErrClosed,
// ErrLowSpace or ErrUnhealthy. The last two end by themselves.
func (s *Store) Admit() error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	if s.space.low.Load() {
		return fmt.Errorf("%w: %d MiB free", ErrLowSpace, s.space.free.Load()>>20)
	}
	if at := s.space.lastError.Load(); at != 0 && s.opt.Now().Sub(time.Unix(0, at)) < quietAfter {
		return ErrUnhealthy
	}
	return nil
}

// checkSpace reads how much is free. Once low, a tenth more than the limit
// must be free again, so that the gate does not flutter at the limit.
func (s *Store) checkSpace() {
	g := &s.space
	free, total, err := s.opt.FreeSpace(s.opt.Dir)
	if err != nil {
		if !g.badStat.Swap(true) {
			s.log.Warn("free space is unknown, mail is accepted without that check", "err", err)
		}
		return
	}
	g.badStat.Store(false)
	g.free.Store(free)
	g.total.Store(total)
	limit := max(s.opt.FreeBytesMin, total/100*uint64(max(0, s.opt.FreePercentMin)))
	switch {
	case free < limit && !g.low.Swap(true):
		s.log.Error("disk space is low, new mail is refused until more is free", "free", free, "limit", limit)
	case free >= limit+limit/10 && g.low.Swap(false):
		s.log.Info("disk space is back, new mail is accepted again", "free", free)
	}
}

// backgroundError is a failed flush or compaction. Pebble keeps the data in
// memory and the log, and tries again; nothing acknowledged is in danger, but
// more mail would only fill the memtables.
func (s *Store) backgroundError(err error) {
	now := s.opt.Now().UnixNano()
	first := now-s.space.lastError.Swap(now) >= int64(time.Second)
	if s.stats.backgroundErrors.Add(1) > 1 && !first {
		return // Pebble tries again at once; one line a second is enough
	}
	s.log.Error("spool background work failed, new mail is refused for a while", "err", err)
}

// housekeep runs until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.checkSpace()
			if now.Sub(last) < housekeepInterval {
				continue
			}
			last = now
			if err := s.Housekeep(); err != nil && ctx.Err() == nil {
				s.log.Error("spool housekeeping", "err", err)
			}
		}
	}
}

// Housekeep forgets what has expired: end states, where deliveries went,
// idempotency keys, counters of ended jobs, actions. It also looks at the free space. The store does it
// every minute by itself.
func (s *Store) Housekeep() error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	s.checkSpace()
	now := s.now()
	return errors.Join(s.expireFinals(now), s.expireIdempotency(now), s.expireJobs(now), s.expireActions(now), s.expireGone(now), s.expirePast(now))
}

func (s *Store) housekeepingWrite(fn func(b *pebble.Batch) error) error {
	if err := s.write(context.Background(), fn); err != nil {
		return fmt.Errorf("housekeeping: %w", err)
	}
	return nil
}
