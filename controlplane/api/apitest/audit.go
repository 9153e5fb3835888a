package apitest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hikyaku/controlplane/store"
)

// Audit implements api.Audit.
type Audit struct {
	mu struct {
		sync.Mutex
		entries []store.Entry
		err     error
		fault   string
	}
}

// Fail makes writing and reading fail; nil ends that.
func (a *Audit) Fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.err = err
}

// Break makes the log look changed.
func (a *Audit) Break(fault string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.fault = fault
}

// Entries are what was written, oldest first.
func (a *Audit) Entries() []store.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.mu.entries)
}

// AppendAudit implements api.Audit, as the rest does.
func (a *Audit) AppendAudit(_ context.Context, x store.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.err != nil {
		return a.mu.err
	}
	x.ID, x.Time = fmt.Sprintf("audit/%d", len(a.mu.entries)+1), Epoch
	a.mu.entries = append(a.mu.entries, x)
	return nil
}

// Audit lists entries, newest first. A page token is the number of the entry
// that was shown last.
func (a *Audit) Audit(_ context.Context, f store.AuditFilter, limit int, before string) (*store.AuditPage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.err != nil {
		return nil, a.mu.err
	}
	at := len(a.mu.entries)
	if before != "" {
		var err error
		if at, err = strconv.Atoi(before); err != nil || at < 0 || at > len(a.mu.entries) {
			return nil, store.ErrBadCursor
		}
	}
	p := &store.AuditPage{}
	for ; at > 0; at-- {
		x := a.mu.entries[at-1]
		if f.Author != "" && f.Author != x.Author || f.Action != "" && f.Action != x.Action || f.Role != "" && f.Role != x.Role || !strings.Contains(x.Scope, f.Scope) ||
			!f.Since.IsZero() && x.Time.Before(f.Since) || !f.Until.IsZero() && !x.Time.Before(f.Until) {
			continue
		}
		if len(p.Entries) == limit {
			p.Next = strconv.Itoa(at)
			break
		}
		p.Entries = append(p.Entries, x)
	}
	return p, nil
}

// VerifyAudit finds it whole unless Break was called.
func (a *Audit) VerifyAudit(context.Context) (*store.AuditProof, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.fault != "" {
		return nil, errors.New(a.mu.fault)
	}
	n := int64(len(a.mu.entries))
	return &store.AuditProof{Orders: n, Order: n, OrderSum: "5um"}, a.mu.err
}
