package report_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// sample is an invented report with something in every field, the same each
// time: for the tests of this package only.
func sample(seed uint64) *report.Report {
	r := rand.New(rand.NewPCG(seed, 1))
	const took = 60 * time.Second
	target := func(v float64) *float64 { return &v }
	rep := &report.Report{
		Scenario: "carriers", Form: report.Short, Started: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC), Took: took, Seed: seed,
		Flags: map[string]string{"carriers": "all", "rate": "2000"},
		Mode:  map[string]string{"fsync": "before 250", "tls": "where offered", "dkim": "none", "durable": "true"},
		Machine: measure.Machine{CPU: "AMD EPYC 7B13", Cores: 2, Virtual: true, Memory: 8 << 30, Kernel: "6.1.0-13-amd64", OS: "Debian GNU/Linux 12 (bookworm)",
			Arch: "amd64", Go: "go1.26.8", FileSystem: "ext4", Device: "/dev/vda", Mount: "rw,relatime", WriteCache: "write back", Load: [3]float64{0.12, 0.3, 0.25}},
		Disk:     measure.DiskSync{Count: 200, Bytes: 4096, P50: 480 * time.Microsecond, P90: 700 * time.Microsecond, P99: 2100 * time.Microsecond, Max: 9 * time.Millisecond},
		Versions: map[string]string{"hikyaku": "0123abc", "go": "go1.26.8", "postfix": "3.7.11"},
		Figures: []report.Figure{
			{Name: "rate out", Value: 8612.4 + float64(seed), Unit: "msg/s", Better: report.Higher, Target: target(8500), Runs: []float64{8480, 8612.4 + float64(seed), 8700}},
			{Name: "p99 from accept to delivered", Value: 0.312, Unit: "s", Better: report.Lower, Target: target(0.25)},
			{Name: "ratio to Postfix", Unit: "×", Better: report.Higher, Target: target(8), Without: "Postfix is not installed"},
			{Name: "disk bytes written per accepted byte", Value: 1.59, Unit: "×", Better: report.Lower},
			{Name: "memory per queued message", Value: 712, Unit: "bytes", Better: report.Lower},
		},
		Ledger: &report.Ledger{Balanced: false, Reasons: []string{"2 duplicates, 0 allowed"}, Rows: []ledger.Row{
			{Name: "offered", Count: 516000}, {Name: "accepted", Count: 516000}, {Name: "delivered", Count: 500100}, {Name: "bounced", Count: 15900},
			{Name: "still queued", Count: 0}, {Name: "lost", Count: 0, Fault: true}, {Name: "duplicates", Count: 2, Fault: true, IDs: []int{4711, 90210}},
		}},
		Processes: []report.Process{
			report.NewProcess(measure.Process{Name: "node", Usage: measure.Usage{User: 41 * time.Second, System: 37 * time.Second, PeakRSS: 343 << 20, Files: 220, Threads: 14, IOKnown: true, Wrote: 3 << 30, Calls: 1600000}}, 516000, 516000*4096),
			report.NewProcess(measure.Process{Name: "bench", Usage: measure.Usage{User: 22 * time.Second, System: 25 * time.Second, PeakRSS: 120 << 20, Files: 330, Threads: 11, IOKnown: true, Calls: 900000}}, 516000, 0),
			report.NewProcess(measure.Process{Name: "postfix", Usage: measure.Usage{User: time.Second}}, 0, 0),
		},
		Marks: []report.Mark{{At: 21, Text: "node killed"}, {At: 23.4, Text: "node started again"}},
		Notes: []string{"Source, node and sink share two cores: none of them has the machine for itself.", "Loopback has no loss and no distance <i>&amp;</i> \"quotes\"."},
		Trends: []measure.Trend{
			{Name: "node: memory", Unit: "bytes", PerHour: 1.5 * (1 << 20), PlusMinus: 4 << 20, Points: 300, Effective: 41},
			{Name: "goroutines", PerHour: 120, PlusMinus: 30, Points: 300, Effective: 50},
		},
	}
	sampleSeries(rep, r, took)
	accept, deliver := &measure.Histogram{}, &measure.Histogram{}
	for range 20000 {
		accept.Add(time.Duration(math.Exp(r.NormFloat64()*0.5)*float64(2*time.Millisecond)), 1)
		deliver.Add(time.Duration(math.Exp(r.NormFloat64()*0.9)*float64(30*time.Millisecond)), 1)
	}
	rep.Latencies = []report.Latency{report.NewLatency("accept, from intended time", accept), report.NewLatency("accept to delivered", deliver)}
	sampleCarriers(rep, r, took)
	sampleTreated(rep)
	return rep
}

