package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// counters are the node's own; the parts keep theirs. Recipients, unless the
// name says otherwise.
type counters struct {
	acceptedMessages   atomic.Uint64
	acceptedRecipients atomic.Uint64
	acceptedBytes      atomic.Uint64
	delivered          atomic.Uint64
	bounced            atomic.Uint64
	expired            atomic.Uint64
	cancelled          atomic.Uint64
	deferred           atomic.Uint64
	attempts           atomic.Uint64 // deliveries attempted
	transitions        atomic.Uint64
	noRoom             atomic.Uint64                     // fresh deliveries that are due and wait on disk
	dispatched         [message.Priorities]atomic.Uint64 // deliveries

	byName struct {
		sync.Mutex
		tenants  map[string]*tenantCount
		carriers map[string]*carrierCount
		replies  map[replyKey]uint64
		stages   [stageCount]histogram
		errors   map[errorKey]*errorCount
	}
}

type tenantCount struct{ messages, recipients uint64 }

type carrierCount struct {
	opened, attempts, delivered, deferred, bounced uint64
	// meant is what replies that were no success meant, by category.
	meant map[reputation.Category]uint64
}

type replyKey struct{ phase, class string }

type errorKey struct{ carrier, phase, reply string }

type errorCount struct {
	n    int64
	last time.Time
}

// Bounds of the maps above: names come from policy, replies from peers.
const (
	maxCountedNames  = 4096
	maxCountedErrors = 512
)

// tally is what one transition adds to the counters.
type tally struct {
	attempt, timed                                   bool // it was an attempt; its stages are known
	delivered, bounced, expired, cancelled, deferred uint64
	few                                              [4]countedReply
	replies                                          []countedReply
}

func (t *tally) final(s message.State) {
	switch s {
	case message.Delivered:
		t.delivered++
	case message.Bounced:
		t.bounced++
	case message.Expired:
		t.expired++
	case message.Cancelled:
		t.cancelled++
	}
}

func (t *tally) reply(r *message.Reply) {
	if t.replies == nil {
		t.replies = t.few[:0]
	}
	t.replies = append(t.replies, countedReply{r.Phase, r.Fault, r.Code})
}

func (c *counters) init() {
	b := &c.byName
	b.tenants, b.carriers = map[string]*tenantCount{}, map[string]*carrierCount{}
	b.replies, b.errors = map[replyKey]uint64{}, map[errorKey]*errorCount{}
}

// accepted counts a message, a notice of our own included.
func (c *counters) accepted(tenant string, recipients, bytes int) {
	c.acceptedMessages.Add(1)
	c.acceptedRecipients.Add(uint64(recipients))
	c.acceptedBytes.Add(uint64(bytes))
	b := &c.byName
	b.Lock()
	defer b.Unlock()
	t := b.tenants[tenant]
	if t == nil {
		if len(b.tenants) >= maxCountedNames {
			return
		}
		t = &tenantCount{}
		b.tenants[tenant] = t
	}
	t.messages++
	t.recipients += uint64(recipients)
}

// The stages that are timed.
const (
	stageQueued = iota
	stageConnect
	stageSign
	stageMail
	stageData
	stageTotal
	stageCount
)

var stageNames = [stageCount]string{"queued", "connect", "sign", "mail", "data", "total"}

// bounds are the histogram's upper bounds.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, time.Hour,
}

type histogram struct {
	counts [len(bounds) + 1]uint64
	sum    time.Duration
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += d
	h.max = max(h.max, d)
}

// quantile is the upper bound of the bucket that holds the q-th value.
func (h *histogram) quantile(q float64) time.Duration {
	var total, seen uint64
	for _, n := range h.counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	for i, n := range h.counts {
		if seen += n; float64(seen) >= q*float64(total) {
			if i == len(bounds) {
				return h.max
			}
			return min(bounds[i], h.max)
		}
	}
	return h.max
}

// noCarrier is the label of what ended before a carrier was known.
const noCarrier = "none"

func (c *counters) carrierLocked(name string) *carrierCount {
	b := &c.byName
	if name == "" {
		name = noCarrier
	}
	cc := b.carriers[name]
	if cc == nil {
		if len(b.carriers) >= maxCountedNames {
			name = "other"
			if cc = b.carriers[name]; cc != nil {
				return cc
			}
		}
		cc = &carrierCount{}
		b.carriers[name] = cc
	}
	return cc
}

