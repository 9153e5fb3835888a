package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// topState is what the view of "top" is drawn from.
type topState struct {
	now     *api.Overview
	each    []policyapi.NodeSummary // of a cluster: a line for each node
	lacks   policyapi.Coverage
	alarms  []string // of the cluster as a whole
	err     error
	in, out []float64 // rates of the looks so far, the newest last
	width   int
}

// model is the live view.
type model struct {
	c     *cli.Call
	look  func(context.Context) (*topLook, error)
	state topState
}

// Look is of screen.View.
func (m *model) Look(ctx context.Context) (take func()) {
	o, err := m.look(ctx)
	return func() { m.state.add(o, err) }
}

// Draw is of screen.View.
func (m *model) Draw(width, _ int, paused bool) string {
	m.state.width = width
	return topView(m.c, &m.state, paused)
}

const topHistory = 240

// add takes one look into the history. A failed look keeps the last one.
func (s *topState) add(o *topLook, err error) {
	s.err = err
	if err != nil {
		return
	}
	s.now, s.each, s.lacks, s.alarms = o.Overview, o.each, o.lacks, o.alarms
	s.in = push(s.in, o.Rates.Accepted)
	s.out = push(s.out, o.Rates.Delivered)
}

func push(h []float64, v float64) []float64 {
	if len(h) >= topHistory {
		h = append(h[:0], h[1:]...)
	}
	return append(h, v)
}

// sparkline draws the last width values, the largest of them full height.
func sparkline(h []float64, width int) string {
	const bars = "▁▂▃▄▅▆▇█"
	h = h[max(0, len(h)-width):]
	top := 0.0
	for _, v := range h {
		top = max(top, v)
	}
	steps := []rune(bars)
	out := make([]rune, 0, len(h))
	for _, v := range h {
		i := 0
		if top > 0 {
			i = min(int(v/top*float64(len(steps))), len(steps)-1)
		}
		out = append(out, steps[i])
	}
	return string(out)
}

// spark is a sparkline after a blank, nothing without history.
func spark(h []float64, width int) string {
	if len(h) == 0 {
		return ""
	}
	return " " + sparkline(h, width)
}

// topView draws the state.
func topView(c *cli.Call, s *topState, paused bool) string {
	var b strings.Builder
	if s.err != nil {
		fmt.Fprintf(&b, "%s\n", c.Paint("cannot ask the node: "+human.Clean(s.err.Error()), cli.Red))
	}
	if s.now == nil {
		if s.err == nil {
			b.WriteString("asking the node …\n")
		}
		return b.String()
	}
	topHead(c, &b, s, paused)
	topRates(c, &b, s)
	topNodes(c, &b, s)
	topQueues(c, &b, s.now)
	topLatency(c, &b, s.now)
	topErrors(c, &b, s.now)
	return b.String()
}

func topHead(c *cli.Call, b *strings.Builder, s *topState, paused bool) {
	o := s.now
	state := c.Paint("ready", cli.Green)
	if len(o.NotReady) > 0 {
		state = c.Paint("not ready: "+human.Clean(strings.Join(o.NotReady, "; ")), cli.Red)
	}
	if paused {
		state += c.Paint("  paused", cli.Yellow)
	}
	if s.each != nil {
		if !s.lacks.Complete {
			state = strings.Replace(state, c.Paint("ready", cli.Green), c.Paint("not all nodes answer", cli.Red), 1)
		}
		fmt.Fprintf(b, "%s  %s\n", c.Paint("hikyaku "+human.Clean(o.Node), cli.Bold), state)
		topGates(c, b, o)
		topAlarms(c, b, "", s.alarms)
		for i := range s.each {
			topAlarms(c, b, s.each[i].Node+": ", s.each[i].Alarms)
		}
		return
	}
	fmt.Fprintf(b, "%s  %s  up %s  %s  memory %s (heap %s)  %d goroutines\n", c.Paint("hikyaku "+human.Clean(o.Node), cli.Bold), human.Clean(o.Version),
		human.Span(o.Time.Sub(o.Started)), state, human.Size(o.Memory.Resident), human.Size(o.Memory.Heap), o.Memory.Goroutines)
	topGates(c, b, o)
	topAlarms(c, b, "", o.Alarms)
	if o.EventsBack > 10_000 {
		fmt.Fprintf(b, "%s\n", c.Paint(fmt.Sprintf("the event log is %d transitions behind", o.EventsBack), cli.Yellow))
	}
}

// topNodes is a line for each node of a cluster, and for each that is missing.
func topNodes(c *cli.Call, b *strings.Builder, s *topState) {
	if s.each == nil {
		return
	}
	var rows [][]string
	for i := range s.each {
		n := &s.each[i]
		state := c.Paint("ready", cli.Green)
		if len(n.NotReady) > 0 {
			state = c.Paint(human.Clean(strings.Join(n.NotReady, "; ")), cli.Red)
		}
		rows = append(rows, []string{n.Node, n.Version, human.Span(s.now.Time.Sub(n.Started)), human.PerSecond(n.Rates.Accepted), human.PerSecond(n.Rates.Delivered), human.PerSecond(n.Rates.Deferred),
			human.Number(n.Queue.Queued), human.Number(n.Queue.Ready), human.Number(n.Queue.InFlight), human.Number(n.Conns.Out), state})
	}
	for _, m := range s.lacks.Missing {
		rows = append(rows, []string{m.Node, "", "", "", "", "", "", "", "", "", c.Paint(human.Clean(m.Reason), cli.Red)})
	}
	_ = c.Table(b, []string{"NODE", "VERSION", ">UP", ">IN", ">OUT", ">DEFERRED", ">QUEUED", ">READY", ">SENDING", ">CONNS", "STATE"}, rows)
	b.WriteByte('\n')
}

