package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

const (
	tryFor       = time.Second // of one exchange
	leastPause   = 50 * time.Millisecond
	longestGrant = time.Minute // whatever the leader says
)

// errNotKnown says that the leader knows no such registration.
var errNotKnown = errors.New("the leader does not know this registration")

// leaderSeen is the leader as etcd knows it.
type leaderSeen struct {
	keyspace.Leader
	term int64 // 0: none
}

// inForce is what the node may use of the budgets at the moment. The grant
// loop changes it.
type inForce struct {
	lease                int64
	floor, rank, members int64
	term                 int64  // the highest of any answer
	applied              uint64 // serial of the answer; 0: none
	until                time.Time
	list                 []exchange.Grant
	policy               int64 // the newest that the leader knows
	drain                bool
}

// answered is an answer on its way from the exchange to the grant loop.
type answered struct {
	exchange.Answer
	lease  int64 // under which it was asked for
	serial uint64
	sent   time.Time
	result chan error
}

// watchLeader follows who the leader is.
func (c *Control) watchLeader(ctx context.Context) {
	use := func(value []byte, term int64) {
		var l leaderSeen
		if len(value) > 0 {
			if err := json.Unmarshal(value, &l.Leader); err != nil {
				c.alarm("leader", "the leader's record cannot be read: "+err.Error())
				return
			}
			l.term = term
		}
		c.mu.Lock()
		c.mu.leader = l
		known := c.mu.force.term
		c.mu.Unlock()
		if l.term != 0 && l.term < known {
			c.alarm("term", fmt.Sprintf("the leader's term %d is below %d, which was seen before: was etcd restored from a backup? Its answers are refused until this node is started anew", l.term, known))
		} else if l.term != 0 {
			c.clearAlarm("term")
			nudge(c.report)
		}
	}
	c.follow(ctx, &follower{what: "leader", key: c.opt.Keys.Leader(),
		reset: func(all *clientv3.GetResponse) {
			if len(all.Kvs) == 0 {
				use(nil, 0)
				return
			}
			use(all.Kvs[0].Value, all.Kvs[0].CreateRevision)
		},
		changed: func(events []*clientv3.Event) {
			last := events[len(events)-1].Kv
			use(last.Value, last.CreateRevision)
		},
	})
}

// hurryPause is the least time between two exchanges that somebody asked for.
const hurryPause = int64(250 * time.Millisecond)

// Hurry has the next exchange made now, unless another one was hurried a moment
// ago.
func (c *Control) Hurry() {
	now := int64(time.Since(c.began)) + hurryPause
	if last := c.hurried.Load(); now-last >= hurryPause && c.hurried.CompareAndSwap(last, now) {
		nudge(c.report)
	}
}

// exchangeLoop makes an exchange each second, and soon when there is something
// that the leader waits for.
func (c *Control) exchangeLoop(ctx context.Context) {
	var serial uint64
	for {
		if !sleep(ctx, leastPause) {
			return
		}
		timer := time.NewTimer(jitter(exchange.Interval) - leastPause)
		select {
		case <-timer.C:
		case <-c.report:
		case <-ctx.Done():
		}
		timer.Stop()
		c.mu.Lock()
		reg, leader := c.mu.reg, c.mu.leader
		c.mu.Unlock()
		if ctx.Err() != nil || !c.alive(reg, time.Now()) || leader.term == 0 || leader.Address == "" {
			continue
		}
		serial++
		err := c.exchange(ctx, reg, leader, serial)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errNotKnown) {
			c.checkRegistered(ctx, reg)
		}
		if err != nil {
			c.count.exchangeErrors.Add(1)
			c.alarm("exchange", fmt.Sprintf("exchange with leader %s at %s: %v", leader.Name, leader.Address, err))
			continue
		}
		c.count.exchanges.Add(1)
		c.clearAlarm("exchange")
	}
}

// exchange makes one, and returns when its answer is in force.
func (c *Control) exchange(ctx context.Context, reg *registration, leader leaderSeen, serial uint64) error {
	r := c.makeReport(reg, serial)
	body, err := exchange.AppendReport(nil, r)
	if err != nil {
		c.opt.Node.Unsent(r)
		return err
	}
	a := &answered{lease: reg.lease, serial: serial, result: make(chan error, 1)}
	a.sent = time.Now() // grants hold from here on, whatever the way back costs
	if err := c.post(ctx, leader.Address, body, &a.Answer); err != nil {
		c.opt.Node.Unsent(r)
		return err
	}
	select {
	case c.answer <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-a.result
}

// makeReport says how this node stands.
func (c *Control) makeReport(reg *registration, serial uint64) *exchange.Report {
	r := &exchange.Report{Node: c.opt.Name, Lease: reg.lease, Serial: serial, Floor: c.floor.now().Floor}
	c.mu.Lock()
	f := &c.mu.force
	ours := f.lease == reg.lease
	if f.applied != 0 && ours {
		if left := time.Until(f.until); left > 0 {
			r.Term, r.Applied, r.Left = f.term, f.applied, left
		}
	}
	for _, t := range c.mu.tenures {
		if t.fixed && t.fault == "" {
			continue // the leader knows them by policy
		}
		if !t.fixed && t.lease != reg.lease {
			continue
		}
		r.Sources = append(r.Sources, exchange.HeldSource{Source: t.source, Epoch: t.epoch, Released: t.phase == released, Fault: t.fault})
	}
	leaving := c.mu.leaving
	c.mu.Unlock()
	c.opt.Node.FillReport(r)
	if !ours {
		// Until the first answer to this registration the node counts permits of the
		// one before. The leader has written those off; told of them, it would take
		// those that were used for permits that came back, and give them out again.
		for i := range r.Demands {
			d := &r.Demands[i]
			d.Issued, d.Void, d.Spent, d.Returned = 0, 0, 0, 0
		}
	}
	r.Draining = r.Draining || leaving
	return r
}

// post sends a report and reads the answer.
func (c *Control) post(ctx context.Context, to string, body []byte, a *exchange.Answer) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.opt.Scheme+"://"+to+exchange.Path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", exchange.ContentType)
	if c.opt.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opt.Token)
	}
	resp, err := c.opt.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		err := fmt.Errorf("%s: %s", resp.Status, strings.ToValidUTF8(strings.TrimSpace(string(why)), "?"))
		if resp.StatusCode == http.StatusConflict {
			return errors.Join(errNotKnown, err)
		}
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, exchange.MaxWire+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case len(answer) > exchange.MaxWire:
		return errors.New("the answer is too long")
	}
	return exchange.DecodeAnswer(answer, a)
}

