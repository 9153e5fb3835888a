package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// fail turns an error into a problem document. What is not the client's doing
// is logged here and answered plainly.
func (a *api) fail(what string, err error) error {
	var conflict *store.ConflictError
	var problems policy.Problems
	var bad strict.Errors
	switch {
	case errors.As(err, &problems):
		p := problem(http.StatusUnprocessableEntity, fmt.Sprintf("policy would not be valid: %s", count(len(problems))))
		for _, e := range problems {
			// The last space of a location divides resource from path; the
			// client puts file and line to it.
			p.Errors = append(p.Errors, &huma.ErrorDetail{Location: e.Kind + "/" + e.Name + " " + e.Path, Message: e.Reason})
		}
		return p
	case errors.As(err, &bad):
		p := problem(http.StatusUnprocessableEntity, fmt.Sprintf("the body cannot be used: %s", count(len(bad))))
		for _, e := range bad {
			p.Errors = append(p.Errors, &huma.ErrorDetail{Location: e.Path, Message: fmt.Sprintf("%s (line %d, column %d)", e.Reason, e.Line, e.Column)})
		}
		return p
	case errors.As(err, &conflict):
		return problem(http.StatusConflict, conflict.Error())
	case errors.Is(err, store.ErrWentBack), errors.Is(err, store.ErrNotRestored):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, store.ErrNotFound):
		return problem(http.StatusNotFound, err.Error())
	}
	if store.Unreachable(err) {
		a.log.Warn(what, "error", err)
		return problem(http.StatusServiceUnavailable, "etcd does not answer, or most of its members are down: read the policy again before repeating the change")
	}
	a.log.Error(what, "error", err)
	return problem(http.StatusInternalServerError, "the policy store failed; its log says why. Read the policy again before repeating the change")
}

// failed is fail where a conflict means that a header's condition does not hold.
func (a *api) failed(err error) error {
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return problem(http.StatusPreconditionFailed, conflict.Error())
	}
	return a.fail("change policy", err)
}

func problem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

func count(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}
