package controlplane

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// maxReading bounds how many reports are read and decoded at once; others wait.
// Each may have exchange.MaxWire bytes.
const maxReading = 32

// readTimeout is how long a report may take to arrive, so that slow nodes do not
// keep the others waiting: its grants would be half over by then.
const readTimeout = exchange.GrantTTL / 2

// problem is an error as the peers see it (RFC 9457). It carries no detail that
// a peer of this cluster may not know.
type problem struct {
	status int
	detail string
}

func (p *problem) Error() string { return p.detail }

func refuse(status int, format string, a ...any) *problem {
	return &problem{status, fmt.Sprintf(format, a...)}
}

func writeProblem(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.status)
	// An error here is that the peer has gone; nothing is owed to it.
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(p.status), "status": p.status, "detail": p.detail})
}

// Handler is what the peer listener serves on a control plane: the exchange with
// the nodes, and what other control planes ask the leader. The listener has made
// sure that the peer belongs to the cluster.
func (c *Control) Handler() http.Handler {
	mux := http.NewServeMux()
	s := &exchangeServer{c: c, reading: make(chan struct{}, maxReading)}
	mux.Handle("POST "+exchange.Path, s)
	c.leaderRoutes(mux)
	return mux
}

type exchangeServer struct {
	c       *Control
	reading chan struct{}
	buffers sync.Pool // *exchangeBuffer
}

// exchangeBuffer is the memory of one exchange, used again by the next.
type exchangeBuffer struct {
	in     []byte
	out    []byte
	report *exchange.Report
	answer exchange.Answer
}

func (s *exchangeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := s.buffers.Get().(*exchangeBuffer)
	if !ok {
		b = &exchangeBuffer{report: new(exchange.Report)}
	}
	if p := s.exchange(b, w, r); p != nil {
		s.c.metrics.refused.Add(1)
		if p.status == http.StatusMisdirectedRequest {
			w.Header().Set(exchange.LeaderHeader, s.c.seen().Address)
		}
		writeProblem(w, p)
	} else {
		s.c.metrics.exchanges.Add(1)
		s.c.metrics.exchangeBytes.Add(int64(len(b.in) + len(b.out)))
		w.Header().Set("Content-Type", exchange.ContentType)
		_, _ = w.Write(b.out) // the node has gone if this fails; its next report says what it has
	}
	if cap(b.in) <= 1<<20 && cap(b.out) <= 1<<20 {
		s.buffers.Put(b)
	}
}

// exchange reads a report into b and leaves the answer in b.out.
func (s *exchangeServer) exchange(b *exchangeBuffer, w http.ResponseWriter, r *http.Request) *problem {
	o := s.c.lead()
	if o == nil {
		return s.c.notLeading()
	}
	select {
	case s.reading <- struct{}{}:
	case <-r.Context().Done():
		return refuse(http.StatusServiceUnavailable, "too many reports at once")
	}
	deadline := http.NewResponseController(w)
	limited := deadline.SetReadDeadline(time.Now().Add(readTimeout)) == nil // a recorder in a test has none
	err := s.read(b, r)
	<-s.reading
	if limited {
		_ = deadline.SetReadDeadline(time.Time{}) // the connection has ended if this fails
	}
	if err != nil {
		return err
	}
	answer, p := o.take(b)
	if p != nil {
		return p
	}
	out, encodeErr := exchange.AppendAnswer(b.out[:0], answer)
	b.out = out
	if encodeErr != nil {
		s.c.log.Error("an answer cannot be encoded", "error", encodeErr)
		return refuse(http.StatusInternalServerError, "the answer cannot be encoded")
	}
	// The answer gives rights: they are given only while the office is ours.
	if !o.keeper.Holds(time.Now()) {
		return s.c.notLeading()
	}
	return nil
}

