package carriers

import (
	"strings"
	"time"

	"hikyaku/bench/carriers/late"
)

// The kinds of Fate.
const (
	KindUnknown   = "unknown"
	KindFull      = "full"
	KindFiltered  = "filtered"
	KindDropped   = "dropped"
	KindBounce    = string(late.Bounce)
	KindComplaint = string(late.Complaint)
)

// greyKept is how long a greylist remembers by default.
const greyKept = 24 * time.Hour

// The phases of chances and fates.
const (
	phaseConnect = "connect"
	phaseMail    = "mail"
	phaseRcpt    = "rcpt"
	phaseData    = "data"
	phaseDot     = "dot"
)

// fate is a Fate made ready.
type fate struct {
	Fate
	upTo    float64 // shares added up
	refuses bool
	say     Say
	after   quantiles
}

func readyFates(fs []Fate) []fate {
	var ready []fate
	sum := 0.0
	for _, f := range fs {
		sum += f.Share
		r := fate{Fate: f, upTo: sum, after: f.After.table(), say: Say{Reply: f.Reply}}
		r.refuses = f.Kind == KindUnknown || f.Kind == KindFull || f.Kind == KindFiltered
		ready = append(ready, r)
	}
	return ready
}

// fateOf is what becomes of an address; nil: its mail arrives.
func (c *Carrier) fateOf(to string) *fate {
	if len(c.fates) == 0 {
		return nil
	}
	x := hash(c.seed, to)
	for i := range c.fates {
		if below(x, c.fates[i].upTo) {
			return &c.fates[i]
		}
	}
	return nil
}

// FateOf tells beforehand what becomes of mail for an address, so that a run can
// compare. ok is false when it simply arrives.
func (c *Carrier) FateOf(address string) (f Fate, ok bool) {
	if x := c.fateOf(address); x != nil {
		return x.Fate, true
	}
	return Fate{}, false
}

// greylist remembers pairs of source and recipient by hash, the newest
// maxGrey of them.
type greylist struct {
	first map[uint64]time.Time
	order []uint64 // a ring
	next  int
}

const maxGrey = 1 << 16

// greylisted is Postgrey's reply.
const greylisted = "450 4.2.0 <{rcpt}>: Recipient address rejected: Greylisted"

// greylisted says how a recipient is put off at first sight; nil when it is
// not.
func (c *Carrier) greylisted(now time.Time, s *source, to string) *Say {
	g := c.profile.Greylist
	if g == nil || !below(hash(c.seed+1, to), g.Share) {
		return nil
	}
	say := &Say{Reply: g.Reply}
	if say.Reply == "" {
		say.Reply = greylisted
	}
	key := hash(hash(c.seed, s.name), to)
	first, known := c.grey.first[key]
	switch {
	case !known || now.Sub(first) > g.Keep.Or(greyKept):
		c.grey.remember(key, now)
		return say
	case now.Sub(first) < g.Wait.D():
		return say
	}
	return nil
}

func (g *greylist) remember(key uint64, now time.Time) {
	if g.first == nil {
		g.first = map[uint64]time.Time{}
	}
	if _, known := g.first[key]; !known {
		if len(g.order) < maxGrey {
			g.order = append(g.order, key)
		} else {
			delete(g.first, g.order[g.next])
			g.order[g.next] = key
			g.next = (g.next + 1) % maxGrey
		}
	}
	g.first[key] = now
}

// domainOf is the part behind the last @.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
