package controlplane

import (
	"context"
	"errors"
	"fmt"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// deleteThrottles deletes throttles that have expired, each only as it was when
// that was seen: one that has been given more time meanwhile stays.
func (c *Control) deleteThrottles(ctx context.Context, names []string) error {
	list, _, err := c.opt.Store.List(ctx, policy.KindThrottle)
	if err != nil {
		return fmt.Errorf("list throttles: %w", err)
	}
	now := c.opt.Now()
	b := store.Batch{Author: "control plane " + c.opt.Name, Reason: "expired"}
	for _, r := range list {
		if t, ok := r.Spec.(*policy.Throttle); ok && t.Expires.Reached(now) {
			b.Changes = append(b.Changes, store.Change{Kind: r.Kind, Name: r.Name, Expected: r.Revision})
		}
	}
	if len(b.Changes) == 0 {
		return nil
	}
	_, err = c.opt.Store.Apply(ctx, b)
	var conflict *store.ConflictError
	if errors.As(err, &conflict) || errors.Is(err, store.ErrNotFound) {
		return nil // somebody changed it; the next look will tell
	}
	if err != nil {
		return fmt.Errorf("delete throttles: %w", err)
	}
	c.log.Info("throttles have expired", "throttles", names)
	return nil
}
