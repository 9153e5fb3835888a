package carriers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"hikyaku/bench/carriers/late"
	"hikyaku/bench/dns"
	"hikyaku/bench/sink"
)

// FarmOptions say what a farm consists of.
type FarmOptions struct {
	Profiles  []*Profile    // at most 64, of different names
	Seed      uint64        // of all chance
	Port      int           // of all MX hosts; 0 picks one that is free on all
	DNS       string        // address of the name server; default 127.0.0.1:0
	Tolerance time.Duration // Options.Tolerance

	// OnReceived is told of each message that a carrier takes, before the
	// carrier answers 250. What it is handed is valid during the call. It is
	// called from many goroutines at once.
	OnReceived func(*Arrival)
	// OnViolation is told of each violation, from many goroutines.
	OnViolation func(Violation)
	// Want picks the messages whose content is kept for OnReceived. It knows
	// envelope and source. nil keeps none.
	Want func(*sink.Received) bool

	// Notices say whether late bounces and complaints are mailed, and where.
	Notices late.Options

	// Every is the distance of the points in the time series; default 1 s.
	Every time.Duration
}

// Farm is a running set of carriers with their name server.
type Farm struct {
	Port int    // of the MX hosts: the product's delivery.port
	DNS  string // the product's delivery.resolver

	o        FarmOptions
	started  time.Time
	names    *dns.Server
	keys     *authority
	stations []*station
	post     *late.Post
	stop     context.CancelFunc
	done     <-chan struct{}
	own      sync.WaitGroup
}

// firstNetwork is the second byte of the addresses of the first carrier: its
// hosts are 127.64.0.1 and on, those of the next 127.65.0.1 and on. All of them
// lie in Network.
const firstNetwork = 64

// Network holds the addresses of all MX hosts of a farm.
const Network = "127.64.0.0/10"

const maxProfiles = 64

// Start listens on all hosts' addresses and serves until Close, or until ctx
// ends.
func Start(ctx context.Context, o FarmOptions) (*Farm, error) {
	if len(o.Profiles) == 0 || len(o.Profiles) > maxProfiles {
		return nil, fmt.Errorf("start a farm: want 1 to %d profiles, got %d", maxProfiles, len(o.Profiles))
	}
	if o.DNS == "" {
		o.DNS = "127.0.0.1:0"
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	f := &Farm{o: o, started: time.Now()}
	var err error
	if f.keys, err = newAuthority(); err != nil {
		return nil, fmt.Errorf("start a farm: %w", err)
	}
	if err := f.plan(); err != nil {
		return nil, fmt.Errorf("start a farm: %w", err)
	}
	ctx, f.stop = context.WithCancel(ctx)
	f.done = ctx.Done()
	f.post = late.New(o.Notices)
	if err := f.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("start a farm: %w", err), f.Close())
	}
	f.own.Go(func() { f.post.Run(ctx) })
	f.own.Go(func() { f.sample(ctx) })
	f.own.Go(func() { <-ctx.Done(); f.shut() })
	return f, nil
}

// plan gives every host its addresses.
func (f *Farm) plan() error {
	seen := map[string]string{}
	for i, p := range f.o.Profiles {
		st := newStation(f, p, Options{Seed: f.o.Seed, Tolerance: f.o.Tolerance})
		for _, h := range p.MX {
			for range max(1, h.Addresses) {
				st.names = append(st.names, h.Name)
				st.addrs = append(st.addrs, &net.TCPAddr{IP: net.IPv4(127, byte(firstNetwork+i), 0, byte(len(st.addrs)+1))})
			}
			if other, twice := seen["host "+h.Name]; twice {
				return fmt.Errorf("host %s belongs to %s and %s", h.Name, other, p.Name)
			}
			seen["host "+h.Name] = p.Name
		}
		for _, d := range p.Domains {
			if other, twice := seen[d]; twice {
				return fmt.Errorf("domain %s belongs to %s and %s", d, other, p.Name)
			}
			seen[d] = p.Name
		}
		f.stations = append(f.stations, st)
	}
	return nil
}

