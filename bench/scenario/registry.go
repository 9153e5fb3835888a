package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/policy"
)

// Scenario is one question with its way to an answer.
type Scenario struct {
	Name     string
	Question string // what it answers, for the listing
	Short    Params // the default, under a minute on two cores
	Long     Params // what --long changes
	run      func(ctx context.Context, r *Run) error
	// simulated: it runs in virtual time, without nodes.
	simulated bool
}

// All lists the scenarios in the order of the listing.
func All() []Scenario {
	return []Scenario{
		{Name: "capacity", Question: "the highest rate at which latency stays bounded, and the rate as fast as it goes",
			Short: Params{Messages: 40_000, Duration: seconds(5), Connections: 20, Size: 4096},
			Long:  Params{Messages: 100_000, Duration: seconds(15), Rounds: 5}, run: capacity},
		{Name: "signed", Question: "what a DKIM signature costs: none, Ed25519, RSA-2048",
			Short: Params{Messages: 25_000, Connections: 20, Pipelining: "chunking", Size: 4096},
			Long:  Params{Messages: 50_000, Rounds: 5}, run: signed},
		{Name: "limits", Question: "what limits on every scope cost, too high to bind: against none",
			Short: Params{Messages: 25_000, Connections: 20, Pipelining: "chunking", Size: 4096},
			Long:  Params{Messages: 60_000, Rounds: 7}, run: limits},
		{Name: "large", Question: "100 KB messages",
			Short: Params{Messages: 8_000, Connections: 20, Pipelining: "chunking", Size: 100_000},
			Long:  Params{Messages: 10_000, Rounds: 5}, run: large},
		{Name: "bulk", Question: "one HTTP template job: time to accept, time to drain",
			Short: Params{Messages: 150_000, Connections: 4, Protocol: "http-template"},
			Long:  Params{Messages: 1_000_000}, run: bulk},
		{Name: "fairness", Question: "a transactional stream beside a large job: p50 and p99 from sent to delivered, against alone",
			Short: Params{Messages: 120_000, Rate: 10, Connections: 4, Duration: seconds(12)},
			Long:  Params{Messages: 1_000_000, Rate: 1, Duration: seconds(120)}, run: fairness},
		{Name: "dead", Question: "healthy carriers beside a dead one and a tarpit, each with a deep backlog, against without",
			Short: Params{Messages: 40_000, Backlog: 10_000, Connections: 20, Pipelining: "chunking", Size: 4096},
			Long:  Params{Messages: 80_000, Backlog: 30_000, Rounds: 5}, run: dead},
		{Name: "backlog", Question: "a deep queue, a restart, and the drain",
			Short: Params{Backlog: 150_000, Domains: 1_000, Connections: 4, Protocol: "http-template"},
			Long:  Params{Backlog: 2_000_000, Domains: 100_000}, run: backlog},
		{Name: "longtail", Question: "each recipient at a domain of its own",
			Short: Params{Messages: 30_000, Connections: 20, Pipelining: "chunking", Size: 4096, Destinations: "each"},
			Long:  Params{Messages: 1_000_000}, run: longtail},
		{Name: "carriers", Question: "all simulated carriers at once, the node restarted in between: delivered against allowed, violations",
			Short: Params{Messages: 400_000, Rate: 400, Duration: seconds(40), Settle: seconds(5), Connections: 8, Size: 4096, Restarts: 2},
			Long:  Params{Messages: 2_000_000, Duration: seconds(600), Settle: seconds(30), Restarts: 6}, run: carriersScenario},
		{Name: "reputation", Question: "carriers whose limits nobody tells: without limits, with fixed ones, with pauses by reply text, ours, and one who knows all",
			Short: Params{Messages: 300_000, Rate: 240, Connections: 8, Size: 4096, Settle: seconds(30)},
			Long:  Params{Rounds: 5, Duration: seconds(600)}, run: reputationScenario, simulated: true},
		{Name: "soak", Question: "a steady load for long: slopes of memory, goroutines, descriptors, disk",
			Short: Params{Messages: 200_000, Rate: 2_000, Duration: seconds(40), Connections: 20, Pipelining: "chunking", Size: 4096},
			Long:  Params{Messages: 20_000_000, Duration: seconds(3600)}, run: soak},
		{Name: "scale", Question: "1, 2 and 4 node processes",
			Short: Params{Messages: 30_000, Connections: 20, Pipelining: "chunking", Size: 4096, Nodes: 4},
			Long:  Params{Messages: 200_000, Rounds: 3}, run: scale},
	}
}

