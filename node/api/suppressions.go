package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/spool/suppression"
)

// Suppressions is the node's suppression list. Errors that wrap
// suppression.ErrInvalid or ErrFull are the client's to know.
type Suppressions interface {
	Page(f suppression.Filter, cursor string, limit int) (suppression.Page, error)
	Add([]suppression.Entry) (suppression.Result, error)
	Remove(refs []suppression.Ref, by, reason string) (suppression.Result, error)
	Counts() map[string]suppression.Counts
	// Key is the form of an address under which it is on the list.
	Key(address string) string
	// Has reports whether an operation is on this node's disk, after waiting for it.
	Has(ctx context.Context, p suppression.Position, wait time.Duration) bool
	Metrics() *SuppressionMetrics
}

// Suppression says that an address gets no mail of a tenant, or of one of its
// streams.
type Suppression struct {
	Tenant   string     `json:"tenant,omitempty" maxLength:"64" doc:"Empty is all tenants; with a tenant's key, that tenant."`
	Address  string     `json:"address" minLength:"1" maxLength:"400" doc:"In any way of writing; it is listed in one."`
	Stream   string     `json:"stream,omitempty" maxLength:"128" doc:"Empty is all streams."`
	Kind     string     `json:"kind,omitempty" enum:"bounce,complaint,unsubscribe,manual,import" doc:"Default manual, in an import import."`
	Category string     `json:"category,omitempty" maxLength:"32" doc:"What a bounce's reply meant."`
	Reason   string     `json:"reason,omitempty" maxLength:"1000" doc:"The reply's text, or what a person says; kept up to 512 bytes."`
	Event    string     `json:"event,omitempty" maxLength:"64" doc:"Id of the delivery that it comes from."`
	By       string     `json:"by,omitempty" maxLength:"300" doc:"Who has added it. In a request it is not listened to."`
	Added    *time.Time `json:"added,omitempty" doc:"Default now."`
	Expires  *time.Time `json:"expires,omitempty" doc:"When it ends by itself."`
}

// SuppressionPage is part of a listing, in the order tenant, domain, local part,
// stream.
type SuppressionPage struct {
	Items []Suppression `json:"items"`
	Next  string        `json:"next,omitempty" doc:"Page token of the next page. A page may be short, or empty, though there is one."`
}

// SuppressionRef names one.
type SuppressionRef struct {
	Tenant  string `json:"tenant,omitempty" maxLength:"64" doc:"Empty is the list of all tenants; with a tenant's key, that tenant's."`
	Address string `json:"address" minLength:"1" maxLength:"400"`
	Stream  string `json:"stream,omitempty" maxLength:"128" doc:"Empty is what holds for all streams."`
}

// AddSuppressions adds some, in place of those of the same names.
type AddSuppressions struct {
	Items []Suppression `json:"items" minItems:"1" maxItems:"10000"`
}

// RemoveSuppressions takes some off the list.
type RemoveSuppressions struct {
	Items  []SuppressionRef `json:"items" minItems:"1" maxItems:"10000"`
	Reason string           `json:"reason,omitempty" maxLength:"500"`
}

// SuppressionChange is what a change did. It is on this node's disk; origin and
// seq name it, to ask other nodes whether they have it.
type SuppressionChange struct {
	Added     int    `json:"added"`
	Changed   int    `json:"changed" doc:"Stood with other words."`
	Unchanged int    `json:"unchanged" doc:"Stood so, or, to be removed, did not stand."`
	Removed   int    `json:"removed"`
	Origin    string `json:"origin,omitempty" doc:"Of the last operation; absent when nothing changed."`
	Seq       uint64 `json:"seq,omitempty" doc:"Its number."`
}

// SuppressionCounts are those of one list. What has expired counts for up to a
// minute.
type SuppressionCounts struct {
	Tenant      string `json:"tenant,omitempty"`
	Entries     int64  `json:"entries"`
	Bounce      int64  `json:"bounce"`
	Complaint   int64  `json:"complaint"`
	Unsubscribe int64  `json:"unsubscribe"`
	Manual      int64  `json:"manual"`
	Import      int64  `json:"import"`
	Sightings   int64  `json:"sightings" doc:"Addresses that were unknown once, and are not suppressed unless they are again on another day."`
}