// open finds the common port and starts everything that listens.
func (f *Farm) open() error {
	var listeners [][]net.Listener
	var err error
	for try := 0; ; try++ {
		if listeners, err = f.listen(); err == nil {
			break
		}
		if f.o.Port != 0 || try == 20 {
			return err
		}
	}
	for i, st := range f.stations {
		for j, l := range listeners[i] {
			if err := st.serve(st.names[j], l); err != nil {
				return err
			}
		}
	}
	if f.names, err = dns.Start(f.zone(), f.o.DNS); err != nil {
		return err
	}
	f.DNS = f.names.Addr()
	f.faults()
	return nil
}

// listen opens every address on one port. Hosts that are dead have none.
func (f *Farm) listen() (all [][]net.Listener, err error) {
	port := f.o.Port
	defer func() {
		if err == nil {
			f.Port = port
			return
		}
		for i, ls := range all {
			for _, l := range ls {
				l.Close()
			}
			for _, s := range f.stations[i].silent {
				err = errors.Join(err, s.Close())
			}
			f.stations[i].silent = nil
		}
	}()
	if port == 0 {
		// One that is free on the wildcard address is free on all.
		probe, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			return nil, err
		}
		port = probe.Addr().(*net.TCPAddr).Port
		probe.Close()
	}
	for _, st := range f.stations {
		all = append(all, nil)
		for _, a := range st.addrs {
			a.Port = port
			switch st.profile.Dead {
			case deadRefused:
			case deadSilent:
				s, err := startSilence(a)
				if err != nil {
					return all, fmt.Errorf("listen on %s: %w", a, err)
				}
				st.silent = append(st.silent, s)
			default:
				l, err := net.ListenTCP("tcp4", a)
				if err != nil {
					return all, err
				}
				all[len(all)-1] = append(all[len(all)-1], l)
			}
		}
	}
	return all, nil
}

// serve starts one host.
func (st *station) serve(name string, l net.Listener) error {
	p := st.profile
	o := sink.Options{Listener: l, Name: name, Extensions: p.Extensions, Chunking: p.Chunking, Discard: true, Want: st.farm.o.Want}
	if o.Extensions == nil {
		o.Extensions = []string{}
	}
	if !st.fast {
		o.Listener = listener{l}
	}
	if p.StartTLS == startTLSOffered || p.StartTLS == startTLSRequired {
		cert, err := st.farm.keys.certificate(name)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	o.NewSession = func(peer sink.Peer) sink.Session { return st.session(name, peer) }
	s, err := sink.Start(o)
	if err != nil {
		return err
	}
	st.sinks = append(st.sinks, s)
	return nil
}

// Authority is the certificate, in PEM, that signed those of the hosts.
func (f *Farm) Authority() []byte { return f.keys.pem }

// shut ends all hosts, and with them all visits.
func (f *Farm) shut() {
	for _, st := range f.stations {
		for _, s := range st.sinks {
			s.Close() // it was open, so the only error is that it is closed
		}
	}
}

// Close ends everything and waits for it.
func (f *Farm) Close() error {
	f.stop()
	f.shut()
	f.own.Wait()
	var errs []error
	for _, st := range f.stations {
		for _, s := range st.silent {
			errs = append(errs, s.Close())
		}
		st.silent = nil
	}
	if f.names != nil {
		errs = append(errs, f.names.Close())
		f.names = nil
	}
	return errors.Join(errs...)
}

// hostPort is an address of the farm as text.
func (f *Farm) hostPort(a *net.TCPAddr) string {
	return net.JoinHostPort(a.IP.String(), strconv.Itoa(f.Port))
}

// Hosts are the addresses of a carrier's MX hosts with their port; none when
// there is no carrier of that name.
func (f *Farm) Hosts(carrier string) []string {
	var hosts []string
	for _, st := range f.stations {
		if st.profile.Name == carrier {
			for _, a := range st.addrs {
				hosts = append(hosts, f.hostPort(a))
			}
		}
	}
	return hosts
}

// FateOf tells what becomes of mail for an address of one of the carriers; ok
// is false when it simply arrives.
func (f *Farm) FateOf(address string) (fate Fate, ok bool) {
	if st := f.stationOf(domainOf(address)); st != nil {
		// The fates never change, so this needs no lock.
		return st.mu.c.FateOf(address)
	}
	return Fate{}, false
}