// opened counts an outgoing connection.
func (c *counters) opened(carrier string) {
	c.byName.Lock()
	defer c.byName.Unlock()
	c.carrierLocked(carrier).opened++
}

// settled counts a durable transition, and what its replies meant.
func (c *counters) settled(t *tally, marks []mark, carrier string, st *message.Stages) {
	c.transitions.Add(1)
	c.delivered.Add(t.delivered)
	c.bounced.Add(t.bounced)
	c.expired.Add(t.expired)
	c.cancelled.Add(t.cancelled)
	c.deferred.Add(t.deferred)
	b := &c.byName
	b.Lock()
	defer b.Unlock()
	cc := c.carrierLocked(carrier)
	cc.delivered += t.delivered
	cc.bounced += t.bounced
	cc.deferred += t.deferred
	for _, m := range marks {
		if m.category == reputation.Delivered {
			continue
		}
		if cc.meant == nil {
			cc.meant = map[reputation.Category]uint64{}
		}
		cc.meant[m.category] += uint64(m.n)
	}
	for _, r := range t.replies {
		b.replies[replyKey{r.phase.String(), classOf(r)}]++
	}
	if t.attempt {
		c.attempts.Add(1)
		cc.attempts++
	}
	if t.timed {
		for i, d := range [stageCount]time.Duration{st.Queued, st.Connect, st.Sign, st.Mail, st.Data, st.Total} {
			b.stages[i].add(d)
		}
	}
}

// countedReply is what is counted of a reply.
type countedReply struct {
	phase message.Phase
	fault message.Fault
	code  uint16
}

func classOf(r countedReply) string {
	if r.fault != message.FaultNone {
		return r.fault.String()
	}
	switch r.code / 100 {
	case 2:
		return "2"
	case 5:
		return "5"
	}
	return "4"
}

// noteError keeps the most frequent bad replies for the overview.
func (c *counters) noteError(carrier string, r *message.Reply, now time.Time) {
	text := r.String()
	if len(text) > 120 {
		text = text[:120]
	}
	k := errorKey{carrier, r.Phase.String(), text}
	b := &c.byName
	b.Lock()
	defer b.Unlock()
	e := b.errors[k]
	if e == nil {
		if len(b.errors) >= maxCountedErrors {
			for old, o := range b.errors {
				if now.Sub(o.last) > 5*time.Minute || o.n == 1 {
					delete(b.errors, old)
				}
			}
			if len(b.errors) >= maxCountedErrors {
				return
			}
		}
		e = &errorCount{}
		b.errors[k] = e
	}
	e.n++
	e.last = now
}

// rates samples the counters each second for "per second, over the last ten".
type rates struct {
	mu struct {
		sync.Mutex
		samples [11]sample
		n       int
	}
}

type sample struct {
	at                                                time.Time
	accepted, delivered, deferred, bounced, attempted uint64
}

func newRates(now time.Time) *rates {
	r := &rates{}
	r.mu.samples[0] = sample{at: now}
	r.mu.n = 1
	return r
}

// loop is owned by Node.Run.
func (r *rates) loop(ctx context.Context, n *Node) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c := &n.count
			r.add(sample{n.now(), c.acceptedRecipients.Load(), c.delivered.Load(), c.deferred.Load(), c.bounced.Load(), c.attempts.Load()})
		}
	}
}

func (r *rates) add(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.n == len(r.mu.samples) {
		copy(r.mu.samples[:], r.mu.samples[1:])
		r.mu.n--
	}
	r.mu.samples[r.mu.n] = s
	r.mu.n++
}

// perSecond is each counter's rate over the samples kept.
func (r *rates) perSecond() (accepted, delivered, deferred, bounced, attempted float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, b := r.mu.samples[0], r.mu.samples[r.mu.n-1]
	d := b.at.Sub(a.at).Seconds()
	if d <= 0 {
		return
	}
	per := func(x, y uint64) float64 { return float64(y-x) / d }
	return per(a.accepted, b.accepted), per(a.delivered, b.delivered), per(a.deferred, b.deferred), per(a.bounced, b.bounced), per(a.attempted, b.attempted)
}
