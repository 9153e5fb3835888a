package plan

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
	"hikyaku/bench/sidebyside"
	"hikyaku/controlplane/policy"
)

// simple has figures that are easy to work with by hand: 3,600,000 an hour are
// 1,000 a second.
func simple() Input {
	return Input{
		PerHour:  3_600_000,
		Mix:      []Share{{"a", 0.5}, {"b", 0.5}},
		Cost:     Cost{CPU: time.Millisecond, DiskBytes: 10_000, NetworkBytes: 5_000, MessagesPerSync: 10, From: "test"},
		Node:     Node{Cores: 1, DiskBytes: 100e6, Syncs: 1000, NetworkBits: 1e9},
		Carriers: []Carrier{{Name: "a", PerSecond: 100}, {Name: "b", Connections: 10, Transaction: 100 * time.Millisecond}},
		HeadRoom: 0.5, Spare: 2,
	}
}

func TestPlansByHand(t *testing.T) {
	for _, c := range []struct {
		name        string
		change      func(*Input)
		nodes       int
		nodesBind   string
		sources     int
		sourcesBind string
		first       string
		impossible  string
	}{
		// One node: 1 core × 50 % ÷ 1 ms = 500/s → 2 nodes + 2 spare. Of a: 500/s ÷ (100/s × 50 %) = 10 addresses.
		// Of b: 10 connections ÷ 0.1 s = 100/s as well. One address is full at 50/s of a, which is 100/s of the mix.
		{"as it is", func(*Input) {}, 4, byCPU, 10, "a: " + byRate, "a: " + byRate + ", at 100 ", ""},
		// Exactly 1000/s ÷ 500/s is 2, not 3.
		{"no spare", func(in *Input) { in.Spare = -1 }, 2, byCPU, 10, "a: " + byRate, "a: ", ""},
		// 100 syncs × 50 % × 1 message = 50/s → 20 nodes.
		{"slow disk", func(in *Input) { in.Node.Syncs, in.Cost.MessagesPerSync = 100, 1 }, 22, bySync, 10, "a: " + byRate, bySync + ", at 50 ", ""},
		// 2 MB/s × 50 % ÷ 10 kB = 100/s → 10 nodes.
		{"narrow disk", func(in *Input) { in.Node.DiskBytes = 2e6 }, 12, byDisk, 10, "a: " + byRate, "", ""},
		// 8 Mbit/s = 1 MB/s × 50 % ÷ 5 kB = 100/s → 10 nodes.
		{"narrow network", func(in *Input) { in.Node.NetworkBits = 8e6 }, 12, byNetwork, 10, "a: " + byRate, "", ""},
		// 10 addresses, 2 on a node → 5 nodes.
		{"few addresses a node", func(in *Input) { in.Node.SourcesPerNode = 2 }, 7, bySources, 10, "a: " + byRate, "", ""},
		// 86,400 a day are 1 a second: 500 ÷ 0.5 = 1,000 addresses.
		{"daily cap", func(in *Input) { in.Carriers[0].PerDay = 86_400 }, 4, byCPU, 1000, "a: " + byDay, "a: " + byDay + ", at 1 ", ""},
		// The same cap used up in 12 hours: 2 a second.
		{"half a day", func(in *Input) { in.Carriers[0].PerDay, in.Hours = 86_400, 12 }, 4, byCPU, 500, "a: " + byDay, "a: " + byDay + ", at 2 ", ""},
		// 0.1 s + 1 s of set-up ÷ 10 messages = 0.2 s: 10 ÷ 0.2 = 50/s → 20 addresses.
		{"short connections", func(in *Input) { in.Carriers[1].Setup, in.Carriers[1].MessagesPerConnection = time.Second, 10 }, 4, byCPU, 20, "b: " + byConnections, "b: " + byConnections + ", at 50 ", ""},
		// 0.5 new connections/s × 10 messages = 5/s → 200 addresses.
		{"few new connections", func(in *Input) { in.Carriers[0].ConnectionsPerSecond, in.Carriers[0].MessagesPerConnection = 0.5, 10 }, 4, byCPU, 200, "a: " + byOpening, "a: " + byOpening, ""},
		// 400/s over all are below the 500/s that are wanted.
		{"ceiling", func(in *Input) { in.Carriers[0].TotalPerSecond = 400 }, 4, byCPU, 10, "a: " + byRate, "a: ", "a: 500 messages/s are wanted, its rate over all sources allows 400"},
		// 40 ÷ 0.1 s = 400/s.
		{"ceiling of connections", func(in *Input) { in.Carriers[1].TotalConnections = 40 }, 4, byCPU, 10, "a: " + byRate, "a: ", "b: 500 messages/s are wanted, its connections over all"},
		{"no limits", func(in *Input) { in.Carriers = []Carrier{{Name: "a"}, {Name: "b"}} }, 4, byCPU, 1, "a: none", byCPU + ", at 500 ", ""},
		// Without head room 1,000/s a node and 100/s an address.
		{"no head room", func(in *Input) { in.HeadRoom = -1 }, 3, byCPU, 5, "a: " + byRate, "a: " + byRate + ", at 200 ", ""},
		{"tiny", func(in *Input) { in.PerHour = 1 }, 3, byCPU, 1, "a: " + byRate, "", ""},
	} {
		in := simple()
		c.change(&in)
		p, err := Make(in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Nodes != c.nodes || p.NodesBind != c.nodesBind || p.Sources != c.sources || p.SourcesBind != c.sourcesBind ||
			!strings.HasPrefix(p.First, c.first) || strings.Join(p.Impossible, "\n") == "" != (c.impossible == "") || !strings.Contains(strings.Join(p.Impossible, "\n"), c.impossible) {
			t.Errorf("%s: %d nodes by %s, %d addresses by %s, first %q, impossible %q; want %d by %s, %d by %s, %q, %q", c.name,
				p.Nodes, p.NodesBind, p.Sources, p.SourcesBind, p.First, p.Impossible, c.nodes, c.nodesBind, c.sources, c.sourcesBind, c.first, c.impossible)
		}
	}
}

// INVARIANT: a higher target never needs less, and more of anything never
// makes more of anything needed.
func TestMoreNeverNeedsMoreAndLessNeverLess(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		in := simple()
		in.PerHour = math.Exp(rnd.Float64() * 18)
		share := 0.01 + 0.98*rnd.Float64()
		in.Mix[0].Share, in.Mix[1].Share = share, 1-share
		in.HeadRoom = rnd.Float64() * 0.9
		for i := range in.Carriers {
			in.Carriers[i] = Carrier{Name: in.Carriers[i].Name, PerSecond: rnd.Float64() * 100, Connections: rnd.IntN(50), MessagesPerConnection: rnd.IntN(100),
				PerDay: rnd.Int64N(1e6), ConnectionsPerSecond: rnd.Float64(), Transaction: time.Duration(1 + rnd.IntN(1e9)), Setup: time.Duration(rnd.IntN(1e9))}
		}
		base, err := Make(in)
		if err != nil {
			continue // more than anybody has
		}
		notMore := func(what string, change func(*Input)) {
			changed := in
			changed.Carriers = append([]Carrier(nil), in.Carriers...)
			change(&changed)
			p, err := Make(changed)
			if err != nil {
				t.Fatalf("%s: %v of %+v", what, err, changed)
			}
			if p.Sources > base.Sources || p.Nodes > base.Nodes {
				t.Fatalf("%s: %d nodes and %d addresses, before %d and %d: %+v", what, p.Nodes, p.Sources, base.Nodes, base.Sources, in)
			}
		}
		notMore("half the target", func(in *Input) { in.PerHour /= 2 })
		notMore("twice the rates", func(in *Input) {
			for i := range in.Carriers {
				in.Carriers[i].PerSecond *= 2
			}
		})
		notMore("twice all limits of a source", func(in *Input) {
			for i := range in.Carriers {
				c := &in.Carriers[i]
				c.PerSecond, c.Connections, c.PerDay, c.ConnectionsPerSecond = c.PerSecond*2, c.Connections*2, c.PerDay*2, c.ConnectionsPerSecond*2
			}
		})
		notMore("answers in half the time", func(in *Input) {
			for i := range in.Carriers {
				in.Carriers[i].Transaction = (in.Carriers[i].Transaction + 1) / 2
			}
		})
		notMore("a node twice as large", func(in *Input) {
			in.Node.Cores, in.Node.Syncs, in.Node.DiskBytes = in.Node.Cores*2, in.Node.Syncs*2, in.Node.DiskBytes*2
		})
		notMore("less head room", func(in *Input) { in.HeadRoom /= 2 })
	}
}

