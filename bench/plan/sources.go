package plan

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// SourceNeed is what one carrier asks for.
type SourceNeed struct {
	Carrier   string  `json:"carrier"`
	Share     float64 `json:"share"`
	PerSecond float64 `json:"per_second"` // of the target
	Each      float64 `json:"each"`       // messages a second that one address can send there
	Sources   int     `json:"sources"`
	Binds     string  `json:"binds"` // which of its limits
	Limits    []Limit `json:"limits"`
	From      string  `json:"from"`
}

// Limit is one limit of a carrier, as messages a second of one address.
type Limit struct {
	Name      string  `json:"name"`
	PerSecond float64 `json:"per_second"`
	Why       string  `json:"why"`
}

// The limits of a carrier.
const (
	byRate        = "rate of a source"
	byConnections = "connections × transaction time"
	byOpening     = "rate of new connections"
	byDay         = "daily cap"
)

func (c Carrier) check() error {
	var errs []error
	for what, v := range map[string]float64{"rate": c.PerSecond, "connections": float64(c.Connections), "rate of connections": c.ConnectionsPerSecond,
		"messages on a connection": float64(c.MessagesPerConnection), "daily cap": float64(c.PerDay), "rate of all sources": c.TotalPerSecond,
		"connections of all sources": float64(c.TotalConnections), "daily cap of all sources": float64(c.TotalPerDay),
		"transaction time": c.Transaction.Seconds(), "connection set-up time": c.Setup.Seconds()} {
		if !(v >= 0) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s: %s of %v", c.Name, what, v))
		}
	}
	if c.Connections > 0 && c.Transaction == 0 {
		errs = append(errs, fmt.Errorf("%s: %d connections carry nothing that can be worked out without the time of a transaction", c.Name, c.Connections))
	}
	return errors.Join(errs...)
}

// connectionTime is the time one message occupies a connection, with its part
// of the connection's set-up.
func (c Carrier) connectionTime() time.Duration {
	t := c.Transaction
	if c.MessagesPerConnection > 0 {
		t += c.Setup / time.Duration(c.MessagesPerConnection)
	}
	return t
}

// limits are those of one source, as messages a second.
func (c Carrier) limits(hours float64) (ls []Limit) {
	if c.PerSecond > 0 {
		ls = append(ls, Limit{byRate, c.PerSecond, fmt.Sprintf("%.4g/s", c.PerSecond)})
	}
	if t := c.connectionTime(); c.Connections > 0 && t > 0 {
		ls = append(ls, Limit{byConnections, float64(c.Connections) / t.Seconds(), fmt.Sprintf("%d connections ÷ %v a message", c.Connections, t.Round(time.Millisecond/10))})
	}
	if c.ConnectionsPerSecond > 0 && c.MessagesPerConnection > 0 {
		ls = append(ls, Limit{byOpening, c.ConnectionsPerSecond * float64(c.MessagesPerConnection),
			fmt.Sprintf("%.4g new connections/s × %d messages on each", c.ConnectionsPerSecond, c.MessagesPerConnection)})
	}
	if c.PerDay > 0 {
		ls = append(ls, Limit{byDay, float64(c.PerDay) / (hours * 3600), fmt.Sprintf("%d a day ÷ %.4g hours", c.PerDay, hours)})
	}
	return ls
}

// ceilings are limits over all sources.
func (c Carrier) ceilings(hours float64) (ls []Limit) {
	if c.TotalPerSecond > 0 {
		ls = append(ls, Limit{"rate over all sources", c.TotalPerSecond, fmt.Sprintf("%.4g/s", c.TotalPerSecond)})
	}
	if t := c.connectionTime(); c.TotalConnections > 0 && t > 0 {
		ls = append(ls, Limit{"connections over all sources × transaction time", float64(c.TotalConnections) / t.Seconds(),
			fmt.Sprintf("%d connections ÷ %v a message", c.TotalConnections, t.Round(time.Millisecond/10))})
	}
	if c.TotalPerDay > 0 {
		ls = append(ls, Limit{"daily cap over all sources", float64(c.TotalPerDay) / (hours * 3600), fmt.Sprintf("%d a day ÷ %.4g hours", c.TotalPerDay, hours)})
	}
	return ls
}

