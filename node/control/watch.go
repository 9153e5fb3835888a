package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Waits between tries when etcd does not answer as it should.
const (
	askWithin  = 3 * time.Second
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// follower follows what is under a key: all of it, then each change.
type follower struct {
	what    string // for the log
	key     string
	opts    []clientv3.OpOption
	reset   func(*clientv3.GetResponse)
	changed func([]*clientv3.Event)
}

// follow runs until ctx ends. What it has shown stays as it is while etcd is
// away.
func (c *Control) follow(ctx context.Context, f *follower) {
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := c.followOnce(ctx, f)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastRetry {
			wait = firstRetry
		}
		c.count.watchBreaks.Add(1)
		c.log.Warn("watch on etcd broke off; reading all of it again", "what", f.what, "error", err)
		if !sleep(ctx, jitter(wait)) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// followOnce reads all, then watches from the revision after that. A revision
// that was compacted away ends it as any error does: all is read again.
func (c *Control) followOnce(ctx context.Context, f *follower) error {
	ask, cancel := context.WithTimeout(ctx, askWithin)
	all, err := c.opt.Client.Get(ask, f.key, f.opts...)
	cancel()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.key, err)
	}
	f.reset(all)
	watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for r := range c.opt.Client.Watch(watch, f.key, append(f.opts, clientv3.WithRev(all.Header.Revision+1))...) {
		if err := r.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", f.key, err)
		}
		if len(r.Events) > 0 {
			f.changed(r.Events)
		}
	}
	return fmt.Errorf("watch %s: it ended", f.key)
}

// jitter is d give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