func TestBadInputIsNamed(t *testing.T) {
	nan := math.NaN()
	for want, change := range map[string]func(*Input){
		"target":                   func(in *Input) { in.PerHour = 0 },
		"target of NaN":            func(in *Input) { in.PerHour = nan },
		"adds up to 90 %":          func(in *Input) { in.Mix[0].Share = 0.4 },
		"a is twice":               func(in *Input) { in.Mix[1].Carrier = "a" },
		"no carriers":              func(in *Input) { in.Mix = nil },
		"limits of c":              func(in *Input) { in.Mix[0].Carrier = "c" },
		"share of a":               func(in *Input) { in.Mix[0].Share, in.Mix[1].Share = -0.5, 1.5 },
		"CPU time":                 func(in *Input) { in.Cost.CPU = 0 },
		"cores of a node":          func(in *Input) { in.Node.Cores = 0 },
		"head room":                func(in *Input) { in.HeadRoom = 1 },
		"hours":                    func(in *Input) { in.Hours = 25 },
		"disk bytes":               func(in *Input) { in.Cost.DiskBytes = nan },
		"time of a transaction":    func(in *Input) { in.Carriers[1].Transaction = 0 },
		"a: rate of":               func(in *Input) { in.Carriers[0].PerSecond = -1 },
		"a: ":                      func(in *Input) { in.Carriers[0].PerSecond = stopped },
		"needs more than 1e+07 of": func(in *Input) { in.PerHour, in.Carriers[0].PerSecond = 1e12, 1 },
		"spare":                    func(in *Input) { in.Spare = 5000 },
	} {
		in := simple()
		change(&in)
		if _, err := Make(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAssumptionsAreStated(t *testing.T) {
	in := simple()
	in.Hours = 12
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Assumptions, "\n")
	for _, want := range []string{"1ms of CPU", "10 kB to disk", "test", "50 %", "2 of the nodes may be down", "12 hours a day", "first attempt", "10 messages share a sync", "1 cores", "a: a transaction"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing says %q:\n%s", want, all)
		}
	}
	if b, err := json.Marshal(p); err != nil || !strings.Contains(string(b), `"binds_first"`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestLimitsOfProfiles(t *testing.T) {
	rate := policy.Rate{N: 600, Per: time.Minute}
	ms := func(n int) policy.Duration { return policy.Duration(time.Duration(n) * time.Millisecond) }
	c := FromProfile(&carriers.Profile{
		Name: "x", MessagesPerConnection: 50, PerSource: policy.Limits{Rate: &rate, Connections: 5, PerDay: 1000}, Limits: policy.Limits{Connections: 7},
		Latency: carriers.Phases{Connect: carriers.Latency{Median: ms(10)}, Rcpt: carriers.Latency{Quantiles: []policy.Duration{0, ms(10), ms(40)}}, Dot: carriers.Latency{Median: ms(20)}},
	}, Distance{RoundTrip: 30 * time.Millisecond})
	// Of the quantiles: (0/2 + 10 + 40/2) ÷ 2 = 15 ms. 15 + 20 + 2 × 30; 10 + 6 × 30.
	if c.PerSecond != 10 || c.Connections != 5 || c.PerDay != 1000 || c.TotalConnections != 0 || c.Transaction != 95*time.Millisecond || c.Setup != 190*time.Millisecond {
		t.Errorf("%+v", c)
	}
	// The mean of a lognormal distribution lies above its median: σ = ln(250/30)/2.3263, exp(σ²/2) = 1.5150.
	if got := mean(carriers.Latency{Median: ms(30), P99: ms(250)}); got < 45_400*time.Microsecond || got > 45_500*time.Microsecond {
		t.Errorf("mean %v", got)
	}
	shipped, err := carriers.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range shipped {
		if err := FromProfile(p, Distance{RoundTrip: 30 * time.Millisecond}).check(); err != nil {
			t.Error(err)
		}
	}
}

func TestLimitsOfPolicy(t *testing.T) {
	c := FromPolicy("x", policy.Carrier{}, Distance{RoundTrip: 10 * time.Millisecond, Answer: 100 * time.Millisecond})
	if c.Connections != 20 || c.MessagesPerConnection != 1000 || c.Transaction != 120*time.Millisecond || c.PerSecond != 0 {
		t.Errorf("defaults: %+v", c)
	}
	none := policy.Rate{N: 0, Per: time.Second}
	if c := FromPolicy("x", policy.Carrier{PerSource: policy.Limits{Rate: &none}}, Distance{}); c.PerSecond <= 0 || c.PerSecond > 1e-100 {
		t.Errorf("a carrier to which nothing is to be sent has the rate %v", c.PerSecond)
	}
}

func TestOverrides(t *testing.T) {
	c := Carrier{Name: "x", TotalPerSecond: 5}
	if err := c.Override("rate=120/m,connections=3,connection_rate=60/m,messages_per_connection=7,per_day=100,total_rate=none,total_connections=9,total_per_day=1000,transaction=250ms,setup=1s"); err != nil {
		t.Fatal(err)
	}
	c.From = ""
	if want := (Carrier{"x", 2, 3, 1, 7, 100, 0, 9, 1000, 250 * time.Millisecond, time.Second, ""}); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	for _, bad := range []string{"rate", "rate=fast", "speed=1", "connections=-1", "connections=x", "transaction=5", "transaction=-1s", ""} {
		if err := new(Carrier).Override(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestParsing(t *testing.T) {
	for s, want := range map[string]float64{"30M/h": 30e6, "8500/s": 8500 * 3600, "720M/d": 30e6, "100/m": 6000, "1.5k/h": 1500} {
		if got, err := ParseTarget(s); err != nil || math.Abs(got-want) > want*1e-12 {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, bad := range []string{"", "30M", "30M/y", "/h", "-1/h", "0/h", "NaN/h", "Inf/s", "M/h"} {
		if v, err := ParseTarget(bad); err == nil {
			t.Errorf("%q: %v", bad, v)
		}
	}
	mix, err := ParseMix("gmail=40%, docomo=60%")
	if err != nil || len(mix) != 2 || mix[0] != (Share{"gmail", 0.4}) || mix[1] != (Share{"docomo", 0.6}) {
		t.Errorf("%v, %v", mix, err)
	}
	for _, bad := range []string{"", "gmail", "gmail=40", "=40%", "gmail=x%", "gmail=NaN%", "gmail=40%,"} {
		if v, err := ParseMix(bad); err == nil {
			t.Errorf("%q: %v", bad, v)
		}
	}
	for s, want := range map[string]float64{"4096": 4096, "20k": 20e3, "500M": 500e6, "1.5GB": 1.5e9, "0": 0} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if _, err := ParseBytes("-1k"); err == nil {
		t.Error("a negative amount was taken")
	}
}

func FuzzParsing(f *testing.F) {
	for _, s := range []string{"30M/h", "gmail=40%,docomo=60%", "1.5GB", "rate=120/m,connections=3,transaction=250ms", "%=,/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseTarget(s); err == nil && !(v > 0) {
			t.Errorf("target %q: %v", s, v)
		}
		if mix, err := ParseMix(s); err == nil && len(mix) == 0 {
			t.Errorf("mix %q is empty without an error", s)
		}
		if v, err := ParseBytes(s); err == nil && !(v >= 0) {
			t.Errorf("bytes %q: %v", s, v)
		}
		c := Carrier{Name: "x"}
		if err := c.Override(s); err == nil && c.check() != nil && c.Connections == 0 {
			t.Errorf("limits %q were taken: %v", s, c.check())
		}
	})
}

func TestCostsOfReports(t *testing.T) {
	r := &report.Report{Schema: report.Schema, Scenario: "capacity", Started: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		Machine: measure.Machine{Cores: 8, Quota: 4}, Disk: measure.DiskSync{P50: 500 * time.Microsecond}}
	if _, _, err := FromReport(r); err == nil {
		t.Error("a report without a node was taken")
	}
	usage := measure.Usage{User: 60 * time.Second, System: 40 * time.Second, IOKnown: true, Wrote: 6_000_000_000}
	r.Processes = []report.Process{
		report.NewProcess(measure.Process{Name: "bench", Usage: usage}, 1_000_000, 0),
		report.NewProcess(measure.Process{Name: "closed loop, PIPELINING: node-1", Usage: usage}, 1_000_000, 4_000_000_000),
		report.NewProcess(measure.Process{Name: "open loop: node-1", Usage: usage}, 500_000, 2_000_000_000),
	}
	c, n, err := FromReport(r)
	if err != nil || c.CPU != 100*time.Microsecond || math.Abs(c.DiskBytes-6000) > 1 || math.Abs(c.NetworkBytes-(4000*1.06+1500)) > 2 || n.Cores != 4 || n.Syncs != 2000 {
		t.Errorf("%+v, %+v, %v", c, n, err)
	}
	p := &sidebyside.Result{Work: sidebyside.Work{Size: 4000}, Machine: measure.Machine{Cores: 2}, Rows: []sidebyside.Row{{Name: "hikyaku",
		CPU: sidebyside.Spread{Median: 183, N: 3}, DiskBytes: sidebyside.Spread{Median: 1.5, N: 3}, MessagesPerSync: sidebyside.Spread{Median: 6, N: 3}}}}
	c, n, err = FromPeers(p)
	if err != nil || c.CPU != 183*time.Microsecond || c.DiskBytes != 6000 || c.MessagesPerSync != 6 || n.Cores != 2 {
		t.Errorf("%+v, %+v, %v", c, n, err)
	}
	if _, _, err := FromPeers(&sidebyside.Result{}); err == nil {
		t.Error("a comparison without hikyaku was taken")
	}
	var sum Cost
	sum.Take(Cost{CPU: 1, DiskBytes: 2, From: "first"})
	sum.Take(Cost{From: "knows nothing"})
	sum.Take(Cost{CPU: 3, From: "second"})
	if sum != (Cost{CPU: 3, DiskBytes: 2, From: "first; second"}) {
		t.Errorf("%+v", sum)
	}
}
