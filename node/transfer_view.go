package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"hikyaku/node/api"
	"hikyaku/node/transfer"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// transferMetrics are those of node/transfer, for the metrics page.
func (n *Node) transferMetrics(m *api.TransferMetrics) {
	t := n.TransferMetrics()
	*m = api.TransferMetrics{
		Sent: t.Sent, Received: t.Received, Returned: t.Returned, SentBytes: t.SentBytes, ReceivedBytes: t.ReceivedBytes,
		Refused: t.Refused, Reclaimed: t.Reclaimed, Open: int64(t.Open), Stuck: int64(t.Stuck), Moving: int64(t.Moving),
		OldestSeconds: t.OldestOpen.Seconds(), ReceivingBytes: t.Receiving, ReceivingMax: t.MaxReceiving,
	}
}

// whyMoving are the transfers that keep mail of a scope waiting because it is
// not known who has it.
func (n *Node) whyMoving(scope message.Scope) (rs []api.Reason) {
	for _, o := range n.Transfers() {
		if o.Why == "" {
			continue // on the way at this moment
		}
		ds, err := n.spool.TransferDeliveries(o.Number)
		if err != nil {
			continue
		}
		in := 0
		for _, d := range ds {
			if scope.MatchesQueue(&d.Queue) {
				in++
			}
		}
		if in == 0 {
			continue
		}
		r := api.Reason{Limit: "transfer", Scope: "node " + o.To.Name, Value: strconv.FormatUint(o.Number, 10), Used: strconv.Itoa(in)}
		r.Text = fmt.Sprintf("%d deliveries were offered to node %s (transfer %d) and it is not known yet who has them: %s", in, o.To.Name, o.Number, o.Why)
		if o.Stuck {
			r.Text += "; asking again does not help, an operator must find out"
		}
		rs = append(rs, r)
	}
	return rs
}

func transferView(o *transfer.Open) api.Transfer {
	return api.Transfer{
		Number: o.Number, To: o.To.Name, Spool: o.To.Spool, Created: o.Created,
		Deliveries: o.Deliveries, Recipients: o.Recipients, Why: o.Why, Stuck: o.Stuck,
	}
}

// OpenTransfers is api.Node.
func (n *Node) OpenTransfers(context.Context) ([]api.Transfer, error) {
	var out []api.Transfer
	for _, o := range n.Transfers() {
		out = append(out, transferView(&o))
	}
	return out, nil
}

// Reclaim is api.Node. Who ordered it is logged beside what transfer logs, and
// before: if the process ends in between, it is known who began.
func (n *Node) Reclaim(_ context.Context, number uint64, r *api.ReclaimRequest) (*api.Reclaimed, error) {
	for _, o := range n.Transfers() {
		switch {
		case o.Number != number:
			continue
		case o.Why == "":
			return nil, fmt.Errorf("transfer %d is on its way to node %s at this moment; its answer is seconds away: %w", number, o.To.Name, api.ErrConflict)
		case o.To.Spool != r.Spool:
			return nil, fmt.Errorf("transfer %d was offered to spool %s of node %s, not to %s: %w", number, o.To.Spool, o.To.Name, r.Spool, api.ErrConflict)
		}
		n.log.Warn("an operator reclaims a transfer", "transfer", number, "to", o.To.Name, "spool", o.To.Spool, "deliveries", o.Deliveries, "author", r.Author, "reason", r.Reason)
		if err := n.ReclaimTransfer(number, r.Spool); err != nil {
			if errors.Is(err, spool.ErrNotFound) { // the answer has come since
				return nil, fmt.Errorf("transfer %d was resolved meanwhile: %w", number, api.ErrConflict)
			}
			return nil, err
		}
		return &api.Reclaimed{Transfer: transferView(&o), Author: r.Author}, nil
	}
	return nil, fmt.Errorf("transfer %d is not open: who has its deliveries is known: %w", number, api.ErrNotFound)
}
