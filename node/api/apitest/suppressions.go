package apitest

import (
	"context"
	"time"

	"hikyaku/node/api"
	"hikyaku/spool/suppression"
)

// Suppressions implements api.Suppressions with an empty list that takes nothing.
// Tests of what a list does use a real one (node/suppress).
type Suppressions struct{}

// Page is empty.
func (Suppressions) Page(suppression.Filter, string, int) (suppression.Page, error) {
	return suppression.Page{}, nil
}

// Add is refused.
func (Suppressions) Add([]suppression.Entry) (suppression.Result, error) {
	return suppression.Result{}, suppression.ErrFull
}

// Remove finds nothing.
func (Suppressions) Remove(refs []suppression.Ref, _, _ string) (suppression.Result, error) {
	return suppression.Result{Unchanged: len(refs)}, nil
}

// Counts are none.
func (Suppressions) Counts() map[string]suppression.Counts { return nil }

// Key changes nothing.
func (Suppressions) Key(address string) string { return address }

// Has is false.
func (Suppressions) Has(context.Context, suppression.Position, time.Duration) bool { return false }

// Metrics has something of each.
func (Suppressions) Metrics() *api.SuppressionMetrics {
	return &api.SuppressionMetrics{Entries: map[string]int64{"bounce": 1}}
}
