package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// CheckOptions are one check of our own source and sink.
type CheckOptions struct {
	Messages    int // of each run; default 20,000
	Size        int // bytes; default 4096
	Connections int // default 20
	Rounds      int // default 3
	Binary      string
	Dir         string
	Progress    func(Step)
}

// Check is its result.
type Check struct {
	Schema  int           `json:"schema"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took_ns"`
	Work    Work          `json:"work"`
	Rounds  int           `json:"rounds"`
	Rows    []CheckRow    `json:"rows"`
	Notes   []string      `json:"notes"`
}

// CheckRow is one combination of source and sink.
type CheckRow struct {
	Source    string `json:"source"`
	Through   string `json:"through"` // bare or hikyaku
	Sink      string `json:"sink"`
	Sent      int    `json:"sent"`     // in each round
	Received  int    `json:"received"` // in each round, counted by the sink
	PerSecond Spread `json:"per_second"`
	OfTools   Spread `json:"of_independent_tools"`        // ratio to smtp-source and smtp-sink in the same round
	CPU       Spread `json:"cpu_us_per_message,omitzero"` // of what is between
	Within    bool   `json:"within_noise"`                // the rates' ranges overlap
	CPUWithin bool   `json:"cpu_within_noise,omitempty"`

	runs []Round
}

// checkNotes explain what differs by design.
var checkNotes = []string{
	"Counts are exact: a run whose sink did not count what the source sent is an error, not a row.",
	"smtp-source does not pipeline: own-unpiped does what it does. own pipelines (RFC 2920), so it is faster wherever round trips or the source's own cost bind; that difference is by design.",
	"Bare, the rate is the tools' own speed: two tools agree there only if they cost the same. Through a mail server, source and sink take processor time from it, so a cheaper tool shows a higher rate on the same machine; what must agree is the server's own CPU time a message.",
	"smtp-sink counts aloud here, which costs it a write for each message.",
}

// CheckTools runs every source with every sink, bare and through Hikyaku, in
// turn, several rounds.
func CheckTools(ctx context.Context, o CheckOptions) (*Check, error) {
	if o.Messages == 0 {
		o.Messages = 20_000
	}
	base := Options{Messages: o.Messages, Size: o.Size, Connections: o.Connections, Rounds: o.Rounds, Binary: o.Binary, Dir: o.Dir, Exact: true, SkipProbe: true}
	if err := base.defaults(); err != nil {
		return nil, err
	}
	c := &Check{Schema: resultSchema, Started: time.Now().UTC().Truncate(time.Second), Rounds: base.Rounds, Notes: checkNotes,
		Work: Work{Messages: o.Messages, Size: base.Size, Connections: base.Connections}}
	for _, through := range []string{Bare, "hikyaku"} {
		for _, source := range Sources() {
			for _, sink := range Sinks() {
				c.Rows = append(c.Rows, CheckRow{Source: source, Through: through, Sink: sink, Sent: o.Messages})
			}
		}
	}
	for round := range base.Rounds {
		for i := range c.Rows {
			row := &c.Rows[(i+round)%len(c.Rows)]
			if err := row.run(ctx, base, round, o.Progress); err != nil {
				return nil, fmt.Errorf("%s → %s → %s: %w", row.Source, row.Through, row.Sink, err)
			}
		}
	}
	c.Took = time.Since(c.Started).Round(time.Second)
	return c, c.sumUp()
}

func (w *CheckRow) run(ctx context.Context, o Options, round int, progress func(Step)) error {
	o.Source, o.Sink = w.Source, w.Sink
	run := &contest{o: o}
	s := Step{Round: round + 1, Rounds: o.Rounds, Name: w.Source + " → " + w.Through + " → " + w.Sink, Messages: o.Messages}
	if progress != nil {
		progress(s)
	}
	r, err := run.one(ctx, &Row{Name: w.Through}, o.Messages, false)
	s.Done, s.PerSecond, s.Err = true, r.PerSecond, err
	if progress != nil {
		progress(s)
	}
	if err != nil {
		return err
	}
	r.Round = round
	w.Received = r.Received
	w.runs = append(w.runs, r)
	return nil
}

// sumUp compares each row with the independent tools' through the same.
func (c *Check) sumUp() error {
	for i := range c.Rows {
		w := &c.Rows[i]
		w.PerSecond = spreadOf(values(w.runs, func(r Round) float64 { return r.PerSecond }))
		if w.Through != Bare {
			w.CPU = spreadOf(values(w.runs, func(r Round) float64 { return float64(r.CPUPerMessage.Nanoseconds()) / 1000 }))
		}
	}
	for i := range c.Rows {
		w := &c.Rows[i]
		ref := c.reference(w.Through)
		if ref == nil {
			return errors.New("BUG: no row of the independent tools")
		}
		w.OfTools = ratios(&Row{Runs: w.runs}, &Row{Runs: ref.runs})
		w.Within = w.PerSecond.overlaps(ref.PerSecond)
		w.CPUWithin = w.CPU.overlaps(ref.CPU)
	}
	return nil
}

func (c *Check) reference(through string) *CheckRow {
	for i := range c.Rows {
		if w := &c.Rows[i]; w.Source == SMTPSource && w.Sink == SMTPSink && w.Through == through {
			return w
		}
	}
	return nil
}

// Table is the check as rows.
func (c *Check) Table() (header []string, rows [][]string) {
	header = []string{"source", "through", "sink", ">sent", ">received", ">msg/s", ">min–max", ">of the tools", ">CPU µs/msg", "rates within noise"}
	for _, w := range c.Rows {
		verdict := "yes"
		if !w.Within {
			verdict = fmt.Sprintf("no, %+.0f %%", (w.OfTools.Median-1)*100)
		}
		if w.CPU.N > 0 && !w.CPUWithin {
			ref := c.reference(w.Through)
			verdict += fmt.Sprintf("; CPU %+.0f %%", (w.CPU.Median/math.Max(ref.CPU.Median, 1e-9)-1)*100)
		}
		rows = append(rows, []string{w.Source, w.Through, w.Sink, thousands(float64(w.Sent)), thousands(float64(w.Received)), thousands(w.PerSecond.Median),
			thousands(w.PerSecond.Min) + "–" + thousands(w.PerSecond.Max), w.OfTools.ratio(), w.CPU.figure(0), verdict})
	}
	return header, rows
}
