package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/ledger"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// outcome is what a trial came to.
type outcome struct {
	name      string
	flows     []flowOutcome
	took      time.Duration // from the first message to the last receipt
	received  int64         // recipients
	rate      float64       // received per second of took
	bytes     uint64        // of content, as received
	processes []measure.Process
	series    []measure.Series
	counters  map[string]float64
	marks     []report.Mark
	carriers  []report.Carrier
	states    []carriers.State // of the same
	standing  []float64        // of the sources at each, 0 to 100
	broken    []report.Violation
	brokenN   int
	faults    []error // found beside the ledgers
}

// flowOutcome is what a flow came to.
type flowOutcome struct {
	name     string
	balance  ledger.Balance
	accepted float64 // recipients per second while it was being accepted
	received float64 // recipients per second from its first message to its last receipt
	sending  time.Duration
	drained  time.Duration // from its first message to its last receipt
	service  *measure.Histogram
	fromDue  *measure.Histogram // acceptance, from the intended time
	delivery *measure.Histogram
	sentIn   int64 // recipients received when the last answer came
	late     bool  // arrivals had to be dropped: the source could not keep its rate
}

// outcome takes the figures when everything has arrived, before the nodes end.
func (t *trial) outcome() *outcome {
	o := &outcome{name: t.plan.name, received: t.receivedAll(), bytes: t.content.Load()}
	first, last := time.Duration(1<<62), time.Duration(0)
	for _, f := range t.flows {
		if f.result == nil {
			continue
		}
		first, last = min(first, f.began()), max(last, time.Duration(f.lastIn.Load()))
	}
	if o.took = last - first; o.took > 0 {
		o.rate = float64(o.received) / o.took.Seconds()
	}
	return o
}

// finish adds what is known only when the nodes have ended and were audited.
func (o *outcome) finish(t *trial) {
	for _, f := range t.flows {
		o.flows = append(o.flows, f.outcome())
	}
	o.processes, o.counters = t.watch.Processes(), t.counters
	for i := range o.processes {
		if p := &o.processes[i]; p.Name == measure.Self { // it has run other trials before
			p.Usage = p.Since(t.before)
		}
	}
	// All trials lie on one axis: that of the run.
	offset := t.start.Sub(t.run.rep.Started).Seconds()
	for _, s := range t.watch.Series() {
		o.series = append(o.series, shifted(s, offset))
	}
	for _, m := range t.marks {
		o.marks = append(o.marks, report.Mark{At: m.At + offset, Text: m.Text})
	}
	if farm, ok := t.inbox.(*farmInbox); ok {
		farm.outcome(t, o)
	}
	if !t.killed { // a killed node takes its counters with it
		o.faults = append(o.faults, t.compareCounters()...)
	}
}

// shifted is a series that begins later.
func shifted(s measure.Series, by float64) measure.Series {
	for i := range s.At {
		s.At[i] += by
	}
	return s
}

func (f *flow) outcome() flowOutcome {
	o := flowOutcome{name: f.name, sentIn: f.sentIn, balance: f.ledger.Balance(), sending: f.ended - f.began(), drained: time.Duration(f.lastIn.Load()) - f.began()}
	if f.result == nil {
		return o
	}
	if o.sending > 0 {
		o.accepted = float64(f.result.Accepted) / o.sending.Seconds()
	}
	if o.drained > 0 {
		o.received = float64(f.received.Load()) / o.drained.Seconds()
	}
	o.service, o.fromDue, o.late = f.result.Service, f.result.Intended, f.result.Shed > 0
	o.delivery = f.delivery.Total()
	if f.load.Rate <= 0 { // exact at the end, even where the receipt was read before the promise
		o.delivery = &measure.Histogram{}
		f.ledger.Latencies(func(_ int, d time.Duration) bool {
			o.delivery.Add(d, 1)
			return true
		})
	}
	return o
}

