package scenario

import (
	"context"
	"slices"
	"strings"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/load"
	"hikyaku/bench/report"
	"hikyaku/bench/reputation"
	"hikyaku/controlplane/policy"
)

// Real time is short, so everything is quicker than in the simulated day: the
// carriers' rates are those of the farm's own profiles, their minds change every
// one to three minutes, and the controller steps and rests by seconds.
const (
	liveSources  = 2
	liveLeast    = time.Minute
	liveMost     = 3 * time.Minute
	liveHeadroom = 4
	liveEvery    = 5 * time.Second
	liveRest     = time.Minute
)

// liveCarriers have limits that bind; weights are by what is written about them.
var liveCarriers = []struct {
	profile, domain string
	weight          float64
}{
	{"outlook", "outlook.test", 25}, {"yahoo", "yahoo.test", 25}, {"icloud", "icloud.test", 15}, {"gmx", "gmx.test", 10},
	{"docomo", "docomo.test", 6}, {"au", "ezweb.test", 6}, {"softbank", "softbank.test", 6}, {"yahoo-japan", "yahoo-japan.test", 6},
}

// liveTreatment is a way that the product has.
type liveTreatment struct {
	name string
	told func(o *carriers.PolicyOptions)
}

func liveTreatments() []liveTreatment {
	off := func(o *carriers.PolicyOptions) { o.Reputation.Mode = policy.ModeOff }
	return []liveTreatment{
		{reputation.Unlimited, func(o *carriers.PolicyOptions) {
			off(o)
			o.Each = func(_ *carriers.Profile, c *policy.Carrier) { c.PerSource, c.Limits = policy.Limits{}, policy.Limits{} }
		}},
		{reputation.Fixed, off},
		{reputation.Ours, func(o *carriers.PolicyOptions) {
			o.Each = func(_ *carriers.Profile, c *policy.Carrier) {
				start, most := *c.PerSource.Rate, *c.PerSource.Rate
				most.N *= liveHeadroom
				c.PerSource.Rate = &most
				c.Steering = &policy.Steer{Start: &start, Every: policy.Duration(liveEvery), Rest: policy.Duration(liveRest)}
			}
		}},
	}
}

// liveReputation sends through real nodes to the farm, whose hidden limits change
// by the same draw in each way of treating it.
func (r *Run) liveReputation(ctx context.Context) error {
	var names []string
	d := load.Destinations{Spreading: load.Named}
	for _, c := range liveCarriers {
		names = append(names, c.profile)
		d.Names = append(d.Names, load.Domain{Name: c.domain, Weight: c.weight})
	}
	profiles, err := carriers.Named(names...)
	if err != nil {
		return err
	}
	moods := reputation.Moods{Seed: r.Seed, Carriers: profiles, Sources: liveSources, Span: r.Duration.D() + r.Settle.D(), Least: liveLeast, Most: liveMost}.Draw()
	var seen []liveOutcome
	for _, way := range liveTreatments() {
		f := r.steady("load")
		f.load.Mix = r.mix(int(r.Rate*r.Duration.D().Seconds()) + 1)
		f.load.Mix.Destinations, f.load.Rate, f.load.Duration = d, r.Rate, r.Duration.D()
		o, err := r.do(ctx, plan{
			name: "real minutes, " + way.name, flows: []*flow{f}, profiles: names, sources: liveSources, partial: true, told: way.told,
			during: func(ctx context.Context, t *trial) error { return t.change(ctx, moods, profiles) },
		})
		if err != nil {
			return err
		}
		seen = append(seen, liveOutcome{way.name, o, f})
	}
	r.showLive(profiles, seen)
	return nil
}

