package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/state"
)

// GossipKeyPath names a key of the ring.
type GossipKeyPath struct {
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"As the list shows it: the beginning of a hash of the key."`
}

type gossipKeyOut struct{ Body *state.GossipKey }

// registerGossip puts the gossip key ring's operations on the API, if the
// cluster has one.
func (a *api) registerGossip(h huma.API) {
	ring, ok := a.cluster.(state.GossipKeys)
	if !ok {
		return
	}
	const missing, conflict = http.StatusNotFound, http.StatusConflict
	huma.Register(h, clusterOp("list-gossip-keys", http.MethodGet, "/v1/gossip-keys", "List the keys that gossip is encrypted with"), func(ctx context.Context, _ *struct{}) (*items[state.GossipKey], error) {
		v, err := ring.GossipKeys(ctx)
		return listed(v), a.clusterFail("list gossip keys", err)
	})
	huma.Register(h, clusterOp("add-gossip-key", http.MethodPost, "/v1/gossip-keys", "Add a new gossip key, which nodes can read by from then on", conflict), func(ctx context.Context, in *struct{ Author }) (*gossipKeyOut, error) {
		k, err := ring.AddGossipKey(ctx, access.From(ctx).Author())
		a.recordGossip(ctx, "add gossip key", k.ID, err)
		if err != nil {
			return nil, a.clusterFail("add a gossip key", err)
		}
		return &gossipKeyOut{&k}, nil
	})
	turn := func(what string, do func(ctx context.Context, id, author string) error) func(context.Context, *struct {
		Author
		GossipKeyPath
	}) (*items[state.GossipKey], error) {
		return func(ctx context.Context, in *struct {
			Author
			GossipKeyPath
		}) (*items[state.GossipKey], error) {
			err := do(ctx, in.ID, access.From(ctx).Author())
			a.recordGossip(ctx, what, in.ID, err)
			if err != nil {
				return nil, a.clusterFail(what, err)
			}
			v, err := ring.GossipKeys(ctx)
			return listed(v), a.clusterFail("list gossip keys", err)
		}
	}
	huma.Register(h, clusterOp("use-gossip-key", http.MethodPost, "/v1/gossip-keys/{id}/use", "Have all nodes encrypt with a key of the ring", missing, conflict), turn("use gossip key", ring.UseGossipKey))
	huma.Register(h, clusterOp("remove-gossip-key", http.MethodDelete, "/v1/gossip-keys/{id}", "Take a key off the ring; not the one in use", missing, conflict), turn("remove gossip key", ring.RemoveGossipKey))
}

// recordGossip writes to the audit log what was done, and what was refused.
func (a *api) recordGossip(ctx context.Context, action, id string, err error) {
	result := "done"
	switch {
	case errors.Is(err, state.ErrRefused), errors.Is(err, state.ErrNotFound):
		result = err.Error()
	case err != nil:
		result = "not known: " + err.Error()
	}
	a.record(ctx, entry{action: action, scope: id, result: result})
}
