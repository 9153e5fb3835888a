package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/state"
)

// What other control planes ask the leader, since only it knows what the nodes
// say, lies under leaderPath: GET for pictures, POST for orders.
const (
	leaderPath = "/v1/leader/"
	// maxPicture bounds an answer: grants of 1,000 nodes with 1,000 scopes each
	// would be more, and are then an error.
	maxPicture = 256 << 20
	maxOrder   = 64 << 10
	// leaderTimeout bounds one question to the leader.
	leaderTimeout = 10 * time.Second
)

func (c *Control) leaderRoutes(mux *http.ServeMux) {
	ask := func(path string, get func(context.Context, *office) (any, error)) {
		mux.HandleFunc("GET "+leaderPath+path, func(w http.ResponseWriter, r *http.Request) {
			o := c.lead()
			if o == nil {
				c.misdirected(w)
				return
			}
			v, err := get(r.Context(), o)
			writeResult(w, v, err)
		})
	}
	ask("nodes", func(ctx context.Context, o *office) (any, error) { return o.nodes(ctx) })
	ask("sources", func(_ context.Context, o *office) (any, error) { return o.sources() })
	ask("grants", func(_ context.Context, o *office) (any, error) { return o.grants() })
	ask("leases", func(ctx context.Context, o *office) (any, error) { return o.leases(ctx) })
	ask("leader", func(_ context.Context, o *office) (any, error) { return o.self() })
	ask("warm-ups", func(_ context.Context, o *office) (any, error) { return o.warmUps() })
	orderRoute(c, mux, "scores", func(_ context.Context, o *office, f state.ScoreFilter) (any, error) { return o.scores(f) })
	orderRoute(c, mux, "undo", func(ctx context.Context, _ *office, u state.Undo) (any, error) { return c.Undo(ctx, u) })
	orderRoute(c, mux, "lane", func(ctx context.Context, _ *office, s state.SetLane) (any, error) { return c.SetLane(ctx, s) })
	orderRoute(c, mux, "applied", func(_ context.Context, o *office, revision int64) (any, error) { return o.applied(revision) })
	orderRoute(c, mux, "drain", func(ctx context.Context, _ *office, order state.Order) (any, error) {
		return struct{}{}, c.Drain(ctx, order)
	})
	orderRoute(c, mux, "undrain", func(ctx context.Context, _ *office, order state.Order) (any, error) {
		return struct{}{}, c.Undrain(ctx, order)
	})
	orderRoute(c, mux, "remove", func(ctx context.Context, _ *office, order state.Order) (any, error) {
		return struct{}{}, c.Remove(ctx, order)
	})
	orderRoute(c, mux, "move", func(ctx context.Context, _ *office, m state.Move) (any, error) { return struct{}{}, c.Move(ctx, m) })
}

func orderRoute[T any](c *Control, mux *http.ServeMux, path string, do func(context.Context, *office, T) (any, error)) {
	mux.HandleFunc("POST "+leaderPath+path, func(w http.ResponseWriter, r *http.Request) {
		o := c.lead()
		if o == nil {
			c.misdirected(w)
			return
		}
		var order T
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&order); err != nil {
			writeProblem(w, refuse(http.StatusBadRequest, "the order cannot be read"))
			return
		}
		v, err := do(r.Context(), o, order)
		writeResult(w, v, err)
	})
}

func (c *Control) misdirected(w http.ResponseWriter) {
	p := c.notLeading()
	if p.status == http.StatusMisdirectedRequest {
		w.Header().Set(exchange.LeaderHeader, c.seen().Address)
	}
	writeProblem(w, p)
}

// The errors of state.Cluster and their status between control planes.
var errorStatus = []struct {
	err    error
	status int
}{
	{state.ErrNotFound, http.StatusNotFound},
	{state.ErrRefused, http.StatusConflict},
	{state.ErrNoLeader, http.StatusServiceUnavailable},
	{state.ErrNoLeader, http.StatusMisdirectedRequest},
}

func writeResult(w http.ResponseWriter, v any, err error) {
	if err != nil {
		status := http.StatusInternalServerError
		for _, e := range errorStatus {
			if errors.Is(err, e.err) {
				status = e.status
				break
			}
		}
		writeProblem(w, refuse(status, "%v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the other side has gone if this fails
}

// askLeader has the leader answer: with a body as an order, otherwise as a
// question.
func askLeader[T any](ctx context.Context, c *Control, path string, body any) (out T, err error) {
	l := c.seen()
	if l.term == 0 || l.Address == c.opt.Address {
		return out, state.ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	method, content := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return out, fmt.Errorf("ask the leader: %w", err)
		}
		method, content = http.MethodPost, bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.opt.Scheme+"://"+l.Address+leaderPath+path, content)
	if err != nil {
		return out, fmt.Errorf("ask the leader: %w", err)
	}
	res, err := c.opt.Peer.Do(req)
	if err != nil {
		return out, fmt.Errorf("%w that can be reached: %w", state.ErrNoLeader, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxPicture+1))
	if err != nil || len(b) > maxPicture {
		return out, fmt.Errorf("read the answer of leader %s: %w", l.Name, cmpErr(err, errors.New("it is too long")))
	}
	if res.StatusCode != http.StatusOK {
		return out, remoteError(l.Name, res.StatusCode, b)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("read the answer of leader %s: %w", l.Name, err)
	}
	return out, nil
}

// remoteError is the error that the leader meant.
func remoteError(leader string, status int, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		p.Detail = "status " + strconv.Itoa(status)
	}
	for _, e := range errorStatus {
		if e.status == status {
			return &leaderError{e.err, p.Detail}
		}
	}
	return fmt.Errorf("leader %s: %s", leader, p.Detail)
}

// leaderError has the leader's words, and is one of the errors of state.
type leaderError struct {
	is   error
	text string
}

func (e *leaderError) Error() string { return e.text }
func (e *leaderError) Unwrap() error { return e.is }
