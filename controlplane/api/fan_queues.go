package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/state"
)

// MailQuery is a scope in query parameters.
type MailQuery struct {
	Destination string `query:"destination" maxLength:"255" doc:"Recipient domain."`
	Tenant      string `query:"tenant" maxLength:"64"`
	Stream      string `query:"stream" maxLength:"64"`
	Pool        string `query:"pool" maxLength:"64"`
	Job         string `query:"job" maxLength:"128"`
	Carrier     string `query:"carrier" maxLength:"64"`
	Source      string `query:"source" maxLength:"64"`
}

// PageQuery is the page of a merged listing.
type PageQuery struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Page  string `query:"page" maxLength:"16384" doc:"next of the page before"`
}

func (q MailQuery) values() url.Values {
	v := url.Values{}
	for _, p := range [][2]string{{"destination", q.Destination}, {"tenant", q.Tenant}, {"stream", q.Stream}, {"pool", q.Pool}, {"job", q.Job}, {"carrier", q.Carrier}, {"source", q.Source}} {
		if p[1] != "" {
			v.Set(p[0], p[1])
		}
	}
	return v
}

// owned narrows a tenant to what is its own. The nodes hold to the same; here it
// keeps the answer in one voice.
func owned(ctx context.Context, tenant *string) error {
	id := access.From(ctx)
	switch {
	case id.Owns(*tenant):
	case *tenant == "":
		*tenant = id.Tenant
	default:
		return problem(http.StatusForbidden, "this key is for the tenant "+id.Tenant+" only")
	}
	return nil
}

// fanOp is an operation that asks nodes.
func fanOp(id, method, path, summary string, statuses ...int) huma.Operation {
	return clusterOp("cluster-"+id, method, "/v1/cluster/"+path, summary, append(statuses, http.StatusForbidden, http.StatusNotFound)...)
}

type out[T any] struct{ Body *T }

func (a *api) registerFan(h huma.API) {
	huma.Register(h, fanOp("queues", http.MethodGet, "queues", "List the queues of all nodes"), a.queues)
	huma.Register(h, fanOp("why", http.MethodGet, "queues/why", "Which limits hold a scope back, on each node"), a.why)
	huma.Register(h, fanOp("deliveries", http.MethodGet, "deliveries", "List the deliveries queued for a destination"), a.deliveries)
	huma.Register(h, fanOp("message", http.MethodGet, "messages/{id}", "Show a message, wherever it is"), a.message)
	a.registerFanActions(h)
	a.registerFanJobs(h)
	a.registerFanViews(h)
	a.registerFanStreams(h)
	a.registerFanTransfers(h)
	a.registerSuppressions(h)
	a.registerFanSenders(h)
}

// listing is a merged listing under way.
type listing struct {
	from  cursor
	nodes []state.Node
	order []string // names of the nodes
}

// begin finds the nodes and the places of a listing's page. On later pages only
// the nodes that have more are asked.
func (a *api) begin(ctx context.Context, names []string, p PageQuery) (*listing, error) {
	l := &listing{}
	if p.Page != "" {
		var err error
		if l.from, err = unpack(p.Page); err != nil {
			return nil, err
		}
	}
	nodes, err := a.targets(ctx, names)
	if err != nil {
		return nil, err
	}
	if p.Page == "" {
		l.from = first(nodes, p.Limit)
	}
	for _, n := range nodes {
		if _, more := l.from.Nodes[n.Name]; more {
			l.nodes, l.order = append(l.nodes, n), append(l.order, n.Name)
		}
	}
	return l, nil
}

// ask is the call of one node's page.
func (l *listing) ask(n state.Node, path string, q url.Values) call {
	own := url.Values{}
	for k, v := range q {
		own[k] = v
	}
	own.Set("limit", strconv.Itoa(l.from.Limit))
	if token := l.from.Nodes[n.Name].Page; token != "" {
		own.Set("page", token)
	}
	return call{method: http.MethodGet, path: path, query: own}
}

type nodeQueues struct {
	Queues  []NodeQueue `json:"queues"`
	Total   int         `json:"total"`
	Next    string      `json:"next"`
	Counted bool        `json:"counted"`
}

func (a *api) queues(ctx context.Context, in *struct {
	MailQuery
	NodesQuery
	PageQuery
	Sort string `query:"sort" enum:"size,age,due,name" default:"size"`
}) (*out[ClusterQueues], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	l, err := a.begin(ctx, in.Node, in.PageQuery)
	if err != nil {
		return nil, err
	}
	q := in.values()
	q.Set("sort", in.Sort)
	as := ask[nodeQueues](ctx, a, l.nodes, func(n state.Node) call { return l.ask(n, "/v1/queues", q) })
	if err := agreed(as); err != nil {
		return nil, err
	}
	body := &ClusterQueues{Queues: []NodeQueue{}, Counted: true, Coverage: cover(as)}
	pages := map[string]page[NodeQueue]{}
	for _, x := range as {
		if x.err != nil {
			continue
		}
		for i := range x.value.Queues {
			x.value.Queues[i].Node = x.node
		}
		pages[x.node] = page[NodeQueue]{x.value.Queues, x.value.Next}
		body.Total += x.value.Total
		body.Counted = body.Counted && x.value.Counted
	}
	qs, rest := merge(l.from, pages, l.order, in.Limit, queueOrder(in.Sort), nil)
	body.Queues = append(body.Queues, qs...)
	body.Next, err = packed(rest)
	return &out[ClusterQueues]{body}, err
}

