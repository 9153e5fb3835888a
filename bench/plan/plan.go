package plan

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Input is all that a plan is made of.
type Input struct {
	PerHour  float64   // messages, one recipient each
	Mix      []Share   // of the carriers; adds up to 1
	Hours    float64   // a day at that rate; default 24, for daily caps
	Cost     Cost      // of one message
	Node     Node      // what one node has
	Carriers []Carrier // one for each of the mix
	HeadRoom float64   // share of each resource that is left free; default 0.3, below 0 none
	Spare    int       // nodes that may be down with the target still met; default 1 (N+1), -1 none
}

// Share is a carrier's part of the target.
type Share struct {
	Carrier string  `json:"carrier"`
	Share   float64 `json:"share"`
}

// Cost is what one message costs a node, from its acceptance to its delivery.
type Cost struct {
	CPU             time.Duration `json:"cpu_ns"`            // of all the node's processes
	DiskBytes       float64       `json:"disk_bytes"`        // written
	NetworkBytes    float64       `json:"network_bytes"`     // in each direction: it comes in and goes out
	MessagesPerSync float64       `json:"messages_per_sync"` // that shared a sync when it was measured; 0 is unknown
	From            string        `json:"from"`              // where these were measured
}

// Node is what one node has. 0 of a resource other than cores leaves it out.
type Node struct {
	Cores          float64 `json:"cores"`
	DiskBytes      float64 `json:"disk_bytes_per_second"`
	Syncs          float64 `json:"syncs_per_second"`
	NetworkBits    float64 `json:"network_bits_per_second"` // in each direction
	SourcesPerNode int     `json:"sources_per_node"`        // addresses one node can hold; 0 is no bound
}

// Carrier is what one carrier allows, and how long it takes. 0 is no bound.
type Carrier struct {
	Name                  string        `json:"name"`
	PerSecond             float64       `json:"per_second"`  // messages, of each source
	Connections           int           `json:"connections"` // of each source
	ConnectionsPerSecond  float64       `json:"connections_per_second,omitempty"`
	MessagesPerConnection int           `json:"messages_per_connection"`
	PerDay                int64         `json:"per_day"`          // messages, of each source
	TotalPerSecond        float64       `json:"total_per_second"` // messages, of all sources together
	TotalConnections      int           `json:"total_connections"`
	TotalPerDay           int64         `json:"total_per_day"`
	Transaction           time.Duration `json:"transaction_ns"` // of one message on an open connection
	Setup                 time.Duration `json:"setup_ns"`       // of a connection, until its first MAIL
	From                  string        `json:"from"`           // where these come from
}

// Plan is the answer.
type Plan struct {
	PerHour     float64      `json:"per_hour"`
	PerSecond   float64      `json:"per_second"`
	Nodes       int          `json:"nodes"` // with the spare ones
	Spare       int          `json:"spare_nodes"`
	PerNode     []Resource   `json:"per_node"` // what one node can carry, by each resource
	NodesBind   string       `json:"nodes_bind"`
	Sources     int          `json:"sources"`      // addresses, if each sends to all carriers
	SourcesBind string       `json:"sources_bind"` // the carrier that needs most
	Carriers    []SourceNeed `json:"carriers"`
	// First is what binds first as the target grows from nothing, with one
	// node and one address to begin with.
	First       string   `json:"binds_first"`
	Impossible  []string `json:"impossible,omitempty"` // what no number of nodes or addresses can do
	Assumptions []string `json:"assumptions"`
}

// Resource is one resource of a node.
type Resource struct {
	Name      string  `json:"name"`
	PerSecond float64 `json:"per_second"` // messages one node can carry, head room kept
	Nodes     int     `json:"nodes"`      // for the target, without spare ones
	Why       string  `json:"why"`        // the sum, in words
}

// Bounds of what is asked for: beyond them it is a mistake of the keyboard.
const (
	maxPerHour = 1e12
	maxNeed    = 1e7 // nodes or addresses
)