// SuppressionStats are the counts of all lists, and their sum.
type SuppressionStats struct {
	Items []SuppressionCounts `json:"items"`
	Total SuppressionCounts   `json:"total"`
}

// SuppressionHas says whether a node has an operation.
type SuppressionHas struct {
	Has bool `json:"has"`
}

// SuppressionQuery picks entries. It is exported because huma reads embedded
// fields only then.
type SuppressionQuery struct {
	Tenant string    `query:"tenant" maxLength:"64" doc:"Default all lists; with a tenant's key, that tenant's."`
	Global bool      `query:"global" doc:"Only what holds for all tenants."`
	Domain string    `query:"domain" maxLength:"255"`
	Prefix string    `query:"prefix" maxLength:"320" doc:"Beginning of the address."`
	Stream string    `query:"stream" maxLength:"128"`
	Kind   string    `query:"kind" enum:"bounce,complaint,unsubscribe,manual,import"`
	Since  time.Time `query:"since" doc:"Added at or after."`
	Until  time.Time `query:"until" doc:"Added before."`
}

func (q SuppressionQuery) filter(ctx context.Context) (suppression.Filter, error) {
	f := suppression.Filter{Domain: strings.ToLower(strings.TrimSuffix(q.Domain, ".")), Prefix: strings.ToLower(q.Prefix), Stream: q.Stream, Since: q.Since, Until: q.Until}
	f.Kind, _ = suppression.ParseKind(q.Kind)
	switch {
	case q.Global && (q.Tenant != "" || access.From(ctx).Role == access.Tenant):
		return f, huma.Error422UnprocessableEntity("global: not together with a tenant")
	case q.Global:
		f.Tenant = &q.Tenant
		return f, nil
	}
	if err := own(ctx, &q.Tenant); err != nil {
		return f, err
	}
	if q.Tenant != "" {
		f.Tenant = &q.Tenant
	}
	return f, nil
}

func suppressionOf(e *suppression.Entry) Suppression {
	s := Suppression{Tenant: e.Tenant, Address: e.Address, Stream: e.Stream, Kind: e.Kind.String(), Category: e.Category, Reason: e.Reason, Event: e.Event, By: e.By, Added: &e.Added}
	if !e.Expires.IsZero() {
		s.Expires = &e.Expires
	}
	return s
}

// entryOf reads one from a request.
func entryOf(ctx context.Context, s *Suppression, kind suppression.Kind) (suppression.Entry, error) {
	e := suppression.Entry{Tenant: s.Tenant, Address: s.Address, Stream: s.Stream, Kind: kind, Category: s.Category, Reason: s.Reason, Event: s.Event, By: access.From(ctx).Author()}
	if s.Kind != "" {
		k, ok := suppression.ParseKind(s.Kind)
		if !ok {
			return e, errors.New("kind: want one of " + strings.Join(suppression.Kinds(), ", "))
		}
		e.Kind = k
	}
	if s.Added != nil {
		e.Added = *s.Added
	}
	if s.Expires != nil {
		e.Expires = *s.Expires
	}
	return e, own(ctx, &e.Tenant)
}

func changeOf(r suppression.Result) *SuppressionChange {
	c := &SuppressionChange{Added: r.Added, Changed: r.Changed, Unchanged: r.Unchanged, Removed: r.Removed}
	if r.At.Seq > 0 {
		c.Origin, c.Seq = r.At.Origin.String(), r.At.Seq
	}
	return c
}

// listFail makes what the list finds wrong with a request a 422.
func listFail(err error) error {
	switch {
	case errors.Is(err, suppression.ErrInvalid), errors.Is(err, suppression.ErrFull):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, suppression.ErrClosed), errors.Is(err, suppression.ErrFailed):
		return huma.Error503ServiceUnavailable("the suppression list is closed")
	}
	return err
}

var errNoList = huma.Error503ServiceUnavailable("this node keeps no suppression list")

// listed is the node's list, or the answer that there is none.
func (a *api) listed() (Suppressions, error) {
	if a.list == nil {
		return nil, errNoList
	}
	return a.list, nil
}

