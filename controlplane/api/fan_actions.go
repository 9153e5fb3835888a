package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/state"
	"hikyaku/spool/message"
)

// MailOrder acts on all deliveries of a scope, or of one message, on all nodes
// or those named.
type MailOrder struct {
	Verb    string     `json:"verb" enum:"hold,release,retry,cancel,expire"`
	Scope   MailScope  `json:"scope,omitzero"`
	Message string     `json:"message,omitempty" maxLength:"40" doc:"Message or delivery id; then the scope is empty."`
	Reason  string     `json:"reason,omitempty" maxLength:"500" doc:"Why, for those who come after."`
	Expires *time.Time `json:"expires,omitempty" doc:"When a hold ends by itself."`
	All     bool       `json:"all,omitempty" doc:"Needed for an empty scope, which is everything."`
	ID      string     `json:"id,omitempty" maxLength:"26" doc:"The id of an order that was given before and has not reached every node: to repeat it is harmless, and takes hold of no mail that came after it."`
	Nodes   []string   `json:"nodes,omitempty" maxItems:"1000" doc:"Only these nodes."`
}

// The words of Ordered.Status.
const (
	Everywhere    = "everywhere"
	NotEverywhere = "not everywhere"
)

// Acknowledged is what an order did on one node.
type Acknowledged struct {
	Node     string `json:"node"`
	Affected int64  `json:"affected" doc:"Deliveries the order took hold of."`
	TooLate  int64  `json:"too_late" doc:"Deliveries in flight, whose outcome stands."`
	Running  bool   `json:"running" doc:"The rest is done in the background."`
	Note     string `json:"note,omitempty" doc:"Why there was nothing to do."`
}

