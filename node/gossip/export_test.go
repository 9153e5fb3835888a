package gossip

import (
	"github.com/hashicorp/memberlist"
)

// SetTransport gives tests another network.
func (o *Options) SetTransport(f func(*memberlist.Config) (memberlist.NodeAwareTransport, error)) {
	o.transport = f
}

// Notify, Merge and Local are what memberlist calls.
func (g *Gossip) Notify(b []byte) { delegate{g}.NotifyMsg(b) }
func (g *Gossip) Merge(b []byte)  { delegate{g}.MergeRemoteState(b, false) }
func (g *Gossip) Local() []byte   { return delegate{g}.LocalState(false) }

// Again decodes a text of any kind and encodes it; nil when it is refused.
func Again(b []byte) []byte {
	if s, err := decodeState(b); err == nil {
		return encode(kindState, s)
	}
	if w, err := decodeWarning(b); err == nil {
		return encode(kindWarning, w)
	}
	if s, err := decodeSync(b); err == nil {
		return encode(kindSync, s)
	}
	if m, err := decodeMeta(b); err == nil {
		return append([]byte{}, m.Version...)
	}
	return nil
}

// Window is the window of one sender.
type Window struct{ w window }

func (w *Window) Take(n uint64) bool { return w.w.take(n) }

// WarningBytes is a warning of this node as it goes over the network.
func (g *Gossip) WarningBytes(seq uint64, carrier string, milliseconds int64) []byte {
	return encode(kindWarning, warningText{From: g.name, Boot: g.boot, Seq: seq, Carrier: carrier, Left: milliseconds})
}
