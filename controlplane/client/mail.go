package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"hikyaku/controlplane/api"
)

// Nodes and page of a question about mail.
type Where struct {
	Nodes []string // only these; none is all
	Limit int
	Page  string
}

func mailQuery(s api.MailScope, w Where) url.Values {
	v := values("destination", s.Destination, "tenant", s.Tenant, "stream", s.Stream, "pool", s.Pool, "job", s.Job, "carrier", s.Carrier,
		"source", s.Source, "limit", number(w.Limit), "page", w.Page)
	return on(v, w.Nodes)
}

func on(v url.Values, nodes []string) url.Values {
	if len(nodes) > 0 {
		v["node"] = nodes
	}
	return v
}

// Queues lists the queues of all nodes.
func (c *Cluster) Queues(ctx context.Context, s api.MailScope, sort string, w Where) (*api.ClusterQueues, error) {
	q := mailQuery(s, w)
	if sort != "" {
		q.Set("sort", sort)
	}
	return get[api.ClusterQueues](ctx, c, "/v1/cluster/queues", q)
}

// Why says what holds a scope back, on each node.
func (c *Cluster) Why(ctx context.Context, s api.MailScope, nodes []string) (*api.ClusterWhy, error) {
	return get[api.ClusterWhy](ctx, c, "/v1/cluster/queues/why", mailQuery(s, Where{Nodes: nodes}))
}

// Deliveries lists what is queued for a destination.
func (c *Cluster) Deliveries(ctx context.Context, s api.MailScope, w Where) (*api.ClusterDeliveries, error) {
	return get[api.ClusterDeliveries](ctx, c, "/v1/cluster/deliveries", mailQuery(s, w))
}

// MessageOptions say how much of a message is wanted.
type MessageOptions struct {
	Content     bool
	From, Limit int
	Nodes       []string
}

// Message shows a message, wherever it is.
func (c *Cluster) Message(ctx context.Context, id string, o MessageOptions) (*api.ClusterMessage, error) {
	q := on(values("from", number(o.From), "limit", number(o.Limit)), o.Nodes)
	if o.Content {
		q.Set("content", "true")
	}
	return get[api.ClusterMessage](ctx, c, "/v1/cluster/messages/"+url.PathEscape(id), q)
}