func sampleSeries(rep *report.Report, r *rand.Rand, took time.Duration) {
	add := func(name, unit, group string, value func(s float64) float64) {
		t := measure.NewTrack(name, unit, group, 0, false)
		for at := time.Duration(0); at < took; at += 200 * time.Millisecond {
			if s := at.Seconds(); s < 21 || s > 23.4 || group == measure.GroupQueue {
				t.Add(at, max(value(s), 0))
			}
		}
		rep.Series = append(rep.Series, t.Series())
	}
	noise := func(v, share float64) float64 { return v * (1 + share*r.NormFloat64()) }
	add("in", "msg/s", measure.GroupRate, func(float64) float64 { return noise(8600, 0.05) })
	add("out", "msg/s", measure.GroupRate, func(s float64) float64 { return noise(8500*min(1, s/3), 0.07) })
	add("accept p50", "s", measure.GroupLatency, func(float64) float64 { return noise(0.002, 0.1) })
	add("accept p99", "s", measure.GroupLatency, func(float64) float64 { return noise(0.009, 0.3) })
	add("delivered p99", "s", measure.GroupLatency, func(s float64) float64 { return noise(0.3, 0.3) + 4*math.Exp(-(s-24)*(s-24)/4) })
	add("queued", "", measure.GroupQueue, func(s float64) float64 { return 400 + 12000*math.Exp(-(s-24)*(s-24)/20) })
	add("goroutines", "", measure.GroupFiles, func(float64) float64 { return noise(300, 0.02) })
	for i, p := range []string{"bench", "node"} {
		add(p+": user", "cores", measure.GroupCPU, func(float64) float64 { return noise(0.4+0.3*float64(i), 0.1) })
		add(p+": system", "cores", measure.GroupCPU, func(float64) float64 { return noise(0.4+0.2*float64(i), 0.1) })
		add(p+": memory", "bytes", measure.GroupMemory, func(s float64) float64 {
			return float64(100+200*i)*(1<<20) + 1e7*math.Mod(s, 4)
		})
		add(p+": written", "bytes/s", measure.GroupDisk, func(float64) float64 { return noise(float64(i)*5e7, 0.2) })
		add(p+": descriptors", "", measure.GroupFiles, func(float64) float64 { return float64(150 + 100*i) })
	}
}

func sampleCarriers(rep *report.Report, r *rand.Rand, took time.Duration) {
	for i, name := range []string{"gmail", "outlook", "yahoo", "icloud", "docomo", "au", "softbank", "yahoo-japan", "gmx", "small-postfix", "tarpit", "dead", "sink"} {
		limit := []float64{2000, 900, 400, 300, 30, 25, 40, 350, 100, 10, 1, 0, 3000}[i]
		c := report.Carrier{Name: name, Model: "a model shaped after public notes, not a measurement", Offered: int64(limit * 62), Allowed: int64(limit * 60),
			Delivered: int64(limit * 57), Deferred: int64(i * 13), Refused: int64(i * 7), Unlimited: name == "sink"}
		for _, n := range []string{report.SeriesOffered, report.SeriesAllowed, report.SeriesDelivered} {
			t := measure.NewTrack(n, "msg/s", measure.GroupRate, 0, false)
			for at := time.Duration(0); at < took; at += time.Second {
				v := limit
				if n != report.SeriesAllowed {
					v *= 0.95 + 0.05*r.NormFloat64()
				}
				t.Add(at, max(v, 0))
			}
			c.Series = append(c.Series, t.Series())
		}
		rep.Carriers = append(rep.Carriers, c)
	}
	for i := range 7 {
		rep.Carriers[4].Broken++
		rep.AddViolation(report.Violation{At: 24 + float64(i)/3, Carrier: "docomo", Source: fmt.Sprintf("127.0.9.%d", i%2+1), Limit: "per_source.rate", Window: 10 * time.Second, Allowed: 300, Seen: int64(301 + i)})
	}
}

func sampleTreated(rep *report.Report) {
	for i, name := range []string{"all", "docomo"} {
		c := report.Treated{Carrier: name, Rows: []report.Treatment{
			{Name: "fixed limits", Deliverable: 1000, Delivered: 412, OfBest: 0.415, Attempts: 1800, Violations: 312, Blocks: int64(3 * i), BlockedFor: 5 * time.Hour, Reputation: 12.4, Suppressed: 9, Wrong: 4},
			{Name: "ours", Deliverable: 1000, Delivered: 991, OfBest: 0.998, Within: 73 * time.Minute, Attempts: 1100, Violations: 8, Reputation: 100, Suppressed: 5},
		}}
		for k, n := range []string{report.SeriesAllowed, "fixed limits", "ours"} {
			s := measure.Series{Name: n, Unit: "msg/min", Group: measure.GroupRate}
			for at := 0.0; at <= 86400; at += 600 {
				s.At, s.Value = append(s.At, at), append(s.Value, float64(40+10*k)+10*math.Sin(at/9000))
			}
			c.Series = append(c.Series, s)
		}
		rep.Treated = append(rep.Treated, c)
	}
}
