package reputation

import (
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// The quick world is that of the real minutes (package bench/scenario) in virtual
// time: the farm's own carriers, which take messages by the second, connections
// that are halved at times, minds that change every one to three minutes, and a
// controller that steps by seconds. What goes wrong there can be looked at here.
const (
	quickLeast = time.Minute
	quickMost  = 3 * time.Minute
	quickEvery = 5 * time.Second
	quickRest  = time.Minute
	// quickPace is by how much all is quicker than in the day: what a reply says of
	// minutes is of seconds.
	quickPace    = 60
	quickBackoff = 5 * time.Second
	quickFor     = time.Hour // is mail worth sending
)

// quickShares are the carriers, and the parts of the mail that go to each.
var quickShares = map[string]float64{
	"outlook": 25, "yahoo": 25, "icloud": 15, "gmx": 10, "docomo": 6, "au": 6, "softbank": 6, "yahoo-japan": 6,
}

var quickNames = []string{"outlook", "yahoo", "icloud", "gmx", "docomo", "au", "softbank", "yahoo-japan"}

var quickRetry = []policy.Duration{
	policy.Duration(5 * time.Second), policy.Duration(10 * time.Second), policy.Duration(20 * time.Second), policy.Duration(30 * time.Second),
}

// pace is by how much the world is quicker than the day.
func (w *world) pace() time.Duration {
	if w.o.Quick {
		return quickPace
	}
	return 1
}

// written are the limits that are known of a carrier to everybody, and how this
// world retries.
func (w *world) written(p *carriers.Profile) *policy.Carrier {
	c := written(p)
	if w.o.Quick {
		c.Retry, c.Backoff = &policy.Retry{Schedule: quickRetry}, policy.Duration(quickBackoff)
	}
	return c
}

// steer is how the controller is set.
func (w *world) steer() policy.Steer {
	if w.o.Quick {
		return policy.Steer{Every: policy.Duration(quickEvery), Rest: policy.Duration(quickRest)}
	}
	return policy.Steer{}
}

// quickly draws a second of the quick world: the same at all times.
func (t *traffic) quickly() []arrival {
	for t.owed += t.w.plan.steady; t.owed >= 1; t.owed-- {
		t.draw(arrival{tenant: tenantShop, priority: message.Normal, lasts: quickFor}, 0)
	}
	return t.out
}