func (s *exchangeServer) read(b *exchangeBuffer, r *http.Request) *problem {
	if r.ContentLength > exchange.MaxWire {
		return refuse(http.StatusRequestEntityTooLarge, "%d bytes: at most %d", r.ContentLength, exchange.MaxWire)
	}
	body := io.LimitReader(r.Body, exchange.MaxWire+1)
	b.in = b.in[:0]
	for {
		if len(b.in) == cap(b.in) {
			b.in = append(b.in, 0)[:len(b.in)]
		}
		n, err := body.Read(b.in[len(b.in):cap(b.in)])
		b.in = b.in[:len(b.in)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse(http.StatusBadRequest, "the report ended early")
		}
	}
	if len(b.in) > exchange.MaxWire {
		return refuse(http.StatusRequestEntityTooLarge, "more than %d bytes", exchange.MaxWire)
	}
	switch err := exchange.DecodeReport(b.in, b.report); {
	case errors.Is(err, exchange.ErrVersion):
		return refuse(http.StatusUpgradeRequired, "%v", err)
	case err != nil:
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return nil
}

// notLeading says who leads instead, if anybody is known to.
func (c *Control) notLeading() *problem {
	l := c.seen()
	if l.term == 0 || l.Address == c.opt.Address {
		return refuse(http.StatusServiceUnavailable, "there is no leader at the moment")
	}
	return refuse(http.StatusMisdirectedRequest, "%s leads, at %s", l.Name, l.Address)
}

// take works a report in and makes the answer. The report is kept; b gets the
// memory of the one before.
func (o *office) take(b *exchangeBuffer) (*exchange.Answer, *problem) {
	r := b.report
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.mu.over || o.mu.tables == nil || o.mu.policy == nil {
		return nil, refuse(http.StatusServiceUnavailable, "the leader has not read everything yet")
	}
	if p := o.knownLocked(r); p != nil {
		return nil, p
	}
	n := o.mu.nodes[r.Node]
	if n == nil {
		n = &nodeState{name: r.Node, report: new(exchange.Report)}
		o.mu.nodes[r.Node] = n
	}
	m := o.mu.tables.members[r.Node].value
	a := &b.answer
	switch err := o.mu.account.Report(now, r, a); {
	case errors.Is(err, budgets.ErrOld):
		return nil, refuse(http.StatusTooManyRequests, "%v", err)
	case err != nil:
		return nil, refuse(http.StatusConflict, "%v", err)
	}
	a.Homes = o.mu.homes
	if !n.at.IsZero() {
		n.before = now.Sub(n.at)
	}
	if n.fresh(r) {
		o.steering.observe(r)
	} else {
		o.c.metrics.talliesAgain.Add(int64(len(r.Tallies)))
	}
	n.at, n.told = now, a.Floor
	n.report, b.report = r, n.report
	if news(r, &m, a) {
		o.poke()
	}
	return a, nil
}

// fresh reports whether a report's tallies have not been counted before. A node
// whose report was not answered sends the same ones again: counted twice, one
// reply that refuses a source is two, and two are a block.
func (n *nodeState) fresh(r *exchange.Report) bool {
	if len(r.Tallies)+len(r.Samples) == 0 {
		return true
	}
	serial := cmp.Or(r.Tallied, r.Serial)
	if n.lease == r.Lease && serial <= n.tallied {
		return false
	}
	n.lease, n.tallied = r.Lease, serial
	return true
}

// news reports whether a report has something to decide on that should not wait
// for the tick.
func news(r *exchange.Report, m *keyspace.Member, a *exchange.Answer) bool {
	if r.Floor < m.Floor && a.Floor < m.Floor || m.Drain == keyspace.Draining && r.Queued == 0 {
		return true
	}
	for i := range r.Sources {
		if r.Sources[i].Released || r.Sources[i].Fault != "" {
			return true
		}
	}
	return false
}

// knownLocked reports whether the node may make an exchange: it is registered
// by the lease that it names, and a member.
func (o *office) knownLocked(r *exchange.Report) *problem {
	t := o.mu.tables
	reg, ok := t.nodes[r.Node]
	switch m, known := t.members[r.Node]; {
	case !ok:
		return refuse(http.StatusConflict, "node %s is not registered", r.Node)
	case reg.value.Lease != r.Lease:
		return refuse(http.StatusConflict, "node %s is registered by another lease", r.Node)
	case !understood(&reg.value):
		return refuse(http.StatusUpgradeRequired, "node %s speaks versions %d to %d, this control plane %d to %d", r.Node, reg.value.Protocol[0], reg.value.Protocol[1], keyspace.MinProtocol, keyspace.Protocol)
	case !known:
		o.poke()
		return refuse(http.StatusServiceUnavailable, "node %s has not been taken in yet", r.Node)
	case m.value.NodeID != reg.value.NodeID:
		return refuse(http.StatusConflict, "the name %s belongs to another node: remove that one first if it will not come back", r.Node)
	}
	return nil
}
