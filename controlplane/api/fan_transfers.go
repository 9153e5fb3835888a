package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

// NodeTransfer is deliveries that a node has offered to another one, of which it
// is not known yet which of the two has them.
type NodeTransfer struct {
	Node       string    `json:"node" doc:"The node that offered them, where they wait."`
	Number     uint64    `json:"number" doc:"Given once by that node; another node may have the same."`
	To         string    `json:"to" doc:"Name of the node that they were offered to."`
	Spool      string    `json:"spool" doc:"Id of that node's spool."`
	Created    time.Time `json:"created"`
	Deliveries int       `json:"deliveries"`
	Recipients int       `json:"recipients"`
	Why        string    `json:"why,omitempty" doc:"Why it is not known who has them; empty while they are on the way."`
	Stuck      bool      `json:"stuck" doc:"Asking again does not help: an operator must find out."`
}

// ClusterTransfers are the open transfers of all nodes, oldest first.
type ClusterTransfers struct {
	Items      []NodeTransfer `json:"items"`
	Deliveries int            `json:"deliveries" doc:"In all of them."`
	Stuck      int            `json:"stuck" doc:"Of these transfers."`
	Coverage
}

// ReclaimOrder makes the deliveries of a transfer active again at the node that
// offered them, without asking the other one.
type ReclaimOrder struct {
	Spool  string `json:"spool" minLength:"1" maxLength:"64" doc:"Id of the spool that is gone for good, as the listing shows it. If it still lives, or comes back, recipients get their mail twice."`
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"How it is known that the spool is gone, for the audit log."`
}

// nodeReclaim is a ReclaimOrder as a node takes it.
type nodeReclaim struct {
	ReclaimOrder
	Author string `json:"author,omitempty"`
}

func (a *api) registerFanTransfers(h huma.API) {
	huma.Register(h, fanOp("transfers", http.MethodGet, "transfers", "List transfers between nodes whose outcome is not known"), a.transfers)
	op := fanOp("reclaim-transfer", http.MethodPost, "transfers/{node}/{number}/reclaim", "Take back the deliveries of a transfer whose receiver is gone for good", http.StatusConflict)
	op.Description = "The receiver is not asked. If its spool still lives, or comes back, the recipients get their mail twice; " +
		"a transfer to a spool that a live node has is refused."
	huma.Register(h, op, a.reclaim)
}

func (a *api) transfers(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterTransfers], error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[struct {
		Items []NodeTransfer `json:"items"`
	}](ctx, a, nodes, func(state.Node) call { return call{method: http.MethodGet, path: "/v1/transfers"} })
	if err := agreed(as); err != nil {
		return nil, err
	}
	body := &ClusterTransfers{Items: []NodeTransfer{}, Coverage: cover(as)}
	for _, x := range as {
		for _, t := range x.value.Items {
			t.Node = x.node
			body.Items = append(body.Items, t)
			body.Deliveries += t.Deliveries
			if t.Stuck {
				body.Stuck++
			}
		}
	}
	slices.SortFunc(body.Items, func(x, y NodeTransfer) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Node, y.Node), cmp.Compare(x.Number, y.Number))
	})
	return &out[ClusterTransfers]{body}, nil
}

func (a *api) reclaim(ctx context.Context, in *struct {
	Author
	NodePath
	Number uint64 `path:"number" minimum:"1"`
	Body   ReclaimOrder
}) (*out[NodeTransfer], error) {
	o := &in.Body
	if o.Reason = strings.TrimSpace(o.Reason); o.Reason == "" {
		return nil, problem(http.StatusUnprocessableEntity, "reason: say how it is known that the spool is gone")
	}
	nodes, err := a.targets(ctx, []string{in.Node})
	if err != nil {
		return nil, err
	}
	if err := a.goneFor(ctx, o.Spool); err != nil {
		return nil, err
	}
	// Unlike an order that stops mail, this one may send mail twice and can wait:
	// it is not done unless somebody can find later who did it.
	on := fmt.Sprintf("transfer %d of node %s", in.Number, in.Node)
	if a.audit != nil && !a.record(ctx, entry{"reclaim", on, o.Reason, "from spool " + o.Spool}) {
		return nil, problem(http.StatusServiceUnavailable, "the audit log cannot be written, so nothing was done; try again")
	}
	as := ask[NodeTransfer](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodPost, path: "/v1/transfers/" + strconv.FormatUint(in.Number, 10) + "/reclaim", body: nodeReclaim{*o, in.name(ctx)}}
	})
	if err := as[0].err; err != nil {
		a.record(ctx, entry{"reclaim", on, "", "not done, or not known: " + err.Error()})
		return nil, cmp.Or[error](agreed(as), problem(http.StatusServiceUnavailable, "node "+in.Node+": "+err.Error()+"; look at the transfers again"))
	}
	as[0].value.Node = in.Node
	a.log.Warn("a transfer was reclaimed", "node", in.Node, "transfer", in.Number, "spool", o.Spool, "author", in.name(ctx), "reason", o.Reason)
	return &out[NodeTransfer]{&as[0].value}, nil
}

// goneFor refuses a reclaim from a spool that a live node has: that node answers
// by itself, and what it has it sends.
func (a *api) goneFor(ctx context.Context, spool string) error {
	ns, err := a.cluster.Nodes(ctx)
	if err != nil {
		return a.clusterFail("list nodes", err)
	}
	for _, n := range ns {
		if n.Live && n.NodeID == spool {
			return problem(http.StatusConflict, fmt.Sprintf("node %s lives with spool %s: it will say itself what became of the transfer, and it would send a second time what is reclaimed", n.Name, spool))
		}
	}
	return nil
}
