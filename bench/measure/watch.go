package measure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Target is a process to watch.
type Target struct {
	Name string
	PID  int
	// Tree adds all processes below it, those that end too. For servers that
	// are many processes, as Postfix.
	Tree bool
}

// Gauge is a value that is read at each look: a queue's depth, goroutines, or,
// with Counter, a count whose growth per second is drawn.
type Gauge struct {
	Name, Unit, Group string
	Counter           bool
	// Read must not block for long: it holds up the other readings. Not ok
	// leaves a gap.
	Read func() (v float64, ok bool)
}

// Latency is a recorder whose percentiles are drawn over time.
type Latency struct {
	Name     string
	Recorder *Recorder
}

// WatchOptions say what a Watch looks at. Process "bench" is always there: this one.
type WatchOptions struct {
	Every     time.Duration // between looks; 0 is 200 ms
	Start     time.Time     // of the run: zero of the time axis; zero is now
	Points    int           // of a series at most; 0 is DefaultPoints
	Targets   []Target
	Gauges    []Gauge
	Latencies []Latency // each second, by their Interval, which is then the Watch's alone
	Proc      fs.FS     // nil is /proc
}

// Self is the name of the process that measures.
const Self = "bench"

// latencyEvery is how long an interval of the percentiles over time is: shorter
// ones have too few values for a p99.
const latencyEvery = time.Second

// Watch looks at processes and gauges in intervals, from NewWatch to Stop.
type Watch struct {
	o    WatchOptions
	proc processes
	stop context.CancelFunc
	done sync.WaitGroup
	// Fixed at the start; only the looking goroutine touches what is in them,
	// but for the tracks, which lock themselves.
	gauges    []*gauge
	latencies []*latency
	mu        struct {
		sync.Mutex
		targets []*watched
	}
}

// watched is one target over all its lives.
type watched struct {
	Target
	past      Usage // of its earlier lives, which have ended
	now       Usage // of this life
	peak      uint64
	alive     bool
	seen      bool // a look has found it
	at        time.Duration
	user, sys *Track
	rss, disk *Track
	files     *Track
	threads   *Track
}

type gauge struct {
	Gauge
	track *Track
	last  float64
	at    time.Duration
	known bool
}

type latency struct {
	Latency
	p50, p99 *Track
	at       time.Duration
}