// err says what does not add up.
func (o *outcome) err(p plan) error {
	var errs []error
	duplicates, queued := 0, 0
	for _, f := range o.flows {
		duplicates += f.balance.Duplicates.Count
		queued += f.balance.Queued
		if err := f.balance.Err(p.duplicates); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if duplicates > p.duplicates {
		errs = append(errs, fmt.Errorf("%d duplicates in all, %d allowed", duplicates, p.duplicates))
	}
	if !p.partial && queued > 0 {
		errs = append(errs, fmt.Errorf("%d recipients were still queued at the end", queued))
	}
	errs = append(errs, o.faults...)
	return errors.Join(errs...)
}

// flow returns a flow's outcome by name.
func (o *outcome) flow(name string) *flowOutcome {
	for i := range o.flows {
		if o.flows[i].name == name {
			return &o.flows[i]
		}
	}
	panic("BUG: no flow " + name)
}

// node is the CPU time of all nodes for each received recipient.
func (o *outcome) nodeCPU() time.Duration {
	if o.received == 0 {
		return 0
	}
	sum := time.Duration(0)
	for _, p := range o.processes {
		if p.Name != "bench" {
			sum += p.User + p.System
		}
	}
	return sum / time.Duration(o.received)
}

// node is one node's process.
func (o *outcome) node() measure.Process {
	for _, p := range o.processes {
		if p.Name == nodeName(0) {
			return p
		}
	}
	return measure.Process{}
}

// counted are the product's counters that are compared with the ledger: what was
// accepted, then the ends.
var counted = []string{"hikyaku_ingest_recipients_total", "hikyaku_delivered_total", "hikyaku_bounced_total", "hikyaku_expired_total", "hikyaku_cancelled_total"}

// keepCounters adds a node's counters up before its life ends.
func (t *trial) keepCounters(ctx context.Context, i int) {
	m, err := t.scrape(ctx, i)
	if err != nil {
		t.killed = true // unknown is as good as lost
		return
	}
	for _, name := range counted {
		v, _ := m.Value(name) // a counter that never counted is not there
		t.counters[name] += v
	}
}

// compareCounters holds the product's counters against the ledgers. They are
// read shortly before a node ends; where it still works then, it counts a little
// more that nobody reads, so they can only be held to say no more than is true.
func (t *trial) compareCounters() (faults []error) {
	want := map[string]int{}
	for _, f := range t.flows {
		b := f.ledger.Balance()
		want["hikyaku_ingest_recipients_total"] += b.LogAccepted
		want["hikyaku_delivered_total"] += b.Delivered - b.Unsettled.Count
		want["hikyaku_bounced_total"] += b.Bounced
		want["hikyaku_expired_total"] += b.Expired
		want["hikyaku_cancelled_total"] += b.Cancelled
	}
	for _, name := range counted {
		got, exact := t.counters[name], !t.plan.partial && !t.restarted
		if got > float64(want[name]) || exact && got < float64(want[name]) {
			faults = append(faults, fmt.Errorf("the counter %s says %.0f, the ledger %d", name, got, want[name]))
		}
	}
	return faults
}

// gauges are what is read from the trial and its first node at each look.
func (t *trial) gauges() []measure.Gauge {
	rate := func(name string, read func() int64) measure.Gauge {
		return measure.Gauge{Name: name, Unit: "msg/s", Group: measure.GroupRate, Counter: true, Read: func() (float64, bool) { return float64(read()), true }}
	}
	node := &nodeGauges{trial: t}
	return []measure.Gauge{
		rate("accepted", t.acceptedAll), rate("delivered", t.receivedAll),
		{Name: "queued", Unit: "", Group: measure.GroupQueue, Read: node.read("hikyaku_queued")},
		{Name: "goroutines", Unit: "", Group: measure.GroupFiles, Read: node.read("go_goroutines")},
		{Name: "Go heap", Unit: "bytes", Group: measure.GroupMemory, Read: node.read("go_memstats_heap_alloc_bytes")},
		{Name: "spool on disk", Unit: "bytes", Group: measure.GroupDisk, Read: node.read("hikyaku_spool_disk_bytes")},
		{Name: "event log on disk", Unit: "bytes", Group: measure.GroupDisk, Read: node.read("hikyaku_events_disk_bytes")},
	}
}

// nodeGauges scrapes the nodes once a second for all gauges.
type nodeGauges struct {
	trial *trial
	at    time.Time
	pages []measure.Metrics
}

func (g *nodeGauges) read(name string) func() (float64, bool) {
	return func() (float64, bool) {
		if now := time.Now(); now.Sub(g.at) >= time.Second {
			g.at, g.pages = now, g.pages[:0]
			for i, h := range g.trial.nodes {
				if !h.Running() {
					continue
				}
				if m, err := g.trial.scrape(context.Background(), i); err == nil {
					g.pages = append(g.pages, m)
				}
			}
		}
		sum, any := 0.0, false
		for _, m := range g.pages {
			if v, ok := m.Value(name); ok {
				sum, any = sum+v, true
			}
		}
		return sum, any
	}
}

// latencies are the percentiles that are drawn over time.
func (t *trial) latencies() (ls []measure.Latency) {
	for _, f := range t.flows {
		ls = append(ls, measure.Latency{Name: "delivery: " + f.name, Recorder: f.delivery})
	}
	return ls
}

func (t *trial) acceptedAll() (n int64) {
	for _, f := range t.flows {
		if s := f.source.Load(); s != nil {
			n += s.Progress().Accepted
		}
	}
	return n
}
