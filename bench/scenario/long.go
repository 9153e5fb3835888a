package scenario

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/load"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// backlog fills a queue under a hold, restarts the node, releases the hold and
// watches the drain.
func backlog(ctx context.Context, r *Run) error {
	f := r.job("job", r.Backlog)
	f.load.Mix.Destinations = load.Destinations{Spreading: load.Few, N: r.Domains}
	var ready, first, released time.Duration
	turn := func(ctx context.Context, t *trial) error {
		if err := t.sendNow(ctx, f); err != nil {
			return err
		}
		t.setPhase("restart")
		stopped := time.Now()
		if err := t.restart(ctx, 0, false); err != nil {
			return err
		}
		ready = time.Since(stopped)
		released = time.Since(t.start)
		_, err := t.nodes[0].CLI(ctx, "queue", "release", "--all")
		return err
	}
	hold := func(ctx context.Context, t *trial) error {
		if _, err := t.nodes[0].CLI(ctx, "queue", "hold", "--all", "--reason", "benchmark"); err != nil {
			return err
		}
		return turn(ctx, t)
	}
	o, err := r.do(ctx, plan{name: fmt.Sprintf("backlog of %d", r.Backlog), flows: []*flow{f}, before: hold, policy: streams, fault: r.Fault})
	if err != nil {
		return err
	}
	r.show(o, "")
	first = time.Duration(f.firstIn.Load()) - released
	drain := time.Duration(f.lastIn.Load()) - released
	r.figure("filled", "recipients/s", report.Higher, 0, o.flow("job").accepted)
	r.figure("stop and start to ready", "s", report.Lower, 0, ready.Seconds())
	r.figure("release to first delivery", "s", report.Lower, 0, first.Seconds())
	r.figure("drained", "recipients/s", report.Higher, 0, float64(o.received)/drain.Seconds())
	r.figure("peak memory of the node", "bytes", report.Lower, 0, float64(o.node().PeakRSS))
	return nil
}

// allCarriers are the weights of the simulated carriers in the mix: about a
// consumer list with a Japanese half.
var allCarriers = []struct {
	profile string
	domains map[string]float64
}{
	{"gmail", map[string]float64{"gmail.test": 30}},
	{"outlook", map[string]float64{"outlook.test": 6, "hotmail.test": 4}},
	{"yahoo", map[string]float64{"yahoo.test": 5, "aol.test": 1}},
	{"icloud", map[string]float64{"icloud.test": 6}},
	{"docomo", map[string]float64{"docomo.test": 8}},
	{"au", map[string]float64{"ezweb.test": 4, "au.test": 3}},
	{"softbank", map[string]float64{"softbank.test": 4, "i.softbank.test": 2}},
	{"yahoo-japan", map[string]float64{"yahoo-japan.test": 8}},
	{"gmx", map[string]float64{"gmx.test": 3, "web.test": 2}},
	{"postfix-site", map[string]float64{"a.postfix-site.test": 2, "b.postfix-site.test": 1}},
	{"tarpit", map[string]float64{"tarpit.test": 0.5}},
	{"dead-host", map[string]float64{"dead-host.test": 0.5}},
	{"sink", map[string]float64{"a.sink.test": 5, "b.sink.test": 5}},
}

// carriersScenario sends to all simulated carriers at once, by a policy that
// has their limits, and restarts the node in between.
func carriersScenario(ctx context.Context, r *Run) error {
	var names []string
	d := load.Destinations{Spreading: load.Named}
	for _, c := range allCarriers {
		if len(r.Carriers) > 0 && !slices.Contains(r.Carriers, c.profile) {
			continue
		}
		names = append(names, c.profile)
		for _, name := range slices.Sorted(maps.Keys(c.domains)) {
			d.Names = append(d.Names, load.Domain{Name: name, Weight: c.domains[name]})
		}
	}
	if len(r.Profiles) > 0 {
		own, err := carriers.Pick(nil, r.Profiles)
		if err != nil {
			return err
		}
		for _, p := range own {
			for _, domain := range p.Domains {
				d.Names = append(d.Names, load.Domain{Name: strings.TrimPrefix(domain, "*."), Weight: 5})
			}
		}
	}
	f := r.steady("load")
	f.load.Mix.Destinations, f.load.Rate, f.load.Duration = d, r.Rate, r.Duration.D()
	// Some messages have several recipients, at one carrier and at others.
	f.load.Mix.Spread = []load.Count{{Recipients: 1, Weight: 0.9}, {Recipients: 4, Weight: 0.1}}
	f.load.Mix.Recipients = min(r.Messages, int(r.Rate*r.Duration.D().Seconds()*1.3)+100) // 1.3 to a message: the time is what ends it
	o, err := r.do(ctx, plan{
		name: "all carriers", flows: []*flow{f}, profiles: names, files: r.Profiles, sources: 2, partial: true, fault: r.Fault,
		during: r.restarts, duplicates: r.killedDuplicates(), nodeKeys: "drain_timeout: 5s",
	})
	if o != nil {
		r.show(o, "")
		r.carrierFigures(o)
	}
	if err != nil {
		return err
	}
	if o.brokenN > 0 {
		return fmt.Errorf("%d violations of the carriers' limits; the first: %s %s", o.brokenN, o.broken[0].Carrier, o.broken[0].Limit)
	}
	return nil
}

