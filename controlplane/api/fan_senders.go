package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

// NodeWebhook is how one webhook stands on one node; each node posts its own
// events.
type NodeWebhook struct {
	Node          string     `json:"node"`
	Name          string     `json:"name"`
	Tenant        string     `json:"tenant,omitempty" doc:"Whose events are posted; empty is all."`
	Endpoint      string     `json:"endpoint" doc:"Scheme and host of the URL; the rest can be a secret."`
	State         string     `json:"state" doc:"ok, retrying, open (failing for long, asked now and then), gone (the endpoint answered 410), disabled or broken."`
	Since         *time.Time `json:"since,omitempty" doc:"Of the run of failures."`
	Behind        uint64     `json:"behind" doc:"Numbers of the event log not yet dealt with."`
	BehindSeconds float64    `json:"behind_seconds" doc:"Age of the oldest event that waits."`
	LastSuccess   *time.Time `json:"last_success,omitempty"`
	LastError     string     `json:"last_error,omitempty"`
	LastErrorAt   *time.Time `json:"last_error_at,omitempty"`
	NextTry       *time.Time `json:"next_try,omitempty"`
	Posted        uint64     `json:"posted" doc:"Events, since the node started."`
	Requests      uint64     `json:"requests" doc:"That were taken."`
	Failures      uint64     `json:"failures" doc:"Requests that were not."`
	GivenUp       uint64     `json:"given_up" doc:"Events that will not be posted."`
	Lost          uint64     `json:"lost" doc:"Numbers of the event log that its retention removed before they were read, or that are damaged."`
	Unreadable    uint64     `json:"unreadable" doc:"Lines of the event log that are not JSON and were left out, since the node started."`
	LastGivenUp   *Range     `json:"last_given_up,omitempty"`
}

// Range is events of one run of failures that will not be posted.
type Range struct {
	First  string    `json:"first" doc:"Event id."`
	Last   string    `json:"last"`
	Events int       `json:"events"`
	From   time.Time `json:"from" doc:"Time of the oldest."`
	To     time.Time `json:"to"`
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// ClusterWebhooks are the webhooks of all nodes, by name.
type ClusterWebhooks struct {
	Items []NodeWebhook `json:"items"`
	Coverage
}

// NodePing is what came of a ping that one node sent.
type NodePing struct {
	Node       string  `json:"node"`
	Name       string  `json:"name"`
	OK         bool    `json:"ok" doc:"The endpoint took it (2xx)."`
	HTTPStatus int     `json:"http_status,omitempty"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error,omitempty"`
}

// ClusterPings is a ping from each node.
type ClusterPings struct {
	Items []NodePing `json:"items"`
	Coverage
}

// NodeSigningKey is a key that a node signs with.
type NodeSigningKey struct {
	Node     string `json:"node" doc:"The first that has it."`
	Name     string `json:"name" doc:"Of the resource."`
	Domain   string `json:"domain"`
	Selector string `json:"selector"`
	DNSText  string `json:"dns_txt" doc:"Text of the record at selector._domainkey.domain."`
}

// ClusterSigningKeys are the keys of all nodes, each once.
type ClusterSigningKeys struct {
	Items []NodeSigningKey `json:"items"`
	Coverage
}

// NodeListing is what one DNS blocklist says of one source.
type NodeListing struct {
	Node    string     `json:"node" doc:"The node that has the source and asked."`
	Source  string     `json:"source"`
	Address string     `json:"address"`
	Zone    string     `json:"zone"`
	State   string     `json:"state" doc:"waiting, clear, listed, refused (the list does not answer our resolver) or failed."`
	Means   []string   `json:"means,omitempty" doc:"What the answers mean, or why there are none."`
	Reason  string     `json:"reason,omitempty" doc:"What the list says."`
	Checked *time.Time `json:"checked,omitempty"`
	Since   *time.Time `json:"since,omitempty" doc:"Of being listed."`
}

// ClusterListings is what DNS blocklists say of the sources of all nodes.
type ClusterListings struct {
	Items []NodeListing `json:"items"`
	Coverage
}

func (a *api) registerFanSenders(h huma.API) {
	huma.Register(h, fanOp("webhooks", http.MethodGet, "webhooks", "List webhooks and how they stand on each node"), a.webhooks)
	huma.Register(h, fanOp("test-webhook", http.MethodPost, "webhooks/{name}/test", "Post an event of the type ping to a webhook, from each node"), a.testWebhook)
	huma.Register(h, fanOp("signing-keys", http.MethodGet, "signing-keys", "List the keys that sign mail, with the records to publish"), a.signingKeys)
	huma.Register(h, fanOp("blocklists", http.MethodGet, "blocklists", "List what DNS blocklists say of the sources"), a.blocklists)
	huma.Register(h, fanOp("unclassified-replies", http.MethodGet, "replies/unclassified", "List replies that no rule knows, in groups"), a.unclassified)
}

// gather asks nodes for a listing and joins the answers; name says whose an item
// is.
func gather[T any](ctx context.Context, a *api, names []string, c call, name func(*T, string)) ([]T, Coverage, error) {
	nodes, err := a.targets(ctx, names)
	if err != nil {
		return nil, Coverage{}, err
	}
	as := ask[struct {
		Items []T `json:"items"`
	}](ctx, a, nodes, func(state.Node) call { return c })
	if err := agreed(as); err != nil {
		return nil, Coverage{}, err
	}
	items := []T{}
	for _, x := range as {
		for _, v := range x.value.Items {
			name(&v, x.node)
			items = append(items, v)
		}
	}
	return items, cover(as), nil
}

func (a *api) webhooks(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterWebhooks], error) {
	items, c, err := gather(ctx, a, in.Node, call{method: http.MethodGet, path: "/v1/webhooks"}, func(w *NodeWebhook, node string) { w.Node = node })
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(items, func(x, y NodeWebhook) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Node, y.Node))
	})
	return &out[ClusterWebhooks]{&ClusterWebhooks{items, c}}, nil
}

func (a *api) testWebhook(ctx context.Context, in *struct {
	NodesQuery
	Name string `path:"name" maxLength:"64"`
}) (*out[ClusterPings], error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[NodePing](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodPost, path: "/v1/webhooks/" + url.PathEscape(in.Name) + "/test"}
	})
	if err := agreed(as); err != nil {
		return nil, err
	}
	body := &ClusterPings{Items: []NodePing{}, Coverage: cover(as)}
	for _, x := range as {
		if x.err == nil {
			x.value.Node = x.node
			body.Items = append(body.Items, x.value)
		}
	}
	return &out[ClusterPings]{body}, nil
}

func (a *api) signingKeys(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterSigningKeys], error) {
	items, c, err := gather(ctx, a, in.Node, call{method: http.MethodGet, path: "/v1/signing-keys"}, func(k *NodeSigningKey, node string) { k.Node = node })
	if err != nil {
		return nil, err
	}
	same := func(x, y NodeSigningKey) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.DNSText, y.DNSText))
	}
	slices.SortStableFunc(items, same)
	items = slices.CompactFunc(items, func(x, y NodeSigningKey) bool { return same(x, y) == 0 })
	return &out[ClusterSigningKeys]{&ClusterSigningKeys{items, c}}, nil
}

func (a *api) blocklists(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterListings], error) {
	items, c, err := gather(ctx, a, in.Node, call{method: http.MethodGet, path: "/v1/blocklists"}, func(l *NodeListing, node string) { l.Node = node })
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(items, func(x, y NodeListing) int {
		return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Address, y.Address), cmp.Compare(x.Zone, y.Zone))
	})
	return &out[ClusterListings]{&ClusterListings{items, c}}, nil
}
