package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

// check collects what is wrong with a configuration.
type check struct {
	doc  *strict.Document // nil without a file
	errs strict.Errors
}

func (k *check) bad(path, format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	if k.doc == nil {
		k.errs = append(k.errs, &strict.Error{Position: strict.Position{Line: 1, Column: 1}, Path: path, Reason: reason})
		return
	}
	k.errs = append(k.errs, k.doc.ErrorAt(path, reason))
}

func (k *check) config(c *Config) {
	if !validNodeName(c.Node.Name) {
		k.bad("node.name", "%.80q is not a name: want 1 to 64 letters, digits, '.', '_' or '-'", c.Node.Name)
	}
	if err := policy.CheckDomain(c.Node.Hostname); err != nil {
		k.bad("node.hostname", "%.80q is no host name: %v", c.Node.Hostname, err)
	}
	span(k, "node.drain_timeout", c.Node.DrainTimeout, time.Second, time.Hour)
	k.listeners(c)
	if _, err := parseResolver(c.Delivery.Resolver); err != nil {
		k.bad("delivery.resolver", "%.80q: %v", c.Delivery.Resolver, err)
	}
	number(k, "ingest.max_content_memory", c.Ingest.MaxContentMemory, 64<<20, 1<<40)
	number(k, "delivery.max_connections", c.Delivery.MaxConnections, 1, 1_000_000)
	span(k, "delivery.dead_host_time", c.Delivery.DeadHostTime, time.Second, 24*time.Hour)
	span(k, "delivery.broken_tls_time", c.Delivery.BrokenTLSTime, time.Minute, 72*time.Hour)
	number(k, "spool.min_free_percent", c.Spool.MinFreePercent, 1, 90)
	span(k, "spool.status_retention", c.Spool.StatusRetention, time.Minute, 30*24*time.Hour)
	span(k, "spool.job_retention", c.Spool.JobRetention, time.Hour, 366*24*time.Hour)
	number(k, "spool.cache_bytes", c.Spool.CacheBytes, 1<<20, 1<<40)
	number(k, "spool.memtable_bytes", c.Spool.MemTableBytes, 1<<20, 2<<30)
	span(k, "events.retention", c.Events.Retention, time.Hour, 3660*24*time.Hour)
	number(k, "events.retention_bytes", c.Events.RetentionBytes, 64<<20, 1<<50)
	k.admin(c)
	k.feedback(&c.Feedback, c.Node.Hostname)
	k.cluster(c)
	k.word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.word("log.format", c.Log.Format, "text", "json")
}

func validNodeName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// listeners asks the listeners' own checks, and looks for two on one address.
func (k *check) listeners(c *Config) {
	taken := map[string]string{}
	claim := func(path, listen string) {
		if listen == "" || strings.HasSuffix(listen, ":0") {
			return // none, or each gets a port of its own
		}
		if first, ok := taken[listen]; ok {
			if !strings.HasSuffix(path, "_listen") {
				path += ".listen"
			}
			k.bad(path, "%s is the address of %s too", listen, first)
			return
		}
		taken[listen] = path
	}
	for i := range c.Ingest.SMTP {
		l := &c.Ingest.SMTP[i]
		path := fmt.Sprintf("ingest.smtp[%d]", i)
		k.joined(path, l.Validate())
		claim(path, l.Listen)
	}
	if l := c.Ingest.HTTP; l != nil {
		k.joined("ingest.http", l.Validate())
		claim("ingest.http", l.Listen)
	}
	claim("feedback.smtp_listen", c.Feedback.SMTPListen)
	claim("feedback.http_listen", c.Feedback.HTTPListen)
	claim("admin", c.Admin.Listen)
	claim("cluster", c.Cluster.Listen)
	if c.Etcd.Listen != "" {
		claim("etcd", c.Etcd.Listen)
	}
	if c.Gossip.Listen != Off {
		claim("gossip", c.Gossip.Listen)
	}
}

// joined takes the errors of a listener apart; each begins with its key.
func (k *check) joined(path string, err error) {
	if err == nil {
		return
	}
	all := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		all = j.Unwrap()
	}
	for _, e := range all {
		key, _, _ := strings.Cut(e.Error(), " ")
		key = strings.TrimSuffix(key, ":")
		k.bad(path+"."+key, "%s", strings.TrimLeft(strings.TrimPrefix(e.Error(), key), ": "))
	}
}

