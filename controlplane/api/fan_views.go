package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

// NodeLane is the connections from one source to one site, on one node.
type NodeLane struct {
	Node        string     `json:"node"`
	Source      string     `json:"source"`
	Site        string     `json:"site"`
	Carrier     string     `json:"carrier"`
	Connections int        `json:"connections"`
	Idle        int        `json:"idle"`
	Until       *time.Time `json:"until,omitempty" doc:"Rests until then."`
	Last        string     `json:"last,omitempty" doc:"Last reply that was no success."`
}

// NodeSite is an MX host set as one node knows it.
type NodeSite struct {
	Node         string     `json:"node"`
	Site         string     `json:"site"`
	Carrier      string     `json:"carrier"`
	Destinations int        `json:"destinations"`
	Connections  int        `json:"connections"`
	Failures     int        `json:"failures" doc:"Attempts in a row in which no host took a connection."`
	Until        *time.Time `json:"until,omitempty" doc:"Rests until then."`
	Last         string     `json:"last,omitempty"`
}

// NodeBudget is one limit and how much of it is left, on one node.
type NodeBudget struct {
	Node      string     `json:"node"`
	Scope     string     `json:"scope" doc:"Where it stands, as in carrier docomo or tenant shop."`
	Kind      string     `json:"kind" doc:"rate, per_day, connections or connection_rate."`
	Limit     string     `json:"limit" doc:"The node's part of it."`
	Used      int64      `json:"used"`
	Available int64      `json:"available"`
	Until     *time.Time `json:"until,omitempty" doc:"When some of it comes back."`
}

// ClusterListing is a listing over all nodes, without paging.
type ClusterListing[T any] struct {
	Items []T `json:"items"`
	Coverage
}

// Flow is a rate of everything, per second. All count recipients but attempts,
// which counts transactions.
type Flow struct {
	Accepted  float64 `json:"accepted"`
	Delivered float64 `json:"delivered"`
	Deferred  float64 `json:"deferred"`
	Bounced   float64 `json:"bounced"`
	Attempts  float64 `json:"attempts"`
}

// QueueSizes count deliveries.
type QueueSizes struct {
	Queued       int64         `json:"queued"`
	Ready        int64         `json:"ready" doc:"Due now."`
	InFlight     int64         `json:"in_flight"`
	Held         int64         `json:"held"`
	Destinations int64         `json:"destinations" doc:"Over nodes: each counts its own."`
	Counted      bool          `json:"counted"`
	Silent       time.Duration `json:"silent_ns" doc:"Longest time that a due delivery had no event."`
}

// Sockets count open connections.
type Sockets struct {
	In      int64 `json:"in"`
	Out     int64 `json:"out"`
	OutIdle int64 `json:"out_idle"`
}

// BadReply is one kind of reply that was no success.
type BadReply struct {
	Carrier string `json:"carrier,omitempty"`
	Phase   string `json:"phase,omitempty"`
	Reply   string `json:"reply"`
	Count   int64  `json:"count"`
}

// ShutGate is something that stops new mail on a node.
type ShutGate struct {
	Node   string     `json:"node"`
	Name   string     `json:"name" doc:"space, spool, drain …"`
	Closed bool       `json:"closed"`
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
}

// NodeSummary is one node in one look.
type NodeSummary struct {
	Node     string     `json:"node"`
	Version  string     `json:"version"`
	Started  time.Time  `json:"started"`
	NotReady []string   `json:"not_ready,omitempty"`
	Alarms   []string   `json:"alarms,omitempty" doc:"What a person should look at, as the node sees it."`
	Rates    Flow       `json:"rates"`
	Queue    QueueSizes `json:"queue"`
	Conns    Sockets    `json:"connections"`
}

// ClusterOverview is one look at all nodes: what "hikyaku top" shows.
type ClusterOverview struct {
	Time    time.Time     `json:"time"`
	Rates   Flow          `json:"rates"`
	Queue   QueueSizes    `json:"queue"`
	Conns   Sockets       `json:"connections"`
	Each    []NodeSummary `json:"each_node"`
	Top     []NodeQueue   `json:"top" doc:"The twenty largest destinations of the nodes."`
	Lanes   []NodeLane    `json:"lanes" doc:"The twenty busiest."`
	Gates   []ShutGate    `json:"gates" doc:"Those that are closed."`
	Replies []BadReply    `json:"errors" doc:"The twenty most frequent replies of the last minutes that were no success."`
	Coverage
}

// nodeOverview is what a node says of itself.
type nodeOverview struct {
	NodeSummary
	Top     []NodeQueue `json:"top"`
	Lanes   []NodeLane  `json:"lanes"`
	Gates   []ShutGate  `json:"gates"`
	Replies []BadReply  `json:"errors"`
}

