package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// crowd is what a lane has learnt about how many connections its peer takes from
// the source at once. Most carriers have such a limit and tell nobody; many say it
// in the words that they also have for too high a rate. What tells it is that the
// others go on: a connection that is refused while sessions of the same lane carry
// mail was one too many.
//
// Such a refusal does not make the lane rest. A rest would stop it whole as soon
// as the sessions that are welcome have carried what one connection carries.
type crowd struct {
	most int           // connections that were taken at once; 0: none was ever one too many
	step int           // by how many most grows when the next probe is taken
	wait time.Duration // between two probes
	next instant       // when one more may be tried
}

// mostCrowdWait is how long a lane keeps from trying one connection more, as a
// multiple of the carrier's backoff.
const mostCrowdWait = 4

// shrink notes that open sessions are as many as the peer takes, backoff being
// the carrier's. Several that were refused together count once.
func (c *crowd) shrink(open int, backoff time.Duration, now instant) {
	switch {
	case c.most == 0: // it may have been chance: the next probe goes far, if it succeeds
		c.wait, c.step = backoff, open
	case now >= c.next:
		c.wait, c.step = min(2*c.wait, mostCrowdWait*backoff), 1
	}
	c.most, c.next = open, now+instant(c.wait)
}

// grow notes that open sessions are taken. When that is one more than was known,
// the next probe is soon, and by more.
func (c *crowd) grow(open int, backoff time.Duration, now instant) {
	if c.most == 0 || open <= c.most {
		return
	}
	c.most = open + c.step
	c.step = min(2*c.step, open)
	c.wait, c.next = backoff, now+instant(backoff)
}

// full says whether the lane has as many connections as its peer takes, and when
// one more may be tried; never while one is being tried.
func (l *lane) full(now instant) (when instant, full bool) {
	c := &l.crowd
	if c.most == 0 || l.open+l.opening < c.most {
		return 0, false
	}
	switch {
	case l.own.limit > 0 && c.most >= l.own.maxConns:
		*c = crowd{} // policy bounds it again
		return 0, false
	case now < c.next:
		return c.next, true // or when a session ends, which asks again
	case l.opening > 0:
		return never, true // its end asks again
	}
	return 0, false
}

// TooMany reports whether a connection of the lane that is being refused, before
// SessionOpened, was one too many: the peer refuses it, for now only, while others
// are open.
func (s *Scheduler) TooMany(key Lane, failed *message.Reply) bool {
	l := s.lanes[key]
	if l == nil || l.open == 0 || failed.Code >= 500 {
		return false
	}
	switch failed.Fault {
	case message.FaultNone, message.FaultRefused, message.FaultReset, message.FaultClosed:
		return true
	}
	return false // nobody has refused anything
}

// maxStrays bounds how many sessions in a row may be let in and then carry nothing,
// while others of their lane are open, before the lane rests. Carriers answer so to
// what is a little too fast, and what is done about that is the rate's matter; but
// when all are answered so, each further one makes it worse.
const maxStrays = 3

// stray reports whether a session that carried nothing is one of the few that do
// not make its lane rest.
func (l *lane) stray(opened bool, failed *message.Reply) bool {
	return opened && l.open > 0 && failed.Code < 500 && l.strays < maxStrays-1
}