func (k *check) admin(c *Config) {
	a := &c.Admin
	host, err := splitListen(a.Listen)
	if err != nil {
		k.bad("admin.listen", "%.80q: %v", a.Listen, err)
		return
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		k.bad("admin.cert_file", "cert_file and key_file: give both or none")
	}
	if !isLoopback(host) && a.TokenFile == "" {
		k.bad("admin.listen", "%s can be reached from the network, and whoever reaches it can read and stop mail: set admin.token_file (and cert_file, key_file), or listen on 127.0.0.1", a.Listen)
	}
}

// IsLoopback reports whether an address with a port can be reached from this
// machine only.
func IsLoopback(listen string) bool {
	host, err := splitListen(listen)
	return err == nil && isLoopback(host)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && a.Unmap().IsLoopback())
}

func (k *check) word(path, s string, words ...string) {
	if !slices.Contains(words, s) {
		k.bad(path, "%.40q is none of %s", s, strings.Join(words, ", "))
	}
}

func number[T int | int64 | uint64](k *check, path string, n, least, most T) {
	if n < least || n > most {
		k.bad(path, "%d is out of range: want %d to %d", n, least, most)
	}
}

func span(k *check, path string, d policy.Duration, least, most time.Duration) {
	if d.D() < least || d.D() > most {
		k.bad(path, "%s is out of range: want %s to %s", d, policy.Duration(least), policy.Duration(most))
	}
}

// Files checks what the configuration refers to: token and certificates. Load
// does not, since "config check" may run on another machine than "serve".
func (c *Config) Files() error {
	_, err := c.Token()
	errs := []error{err}
	pair := func(path, cert, key string) {
		if cert == "" {
			return
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			errs = append(errs, fmt.Errorf("%s.cert_file: %w", path, err))
		}
	}
	for i := range c.Ingest.SMTP {
		pair(fmt.Sprintf("ingest.smtp[%d]", i), c.Ingest.SMTP[i].CertFile, c.Ingest.SMTP[i].KeyFile)
	}
	if c.Ingest.HTTP != nil {
		pair("ingest.http", c.Ingest.HTTP.CertFile, c.Ingest.HTTP.KeyFile)
	}
	pair("admin", c.Admin.CertFile, c.Admin.KeyFile)
	pair("feedback", c.Feedback.CertFile, c.Feedback.KeyFile)
	if _, err := c.Feedback.FormerKeys(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Warnings are what is allowed and dangerous, in words for the log.
func (c *Config) Warnings() []string {
	var ws []string
	open := func(path, what string, ns []policy.Network) {
		for _, n := range ns {
			if !private(n.Prefix) {
				ws = append(ws, fmt.Sprintf("%s holds %s, which is not a private network: everybody there may %s", path, n, what))
			}
		}
	}
	for i := range c.Ingest.SMTP {
		l := &c.Ingest.SMTP[i]
		path := fmt.Sprintf("ingest.smtp[%d].", i)
		open(path+"relay_networks", "send mail without a login", l.RelayNetworks)
		open(path+"auth_plaintext_networks", "log in without TLS, for all on the way to read", l.AuthPlaintextNetworks)
		open(path+"xclient_networks", "say who they are with XCLIENT", l.XCLIENTNetworks)
		open(path+"proxy_networks", "say who they are with PROXY", l.ProxyNetworks)
	}
	if c.Ingest.HTTP != nil {
		open("ingest.http.open_networks", "send mail without a key", c.Ingest.HTTP.OpenNetworks)
		if host, err := splitListen(c.Ingest.HTTP.Listen); err == nil && !isLoopback(host) && c.Ingest.HTTP.CertFile == "" {
			ws = append(ws, fmt.Sprintf("ingest.http.listen %s has no TLS: keys and mail can be read on the way", c.Ingest.HTTP.Listen))
		}
	}
	if host, err := splitListen(c.Feedback.HTTPListen); err == nil && !isLoopback(host) && c.Feedback.CertFile == "" {
		ws = append(ws, fmt.Sprintf("feedback.http_listen %s has no TLS: one-click links are https (RFC 8058), so a proxy must end it in front", c.Feedback.HTTPListen))
	}
	if host, err := splitListen(c.Admin.Listen); err == nil && !isLoopback(host) && c.Admin.CertFile == "" {
		ws = append(ws, fmt.Sprintf("admin.listen %s has no TLS: the token can be read on the way", c.Admin.Listen))
	}
	return ws
}

// private reports whether a network lies in the ranges of RFC 1918, RFC 4193,
// loopback, link-local or shared space (RFC 6598).
func private(p netip.Prefix) bool {
	for _, r := range privateRanges {
		if r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}