// sources fills in what each carrier asks for.
func (p *Plan) sources(in *Input) error {
	for _, s := range in.Mix {
		c, _ := in.carrier(s.Carrier) // check has looked
		need := SourceNeed{Carrier: s.Carrier, Share: s.Share, PerSecond: p.PerSecond * s.Share, Limits: c.limits(in.Hours), From: c.From, Sources: 1, Binds: "none", Each: 0}
		for _, l := range need.Limits {
			if need.Each == 0 || l.PerSecond < need.Each {
				need.Each, need.Binds = l.PerSecond, l.Name
			}
		}
		if need.Each > 0 {
			n, err := needed(need.PerSecond, need.Each*(1-in.HeadRoom))
			if err != nil {
				return fmt.Errorf("%s: %w", s.Carrier, err)
			}
			need.Sources = n
		}
		for _, l := range c.ceilings(in.Hours) {
			if need.PerSecond > l.PerSecond {
				p.Impossible = append(p.Impossible, fmt.Sprintf("%s: %.4g messages/s are wanted, its %s allows %.4g (%s), whatever the number of addresses",
					s.Carrier, need.PerSecond, l.Name, l.PerSecond, l.Why))
			}
		}
		if need.Sources > p.Sources {
			p.Sources, p.SourcesBind = need.Sources, need.Carrier+": "+need.Binds
		}
		p.Carriers = append(p.Carriers, need)
	}
	return nil
}

// first finds what binds first for one node with one address: the target at
// which the first resource or limit is full.
func (p *Plan) first(in *Input) {
	lowest, name := math.Inf(1), "nothing that is known"
	at := func(target float64, what string) {
		if target < lowest {
			lowest, name = target, what
		}
	}
	for _, r := range p.PerNode {
		if r.Name != bySources {
			at(r.PerSecond, r.Name)
		}
	}
	for _, c := range p.Carriers {
		if c.Each > 0 {
			at(c.Each*(1-in.HeadRoom)/c.Share, c.Carrier+": "+c.Binds)
		}
		full, _ := in.carrier(c.Carrier)
		for _, l := range full.ceilings(in.Hours) {
			at(l.PerSecond/c.Share, c.Carrier+": "+l.Name)
		}
	}
	p.First = name
	if !math.IsInf(lowest, 1) {
		p.First = fmt.Sprintf("%s, at %.4g messages/s of the whole mix (%.3g an hour)", name, lowest, lowest*3600)
	}
}

// assumptions are what the answer takes for granted, each with its value.
func (in *Input) assumptions() []string {
	a := []string{
		fmt.Sprintf("A message costs %v of CPU, writes %s to disk and moves %s over the network in each direction: %s.",
			in.Cost.CPU.Round(time.Microsecond), bytesText(in.Cost.DiskBytes), bytesText(in.Cost.NetworkBytes), in.Cost.From),
		"The cost of a message does not depend on the rate, the backlog or the number of connections, and CPU time on the nodes is worth what it was on the machine that was measured.",
		fmt.Sprintf("A node has %s.", in.Node.text()),
		fmt.Sprintf("%.0f %% of every resource of a node and of every limit of an address stays free; limits over all addresses are taken whole.", in.HeadRoom*100),
		fmt.Sprintf("%d of the nodes may be down while the target is met.", in.Spare),
		"Every message has one recipient, is accepted once, and is delivered at its first attempt. Retries come on top: a share r of deferred messages adds about r to the work and to what carriers count.",
		"Every address sends to all carriers at the same time and is warmed up; the number of addresses is that of the carrier that needs most. Addresses kept apart, by tenant or by stream, add up instead.",
		"The load is even over the day's hours and over the addresses.",
	}
	if in.Cost.MessagesPerSync == 0 || in.Node.Syncs == 0 {
		a = append(a, "How many messages share a sync, or how many syncs the disk makes, is not known: the disk's syncs are left out.")
	} else {
		a = append(a, fmt.Sprintf("%.3g messages share a sync. More clients at once share more; a single client that waits for each 250 shares none.", in.Cost.MessagesPerSync))
	}
	if in.Hours < 24 {
		a = append(a, fmt.Sprintf("The target is kept up for %.4g hours a day; daily caps are spread over these.", in.Hours))
	}
	for _, s := range in.Mix {
		c, _ := in.carrier(s.Carrier)
		a = append(a, fmt.Sprintf("%s: a transaction takes %v on an open connection, a connection %v to set up: %s.", c.Name, c.Transaction.Round(time.Millisecond/10), c.Setup.Round(time.Millisecond/10), c.From))
	}
	return a
}

func (n Node) text() string {
	t := fmt.Sprintf("%.4g cores", n.Cores)
	if n.DiskBytes > 0 {
		t += fmt.Sprintf(", a disk that writes %s a second", bytesText(n.DiskBytes))
	}
	if n.Syncs > 0 {
		t += fmt.Sprintf(" and syncs %.0f times a second", n.Syncs)
	}
	if n.NetworkBits > 0 {
		t += fmt.Sprintf(", a network of %.3g Gbit/s", n.NetworkBits/1e9)
	}
	if n.SourcesPerNode > 0 {
		t += fmt.Sprintf(", room for %d addresses", n.SourcesPerNode)
	}
	return t
}