// Make works out a plan.
func Make(in Input) (*Plan, error) {
	in.defaults()
	if err := in.check(); err != nil {
		return nil, err
	}
	p := &Plan{PerHour: in.PerHour, PerSecond: in.PerHour / 3600}
	if err := p.sources(&in); err != nil {
		return nil, err
	}
	if err := p.nodes(&in); err != nil {
		return nil, err
	}
	p.first(&in)
	p.Assumptions = in.assumptions()
	return p, nil
}

func (in *Input) defaults() {
	if in.Hours == 0 {
		in.Hours = 24
	}
	switch {
	case in.HeadRoom == 0:
		in.HeadRoom = 0.3
	case in.HeadRoom < 0:
		in.HeadRoom = 0
	}
	switch {
	case in.Spare == 0:
		in.Spare = 1
	case in.Spare < 0:
		in.Spare = 0
	}
}

func (in *Input) check() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	number := func(what string, v, least, most float64) {
		bad(v >= least && v <= most, "%s %v: want %v to %v", what, v, least, most) // NaN fails both
	}
	bad(in.PerHour > 0 && in.PerHour <= maxPerHour, "target of %v messages an hour: want more than 0, at most %v", in.PerHour, float64(maxPerHour))
	number("hours a day", in.Hours, 0.01, 24)
	number("head room", in.HeadRoom, 0, 0.95)
	bad(in.Spare <= 1000, "%d spare nodes: want at most 1000", in.Spare)
	bad(in.Cost.CPU > 0, "the CPU time of a message is not known: give it, or a report that measured it")
	number("disk bytes of a message", in.Cost.DiskBytes, 0, 1e12)
	number("network bytes of a message", in.Cost.NetworkBytes, 0, 1e12)
	number("messages that share a sync", in.Cost.MessagesPerSync, 0, 1e6)
	bad(in.Node.Cores != 0, "the cores of a node are not known: give them, or a report with its machine")
	number("cores of a node", in.Node.Cores, 0, 1e5)
	number("disk bytes a second", in.Node.DiskBytes, 0, 1e15)
	number("syncs a second", in.Node.Syncs, 0, 1e9)
	number("network bits a second", in.Node.NetworkBits, 0, 1e15)
	bad(in.Node.SourcesPerNode >= 0, "addresses of a node: %d", in.Node.SourcesPerNode)
	bad(len(in.Mix) > 0, "no carriers in the mix")
	sum, seen := 0.0, map[string]bool{}
	for _, s := range in.Mix {
		bad(s.Share > 0 && s.Share <= 1, "share of %s: %v %%: want more than 0, at most 100 %%", s.Carrier, s.Share*100)
		bad(!seen[s.Carrier], "%s is twice in the mix", s.Carrier)
		_, known := in.carrier(s.Carrier)
		bad(known, "nothing is known about the limits of %s", s.Carrier)
		seen[s.Carrier] = true
		sum += s.Share
	}
	bad(len(in.Mix) == 0 || math.Abs(sum-1) < 0.0005, "the mix adds up to %.4g %%, not 100 %%", sum*100)
	for _, c := range in.Carriers {
		errs = append(errs, c.check())
	}
	return errors.Join(errs...)
}

func (in *Input) carrier(name string) (Carrier, bool) {
	for _, c := range in.Carriers {
		if c.Name == name {
			return c, true
		}
	}
	return Carrier{}, false
}

// needed is how many of what gives each so much are needed for a rate.
func needed(rate, each float64) (int, error) {
	n := math.Ceil(rate/each - 1e-9) // 3.0000000001 of something is 3
	if math.IsNaN(n) || n > maxNeed {
		return 0, fmt.Errorf("%.4g a second at %.4g each needs more than %v of them: no plan for that", rate, each, float64(maxNeed))
	}
	return max(1, int(n)), nil
}