func topGates(c *cli.Call, b *strings.Builder, o *api.Overview) {
	for _, g := range o.Gates {
		if g.Closed {
			fmt.Fprintf(b, "%s\n", c.Paint(human.Clean("gate "+g.Name+" is closed, new mail is refused: "+g.Reason), cli.Red))
		}
	}
}

// mostAlarms bounds what one node, or the leader, may take of the screen.
const mostAlarms = 3

func topAlarms(c *cli.Call, b *strings.Builder, node string, alarms []string) {
	for _, a := range alarms[:min(len(alarms), mostAlarms)] {
		fmt.Fprintf(b, "%s\n", c.Paint(human.Clean(node+a), cli.Yellow))
	}
	if more := len(alarms) - mostAlarms; more > 0 {
		fmt.Fprintf(b, "%s\n", c.Paint(human.Clean(fmt.Sprintf("%sand %d more", node, more)), cli.Yellow))
	}
}

func topRates(c *cli.Call, b *strings.Builder, s *topState) {
	o, line := s.now, max(10, s.width-60)
	fmt.Fprintf(b, "in   %8s  %3d connections%s\n", human.PerSecond(o.Rates.Accepted), o.Connections.In, c.Paint(spark(s.in, line), cli.Cyan))
	fmt.Fprintf(b, "out  %8s  %3d connections%s\n", human.PerSecond(o.Rates.Delivered), o.Connections.Out, c.Paint(spark(s.out, line), cli.Green))
	fmt.Fprintf(b, "     deferred %s  bounced %s  attempts %s  idle connections %d\n",
		human.PerSecond(o.Rates.Deferred), human.PerSecond(o.Rates.Bounced), human.PerSecond(o.Rates.Attempts), o.Connections.OutIdle)
	q := &o.Queue
	fmt.Fprintf(b, "queue %d  ready %d  sending %d  held %d  destinations %d", q.Queued, q.Ready, q.InFlight, q.Held, q.Destinations)
	silent := "  silent " + human.Span(q.Silent)
	if q.Silent > time.Minute {
		silent = c.Paint(silent, cli.Red)
	}
	b.WriteString(silent)
	if !q.Counted {
		b.WriteString(c.Paint("  (still counting)", cli.Yellow))
	}
	b.WriteString("\n\n")
}

func topQueues(c *cli.Call, b *strings.Builder, o *api.Overview) {
	var rows [][]string
	for i := range o.Top {
		q := &o.Top[i]
		last := ""
		if q.Last != nil {
			last = human.ReplyText(&q.Last.Reply)
		}
		age := ""
		if q.Oldest != nil {
			age = human.Span(o.Time.Sub(*q.Oldest))
		}
		rows = append(rows, []string{q.Destination, q.Carrier, human.Number(q.Queued), human.Number(q.InFlight), age, c.Paint(q.Binding, cli.Yellow), last})
	}
	// The builder never fails, so neither does the table.
	_ = c.Table(b, []string{"DESTINATION", "CARRIER", ">QUEUED", ">SENDING", ">OLDEST", "WAITS FOR", "LAST REPLY"}, rows)
	if len(o.Lanes) == 0 {
		return
	}
	b.WriteByte('\n')
	rows = rows[:0]
	for _, l := range o.Lanes[:min(len(o.Lanes), 8)] {
		rows = append(rows, []string{l.Source, l.Site, l.Carrier, human.Number(int64(l.Connections)), human.Number(int64(l.Idle)), l.Last})
	}
	_ = c.Table(b, []string{"SOURCE", "SITE", "CARRIER", ">CONNS", ">IDLE", "LAST BAD REPLY"}, rows)
}

func topLatency(c *cli.Call, b *strings.Builder, o *api.Overview) {
	if len(o.Latency) == 0 {
		return
	}
	b.WriteByte('\n')
	var rows [][]string
	for _, l := range o.Latency {
		rows = append(rows, []string{l.Name, human.Span(l.P50), human.Span(l.P90), human.Span(l.P99), human.Span(l.Max)})
	}
	_ = c.Table(b, []string{"LATENCY", ">P50", ">P90", ">P99", ">MAX"}, rows)
}

func topErrors(c *cli.Call, b *strings.Builder, o *api.Overview) {
	if len(o.Errors) == 0 {
		return
	}
	b.WriteByte('\n')
	var rows [][]string
	for _, e := range o.Errors[:min(len(o.Errors), 10)] {
		rows = append(rows, []string{human.Number(e.Count), e.Carrier, e.Phase, c.Paint(human.Clean(e.Reply), cli.Red)})
	}
	_ = c.Table(b, []string{">COUNT", "CARRIER", "PHASE", "BAD REPLY"}, rows)
}
