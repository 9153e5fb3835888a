package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
)

// Off as an HTTP listener's address is no listener.
const Off = "off"

// Load reads a file, fills in the defaults and checks all of it. With "" it
// gives the defaults. Errors are strict.Errors where they have a place.
func Load(path string) (*Config, error) {
	if path == "" {
		return Parse("", nil)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse is Load for bytes; name is for errors.
func Parse(name string, data []byte) (*Config, error) {
	docs, err := strict.Parse(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) > 1 {
		return nil, strict.Errors{docs[1].ErrorAt("", "want one document; resources of policy belong in a file of their own (--policy, or \"hikyaku apply -f\")")}
	}
	c := &Config{}
	var doc *strict.Document
	if len(docs) == 1 {
		doc = docs[0]
		if errs := doc.Decode(c); len(errs) > 0 {
			return nil, errs
		}
	}
	c.fillDefaults()
	k := &check{doc: doc}
	k.config(c)
	if len(k.errs) > 0 {
		return nil, k.errs
	}
	return c, nil
}

func (c *Config) fillDefaults() {
	loopback := []policy.Network{
		{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
		{Prefix: netip.MustParsePrefix("::1/128")},
	}
	machine, err := os.Hostname()
	if err != nil || machine == "" {
		machine = "localhost"
	}
	machine = strings.ToLower(machine)
	label, _, _ := strings.Cut(machine, ".")
	orDefault(&c.Node.Name, label)
	orDefault(&c.Node.Hostname, machine)
	orDefault(&c.Node.DataDir, "./hikyaku-data")
	orDefault(&c.Node.DrainTimeout, policy.Duration(30*time.Second))

	if c.Ingest.SMTP == nil {
		c.Ingest.SMTP = []ingest.SMTPListener{{Listen: "127.0.0.1:2525", RelayNetworks: loopback}}
	}
	if c.Ingest.HTTP == nil {
		c.Ingest.HTTP = &ingest.HTTPListener{Listen: "127.0.0.1:8025", OpenNetworks: loopback}
	}
	orDefault(&c.Ingest.HTTP.Listen, "127.0.0.1:8025")
	if c.Ingest.HTTP.Listen == Off {
		c.Ingest.HTTP = nil
	}
	orDefault(&c.Ingest.MaxContentMemory, 1<<30)

	orDefault(&c.Feedback.Hostname, c.Node.Hostname)
	orDefault(&c.Feedback.MaxMessageSize, 1<<20)
	orDefault(&c.Feedback.MaxPerClient, 50)

	orDefault(&c.Delivery.Port, 25)
	orDefault(&c.Delivery.MaxConnections, 10_000)
	orDefault(&c.Delivery.DeadHostTime, policy.Duration(10*time.Minute))
	orDefault(&c.Delivery.BrokenTLSTime, policy.Duration(72*time.Hour))

	orDefault(&c.Spool.MinFreeBytes, 512<<20)
	orDefault(&c.Spool.MinFreePercent, 2)
	orDefault(&c.Spool.StatusRetention, policy.Duration(time.Hour))
	orDefault(&c.Spool.JobRetention, policy.Duration(30*24*time.Hour))
	orDefault(&c.Spool.CacheBytes, 64<<20)
	orDefault(&c.Spool.MemTableBytes, 64<<20)
	orDefault(&c.Events.Retention, policy.Duration(7*24*time.Hour))
	orDefault(&c.Events.RetentionBytes, 20<<30)

	orDefault(&c.Admin.Listen, "127.0.0.1:8080")
	c.fillCluster()
	orDefault(&c.Log.Level, "info")
	orDefault(&c.Log.Format, "text")
}

func (c *Config) fillCluster() {
	orDefault(&c.Cluster.Roles, RoleAll)
	orDefault(&c.Cluster.Listen, "127.0.0.1:0")
	orDefault(&c.Cluster.SecretFile, c.Path("cluster.key"))
	orDefault(&c.Cluster.Capacity, 100)
	orDefault(&c.Cluster.LeaseTTL, policy.Duration(10*time.Second))
	orDefault(&c.Cluster.LeaseMargin, policy.Duration(2*time.Second))
	orDefault(&c.Cluster.Quarantine, policy.Duration(10*time.Second))
	orDefault(&c.Etcd.Prefix, keyspace.DefaultPrefix)
	if c.Gossip.Listen == "" {
		if c.Gossip.Listen = Off; len(c.Etcd.Endpoints) > 0 {
			c.Gossip.Listen = "127.0.0.1:7946"
		}
	}
}

// Override takes what the flags of serve say in place of the file: roles and
// the etcd endpoints of the cluster to join. It checks again.
func (c *Config) Override(roles string, join []string) error {
	if roles != "" {
		c.Cluster.Roles = roles
	}
	if len(join) > 0 {
		c.Etcd.Endpoints = join
		if c.Gossip.Listen == Off {
			c.Gossip.Listen = ""
		}
		c.fillCluster()
	}
	k := &check{}
	k.cluster(c)
	if len(k.errs) > 0 {
		return k.errs
	}
	return nil
}

// Carries and Decides report whether this process has the role of a node, and
// of the control plane.
func (c *Config) Carries() bool { return c.Cluster.Roles != RoleControl }
func (c *Config) Decides() bool { return c.Cluster.Roles != RoleNode }

// The words of Cluster.Roles.
const (
	RoleAll     = "all"
	RoleNode    = "node"
	RoleControl = "control"
)

func orDefault[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// Uses reports whether an address has the port of a listener other than that of
// peers, so that it must not be taken by chance.
func (c *Config) Uses(a net.Addr) bool {
	listens := []string{c.Admin.Listen, c.Etcd.Listen, c.Gossip.Listen, c.Feedback.SMTPListen, c.Feedback.HTTPListen}
	for i := range c.Ingest.SMTP {
		listens = append(listens, c.Ingest.SMTP[i].Listen)
	}
	if c.Ingest.HTTP != nil {
		listens = append(listens, c.Ingest.HTTP.Listen)
	}
	_, port, err := net.SplitHostPort(a.String())
	if _, asked, _ := net.SplitHostPort(c.Cluster.Listen); err != nil || asked != "0" {
		return false
	}
	for _, l := range listens {
		if _, p, err := net.SplitHostPort(l); err == nil && p == port {
			return true
		}
	}
	return false
}

// Path is a path in the data directory.
func (c *Config) Path(elem ...string) string {
	return filepath.Join(append([]string{c.Node.DataDir}, elem...)...)
}

// Token reads the admin API's bearer token; "" when there is none.
func (c *Config) Token() (string, error) {
	if c.Admin.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.Admin.TokenFile)
	if err != nil {
		return "", fmt.Errorf("admin.token_file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("admin.token_file %s: want a token of at least %d printable characters on one line, as from \"openssl rand -hex 32\"", c.Admin.TokenFile, minToken)
	}
	return token, nil
}

const minToken = 16

// Certificate reads the admin API's certificate; nil when it speaks plain HTTP.
func (c *Config) Certificate() (*tls.Certificate, error) {
	if c.Admin.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Admin.CertFile, c.Admin.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("admin.cert_file: %w", err)
	}
	return &cert, nil
}

// Resolver is the DNS server to ask; the zero value leaves it to the system.
func (c *Config) Resolver() netip.AddrPort {
	a, _ := parseResolver(c.Delivery.Resolver) // checked by Parse
	return a
}

func parseResolver(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return netip.AddrPort{}, errors.New("want an address or address:port, as in 127.0.0.1:53 or [::1]:53; names cannot be resolved before there is a resolver")
	}
	return a, nil
}

// LogLevel is Log.Level for slog.
func (c *Config) LogLevel() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Log.Level)); err != nil {
		panic("BUG: log level was not checked: " + err.Error())
	}
	return l
}

func splitListen(s string) (host string, err error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" {
		return "", errors.New("want address:port, as in 127.0.0.1:8080")
	}
	return host, nil
}
