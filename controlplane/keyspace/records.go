package keyspace

import "time"

// Cluster is written by the first control plane that finds no other.
type Cluster struct {
	// ID is 128 random bits in hex. Every node keeps the one it first joined
	// and refuses to join another.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Sealed is a known text sealed with the cluster key, so that a control
	// plane or node with another key is refused at its start.
	Sealed string `json:"sealed"`
}

// Leader is the one control plane that assigns and grants.
type Leader struct {
	Name string `json:"name"`
	// Address is where nodes make their exchange, "host:port".
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	Version string    `json:"version"`
}

// Registration says that a node is alive. It is bound to the node's lease, so
// etcd removes it when the node has not renewed for a TTL.
type Registration struct {
	Name string `json:"name"`
	// NodeID is the identity of the node's spool. A node of the same name with
	// another identity is refused while this one lives; with the same identity
	// it is the next incarnation, since the data directory is locked: the
	// process before it is dead.
	NodeID string `json:"node_id"`
	// Lease is the etcd lease; a new incarnation has a new one. Replaces is the
	// lease of the incarnation before, if that was still registered.
	Lease    int64 `json:"lease"`
	Replaces int64 `json:"replaces,omitempty"`
	// TTL is the lease's, in nanoseconds.
	TTL      time.Duration `json:"ttl"`
	Started  time.Time     `json:"started"`
	Version  string        `json:"version"`
	Protocol [2]int        `json:"protocol"` // oldest and newest understood
	// Peer is where other nodes and the control plane reach it: transfer and
	// the node's part of the admin API. Gossip is its gossip address.
	Peer   string            `json:"peer"`
	Gossip string            `json:"gossip,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Capacity is how many sources' worth of work it takes beside others; 0 is 1.
	Capacity int `json:"capacity,omitempty"`
}

// Member is a node that has joined once. It stays when the node is down, since
// a node that is cut off goes on sending at its floor.
type Member struct {
	Name   string    `json:"name"`
	NodeID string    `json:"node_id"`
	Joined time.Time `json:"joined"`
	// Rank tells members apart by a small number, from 0, never used twice at
	// a time: the lowest ranks have a floor where a budget is too small for all.
	Rank int `json:"rank"`
	// Floor is the share of every budget that the node may use without a
	// grant, in FullShare parts. It is lowered only after the node has
	// confirmed the lower one.
	Floor int64 `json:"floor"`
	// Drain is DrainNone, Draining or Drained.
	Drain   string    `json:"drain,omitempty"`
	DrainAt time.Time `json:"drain_at,omitzero"`
}

// FullShare is the whole of a budget; shares are parts of it.
const FullShare = 1 << 16

// The words of Member.Drain.
const (
	DrainNone = ""
	Draining  = "draining"
	Drained   = "drained"
)

// Assignment says who may send from a source.
type Assignment struct {
	Source string `json:"source"`
	// Epoch rises with each new holder, and never falls while the source is
	// known.
	Epoch int64 `json:"epoch"`
	// Node and Lease are the holder and the lease by which it holds; the node
	// may use the source while that very lease of its own holds.
	Node  string `json:"node,omitempty"`
	Lease int64  `json:"lease,omitempty"`
	// Address is the sending address that is held. What must be one node's at a
	// time is the address and not its name: the holder may use the source only
	// while policy names the same one, and the leader gives an address to nobody
	// while another source's assignment that is not free has it.
	Address string `json:"address,omitempty"`
	// To is the node that it is meant for, where a person ordered that.
	To string `json:"to,omitempty"`
	// State is one of the words below.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Reason is why it stands so, for people.
	Reason string `json:"reason,omitempty"`
}

// The words of Assignment.State.
const (
	// Held: Node may send from it.
	Held = "held"
	// Releasing: Node must stop, and say so in its exchange.
	Releasing = "releasing"
	// Quarantined: its holder has died or is cut off; nobody may send until
	// its last word has faded.
	Quarantined = "quarantined"
	// Free: nobody holds it and nobody may.
	Free = "free"
)

// Day is the state of a daily budget: what was given out in slots of ten
// minutes. What was given counts until 24 hours after the last moment at which
// it can have been used: its slot's end and two slots more.
type Day struct {
	Slots []DaySlot `json:"slots"`
	// Taken says of members how much of what they had counted beyond their
	// floors is in Slots, so that it is taken in once.
	Taken map[string]int64 `json:"taken,omitempty"`
}

// DaySlot is what was given in the ten minutes from Start (Unix seconds).
type DaySlot struct {
	Start int64 `json:"start"`
	N     int64 `json:"n"`
}

// Head is the policy in force.
type Head struct {
	Revision int64 `json:"revision"`
	// Base is the newest revision that lies whole under policy/base.
	Base int64 `json:"base"`
	// Sum is the chained SHA-256 sum of the delta at Revision, in hex.
	Sum string `json:"sum"`
}

// GossipRing are the keys with which gossip is encrypted. Each key goes in three
// steps: it is added, so that all nodes can read it; used, so that all encrypt
// with it; and the one before is removed.
type GossipRing struct {
	Keys []GossipKey `json:"keys"`
	// Use is the ID of the key that encrypts.
	Use string `json:"use"`
}

// GossipKey is one key of the ring.
type GossipKey struct {
	ID string `json:"id"`
	// Sealed is the key itself, in hex, sealed for the place GossipPlace.
	Sealed string    `json:"sealed"`
	Added  time.Time `json:"added"`
	Author string    `json:"author,omitempty"`
}

// MaxGossipKeys bounds the ring: one key, and one that is coming or going.
const MaxGossipKeys = 2

// GossipPlace is where the gossip key of an ID is sealed for (Key.Seal).
func GossipPlace(id string) string { return "gossip " + id }
