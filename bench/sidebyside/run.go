package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/measure"
)

// Bare is the row without a mail server: source → sink.
const Bare = "bare"

// Options are one comparison.
type Options struct {
	Source      string        // default smtp-source
	Sink        string        // default smtp-sink
	Messages    int           // to each; 0 sends as many as take Target
	Target      time.Duration // how long each run takes, about; default 5 s
	Size        int           // bytes; default 4096
	Connections int           // default 20
	Rounds      int           // default 3
	Only        []string      // of bare and candidate.Names(); default all
	Binary      string        // Hikyaku's; default as candidate.Binary finds it
	Dir         string        // for the candidates' data; default the system's
	Policy      string        // further policy for Hikyaku, such as signing keys
	Signed      bool          // Hikyaku's messages must arrive with a signature; needs the own sink
	SkipProbe   bool          // do not look whether they sync
	Exact       bool          // count beyond the expected number at the sink: slower, for checks
	Progress    func(Step)    // told before and after each run; may be nil
}

// Step is a run that begins or has ended.
type Step struct {
	Round, Rounds int // round 0 is the short run before
	Name          string
	Messages      int
	Done          bool
	PerSecond     float64 // of a run that ended
	Err           error   // the candidate is left out from here on
}

// Bounds of options.
const (
	maxMessages    = 50_000_000
	maxSize        = 50 << 20
	maxConnections = 1000
	maxRounds      = 100
	maxTarget      = time.Hour
	// tryMessages is the length of the short run before. It is long enough for
	// a rate to a factor of two, which is all it is for.
	tryMessages = 400
	mostTry     = 2.0 // seconds: a first look that took this long is good enough
	// A run that takes longer than this many times what was planned is stuck.
	patience = 10
)

func (o *Options) defaults() error {
	fill := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&o.Size, 4096)
	fill(&o.Connections, 20)
	fill(&o.Rounds, 3)
	if o.Target == 0 {
		o.Target = 5 * time.Second
	}
	if o.Source == "" {
		o.Source = SMTPSource
	}
	if o.Sink == "" {
		o.Sink = SMTPSink
	}
	all := append([]string{Bare}, candidate.Names()...)
	if len(o.Only) == 0 {
		o.Only = all
	}
	var errs []error
	within := func(what string, v, least, most int) {
		if v < least || v > most {
			errs = append(errs, fmt.Errorf("%s %d: want %d to %d", what, v, least, most))
		}
	}
	within("messages", o.Messages, 0, maxMessages)
	within("size", o.Size, 64, maxSize)
	within("connections", o.Connections, 1, maxConnections)
	within("rounds", o.Rounds, 1, maxRounds)
	if o.Target < 100*time.Millisecond || o.Target > maxTarget {
		errs = append(errs, fmt.Errorf("time of a run %v: want 100ms to %v", o.Target, maxTarget))
	}
	if !slices.Contains(Sources(), o.Source) {
		errs = append(errs, fmt.Errorf("source %q: want one of %s", o.Source, strings.Join(Sources(), ", ")))
	}
	if !slices.Contains(Sinks(), o.Sink) {
		errs = append(errs, fmt.Errorf("sink %q: want one of %s", o.Sink, strings.Join(Sinks(), ", ")))
	}
	if o.Signed && o.Sink != Own {
		errs = append(errs, errors.New("only the own sink sees whether messages are signed"))
	}
	for _, name := range o.Only {
		if !slices.Contains(all, name) {
			errs = append(errs, fmt.Errorf("no candidate %q: want some of %s", name, strings.Join(all, ", ")))
		}
	}
	return errors.Join(errs...)
}

// contest is one comparison that runs.
type contest struct {
	o       Options
	entries []*Row
}

