package dns

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

// Server is a running name server.
type Server struct {
	addr     string
	zone     atomic.Pointer[zone]
	udp, tcp *wire.Server
	served   sync.WaitGroup
	done     chan struct{} // ends delays

	queries, tcpQueries atomic.Uint64

	mu struct {
		sync.Mutex
		faults map[string]*Fault // "name" or "name TYPE", lower case, fully qualified
		counts map[string]uint64
	}
}

// maxCounts bounds the table of counts per question: a load run asks for more
// names than tests look at.
const maxCounts = 10_000

// Start serves the zone text (see parseZone) on addr, "127.0.0.1:0" for any
// free port, over UDP and TCP on the same one.
func Start(zoneText, addr string) (*Server, error) {
	s := &Server{done: make(chan struct{})}
	s.mu.faults = map[string]*Fault{}
	s.mu.counts = map[string]uint64{}
	if err := s.SetZone(zoneText); err != nil {
		return nil, err
	}
	pc, l, err := listen(addr)
	if err != nil {
		return nil, err
	}
	s.addr = l.Addr().String()
	h := wire.HandlerFunc(s.serve)
	s.udp = &wire.Server{PacketConn: pc, Handler: h}
	s.tcp = &wire.Server{Listener: l, Handler: h}
	for _, srv := range []*wire.Server{s.udp, s.tcp} {
		ready := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		failed := make(chan error, 1)
		s.served.Go(func() { failed <- srv.ActivateAndServe() })
		select {
		case <-ready:
		case err := <-failed:
			return nil, errors.Join(fmt.Errorf("serve DNS on %s: %w", s.addr, err), pc.Close(), l.Close())
		}
	}
	return s, nil
}

// listen opens UDP and TCP on the same port. With port 0 the one that TCP gets
// may be taken for UDP, so it tries a few.
func listen(addr string) (net.PacketConn, net.Listener, error) {
	for try := 0; ; try++ {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("listen for DNS: %w", err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			if u, ok := pc.(*net.UDPConn); ok {
				// Questions come in bursts of thousands when a queue is read
				// again; one that finds no room costs its asker a timeout. The
				// kernel gives what it allows.
				_ = u.SetReadBuffer(4 << 20)
			}
			return pc, l, nil
		}
		l.Close()
		if try == 9 {
			return nil, nil, fmt.Errorf("listen for DNS: %w", err)
		}
	}
}

// Addr is "host:port".
func (s *Server) Addr() string { return s.addr }

// Close ends the server and waits for its goroutines.
func (s *Server) Close() error {
	close(s.done)
	err := errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
	s.served.Wait()
	return err
}

// SetZone replaces all records at once.
func (s *Server) SetZone(text string) error {
	z, err := parseZone(text)
	if err == nil {
		s.zone.Store(z)
	}
	return err
}

// SetFault makes questions for a name fail; kind is a record type as "MX", or
// "" for all types; the name "*" is all names. A nil fault ends it.
func (s *Server) SetFault(name, kind string, f *Fault) {
	key := question(name, kind)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.mu.faults, key)
		return
	}
	c := *f
	s.mu.faults[key] = &c
}

// Queries is how many questions came in, over UDP and TCP.
func (s *Server) Queries() uint64 { return s.queries.Load() }

// TCPQueries is how many of them came over TCP.
func (s *Server) TCPQueries() uint64 { return s.tcpQueries.Load() }

// Asked is how often a name and type were asked for. Only the first 10,000
// different questions are told apart.
func (s *Server) Asked(name, kind string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.counts[question(name, kind)]
}

func question(name, kind string) string {
	name = strings.ToLower(wire.Fqdn(name))
	if kind == "" {
		return name
	}
	return name + " " + kind
}

// take counts the question and returns the fault that strikes it, if any.
func (s *Server) take(q wire.Question) *Fault {
	byName := strings.ToLower(q.Name)
	byType := byName + " " + wire.TypeToString[q.Qtype]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.counts[byType]; ok || len(s.mu.counts) < maxCounts {
		s.mu.counts[byType]++
	}
	for _, key := range []string{byType, byName, "*."} {
		f := s.mu.faults[key]
		if f == nil {
			continue
		}
		c := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				delete(s.mu.faults, key)
			}
		}
		return &c
	}
	return nil
}

// serve answers one query. Package dns runs it on a goroutine of its own.
func (s *Server) serve(w wire.ResponseWriter, query *wire.Msg) {
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	s.queries.Add(1)
	if tcp {
		s.tcpQueries.Add(1)
	}
	m := new(wire.Msg).SetReply(query)
	m.RecursionAvailable = true
	if len(query.Question) != 1 {
		m.Rcode = wire.RcodeFormatError
		_ = w.WriteMsg(m) // the client may be gone
		return
	}
	fault := s.take(query.Question[0])
	if fault == nil {
		fault = &Fault{}
	}
	if fault.Delay > 0 {
		t := time.NewTimer(fault.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.done:
			return
		}
	}
	s.zone.Load().answer(m, query.Question[0])
	size := wire.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
		size = max(size, int(opt.UDPSize()))
	}
	if !tcp {
		m.Truncate(size)
	}
	for _, p := range fault.apply(query, m, tcp) {
		if _, err := w.Write(p); err != nil {
			return // the client has gone; it will ask again
		}
	}
}
