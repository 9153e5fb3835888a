package api

import (
	"context"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

// Asked says which side of a resource is meant. It is exported since huma reads
// exported embedded structs only.
type Asked struct {
	InForce bool `query:"in_force" doc:"Of carriers: also those that ship with the product, and what is in force beside what was given. Other kinds are as without it."`
}

// carriersInForce are all carriers: what was given for each, {} for nothing, and
// what is in force.
func (a *api) carriersInForce(ctx context.Context) ([]Resource, int64, error) {
	stored, rev, err := a.store.List(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	view := catalogue.View(stored)
	out := make([]Resource, 0, len(view))
	for _, v := range view {
		r := Resource{Kind: policy.KindCarrier, Name: v.Name, Spec: &policy.Carrier{}, Origin: v.Origin, Title: v.Title, InForce: v.InForce, Lost: v.Released}
		if v.Local != nil {
			r.Spec, r.Revision = v.Local.Spec, v.Local.Revision
		}
		out = append(out, r)
	}
	return out, rev, nil
}
