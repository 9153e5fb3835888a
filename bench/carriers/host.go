package carriers

import (
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/bench/sink"
)

// Arrival is one message that a carrier took.
type Arrival struct {
	Carrier string
	Source  string
	*sink.Received
	// Dropped are those of To whose mail is thrown away after its 250.
	Dropped []string
}

// station is one carrier in the farm.
type station struct {
	farm    *Farm
	profile *Profile
	names   []string // of the hosts, one for each address
	addrs   []*net.TCPAddr
	sinks   []*sink.Sink
	silent  []*silence
	fast    bool // nothing to decide

	quick struct{ open, peak, connected, offered, messages, delivered atomic.Int64 } // of a fast one

	mu struct {
		sync.Mutex
		c          *Carrier
		open       map[*visit]struct{}
		violations []Violation // the first maxViolations
		fresh      []Violation // not yet told
		series     Series
	}
}

// maxViolations bounds how many are kept; all are counted.
const maxViolations = 1000

func newStation(f *Farm, p *Profile, o Options) *station {
	st := &station{farm: f, profile: p, fast: p.yields()}
	st.mu.open = map[*visit]struct{}{}
	o.OnViolation = func(v Violation) {
		if len(st.mu.violations) < maxViolations {
			st.mu.violations = append(st.mu.violations, v)
		}
		if f.o.OnViolation != nil {
			st.mu.fresh = append(st.mu.fresh, v)
		}
	}
	st.mu.c = New(p, o)
	return st
}

// yields reports whether the profile says yes to everything at once.
func (p *Profile) yields() bool {
	only := Profile{
		Name: p.Name, Description: p.Description, BasedOn: p.BasedOn, Domains: p.Domains, MX: p.MX,
		Banner: p.Banner, Extensions: p.Extensions, Chunking: p.Chunking, StartTLS: p.StartTLS,
	}
	return p.StartTLS != startTLSRequired && reflect.DeepEqual(*p, only)
}

// session is the farm's side of a new connection to one host.
func (st *station) session(host string, peer sink.Peer) sink.Session {
	if st.fast {
		return &guest{st: st, remote: peer.Remote}
	}
	v := &visit{st: st, host: host, source: addressOf(peer.Remote)}
	if r, ok := peer.Remote.(remote); ok {
		v.conn = r.conn
	}
	return v
}

func addressOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// guest is a connection to a carrier that says yes to everything: it counts,
// without a lock, and tells the ledger.
type guest struct {
	sink.AcceptAll
	st      *station
	remote  net.Addr
	source  string
	arrival Arrival // reused
}

func (g *guest) Connect() sink.Verdict {
	q := &g.st.quick
	q.connected.Add(1)
	n := q.open.Add(1)
	for p := q.peak.Load(); n > p && !q.peak.CompareAndSwap(p, n); p = q.peak.Load() {
	}
	g.source = addressOf(g.remote)
	return sink.Verdict{Reply: g.st.greeting(g.st.names[0])}
}

func (g *guest) Mail(string, string) sink.Verdict {
	g.st.quick.offered.Add(1)
	return sink.Verdict{}
}

func (g *guest) Content(r *sink.Received) sink.Verdict {
	g.st.quick.messages.Add(1)
	g.st.quick.delivered.Add(int64(len(r.To)))
	if f := g.st.farm.o.OnReceived; f != nil {
		g.arrival = Arrival{Carrier: g.st.profile.Name, Source: g.source, Received: r}
		f(&g.arrival)
	}
	return sink.Verdict{}
}

func (g *guest) Closed(error) { g.st.quick.open.Add(-1) }

// visit is a connection to a carrier with rules.
type visit struct {
	st     *station
	host   string
	source string
	conn   *conn
	s      *Session
}

