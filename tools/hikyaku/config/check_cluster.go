package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
)

// maxLabels bounds cluster.labels.
const maxLabels = 32

// cluster checks what is about other machines.
func (k *check) cluster(c *Config) {
	l := &c.Cluster
	k.word("cluster.roles", l.Roles, RoleAll, RoleNode, RoleControl)
	if l.Roles == RoleNode && len(c.Etcd.Endpoints) == 0 {
		k.bad("cluster.roles", "a node without a control plane of its own must know where one is: set etcd.endpoints, or --join")
	}
	k.peer("cluster", l.Listen, l.Advertise)
	given := 0
	for _, f := range []string{l.CertFile, l.KeyFile, l.CAFile} {
		if f != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		k.bad("cluster.cert_file", "cert_file, key_file and ca_file: give all three or none")
	}
	if host, err := splitListen(l.Listen); err == nil && !isLoopback(host) && given == 0 {
		k.bad("cluster.listen", "%s can be reached from the network: set cert_file, key_file and ca_file, by which nodes know each other, or listen on 127.0.0.1", l.Listen)
	}
	k.labels(l.Labels)
	for i, p := range l.Programs {
		if !filepath.IsAbs(p) {
			k.bad(fmt.Sprintf("cluster.programs[%d]", i), "%.80q: want an absolute path", p)
		}
	}
	number(k, "cluster.capacity", l.Capacity, 1, 1000)
	span(k, "cluster.lease_ttl", l.LeaseTTL, 2*time.Second, 10*time.Minute)
	span(k, "cluster.quarantine", l.Quarantine, time.Second, time.Hour)
	if l.LeaseMargin <= 0 || l.LeaseMargin > l.LeaseTTL/2 {
		k.bad("cluster.lease_margin", "%s is out of range: want more than 0 and at most half of lease_ttl (%s)", l.LeaseMargin, l.LeaseTTL)
	}
	k.etcd(&c.Etcd)
	if c.Gossip.Listen != Off {
		k.peer("gossip", c.Gossip.Listen, c.Gossip.Advertise)
	}
}

// peer checks an address for others to reach. Behind a wildcard they need to be
// told which address is meant.
func (k *check) peer(path, listen, advertise string) {
	host, err := splitListen(listen)
	if err != nil {
		k.bad(path+".listen", "%.80q: %v", listen, err)
		return
	}
	if a, err := netip.ParseAddr(host); advertise == "" && (host == "" || err == nil && a.IsUnspecified()) {
		k.bad(path+".advertise", "listen %s says no address that others could use: set %s.advertise", listen, path)
	}
	if advertise == "" {
		return
	}
	if host, port, err := net.SplitHostPort(advertise); err != nil || host == "" || port == "" || port == "0" {
		k.bad(path+".advertise", "%.80q: want host:port, as in 10.0.0.1:8081", advertise)
	}
}

func (k *check) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		k.bad("cluster.labels", "there are %d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for key, value := range labels {
		if !validNodeName(key) || !validNodeName(value) {
			k.bad("cluster.labels", "%.40s: %.40q: keys and values are 1 to 64 letters, digits, '.', '_' or '-'", key, value)
		}
	}
}

func (k *check) etcd(e *Etcd) {
	for i, s := range e.Endpoints {
		if err := checkEndpoint(s); err != nil {
			k.bad(fmt.Sprintf("etcd.endpoints[%d]", i), "%.80q: %v", s, err)
		}
	}
	if _, err := keyspace.New(e.Prefix); err != nil {
		k.bad("etcd.prefix", "%v", err)
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		k.bad("etcd.cert_file", "cert_file and key_file: give both or none")
	}
	if (e.Username == "") != (e.PasswordFile == "") {
		k.bad("etcd.username", "username and password_file: give both or none")
	}
	host, err := splitListen(e.Listen)
	if e.Listen == "" {
		return
	}
	if err != nil {
		k.bad("etcd.listen", "%.80q: %v", e.Listen, err)
	} else if !isLoopback(host) {
		k.bad("etcd.listen", "%s can be reached from the network, and the etcd inside this process asks nobody who they are: for several machines run etcd of its own, with TLS, and set etcd.endpoints", e.Listen)
	}
}

func checkEndpoint(s string) error {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		u, err := url.Parse(s)
		if err != nil || (scheme != "http" && scheme != "https") || u.Host != rest {
			return errors.New("want https://host:port, http://host:port or host:port")
		}
		s = rest
	}
	if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
		return errors.New("want https://host:port, http://host:port or host:port")
	}
	return nil
}
