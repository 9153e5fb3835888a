package scenario

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hikyaku/bench/carriers"
	"hikyaku/bench/load"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
	"hikyaku/bench/reputation"
	"hikyaku/controlplane/policy"
)

// The real minutes are the simulated day, reputation.QuickPace times as quick: its
// carriers, its sources, its moods, and a mean of its mail. Ten minutes are ten hours
// of it. What does not go faster are the wire, and the way of a reply to the leader
// and back.
const (
	liveSources  = 4
	liveHeadroom = 4
)

// liveWay is a way to treat carriers, by what the product is told beforehand and
// by who turns its throttles meanwhile.
type liveWay struct {
	name string
	told func(o *carriers.PolicyOptions)
	hand func(t *trial) (hand, error)
}

func liveWays() []liveWay {
	off := func(o *carriers.PolicyOptions) { o.Reputation.Mode = policy.ModeOff }
	unlimited := func(o *carriers.PolicyOptions) {
		off(o)
		o.Each = func(_ *carriers.Profile, c *policy.Carrier) { c.PerSource, c.Limits = policy.Limits{}, policy.Limits{} }
	}
	steered := func(o *carriers.PolicyOptions) {
		o.Each = func(_ *carriers.Profile, c *policy.Carrier) {
			start, most := *c.PerSource.Rate, *c.PerSource.Rate
			most.N *= liveHeadroom
			c.PerSource.Rate = &most
			x := reputation.QuickSteer()
			x.Start = &start
			c.Steering = &x
		}
	}
	nobody := func(*trial) (hand, error) { return idle{}, nil }
	return []liveWay{
		{reputation.Unlimited, unlimited, nobody},
		{reputation.Fixed, off, nobody},
		{reputation.TextRules, off, func(t *trial) (hand, error) { return newReading(t.nodes[0], reputation.QuickPace) }},
		{reputation.Ours, steered, nobody},
		{reputation.Oracle, off, func(t *trial) (hand, error) { return knowing{t.nodes[0]}, nil }},
	}
}

// quick lets what the product waits for, by its rules or its schedule, be as short
// as all else.
func quick(told func(o *carriers.PolicyOptions)) func(o *carriers.PolicyOptions) {
	return func(o *carriers.PolicyOptions) {
		o.Pace, o.Retry, o.Backoff = reputation.QuickPace, reputation.QuickRetry, reputation.QuickBackoff
		told(o)
	}
}

