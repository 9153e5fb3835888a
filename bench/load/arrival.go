package load

import (
	"math"
	"sync"
	"time"
)

// cursor hands out messages in their order, to many connections. In the open
// loop each has an intended time, which follows from its number alone: whatever
// the server does, message 1000 was meant to be sent at its time, and its
// latency counts from there. That is what keeps a stalled server from slowing
// the clock that measures it (coordinated omission).
type cursor struct {
	mix     *Mix
	end     int     // messages of the run
	rate    float64 // 0: closed loop
	poisson bool
	bound   int
	login   *Tenant // only messages of this tenant; nil: all

	mu struct {
		sync.Mutex
		head    position // next to be taken
		tail    position // next to arrive
		arrived int
		taken   int
		shed    int // arrivals dropped at the bound
		longest int // queue
	}
}

// position is a message and when it is due, since the start of the run.
type position struct {
	i  int
	at time.Duration
}

func newCursor(c *cursor) *cursor {
	p := position{i: -1}
	c.advance(&p)
	c.mu.head, c.mu.tail = p, p
	return c
}

// advance moves to the next message of the cursor's tenant.
func (c *cursor) advance(p *position) {
	for {
		p.i++
		switch {
		case c.rate == 0:
		case c.poisson: // exponential gaps, by inversion
			p.at += time.Duration(-math.Log1p(-c.mix.Chance(p.i)) / c.rate * float64(time.Second))
		default: // computed anew each time: rounding does not add up
			p.at = time.Duration(math.Round(float64(p.i) / c.rate * float64(time.Second)))
		}
		if p.i >= c.end || c.login == nil || c.mix.TenantOf(p.i) == c.login {
			return
		}
	}
}

// take is the next message; with due, only one whose time has come. more is
// whether there will be further ones.
func (c *cursor) take(now time.Duration, due bool) (p position, ok, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rate > 0 {
		c.arriveLocked(now)
		for c.mu.arrived-c.mu.taken > c.bound {
			c.advance(&c.mu.head)
			c.mu.taken++
			c.mu.shed++
		}
	}
	p = c.mu.head
	if p.i >= c.end {
		return p, false, false
	}
	if c.rate > 0 && due && p.at > now {
		return p, false, true
	}
	c.advance(&c.mu.head)
	c.mu.taken++
	if c.rate == 0 {
		p.at = now
	}
	return p, true, true
}

// arriveLocked counts the arrivals up to now.
func (c *cursor) arriveLocked(now time.Duration) {
	for c.mu.tail.i < c.end && c.mu.tail.at <= now {
		c.mu.arrived++
		c.advance(&c.mu.tail)
	}
	c.mu.longest = max(c.mu.longest, c.mu.arrived-c.mu.taken)
}

// waiting is how many arrivals wait for a connection, how many ever did at
// once, and how many were dropped.
func (c *cursor) waiting(now time.Duration) (queue, longest, shed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rate > 0 {
		c.arriveLocked(now)
	}
	return max(c.mu.arrived-c.mu.taken, 0), c.mu.longest, c.mu.shed
}