// Run compares. Candidates that are not installed, or fail, have a row that
// says so; the error is about the comparison itself.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	dir := o.Dir
	if dir == "" {
		dir = os.TempDir()
	}
	res := &Result{Schema: resultSchema, Started: time.Now().UTC().Truncate(time.Second), Source: o.Source, Sink: o.Sink,
		Work: Work{Messages: o.Messages, Size: o.Size, Connections: o.Connections}, RunTime: o.Target, Rounds: o.Rounds}
	var err error
	if res.Machine, err = measure.ReadMachine(dir); err != nil {
		return nil, err
	}
	if res.Busy, err = busyShare(ctx); err != nil {
		return nil, err
	}
	if res.Disk, err = measure.SyncLatency(dir, 200); err != nil {
		return nil, err
	}
	c := &contest{o: o}
	for _, name := range append([]string{Bare}, candidate.Names()...) {
		if slices.Contains(o.Only, name) {
			c.entries = append(c.entries, &Row{Name: name})
		}
	}
	for _, e := range c.entries {
		if err := c.try(ctx, e); err != nil {
			return nil, err
		}
	}
	for round := range o.Rounds {
		for i := range c.entries {
			e := c.entries[(i+round)%len(c.entries)]
			if err := c.round(ctx, round, e); err != nil {
				return nil, err
			}
		}
	}
	res.Took = time.Since(res.Started).Round(time.Second)
	for _, e := range c.entries {
		res.Rows = append(res.Rows, *e)
	}
	res.sumUp()
	return res, nil
}

// try is the short run before: is it installed, does it work, how fast is it
// about, does it sync?
func (c *contest) try(ctx context.Context, e *Row) error {
	n := tryMessages
	if e.Name == Bare {
		n *= 5
	}
	if c.o.Messages > 0 {
		n = min(n, c.o.Messages)
	}
	c.tell(Step{Name: e.Name, Messages: n})
	r, err := c.one(ctx, e, n, !c.o.SkipProbe && e.Name != Bare)
	// What a run costs before its first message (smtp-source takes the better
	// part of a second) must not decide how long the others are.
	for err == nil && c.o.Messages == 0 && float64(n)/r.PerSecond < min(c.o.Target.Seconds()/2, mostTry) && n < maxMessages/4 {
		n *= 4
		r, err = c.one(ctx, e, n, false)
	}
	if err != nil {
		c.tell(Step{Name: e.Name, Messages: n, Done: true, Err: err})
		return e.fail(ctx, err)
	}
	e.planned = c.o.Messages
	if e.planned == 0 {
		e.planned = min(max(int(r.PerSecond*c.o.Target.Seconds())/100*100, 200), maxMessages)
	}
	c.tell(Step{Name: e.Name, Messages: n, Done: true, PerSecond: r.PerSecond})
	return nil
}

func (c *contest) round(ctx context.Context, round int, e *Row) error {
	if e.Failed != "" || e.Missing != "" {
		return nil
	}
	s := Step{Round: round + 1, Rounds: c.o.Rounds, Name: e.Name, Messages: e.planned}
	c.tell(s)
	r, err := c.one(ctx, e, e.planned, false)
	s.Done, s.PerSecond, s.Err = true, r.PerSecond, err
	c.tell(s)
	if err != nil {
		return e.fail(ctx, err)
	}
	r.Round = round
	e.Runs = append(e.Runs, r)
	return nil
}

// fail notes in the row what went wrong with a candidate. What is wrong with
// the comparison (it was interrupted; without the bare limit there is nothing
// to compare with) is returned.
func (e *Row) fail(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case e.Name == Bare:
		return fmt.Errorf("source to sink with nothing between: %w", err)
	case errors.Is(err, candidate.ErrNotInstalled):
		e.Missing = err.Error()
	default:
		e.Failed = err.Error()
	}
	return nil
}

func (c *contest) tell(s Step) {
	if c.o.Progress != nil {
		c.o.Progress(s)
	}
}

// one is one run of one candidate, from its start with an empty queue to its
// end.
func (c *contest) one(ctx context.Context, e *Row, messages int, probe bool) (r Round, err error) {
	limit := time.Minute + patience*c.o.Target
	if messages > 1000 { // as for 50 messages a second
		limit += time.Duration(messages) * 20 * time.Millisecond
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	addr, err := candidate.FreeAddress()
	if err != nil {
		return r, err
	}
	w := Work{Messages: messages, Size: c.o.Size, Connections: min(c.o.Connections, messages)}
	if e.Name == Bare {
		return c.timed(ctx, addr, addr, w, nil)
	}
	mta, err := candidate.Start(ctx, e.Name, candidate.RelayOptions{Sink: addr, Dir: c.o.Dir, Binary: c.o.Binary, Policy: c.o.Policy})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, mta.Close()) }()
	if e.Version == "" {
		e.Version, e.Durability = mta.Version(), mta.Durability()
	}
	r, err = c.timed(ctx, mta.Address(), addr, w, mta)
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, candidate.Tail(mta.Output(), 2000))
	}
	if probe {
		err = c.probe(ctx, e, mta, addr)
	}
	return r, err
}

