package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"
)

// StrangeReply is a group of replies that no rule knows: they differ in nothing
// but names and numbers.
type StrangeReply struct {
	Carrier  string    `json:"carrier"`
	Phase    string    `json:"phase" doc:"The step in which it was said."`
	Code     uint16    `json:"code"`
	Enhanced string    `json:"enhanced,omitempty"`
	Text     string    `json:"text" doc:"Without what differs from message to message."`
	N        int64     `json:"n" doc:"How often on all nodes, since each of them started."`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// ClusterStrangeReplies are the replies that no rule knows on any node, the most
// frequent first.
type ClusterStrangeReplies struct {
	Items []StrangeReply `json:"items"`
	Coverage
}

func (a *api) unclassified(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterStrangeReplies], error) {
	items, c, err := gather(ctx, a, in.Node, call{method: http.MethodGet, path: "/v1/replies/unclassified"}, func(*StrangeReply, string) {})
	if err != nil {
		return nil, err
	}
	same := func(x, y StrangeReply) int {
		return cmp.Or(cmp.Compare(x.Carrier, y.Carrier), cmp.Compare(x.Text, y.Text), cmp.Compare(x.Phase, y.Phase), cmp.Compare(x.Code, y.Code), cmp.Compare(x.Enhanced, y.Enhanced))
	}
	slices.SortFunc(items, same)
	joined := items[:0]
	for _, x := range items {
		if n := len(joined); n > 0 && same(joined[n-1], x) == 0 {
			have := &joined[n-1]
			have.N += x.N
			if x.First.Before(have.First) {
				have.First = x.First
			}
			if x.Last.After(have.Last) {
				have.Last = x.Last
			}
			continue
		}
		joined = append(joined, x)
	}
	slices.SortStableFunc(joined, func(x, y StrangeReply) int { return cmp.Compare(y.N, x.N) })
	return &out[ClusterStrangeReplies]{&ClusterStrangeReplies{joined, c}}, nil
}