// restarts ends the node and starts it again, evenly over the run; every
// second time by SIGKILL where that was asked for.
func (r *Run) restarts(ctx context.Context, t *trial) error {
	if r.Restarts == 0 {
		return nil
	}
	every := r.Duration.D() / time.Duration(r.Restarts+1)
	for i := range r.Restarts {
		select {
		case <-ctx.Done():
			return nil // all is sent
		case <-time.After(time.Until(t.start.Add(every * time.Duration(i+1)))):
		}
		kill := r.Kill && i%2 == 0
		how := "restart"
		if kill {
			how = "kill -9"
		}
		t.mark(how)
		if err := t.restart(context.WithoutCancel(ctx), 0, kill); err != nil {
			return err
		}
		t.mark("ready")
	}
	return nil
}

// killedDuplicates bounds what kills may double: the transactions that can be
// between the final dot and the record of its reply.
func (r *Run) killedDuplicates() int {
	if !r.Kill {
		return 0
	}
	return (r.Restarts + 1) / 2 * 200
}

func (t *trial) mark(text string) {
	t.marks = append(t.marks, report.Mark{At: time.Since(t.start).Seconds(), Text: text})
}

// carrierFigures are the totals over carriers.
func (r *Run) carrierFigures(o *outcome) {
	r.rep.Figures = append(r.rep.Figures, report.Figure{Name: "violations of carriers' limits", Value: float64(o.brokenN), Better: report.Lower, Target: new(float64)})
	r.figure("delivered", "msg/s", report.Higher, 0, o.rate)
	for _, c := range o.carriers {
		if c.Unlimited || c.Allowed <= 0 {
			continue
		}
		r.figure("delivered to "+c.Name+", of what it allowed", "%", "", 0, 100*float64(c.Delivered)/float64(c.Allowed))
	}
	r.note("The carriers are models, not measurements. Each enforces its limits and notes who breaks them; the node was given the same limits.")
	r.note("A share below 100 %% of what a carrier allowed is no fault where less was offered: its limits are higher than its part of the mix.")
}

// soak keeps a steady load and looks for what grows.
func soak(ctx context.Context, r *Run) error {
	f := r.steady("load")
	f.load.Rate, f.load.Duration = r.Rate, r.Duration.D()
	f.load.Mix = r.mix(min(r.Messages, int(r.Rate*r.Duration.D().Seconds())))
	o, err := r.do(ctx, plan{name: "soak", flows: []*flow{f}, policy: r.signing(r.DKIM), fault: r.Fault})
	if err != nil {
		return err
	}
	r.show(o, "")
	// The first quarter, at most five minutes, is a warm-up: caches and
	// memtables fill.
	warm := math.Min(r.Duration.D().Seconds()/4, 300)
	for _, s := range o.series {
		switch s.Group {
		case measure.GroupMemory, measure.GroupFiles, measure.GroupDisk, measure.GroupQueue:
			if trend, ok := measure.Slope(s, warm); ok {
				r.rep.Trends = append(r.rep.Trends, trend)
			}
		}
	}
	q := o.flow("load").delivery
	r.figure("delivered", "msg/s", report.Higher, 0, o.rate)
	r.figure("sent to delivered: p99", "ms", report.Lower, 0, millis(q.Quantile(0.99)))
	r.figure("sent to delivered: p99.9", "ms", report.Lower, 0, millis(q.Quantile(0.999)))
	r.figure("CPU of the node per message", "µs", report.Lower, 0, micros(o.nodeCPU()))
	r.figure("peak memory of the node", "bytes", report.Lower, 0, float64(o.node().PeakRSS))
	r.note("Trends leave out the first %.0f s. The event log and the spool's log grow until their own bounds; what matters is memory, goroutines and descriptors.", warm)
	return nil
}

// scale spreads the same load over 1, 2, 4 … nodes.
func scale(ctx context.Context, r *Run) error {
	for n := 1; n <= r.Nodes; n *= 2 {
		var rates, cpu []float64
		err := r.rounds(func(round int) error {
			o, err := r.do(ctx, plan{name: fmt.Sprintf("%d nodes", n), nodes: n, flows: []*flow{r.steady("load")}, fault: r.Fault})
			if err != nil {
				return err
			}
			if round == 0 {
				r.show(o, fmt.Sprintf("%d nodes", n))
			}
			rates, cpu = append(rates, o.rate), append(cpu, micros(o.nodeCPU()))
			return nil
		})
		if err != nil {
			return err
		}
		r.figure(fmt.Sprintf("%d node processes", n), "msg/s", report.Higher, 0, rates...)
		r.figure(fmt.Sprintf("%d node processes: CPU per message", n), "µs", report.Lower, 0, cpu...)
	}
	r.note("All processes share %d cores with source and receiver: more nodes than spare cores cannot be faster. What this shows is that they do not hinder each other.", r.rep.Machine.Cores)
	return nil
}