func (a *api) registerFanViews(h huma.API) {
	registerListing(h, a, "lanes", "List lanes of all nodes: source × site", func(x *NodeLane, node string) { x.Node = node })
	registerListing(h, a, "sites", "List sites of all nodes: MX host sets", func(x *NodeSite, node string) { x.Node = node })
	registerListing(h, a, "budgets", "List limits on all nodes and how much of them is left", func(x *NodeBudget, node string) { x.Node = node })
	huma.Register(h, fanOp("overview", http.MethodGet, "overview", "One look at all nodes"), a.overview)
}

// registerListing is a listing that each node gives whole.
func registerListing[T any](h huma.API, a *api, what, summary string, name func(*T, string)) {
	huma.Register(h, fanOp(what, http.MethodGet, what, summary), func(ctx context.Context, in *struct {
		MailQuery
		NodesQuery
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"From each node."`
	}) (*out[ClusterListing[T]], error) {
		nodes, err := a.targets(ctx, in.Node)
		if err != nil {
			return nil, err
		}
		q := in.values()
		q.Set("limit", strconv.Itoa(in.Limit))
		as := ask[struct {
			Items []T `json:"items"`
		}](ctx, a, nodes, func(state.Node) call { return call{method: http.MethodGet, path: "/v1/" + what, query: q} })
		if err := agreed(as); err != nil {
			return nil, err
		}
		body := &ClusterListing[T]{Items: []T{}, Coverage: cover(as)}
		for _, x := range as {
			for i := range x.value.Items {
				name(&x.value.Items[i], x.node)
				body.Items = append(body.Items, x.value.Items[i])
			}
		}
		return &out[ClusterListing[T]]{body}, nil
	})
}

// mostShown is how many of each kind an overview has.
const mostShown = 20

func (a *api) overview(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterOverview], error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[nodeOverview](ctx, a, nodes, func(state.Node) call { return call{method: http.MethodGet, path: "/v1/overview", query: url.Values{}} })
	body := &ClusterOverview{Time: a.now().UTC(), Each: []NodeSummary{}, Coverage: cover(as), Top: []NodeQueue{}, Lanes: []NodeLane{}, Gates: []ShutGate{}, Replies: []BadReply{}}
	body.Queue.Counted = true
	replies := map[BadReply]int64{}
	for i := range as {
		if as[i].err == nil {
			body.add(as[i].node, &as[i].value, replies)
		}
	}
	for r, n := range replies {
		r.Count = n
		body.Replies = append(body.Replies, r)
	}
	slices.SortFunc(body.Top, func(x, y NodeQueue) int {
		return cmp.Or(cmp.Compare(y.Queued, x.Queued), cmp.Compare(x.Destination, y.Destination), cmp.Compare(x.Node, y.Node))
	})
	slices.SortFunc(body.Lanes, func(x, y NodeLane) int {
		return cmp.Or(cmp.Compare(y.Connections, x.Connections), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Site, y.Site))
	})
	slices.SortFunc(body.Replies, func(x, y BadReply) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Carrier, y.Carrier), cmp.Compare(x.Reply, y.Reply))
	})
	body.Top, body.Lanes, body.Replies = body.Top[:min(len(body.Top), mostShown)], body.Lanes[:min(len(body.Lanes), mostShown)], body.Replies[:min(len(body.Replies), mostShown)]
	return &out[ClusterOverview]{body}, nil
}

// add takes one node into the sums.
func (o *ClusterOverview) add(node string, v *nodeOverview, replies map[BadReply]int64) {
	v.Node = node
	o.Each = append(o.Each, v.NodeSummary)
	o.Rates.Accepted += v.Rates.Accepted
	o.Rates.Delivered += v.Rates.Delivered
	o.Rates.Deferred += v.Rates.Deferred
	o.Rates.Bounced += v.Rates.Bounced
	o.Rates.Attempts += v.Rates.Attempts
	o.Queue.Queued += v.Queue.Queued
	o.Queue.Ready += v.Queue.Ready
	o.Queue.InFlight += v.Queue.InFlight
	o.Queue.Held += v.Queue.Held
	o.Queue.Destinations += v.Queue.Destinations
	o.Queue.Silent = max(o.Queue.Silent, v.Queue.Silent)
	o.Queue.Counted = o.Queue.Counted && v.Queue.Counted
	o.Conns.In += v.Conns.In
	o.Conns.Out += v.Conns.Out
	o.Conns.OutIdle += v.Conns.OutIdle
	for _, q := range v.Top {
		q.Node = node
		o.Top = append(o.Top, q)
	}
	for _, l := range v.Lanes {
		l.Node = node
		o.Lanes = append(o.Lanes, l)
	}
	for _, g := range v.Gates {
		if g.Closed {
			g.Node = node
			o.Gates = append(o.Gates, g)
		}
	}
	for _, r := range v.Replies {
		n := r.Count
		r.Count = 0
		replies[r] += n
	}
}
