package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
)

// own narrows a scope to what the asker may see. Naming somebody else's tenant
// is refused in the same words whether that tenant exists or not.
func own(ctx context.Context, tenant *string) error {
	id := access.From(ctx)
	switch {
	case id.Owns(*tenant):
	case *tenant == "":
		*tenant = id.Tenant
	default:
		return huma.Error403Forbidden("this key is for the tenant " + id.Tenant + " only")
	}
	return nil
}

// hidden is what the owner of nothing is told: the same for what does not exist
// and for what is somebody else's.
func hidden(what string) error { return huma.Error404NotFound("there is no such " + what) }

// unseen makes a "not found" of the node say no more to a tenant than hidden.
func unseen(ctx context.Context, what string, err error) error {
	var known huma.StatusError
	missing := errors.Is(err, ErrNotFound) || errors.As(err, &known) && known.GetStatus() == http.StatusNotFound
	if missing && access.From(ctx).Role == access.Tenant {
		return hidden(what)
	}
	return err
}

// ownMessage checks that a message is the asker's.
func (a *api) ownMessage(ctx context.Context, id string) error {
	if access.From(ctx).Role != access.Tenant {
		return nil
	}
	m, err := a.node.Message(ctx, id, MessageOptions{Limit: 1})
	if err != nil {
		return unseen(ctx, "message", err)
	}
	if !access.From(ctx).Owns(m.Tenant) {
		return hidden("message")
	}
	return nil
}

// mine reports whether an action that stands was ordered with the asker's own
// key. A tenant must not take back what an operator has ordered about it.
func mine(id access.Identity, a *Action) bool {
	if id.Role != access.Tenant {
		return true
	}
	name, _, _ := strings.Cut(a.Author, " (")
	return a.Scope.Tenant == id.Tenant && name == id.Name || a.Message != "" && name == id.Name
}

// visible drops the actions that are none of the asker's business.
func visible(id access.Identity, as []Action) []Action {
	if id.Role != access.Tenant {
		return as
	}
	var out []Action
	for _, a := range as {
		if a.Scope.Tenant == id.Tenant || mine(id, &a) {
			out = append(out, a)
		}
	}
	return out
}

// authorOf is who history names for an order: the key, with what the client
// says beside it.
func authorOf(ctx context.Context, claimed string) string {
	id := access.From(ctx)
	if claimed != "" {
		id.Claimed = claimed
	}
	if id.Name == "" && id.Claimed == "" {
		return ""
	}
	return id.Author()
}

// ownAction narrows an order to what the asker may touch.
func (a *api) ownAction(ctx context.Context, r *ActionRequest) error {
	if access.From(ctx).Role != access.Tenant {
		return nil
	}
	if r.Message != "" {
		return a.ownMessage(ctx, r.Message)
	}
	if err := own(ctx, &r.Scope.Tenant); err != nil {
		return err
	}
	r.All = false // the tenant's own mail is a scope
	if r.Verb == VerbRelease {
		return a.mayRelease(ctx, r.Scope)
	}
	return nil
}

// ownDelete checks that the asker may take an action back.
func (a *api) ownDelete(ctx context.Context, action string) error {
	id := access.From(ctx)
	if id.Role != access.Tenant {
		return nil
	}
	as, err := a.node.Actions(ctx)
	if err != nil {
		return err
	}
	for _, stands := range visible(id, as) {
		switch {
		case stands.ID != action:
		case mine(id, &stands):
			return nil
		default:
			return huma.Error409Conflict("this was ordered by somebody else than this key; ask the operator")
		}
	}
	return hidden("action")
}

// mayRelease refuses a tenant the release of a hold that others have ordered.
func (a *api) mayRelease(ctx context.Context, scope Scope) error {
	id := access.From(ctx)
	if id.Role != access.Tenant {
		return nil
	}
	as, err := a.node.Actions(ctx)
	if err != nil {
		return err
	}
	for _, held := range as {
		if held.Verb == VerbHold && held.Scope == scope && !mine(id, &held) {
			return huma.Error409Conflict("this is held by somebody else than this key; ask the operator")
		}
	}
	return nil
}
