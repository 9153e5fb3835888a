package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// Who finds a tenant's, a stream's or a job's budget used up waits for it in
// line: one budget spans sites, and if all who wait came back at the same
// instant, the same one would win each time and ten thousand sites would be
// looked at for each token.

// turn is a member of a line with its weight, which may wait for a budget.
type turn struct {
	weight int
	pass   int64
	seq    uint64
	pos    int32 // index in the line + 1; 0 is not in it
	fresh  bool  // it has never been in it

	waits    *scope    // it is out of its line until this has something
	offered  [2]*scope // woken by these: it may go before those that wait
	priority message.Priority
	spot     place[*turn] // among those that wait
	owner    unparker
}

// unparker goes back into its line.
type unparker interface {
	unpark(s *Scheduler)
}

// waitList is those who wait for one budget, by priority class.
type waitList struct {
	rings [message.Priorities]ring[*turn]
	turns int
	timer

	// Queues whose mail is on disk only and is not read for as long as this
	// budget has nothing for it.
	unread ring[*queue]
}

// leastWait keeps high rates from being a timer a token.
const leastWait = instant(time.Millisecond)

// may reports whether the turn can spend from c now. One who comes new does
// not go before those of its class or above that wait already.
func (t *turn) may(c *scope, now instant) bool {
	return c.ready(now) <= now && (t.offered[0] == c || t.offered[1] == c || !c.awaited(t.priority))
}

// awaited reports whether someone of this class or above waits.
func (c *scope) awaited(p message.Priority) bool {
	if c.list == nil {
		return false
	}
	for i := message.High; i <= p; i++ {
		if c.list.rings[i].n > 0 {
			return true
		}
	}
	return false
}

// park makes a turn wait for the budget. The caller has taken it out of its line.
func (s *Scheduler) park(t *turn, c *scope, now instant) {
	c.makeList()
	t.waits = c
	c.list.rings[t.priority].add(&t.spot, t)
	if c.list.timer.pos == 0 {
		s.setTimer(&c.list.timer, c, c.ready(now))
	}
}

func (c *scope) makeList() {
	if c.list == nil {
		c.list = &waitList{}
		c.list.timer.at = never
	}
}

// unwait takes a turn that is to be forgotten out of the line.
func (s *Scheduler) unwait(t *turn) {
	if c := t.waits; c != nil {
		c.list.rings[t.priority].remove(&t.spot)
		t.waits = nil
		if !c.awaited(message.Low) {
			s.setTimer(&c.list.timer, c, never)
		}
	}
	t.offered = [2]*scope{}
}

// fire is timed: the budget has something. As many are woken as it is good
// for. What they leave, since their site has no session free, goes to the next.
func (c *scope) fire(s *Scheduler, now instant) {
	if c.ready(now) <= now {
		for n := c.available(now); n > 0 && c.wakeOne(s); n-- {
		}
	}
	if !c.awaited(message.Low) {
		return
	}
	when := c.ready(now)
	if when <= now {
		when = now + max(leastWait, c.rate.interval())
	}
	s.setTimer(&c.list.timer, c, when)
}

func (c *scope) wakeOne(s *Scheduler) bool {
	l := c.list
	for _, p := range orderOf(l.turns) {
		if t, ok := l.rings[p].first(); ok {
			l.turns++
			s.wakeTurn(t, p)
			return true
		}
	}
	return false
}

func (s *Scheduler) wakeTurn(t *turn, p message.Priority) {
	c := t.waits
	c.list.rings[p].remove(&t.spot)
	t.waits = nil
	// A flow may have to wait for its stream and then for its job. It keeps its
	// place in the first, or it could be sent from one to the other for ever.
	if t.offered[0] != nil && t.offered[0] != c {
		t.offered[1] = c
	} else {
		t.offered[0] = c
	}
	t.owner.unpark(s)
}

// wakeAll ends all waiting for a budget: it has changed, or is no more.
func (s *Scheduler) wakeAll(c *scope) {
	if c.list == nil {
		return
	}
	for c.wakeOne(s) {
	}
	s.setTimer(&c.list.timer, c, never)
}

// Shares of the lower classes under contention: of every 16 turns one is
// offered to Low first and one to Normal first, so that High cannot starve
// them, nor Normal Low.
const (
	shareTurns = 16
	turnLow    = 7
	turnNormal = 15
)

var classOrders = [3][message.Priorities]message.Priority{
	{message.High, message.Normal, message.Low},
	{message.Normal, message.High, message.Low},
	{message.Low, message.High, message.Normal},
}

// orderOf is the order of classes for a turn.
func orderOf(turn int) *[message.Priorities]message.Priority {
	switch turn % shareTurns {
	case turnLow:
		return &classOrders[2]
	case turnNormal:
		return &classOrders[1]
	}
	return &classOrders[0]
}
