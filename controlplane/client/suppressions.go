package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"hikyaku/controlplane/api"
)

// Suppressions is the part of the API that is about who gets no mail, of a
// cluster or of a single node.
type Suppressions struct {
	p    *Policy
	base string
	node bool
}

// Suppressions asks a control plane, or, with node, a node that has none.
func (c *Client) Suppressions(author string, node bool) *Suppressions {
	base := "/v1/cluster/suppressions"
	if node {
		base = "/v1/suppressions"
	}
	return &Suppressions{&Policy{c, author}, base, node}
}

// SuppressionFilter picks entries.
type SuppressionFilter struct {
	Tenant, Domain, Prefix, Stream, Kind string

	Global       bool
	Since, Until time.Time
}

func (f *SuppressionFilter) values() url.Values {
	v := values("tenant", f.Tenant, "domain", f.Domain, "prefix", f.Prefix, "stream", f.Stream, "kind", f.Kind, "since", stamp(f.Since), "until", stamp(f.Until))
	if f.Global {
		v.Set("global", "true")
	}
	return v
}

func askSuppressions[T any](ctx context.Context, s *Suppressions, r request) (*T, error) {
	out := new(T)
	r.path = s.base + r.path
	return out, s.p.do(ctx, r, out)
}

// List gives a page of entries.
func (s *Suppressions) List(ctx context.Context, f SuppressionFilter, limit int, page string) (*api.SuppressionPage, error) {
	q := f.values()
	if limit > 0 {
		q.Set("limit", number(limit))
	}
	if page != "" {
		q.Set("page", page)
	}
	return askSuppressions[api.SuppressionPage](ctx, s, request{method: http.MethodGet, query: q})
}

// Get shows the entries of an address.
func (s *Suppressions) Get(ctx context.Context, tenant, address string) (*api.SuppressionPage, error) {
	return askSuppressions[api.SuppressionPage](ctx, s, request{method: http.MethodGet, path: "/" + url.PathEscape(address), query: values("tenant", tenant)})
}

// wait is for a control plane; a node knows of itself only.
func (s *Suppressions) wait(d time.Duration) url.Values {
	if s.node || d <= 0 {
		return url.Values{}
	}
	return values("wait", number(int((d+time.Second-1)/time.Second)))
}

// Add suppresses addresses, at most 10,000 at once.
func (s *Suppressions) Add(ctx context.Context, in *api.AddSuppressions, wait time.Duration) (*api.SuppressionChange, error) {
	return askSuppressions[api.SuppressionChange](ctx, s, request{method: http.MethodPost, query: s.wait(wait), in: in})
}

// Remove takes addresses off the list, at most 10,000 at once.
func (s *Suppressions) Remove(ctx context.Context, in *api.RemoveSuppressions, wait time.Duration) (*api.SuppressionChange, error) {
	return askSuppressions[api.SuppressionChange](ctx, s, request{method: http.MethodPost, path: ":remove", query: s.wait(wait), in: in})
}

// ImportOptions say how the lines of an import are to be read.
type ImportOptions struct {
	Tenant, Stream, Kind, Reason string

	Expires   time.Time
	FirstLine int
	DryRun    bool
	Wait      time.Duration
}

// Import brings one part of a list, at most 8 MiB, as application/x-ndjson or
// text/csv. To bring it again is harmless.
func (s *Suppressions) Import(ctx context.Context, part Text, o ImportOptions) (*api.ImportResult, error) {
	q := s.wait(o.Wait)
	for name, v := range values("tenant", o.Tenant, "stream", o.Stream, "kind", o.Kind, "reason", o.Reason, "expires", stamp(o.Expires), "first_line", number(o.FirstLine)) {
		q[name] = v
	}
	if o.DryRun {
		q.Set("dry_run", "true")
	}
	return askSuppressions[api.ImportResult](ctx, s, request{method: http.MethodPost, path: ":import", query: q, in: part})
}

// Stats counts the lists; tenant "" is all of them.
func (s *Suppressions) Stats(ctx context.Context, tenant string) (*api.SuppressionStats, error) {
	return askSuppressions[api.SuppressionStats](ctx, s, request{method: http.MethodGet, path: ":stats", query: values("tenant", tenant)})
}

// Export calls fn with each entry as a line of JSON, valid until fn returns.
func (s *Suppressions) Export(ctx context.Context, f SuppressionFilter, fn func(line []byte) error) error {
	body, err := s.p.c.Stream(ctx, http.MethodGet, s.base+":export", f.values(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for sc.Scan() {
		if end, ok := api.ParseStreamEnd(sc.Bytes()); ok {
			if end.Error != "" {
				return errors.New(end.Error)
			}
			return nil
		}
		if err := fn(sc.Bytes()); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case sc.Err() != nil:
		return fmt.Errorf("%w: %w", ErrCut, sc.Err())
	}
	return ErrCut
}