func seconds(n int) policy.Duration { return policy.Duration(time.Duration(n) * time.Second) }

// Find returns a scenario by name.
func Find(name string) (Scenario, bool) {
	for _, s := range All() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

func names() string {
	var all []string
	for _, s := range All() {
		all = append(all, s.Name)
	}
	return strings.Join(all, ", ")
}

// With is the scenario's parameters with those of asked over them.
func (s Scenario) With(asked Params) Params {
	p := s.Short
	if asked.Long {
		p = Over(p, s.Long)
	}
	p = Over(p, asked)
	p.Scenario = s.Name
	if p.Seed == 0 {
		p.Seed = 1
	}
	if p.Rounds == 0 {
		p.Rounds = 1
	}
	if p.Settle == 0 {
		p.Settle = seconds(60)
	}
	if p.Latency == 0 {
		p.Latency = seconds(1)
	}
	return p
}

// Over lays the fields that are set in top over base.
func Over(base, top Params) Params {
	set(&base.Scenario, top.Scenario)
	set(&base.Long, top.Long)
	set(&base.Seed, top.Seed)
	set(&base.Messages, top.Messages)
	set(&base.Duration, top.Duration)
	set(&base.Settle, top.Settle)
	set(&base.Rate, top.Rate)
	set(&base.Size, top.Size)
	set(&base.Connections, top.Connections)
	set(&base.Protocol, top.Protocol)
	set(&base.Pipelining, top.Pipelining)
	set(&base.PerConnection, top.PerConnection)
	set(&base.TLS, top.TLS)
	set(&base.DKIM, top.DKIM)
	set(&base.Destinations, top.Destinations)
	set(&base.Domains, top.Domains)
	set(&base.Backlog, top.Backlog)
	set(&base.Restarts, top.Restarts)
	set(&base.Kill, top.Kill)
	set(&base.Nodes, top.Nodes)
	set(&base.Rounds, top.Rounds)
	set(&base.Latency, top.Latency)
	set(&base.Fault, top.Fault)
	if len(top.Carriers) > 0 {
		base.Carriers = top.Carriers
	}
	if len(top.Profiles) > 0 {
		base.Profiles = top.Profiles
	}
	return base
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// only are the settings that some scenarios alone obey.
var only = []struct {
	name      string
	given     func(p *Params) bool
	scenarios []string
}{
	{"rate", func(p *Params) bool { return p.Rate != 0 }, []string{"fairness", "carriers", "soak", "reputation"}},
	{"duration", func(p *Params) bool { return p.Duration != 0 }, []string{"capacity", "fairness", "carriers", "soak", "reputation"}},
	{"latency", func(p *Params) bool { return p.Latency != 0 }, []string{"capacity"}},
	{"backlog", func(p *Params) bool { return p.Backlog != 0 }, []string{"dead", "backlog"}},
	{"carriers", func(p *Params) bool { return len(p.Carriers) > 0 }, []string{"carriers"}},
	{"profiles", func(p *Params) bool { return len(p.Profiles) > 0 }, []string{"carriers"}},
	{"restarts", func(p *Params) bool { return p.Restarts != 0 }, []string{"carriers"}},
	{"kill", func(p *Params) bool { return p.Kill }, []string{"carriers"}},
	{"nodes", func(p *Params) bool { return p.Nodes != 0 }, []string{"scale"}},
	{"rounds", func(p *Params) bool { return p.Rounds > 1 }, []string{"capacity", "signed", "large", "bulk", "dead", "scale", "reputation"}},
}

// Check says which of the settings asked for the scenario would not obey, and
// what is out of bounds.
func (s Scenario) Check(asked Params) error {
	var errs []error
	for _, o := range only {
		if o.given(&asked) && !slices.Contains(o.scenarios, s.Name) {
			errs = append(errs, fmt.Errorf("%s: %s has no use for it; it is for %s", o.name, s.Name, strings.Join(o.scenarios, ", ")))
		}
	}
	p := s.With(asked)
	return errors.Join(append(errs, p.Validate())...)
}
