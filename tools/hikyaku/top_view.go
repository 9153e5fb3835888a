package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/human"
)

// topState is what the view of "top" is drawn from.
type topState struct {
	now           *api.Overview
	each          []policyapi.NodeSummary // of a cluster: a line for each node
	lacks         policyapi.Coverage
	err           error
	in, out       []float64 // rates of the looks so far, the newest last
	width, height int       // height 0 is no bound
	paused        bool
}

const topHistory = 240

// add takes one look into the history. A failed look keeps the last one.
func (s *topState) add(o *topLook, err error) {
	s.err = err
	if err != nil {
		return
	}
	s.now, s.each, s.lacks = o.Overview, o.each, o.lacks
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
func (c *cli) topView(s *topState) string {
	var b strings.Builder
	if s.err != nil {
		fmt.Fprintf(&b, "%s\n", c.paint("cannot ask the node: "+human.Clean(s.err.Error()), red))
	}
	if s.now == nil {
		if s.err == nil {
			b.WriteString("asking the node …\n")
		}
		return b.String()
	}
	c.topHead(&b, s)
	c.topRates(&b, s)
	c.topNodes(&b, s)
	c.topQueues(&b, s.now)
	c.topLatency(&b, s.now)
	c.topErrors(&b, s.now)
	return fit(b.String(), s.width, s.height)
}

// fit cuts the text to the terminal, so that lines do not wrap and the head
// stays on the screen.
func fit(text string, width, height int) string {
	if height == 0 {
		return text
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(1, height-1))]
	style := lipgloss.NewStyle().MaxWidth(max(20, width))
	for i, l := range lines {
		lines[i] = style.Render(l)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (c *cli) topHead(b *strings.Builder, s *topState) {
	o := s.now
	state := c.paint("ready", green)
	if len(o.NotReady) > 0 {
		state = c.paint("not ready: "+human.Clean(strings.Join(o.NotReady, "; ")), red)
	}
	if s.paused {
		state += c.paint("  paused", yellow)
	}
	if s.each != nil {
		if !s.lacks.Complete {
			state = strings.Replace(state, c.paint("ready", green), c.paint("not all nodes answer", red), 1)
		}
		fmt.Fprintf(b, "%s  %s\n", c.paint("hikyaku "+human.Clean(o.Node), bold), state)
		c.topGates(b, o)
		for i := range s.each {
			c.topAlarms(b, s.each[i].Node+": ", s.each[i].Alarms)
		}
		return
	}
	fmt.Fprintf(b, "%s  %s  up %s  %s  memory %s (heap %s)  %d goroutines\n", c.paint("hikyaku "+human.Clean(o.Node), bold), human.Clean(o.Version),
		human.Span(o.Time.Sub(o.Started)), state, human.Size(o.Memory.Resident), human.Size(o.Memory.Heap), o.Memory.Goroutines)
	c.topGates(b, o)
	c.topAlarms(b, "", o.Alarms)
	if o.EventsBack > 10_000 {
		fmt.Fprintf(b, "%s\n", c.paint(fmt.Sprintf("the event log is %d transitions behind", o.EventsBack), yellow))
	}
}

// topNodes is a line for each node of a cluster, and for each that is missing.
func (c *cli) topNodes(b *strings.Builder, s *topState) {
	if s.each == nil {
		return
	}
	var rows [][]string
	for i := range s.each {
		n := &s.each[i]
		state := c.paint("ready", green)
		if len(n.NotReady) > 0 {
			state = c.paint(human.Clean(strings.Join(n.NotReady, "; ")), red)
		}
		rows = append(rows, []string{n.Node, n.Version, human.Span(s.now.Time.Sub(n.Started)), human.PerSecond(n.Rates.Accepted), human.PerSecond(n.Rates.Delivered), human.PerSecond(n.Rates.Deferred),
			human.Number(n.Queue.Queued), human.Number(n.Queue.Ready), human.Number(n.Queue.InFlight), human.Number(n.Conns.Out), state})
	}
	for _, m := range s.lacks.Missing {
		rows = append(rows, []string{m.Node, "", "", "", "", "", "", "", "", "", c.paint(human.Clean(m.Reason), red)})
	}
	_ = c.table(b, []string{"NODE", "VERSION", ">UP", ">IN", ">OUT", ">DEFERRED", ">QUEUED", ">READY", ">SENDING", ">CONNS", "STATE"}, rows)
	b.WriteByte('\n')
}

func (c *cli) topGates(b *strings.Builder, o *api.Overview) {
	for _, g := range o.Gates {
		if g.Closed {
			fmt.Fprintf(b, "%s\n", c.paint(human.Clean("gate "+g.Name+" is closed, new mail is refused: "+g.Reason), red))
		}
	}
}

// mostAlarms bounds what one node may take of the screen.
const mostAlarms = 3

func (c *cli) topAlarms(b *strings.Builder, node string, alarms []string) {
	for _, a := range alarms[:min(len(alarms), mostAlarms)] {
		fmt.Fprintf(b, "%s\n", c.paint(human.Clean(node+a), yellow))
	}
	if more := len(alarms) - mostAlarms; more > 0 {
		fmt.Fprintf(b, "%s\n", c.paint(human.Clean(fmt.Sprintf("%sand %d more", node, more)), yellow))
	}
}

func (c *cli) topRates(b *strings.Builder, s *topState) {
	o, line := s.now, max(10, s.width-60)
	fmt.Fprintf(b, "in   %8s  %3d connections%s\n", human.PerSecond(o.Rates.Accepted), o.Connections.In, c.paint(spark(s.in, line), cyan))
	fmt.Fprintf(b, "out  %8s  %3d connections%s\n", human.PerSecond(o.Rates.Delivered), o.Connections.Out, c.paint(spark(s.out, line), green))
	fmt.Fprintf(b, "     deferred %s  bounced %s  attempts %s  idle connections %d\n",
		human.PerSecond(o.Rates.Deferred), human.PerSecond(o.Rates.Bounced), human.PerSecond(o.Rates.Attempts), o.Connections.OutIdle)
	q := &o.Queue
	fmt.Fprintf(b, "queue %d  ready %d  sending %d  held %d  destinations %d", q.Queued, q.Ready, q.InFlight, q.Held, q.Destinations)
	silent := "  silent " + human.Span(q.Silent)
	if q.Silent > time.Minute {
		silent = c.paint(silent, red)
	}
	b.WriteString(silent)
	if !q.Counted {
		b.WriteString(c.paint("  (still counting)", yellow))
	}
	b.WriteString("\n\n")
}

func (c *cli) topQueues(b *strings.Builder, o *api.Overview) {
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
		rows = append(rows, []string{q.Destination, q.Carrier, human.Number(q.Queued), human.Number(q.InFlight), age, c.paint(q.Binding, yellow), last})
	}
	// The builder never fails, so neither does the table.
	_ = c.table(b, []string{"DESTINATION", "CARRIER", ">QUEUED", ">SENDING", ">OLDEST", "WAITS FOR", "LAST REPLY"}, rows)
	if len(o.Lanes) == 0 {
		return
	}
	b.WriteByte('\n')
	rows = rows[:0]
	for _, l := range o.Lanes[:min(len(o.Lanes), 8)] {
		rows = append(rows, []string{l.Source, l.Site, l.Carrier, human.Number(int64(l.Connections)), human.Number(int64(l.Idle)), l.Last})
	}
	_ = c.table(b, []string{"SOURCE", "SITE", "CARRIER", ">CONNS", ">IDLE", "LAST BAD REPLY"}, rows)
}

func (c *cli) topLatency(b *strings.Builder, o *api.Overview) {
	if len(o.Latency) == 0 {
		return
	}
	b.WriteByte('\n')
	var rows [][]string
	for _, l := range o.Latency {
		rows = append(rows, []string{l.Name, human.Span(l.P50), human.Span(l.P90), human.Span(l.P99), human.Span(l.Max)})
	}
	_ = c.table(b, []string{"LATENCY", ">P50", ">P90", ">P99", ">MAX"}, rows)
}

func (c *cli) topErrors(b *strings.Builder, o *api.Overview) {
	if len(o.Errors) == 0 {
		return
	}
	b.WriteByte('\n')
	var rows [][]string
	for _, e := range o.Errors[:min(len(o.Errors), 10)] {
		rows = append(rows, []string{human.Number(e.Count), e.Carrier, e.Phase, c.paint(human.Clean(e.Reply), red)})
	}
	_ = c.table(b, []string{">COUNT", "CARRIER", "PHASE", "BAD REPLY"}, rows)
}
