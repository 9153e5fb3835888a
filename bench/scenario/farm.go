package scenario

import (
	"context"
	"errors"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
	"hikyaku/controlplane/policy"
)

// farmInbox is a set of simulated carriers with their name server.
type farmInbox struct {
	farm *carriers.Farm
	text string // the policy that keeps to their limits

	opened time.Time
}

// retrySoon is the schedule of scenarios whose trials are minutes, not days.
var retrySoon = []policy.Duration{seconds(5), seconds(10), seconds(20), seconds(30)}

func openFarm(ctx context.Context, t *trial) (*farmInbox, error) {
	profiles, err := t.plan.given, error(nil)
	if len(profiles) == 0 {
		profiles, err = carriers.Pick(t.plan.profiles, t.plan.files)
	}
	if err != nil {
		return nil, err
	}
	f := &farmInbox{opened: time.Now()}
	f.farm, err = carriers.Start(ctx, carriers.FarmOptions{
		Profiles: profiles, Seed: t.run.Seed, Every: 500 * time.Millisecond, Want: t.sampled,
		OnReceived: func(a *carriers.Arrival) { t.take(a.Received) },
	})
	if err != nil {
		return nil, err
	}
	told := carriers.PolicyOptions{Sources: t.plan.sources, Retry: retrySoon, Backoff: seconds(5)}
	if t.plan.told != nil {
		t.plan.told(&told)
	}
	text, err := f.farm.Policy(told)
	if err != nil {
		return nil, errors.Join(err, f.farm.Close())
	}
	f.text = string(text) + "---\n"
	return f, nil
}

func (f *farmInbox) resolver() string { return f.farm.DNS }
func (f *farmInbox) port() int        { return f.farm.Port }
func (f *farmInbox) policy() string   { return f.text }
func (f *farmInbox) close() error     { return f.farm.Close() }

// outcome is what the carriers saw.
func (f *farmInbox) outcome(t *trial, o *outcome) {
	o.states = f.farm.Snapshot()
	for _, s := range o.states {
		c := report.Carrier{
			Name: s.Carrier, Model: s.Description, Offered: s.Offered, Allowed: s.Allowed, Unlimited: s.Unlimited,
			Delivered: s.Messages, Deferred: s.Deferred, Refused: s.Refused, Broken: s.Metric.Violations,
		}
		c.Series = append(c.Series, slopes(report.SeriesOffered, s.Series.At, s.Series.Offered), slopes(report.SeriesDelivered, s.Series.At, s.Series.Delivered))
		if !s.Unlimited {
			c.Series = append(c.Series, slopes(report.SeriesAllowed, s.Series.At, s.Series.Allowed))
		}
		o.standing = append(o.standing, f.standing(s.Carrier, t.plan.sources))
		for i := range c.Series {
			c.Series[i] = shifted(c.Series[i], f.opened.Sub(t.run.rep.Started).Seconds())
		}
		o.carriers = append(o.carriers, c)
		o.brokenN += int(s.Metric.Violations)
		for _, v := range s.Violations {
			o.broken = append(o.broken, report.Violation{
				At: v.At.Sub(t.run.rep.Started).Seconds(), Carrier: v.Carrier, Source: v.Source, Limit: v.Limit, Window: v.Window, Allowed: v.Allowed, Seen: v.Seen,
			})
		}
	}
}

// standing is the mean of the sources' at a carrier.
func (f *farmInbox) standing(carrier string, sources int) (mean float64) {
	n := max(1, sources)
	for i := range n {
		mean += f.farm.Standing(carrier, carriers.SourceAddress(i)).Score / float64(n)
	}
	return mean
}

// slopes turns a counter over time into its growth per second.
func slopes(name string, at []float64, n []int64) measure.Series {
	s := measure.Series{Name: name, Unit: "msg/s", Group: measure.GroupRate}
	for i := 1; i < len(at); i++ {
		if span := at[i] - at[i-1]; span > 0.01 { // the last point may lie on the one before
			s.At, s.Value = append(s.At, at[i]), append(s.Value, max(0, float64(n[i]-n[i-1])/span))
		}
	}
	return s
}
