package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"hikyaku/bench/measure"
)

// Source is one run.
type Source struct {
	o        Options
	mix      *Mix
	count    counters
	tally    tally
	service  *measure.Recorder
	intended *measure.Recorder
	cursors  []*cursor
	began    time.Time
	offset   time.Duration // of began, in the ledger's time
	stop     chan struct{} // closed when no new messages are to be sent
	started  chan struct{}
	mu       struct {
		sync.Mutex
		conns  map[net.Conn]bool // nil when the run is cut off
		failed error
		cancel context.CancelFunc
	}
}

// New checks the options.
func New(o Options) (*Source, error) {
	o.defaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if err := o.Mix.Prepare(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	s := &Source{o: o, mix: o.Mix, service: measure.NewRecorder(), intended: measure.NewRecorder(), stop: make(chan struct{}), started: make(chan struct{})}
	s.mu.conns = map[net.Conn]bool{}
	end := o.Mix.Messages()
	if o.Messages > 0 {
		end = min(end, o.Messages)
	}
	base := cursor{mix: o.Mix, end: end, rate: o.Rate, poisson: o.Poisson, bound: o.Queue}
	for _, login := range s.logins() {
		s.cursors = append(s.cursors, newCursor(&cursor{mix: base.mix, end: end, rate: base.rate, poisson: base.poisson, bound: base.bound, login: login}))
	}
	if o.Connections < len(s.cursors) {
		return nil, fmt.Errorf("load: %d connections for %d tenants that log in: each needs one", o.Connections, len(s.cursors))
	}
	return s, nil
}

// logins are the tenants that need connections of their own: an SMTP login
// counts for a connection, an HTTP key for a request. nil stands for all.
func (s *Source) logins() []*Tenant {
	if s.o.isHTTP() || len(s.mix.Tenants) == 1 || !slices.ContainsFunc(s.mix.Tenants, func(t Tenant) bool { return t.User != "" }) {
		return []*Tenant{nil}
	}
	var out []*Tenant
	for i := range s.mix.Tenants {
		out = append(out, &s.mix.Tenants[i])
	}
	return out
}

// Run is New and Source.Run.
func Run(ctx context.Context, o Options) (*Result, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	return s.Run(ctx)
}

// Run sends until everything is sent and answered, the time is over, or ctx is
// done, which cuts off what is under way. It is called once. The result is there
// even with an error, which says that the run could not go on.
func (s *Source) Run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.began = time.Now()
	if !s.o.Start.IsZero() {
		s.offset = s.began.Sub(s.o.Start)
	}
	s.mu.Lock()
	s.mu.cancel = cancel
	s.mu.Unlock()
	close(s.started)
	ended := "messages"
	var over sync.WaitGroup
	done := make(chan struct{})
	over.Go(func() { // ends with the run: see close(done)
		var deadline <-chan time.Time
		if s.o.Duration > 0 {
			t := time.NewTimer(s.o.Duration)
			defer t.Stop()
			deadline = t.C
		}
		select {
		case <-deadline:
			ended = "duration"
			close(s.stop)
		case <-done:
			return
		case <-ctx.Done():
		}
		select {
		case <-done:
		case <-ctx.Done():
			ended = "cancelled"
			s.cutOff()
		}
	})
	var workers sync.WaitGroup
	for i := range s.o.Connections {
		f := &feed{s: s, c: s.cursors[i%len(s.cursors)]}
		addr := s.o.Addrs[i%len(s.o.Addrs)]
		if s.o.isHTTP() {
			workers.Go(func() { newHTTPClient(f, addr).run(ctx) })
		} else {
			workers.Go(func() { newSMTPClient(f, addr).run(ctx) })
		}
	}
	workers.Wait()
	close(done)
	over.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Result{Progress: s.Progress(), Service: s.service.Total(), Intended: s.intended.Total(), Errors: s.tally.list(), Ended: ended}, s.mu.failed
}

// fail ends the run with an error: going on would measure nothing.
func (s *Source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed == nil {
		s.mu.failed = fmt.Errorf("load: %w", err)
	}
	s.mu.cancel()
}

// Progress is how far the run is.
func (s *Source) Progress() Progress {
	c := &s.count
	p := Progress{
		Offered: c.offered.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(), Retried: c.retried.Load(), Resent: c.resent.Load(),
		Unknown: c.unknown.Load(), MessagesAccepted: c.messages.Load(), InFlight: c.inFlight.Load(), Bytes: c.bytes.Load(), Errors: c.errors.Load(),
		Connections: c.connections.Load(), Connected: c.connected.Load(),
	}
	select {
	case <-s.started:
	default:
		return p
	}
	p.Elapsed = s.now()
	for _, c := range s.cursors {
		queue, longest, shed := c.waiting(p.Elapsed)
		p.Queue += int64(queue)
		p.LongestQueue += int64(longest)
		p.Shed += int64(shed)
	}
	return p
}

// Interval are the latencies since the last call: from the first byte, and, in
// the open loop, from the intended time.
func (s *Source) Interval() (service, intended *measure.Histogram) {
	return s.service.Interval(), s.intended.Interval()
}

// dial makes a connection that is closed when the run is cut off.
func (s *Source) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, min(s.o.Timeout, dialTimeout))
	defer cancel()
	c, err := s.o.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.conns == nil {
		c.Close()
		return nil, context.Canceled
	}
	s.mu.conns[c] = true
	s.count.connections.Add(1)
	s.count.connected.Add(1)
	return c, nil
}

const dialTimeout = 10 * time.Second

func (s *Source) hangUp(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
	s.count.connections.Add(-1)
}

// cutOff ends all connections, so that nobody waits for an answer any more.
func (s *Source) cutOff() {
	s.mu.Lock()
	conns := s.mu.conns
	s.mu.conns = nil
	s.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

func (s *Source) failure(ctx context.Context, phase string, err error) {
	if ctx.Err() != nil {
		return // it is us who closed the connection
	}
	s.count.errors.Add(1)
	s.tally.failure(phase, err)
}

func (s *Source) refusal(phase string, code int, text []byte) {
	s.count.errors.Add(1)
	s.tally.reply(phase, code, text)
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// redial paces the attempts of one goroutine to make a connection.
type redial struct {
	failures int
	since    time.Duration
}

// failed waits before the next attempt; false when it is time to give up.
func (r *redial) failed(ctx context.Context, f *feed) bool {
	now := f.s.now()
	if r.failures == 0 {
		r.since = now
	}
	if now-r.since > f.s.o.GiveUp {
		return false
	}
	f.sleep(ctx, min(10*time.Millisecond<<min(r.failures, 10), time.Second))
	r.failures++
	return true
}
