package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

// Params are what a run can be asked for: by the scenario's defaults, then by
// a file (run -f), then by flags. Zero leaves the scenario's own default.
type Params struct {
	// Scenario is the name of the scenario that the file sets up.
	Scenario string `json:"scenario"`
	// Long takes the long form: the counts and times of the targets.
	Long bool `json:"long,omitempty"`
	// Seed makes sizes, destinations, contents and the carriers' moods.
	Seed uint64 `json:"seed,omitempty"`
	// Messages bounds each trial in count. At most 20,000,000.
	Messages int `json:"messages,omitempty"`
	// Duration bounds the sending of each trial in time.
	Duration policy.Duration `json:"duration,omitempty"`
	// Settle bounds the wait for the queue to empty after the last message.
	Settle policy.Duration `json:"settle,omitempty"`
	// Rate is the arrival rate in messages per second; 0 is as fast as it goes.
	Rate float64 `json:"rate,omitempty"`
	// Size of the messages in bytes.
	Size int `json:"size,omitempty"`
	// Connections of each source.
	Connections int `json:"connections,omitempty"`
	// Protocol is smtp, http, http-batch or http-template.
	Protocol string `json:"protocol,omitempty"`
	// Pipelining is plain, pipelining or chunking.
	Pipelining string `json:"pipelining,omitempty"`
	// PerConnection is how many messages an SMTP connection carries; 0 is all.
	PerConnection int `json:"per_connection,omitempty"`
	// TLS encrypts the way in by SMTP.
	TLS bool `json:"tls,omitempty"`
	// DKIM is none, ed25519 or rsa2048.
	DKIM string `json:"dkim,omitempty"`
	// Destinations are few, zipf, giant or each; Domains is how many.
	Destinations string `json:"destinations,omitempty"`
	// Domains is the number of recipient domains.
	Domains int `json:"domains,omitempty"`
	// Backlog is how many deliveries are queued before the clock starts.
	Backlog int `json:"backlog,omitempty"`
	// Carriers are the simulated carriers to send to, by profile.
	Carriers []string `json:"carriers,omitempty"`
	// Profiles are files with carriers of one's own.
	Profiles []string `json:"profiles,omitempty"`
	// Restarts is how often the node is ended and started again during a trial.
	Restarts int `json:"restarts,omitempty"`
	// Kill ends the node with SIGKILL at a restart instead of SIGTERM.
	Kill bool `json:"kill,omitempty"`
	// Nodes is the number of node processes.
	Nodes int `json:"nodes,omitempty"`
	// Rounds repeats the trials; figures are then medians.
	Rounds int `json:"rounds,omitempty"`
	// Latency bounds p99 from intended time to delivery in capacity. Default 1s.
	Latency policy.Duration `json:"latency,omitempty"`
	// Fault breaks the receiver on purpose, to show that the ledger sees it: drop,
	// double or alter. The run must then fail.
	Fault string `json:"fault,omitempty"`
}

// Limits of what can be asked.
const (
	maxMessages    = 20_000_000
	maxConnections = 10_000
	maxTrialTime   = 24 * time.Hour
)

// Load reads a scenario file. Errors carry file, line and column.
func Load(path string) (*Params, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	docs, err := strict.Parse(path, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: a scenario file holds one document, this has %d", path, len(docs))
	}
	var p Params
	if errs := docs[0].Decode(&p); len(errs) > 0 {
		return nil, errs
	}
	if _, ok := Find(p.Scenario); !ok {
		return nil, docs[0].ErrorAt("scenario", fmt.Sprintf("no scenario %q; there are %s", p.Scenario, names()))
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &p, nil
}

// Validate says what is out of bounds.
func (p *Params) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	oneOf := func(name, value string, values ...string) {
		for _, v := range append(values, "") {
			if v == value {
				return
			}
		}
		errs = append(errs, fmt.Errorf("%s: %q is not one of %v", name, value, values))
	}
	check(p.Messages >= 0 && p.Messages <= maxMessages, "messages: %d is not in 0..%d", p.Messages, maxMessages)
	check(p.Backlog >= 0 && p.Backlog <= maxMessages, "backlog: %d is not in 0..%d", p.Backlog, maxMessages)
	check(p.Connections >= 0 && p.Connections <= maxConnections, "connections: %d is not in 0..%d", p.Connections, maxConnections)
	check(p.PerConnection >= 0 && p.PerConnection <= maxMessages, "per_connection: %d is not in 0..%d", p.PerConnection, maxMessages)
	check(p.Size == 0 || p.Size >= 512 && p.Size <= 50<<20, "size: %d is not in 512..%d", p.Size, 50<<20)
	check(p.Rate >= 0 && p.Rate <= 1e6, "rate: %g is not in 0..1000000", p.Rate)
	check(p.Duration.D() >= 0 && p.Duration.D() <= maxTrialTime, "duration: %s is not in 0..24h", p.Duration.D())
	check(p.Settle.D() >= 0 && p.Settle.D() <= maxTrialTime, "settle: %s is not in 0..24h", p.Settle.D())
	check(p.Latency.D() >= 0 && p.Latency.D() <= time.Hour, "latency: %s is not in 0..1h", p.Latency.D())
	check(p.Domains >= 0 && p.Domains <= maxMessages, "domains: %d is not in 0..%d", p.Domains, maxMessages)
	check(p.Restarts >= 0 && p.Restarts <= 1000, "restarts: %d is not in 0..1000", p.Restarts)
	check(p.Nodes >= 0 && p.Nodes <= 64, "nodes: %d is not in 0..64", p.Nodes)
	check(p.Rounds >= 0 && p.Rounds <= 100, "rounds: %d is not in 0..100", p.Rounds)
	oneOf("protocol", p.Protocol, "smtp", "http", "http-batch", "http-template")
	oneOf("pipelining", p.Pipelining, "plain", "pipelining", "chunking")
	oneOf("dkim", p.DKIM, "none", "ed25519", "rsa2048")
	oneOf("destinations", p.Destinations, "few", "zipf", "giant", "each")
	oneOf("fault", p.Fault, "drop", "double", "alter")
	return errors.Join(errs...)
}

// flags are the settings that change what is measured, for the report.
func (p *Params) flags() map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(p)
	if err != nil {
		panic("BUG: parameters are not JSON: " + err.Error())
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		panic("BUG: parameters are not JSON: " + err.Error())
	}
	for k, v := range all {
		if k != "scenario" && k != "long" && k != "seed" {
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}