// NewWatch starts to look. Stop must be called.
func NewWatch(o WatchOptions) *Watch {
	if o.Every <= 0 {
		o.Every = 200 * time.Millisecond
	}
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	if o.Proc == nil {
		o.Proc = os.DirFS("/proc")
	}
	w := &Watch{o: o, proc: processes{o.Proc}}
	for _, t := range append([]Target{{Name: Self, PID: os.Getpid()}}, o.Targets...) {
		w.Add(t)
	}
	for _, g := range o.Gauges {
		w.gauges = append(w.gauges, &gauge{Gauge: g, track: w.track(g.Name, g.Unit, g.Group, false)})
	}
	for _, l := range o.Latencies {
		w.latencies = append(w.latencies, &latency{
			Latency: l,
			p50:     w.track(l.Name+" p50", "s", GroupLatency, true),
			p99:     w.track(l.Name+" p99", "s", GroupLatency, true),
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.done.Go(func() { w.run(ctx) })
	return w
}

func (w *Watch) track(name, unit, group string, peaks bool) *Track {
	return NewTrack(name, unit, group, w.o.Points, peaks)
}

// Add watches one process more. A name that is known already is the next life
// of that process, after a restart: what was used so far is kept and added to.
func (w *Watch) Add(t Target) {
	u, err := w.proc.usageOf(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.findLocked(t.Name)
	if p == nil {
		p = &watched{
			user:    w.track(t.Name+": user", "cores", GroupCPU, false),
			sys:     w.track(t.Name+": system", "cores", GroupCPU, false),
			rss:     w.track(t.Name+": memory", "bytes", GroupMemory, true),
			disk:    w.track(t.Name+": written", "bytes/s", GroupDisk, false),
			files:   w.track(t.Name+": descriptors", "", GroupFiles, true),
			threads: w.track(t.Name+": threads", "", GroupFiles, true),
		}
		p.past.IOKnown = true
		w.mu.targets = append(w.mu.targets, p)
	} else {
		p.endLocked()
	}
	p.Target, p.alive, p.at = t, err == nil, time.Since(w.o.Start)
	if err == nil {
		p.now, p.seen, p.peak = u, true, max(p.peak, u.PeakRSS)
	}
}

func (w *Watch) findLocked(name string) *watched {
	for _, p := range w.mu.targets {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// endLocked ends this life of the process.
func (p *watched) endLocked() {
	if p.now == (Usage{}) {
		return // it was never seen
	}
	p.past = p.past.plus(p.now)
	p.past.RSS, p.past.PeakRSS, p.past.Files, p.past.Threads = 0, 0, 0, 0
	p.now, p.alive = Usage{}, false
}

// Ended replaces the CPU of a process's life by what the kernel told who waited
// for it: exact, where the last look was some milliseconds early.
func (w *Watch) Ended(name string, state *os.ProcessState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.findLocked(name); p != nil && state != nil && p.PID == state.Pid() {
		p.now.User = max(state.UserTime(), p.now.User)
		p.now.System = max(state.SystemTime(), p.now.System)
		p.alive = false
	}
}

// usageOf reads a target. Of a tree the peak is the sum as it is now.
func (p processes) usageOf(t Target) (Usage, error) {
	if !t.Tree {
		return p.usage(t.PID, false)
	}
	sum, err := p.usage(t.PID, true)
	if err != nil {
		return Usage{}, err
	}
	sum.PeakRSS = sum.RSS
	for _, pid := range p.tree(t.PID)[1:] {
		if u, err := p.usage(pid, true); err == nil { // it may just have ended
			u.PeakRSS = u.RSS
			sum = sum.plus(u)
		}
	}
	return sum, nil
}

func (w *Watch) run(ctx context.Context) {
	tick := time.NewTicker(w.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.look(true)
			return
		case <-tick.C:
			w.look(false)
		}
	}
}

// look reads everything once. Reading is outside of the lock: a gauge may take
// its time, and Add and Usage must not wait for it.
func (w *Watch) look(last bool) {
	w.mu.Lock()
	targets := append([]*watched{}, w.mu.targets...)
	w.mu.Unlock()
	for _, p := range targets {
		w.lookAt(p)
	}
	for _, g := range w.gauges {
		v, ok := g.Read()
		g.add(time.Since(w.o.Start), v, ok)
	}
	for _, l := range w.latencies {
		l.look(time.Since(w.o.Start), last)
	}
}

func (w *Watch) lookAt(p *watched) {
	w.mu.Lock()
	t, alive := p.Target, p.alive
	w.mu.Unlock()
	if !alive {
		return
	}
	u, err := w.proc.usageOf(t)
	at := time.Since(w.o.Start)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case p.Target != t: // a new life began meanwhile
	case errors.Is(err, fs.ErrNotExist):
		p.alive = false
	case err == nil:
		p.addLocked(at, u)
	}
}

// addLocked takes a reading. Counters of a tree fall back when a process ends
// that nobody waited for; what it had used is then kept as it was.
func (p *watched) addLocked(at time.Duration, u Usage) {
	u.User, u.System = max(u.User, p.now.User), max(u.System, p.now.System)
	u.Wrote, u.Read, u.Calls = max(u.Wrote, p.now.Wrote), max(u.Read, p.now.Read), max(u.Calls, p.now.Calls)
	p.peak = max(p.peak, u.PeakRSS)
	if span := (at - p.at).Seconds(); span > 0 {
		middle := at - (at-p.at)/2
		p.user.Add(middle, (u.User-p.now.User).Seconds()/span)
		p.sys.Add(middle, (u.System-p.now.System).Seconds()/span)
		if u.IOKnown {
			p.disk.Add(middle, float64(u.Wrote-p.now.Wrote)/span)
		}
		p.rss.Add(at, float64(u.RSS))
		p.files.Add(at, float64(u.Files))
		p.threads.Add(at, float64(u.Threads))
	}
	p.now, p.at, p.seen = u, at, true
}

func (g *gauge) add(at time.Duration, v float64, ok bool) {
	switch {
	case !ok:
		g.known = false // a rate over a gap would be an average that nobody saw
		return
	case !g.Counter:
		g.track.Add(at, v)
		return
	case g.known && v >= g.last && at > g.at:
		g.track.Add(at-(at-g.at)/2, (v-g.last)/(at-g.at).Seconds())
	}
	g.last, g.at, g.known = v, at, true
}

func (l *latency) look(at time.Duration, last bool) {
	if at-l.at < latencyEvery && !last {
		return
	}
	middle := at - (at-l.at)/2
	l.at = at
	h := l.Recorder.Interval()
	if h.Count() == 0 {
		return
	}
	l.p50.Add(middle, h.Quantile(0.5).Seconds())
	l.p99.Add(middle, h.Quantile(0.99).Seconds())
}

// Process is what a process has used over all its lives.
type Process struct {
	Name string `json:"name"`
	Usage
}

// Processes are the totals so far, this process first.
func (w *Watch) Processes() []Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Process
	for _, p := range w.mu.targets {
		if !p.seen {
			continue
		}
		u := p.past.plus(p.now)
		u.PeakRSS = p.peak
		out = append(out, Process{p.Name, u})
	}
	return out
}

// Usage is the total of one process so far.
func (w *Watch) Usage(name string) (Usage, error) {
	for _, p := range w.Processes() {
		if p.Name == name {
			return p.Usage, nil
		}
	}
	return Usage{}, fmt.Errorf("process %q was never seen", name)
}

// Series are all series so far, those without points left out.
func (w *Watch) Series() []Series {
	w.mu.Lock()
	defer w.mu.Unlock()
	var tracks []*Track
	for _, g := range w.gauges {
		tracks = append(tracks, g.track)
	}
	for _, l := range w.latencies {
		tracks = append(tracks, l.p50, l.p99)
	}
	for _, p := range w.mu.targets {
		tracks = append(tracks, p.user, p.sys, p.rss, p.disk, p.files, p.threads)
	}
	var out []Series
	for _, t := range tracks {
		if s := t.Series(); len(s.At) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// Stop takes a last look and ends. It may be called again.
func (w *Watch) Stop() {
	w.stop()
	w.done.Wait()
}
