package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/controlplane/keyspace"
)

// Options are one cluster under test.
type Options struct {
	Binary  string // default: as candidate.Binary finds it
	Dir     string // for all data
	Host    string // loopback address that all listen on; default 127.0.0.1
	Nodes   int    // default 3
	Members int    // of etcd; default 3
	// Resolver and Port are where the receivers are: the witness', or a farm's.
	Resolver string
	Port     int
	Policy   string // YAML resources
	// Direct leaves the proxies out: nothing will be cut.
	Direct bool
	// LeaseTTL, LeaseMargin and Quarantine are those of the nodes, as in
	// hikyaku.yaml. Default 4s, 1s, 4s: shorter than the product's own, so that a
	// story takes seconds.
	LeaseTTL, LeaseMargin, Quarantine string
	// Args are further arguments of serve, as those that take a protection away.
	Args []string
}

// Cluster is a set of nodes with the control plane in each of them, over an etcd
// cluster of its own. Each node reaches etcd through proxies of its own, and the
// other nodes reach it through one.
type Cluster struct {
	Etcd  *Etcd
	Nodes []*Node
	o     Options
}

// Node is one process and the network around it.
type Node struct {
	*candidate.Hikyaku
	ID string
	// ToEtcd are its ways to each etcd member, FromPeers the way by which the
	// other nodes and control planes reach it.
	ToEtcd    []*Proxy
	FromPeers *Proxy
	peer      string
}

func (o *Options) defaults() {
	set := func(v *string, to string) {
		if *v == "" {
			*v = to
		}
	}
	set(&o.Host, "127.0.0.1")
	set(&o.LeaseTTL, "4s")
	set(&o.LeaseMargin, "1s")
	set(&o.Quarantine, "4s")
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Members == 0 {
		o.Members = 3
	}
}

// StartCluster starts etcd and all nodes, and waits until they are ready.
func StartCluster(ctx context.Context, o Options) (_ *Cluster, err error) {
	o.defaults()
	if o.Binary, err = candidate.Binary(ctx, o.Binary); err != nil {
		return nil, err
	}
	c := &Cluster{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	_, text := keyspace.NewKey()
	if err := os.WriteFile(c.secret(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	if c.Etcd, err = StartEtcd(ctx, o.Binary, o.Dir, c.o.Host, o.Members); err != nil {
		return nil, err
	}
	for i := range o.Nodes {
		n, err := c.node(ctx, i)
		if n != nil {
			c.Nodes = append(c.Nodes, n)
		}
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	return c, c.apply(ctx)
}

// apply gives the cluster its policy once all nodes are there, so that the
// sources are spread over them at once; the first node alone would get them all,
// and give them away only slowly.
func (c *Cluster) apply(ctx context.Context) error {
	if c.o.Policy == "" {
		return nil
	}
	path := filepath.Join(c.o.Dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(c.o.Policy), 0o600); err != nil {
		return err
	}
	out, err := c.Nodes[0].CLI(ctx, "apply", "-f", path)
	if err != nil {
		return fmt.Errorf("apply the policy: %w\n%s", err, out)
	}
	return nil
}

func (c *Cluster) secret() string { return filepath.Join(c.o.Dir, "cluster.key") }

// node starts one node. What was begun is returned beside an error, to be closed.
func (c *Cluster) node(ctx context.Context, i int) (*Node, error) {
	n := &Node{ID: fmt.Sprintf("n%d", i+1)}
	var err error
	if n.peer, err = candidate.FreeAddressOf(c.o.Host); err != nil {
		return n, err
	}
	ways, advertise := c.Etcd.Endpoints(), n.peer
	if !c.o.Direct {
		if ways, advertise, err = n.proxies(ways); err != nil {
			return n, err
		}
	}
	gossip, err := candidate.FreeAddressOf(c.o.Host)
	if err != nil {
		return n, err
	}
	dir := filepath.Join(c.o.Dir, n.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return n, err
	}
	config := fmt.Sprintf(`cluster: {listen: %q, advertise: %q, secret_file: %q, lease_ttl: %s, lease_margin: %s, quarantine: %s}
etcd: {endpoints: ["%s"]}
gossip: {listen: %q}
`, n.peer, advertise, c.secret(), c.o.LeaseTTL, c.o.LeaseMargin, c.o.Quarantine, strings.Join(ways, `", "`), gossip)
	n.Hikyaku, err = candidate.StartHikyaku(ctx, candidate.HikyakuOptions{
		Binary: c.o.Binary, Host: c.o.Host, Name: n.ID, Dir: dir, Resolver: c.o.Resolver, Port: c.o.Port, Config: config,
		Args: c.o.Args, NodeKeys: "drain_timeout: 5s", Ready: time.Minute,
	})
	return n, err
}

// proxies puts one on each way to etcd, and one before the node's peer address.
func (n *Node) proxies(etcd []string) (ways []string, advertise string, err error) {
	for _, e := range etcd {
		p, err := NewProxy(e)
		if err != nil {
			return nil, "", err
		}
		n.ToEtcd = append(n.ToEtcd, p)
		ways = append(ways, p.Addr())
	}
	if n.FromPeers, err = NewProxy(n.peer); err != nil {
		return nil, "", err
	}
	return ways, n.FromPeers.Addr(), nil
}

// Isolate cuts a node off from etcd and from its peers, or lets it back.
func (n *Node) Isolate(cut bool) {
	for _, p := range append([]*Proxy{n.FromPeers}, n.ToEtcd...) {
		p.Set(Weather{Cut: cut})
	}
}

// Close ends all processes, paused ones too.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		if n.Hikyaku != nil {
			_ = n.Hikyaku.Kill() // that it was killed is no news
			errs = append(errs, n.Hikyaku.Close())
		}
		for _, p := range n.ToEtcd {
			errs = append(errs, p.Close())
		}
		if n.FromPeers != nil {
			errs = append(errs, n.FromPeers.Close())
		}
	}
	if c.Etcd != nil {
		errs = append(errs, c.Etcd.Close())
	}
	return errors.Join(errs...)
}

// ports of listeners are named in errors, so that a story that fails says who
// is who.
func (n *Node) String() string {
	host, port, _ := net.SplitHostPort(n.peer)
	return n.ID + " (" + host + ":" + port + ")"
}
