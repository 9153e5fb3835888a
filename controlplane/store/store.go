package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hikyaku/controlplane/policy"
)

// Store is where policy lives. It is safe for concurrent use. Resources handed
// out are shared and must not be changed.
type Store interface {
	// List gives the resources of a kind ("" for all), in the order of
	// policy.Compare, and the revision they were read at.
	List(ctx context.Context, kind string) ([]policy.Resource, int64, error)
	// Get gives one resource, or ErrNotFound.
	Get(ctx context.Context, kind, name string) (policy.Resource, error)
	// Apply makes a batch of changes. The error is a policy.Problems, a
	// *ConflictError, ErrNotFound, or that of the disk or network; after the
	// last the outcome is unknown until the store is read again.
	Apply(ctx context.Context, b Batch) (*Result, error)
	// History lists revisions, newest first.
	History(ctx context.Context, limit int) ([]Revision, error)
	// Rollback makes a new revision with the resources of an old one.
	Rollback(ctx context.Context, r Rollback) (*Result, error)
	// Snapshot is the policy in force.
	Snapshot() *policy.Set
	// Subscribe calls fn with the policy in force, then with each new one, in
	// order, before the Apply that made it returns. fn must be quick and must
	// not call Apply, Rollback or Subscribe. stop ends it.
	Subscribe(fn func(*policy.Set)) (stop func())
	Close() error
}

// Batch is a set of changes that belong together.
type Batch struct {
	Changes []Change
	// Expected is the store's revision that the author looked at; 0 takes any.
	Expected int64
	Author   string
	Role     string // of the author, for the audit log
	Reason   string
	// DryRun says what would happen and changes nothing.
	DryRun bool
}

// Absent as Change.Expected wants the resource not to exist.
const Absent = -1

// Change puts a resource, or deletes it where Spec is nil. Secrets left out of
// a spec are kept (policy.KeepSecrets).
type Change struct {
	Kind, Name string
	Spec       any
	// Expected is the resource's revision that the author looked at; 0 takes
	// any, Absent wants a new resource.
	Expected int64
}

// Rollback asks for the resources of an old revision.
type Rollback struct {
	To       int64
	Expected int64 // as Batch.Expected
	Author   string
	Role     string
	Reason   string
	DryRun   bool
}

// Action is what a change did to a resource.
type Action string

// The actions.
const (
	Created   Action = "created"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Deleted   Action = "deleted"
)

// Effect is what a batch did to one resource. Before is nil for a new one,
// After for a deleted one.
type Effect struct {
	Action        Action
	Kind, Name    string
	Before, After *policy.Resource
	// SecretChanged: before and after differ in what a listing does not show.
	SecretChanged bool
}

// Result is the answer to a batch: the revision in force after it, and its
// effects in the order of the batch.
type Result struct {
	Revision int64
	Effects  []Effect
}

// Revision is one entry of the history.
type Revision struct {
	Revision int64
	Time     time.Time
	Author   string
	Reason   string
	Effects  []EffectName
}

// EffectName is an Effect without the resources.
type EffectName struct {
	Action Action `json:"action"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
}

// ErrNotFound is returned for a resource or revision that does not exist.
var ErrNotFound = errors.New("not found")

// ConflictError says that somebody else was faster.
type ConflictError struct {
	Kind, Name string // "" for the store as a whole
	Want, Have int64  // Have is 0 for a resource that does not exist
}

// Error says what to do.
func (e *ConflictError) Error() string {
	what := "policy"
	if e.Kind != "" {
		what = e.Kind + "/" + e.Name
	}
	switch {
	case e.Want == Absent:
		return fmt.Sprintf("%s exists already (revision %d)", what, e.Have)
	case e.Have == 0 && e.Kind != "":
		return fmt.Sprintf("%s does not exist any more; it was read at revision %d", what, e.Want)
	}
	return fmt.Sprintf("%s is at revision %d, not %d: read it again and repeat the change", what, e.Have, e.Want)
}

// Seed fills a store that never held anything and leaves any other alone, so
// that a file named on the command line is a start and not a second truth. The
// result is nil when the store was not empty.
func Seed(ctx context.Context, s Store, resources []policy.Resource, author, reason string) (*Result, error) {
	if s.Snapshot().Revision != 0 || len(resources) == 0 {
		return nil, nil
	}
	b := Batch{Author: author, Reason: reason}
	for _, r := range resources {
		b.Changes = append(b.Changes, Change{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Expected: Absent})
	}
	return s.Apply(ctx, b)
}
