package mx

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Config is what New needs. Zero fields have the defaults named.
type Config struct {
	// Servers are recursive resolvers, "127.0.0.1:53" or without the port. None
	// means those of /etc/resolv.conf. The resolver and the way to it are
	// trusted: run one on the node.
	Servers []string
	// Timeout of one question to one server. Default 3s.
	Timeout time.Duration
	// Attempts is how often one question is put, over the servers in turn.
	// Default 3, or the number of servers if that is more. At most 20.
	Attempts int
	// CacheEntries bounds the cache; an answer counts one, large ones up to
	// nine. Default DefaultCacheEntries, which is about 20 MiB.
	CacheEntries int
	// MinTTL and MaxTTL bound how long an answer is used, whatever it says.
	// Defaults 5s and 1h.
	MinTTL, MaxTTL time.Duration
	// NegativeTTL bounds how long "does not exist" is used. Default 5m.
	NegativeTTL time.Duration
	// MaxInFlight bounds questions under way, each with a socket. Default 256.
	MaxInFlight int
	// Own are host names of this node. An MX that names one is where a mail
	// loop would begin (RFC 5321 5.1).
	Own []string
}

// DefaultCacheEntries is Config.CacheEntries where it is zero.
const DefaultCacheEntries = 50_000

// Resolver finds the hosts of destinations. It is safe for concurrent use.
type Resolver struct {
	config  Config
	own     map[string]bool
	dialer  net.Dialer
	metrics counters
	turn    atomic.Uint32 // which server is asked first

	slots   chan struct{} // one for each question under way
	root    context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // the flights

	mu struct {
		sync.Mutex
		closed  bool
		cache   cache
		flights map[key]*flight
	}
}

// New makes a resolver. The error names a server that is not an address or the
// resolv.conf that cannot be used.
func New(c Config) (*Resolver, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	r := &Resolver{
		config: c,
		own:    make(map[string]bool),
		slots:  make(chan struct{}, c.MaxInFlight),
	}
	for _, name := range c.Own {
		r.own[plain(name)] = true
	}
	r.root, r.stop = context.WithCancel(context.Background())
	r.mu.cache = cache{room: c.CacheEntries, entries: make(map[key]*list.Element)}
	r.mu.flights = make(map[key]*flight)
	return r, nil
}

// Close ends the questions under way and waits for them.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
}

const resolvConf = "/etc/resolv.conf"

// complete fills in the defaults.
func (c *Config) complete() error {
	servers := c.Servers
	if len(servers) == 0 {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return fmt.Errorf("find the name servers: %w", err)
		}
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	if len(servers) == 0 {
		return errors.New("no name server is configured, and " + resolvConf + " names none")
	}
	c.Servers = nil
	for _, s := range servers {
		addr, err := serverAddr(s)
		if err != nil {
			return err
		}
		c.Servers = append(c.Servers, addr)
	}
	c.Timeout = or(c.Timeout, 3*time.Second)
	c.Attempts = min(or(c.Attempts, max(3, len(c.Servers))), 20)
	c.CacheEntries = or(c.CacheEntries, DefaultCacheEntries)
	c.MinTTL = or(c.MinTTL, 5*time.Second)
	c.MaxTTL = max(or(c.MaxTTL, time.Hour), c.MinTTL)
	c.NegativeTTL = max(or(c.NegativeTTL, 5*time.Minute), c.MinTTL)
	c.MaxInFlight = or(c.MaxInFlight, 256)
	return nil
}

// or is v, or def where v is zero or negative.
func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// serverAddr takes "192.0.2.1:53", "192.0.2.1", "[2001:db8::1]:53" and
// "2001:db8::1".
func serverAddr(s string) (string, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return "", fmt.Errorf("name server %q: want an address with a port, as in 127.0.0.1:53", s)
	}
	return netip.AddrPortFrom(a, 53).String(), nil
}