// probe looks whether the candidate syncs; the messages it is sent for that
// go to a sink of their own.
func (c *contest) probe(ctx context.Context, e *Row, mta candidate.Candidate, addr string) error {
	rcv, err := startReceiver(ctx, c.o.Sink, addr, maxMessages, false)
	if err != nil {
		return err
	}
	defer rcv.Close()
	p, err := candidate.ProbeSync(ctx, mta, probeMessages)
	if errors.Is(err, candidate.ErrNotInstalled) {
		return nil // then the configuration has to be believed
	}
	e.Probe = &p
	return err
}

// probeMessages are sent one at a time to see whether each waits for a sync.
const probeMessages = 5

// timed runs the source against the target until all is at the sink.
func (c *contest) timed(ctx context.Context, target, sinkAddr string, w Work, mta candidate.Candidate) (r Round, err error) {
	// A source that talks to smtp-sink itself has its answer to every message
	// when it ends: nothing is left to wait for. A sink that ended at its last
	// message would cut the source off, which then sleeps for a second
	// (msg_fatal of Postfix) and makes the bare limit look half of what it is.
	direct := mta == nil && c.o.Sink == SMTPSink && !c.o.Exact
	expected := w.Messages
	if direct {
		expected = maxMessages // never: Close ends it
	}
	rcv, err := startReceiver(ctx, c.o.Sink, sinkAddr, expected, c.o.Exact)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, rcv.Close()) }()
	var before candidate.Usage
	var mem *memory
	if mta != nil {
		before, mem = mta.Usage(), watchMemory(mta)
	}
	start := time.Now()
	sendErr := send(ctx, c.o.Source, target, w)
	if sendErr != nil {
		mem.stop()
		return r, sendErr
	}
	sent := time.Since(start)
	if direct {
		perSecond := float64(w.Messages) / sent.Seconds()
		return Round{Messages: w.Messages, Took: sent, Sent: sent, PerSecond: perSecond, AcceptedPerSecond: perSecond}, nil
	}
	if err := rcv.Wait(ctx); err != nil {
		mem.stop()
		return r, errors.Join(fmt.Errorf("%d messages were accepted and did not all arrive: %w", w.Messages, err), sendErr)
	}
	took := time.Since(start)
	r = Round{Messages: w.Messages, Took: took, Sent: sent, PerSecond: float64(w.Messages) / took.Seconds(), AcceptedPerSecond: float64(w.Messages) / sent.Seconds()}
	if mta != nil {
		u := mta.Usage()
		r.CPUPerMessage = (u.CPU - before.CPU) / time.Duration(w.Messages)
		r.DiskBytesPerByte = float64(u.WroteOut-before.WroteOut) / float64(w.Messages) / float64(w.Size)
		r.PeakMemory = mem.stop()
		r.MessagesPerSync = messagesPerSync(ctx, mta)
	}
	if own, ok := rcv.(*ownSink); ok && c.o.Signed && mta != nil {
		if err := own.allSigned(); err != nil {
			return r, err
		}
	}
	if c.o.Exact {
		err = exact(ctx, rcv, &r)
	}
	return r, err
}

// messagesPerSync reads how many messages shared a sync since the node's
// start; 0 where it cannot be known. Each message is written twice, with its
// content and with its outcome; both kinds of write share syncs.
func messagesPerSync(ctx context.Context, mta candidate.Candidate) float64 {
	h, ok := mta.(*candidate.Hikyaku)
	if !ok {
		return 0
	}
	m, err := h.Metrics(ctx)
	if batches := m["hikyaku_spool_batches_total"]; err == nil && batches > 0 {
		return m["hikyaku_spool_appends_total"] / batches
	}
	return 0
}

// exact lets the sink go on for a moment, so that what comes twice is counted,
// and compares.
func exact(ctx context.Context, rcv receiver, r *Round) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Second):
	}
	n, known, err := rcv.Received()
	if err != nil || !known {
		return errors.Join(err, errors.New("the sink cannot say how many messages it took"))
	}
	r.Received = n
	if n != r.Messages {
		return fmt.Errorf("the sink took %d messages where %d were sent", n, r.Messages)
	}
	return nil
}
