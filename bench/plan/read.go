package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"hikyaku/bench/measure"
	"hikyaku/bench/report"
	"hikyaku/bench/sidebyside"
)

// What goes over the network beside the content: commands and replies, the
// trace header and a signature, and the frames below.
const (
	networkFactor = 1.06 // TCP, IP and Ethernet around full segments
	networkExtra  = 1500 // bytes a message
)

// NetworkBytes estimates what a message of some size moves in one direction.
func NetworkBytes(size float64) float64 { return size*networkFactor + networkExtra }

// Take takes over the figures that o knows.
func (c *Cost) Take(o Cost) {
	before := *c
	if o.CPU > 0 {
		c.CPU = o.CPU
	}
	if o.DiskBytes > 0 {
		c.DiskBytes = o.DiskBytes
	}
	if o.NetworkBytes > 0 {
		c.NetworkBytes = o.NetworkBytes
	}
	if o.MessagesPerSync > 0 {
		c.MessagesPerSync = o.MessagesPerSync
	}
	switch {
	case *c == before: // nothing was known
	case before.From == "":
		c.From = o.From
	default:
		c.From = before.From + "; " + o.From
	}
}

// FromReport takes the cost of a message from a report of the load suite, and
// from its machine what a node has.
func FromReport(r *report.Report) (Cost, Node, error) {
	node := nodeOf(r.Machine, r.Disk)
	c := Cost{From: fmt.Sprintf("scenario %s of %s", r.Scenario, r.Started.Format("2006-01-02 15:04"))}
	var wrote, content float64
	for _, p := range firstTrial(r.Processes) {
		c.CPU += p.UserEach + p.SystemEach
		if p.IOKnown && p.WrotePerByte > 0 {
			wrote += float64(p.Wrote) / float64(p.Messages)
			content = float64(p.Wrote) / p.WrotePerByte / float64(p.Messages)
		}
	}
	if c.CPU <= 0 {
		return c, node, errors.New("the report has no process of a node with its CPU time by message")
	}
	c.DiskBytes = wrote
	if content > 0 {
		c.NetworkBytes = NetworkBytes(content)
	}
	return c, node, nil
}

// firstTrial are the nodes of the report's first trial: one with several names
// its processes "trial: node-1".
func firstTrial(all []report.Process) (nodes []report.Process) {
	first := ""
	for _, p := range all {
		trial, name := "", p.Name
		if i := strings.LastIndex(p.Name, ": "); i >= 0 {
			trial, name = p.Name[:i], p.Name[i+2:]
		}
		if !strings.HasPrefix(name, "node") || p.Messages <= 0 || len(nodes) > 0 && trial != first {
			continue
		}
		first = trial
		nodes = append(nodes, p)
	}
	return nodes
}

// FromPeers takes them from a comparison of "bench peers".
func FromPeers(r *sidebyside.Result) (Cost, Node, error) {
	node := nodeOf(r.Machine, r.Disk)
	row := r.Row("hikyaku")
	if row == nil || row.CPU.N == 0 {
		return Cost{}, node, errors.New("the comparison has no run of hikyaku")
	}
	size := float64(r.Work.Size)
	return Cost{
		CPU:             time.Duration(row.CPU.Median * float64(time.Microsecond)),
		DiskBytes:       row.DiskBytes.Median * size,
		NetworkBytes:    NetworkBytes(size),
		MessagesPerSync: row.MessagesPerSync.Median,
		From:            fmt.Sprintf("bench peers of %s, %d bytes a message, %d rounds", r.Started.Format("2006-01-02 15:04"), r.Work.Size, r.Rounds),
	}, node, nil
}

// nodeOf takes the measured machine for a node. Bandwidths were not measured.
func nodeOf(m measure.Machine, d measure.DiskSync) Node {
	n := Node{Cores: float64(m.Cores)}
	if m.Quota > 0 {
		n.Cores = min(n.Cores, m.Quota)
	}
	if d.P50 > 0 {
		n.Syncs = float64(time.Second) / float64(d.P50)
	}
	return n
}
