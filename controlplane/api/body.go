package api

import (
	"fmt"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// body is the one document of a request.
func body(b []byte, into any) error {
	docs, err := strict.Parse("", b)
	if err != nil {
		return err
	}
	if len(docs) != 1 {
		return strict.Errors{{Position: strict.Position{Line: 1, Column: 1}, Reason: "want a JSON object"}}
	}
	return docs[0].Decode(into).Err()
}

// maxReason bounds what the history keeps of a reason.
const maxReason = 1000

func checkReason(s string) error {
	if len(s) > maxReason {
		return strict.Errors{{Position: strict.Position{Line: 1, Column: 1}, Path: "reason", Reason: fmt.Sprintf("want at most %d bytes", maxReason)}}
	}
	return nil
}

// putBody is PutRequest, with the spec still to be read.
type putBody struct {
	Spec   strict.Raw `json:"spec"`
	Reason string     `json:"reason"`
	DryRun bool       `json:"dry_run"`
}

func decodePut(kind string, b []byte) (spec any, in putBody, err error) {
	if err := body(b, &in); err != nil {
		return nil, in, err
	}
	if in.Spec.IsZero() {
		return nil, in, strict.Errors{{Position: strict.Position{Line: 1, Column: 1}, Path: "spec", Reason: "the spec is missing; {} is all defaults"}}
	}
	spec = policy.NewSpec(kind)
	if err := in.Spec.Decode(spec).Err(); err != nil {
		return nil, in, err
	}
	return spec, in, checkReason(in.Reason)
}

// applyBody is ApplyRequest, with the specs still to be read.
type applyBody struct {
	Resources        []manifest.Document `json:"resources"`
	Delete           []nameBody          `json:"delete"`
	ExpectedRevision int64               `json:"expected_revision"`
	Reason           string              `json:"reason"`
	DryRun           bool                `json:"dry_run"`
}

type nameBody struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Revision int64  `json:"revision"`
}

func decodeApply(b []byte) (*store.Batch, error) {
	var in applyBody
	if err := body(b, &in); err != nil {
		return nil, err
	}
	batch := &store.Batch{Expected: in.ExpectedRevision, Reason: in.Reason, DryRun: in.DryRun}
	var errs strict.Errors
	for i := range in.Resources {
		r, bad := in.Resources[i].Resource(fmt.Sprintf("resources[%d]", i))
		errs = append(errs, bad...)
		batch.Changes = append(batch.Changes, store.Change{Kind: r.Kind, Name: r.Name, Spec: r.Spec, Expected: r.Revision})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for _, n := range in.Delete {
		batch.Changes = append(batch.Changes, store.Change{Kind: n.Kind, Name: n.Name, Expected: n.Revision})
	}
	return batch, checkReason(in.Reason)
}

// rollbackBody is RollbackRequest.
type rollbackBody struct {
	Revision         int64  `json:"revision"`
	ExpectedRevision int64  `json:"expected_revision"`
	Reason           string `json:"reason"`
	DryRun           bool   `json:"dry_run"`
}

func decodeRollback(b []byte) (*store.Rollback, error) {
	var in rollbackBody
	if err := body(b, &in); err != nil {
		return nil, err
	}
	return &store.Rollback{To: in.Revision, Expected: in.ExpectedRevision, Reason: in.Reason, DryRun: in.DryRun}, checkReason(in.Reason)
}