func (a *api) registerSuppressions(h huma.API) {
	route(h, a, get("list-suppressions", "/v1/suppressions", "List who gets no mail"), func(ctx context.Context, in *struct {
		SuppressionQuery
		PageQuery
	}) (*SuppressionPage, error) {
		f, err := in.filter(ctx)
		if err != nil {
			return nil, err
		}
		return a.suppressions(f, in.Page, in.Limit)
	})
	route(h, a, get("get-suppression", "/v1/suppressions/{address}", "Show what keeps an address from getting mail", http.StatusNotFound), a.getSuppression)
	route(h, a, get("suppression-stats", "/v1/suppressions:stats", "Count the suppression lists"), a.suppressionStats)
	route(h, a, get("has-suppression", "/v1/suppressions:has", "Whether an operation on the list is on this node's disk"), a.hasSuppression)
	add := huma.Operation{OperationID: "add-suppressions", Method: http.MethodPost, Path: "/v1/suppressions", DefaultStatus: http.StatusOK, MaxBodyBytes: maxImport, Summary: "Suppress addresses"}
	route(h, a, add, a.addSuppressions)
	remove := huma.Operation{OperationID: "remove-suppressions", Method: http.MethodPost, Path: "/v1/suppressions:remove", DefaultStatus: http.StatusOK, MaxBodyBytes: maxImport, Summary: "Take addresses off the list"}
	route(h, a, remove, func(ctx context.Context, in *struct{ Body RemoveSuppressions }) (*SuppressionChange, error) {
		return a.removeSuppressions(ctx, in.Body.Items, in.Body.Reason)
	})
	one := huma.Operation{OperationID: "delete-suppression", Method: http.MethodDelete, Path: "/v1/suppressions/{address}", DefaultStatus: http.StatusOK, Summary: "Take an address off the list", Errors: []int{http.StatusNotFound}}
	route(h, a, one, func(ctx context.Context, in *struct {
		Address string `path:"address" maxLength:"400"`
		Tenant  string `query:"tenant" maxLength:"64"`
		Stream  string `query:"stream" maxLength:"128"`
		Reason  string `query:"reason" maxLength:"500"`
	}) (*SuppressionChange, error) {
		c, err := a.removeSuppressions(ctx, []SuppressionRef{{in.Tenant, in.Address, in.Stream}}, in.Reason)
		if err == nil && c.Removed == 0 {
			return nil, hidden("suppression")
		}
		return c, err
	})
	a.registerImport(h)
	huma.Register(h, exportOp("export-suppressions", "/v1/suppressions:export"), a.exportSuppressions)
}

func (a *api) suppressions(f suppression.Filter, page string, limit int) (*SuppressionPage, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	p, err := l.Page(f, page, limit)
	if err != nil {
		return nil, listFail(err)
	}
	out := &SuppressionPage{Items: make([]Suppression, 0, len(p.Entries)), Next: p.Next}
	for i := range p.Entries {
		out.Items = append(out.Items, suppressionOf(&p.Entries[i]))
	}
	return out, nil
}

// getSuppression shows an address in the lists that the asker may see. A tenant is
// not shown the operator's global list.
func (a *api) getSuppression(ctx context.Context, in *struct {
	Address string `path:"address" maxLength:"400"`
	Tenant  string `query:"tenant" maxLength:"64" doc:"Default all lists."`
}) (*SuppressionPage, error) {
	f, err := SuppressionQuery{Tenant: in.Tenant}.filter(ctx)
	if err != nil {
		return nil, err
	}
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	address := l.Key(in.Address)
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 {
		return nil, huma.Error422UnprocessableEntity("address: want local@domain")
	}
	f.Domain, f.Prefix = address[at+1:], address
	out := &SuppressionPage{}
	for more := true; more; more = out.Next != "" && ctx.Err() == nil {
		p, err := a.suppressions(f, out.Next, 1000)
		if err != nil {
			return nil, err
		}
		out.Items, out.Next = append(out.Items, p.Items...), p.Next
		if len(out.Items) >= 1000 {
			break
		}
	}
	if len(out.Items) == 0 {
		return nil, hidden("suppression")
	}
	return out, nil
}

func (a *api) addSuppressions(ctx context.Context, in *struct{ Body AddSuppressions }) (*SuppressionChange, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	es := make([]suppression.Entry, 0, len(in.Body.Items))
	for i := range in.Body.Items {
		e, err := entryOf(ctx, &in.Body.Items[i], suppression.Manual)
		if err != nil {
			return nil, itemFail(i, err)
		}
		es = append(es, e)
	}
	r, err := l.Add(es)
	if err != nil {
		return nil, listFail(err)
	}
	return changeOf(r), nil
}

