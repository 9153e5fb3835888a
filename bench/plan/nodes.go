package plan

import (
	"fmt"
	"time"
)

// The resources of a node.
const (
	byCPU     = "CPU"
	byDisk    = "disk bandwidth"
	bySync    = "disk sync"
	byNetwork = "network"
	bySources = "addresses a node"
)

// nodes fills in what one node can carry and how many are needed.
func (p *Plan) nodes(in *Input) error {
	use := 1 - in.HeadRoom
	c, n := in.Cost, in.Node
	add := func(name string, perSecond float64, why string) error {
		count, err := needed(p.PerSecond, perSecond)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		p.PerNode = append(p.PerNode, Resource{name, perSecond, count, why})
		return nil
	}
	if err := add(byCPU, n.Cores*use/c.CPU.Seconds(),
		fmt.Sprintf("%.4g cores × %.0f %% ÷ %v a message", n.Cores, use*100, c.CPU.Round(time.Microsecond))); err != nil {
		return err
	}
	if n.Syncs > 0 && c.MessagesPerSync > 0 {
		if err := add(bySync, n.Syncs*use*c.MessagesPerSync,
			fmt.Sprintf("%.0f syncs a second × %.0f %% × %.3g messages sharing each", n.Syncs, use*100, c.MessagesPerSync)); err != nil {
			return err
		}
	}
	if n.DiskBytes > 0 && c.DiskBytes > 0 {
		if err := add(byDisk, n.DiskBytes*use/c.DiskBytes,
			fmt.Sprintf("%s a second × %.0f %% ÷ %s written a message", bytesText(n.DiskBytes), use*100, bytesText(c.DiskBytes))); err != nil {
			return err
		}
	}
	if n.NetworkBits > 0 && c.NetworkBytes > 0 {
		if err := add(byNetwork, n.NetworkBits/8*use/c.NetworkBytes,
			fmt.Sprintf("%s a second × %.0f %% ÷ %s a message, in each direction", bytesText(n.NetworkBits/8), use*100, bytesText(c.NetworkBytes))); err != nil {
			return err
		}
	}
	if n.SourcesPerNode > 0 && p.Sources > 0 {
		count, err := needed(float64(p.Sources), float64(n.SourcesPerNode))
		if err != nil {
			return err
		}
		p.PerNode = append(p.PerNode, Resource{bySources, p.PerSecond / float64(p.Sources) * float64(n.SourcesPerNode), count,
			fmt.Sprintf("%d addresses ÷ %d a node", p.Sources, n.SourcesPerNode)})
	}
	for _, r := range p.PerNode {
		if r.Nodes > p.Nodes {
			p.Nodes = r.Nodes
		}
	}
	lowest := p.PerNode[0]
	for _, r := range p.PerNode[1:] {
		if r.PerSecond < lowest.PerSecond {
			lowest = r
		}
	}
	p.NodesBind = lowest.Name
	p.Spare = in.Spare
	p.Nodes += in.Spare
	return nil
}

// bytesText is an amount for people, in powers of ten as disks and networks
// are sold.
func bytesText(b float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if b >= u.size {
			return fmt.Sprintf("%.3g %s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.3g B", b)
}
