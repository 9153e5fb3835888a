package keyspace

import (
	"errors"
	"fmt"
	"strings"
)

// Protocol is the version of records and exchange that this build speaks, and
// MinProtocol the oldest that it understands. A node is let in if the two
// ranges meet.
const (
	Protocol    = 1
	MinProtocol = 1
)

// DefaultPrefix is where everything lies unless configured otherwise.
const DefaultPrefix = "/hikyaku/"

// Keys makes the names of keys under a prefix.
type Keys struct{ prefix string }

// New checks the prefix: it begins and ends with a slash.
func New(prefix string) (Keys, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	switch {
	case !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "//"):
		return Keys{}, fmt.Errorf("etcd prefix %q: want it to begin and end with a slash, as in /hikyaku/", prefix)
	case len(prefix) > 200:
		return Keys{}, errors.New("etcd prefix: at most 200 bytes")
	}
	return Keys{prefix}, nil
}

// Prefix is the common beginning.
func (k Keys) Prefix() string { return k.prefix }

// Cluster is the key of Cluster.
func (k Keys) Cluster() string { return k.prefix + "cluster" }

// PolicyHead is the key of Head.
func (k Keys) PolicyHead() string { return k.prefix + "policy/head" }

// Policy is the prefix of all that is about policy.
func (k Keys) Policy() string { return k.prefix + "policy/" }

// PolicyBase and PolicyDelta are the keys of one revision; revision 0 gives
// their prefix.
func (k Keys) PolicyBase(revision int64) string  { return numbered(k.prefix+"policy/base/", revision) }
func (k Keys) PolicyDelta(revision int64) string { return numbered(k.prefix+"policy/delta/", revision) }

// Audit is the key of one audit record; 0 gives the prefix.
func (k Keys) Audit(seq int64) string { return numbered(k.prefix+"audit/", seq) }

// Leader is the key that the leader holds.
func (k Keys) Leader() string { return k.prefix + "leader" }

// Node is the key of a registration; "" gives the prefix.
func (k Keys) Node(name string) string { return k.prefix + "nodes/" + name }

// Member is the key of a member; "" gives the prefix.
func (k Keys) Member(name string) string { return k.prefix + "members/" + name }

// Source is the key of an assignment; "" gives the prefix.
func (k Keys) Source(name string) string { return k.prefix + "sources/" + name }

// Day is the key of a daily budget; "" gives the prefix.
func (k Keys) Day(scope string) string { return k.prefix + "days/" + scope }

// Steering is the key of what was decided about a carrier's sources, and about tenants
// (TenantSteering).
func (k Keys) Steering(carrier string) string { return k.prefix + "steering/" + carrier }

// Decision is the key of one decision, by its id.
func (k Keys) Decision(id string) string { return k.prefix + "decisions/" + id }

// Learnt is the key of what the leader has counted about a carrier.
func (k Keys) Learnt(carrier string) string { return k.prefix + "learnt/" + carrier }

// Gossip is the key of the gossip key ring.
func (k Keys) Gossip() string { return k.prefix + "gossip" }

// numbered keys sort as their numbers do.
func numbered(prefix string, n int64) string {
	if n == 0 {
		return prefix
	}
	return fmt.Sprintf("%s%020d", prefix, n)
}