// itemFail names the item that is wrong; whose tenant it is stays a 403.
func itemFail(i int, err error) error {
	var known huma.StatusError
	if errors.As(err, &known) {
		return err
	}
	return huma.Error422UnprocessableEntity("items[" + strconv.Itoa(i) + "]: " + err.Error())
}

func (a *api) removeSuppressions(ctx context.Context, items []SuppressionRef, reason string) (*SuppressionChange, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	refs := make([]suppression.Ref, 0, len(items))
	for i := range items {
		if err := own(ctx, &items[i].Tenant); err != nil {
			return nil, err
		}
		refs = append(refs, suppression.Ref(items[i]))
	}
	r, err := l.Remove(refs, access.From(ctx).Author(), reason)
	if err != nil {
		return nil, listFail(err)
	}
	return changeOf(r), nil
}

func (a *api) suppressionStats(ctx context.Context, in *struct {
	Tenant string `query:"tenant" maxLength:"64" doc:"Default all lists."`
}) (*SuppressionStats, error) {
	if err := own(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	out := &SuppressionStats{Items: []SuppressionCounts{}}
	for tenant, c := range l.Counts() {
		if in.Tenant == "" || tenant == in.Tenant {
			out.Items = append(out.Items, countsOf(tenant, &c))
		}
	}
	slices.SortFunc(out.Items, func(x, y SuppressionCounts) int { return cmp.Compare(x.Tenant, y.Tenant) })
	for _, x := range out.Items {
		t := &out.Total
		t.Entries, t.Bounce, t.Complaint, t.Unsubscribe = t.Entries+x.Entries, t.Bounce+x.Bounce, t.Complaint+x.Complaint, t.Unsubscribe+x.Unsubscribe
		t.Manual, t.Import, t.Sightings = t.Manual+x.Manual, t.Import+x.Import, t.Sightings+x.Sightings
	}
	return out, nil
}

func countsOf(tenant string, c *suppression.Counts) SuppressionCounts {
	return SuppressionCounts{Tenant: tenant, Entries: c.Entries, Bounce: c.ByKind[suppression.Bounce], Complaint: c.ByKind[suppression.Complaint],
		Unsubscribe: c.ByKind[suppression.Unsubscribe], Manual: c.ByKind[suppression.Manual], Import: c.ByKind[suppression.Import], Sightings: c.Sightings}
}

func (a *api) hasSuppression(ctx context.Context, in *struct {
	Origin string `query:"origin" required:"true" pattern:"^[0-9a-f]{16}$"`
	Seq    uint64 `query:"seq" required:"true" minimum:"1"`
	Wait   int    `query:"wait" minimum:"0" maximum:"20" doc:"Seconds to wait for it."`
}) (*SuppressionHas, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(in.Origin, 16, 64)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("origin: want 16 hexadecimal digits")
	}
	return &SuppressionHas{l.Has(ctx, suppression.Position{Origin: suppression.Origin(n), Seq: in.Seq}, time.Duration(in.Wait)*time.Second)}, nil
}

func exportOp(id, path string) huma.Operation {
	op := streamOp(id, path, "Export the suppression list")
	op.Description = "One entry a line, in the order of the listing, as an import takes it. The last line is {\"end\":true,…}; without it the export was cut off."
	op.Errors = append(op.Errors, http.StatusUnprocessableEntity)
	return op
}

// exportFor bounds an export: tens of millions of entries take minutes.
const exportFor = 2 * time.Hour

func (a *api) exportSuppressions(ctx context.Context, in *struct{ SuppressionQuery }) (*huma.StreamResponse, error) {
	f, err := in.filter(ctx)
	if err != nil {
		return nil, err
	}
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	return a.stream("export-suppressions", exportFor, func(ctx context.Context, emit func([]byte) error) (*EventsFound, error) {
		found := &EventsFound{}
		for cursor := ""; ctx.Err() == nil; {
			p, err := l.Page(f, cursor, 1000)
			if err != nil {
				return found, listFail(err)
			}
			for i := range p.Entries {
				b, err := json.Marshal(suppressionOf(&p.Entries[i]))
				if err == nil {
					err = emit(b)
				}
				if err != nil {
					return found, err
				}
				found.Matches++
			}
			if cursor = p.Next; cursor == "" {
				return found, nil
			}
		}
		return found, errors.New("it took too long; export a part of it")
	})
}