// liveReputation sends through real nodes to farms whose hidden limits change by
// the same draw: one for each way of treating them, side by side, so that the
// machine is as fast or slow for all.
func (r *Run) liveReputation(ctx context.Context) error {
	profiles, shares, err := reputation.Quick()
	if err != nil {
		return err
	}
	d := load.Destinations{Spreading: load.Named}
	for _, p := range profiles {
		d.Names = append(d.Names, load.Domain{Name: p.Domains[0], Weight: shares[p.Name]})
	}
	span := r.Duration.D() + r.Settle.D()
	moods := reputation.QuickMoods(r.Seed, profiles, liveSources, span)
	all := &crew{name: "real minutes, all ways side by side"}
	defer all.showing(ctx, r)()
	ways := liveWays()
	seen := make([]*liveOutcome, len(ways))
	group, gctx := errgroup.WithContext(ctx)
	for i, way := range ways {
		l := &liveOutcome{way: way, profiles: profiles, moods: moods, span: span}
		seen[i] = l
		l.flow = r.steady("load")
		l.flow.keep = true
		l.flow.load.Mix = r.mix(int(r.Rate*r.Duration.D().Seconds()) + 1)
		l.flow.load.Mix.Destinations, l.flow.load.Rate, l.flow.load.Duration = d, r.Rate, r.Duration.D()
		group.Go(func() (err error) {
			l.o, err = r.do(gctx, plan{
				name: "real minutes, " + way.name, flows: []*flow{l.flow}, given: profiles, sources: liveSources, partial: true, told: quick(way.told),
				crew: all, during: l.during, drained: l.drained,
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.showLive(profiles, seen)
	return nil
}

// liveOutcome is one way, and what came of it.
type liveOutcome struct {
	way      liveWay
	profiles []*carriers.Profile
	moods    []reputation.Mood
	span     time.Duration
	o        *outcome
	flow     *flow
	// By carrier: addresses that were suppressed, and those of them that exist
	// and had not complained.
	suppressed, wrong []int64
}

// during lets the farm change its mind, and the hand work, until the sources have
// ended.
func (l *liveOutcome) during(ctx context.Context, t *trial) error {
	h, err := l.way.hand(t)
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.work(gctx) })
	group.Go(func() error { return l.change(gctx, t, h) })
	return group.Wait()
}

// change lets the farm change its mind, as the draw says, and tells the hand of it,
// and of what carriers do in the first moments of each hour.
func (l *liveOutcome) change(ctx context.Context, t *trial, h hand) error {
	farm := t.inbox.(*farmInbox).farm
	now := map[policy.Steered]policy.Limits{}
	for _, c := range l.changes(t.start) {
		if wait := time.Until(c.at); wait > 0 {
			select {
			case <-ctx.Done():
				return nil // all is sent
			case <-time.After(wait):
			}
		}
		for _, m := range c.moods {
			now[l.lane(m)] = m.Limits
		}
		for i := range liveSources {
			lane := policy.Steered{Carrier: c.carrier.Name, Source: carriers.SourceName(i)}
			limits := now[lane]
			if x := c.carrier.TopOfHour; x != nil && x.In(c.at) {
				limits.Rate = &x.Rate
			}
			if err := h.told(ctx, lane, limits); err != nil && ctx.Err() == nil {
				return err
			}
		}
		for _, m := range c.moods {
			farm.Retune(c.carrier.Name, carriers.SourceAddress(m.Source), m.Limits)
		}
	}
	return nil
}

func (l *liveOutcome) lane(m *reputation.Mood) policy.Steered {
	return policy.Steered{Carrier: l.profiles[m.Carrier].Name, Source: carriers.SourceName(m.Source)}
}

// turn is a moment at which a carrier allows something else.
type turn struct {
	at      time.Time
	carrier *carriers.Profile
	moods   []*reputation.Mood
}

// changes are all turns from the start on, in their order.
func (l *liveOutcome) changes(start time.Time) []turn {
	var turns []turn
	for i := range l.moods {
		m := &l.moods[i]
		at, p := start.Add(m.After), l.profiles[m.Carrier]
		if last := len(turns) - 1; last >= 0 && turns[last].at.Equal(at) && turns[last].carrier == p {
			turns[last].moods = append(turns[last].moods, m)
			continue
		}
		turns = append(turns, turn{at, p, []*reputation.Mood{m}})
	}
	for _, p := range l.profiles {
		x := p.TopOfHour
		if x == nil {
			continue
		}
		hour := x.Hour.Or(time.Hour)
		for at := start.Truncate(hour).Add(hour); at.Before(start.Add(l.span)); at = at.Add(hour) {
			turns = append(turns, turn{at: at, carrier: p}, turn{at: at.Add(x.For.D()), carrier: p})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return a.at.Compare(b.at) })
	return turns
}

// drained reads who is suppressed, before the node ends.
func (l *liveOutcome) drained(ctx context.Context, t *trial) error {
	l.suppressed, l.wrong = make([]int64, len(l.profiles)), make([]int64, len(l.profiles))
	farm := t.inbox.(*farmInbox).farm
	return t.nodes[0].Suppressed(ctx, func(address string) {
		_, domain, _ := strings.Cut(address, "@")
		at := slices.IndexFunc(l.profiles, func(p *carriers.Profile) bool { return slices.Contains(p.Domains, domain) })
		if at < 0 {
			return
		}
		l.suppressed[at]++
		if fate, ok := farm.FateOf(address); !ok || fate.Kind != carriers.KindUnknown {
			l.wrong[at]++
		}
	})
}

// account is what the mail for each carrier came to.
func (l *liveOutcome) account(seed uint64) []report.Treatment {
	rows := make([]report.Treatment, len(l.profiles))
	delays := make([][]time.Duration, len(l.profiles))
	can := newFates(l.profiles, seed)
	for n := range int(min(l.flow.result.Accepted, int64(l.flow.load.Mix.Recipients))) {
		at, takes := can.of(string(l.flow.load.Mix.AppendRecipient(nil, n)))
		if !takes {
			continue
		}
		rows[at].Deliverable++
		if d := l.flow.kept[n].Load(); d > 0 {
			rows[at].Delivered++
			delays[at] = append(delays[at], time.Duration(d))
		}
	}
	for i, p := range l.profiles {
		at := slices.IndexFunc(l.o.states, func(st carriers.State) bool { return st.Carrier == p.Name })
		st, t := &l.o.states[at], &rows[i]
		t.Name, t.Within = l.way.name, within(delays[i], t.Deliverable)
		t.Attempts, t.Violations, t.Blocks, t.BlockedFor = st.Offered, st.Counters.Violations, st.Blocks, st.BlockedFor
		t.Reputation, t.Suppressed, t.Wrong = l.o.standing[at], l.suppressed[i], l.wrong[i]
	}
	return rows
}

// within is the time in which 95 % of what could be delivered had been; 0: never.
func within(delays []time.Duration, deliverable int64) time.Duration {
	slices.Sort(delays)
	need := int(math.Ceil(0.95 * float64(deliverable)))
	if need == 0 || need > len(delays) {
		return 0
	}
	return delays[need-1]
}

// showLive puts the ways side by side.
func (r *Run) showLive(profiles []*carriers.Profile, seen []*liveOutcome) {
	all := report.Treated{Carrier: "real minutes: all", Model: "the farm's carriers together"}
	each := make([]report.Treated, len(profiles))
	oracle := seen[len(seen)-1]
	best := oracle.account(r.Seed)
	for i, p := range profiles {
		each[i].Series = oracle.drawn(p, report.SeriesAllowed, allowed)
	}
	sums := map[string]*report.Treatment{}
	for _, l := range seen {
		rows := l.account(r.Seed)
		sum := report.Treatment{Name: l.way.name, Within: -1}
		bests := int64(0)
		for i, t := range rows {
			bests += best[i].Delivered
			t.OfBest = float64(t.Delivered) / float64(max(1, best[i].Delivered))
			each[i].Carrier, each[i].Model = "real minutes: "+profiles[i].Name, profiles[i].Description
			each[i].Rows = append(each[i].Rows, t)
			if l.way.name != reputation.Unlimited { // its peaks would flatten the others
				each[i].Series = append(each[i].Series, l.drawn(profiles[i], l.way.name, offered)...)
			}
			sum.Deliverable, sum.Delivered, sum.Attempts = sum.Deliverable+t.Deliverable, sum.Delivered+t.Delivered, sum.Attempts+t.Attempts
			sum.Violations, sum.Blocks, sum.BlockedFor = sum.Violations+t.Violations, sum.Blocks+t.Blocks, sum.BlockedFor+t.BlockedFor
			sum.Suppressed, sum.Wrong = sum.Suppressed+t.Suppressed, sum.Wrong+t.Wrong
			sum.Reputation += t.Reputation / float64(len(profiles))
		}
		sum.OfBest = float64(sum.Delivered) / float64(max(1, bests))
		all.Rows = append(all.Rows, sum)
		sums[l.way.name] = &sum
		r.figure("real minutes, "+l.way.name+": delivered, of what could be", "%", report.Higher, 0, 100*float64(sum.Delivered)/float64(max(1, sum.Deliverable)))
		r.figure("real minutes, "+l.way.name+": blocks suffered", "", report.Lower, 0, float64(sum.Blocks))
		l.o.series = nil                                                                                                 // minutes beside the simulated day's hours; the carriers' plots tell them
		l.o.processes = slices.DeleteFunc(l.o.processes, func(p measure.Process) bool { return p.Name == measure.Self }) // it served all ways
		for i := range l.o.flows {
			l.o.flows[i].service, l.o.flows[i].fromDue = nil, nil // how fast mail is accepted is no question here
		}
		r.show(l.o, l.way.name)
	}
	ours, text := sums[reputation.Ours], sums[reputation.TextRules]
	r.figure("real minutes, ours: delivered, of what the oracle delivered", "%", report.Higher, 100*reputation.LeastDelivered, 100*ours.OfBest)
	r.figure("real minutes, ours: blocks suffered, of those of the text rules", "%", report.Lower, 100*reputation.MostBlocks, 100*float64(ours.Blocks)/float64(max(1, text.Blocks)))
	// The carriers of the trials are shown as treated, and their violations there.
	r.rep.Carriers, r.rep.Violations, r.rep.ViolationCount = nil, nil, 0
	r.rep.Treated = append(append(r.rep.Treated, all), each...)
	r.note("In the real minutes the day goes %d times as quick: rates, what carriers hold against a source and for how long, their minds and the text rules. The controller does not: its steps are %s and its rests %s at least, and the way of a reply to the leader and back is as long as ever, some three minutes of the day.", reputation.QuickPace, reputation.QuickSteer().Every, reputation.QuickSteer().Rest)
	r.note("In the real minutes text rules and oracle are programs beside the product that turn its throttles through the admin API, and what a reply means for its recipient is the product's own reading in all ways.")
}

// drawn is a rate over time at a carrier in this way.
func (l *liveOutcome) drawn(p *carriers.Profile, name string, counter func(*carriers.Series) []int64) []measure.Series {
	at := slices.IndexFunc(l.o.states, func(st carriers.State) bool { return st.Carrier == p.Name })
	if at < 0 {
		return nil
	}
	s := &l.o.states[at].Series
	return []measure.Series{slopes(name, s.At, counter(s))}
}

func offered(s *carriers.Series) []int64 { return s.Offered }
func allowed(s *carriers.Series) []int64 { return s.Allowed }

// fates tells of addresses whose they are and whether they take mail.
type fates struct {
	engines []*carriers.Carrier
	at      map[string]int // by domain
}

func newFates(profiles []*carriers.Profile, seed uint64) *fates {
	f := &fates{at: map[string]int{}}
	for i, p := range profiles {
		f.engines = append(f.engines, carriers.New(p, carriers.Options{Seed: seed}))
		for _, d := range p.Domains {
			f.at[d] = i
		}
	}
	return f
}

func (f *fates) of(address string) (at int, takes bool) {
	_, domain, _ := strings.Cut(address, "@")
	at, ok := f.at[domain]
	if !ok {
		return 0, false
	}
	switch fate, _ := f.engines[at].FateOf(address); fate.Kind {
	case carriers.KindUnknown, carriers.KindFull, carriers.KindFiltered:
		return at, false
	}
	return at, true
}
