package node

import (
	"context"
	"time"

	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// sweepLoop looks through queues that do not move for what has expired, one
// queue after another.
func (d *dispatcher) sweepLoop(ctx context.Context) {
	for ctx.Err() == nil {
		d.mu.Lock()
		var q message.QueueKey
		some := len(d.mu.sweeps) > 0
		if some {
			q = d.mu.sweeps[0]
			if d.mu.sweeps = d.mu.sweeps[1:]; len(d.mu.sweeps) == 0 {
				d.mu.sweeps = nil
			}
		}
		d.mu.Unlock()
		if !some {
			select {
			case <-ctx.Done():
				return
			case <-d.swept:
			}
			continue
		}
		start := d.n.now()
		earliest, err := d.sweep(ctx, q, start)
		if err != nil && ctx.Err() == nil {
			d.n.log.Error("look for expired mail", "destination", q.Destination, "error", err)
		}
		d.with(func(s *scheduler.Scheduler, now time.Time) { s.Swept(now, q, earliest, now.Sub(start)) })
	}
}

const sweepPage = 512

// sweep ends what has expired in one queue and returns the earliest expiry of
// what stays.
func (d *dispatcher) sweep(ctx context.Context, q message.QueueKey, until time.Time) (earliest time.Time, err error) {
	var after spool.Cursor
	for ctx.Err() == nil {
		ds, more, err := d.n.spool.Page(q, after, until, sweepPage)
		if err != nil {
			return earliest, err
		}
		for _, del := range ds {
			if del.Expires.After(until) {
				if earliest.IsZero() || del.Expires.Before(earliest) {
					earliest = del.Expires
				}
			} else if d.claim(del, nil) {
				d.n.end(del, message.Expired, expiredReply(del), nil)
			}
		}
		if !more || len(ds) == 0 {
			return earliest, nil
		}
		last := ds[len(ds)-1]
		after = spool.Cursor{Due: last.Due, ID: last.ID}
	}
	return earliest, ctx.Err()
}
