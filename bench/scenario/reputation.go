package scenario

import (
	"context"
	"fmt"
	"time"

	"hikyaku/bench/live"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
	"hikyaku/bench/reputation"
)

// reputationScenario compares ways to treat carriers over a simulated day, one
// day for each round's seed. With a duration, as in the long form, it also sends
// through real nodes for that long, in each of the ways that the product has.
func reputationScenario(ctx context.Context, r *Run) error {
	var days []*reputation.Result
	err := r.rounds(func(round int) error {
		seed := r.Seed + uint64(round)
		ended := 0
		show := func(what string) {
			r.view.Update(live.State{Phase: fmt.Sprintf("simulated day of seed %d: %s", seed, what), Done: int64(ended), Total: int64(len(reputation.Minds)), Elapsed: time.Since(r.rep.Started)})
		}
		show("begun")
		day, err := reputation.Compare(ctx, reputation.Options{Seed: seed, Messages: r.Messages, Progress: func(mind string) {
			ended++
			show(mind + " has ended")
		}})
		if err != nil {
			return fmt.Errorf("simulated day of seed %d: %w", seed, err)
		}
		days = append(days, day)
		return nil
	})
	if err != nil {
		return err
	}
	r.showDay(days[0])
	r.dayFigures(days)
	r.note("The carriers are models, not measurements: bench/reputation/world/carriers.yaml says of what. Their hidden limits are multiples of what is written about each, drawn from the seed, and change during the day.")
	r.note("The days are simulated, with the product's scheduler, rules and controller in virtual time, and as if all were one node: nothing here was sent over a network.")
	r.note("Nobody has the oracle's knowledge. It is told every limit at the moment of its change, and leaves out who does not exist.")
	r.note("The text rules are those of KumoMTA's public shaping automation, in our own form; they say nothing of docomo, au and SoftBank. How replies end recipients there is a usual reading: 5xx is final.")
	r.note("In the plots of rates, sending without limits is left out: its peaks would flatten the others.")
	if r.Duration == 0 {
		return nil
	}
	return r.liveReputation(ctx)
}

// dayFigures are the verdicts, one value a round.
func (r *Run) dayFigures(days []*reputation.Result) {
	var share, blocks, wrong []float64
	worst := 1.0
	ours, text := int64(0), int64(0)
	for _, d := range days {
		v, _ := d.Judge(reputation.Ours)
		worst = min(worst, v.Delivered)
		share, wrong = append(share, 100*v.Delivered), append(wrong, float64(v.Wrong))
		o, t := d.Of(reputation.Ours).Total.Blocks, d.Of(reputation.TextRules).Total.Blocks
		ours, text = ours+o, text+t
		blocks = append(blocks, 100*float64(o)/float64(max(1, t)))
	}
	add := func(f report.Figure, target float64, runs []float64) {
		if f.Target = &target; len(runs) > 1 {
			f.Runs = runs
		}
		r.rep.Figures = append(r.rep.Figures, f)
	}
	add(report.Figure{Name: "ours: delivered, of what the oracle delivered (least of all days)", Unit: "%", Better: report.Higher, Value: 100 * worst}, 100*reputation.LeastDelivered, share)
	add(report.Figure{Name: "ours: blocks suffered, of those of the text rules (all days)", Unit: "%", Better: report.Lower, Value: 100 * float64(ours) / float64(max(1, text))}, 100*reputation.MostBlocks, blocks)
	add(report.Figure{Name: "ours: recipients suppressed wrongly (all days)", Better: report.Lower, Value: sumOf(wrong)}, 0, wrong)
	for i, mind := range reputation.Minds {
		var part []float64
		for _, d := range days {
			part = append(part, 100*d.Runs[i].Total.Share())
		}
		r.figure(mind+": delivered, of what could be", "%", report.Higher, 0, part...)
	}
	for i, mind := range reputation.Minds {
		var n []float64
		for _, d := range days {
			n = append(n, float64(d.Runs[i].Total.Blocks))
		}
		r.figure(mind+": blocks suffered", "", report.Lower, 0, n...)
	}
}

func sumOf(vs []float64) (sum float64) {
	for _, v := range vs {
		sum += v
	}
	return sum
}

// showDay puts a day's tables and plots into the report.
func (r *Run) showDay(d *reputation.Result) {
	oracle := d.Of(reputation.Oracle)
	for i := range d.Runs[0].Carriers {
		c := report.Treated{Carrier: d.Runs[0].Carriers[i].Carrier, Model: d.Models[i]}
		c.Series = append(c.Series, r.perMinute(report.SeriesAllowed, oracle.Carriers[i].Series.Allowed))
		for _, run := range d.Runs {
			a := run.Carriers[i]
			c.Rows = append(c.Rows, treatment(run.Mind, a, oracle.Carriers[i]))
			if run.Mind != reputation.Unlimited {
				c.Series = append(c.Series, r.perMinute(run.Mind, a.Series.Sent))
			}
		}
		r.rep.Treated = append(r.rep.Treated, c)
	}
	all := report.Treated{Carrier: "all", Model: "all carriers together"}
	offered := r.perMinute("handed in", oracle.Total.Series.Offered)
	offered.Group = "handed in" // in a plot of its own: campaigns come all at once
	r.rep.Series = append(r.rep.Series, offered)
	for _, run := range d.Runs {
		all.Rows = append(all.Rows, treatment(run.Mind, run.Total, oracle.Total))
		r.rep.Series = append(r.rep.Series, r.perMinute(run.Mind+": delivered", run.Total.Series.Delivered))
	}
	r.rep.Treated = append([]report.Treated{all}, r.rep.Treated...)
}

func treatment(name string, a, oracle *reputation.Account) report.Treatment {
	t := report.Treatment{
		Name: name, Deliverable: a.Deliverable, Delivered: a.Delivered, Within: a.Within, Attempts: a.Attempts, Violations: a.Violations,
		Blocks: a.Blocks, BlockedFor: a.BlockedFor, Reputation: a.Reputation, Suppressed: a.Suppressed, Wrong: a.Wrong,
	}
	if oracle.Delivered > 0 {
		t.OfBest = float64(a.Delivered) / float64(oracle.Delivered)
	}
	return t
}

// perMinute makes rates of what was counted in each step, at the middle of it.
func (r *Run) perMinute(name string, counts []float64) measure.Series {
	s := measure.Series{Name: name, Unit: "msg/min", Group: measure.GroupRate}
	for i, n := range counts {
		s.At = append(s.At, (float64(i)+0.5)*reputation.Step.Seconds())
		s.Value = append(s.Value, n/reputation.Step.Minutes())
	}
	return s
}
