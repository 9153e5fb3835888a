package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

const (
	// maxWait bounds a long poll; whoever wants longer asks again.
	maxWait = 60
	// appliedPoll is how often the cluster is looked at meanwhile.
	appliedPoll = 50 * time.Millisecond
)

// Applied says how far a revision of policy has come.
type Applied struct {
	state.Applied
	Everywhere bool `json:"everywhere" doc:"Every live node has the revision or a later one. A node that is down gets it before it sends again."`
}

type appliedOut struct{ Body *Applied }

func (a *api) registerApplied(h huma.API) {
	op := operation("applied", http.MethodGet, "/v1/policy:applied", "Say which nodes have a revision, and wait for all of them")
	huma.Register(h, op, func(ctx context.Context, in *struct {
		Revision int64 `query:"revision" minimum:"0" doc:"0: the newest."`
		Wait     int   `query:"wait" minimum:"0" maximum:"60" doc:"Answer when all live nodes have it, or after so many seconds."`
	}) (*appliedOut, error) {
		if in.Revision == 0 {
			in.Revision = a.store.Snapshot().Revision
		}
		if have := a.store.Snapshot().Revision; in.Revision > have {
			return nil, problem(http.StatusUnprocessableEntity, fmt.Sprintf("the policy is at revision %d; there is no revision %d yet", have, in.Revision))
		}
		out, err := a.waitApplied(ctx, in.Revision, time.Duration(min(in.Wait, maxWait))*time.Second)
		if err != nil {
			return nil, a.clusterFail("ask which nodes have a revision", err)
		}
		return &appliedOut{out}, nil
	})
}

func (a *api) waitApplied(ctx context.Context, revision int64, wait time.Duration) (*Applied, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	tick := time.NewTicker(appliedPoll)
	defer tick.Stop()
	for {
		s, err := a.cluster.Applied(ctx, revision)
		// While a new leader is found there is no answer; a short while later
		// there is.
		if err != nil && (wait == 0 || !errors.Is(err, state.ErrNoLeader)) {
			return nil, err
		}
		out := &Applied{Applied: s, Everywhere: err == nil && s.Applied >= s.Live}
		if out.Nodes == nil {
			out.Nodes = []state.AppliedNode{}
		}
		if out.Everywhere {
			return out, nil
		}
		select {
		case <-tick.C:
		case <-over.C:
			return out, err
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}
