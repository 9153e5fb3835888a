package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/node/events"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// RuleOneQueue is that what is accepted and not ended is queued on one node (I1).
const RuleOneQueue = "queued on one node"

// audit is what the disks of all nodes say together.
type audit struct {
	l      *ledger.Ledger
	queued map[int][]place // by recipient
	ended  map[int]string  // the node whose log says so
}

// place is a node in whose queue a recipient is; moving names the node to which
// it was offered, from which on it is not this one's to send.
type place struct{ node, moving string }

// Audit reads the event logs and spools of the nodes, which must have ended, into
// the ledger. What it returns is what no single ledger can see: a recipient that
// is in two queues, or in a queue after its end.
func (c *Cluster) Audit(ctx context.Context, l *ledger.Ledger) ([]Violation, error) {
	a := &audit{l: l, queued: map[int][]place{}, ended: map[int]string{}}
	for _, n := range c.Nodes {
		if err := a.node(ctx, n.ID, filepath.Join(n.Dir, "data")); err != nil {
			return nil, fmt.Errorf("audit of %s: %w", n.ID, err)
		}
	}
	l.LogRead()
	return a.twice(), nil
}

func (a *audit) node(ctx context.Context, node, data string) error {
	ends := map[message.EventType]message.State{
		message.EventDelivered: message.Delivered, message.EventBounced: message.Bounced, message.EventSuppressed: message.Bounced,
		message.EventExpired: message.Expired, message.EventCancelled: message.Cancelled,
	}
	q := events.Query{Type: "accepted,delivered,bounced,expired,cancelled,suppressed"}
	found, err := events.SearchDir(ctx, filepath.Join(data, "events"), q, func(rec *message.EventRecord, _ []byte) error {
		n, ok := number(rec.Recipient)
		switch {
		case !ok: // a notice to a sender
		case rec.Type == message.EventAccepted:
			a.l.Logged(n)
		default:
			a.l.Ended(n, ends[rec.Type])
			a.ended[n] = node
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the event log: %w", err)
	}
	if found.DamagedBytes > 0 {
		return fmt.Errorf("the event log has %d damaged bytes", found.DamagedBytes)
	}
	var lines bytes.Buffer
	if err := spool.Dump(filepath.Join(data, "spool"), &lines, message.Scope{}); err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	for line := range bytes.Lines(lines.Bytes()) {
		var d spool.DumpedDelivery
		if err := json.Unmarshal(line, &d); err != nil {
			return fmt.Errorf("a dumped delivery: %w", err)
		}
		p := place{node: node}
		if d.MovingTo != nil {
			p.moving = d.MovingTo.Name
		}
		for _, r := range d.Recipients {
			if n, ok := number(r); ok {
				a.l.Queued(n)
				a.queued[n] = append(a.queued[n], p)
			}
		}
	}
	return nil
}

// number is that of a recipient of the stories; false for any other address.
func number(recipient string) (int, bool) {
	if !strings.HasSuffix(recipient, "."+zone) {
		return 0, false
	}
	return ledger.Number(recipient)
}

func (a *audit) twice() (vs []Violation) {
	for n, ps := range a.queued {
		// Offered to another node and not yet told that it arrived, a delivery lies on
		// both; the one that offered it sends nothing of it.
		live := slices.DeleteFunc(slices.Clone(ps), func(p place) bool { return p.moving != "" })
		if len(live) > 1 {
			vs = append(vs, Violation{RuleOneQueue, time.Duration(0), fmt.Sprintf("recipient %d is queued on %v", n, ps)})
		}
		if by := a.ended[n]; by != "" && len(live) > 0 {
			vs = append(vs, Violation{RuleOneQueue, time.Duration(0), fmt.Sprintf("recipient %d has an end in the log of %s and is queued on %v", n, by, ps)})
		}
	}
	slices.SortFunc(vs, func(a, b Violation) int { return strings.Compare(a.Text, b.Text) })
	return vs
}
