package node

import (
	"fmt"
	"strconv"

	"hikyaku/node/api"
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