// Act holds, releases, retries, cancels or expires on all nodes. An answer whose
// Status is api.NotEverywhere is no error: repeat the order with its ID.
func (c *Cluster) Act(ctx context.Context, o *api.MailOrder) (*api.Ordered, error) {
	out := &api.Ordered{}
	if err := c.do(ctx, request{method: http.MethodPost, path: "/v1/cluster/actions", in: o}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Actions lists what stands.
func (c *Cluster) Actions(ctx context.Context, nodes []string) (*api.ClusterActions, error) {
	return get[api.ClusterActions](ctx, c, "/v1/cluster/actions", on(url.Values{}, nodes))
}

// DeleteAction ends a hold on all nodes.
func (c *Cluster) DeleteAction(ctx context.Context, id string, nodes []string) (*api.Ordered, error) {
	out := &api.Ordered{}
	if err := c.do(ctx, request{method: http.MethodDelete, path: "/v1/cluster/actions/" + url.PathEscape(id), query: on(url.Values{}, nodes)}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Jobs lists jobs over all nodes.
func (c *Cluster) Jobs(ctx context.Context, tenant, state string, w Where) (*api.ClusterJobs, error) {
	return get[api.ClusterJobs](ctx, c, "/v1/cluster/jobs", on(values("tenant", tenant, "state", state, "limit", number(w.Limit), "page", w.Page), w.Nodes))
}

func jobPath(tenant, id string) string {
	return "/v1/cluster/jobs/" + url.PathEscape(tenant) + "/" + url.PathEscape(id)
}

// Job shows a job.
func (c *Cluster) Job(ctx context.Context, tenant, id string, nodes []string) (*api.ClusterJobAnswer, error) {
	return get[api.ClusterJobAnswer](ctx, c, jobPath(tenant, id), on(url.Values{}, nodes))
}

// ChangeJob pauses, resumes, slows or cancels a job on all nodes.
func (c *Cluster) ChangeJob(ctx context.Context, tenant, id string, change api.JobOrder, nodes []string) (*api.ClusterJobAnswer, error) {
	out := &api.ClusterJobAnswer{}
	if err := c.do(ctx, request{method: http.MethodPatch, path: jobPath(tenant, id), query: on(url.Values{}, nodes), in: change}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Overview is one look at all nodes.
func (c *Cluster) Overview(ctx context.Context, nodes []string) (*api.ClusterOverview, error) {
	return get[api.ClusterOverview](ctx, c, "/v1/cluster/overview", on(url.Values{}, nodes))
}

// Lanes, Sites and Budgets list what the schedulers of the nodes know; the limit
// is for each node.
func (c *Cluster) Lanes(ctx context.Context, s api.MailScope, w Where) (*api.ClusterListing[api.NodeLane], error) {
	return get[api.ClusterListing[api.NodeLane]](ctx, c, "/v1/cluster/lanes", mailQuery(s, w))
}

// Sites is as Lanes.
func (c *Cluster) Sites(ctx context.Context, s api.MailScope, w Where) (*api.ClusterListing[api.NodeSite], error) {
	return get[api.ClusterListing[api.NodeSite]](ctx, c, "/v1/cluster/sites", mailQuery(s, w))
}

// Budgets is as Lanes.
func (c *Cluster) Budgets(ctx context.Context, s api.MailScope, w Where) (*api.ClusterListing[api.NodeBudget], error) {
	return get[api.ClusterListing[api.NodeBudget]](ctx, c, "/v1/cluster/budgets", mailQuery(s, w))
}

// EventFilter picks lines of the event logs.
type EventFilter struct {
	ID, Recipient, Sender, Tenant, Stream, Job, Tag, Type, Destination, Carrier, Source string

	Since, Until time.Time
	Limit        int
	Nodes        []string
}

func (f *EventFilter) values() url.Values {
	return on(values("id", f.ID, "recipient", f.Recipient, "sender", f.Sender, "tenant", f.Tenant, "stream", f.Stream, "job", f.Job, "tag", f.Tag,
		"type", f.Type, "destination", f.Destination, "carrier", f.Carrier, "source", f.Source, "since", stamp(f.Since), "until", stamp(f.Until),
		"limit", number(f.Limit)), f.Nodes)
}

// SearchEvents calls fn with each matching line of the event logs of all nodes,
// oldest first. The line is valid until fn returns.
func (c *Cluster) SearchEvents(ctx context.Context, f EventFilter, fn func(line []byte) error) (*api.StreamEnd, error) {
	return c.lines(ctx, "/v1/cluster/events", f.values(), fn)
}

// TailEvents follows the event logs of all nodes for at most d (0 is the
// server's default).
func (c *Cluster) TailEvents(ctx context.Context, f EventFilter, d time.Duration, fn func(line []byte) error) (*api.StreamEnd, error) {
	q := f.values()
	if d > 0 {
		q.Set("seconds", number(int((d+time.Second-1)/time.Second)))
	}
	return c.lines(ctx, "/v1/cluster/events/tail", q, fn)
}

// Trace follows SMTP sessions on all nodes; q are the parameters of /v1/trace.
// Each line names its node first.
func (c *Cluster) Trace(ctx context.Context, q url.Values, nodes []string, fn func(line []byte) error) (*api.StreamEnd, error) {
	return c.lines(ctx, "/v1/cluster/trace", on(q, nodes), fn)
}

// ErrCut says that a stream ended without its last line: the connection broke
// or the server stopped.
var ErrCut = errors.New("the stream was cut off before its end")

// maxLine is far beyond any event.
const maxLine = 1 << 20

func (c *Cluster) lines(ctx context.Context, path string, q url.Values, fn func([]byte) error) (*api.StreamEnd, error) {
	body, err := c.c.Stream(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for sc.Scan() {
		if end, ok := api.ParseStreamEnd(sc.Bytes()); ok {
			if end.Error != "" {
				return &end, errors.New(end.Error)
			}
			return &end, nil
		}
		if err := fn(sc.Bytes()); err != nil {
			return nil, err
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case sc.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrCut, sc.Err())
	}
	return nil, ErrCut
}

// TraceLine is a line of Trace.
type TraceLine struct {
	Node      string    `json:"node"`
	Time      time.Time `json:"time"`
	Session   string    `json:"session"`
	Direction string    `json:"direction"` // in or out
	Kind      string    `json:"kind"`      // sent, received or note
	Text      string    `json:"text"`
	Peer      string    `json:"peer,omitempty"`
}

// DecodeTrace decodes a line of Trace.
func DecodeTrace(line []byte) (*TraceLine, error) {
	t := &TraceLine{}
	if err := json.Unmarshal(line, t); err != nil {
		return nil, fmt.Errorf("trace line: %w", err)
	}
	return t, nil
}
