package api

import (
	"context"
	"errors"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// permit refuses what the asker's role may not change. An operator tunes; keys,
// passwords and who may hand mail in are an admin's. A change that is permitted
// because of what it replaces is bound to that revision.
func (a *api) permit(ctx context.Context, b *store.Batch) error {
	role := access.From(ctx).Role
	if role == access.Admin || role == "" { // no guard stands before a test's mux
		return nil
	}
	for i := range b.Changes {
		if err := a.permitOne(ctx, role, &b.Changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *api) permitOne(ctx context.Context, role access.Role, c *store.Change) error {
	refused := huma.Error403Forbidden(c.Kind + "/" + c.Name + ": only the role admin changes admin keys, signing keys, passwords, and who may hand in mail")
	if !role.MayChange(c.Kind) {
		return refused
	}
	switch spec := c.Spec.(type) {
	case nil:
		if c.Kind == policy.KindTenant {
			return refused
		}
	case *policy.Route:
		if !spec.Password.IsZero() {
			return refused
		}
	case *policy.Tenant:
		before, err := a.store.Get(ctx, c.Kind, c.Name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return refused
		case err != nil:
			return a.fail("look at what is to be changed", err)
		}
		old, ok := before.Spec.(*policy.Tenant)
		if !ok || !sameEntrance(old, spec) {
			return refused
		}
		if c.Expected == 0 {
			c.Expected = before.Revision
		}
	}
	return nil
}

// sameEntrance reports whether two specs let the same mail in.
func sameEntrance(x, y *policy.Tenant) bool {
	same := func(a, b any, n, m int) bool { return n == m && (n == 0 || reflect.DeepEqual(a, b)) }
	return same(x.Networks, y.Networks, len(x.Networks), len(y.Networks)) &&
		same(x.SMTPUsers, y.SMTPUsers, len(x.SMTPUsers), len(y.SMTPUsers)) &&
		same(x.APIKeys, y.APIKeys, len(x.APIKeys), len(y.APIKeys)) &&
		same(x.SenderDomains, y.SenderDomains, len(x.SenderDomains), len(y.SenderDomains)) &&
		x.Disabled == y.Disabled
}
