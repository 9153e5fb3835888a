package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hikyaku/bench/load"
	"hikyaku/bench/report"
	"hikyaku/node/dkim"
)

// Targets of the issue for two cores; where a machine is slower, the ratio to
// the bare limit binds, which `hikyaku bench peers` measures.
const (
	targetUnsigned  = 8500
	targetRSA       = 2500
	targetLarge     = 900
	targetAccept    = 50_000
	targetDrain     = 8500
	targetShareEd   = 0.8
	targetHealthy   = 0.9
	targetFairRatio = 2
	targetFairP99   = 0.25
)

// steady is a closed loop of the run's own mix.
func (r *Run) steady(name string) *flow {
	return &flow{name: name, load: load.Options{
		Mix:      r.mix(r.Messages),
		Protocol: load.Protocol(or(r.Protocol, string(load.SMTP))), Connections: r.Connections,
		Mode: load.Mode(or(r.Pipelining, string(load.Pipelining))), PerConnection: r.PerConnection,
	}}
}

func (r *Run) mix(recipients int) *load.Mix {
	m := &load.Mix{Recipients: recipients, Destinations: load.Destinations{Spreading: load.Spreading(r.Destinations), N: r.Domains}}
	if r.Size > 0 {
		m.Sizes = []load.Share{{Bytes: r.Size, Weight: 1, Kind: load.Plain}}
	}
	return m
}