// change lets the farm change its mind until the sources have ended.
func (t *trial) change(ctx context.Context, moods []reputation.Mood, profiles []*carriers.Profile) error {
	farm := t.inbox.(*farmInbox).farm
	for _, m := range moods {
		if wait := time.Until(t.start.Add(m.After)); wait > 0 {
			select {
			case <-ctx.Done():
				return nil // all is sent
			case <-time.After(wait):
			}
		}
		farm.Retune(profiles[m.Carrier].Name, carriers.SourceAddress(m.Source), m.Limits)
	}
	return nil
}

// liveOutcome is what came of one way.
type liveOutcome struct {
	name string
	o    *outcome
	f    *flow
}

// showLive puts the ways side by side.
func (r *Run) showLive(profiles []*carriers.Profile, seen []liveOutcome) {
	all := report.Treated{Carrier: "real minutes: all", Model: "the farm's carriers together"}
	each := make([]report.Treated, len(profiles))
	for _, s := range seen {
		sum := report.Treatment{Name: s.name, Within: -1, Suppressed: -1, Wrong: -1}
		can := deliverable(s.f, profiles, r.Seed)
		for i, p := range profiles {
			at := slices.IndexFunc(s.o.states, func(st carriers.State) bool { return st.Carrier == p.Name })
			st := &s.o.states[at]
			t := report.Treatment{
				Name: s.name, Deliverable: can[i], Delivered: min(st.Delivered, can[i]), Within: -1, Attempts: st.Offered, Violations: st.Counters.Violations,
				Blocks: st.Blocks, BlockedFor: st.BlockedFor, Reputation: s.o.standing[at], Suppressed: -1, Wrong: -1,
			}
			each[i].Carrier, each[i].Model = "real minutes: "+p.Name, p.Description
			each[i].Rows = append(each[i].Rows, t)
			each[i].Series = append(each[i].Series, slopes(s.name, st.Series.At, st.Series.Offered))
			sum.Deliverable, sum.Delivered, sum.Attempts = sum.Deliverable+t.Deliverable, sum.Delivered+t.Delivered, sum.Attempts+t.Attempts
			sum.Violations, sum.Blocks, sum.BlockedFor = sum.Violations+t.Violations, sum.Blocks+t.Blocks, sum.BlockedFor+t.BlockedFor
			sum.Reputation += t.Reputation / float64(len(profiles))
		}
		all.Rows = append(all.Rows, sum)
		r.figure("real minutes, "+s.name+": delivered, of what could be", "%", report.Higher, 0, 100*float64(sum.Delivered)/float64(max(1, sum.Deliverable)))
		r.figure("real minutes, "+s.name+": blocks suffered", "", report.Lower, 0, float64(sum.Blocks))
		r.show(s.o, s.name)
	}
	// The carriers of the trials are shown as treated, and their violations there.
	r.rep.Carriers, r.rep.Violations, r.rep.ViolationCount = nil, nil, 0
	r.rep.Treated = append(append(r.rep.Treated, all), each...)
	r.note("The real minutes compare what the product can do: text rules and the oracle are in the simulated day alone. Their carriers change their minds every one to three minutes, and the controller's steps are 5 s and its rests a minute.")
}

// deliverable counts the recipients that were handed in and would take mail.
func deliverable(f *flow, profiles []*carriers.Profile, seed uint64) []int64 {
	counts := make([]int64, len(profiles))
	var engines []*carriers.Carrier
	for _, p := range profiles {
		engines = append(engines, carriers.New(p, carriers.Options{Seed: seed}))
	}
	at := map[string]int{}
	for i, p := range profiles {
		for _, d := range p.Domains {
			at[d] = i
		}
	}
	for n := range int(min(f.result.Accepted, int64(f.load.Mix.Recipients))) {
		to := string(f.load.Mix.AppendRecipient(nil, n))
		_, domain, _ := strings.Cut(to, "@")
		i, ok := at[domain]
		if !ok {
			continue
		}
		switch fate, _ := engines[i].FateOf(to); fate.Kind {
		case carriers.KindUnknown, carriers.KindFull, carriers.KindFiltered:
		default:
			counts[i]++
		}
	}
	return counts
}