// Ordered says what an order did, node by node, and in all.
type Ordered struct {
	ID      string     `json:"id" doc:"Repeat the order with it, where it has not reached every node."`
	Verb    string     `json:"verb"`
	Scope   MailScope  `json:"scope"`
	Message string     `json:"message,omitempty"`
	Author  string     `json:"author"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	// Status is not everywhere while a node has not acknowledged: that node may
	// still send what is meant.
	Status       string         `json:"status" enum:"everywhere,not everywhere"`
	Affected     int64          `json:"affected"`
	TooLate      int64          `json:"too_late"`
	Running      bool           `json:"running"`
	TooLateIDs   []string       `json:"too_late_ids,omitempty" doc:"The first 1000 of those that were too late."`
	Audited      bool           `json:"audited" doc:"The order is in the audit log."`
	Acknowledged []Acknowledged `json:"acknowledged"`
	Coverage
}

// orderedOut is 200 when all nodes have acknowledged, else 207.
type orderedOut struct {
	Status int
	Body   *Ordered
}

// nodeResult is a node's answer to an action.
type nodeResult struct {
	Affected   int64    `json:"affected"`
	TooLate    int64    `json:"too_late"`
	TooLateIDs []string `json:"too_late_ids"`
	Running    bool     `json:"running"`
}

// partly documents the answer that has not reached all nodes.
func partly(h huma.API, op huma.Operation) huma.Operation {
	schema := h.OpenAPI().Components.Schemas.Schema(typeOf[Ordered](), true, "Ordered")
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["207"] = &huma.Response{
		Description: "Not everywhere: some nodes have not acknowledged. Give the order again with its id.",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
	return op
}

func (a *api) registerFanActions(h huma.API) {
	const conflict = http.StatusConflict
	huma.Register(h, partly(h, fanOp("act", http.MethodPost, "actions", "Hold, release, retry, cancel or expire deliveries on all nodes", conflict)), a.act)
	huma.Register(h, fanOp("actions", http.MethodGet, "actions", "List holds and cancels that stand"), a.actions)
	huma.Register(h, partly(h, fanOp("delete-action", http.MethodDelete, "actions/{id}", "End a hold on all nodes", conflict)), a.deleteAction)
}

// checkOrder refuses what would surprise the operator, before any node is asked.
func checkOrder(ctx context.Context, o *MailOrder) error {
	refuse := func(text string) error { return problem(http.StatusUnprocessableEntity, text) }
	empty := o.Scope == MailScope{}
	switch {
	case o.Message != "" && (!empty || o.All):
		return refuse("give either a message or a scope")
	case o.Message == "" && empty && !o.All:
		return refuse("an empty scope is all mail of the cluster; set all to mean that")
	case !empty && o.All:
		return refuse("all goes with an empty scope only")
	case o.Expires != nil && o.Verb != "hold":
		return refuse("expires is for hold only")
	case o.Scope.Source != "" && o.Verb != "hold" && o.Verb != "release":
		return refuse("a source can be held and released; queued mail belongs to no source")
	case o.Message != "" && (o.Verb == "hold" || o.Verb == "release"):
		return refuse("hold and release are for scopes; name the message's job, stream or destination")
	}
	o.Scope.Destination = strings.ToLower(strings.TrimSuffix(o.Scope.Destination, "."))
	if o.Message == "" && access.From(ctx).Role == access.Tenant {
		o.All = false
		return owned(ctx, &o.Scope.Tenant)
	}
	return nil
}

// identify gives the order its id, or checks the one it was given before.
func (a *api) identify(o *MailOrder) (time.Time, error) {
	now := a.now()
	if o.ID == "" {
		o.ID = a.ids.New(now).String()
		return now.UTC().Truncate(time.Millisecond), nil
	}
	id, err := message.ParseID(o.ID)
	if err != nil {
		return now, problem(http.StatusUnprocessableEntity, "id: want that of an order given before")
	}
	if id.Time().After(now.Add(time.Minute)) {
		return now, problem(http.StatusUnprocessableEntity, "id: its time is to come")
	}
	o.ID = id.String()
	return id.Time().UTC(), nil
}

func (a *api) act(ctx context.Context, in *struct {
	Author
	Body MailOrder
}) (*orderedOut, error) {
	o := &in.Body
	if err := checkOrder(ctx, o); err != nil {
		return nil, err
	}
	created, err := a.identify(o)
	if err != nil {
		return nil, err
	}
	if o.Expires != nil && !o.Expires.After(a.now()) {
		return nil, problem(http.StatusUnprocessableEntity, "the hold would end in the past")
	}
	nodes, err := a.targets(ctx, o.Nodes)
	if err != nil {
		return nil, err
	}
	body := &Ordered{ID: o.ID, Verb: o.Verb, Scope: o.Scope, Message: o.Message, Author: in.name(ctx), Created: created, Expires: o.Expires}
	// What is ordered is written down first: nothing is done that nobody can
	// find later. It is done though etcd does not answer, since to stop mail may
	// be what helps.
	body.Audited = a.record(ctx, entry{o.Verb, scopeText(o), o.Reason, "order " + o.ID})
	as := ask[nodeResult](ctx, a, nodes, func(state.Node) call {
		send := *o
		send.Nodes = nil
		return call{method: http.MethodPost, path: "/v1/actions", body: nodeOrder{send, body.Author}}
	})
	if err := agreed(as); err != nil {
		return nil, err
	}
	return a.acknowledge(ctx, body, as), nil
}

// nodeOrder is a MailOrder as a node takes it.
type nodeOrder struct {
	MailOrder
	Author string `json:"author,omitempty"`
}

// acknowledge sums up what the nodes said.
func (a *api) acknowledge(ctx context.Context, body *Ordered, as []answer[nodeResult]) *orderedOut {
	body.Acknowledged = []Acknowledged{}
	for i := range as {
		x := &as[i]
		ack := Acknowledged{Node: x.node, Affected: x.value.Affected, TooLate: x.value.TooLate, Running: x.value.Running}
		switch statusOf(x.err) {
		case http.StatusNotFound, http.StatusConflict: // an answer: there is nothing of it there
			ack.Note, x.err = x.err.Error(), nil
		}
		if x.err != nil {
			continue
		}
		body.Affected, body.TooLate, body.Running = body.Affected+ack.Affected, body.TooLate+ack.TooLate, body.Running || ack.Running
		body.TooLateIDs = append(body.TooLateIDs, x.value.TooLateIDs[:min(len(x.value.TooLateIDs), 1000-len(body.TooLateIDs))]...)
		body.Acknowledged = append(body.Acknowledged, ack)
	}
	body.Coverage = cover(as)
	if body.Complete {
		body.Status = Everywhere
		return &orderedOut{http.StatusOK, body}
	}
	body.Status = NotEverywhere
	var names []string
	for _, m := range body.Missing {
		names = append(names, m.Node)
	}
	a.record(ctx, entry{body.Verb, "order " + body.ID, "", "not everywhere: " + strings.Join(names, ", ")})
	a.log.Warn("an order has not reached every node", "order", body.ID, "verb", body.Verb, "missing", names)
	return &orderedOut{http.StatusMultiStatus, body}
}

// scopeText names what an order is about, for the audit log.
func scopeText(o *MailOrder) string {
	if o.Message != "" {
		return "message " + o.Message
	}
	s := o.Scope
	var parts []string
	for _, p := range [][2]string{{"destination", s.Destination}, {"tenant", s.Tenant}, {"stream", s.Stream}, {"pool", s.Pool}, {"job", s.Job}, {"carrier", s.Carrier}, {"source", s.Source}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "everything")
}

func (a *api) actions(ctx context.Context, in *struct{ NodesQuery }) (*out[ClusterActions], error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[struct {
		Items []NodeAction `json:"items"`
	}](ctx, a, nodes, func(state.Node) call { return call{method: http.MethodGet, path: "/v1/actions"} })
	if err := agreed(as); err != nil {
		return nil, err
	}
	body := &ClusterActions{Items: []ClusterAction{}, Coverage: cover(as)}
	at := map[string]int{}
	for _, x := range as {
		for _, n := range x.value.Items {
			i, known := at[n.ID]
			if !known {
				i = len(body.Items)
				at[n.ID] = i
				body.Items = append(body.Items, ClusterAction{ID: n.ID, Verb: n.Verb, Scope: n.Scope, Message: n.Message, Reason: n.Reason, Author: n.Author, Created: n.Created, Expires: n.Expires})
			}
			body.Items[i].On = append(body.Items[i].On, x.node)
		}
	}
	slices.SortFunc(body.Items, func(x, y ClusterAction) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return &out[ClusterActions]{body}, nil
}

func (a *api) deleteAction(ctx context.Context, in *struct {
	Author
	ID string `path:"id" maxLength:"64"`
	NodesQuery
}) (*orderedOut, error) {
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	body := &Ordered{ID: in.ID, Verb: "end", Author: in.name(ctx), Created: a.now().UTC().Truncate(time.Millisecond)}
	body.Audited = a.record(ctx, entry{"end", "action " + in.ID, "", ""})
	as := ask[nodeResult](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodDelete, path: "/v1/actions/" + url.PathEscape(in.ID)}
	})
	if err := agreed(as); err != nil {
		return nil, err
	}
	done := a.acknowledge(ctx, body, as)
	if len(body.Acknowledged) > 0 && !slices.ContainsFunc(body.Acknowledged, func(k Acknowledged) bool { return k.Note == "" }) && !body.Complete {
		return nil, a.notAnywhere(body.Coverage, "")
	}
	return done, nil
}

// entry is what the audit log is told.
type entry struct{ action, scope, reason, result string }

func (e entry) String() string { return fmt.Sprintf("%s %s", e.action, e.scope) }