// capacity first goes as fast as it can, then looks for the highest arrival
// rate at which mail still leaves in time. Without --pipelining it does the
// first in both ways in which a client can keep the wire full: messages in flight
// by BDAT (RFC 3030), and the envelope of the next with the content of the last
// (RFC 2920); the search takes the former.
func capacity(ctx context.Context, r *Run) error {
	modes := []string{string(load.Chunking), string(load.Pipelining)}
	if r.Pipelining != "" {
		modes = []string{r.Pipelining}
	}
	seen := make([]closedLoop, len(modes))
	err := r.rounds(func(round int) error {
		for i, mode := range modes {
			if err := r.closed(ctx, mode, round == 0, &seen[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, mode := range modes {
		r.figure("as fast as it goes, "+modeName[mode], "msg/s", report.Higher, targetUnsigned, seen[i].rates...)
		r.figure("CPU of the node per message, "+modeName[mode], "µs", report.Lower, 0, seen[i].cpu...)
	}
	r.figure("peak memory of the node", "bytes", report.Lower, 0, seen[0].memory...)
	if len(seen[0].written) > 0 {
		r.figure("disk bytes per content byte", "", report.Lower, 0, seen[0].written...)
	}
	r.Pipelining = modes[0]
	return r.search(ctx, median(seen[0].rates))
}

var modeName = map[string]string{
	string(load.Chunking): "BDAT in flight", string(load.Pipelining): "PIPELINING", string(load.PlainCommands): "a command at a time",
}

// closedLoop are the figures of each round.
type closedLoop struct{ rates, cpu, memory, written []float64 }

func (r *Run) closed(ctx context.Context, mode string, show bool, c *closedLoop) error {
	f := r.steady("load")
	f.load.Mode = load.Mode(mode)
	o, err := r.do(ctx, plan{name: "as fast as it goes, " + modeName[mode], flows: []*flow{f}, policy: r.signing(r.DKIM), fault: r.Fault})
	if err != nil {
		return err
	}
	if show {
		r.show(o, "closed loop, "+modeName[mode])
	}
	c.rates, c.cpu = append(c.rates, o.rate), append(c.cpu, micros(o.nodeCPU()))
	n := o.node()
	c.memory = append(c.memory, float64(n.PeakRSS))
	if n.IOKnown {
		c.written = append(c.written, float64(n.Wrote)/float64(o.bytes))
	}
	return nil
}

// searchSteps halve the interval in which the highest sustained rate lies.
const searchSteps = 5

// search finds the highest arrival rate at which p99 from the intended time to
// delivery stays within bounds, between a fifth of the closed loop's rate and
// a tenth above it.
func (r *Run) search(ctx context.Context, fastest float64) error {
	low, high := fastest/5, fastest*1.1
	var best *outcome
	for range searchSteps {
		rate := (low + high) / 2
		o, ok, err := r.holds(ctx, rate)
		if err != nil {
			return err
		}
		if ok {
			low, best = rate, o
		} else {
			high = rate
		}
	}
	if best == nil {
		r.note("No rate above a fifth of the closed loop's kept p99 within %v.", r.Latency.D())
		r.figure("highest sustained rate", "msg/s", report.Higher, 0, 0)
		return nil
	}
	f := best.flow("load")
	r.show(best, "open loop")
	r.figure("highest sustained rate", "msg/s", report.Higher, 0, low)
	r.figure("sent to delivered at that rate: p50", "ms", report.Lower, 0, millis(f.delivery.Quantile(0.5)))
	r.figure("sent to delivered at that rate: p99", "ms", report.Lower, millis(r.Latency.D()), millis(f.delivery.Quantile(0.99)))
	r.note("The sustained rate is found to within %.0f msg/s: five halvings.", (high - low))
	return nil
}

// holds runs an open loop at a rate and says whether latency stayed bounded.
func (r *Run) holds(ctx context.Context, rate float64) (*outcome, bool, error) {
	f := r.steady("load")
	f.load.Mix = r.mix(max(int(rate*r.Duration.D().Seconds()), 100))
	f.load.Rate = rate
	f.load.Connections = max(r.Connections, 40) // waiting for an answer must not be what limits arrivals
	o, err := r.do(ctx, plan{name: fmt.Sprintf("%.0f msg/s", rate), flows: []*flow{f}, policy: r.signing(r.DKIM)})
	if err != nil {
		return nil, false, err
	}
	out := o.flow("load")
	return o, !out.late && out.delivery.Quantile(0.99) <= r.Latency.D(), nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// signing is the policy for one key over the source's domain.
func (r *Run) signing(algorithm string) string {
	if algorithm == "" || algorithm == "none" {
		return ""
	}
	key, _, err := dkim.Generate(algorithm)
	if err != nil {
		panic("BUG: " + err.Error()) // the algorithms are those of Validate
	}
	indented := strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n    ")
	return "kind: SigningKey\nname: bench\nspec:\n  domain: source.test\n  selector: bench\n  private_key: |\n    " + indented + "\n---\n"
}

// signed compares the same work unsigned and with each kind of key.
func signed(ctx context.Context, r *Run) error {
	kinds := []string{"none", "ed25519", "rsa2048"}
	rates, cpu := map[string][]float64{}, map[string][]float64{}
	err := r.rounds(func(round int) error {
		for _, kind := range kinds {
			o, err := r.do(ctx, plan{name: "DKIM " + kind, flows: []*flow{r.steady("load")}, policy: r.signing(kind), fault: r.Fault})
			if err != nil {
				return err
			}
			if round == 0 {
				r.show(o, "DKIM "+kind)
			}
			rates[kind], cpu[kind] = append(rates[kind], o.rate), append(cpu[kind], micros(o.nodeCPU()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.rep.Mode["dkim"] = "each in turn"
	r.figure("unsigned", "msg/s", report.Higher, targetUnsigned, rates["none"]...)
	r.figure("Ed25519", "msg/s", report.Higher, 0, rates["ed25519"]...)
	r.figure("Ed25519 of unsigned", "×", report.Higher, targetShareEd, ratios(rates["ed25519"], rates["none"])...)
	r.figure("RSA-2048", "msg/s", report.Higher, targetRSA, rates["rsa2048"]...)
	for _, kind := range kinds {
		r.figure("CPU of the node per message, DKIM "+kind, "µs", report.Lower, 0, cpu[kind]...)
	}
	r.figure("signature's share of the node's CPU, RSA-2048", "%", report.Lower, 0, 100*(1-median(cpu["none"])/median(cpu["rsa2048"])))
	r.figure("signature's share of the node's CPU, Ed25519", "%", report.Lower, 0, 100*(1-median(cpu["none"])/median(cpu["ed25519"])))
	return nil
}

// ratios divides round by round, so that what both suffered cancels out.
func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

// large is one size that fills pipes.
func large(ctx context.Context, r *Run) error {
	var rates, cpu []float64
	err := r.rounds(func(round int) error {
		o, err := r.do(ctx, plan{name: fmt.Sprintf("%d bytes", r.Size), flows: []*flow{r.steady("load")}, policy: r.signing(r.DKIM), fault: r.Fault})
		if err != nil {
			return err
		}
		if round == 0 {
			r.show(o, "")
		}
		rates, cpu = append(rates, o.rate), append(cpu, micros(o.nodeCPU()))
		return nil
	})
	if err != nil {
		return err
	}
	r.figure("delivered", "msg/s", report.Higher, targetLarge, rates...)
	r.figure("content", "MB/s", report.Higher, 0, median(rates)*float64(r.Size)/1e6)
	r.figure("CPU of the node per message", "µs", report.Lower, 0, cpu...)
	return nil
}

// longtail has a destination for each recipient: as many queues, lanes and
// routes as messages.
func longtail(ctx context.Context, r *Run) error {
	o, err := r.do(ctx, plan{name: "a destination each", flows: []*flow{r.steady("load")}, fault: r.Fault})
	if err != nil {
		return err
	}
	r.show(o, "")
	r.figure("delivered", "msg/s", report.Higher, 0, o.rate)
	r.figure("CPU of the node per message", "µs", report.Lower, 0, micros(o.nodeCPU()))
	r.figure("peak memory of the node", "bytes", report.Lower, 0, float64(o.node().PeakRSS))
	return nil
}
