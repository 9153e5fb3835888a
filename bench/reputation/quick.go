package reputation

import (
	"fmt"
	"maps"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// QuickPace is by how much all is quicker in the quick world than in the day: ten
// hours are ten minutes. It is the world of the real minutes (package
// bench/scenario), here in virtual time, so that what goes wrong there can be
// looked at: the day's carriers (carriers.Profile.Quicker), moods that change
// every 90 seconds to five minutes, a controller whose steps are as short as they
// can be. What does not go faster is the way of a reply to the leader and back.
const QuickPace = 60

// Mail of the quick world comes evenly, and is worth sending to the end.
const quickFor = time.Hour

// QuickSteer is how the controller is set in the quick world: with steps of five
// seconds, since the way of a reply there and back is no shorter, and the shortest
// rests that policy allows. At the pace of all else they would be of half a second
// and of thirty.
func QuickSteer() policy.Steer {
	return policy.Steer{Every: policy.Duration(5 * time.Second), Rest: policy.Duration(time.Minute)}
}

// QuickRetry are a day's retries, and QuickBackoff how long a site rests.
var QuickRetry = []policy.Duration{
	policy.Duration(5 * time.Second), policy.Duration(10 * time.Second), policy.Duration(20 * time.Second), policy.Duration(30 * time.Second),
}

// QuickBackoff is how long a site rests of which no host takes a connection.
const QuickBackoff = policy.Duration(5 * time.Second)

// Quick are the carriers of the quick world, and the part of the mail that goes to
// each by its name.
func Quick() ([]*carriers.Profile, map[string]float64, error) {
	ps, err := carriersAt(QuickPace)
	return ps, maps.Clone(shares), err
}

// QuickMoods draws what the carriers of the quick world allow sources.
func QuickMoods(seed uint64, ps []*carriers.Profile, sources int, span time.Duration) []Mood {
	return moodsAt(QuickPace, Moods{Seed: seed, Carriers: ps, Sources: sources, Span: span}).Draw()
}

// carriersAt are the day's carriers where all goes pace times as fast.
func carriersAt(pace int) ([]*carriers.Profile, error) {
	ps, err := carriers.Parse("carriers.yaml", carriersText)
	if err != nil {
		return nil, fmt.Errorf("read the simulated day's carriers: %w", err)
	}
	for i, p := range ps {
		ps[i] = p.Quicker(pace)
	}
	return ps, nil
}

// moodsAt are moods that change as often as the day's, at a pace.
func moodsAt(pace int, m Moods) Moods {
	m.Least, m.Most = leastCalm/time.Duration(pace), mostCalm/time.Duration(pace)
	return m
}

// pace is by how much the world is quicker than the day.
func (o *Options) pace() int {
	if o.Quick {
		return QuickPace
	}
	return 1
}

// sooner is how long a time of the day is.
func (w *world) sooner(d time.Duration) time.Duration { return d / time.Duration(w.o.pace()) }

// written are the limits that are known of a carrier to everybody, and how this
// world retries.
func (w *world) written(p *carriers.Profile) *policy.Carrier {
	c := written(p)
	if w.o.Quick {
		c.Retry, c.Backoff = &policy.Retry{Schedule: QuickRetry}, QuickBackoff
	}
	return c
}

// steer is how the controller is set.
func (w *world) steer() policy.Steer {
	if w.o.Quick {
		return QuickSteer()
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
