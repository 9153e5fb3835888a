package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/store"
)

// differ is a store that can compare revisions.
type differ interface {
	Diff(ctx context.Context, from, to int64) ([]store.Effect, error)
}

// Diff is what became of each resource between two revisions.
type Diff struct {
	From    int64    `json:"from" doc:"0: the empty policy."`
	To      int64    `json:"to"`
	Effects []Effect `json:"effects"`
}

type diffOut struct{ Body *Diff }

func (a *api) registerDiff(h huma.API) {
	d, ok := a.store.(differ)
	if !ok {
		return
	}
	op := also(operation("diff", http.MethodGet, "/v1/policy:diff", "Compare two revisions"), http.StatusNotFound)
	huma.Register(h, op, func(ctx context.Context, in *struct {
		From int64 `query:"from" minimum:"0" doc:"0: the empty policy."`
		To   int64 `query:"to" minimum:"0" doc:"0: the policy in force."`
	}) (*diffOut, error) {
		out := &Diff{From: in.From, To: in.To}
		if out.To == 0 {
			out.To = a.store.Snapshot().Revision
		}
		effects, err := d.Diff(ctx, in.From, in.To)
		if err != nil {
			return nil, a.fail("compare revisions", err)
		}
		out.Effects = result(&store.Result{Effects: effects}, false).Effects
		return &diffOut{out}, nil
	})
}
