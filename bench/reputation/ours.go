package reputation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/node/replies"
	"hikyaku/reputation"
	"hikyaku/reputation/steer"
)

// ours is the product: replies mean what reputation.Rules say, and
// reputation/steer decides. What is in force at one second was decided from the
// reports of the second before, as with an exchange.
type ours struct {
	rules   *reputation.Rules
	c       *steer.Controller // nil: nothing is steered
	steers  bool
	steer   policy.Steer // as the operator has set it
	records map[string]keyspace.Steering
	decided *policy.Steering // to be in force from the next second on
	tallies map[exchange.Tally]uint32
	samples map[exchange.Sample]uint32
	sights  map[string]time.Time // first sight of recipients that may not exist
	seen    func(keyspace.Decision)
	book    *replies.Book // the node's own part: who is refused several times in a row
}

// headroom is how far above what is written the operator lets the controller
// rise. It begins at what is written.
const headroom = 4

func newOurs(steers bool) *ours {
	return &ours{
		rules: reputation.Shipped(), steers: steers, records: map[string]keyspace.Steering{},
		tallies: map[exchange.Tally]uint32{}, samples: map[exchange.Sample]uint32{}, sights: map[string]time.Time{},
		book: replies.New(reputation.Shipped()),
	}
}

func (o *ours) limits(written *policy.Carrier) *policy.Carrier {
	c := *written
	if !o.steers || c.PerSource.Rate == nil {
		return &c
	}
	start, most := *c.PerSource.Rate, *c.PerSource.Rate
	most.N *= headroom
	x := o.steer
	x.Start = &start
	c.PerSource.Rate, c.Steering = &most, &x
	return &c
}

func (o *ours) begin(now time.Time, set *policy.Set) {
	if o.steers {
		o.c = steer.New(set, now)
		o.collect(now)
	}
}

func (o *ours) read(m *met) reading {
	if m.complaint {
		o.note(m, steer.Complained)
		return reading{final: true, suppress: true}
	}
	v := o.rules.Classify(m.carrier, &m.reply)
	if m.beside {
		v = v.Beside(&m.reply)
	}
	if m.late {
		// It annotates: only what it says of the recipient follows.
		return reading{final: true, suppress: v.Final && o.suppresses(m, v.Action)}
	}
	o.note(m, string(v.Category))
	x := reading{brake: o.heed(m, &v)}
	switch {
	case v.Final:
		x.final, x.suppress = true, o.suppresses(m, v.Action)
	case v.Action == reputation.ActReconnect:
		x.atOnce = true
	case v.Action == reputation.ActElsewhere:
		x.soon = elsewhere
	default:
		x.wait = v.RetryAfter
	}
	return x
}

// heed is what a node does without being told, as in package node.
func (o *ours) heed(m *met, v *reputation.Verdict) time.Time {
	lane := replies.Lane{Carrier: m.carrier, Source: m.source}
	if v.Category == reputation.Delivered {
		o.book.Taken(lane)
		return time.Time{}
	}
	if o.c == nil || !v.OfSource() && !v.OfSpeed() {
		return time.Time{}
	}
	return o.book.Refused(m.at, lane, !v.OfSource())
}

// elsewhere is when mail is tried again that another source may well deliver.
const elsewhere = time.Minute

// suppresses says whether a recipient gets no more mail. Where one sight is not
// enough, the second must be on another day.
func (o *ours) suppresses(m *met, a reputation.Action) bool {
	switch a {
	case reputation.ActSuppress:
		return m.to != ""
	case reputation.ActSecond:
		first, seen := o.sights[m.to]
		if !seen {
			o.sights[m.to] = m.at
		}
		return seen && m.at.Truncate(24*time.Hour).After(first)
	}
	return false
}

func (o *ours) note(m *met, category string) {
	if o.c == nil {
		return
	}
	o.tallies[exchange.Tally{Carrier: m.carrier, Source: m.source, Tenant: m.tenant, Job: m.job, Domain: m.domain, Category: category}]++
	if m.reply.Code < 400 || m.complaint || len(o.samples) >= exchange.MaxSamples {
		return
	}
	r := &m.reply
	o.samples[exchange.Sample{Carrier: m.carrier, Source: m.source, Category: category, Phase: r.Phase.String(), Code: r.Code, Enhanced: r.Enhanced.String(), Text: r.Text[:min(len(r.Text), 200)]}]++
}

func (o *ours) second(now time.Time) (x *policy.Steering, changed bool) {
	if o.c == nil {
		return nil, false
	}
	x, changed, o.decided = o.decided, o.decided != nil, nil
	tallies := make([]exchange.Tally, 0, len(o.tallies))
	for t, n := range o.tallies {
		t.N = n
		tallies = append(tallies, t)
	}
	slices.SortFunc(tallies, func(a, b exchange.Tally) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Job, b.Job), cmp.Compare(a.Category, b.Category))
	})
	samples := make([]exchange.Sample, 0, len(o.samples))
	for s, n := range o.samples {
		s.N = n
		samples = append(samples, s)
	}
	slices.SortFunc(samples, func(a, b exchange.Sample) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Category, b.Category))
	})
	clear(o.tallies)
	clear(o.samples)
	o.c.Observe(now, "node", tallies, samples)
	o.collect(now)
	return x, changed
}

// collect decides, and makes of it what is in force a second later.
func (o *ours) collect(now time.Time) {
	for _, d := range o.c.Decide(now) {
		if o.seen != nil {
			o.seen(d)
		}
	}
	dirty := o.c.Dirty()
	for _, name := range dirty {
		o.records[name] = o.c.Steering(name)
	}
	if len(dirty) > 0 {
		o.decided = keyspace.Merge(maps.Clone(o.records))
	}
}
