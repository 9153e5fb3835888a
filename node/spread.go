package node

import (
	"math/rand/v2"
	"time"

	"hikyaku/controlplane/policy"
)

// spread moves a job's first attempt to where the destination's carrier wants it:
// some punish bursts, and docomo names the top of the hour. Only the domain is
// known here; carriers known by MX name spread nothing.
func (p *planned) spread(destination string, due time.Time) time.Time {
	route, _ := p.set.RouteOf(destination)
	if c, _ := p.set.CarrierFor(route, destination, nil); c != nil {
		return spreadStart(c, due, rand.Int64N)
	}
	return due
}

// spreadStart is when an attempt that could begin at due is to begin. random gives
// a number below its argument.
//
// It is about when mail sets out, not when it flows: of a job that takes hours at
// the carrier's rate, what is sent just after the hour is no burst.
func spreadStart(c *policy.Carrier, due time.Time, random func(int64) int64) time.Time {
	if n := int64(c.StartJitter); n > 0 {
		due = due.Add(time.Duration(random(n)))
	}
	// Hours of UTC. Where these carriers are, local hours begin with them.
	if off := c.OffHour.D(); off > 0 {
		if into := due.Sub(due.Truncate(time.Hour)); into < off {
			due = due.Add(off - into + time.Duration(random(int64(off))))
		}
	}
	return due.Truncate(time.Microsecond)
}