// grantLoop puts answers in force and takes grants back when they end. It alone
// tells the node.
func (c *Control) grantLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-c.answer:
			a.result <- c.apply(a)
		case <-timer.C:
			c.expire(time.Now())
		}
		if until := c.grantsEnd(); until.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(until))
		}
	}
}

// grantsEnd is when the grants in force end, zero if there are none.
func (c *Control) grantsEnd() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opt.Unsafe.GrantsForever {
		return time.Time{}
	}
	return c.mu.force.until
}

// apply puts one answer in force.
func (c *Control) apply(a *answered) error {
	now := time.Now()
	c.mu.Lock()
	f := c.mu.force
	known := max(f.term, c.mu.leader.term)
	gone := c.mu.reg == nil || c.mu.reg.lease != a.lease
	c.mu.Unlock()
	switch {
	case a.Serial != a.serial:
		return fmt.Errorf("the answer is to report %d, not %d", a.Serial, a.serial)
	case a.Term < known:
		c.count.stale.Add(1)
		return fmt.Errorf("the answer is of term %d, and the leader's is %d", a.Term, known)
	case gone:
		return errors.New("the answer is to a registration that was lost")
	case a.Floor < 0 || a.Floor > exchange.FullShare || a.Rank < 0 || a.Members < 0:
		return fmt.Errorf("the answer names a floor of %d for rank %d of %d", a.Floor, a.Rank, a.Members)
	}
	drain := f.drain
	f.lease, f.term, f.policy, f.drain = a.lease, a.Term, a.Revision, a.Drain
	f.applied, f.until, f.list = a.Answer.Serial, a.sent.Add(min(max(a.TTL, 0), longestGrant)-exchange.GrantMargin), a.Grants
	if !c.opt.Unsafe.GrantsForever && !now.Before(f.until) {
		f.applied, f.until, f.list = 0, time.Time{}, nil // it was too long on its way
	}
	lower := a.Floor < f.floor
	if lower {
		f.floor, f.rank, f.members = a.Floor, a.Rank, a.Members
		c.force(&f, now)
	}
	err := c.floor.keep(func(s *saved) { s.Floor, s.Rank, s.Members = a.Floor, a.Rank, a.Members })
	if err != nil {
		c.alarm("floor", err.Error())
	} else {
		c.clearAlarm("floor")
		f.floor, f.rank, f.members = a.Floor, a.Rank, a.Members
	}
	if !lower {
		c.force(&f, now)
	}
	if drain != f.drain {
		c.log.Info("drain", "on", f.drain)
		c.opt.Node.Drain(f.drain)
	}
	c.opt.Node.UseHomes(a.Homes)
	return err
}

// force tells the node what is in force.
func (c *Control) force(f *inForce, now time.Time) {
	c.mu.Lock()
	c.mu.force, c.mu.last = *f, now
	c.mu.Unlock()
	until := f.until
	if c.opt.Unsafe.GrantsForever && !until.IsZero() {
		until = until.Add(24 * time.Hour) // or the scheduler would end them by itself
	}
	c.opt.Node.UseGrants(Grants{Lease: f.lease, Revision: f.policy, Floor: f.floor, Rank: f.rank, Members: f.members, Until: until, List: f.list})
}

// expire takes back grants whose time is over.
func (c *Control) expire(now time.Time) {
	c.mu.Lock()
	f := c.mu.force
	last := c.mu.last
	c.mu.Unlock()
	if f.until.IsZero() || now.Before(f.until) {
		return
	}
	c.count.expired.Add(1)
	c.log.Warn("grants have run out; the node sends at its floor", "floor", f.floor)
	f.applied, f.until, f.list = 0, time.Time{}, nil
	c.force(&f, last)
}

// applyFloor tells the node what was on disk, before anything else is known.
func (c *Control) applyFloor() {
	c.mu.Lock()
	f := c.mu.force
	c.mu.Unlock()
	c.force(&f, time.Time{})
}