// with runs f on the engine and afterwards tells of violations it found.
func (v *visit) with(f func(now time.Time) Answer) sink.Verdict {
	st := v.st
	st.mu.Lock()
	now := time.Now() // inside: the engine's time never runs back
	if v.s != nil && v.conn != nil {
		v.s.Heard(v.conn.heard())
	}
	a := f(now)
	fresh := st.mu.fresh
	st.mu.fresh = nil
	st.mu.Unlock()
	for _, x := range fresh {
		st.farm.o.OnViolation(x)
	}
	if v.conn != nil {
		v.conn.hold(now, a.Delay)
	}
	return sink.Verdict{Reply: a.Reply, Delay: a.Delay, Close: a.Close, Reset: a.Reset, Drop: a.Drop}
}

func (v *visit) Connect() sink.Verdict {
	for wait := time.Millisecond; wait < finGrace && v.crowded(); wait *= 2 {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-v.st.farm.done:
		}
		t.Stop()
	}
	return v.with(func(now time.Time) (a Answer) {
		m := &v.st.mu
		v.s, a = m.c.Connect(now, v.source, v.host)
		m.open[v] = struct{}{}
		if a.OK() {
			a.Reply = v.st.greeting(v.host)
		}
		return a
	})
}

// finGrace bounds how long a connection that would be one too many waits for
// the FIN of another to arrive: looked for after 0, 1, 3, 7, 15, 31 and 63 ms.
// Loopback keeps the order of one sender's packets only as long as one CPU
// carries them: with two, a SYN was seen to overtake the FIN sent before it.
const finGrace = 64 * time.Millisecond

// crowded reports whether this connection would be one too many, after those
// whose end has reached the kernel have been taken off the count.
func (v *visit) crowded() bool {
	m := &v.st.mu
	m.Lock()
	defer m.Unlock()
	if !m.c.AtLimit(v.source) {
		return false
	}
	for o := range m.open {
		// A question to the kernel that never blocks, so it may stand under
		// the lock; and only when a connection would be refused.
		if o.conn != nil && o.conn.gone() {
			o.s.Gone()
		}
	}
	return m.c.AtLimit(v.source)
}

// greeting is the banner of a profile that has its own.
func (st *station) greeting(host string) string {
	if st.profile.Banner == "" {
		return ""
	}
	return "220 " + host + " " + st.profile.Banner
}

func (v *visit) Hello(_ string, secure bool) sink.Verdict {
	return v.with(func(now time.Time) Answer { return v.s.Hello(now, secure) })
}

func (v *visit) Mail(from, _ string) sink.Verdict {
	return v.with(func(now time.Time) Answer { return v.s.Mail(now, from) })
}

func (v *visit) Recipient(to string) sink.Verdict {
	return v.with(func(now time.Time) Answer { return v.s.Rcpt(now, to) })
}

func (v *visit) Data() sink.Verdict {
	return v.with(func(now time.Time) Answer { return v.s.Data(now) })
}

func (v *visit) Content(r *sink.Received) sink.Verdict {
	var o Outcome
	verdict := v.with(func(now time.Time) Answer {
		o = v.s.Content(now)
		return o.Answer
	})
	if !o.OK() {
		return verdict
	}
	if f := v.st.farm.o.OnReceived; f != nil {
		f(&Arrival{Carrier: v.st.profile.Name, Source: v.source, Received: r, Dropped: o.Dropped})
	}
	for _, n := range o.Notices {
		v.st.farm.post.Add(n)
	}
	return verdict
}

func (v *visit) Closed(error) {
	v.with(func(now time.Time) (a Answer) {
		v.s.Closed(now)
		delete(v.st.mu.open, v)
		return a
	})
}

// counters are what happened so far, whichever way the station counts.
func (st *station) counters(now time.Time) (c Counters, allowed int64, unlimited bool) {
	if st.fast {
		q := &st.quick
		return Counters{
			Connections: q.open.Load(), Peak: q.peak.Load(), Connected: q.connected.Load(),
			Offered: q.offered.Load(), Messages: q.messages.Load(), Delivered: q.delivered.Load(),
		}, 0, true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	allowed, unlimited = st.mu.c.Allowed(now)
	return st.mu.c.Counters(), allowed, unlimited
}
