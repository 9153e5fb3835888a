package scenario

import (
	"context"
	"fmt"
	"time"

	"hikyaku/bench/load"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// perRequest is how many recipients a template request has.
const perRequest = 5_000

// job is a bulk submission by template.
func (r *Run) job(name string, recipients int) *flow {
	m := r.mix(recipients)
	m.Sizes = nil
	m.PerMessage, m.Job, m.Template = min(perRequest, recipients), "bench", &load.Template{Bytes: 3000}
	m.Streams = []load.Stream{{Name: "bulk", Weight: 1}}
	return &flow{name: name, load: load.Options{Mix: m, Protocol: load.HTTPTemplate, Connections: r.Connections}}
}

// streams are the two classes of traffic that the scenarios tell apart.
const streams = "kind: Stream\nname: bulk\nspec: {priority: normal}\n---\nkind: Stream\nname: transactional\nspec: {priority: high}\n---\n"

// bulk is one job from a template.
func bulk(ctx context.Context, r *Run) error {
	var accepted, drained, whole, cpu, memory []float64
	err := r.rounds(func(round int) error {
		o, err := r.do(ctx, plan{name: fmt.Sprintf("job of %d", r.Messages), flows: []*flow{r.job("job", r.Messages)}, policy: streams + r.signing(r.DKIM), fault: r.Fault})
		if err != nil {
			return err
		}
		if round == 0 {
			r.show(o, "")
		}
		f := o.flow("job")
		accepted, whole = append(accepted, f.accepted), append(whole, f.received)
		if rest := f.drained - f.sending; rest > 0 {
			drained = append(drained, float64(int64(r.Messages)-f.sentIn)/rest.Seconds())
		}
		cpu, memory = append(cpu, micros(o.nodeCPU())), append(memory, float64(o.node().PeakRSS))
		return nil
	})
	if err != nil {
		return err
	}
	r.figure("accepted", "recipients/s", report.Higher, targetAccept, accepted...)
	r.figure("drained, from the first request to the last delivery", "recipients/s", report.Higher, targetDrain, whole...)
	if len(drained) > 0 {
		r.figure("drained, after the last request", "recipients/s", report.Higher, 0, drained...)
	}
	r.figure("CPU of the node per recipient", "µs", report.Lower, 0, cpu...)
	r.figure("peak memory of the node", "bytes", report.Lower, 0, memory...)
	r.note("The node delivers while it accepts: the rate of acceptance is what is left of the machine beside that.")
	return nil
}

// transactional is a stream of single messages at a steady rate.
func (r *Run) transactional(span time.Duration) *flow {
	m := &load.Mix{Recipients: max(2, int(r.Rate*span.Seconds())), Streams: []load.Stream{{Name: "transactional", Weight: 1}}}
	return &flow{name: "transactional", keep: true, load: load.Options{Mix: m, Protocol: load.SMTP, Connections: 4, Rate: r.Rate, Duration: span}}
}

// fairness measures the transactional stream alone and beside a large job.
func fairness(ctx context.Context, r *Run) error {
	alone, err := r.do(ctx, plan{name: "alone", flows: []*flow{r.transactional(r.Duration.D())}, policy: streams, fault: r.Fault})
	if err != nil {
		return err
	}
	r.show(alone, "alone")
	trans, bulk := r.transactional(r.Duration.D()), r.job("job", r.Messages)
	beside, err := r.do(ctx, plan{name: "beside the job", flows: []*flow{trans, bulk}, policy: streams})
	if err != nil {
		return err
	}
	r.show(beside, "beside the job")
	job := beside.flow("job")
	during := trans.during(bulk.began(), time.Duration(bulk.lastIn.Load()))
	a := alone.flow("transactional").delivery
	r.figure("transactional alone: p50", "ms", report.Lower, 0, millis(a.Quantile(0.5)))
	r.figure("transactional alone: p99", "ms", report.Lower, 0, millis(a.Quantile(0.99)))
	r.figure("transactional beside the job: p50", "ms", report.Lower, 0, millis(during.Quantile(0.5)))
	r.figure("transactional beside the job: p99", "ms", report.Lower, targetFairP99*1000, millis(during.Quantile(0.99)))
	r.figure("p99 beside the job, of p99 alone", "×", report.Lower, targetFairRatio, float64(during.Quantile(0.99))/float64(a.Quantile(0.99)))
	r.figure("job drained beside it", "recipients/s", report.Higher, 0, job.received)
	r.note("%d transactional messages alone, %d while the job of %d recipients was under way. From the intended time to the receipt.", a.Count(), during.Count(), r.Messages)
	return nil
}

// during are the latencies of the messages that were due in a span of the
// trial.
func (f *flow) during(from, to time.Duration) *measure.Histogram {
	h := &measure.Histogram{}
	for n := range f.kept {
		due, open := f.intended(n)
		if d := time.Duration(f.kept[n].Load()); open && d > 0 && due >= from && due < to {
			h.Add(d, 1)
		}
	}
	return h
}

// dead compares healthy carriers alone with the same beside a dead and a
// tarpit one, each with a deep backlog.
func dead(ctx context.Context, r *Run) error {
	var with, without, p99With, p99Without []float64
	err := r.rounds(func(round int) error {
		o, err := r.do(ctx, plan{name: "healthy alone", flows: []*flow{r.healthy()}, profiles: []string{"sink"}, fault: r.Fault})
		if err != nil {
			return err
		}
		b, err := r.besideDead(ctx)
		if err != nil {
			return err
		}
		if round == 0 {
			r.show(o, "healthy alone")
			r.show(b, "beside dead and tarpit")
		}
		of, bf := o.flow("healthy"), b.flow("healthy")
		without, with = append(without, of.received), append(with, bf.received)
		p99Without, p99With = append(p99Without, millis(of.delivery.Quantile(0.99))), append(p99With, millis(bf.delivery.Quantile(0.99)))
		return nil
	})
	if err != nil {
		return err
	}
	r.figure("healthy alone", "msg/s", report.Higher, 0, without...)
	r.figure("healthy beside dead and tarpit", "msg/s", report.Higher, 0, with...)
	r.figure("rate beside them, of the rate alone", "×", report.Higher, targetHealthy, ratios(with, without)...)
	r.figure("p99 from accepted to delivered, alone", "ms", report.Lower, 0, p99Without...)
	r.figure("p99 from accepted to delivered, beside them", "ms", report.Lower, 0, p99With...)
	r.note("The dead carrier lets connections time out, the tarpit takes up to a minute a message; %d deliveries were queued for each before the healthy load began.", r.Backlog)
	return nil
}

func (r *Run) healthy() *flow {
	f := r.steady("healthy")
	f.load.Mix.Destinations = load.Destinations{Spreading: load.Few, N: 50, Suffix: "sink.test"}
	return f
}

// stuck is a backlog for a carrier that takes nothing.
func (r *Run) stuck(name string) *flow {
	m := &load.Mix{Recipients: r.Backlog, Destinations: load.Destinations{Names: []load.Domain{{Name: name + ".test", Weight: 1}}}}
	return &flow{name: name, stuck: true, load: load.Options{Mix: m, Protocol: load.SMTP, Connections: 20}}
}

func (r *Run) besideDead(ctx context.Context) (*outcome, error) {
	healthy, silent, slow := r.healthy(), r.stuck("dead-host"), r.stuck("tarpit")
	fill := func(ctx context.Context, t *trial) error {
		for _, f := range []*flow{silent, slow} {
			if err := t.sendNow(ctx, f); err != nil {
				return err
			}
		}
		return nil
	}
	return r.do(ctx, plan{
		name: "healthy beside dead and tarpit", flows: []*flow{healthy, silent, slow}, before: fill, partial: true,
		profiles: []string{"sink", "dead-host", "tarpit"}, nodeKeys: "drain_timeout: 1s",
	})
}

// sendNow runs a flow ahead of the trial's own sending.
func (t *trial) sendNow(ctx context.Context, f *flow) error {
	if err := t.aim(f); err != nil {
		return err
	}
	f.done = true
	return f.send(ctx, t)
}
