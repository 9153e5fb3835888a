package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/store"
)

// Audit is the log of what was ordered. It can be added to and read, and no
// more.
type Audit interface {
	AppendAudit(ctx context.Context, x store.Entry) error
	Audit(ctx context.Context, f store.AuditFilter, limit int, before string) (*store.AuditPage, error)
	VerifyAudit(ctx context.Context) (*store.AuditProof, error)
}

// AuditList is one page of the audit log, newest first.
type AuditList struct {
	Entries []store.Entry `json:"entries"`
	Next    string        `json:"next,omitempty" doc:"Page token of what is older. A page may be short though there is one."`
}

// AuditProof says that the log is whole. Who notes the sums down elsewhere can
// tell later whether its end was cut off.
type AuditProof struct {
	Orders      int64  `json:"orders" doc:"How many orders the log holds."`
	Order       int64  `json:"order" doc:"The number of the newest."`
	OrderSum    string `json:"order_sum" doc:"Its chained SHA-256 sum."`
	Revisions   int64  `json:"revisions" doc:"How many revisions of policy the log holds."`
	Revision    int64  `json:"revision" doc:"The newest."`
	RevisionSum string `json:"revision_sum" doc:"Its chained SHA-256 sum."`
	Whole       bool   `json:"whole" doc:"Nothing was changed, and nothing is missing between the first and the newest."`
	Fault       string `json:"fault,omitempty" doc:"What was found where it is not whole."`
}

func (a *api) registerAudit(h huma.API) {
	huma.Register(h, clusterOp("list-audit", http.MethodGet, "/v1/audit", "List what was ordered and changed, newest first"), a.listAudit)
	huma.Register(h, clusterOp("verify-audit", http.MethodGet, "/v1/audit:verify", "Check that nothing in the audit log was changed or taken out"), a.verifyAudit)
}

func (a *api) listAudit(ctx context.Context, in *struct {
	Author string    `query:"author" maxLength:"300"`
	Role   string    `query:"role" maxLength:"20"`
	Action string    `query:"action" maxLength:"40" doc:"As hold, cancel, drain, policy or login."`
	Scope  string    `query:"scope" maxLength:"300" doc:"A part of it."`
	Since  time.Time `query:"since" doc:"inclusive"`
	Until  time.Time `query:"until" doc:"exclusive"`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Page   string    `query:"page" maxLength:"200" doc:"next of the page before"`
}) (*out[AuditList], error) {
	f := store.AuditFilter{Author: in.Author, Role: in.Role, Action: in.Action, Scope: in.Scope, Since: in.Since, Until: in.Until}
	p, err := a.audit.Audit(ctx, f, in.Limit, in.Page)
	if errors.Is(err, store.ErrBadCursor) {
		return nil, problem(http.StatusUnprocessableEntity, "page: not a page token of this listing")
	}
	if err != nil {
		return nil, a.fail("read the audit log", err)
	}
	return &out[AuditList]{&AuditList{Entries: append([]store.Entry{}, p.Entries...), Next: p.Next}}, nil
}

func (a *api) verifyAudit(ctx context.Context, _ *struct{}) (*out[AuditProof], error) {
	p, err := a.audit.VerifyAudit(ctx)
	if err != nil {
		// A broken chain and an etcd that does not answer are told apart by the
		// text only; either way nobody may read "whole".
		a.log.Error("verify the audit log", "error", err)
		return &out[AuditProof]{&AuditProof{Fault: err.Error()}}, nil
	}
	return &out[AuditProof]{&AuditProof{Orders: p.Orders, Order: p.Order, OrderSum: p.OrderSum,
		Revisions: p.Revisions, Revision: p.Revision, RevisionSum: p.RevisionSum, Whole: true}}, nil
}

// record writes to the audit log and reports whether that went well. What went
// wrong is logged; the caller decides whether the order stands without it.
func (a *api) record(ctx context.Context, e entry) bool {
	if a.audit == nil {
		return false
	}
	id := access.From(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := a.audit.AppendAudit(ctx, store.Entry{Author: id.Author(), Role: string(id.Role), Action: e.action, Scope: e.scope, Reason: e.reason, Result: e.result})
	if err != nil {
		a.log.Error("write to the audit log", "entry", e.String(), "author", id.Author(), "error", err)
	}
	return err == nil
}

// Refused writes refused logins to the audit log: for access.Options.
func Refused(audit Audit) func(context.Context, access.Refusal) {
	return func(ctx context.Context, r access.Refusal) {
		e := store.Entry{Author: r.Address, Action: "login", Scope: r.Route, Result: "refused: " + r.Reason}
		if r.More > 0 {
			e.Result += fmt.Sprintf(" (and %d more since the last that was told)", r.More)
		}
		_ = audit.AppendAudit(ctx, e) // the guard has logged it
	}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
