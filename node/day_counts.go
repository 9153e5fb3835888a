package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/scheduler"
)

// Daily limits hold through a crash (design.md 5.7), so what is spent from them
// is on disk before it is spent: the file says of each limited scope how much
// was used in the last 24 hours and, on top, how much more may have been used
// by the time somebody reads it. A dispatch within that allowance costs
// nothing; the next one after it waits for the next write. After a crash the
// whole allowance counts as used, which is at most a hundredth of the limit.

const (
	dayCountsFile = "daily-counts.json"
	// allowanceSpan is how long an allowance may be used. The file counts it as
	// used at the end of that.
	allowanceSpan = 5 * time.Minute
	// A scope under load is written ahead for allowanceAhead of its use, so that
	// the file is not written several times a second: its syncs hold up the
	// spool's on the same disk. Below minAllowance that is no matter.
	minAllowance   = 10_000
	allowanceAhead = 10 * time.Second
	// dayCountsRetry is the wait after a write that failed.
	dayCountsRetry = time.Second
)

// allowance is how much of the limit is written ahead, for a scope of which n
// were taken in the span since the last write.
func allowance(limit, n int64, span time.Duration) int64 {
	ahead := int64(minAllowance)
	if span > 0 {
		ahead = max(ahead, int64(float64(n)*float64(allowanceAhead)/float64(max(span, time.Second))))
	}
	return min(max(limit/100, 1), ahead)
}

// spending is one scope's allowance. Numbers count dispatches since the start.
type spending struct {
	limit   int64
	taken   int64
	granted int64 // on disk
	ahead   int64 // how much of that the last write added
	last    time.Time

	taken0 int64 // at the last write
	at0    time.Time
}

// nextAhead is the allowance that the scope gets now.
func (s *spending) nextAhead(now time.Time) int64 {
	return allowance(s.limit, s.taken-s.taken0, now.Sub(s.at0))
}

// dayCounts keeps the file ahead of the scheduler. Its loop is owned by
// Node.Run. Lock order: the dispatcher's before this one's.
type dayCounts struct {
	n    *Node
	path string
	wake chan struct{} // capacity 1: an allowance runs low
	mu   struct {
		sync.Mutex
		scopes  map[exchange.Scope]*spending
		until   time.Time     // no allowance holds longer
		changed chan struct{} // closed and replaced with each try to write
	}
}

func newDayCounts(n *Node) *dayCounts {
	c := &dayCounts{n: n, path: filepath.Join(n.cfg.DataDir, dayCountsFile), wake: make(chan struct{}, 1)}
	c.mu.scopes = map[exchange.Scope]*spending{}
	c.mu.changed = make(chan struct{})
	return c
}

// load gives the scheduler what was spent before the start.
func (c *dayCounts) load() error {
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("daily counts: %w", err)
	}
	var counts scheduler.DayCounts
	if err := json.Unmarshal(b, &counts); err != nil {
		aside := c.path + ".damaged"
		c.n.log.Error("daily counts cannot be read: daily limits count from nothing", "file", aside, "error", err)
		if err := os.Rename(c.path, aside); err != nil {
			return fmt.Errorf("daily counts: %w", err)
		}
		return nil
	}
	c.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.LoadDayCounts(now, counts) })
	return nil
}

// ticket is what one dispatch takes from each daily limit over it.
type ticket []spent

type spent struct {
	scope *spending
	at    int64 // its number
}

// take notes what the scheduler has just counted for a dispatch, in t's memory;
// nothing is that nothing limits it, or that it went by permits, which the leader
// has written down. The dispatcher's lock is held, so that what is taken here and in the
// scheduler is always the same.
func (c *dayCounts) take(t ticket, uses []scheduler.DayUse, now time.Time) ticket {
	t = t[:0]
	if len(uses) == 0 {
		return t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range uses {
		s := c.mu.scopes[u.Scope]
		if s == nil {
			s = &spending{at0: now}
			c.mu.scopes[u.Scope] = s
		}
		s.limit, s.last = u.Keeps, now
		s.taken++
		t = append(t, spent{s, s.taken})
		if s.granted-s.taken <= s.ahead/2 || !now.Before(c.mu.until) {
			c.ask()
		}
	}
	return t
}

func (c *dayCounts) ask() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wait returns when what the ticket takes is on disk. It is false when the
// node ends before: nothing may be sent then.
func (c *dayCounts) wait(ctx context.Context, t ticket) bool {
	for len(t) > 0 {
		c.mu.Lock()
		covered := c.n.now().Before(c.mu.until)
		for _, s := range t {
			covered = covered && s.at <= s.scope.granted
		}
		changed := c.mu.changed
		c.mu.Unlock()
		if covered {
			return true
		}
		c.ask()
		select {
		case <-changed:
		case <-c.n.dispatch.closed:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// loop writes when an allowance runs low, until ctx ends.
func (c *dayCounts) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		if err := c.save(true); err != nil {
			c.n.log.Error("write daily counts: mail under a daily limit waits", "error", err)
			pause := time.NewTimer(dayCountsRetry)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}
}

// save writes the counts, with a fresh allowance for each scope in use or, at
// the end of the node, without any.
func (c *dayCounts) save(ahead bool) error {
	var counts scheduler.DayCounts
	type grant struct {
		s         *spending
		to, ahead int64
	}
	var grants []grant
	var until time.Time
	c.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		counts = s.DayCounts(now)
		until = now.Add(allowanceSpan)
		c.mu.Lock()
		defer c.mu.Unlock()
		for k, sp := range c.mu.scopes {
			if now.Sub(sp.last) > allowanceSpan {
				delete(c.mu.scopes, k) // a dispatch that comes makes it anew
				continue
			}
			if ahead {
				ahead := sp.nextAhead(now)
				grants = append(grants, grant{sp, sp.taken + ahead, ahead})
				sp.taken0, sp.at0 = sp.taken, now
				counts.Scopes = append(counts.Scopes, scheduler.ScopeDayOf(k, scheduler.DaySlot{Start: until, N: ahead}))
			}
		}
	})
	if _, err := os.Stat(c.path); len(counts.Scopes) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b, err := json.Marshal(counts)
	if err == nil {
		err = writeAtomically(c.path, b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && ahead {
		c.mu.until = until
		for _, g := range grants {
			g.s.granted, g.s.ahead = g.to, g.ahead
		}
	}
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
	return err
}

// writeAtomically replaces a file so that a reader finds the old or the new
// content, also after a crash.
func writeAtomically(path string, b []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
