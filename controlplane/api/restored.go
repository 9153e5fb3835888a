package api

import (
	"context"
	"net/http"
	"strings"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/store"
)

// restorer is a store whose policy may have gone back: etcd, restored from an
// older backup.
type restorer interface {
	AcceptRestored(ctx context.Context, above int64, author, role, reason string) (*store.Result, error)
}

// AcceptRestoredRequest says that the policy of an etcd that was restored from an
// older backup counts.
type AcceptRestoredRequest struct {
	Above  int64  `json:"above,omitempty" minimum:"0" maximum:"4611686018427387904" doc:"A revision that was in force before: the new one is above it. What this control plane and the live nodes have seen is known without that."`
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why, for the history and the audit log."`
}

func (a *api) acceptRestored(ctx context.Context, in *struct {
	Author
	Body AcceptRestoredRequest
}) (*resultOut, error) {
	reason := strings.TrimSpace(in.Body.Reason)
	if reason == "" {
		return nil, problem(http.StatusUnprocessableEntity, "reason: say why the older policy counts")
	}
	r, ok := a.store.(restorer)
	if !ok {
		return nil, problem(http.StatusConflict, "policy is in files on this machine, and not in etcd: there is nothing to accept")
	}
	above := max(in.Body.Above, a.newestInForce(ctx))
	res, err := r.AcceptRestored(ctx, above, in.name(ctx), string(access.From(ctx).Role), reason)
	if err != nil {
		return nil, a.fail("accept the restored policy", err)
	}
	a.log.Warn("the policy of a restored etcd was accepted", "revision", res.Revision, "author", in.name(ctx), "reason", reason)
	return &resultOut{etag(res.Revision), result(res, false)}, nil
}

// newestInForce is the newest revision that a node has in force, where that is
// above the store's: a node that has seen more than the backup holds refuses
// whatever is not above it. 0 is that no node is known to be ahead.
func (a *api) newestInForce(ctx context.Context) (newest int64) {
	if a.cluster == nil {
		return 0
	}
	ns, err := a.cluster.Nodes(ctx)
	if err != nil {
		a.log.Warn("the nodes' revisions are not known; what they have beyond the backup is not looked at", "error", err)
		return 0
	}
	for _, n := range ns {
		if n.Revision > a.store.Snapshot().Revision {
			newest = max(newest, n.Revision)
		}
	}
	return newest
}
