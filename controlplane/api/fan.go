package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/state"
)

const (
	// fanWidth is how many nodes are asked at a time.
	fanWidth = 32
	// fanTimeout is what one node may take for an answer. It is above the two
	// seconds after which a node answers that an action goes on in the
	// background.
	fanTimeout = 10 * time.Second
	// maxNodeAnswer bounds what is read of one node's answer, in bytes.
	maxNodeAnswer = 32 << 20
)

// Peers brings a request to a node's part of the admin API and proves that a
// peer asks. The request's URL has path and query only.
type Peers interface {
	Do(address string, r *http.Request) (*http.Response, error)
}

// HTTPPeers asks over HTTP.
type HTTPPeers struct {
	Client *http.Client
	Scheme string // http or https
	Token  string // bearer token of peers, "" where certificates prove it
}

// Do implements Peers.
func (p HTTPPeers) Do(address string, r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = p.Scheme, address
	if p.Token != "" {
		r.Header.Set("Authorization", "Bearer "+p.Token)
	}
	return p.Client.Do(r)
}

// Missing is a node that has not answered.
type Missing struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// Coverage says how much of the cluster an answer is about. An answer that is
// not complete is about the nodes that answered only.
type Coverage struct {
	Complete bool      `json:"complete" doc:"All nodes that were meant have answered."`
	Nodes    int       `json:"nodes" doc:"Nodes that were meant."`
	Answered int       `json:"answered"`
	Missing  []Missing `json:"missing" doc:"Nodes that have not answered, and why."`
}

// NodesQuery picks nodes.
type NodesQuery struct {
	Node []string `query:"node,explode" maxItems:"1000" doc:"Only these nodes; may be repeated."`
}

// nodeError is a node's answer that is no success.
type nodeError struct {
	status int
	detail string
}

func (e *nodeError) Error() string { return e.detail }

// call is a question to a node.
type call struct {
	method, path string
	query        url.Values
	body         any
	raw          []byte // sent as it is, in place of body
	contentType  string // of raw
}

// targets are the members that are meant, by name.
func (a *api) targets(ctx context.Context, names []string) ([]state.Node, error) {
	ns, err := a.cluster.Nodes(ctx)
	if err != nil {
		return nil, a.clusterFail("list nodes", err)
	}
	if len(names) == 0 {
		return ns, nil
	}
	var out []state.Node
	for _, name := range names {
		i := slices.IndexFunc(ns, func(n state.Node) bool { return n.Name == name })
		if i < 0 {
			return nil, problem(http.StatusNotFound, fmt.Sprintf("there is no node %.64q; \"hikyaku node list\" shows them", name))
		}
		if !slices.ContainsFunc(out, func(n state.Node) bool { return n.Name == name }) {
			out = append(out, ns[i])
		}
	}
	return out, nil
}

// answer is what one node said.
type answer[T any] struct {
	node  string
	value T
	err   error
}

// down is why a node that is not live is not asked.
var errDown = errors.New("it is down, or cut off from etcd")

// ask asks the nodes side by side and gives their answers in the order of the
// nodes. It waits for all, each within its own time.
func ask[T any](ctx context.Context, a *api, nodes []state.Node, c func(state.Node) call) []answer[T] {
	out := make([]answer[T], len(nodes))
	slots := make(chan struct{}, fanWidth)
	var all sync.WaitGroup
	for i, n := range nodes {
		out[i].node = n.Name
		if !n.Live || n.Peer == "" {
			out[i].err = errDown
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, fanTimeout)
			defer cancel()
			out[i].err = a.askOne(ctx, n, c(n), &out[i].value)
		})
	}
	all.Wait()
	return out
}

func (a *api) askOne(ctx context.Context, n state.Node, c call, into any) error {
	resp, err := a.send(ctx, n, c)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeAnswer+1))
	if err != nil {
		return unreachable(ctx, err)
	}
	if len(b) > maxNodeAnswer {
		return fmt.Errorf("its answer has more than %d MiB; ask for less", maxNodeAnswer>>20)
	}
	// Fields that are not known here are a later version's.
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("its answer is not what was expected: %w", err)
	}
	return nil
}

// send asks one node on behalf of who asked here.
func (a *api) send(ctx context.Context, n state.Node, c call) (*http.Response, error) {
	var body io.Reader
	contentType := "application/json"
	if c.raw != nil {
		body, contentType = bytes.NewReader(c.raw), c.contentType
	}
	if c.body != nil {
		b, err := json.Marshal(c.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, c.method, c.path+"?"+c.query.Encode(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	access.From(ctx).Pass(r.Header)
	resp, err := a.peers.Do(n.Peer, r)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readNodeError(resp)
	}
	return resp, nil
}

// unreachable says why a node did not answer, without the URL, which names what
// was asked.
func unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer in %s", fanTimeout)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err
}

func readNodeError(resp *http.Response) error {
	const maxProblem = 64 << 10
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what came is enough
	var p struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Errors []struct {
			Location string `json:"location"`
			Message  string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(b, &p) // what is no problem document has no detail
	detail := cmp.Or(p.Detail, p.Title, http.StatusText(resp.StatusCode))
	for _, e := range p.Errors {
		detail += "; " + strings.TrimSpace(e.Location+" "+e.Message)
	}
	return &nodeError{resp.StatusCode, detail}
}

// statusOf is the status of a node's refusal, 0 for anything else.
func statusOf(err error) int {
	var e *nodeError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// cover sums up who answered.
func cover[T any](as []answer[T]) Coverage {
	c := Coverage{Nodes: len(as), Missing: []Missing{}}
	for _, x := range as {
		if x.err == nil {
			c.Answered++
		} else {
			c.Missing = append(c.Missing, Missing{x.node, x.err.Error()})
		}
	}
	c.Complete = c.Answered == c.Nodes
	return c
}

// agreed is the problem that all nodes that could be asked name in one voice: a
// bad request is the client's, not "missing nodes". nil when they do not.
func agreed[T any](as []answer[T]) error {
	status, detail := 0, ""
	for _, x := range as {
		s := statusOf(x.err)
		switch {
		case errors.Is(x.err, errDown):
			continue
		case s/100 != 4 || status != 0 && s != status:
			return nil
		}
		status, detail = s, x.err.Error()
	}
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity:
		return problem(status, detail)
	}
	return nil
}
