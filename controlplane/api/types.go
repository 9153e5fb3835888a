package api

import (
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// Resource is one resource of policy. Secrets in its spec are shown as "***".
type Resource struct {
	Kind     string `json:"kind" enum:"Tenant,Stream,Pool,Source,Carrier,Route,SigningKey,Throttle,AdminKey,ReplyRule,WarmUp,Webhook,Reputation"`
	Name     string `json:"name" maxLength:"129"`
	Spec     any    `json:"spec"`
	Revision int64  `json:"revision,omitempty" doc:"The revision at which the resource last changed. In a request: change it only if it is still at this revision."`

	// Of carriers, where in_force was asked for. A request may not hold them.
	Origin  string          `json:"origin,omitempty" enum:"shipped,overridden,local" doc:"Of a carrier, with in_force: shipped (nothing is set locally), overridden (spec changes what ships) or local."`
	Title   string          `json:"title,omitempty" doc:"Of a carrier that ships: who it is."`
	InForce *policy.Carrier `json:"in_force,omitempty" doc:"Of a carrier, with in_force: what ships, with spec laid over it. What is not there has its default."`
	Lost    []string        `json:"lost,omitempty" doc:"Of a carrier that ships: what its mail is known by that another local carrier has taken."`
}

// TransformSchema gives the spec the shapes of the kinds.
func (Resource) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	one := &huma.Schema{Description: "The settings; their shape is that of the kind."}
	for _, kind := range policy.Kinds() {
		one.AnyOf = append(one.AnyOf, r.Schema(reflect.TypeOf(policy.NewSpec(kind)).Elem(), true, kind))
	}
	s.Properties["spec"] = one
	return s
}

// List is some resources at one revision.
type List struct {
	Revision  int64      `json:"revision" doc:"The policy's revision that was read."`
	Resources []Resource `json:"resources"`
}

// Name names a resource.
type Name struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Revision int64  `json:"revision,omitempty" doc:"Only if it is still at this revision."`
}

// ApplyRequest is a batch: done whole or not at all.
type ApplyRequest struct {
	Resources        []Resource `json:"resources,omitempty" doc:"Resources to create or change. Secrets left out are kept."`
	Delete           []Name     `json:"delete,omitempty" doc:"Resources to delete."`
	ExpectedRevision int64      `json:"expected_revision,omitempty" doc:"Only if the policy is still at this revision."`
	Reason           string     `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the history."`
	DryRun           bool       `json:"dry_run,omitempty" doc:"Say what would happen and change nothing."`
}

// RollbackRequest brings back the resources of an old revision, as a new one.
type RollbackRequest struct {
	Revision         int64  `json:"revision" doc:"The revision to go back to."`
	ExpectedRevision int64  `json:"expected_revision,omitempty" doc:"Only if the policy is still at this revision."`
	Reason           string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the history."`
	DryRun           bool   `json:"dry_run,omitempty" doc:"Say what would happen and change nothing."`
}

// PutRequest is the new spec of one resource.
type PutRequest struct {
	Spec   any    `json:"spec" doc:"The settings; their shape is that of the kind."`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the history."`
	DryRun bool   `json:"dry_run,omitempty" doc:"Say what would happen and change nothing."`
}

// Effect is what a change did to one resource.
type Effect struct {
	Action        string    `json:"action" enum:"created,changed,unchanged,deleted"`
	Kind          string    `json:"kind"`
	Name          string    `json:"name"`
	Before        *Resource `json:"before,omitempty"`
	After         *Resource `json:"after,omitempty"`
	SecretChanged bool      `json:"secret_changed,omitempty" doc:"A secret, which is not shown, differs."`
}

// Result is what a change did.
type Result struct {
	Revision int64    `json:"revision" doc:"The policy's revision in force now."`
	DryRun   bool     `json:"dry_run,omitempty"`
	Effects  []Effect `json:"effects"`
}

// Revision is one entry of the history.
type Revision struct {
	Revision int64              `json:"revision"`
	Time     time.Time          `json:"time"`
	Author   string             `json:"author"`
	Reason   string             `json:"reason,omitempty"`
	Effects  []store.EffectName `json:"effects"`
}

// History is revisions, newest first.
type History struct {
	Revisions []Revision `json:"revisions"`
}

func resource(r *policy.Resource) *Resource {
	if r == nil {
		return nil
	}
	return &Resource{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Revision: r.Revision}
}

func result(r *store.Result, dryRun bool) *Result {
	out := &Result{Revision: r.Revision, DryRun: dryRun, Effects: make([]Effect, 0, len(r.Effects))}
	for _, e := range r.Effects {
		out.Effects = append(out.Effects, Effect{
			Action: string(e.Action), Kind: e.Kind, Name: e.Name,
			Before: resource(e.Before), After: resource(e.After), SecretChanged: e.SecretChanged,
		})
	}
	return out
}
