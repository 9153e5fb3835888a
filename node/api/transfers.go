package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Transfer is deliveries that were offered to another node, of which it is not
// known yet which of the two has them. They wait until it is.
type Transfer struct {
	Number     uint64    `json:"number" doc:"given once by the node that offers"`
	To         string    `json:"to" doc:"name of the node that they were offered to"`
	Spool      string    `json:"spool" doc:"id of that node's spool; a node that was rebuilt under its old name has another"`
	Created    time.Time `json:"created"`
	Deliveries int       `json:"deliveries"`
	Recipients int       `json:"recipients"`
	Why        string    `json:"why,omitempty" doc:"why it is not known who has them; empty while they are on the way"`
	Stuck      bool      `json:"stuck" doc:"asking again does not help: an operator must find out"`
}

// TransferList is all open transfers of a node, oldest first. A node has at most
// a few dozen, so there are no pages.
type TransferList struct {
	Items      []Transfer `json:"items"`
	Deliveries int        `json:"deliveries" doc:"in all of them"`
	Stuck      int        `json:"stuck" doc:"of these transfers"`
}

// ReclaimRequest makes the deliveries of a transfer active again at the node that
// offered them, without asking the other one.
type ReclaimRequest struct {
	Spool  string `json:"spool" minLength:"1" maxLength:"64" doc:"id of the spool that is gone for good, as the listing shows it. If it still lives, or comes back, recipients get their mail twice"`
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"how it is known that the spool is gone"`
	Author string `json:"author,omitempty" maxLength:"300"`
}

// Reclaimed is what a reclaim brought back.
type Reclaimed struct {
	Transfer
	Author string `json:"author,omitempty"`
}

func (a *api) registerTransfers(h huma.API) {
	type none struct{}
	route(h, a, get("list-transfers", "/v1/transfers", "List transfers to other nodes whose outcome is not known"), func(ctx context.Context, _ *none) (*TransferList, error) {
		ts, err := a.node.OpenTransfers(ctx)
		if err != nil {
			return nil, err
		}
		out := &TransferList{Items: notNil(ts)}
		for i := range ts {
			out.Deliveries += ts[i].Deliveries
			if ts[i].Stuck {
				out.Stuck++
			}
		}
		return out, nil
	})
	type reclaimIn struct {
		Number uint64 `path:"number" minimum:"1"`
		Body   ReclaimRequest
	}
	post := huma.Operation{
		OperationID: "reclaim-transfer", Method: http.MethodPost, Path: "/v1/transfers/{number}/reclaim", DefaultStatus: http.StatusOK,
		Summary:     "Take back the deliveries of a transfer whose receiver is gone for good",
		Description: "The receiver is not asked. If its spool still lives, or comes back, the recipients get their mail twice.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}
	route(h, a, post, func(ctx context.Context, in *reclaimIn) (*Reclaimed, error) {
		if in.Body.Reason = strings.TrimSpace(in.Body.Reason); in.Body.Reason == "" {
			return nil, huma.Error422UnprocessableEntity("reason: say how it is known that the spool is gone")
		}
		in.Body.Author = authorOf(ctx, in.Body.Author)
		return a.node.Reclaim(ctx, in.Number, &in.Body)
	})
}