// queueOrder is the order that a node lists its queues in.
func queueOrder(by string) func(x, y *NodeQueue) bool {
	switch by {
	case "name":
		return func(x, y *NodeQueue) bool { return x.Destination < y.Destination }
	case "age":
		return func(x, y *NodeQueue) bool { return earlier(x.Oldest, y.Oldest) < 0 }
	case "due":
		return func(x, y *NodeQueue) bool { return earlier(x.NextDue, y.NextDue) < 0 }
	}
	return func(x, y *NodeQueue) bool { return x.Queued > y.Queued }
}

// earlier orders times; none is last.
func earlier(x, y *time.Time) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return 1
	case y == nil:
		return -1
	}
	return x.Compare(*y)
}

type nodeWhy struct {
	Queued  int64        `json:"queued"`
	Reasons []NodeReason `json:"reasons"`
}

func (a *api) why(ctx context.Context, in *struct {
	MailQuery
	NodesQuery
}) (*out[ClusterWhy], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[nodeWhy](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodGet, path: "/v1/queues/why", query: in.values()}
	})
	if err := agreed(as); err != nil {
		return nil, err
	}
	scope := MailScope(in.MailQuery)
	scope.Destination = strings.ToLower(strings.TrimSuffix(scope.Destination, "."))
	body := &ClusterWhy{Scope: scope, Reasons: []NodeReason{}, Coverage: cover(as)}
	for _, x := range as {
		body.Queued += x.value.Queued
		for _, r := range x.value.Reasons {
			r.Node = x.node
			body.Reasons = append(body.Reasons, r)
		}
	}
	return &out[ClusterWhy]{body}, nil
}

type nodeDeliveries struct {
	Deliveries []NodeDelivery `json:"deliveries"`
	Next       string         `json:"next"`
}

func (a *api) deliveries(ctx context.Context, in *struct {
	Destination string `query:"destination" required:"true" minLength:"1" maxLength:"255" doc:"Recipient domain."`
	Tenant      string `query:"tenant" maxLength:"64"`
	Stream      string `query:"stream" maxLength:"64"`
	Pool        string `query:"pool" maxLength:"64"`
	Job         string `query:"job" maxLength:"128"`
	NodesQuery
	PageQuery
}) (*out[ClusterDeliveries], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	l, err := a.begin(ctx, in.Node, in.PageQuery)
	if err != nil {
		return nil, err
	}
	q := MailQuery{Destination: in.Destination, Tenant: in.Tenant, Stream: in.Stream, Pool: in.Pool, Job: in.Job}.values()
	as := ask[nodeDeliveries](ctx, a, l.nodes, func(n state.Node) call { return l.ask(n, "/v1/deliveries", q) })
	if err := agreed(as); err != nil {
		return nil, err
	}
	pages := map[string]page[NodeDelivery]{}
	for _, x := range as {
		if x.err != nil {
			continue
		}
		for i := range x.value.Deliveries {
			named(&x.value.Deliveries[i], x.node)
		}
		pages[x.node] = page[NodeDelivery]{x.value.Deliveries, x.value.Next}
	}
	ds, rest := merge(l.from, pages, l.order, in.Limit, func(x, y *NodeDelivery) bool { return earlier(x.Due, y.Due) < 0 }, nil)
	body := &ClusterDeliveries{Deliveries: append([]NodeDelivery{}, ds...), Coverage: cover(as)}
	body.Next, err = packed(rest)
	return &out[ClusterDeliveries]{body}, err
}

// named puts the node's name to a delivery.
func named(d *NodeDelivery, node string) {
	d.Node = node
	if d.Recipients == nil {
		d.Recipients = []NodeRecipient{}
	}
}

func (a *api) message(ctx context.Context, in *struct {
	ID      string `path:"id" maxLength:"40" doc:"Message or delivery id."`
	Content bool   `query:"content" doc:"With the stored content."`
	From    int    `query:"from" minimum:"0" maximum:"65535" doc:"First delivery shown."`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	NodesQuery
}) (*out[ClusterMessage], error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	q := url.Values{"limit": {strconv.Itoa(in.Limit)}, "from": {strconv.Itoa(in.From)}, "content": {strconv.FormatBool(in.Content)}}
	as := ask[NodeMessage](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodGet, path: "/v1/messages/" + url.PathEscape(in.ID), query: q}
	})
	body := &ClusterMessage{Messages: []NodeMessage{}}
	for i := range as {
		x := &as[i]
		if statusOf(x.err) == http.StatusNotFound {
			x.err = nil // an answer: it is not there
			continue
		}
		if x.err != nil {
			continue
		}
		x.value.Node = x.node
		if x.value.Deliveries == nil {
			x.value.Deliveries = []NodeDelivery{}
		}
		for j := range x.value.Deliveries {
			named(&x.value.Deliveries[j], x.node)
		}
		body.Messages = append(body.Messages, x.value)
	}
	if body.Coverage = cover(as); len(body.Messages) > 0 {
		return &out[ClusterMessage]{body}, nil
	}
	return nil, cmp.Or(agreed(as), a.notAnywhere(body.Coverage, "no node knows the message: it never was, or ended longer ago than status_retention; the event log may have it"))
}

// notAnywhere is what is said when no node that answered has a thing: that it
// is not there, or, where nodes are missing, that nobody can know.
func (a *api) notAnywhere(c Coverage, text string) error {
	if c.Complete {
		return problem(http.StatusNotFound, text)
	}
	var names []string
	for _, m := range c.Missing {
		names = append(names, m.Node+" ("+m.Reason+")")
	}
	return problem(http.StatusServiceUnavailable, "no node that answered has it, and these did not answer: "+strings.Join(names[:min(len(names), 20)], ", "))
}
