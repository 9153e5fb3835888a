package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/state"
)

// Every node has the whole suppression list, so one that lives is asked; what it
// changes reaches the others by itself (node/suppress).

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
	Node  string        `json:"node,omitempty" doc:"Whose list was read."`
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
	Reason string           `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit log."`
}

// Spread says which nodes have a change on their disks. The others get it by
// themselves.
type Spread struct {
	Nodes      int       `json:"nodes" doc:"Live nodes."`
	Have       int       `json:"have"`
	Everywhere bool      `json:"everywhere"`
	Missing    []Missing `json:"missing" doc:"Nodes that did not have it when they were asked, or were not asked, and why."`
}

// SuppressionChange is what a change did.
type SuppressionChange struct {
	Added     int    `json:"added"`
	Changed   int    `json:"changed" doc:"Stood with other words."`
	Unchanged int    `json:"unchanged" doc:"Stood so, or, to be removed, did not stand."`
	Removed   int    `json:"removed"`
	Node      string `json:"node,omitempty" doc:"Where it was made; it is on that node's disk."`
	Origin    string `json:"origin,omitempty" doc:"Of the last operation; absent when nothing changed."`
	Seq       uint64 `json:"seq,omitempty" doc:"Its number."`
	Audited   bool   `json:"audited" doc:"It is in the audit log."`
	Spread
}

// LineError is a line of an import that was left out.
type LineError struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// ImportResult is what an import did. Lines that are wrong are left out, the
// others are stored.
type ImportResult struct {
	Lines  int         `json:"lines" doc:"With an entry in them, good or bad."`
	Failed int         `json:"failed"`
	Errors []LineError `json:"errors" doc:"The first 1000 that failed."`
	DryRun bool        `json:"dry_run,omitempty"`
	SuppressionChange
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
	Node  string              `json:"node,omitempty"`
}

// SuppressionQuery picks entries. It is exported because huma reads embedded
// fields only then, as is the rest.
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

func (q *SuppressionQuery) values() url.Values {
	v := pairs("tenant", q.Tenant, "domain", q.Domain, "prefix", q.Prefix, "stream", q.Stream, "kind", q.Kind)
	if q.Global {
		v.Set("global", "true")
	}
	for name, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}

func pairs(namesAndValues ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] != "" {
			v.Set(namesAndValues[i], namesAndValues[i+1])
		}
	}
	return v
}

// WaitQuery is how long a change waits for the other nodes.
type WaitQuery struct {
	Wait int `query:"wait" minimum:"0" maximum:"9" doc:"Seconds to wait until all live nodes have it."`
}

// ImportParams say how the lines of an import are to be read.
type ImportParams struct {
	Tenant    string    `query:"tenant" maxLength:"64" doc:"Of lines that name none. Empty is all tenants; with a tenant's key, that tenant."`
	Stream    string    `query:"stream" maxLength:"128" doc:"Of lines that name none."`
	Kind      string    `query:"kind" enum:"bounce,complaint,unsubscribe,manual,import" default:"import" doc:"Of lines that name none."`
	Reason    string    `query:"reason" maxLength:"500" doc:"Of lines that name none."`
	Expires   time.Time `query:"expires" doc:"Of lines that name none."`
	FirstLine int       `query:"first_line" minimum:"1" maximum:"1000000000" default:"1" doc:"The number of the body's first line, where it is part of a longer list. A CSV part has the header line again, which is not counted then."`
	DryRun    bool      `query:"dry_run" doc:"Check the lines and change nothing."`
	WaitQuery
}

func (p *ImportParams) values() url.Values {
	v := pairs("tenant", p.Tenant, "stream", p.Stream, "kind", p.Kind, "reason", p.Reason, "first_line", strconv.Itoa(p.FirstLine))
	if !p.Expires.IsZero() {
		v.Set("expires", p.Expires.UTC().Format(time.RFC3339Nano))
	}
	if p.DryRun {
		v.Set("dry_run", "true")
	}
	return v
}

const suppressionsPath = "/v1/suppressions"

func (a *api) registerSuppressions(h huma.API) {
	huma.Register(h, fanOp("list-suppressions", http.MethodGet, "suppressions", "List who gets no mail"), a.listSuppressions)
	huma.Register(h, fanOp("get-suppression", http.MethodGet, "suppressions/{address}", "Show what keeps an address from getting mail"), a.getSuppression)
	huma.Register(h, fanOp("suppression-stats", http.MethodGet, "suppressions:stats", "Count the suppression lists"), a.suppressionStats)
	huma.Register(h, fanOp("add-suppressions", http.MethodPost, "suppressions", "Suppress addresses"), a.addSuppressions)
	huma.Register(h, fanOp("remove-suppressions", http.MethodPost, "suppressions:remove", "Take addresses off the list"), a.removeSuppressions)
	huma.Register(h, fanOp("delete-suppression", http.MethodDelete, "suppressions/{address}", "Take an address off the list"), a.deleteSuppression)
	op := fanOp("import-suppressions", http.MethodPost, "suppressions:import", "Import a suppression list")
	op.Description = "The body is NDJSON, an entry a line, or CSV with a header line that names its columns: address, and any of tenant, stream, kind, category, reason, event, added, expires. " +
		"At most 8 MiB; a longer list comes in parts, each with the number of its first line. To import a part again is harmless."
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Suppression](), true, "Suppression")}, "application/x-ndjson": text, "text/csv": text,
	}}
	op.SkipValidateBody = true
	huma.Register(h, op, a.importSuppressions)
	op.RequestBody.Content["application/x-ndjson"] = text // huma has made it binary
	export := streamOp("export-suppressions", "suppressions:export", "Export the suppression list")
	export.Description = "One entry a line, in the order of the listing, as an import takes it. The last line is {\"end\":true,…}; without it the export was cut off."
	huma.Register(h, export, a.exportSuppressions)
}

// anyNode asks live nodes, one after the other, until one answers. A refusal is
// an answer.
func anyNode[T any](ctx context.Context, a *api, names []string, c call) (*T, string, error) {
	nodes, err := a.targets(ctx, names)
	if err != nil {
		return nil, "", err
	}
	var last error
	for i := range nodes {
		n := nodes[(i+int(a.turn.Add(1)))%len(nodes)]
		as := ask[T](ctx, a, []state.Node{n}, func(state.Node) call { return c })
		if as[0].err == nil {
			return &as[0].value, n.Name, nil
		}
		if err := agreed(as); err != nil {
			return nil, "", err
		}
		if !errors.Is(as[0].err, errDown) || last == nil {
			last = fmt.Errorf("node %s: %w", n.Name, as[0].err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if last == nil {
		last = errors.New("there is no node")
	}
	return nil, "", problem(http.StatusServiceUnavailable, "no node has answered; "+last.Error())
}

func (a *api) listSuppressions(ctx context.Context, in *struct {
	SuppressionQuery
	NodesQuery
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Page  string `query:"page" maxLength:"1024" doc:"next of the page before"`
}) (*out[SuppressionPage], error) {
	if err := a.ownSuppressions(ctx, &in.SuppressionQuery); err != nil {
		return nil, err
	}
	q := in.values()
	q.Set("limit", strconv.Itoa(in.Limit))
	if in.Page != "" {
		q.Set("page", in.Page)
	}
	return a.suppressionPage(ctx, in.Node, call{method: http.MethodGet, path: suppressionsPath, query: q})
}

func (a *api) suppressionPage(ctx context.Context, names []string, c call) (*out[SuppressionPage], error) {
	p, node, err := anyNode[SuppressionPage](ctx, a, names, c)
	if err != nil {
		return nil, err
	}
	if p.Items == nil {
		p.Items = []Suppression{}
	}
	p.Node = node
	return &out[SuppressionPage]{p}, nil
}

// ownSuppressions narrows a question to what the asker may see.
func (a *api) ownSuppressions(ctx context.Context, q *SuppressionQuery) error {
	if q.Global && q.Tenant != "" {
		return problem(http.StatusUnprocessableEntity, "global: not together with a tenant")
	}
	if q.Global {
		tenant := ""
		if err := owned(ctx, &tenant); err != nil || tenant != "" {
			return problem(http.StatusUnprocessableEntity, "global: not together with a tenant")
		}
		return nil
	}
	return owned(ctx, &q.Tenant)
}

func (a *api) getSuppression(ctx context.Context, in *struct {
	Address string `path:"address" maxLength:"400"`
	Tenant  string `query:"tenant" maxLength:"64" doc:"Default all lists."`
	NodesQuery
}) (*out[SuppressionPage], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	return a.suppressionPage(ctx, in.Node, call{method: http.MethodGet, path: suppressionsPath + "/" + url.PathEscape(in.Address), query: pairs("tenant", in.Tenant)})
}

func (a *api) suppressionStats(ctx context.Context, in *struct {
	Tenant string `query:"tenant" maxLength:"64" doc:"Default all lists."`
	NodesQuery
}) (*out[SuppressionStats], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	s, node, err := anyNode[SuppressionStats](ctx, a, in.Node, call{method: http.MethodGet, path: suppressionsPath + ":stats", query: pairs("tenant", in.Tenant)})
	if err != nil {
		return nil, err
	}
	s.Node = node
	return &out[SuppressionStats]{s}, nil
}

func (a *api) addSuppressions(ctx context.Context, in *struct {
	WaitQuery
	Body AddSuppressions
}) (*out[SuppressionChange], error) {
	for i := range in.Body.Items {
		if err := owned(ctx, &in.Body.Items[i].Tenant); err != nil {
			return nil, err
		}
	}
	if len(in.Body.Items) == 0 { // null passes the schema
		return nil, problem(http.StatusUnprocessableEntity, "items: want at least one")
	}
	first := &in.Body.Items[0]
	e := entry{"suppress", listText(first.Tenant, len(in.Body.Items)), first.Reason, ""}
	return a.changeSuppressions(ctx, in.Wait, e, call{method: http.MethodPost, path: suppressionsPath, body: &in.Body})
}

func (a *api) removeSuppressions(ctx context.Context, in *struct {
	WaitQuery
	Body RemoveSuppressions
}) (*out[SuppressionChange], error) {
	for i := range in.Body.Items {
		if err := owned(ctx, &in.Body.Items[i].Tenant); err != nil {
			return nil, err
		}
	}
	if len(in.Body.Items) == 0 {
		return nil, problem(http.StatusUnprocessableEntity, "items: want at least one")
	}
	e := entry{"unsuppress", listText(in.Body.Items[0].Tenant, len(in.Body.Items)), in.Body.Reason, ""}
	return a.changeSuppressions(ctx, in.Wait, e, call{method: http.MethodPost, path: suppressionsPath + ":remove", body: &in.Body})
}

func (a *api) deleteSuppression(ctx context.Context, in *struct {
	Address string `path:"address" maxLength:"400"`
	Tenant  string `query:"tenant" maxLength:"64"`
	Stream  string `query:"stream" maxLength:"128"`
	Reason  string `query:"reason" maxLength:"500" doc:"Why, for the audit log."`
	WaitQuery
}) (*out[SuppressionChange], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	q := pairs("tenant", in.Tenant, "stream", in.Stream, "reason", in.Reason)
	return a.changeSuppressions(ctx, in.Wait, entry{"unsuppress", listText(in.Tenant, 1), in.Reason, ""},
		call{method: http.MethodDelete, path: suppressionsPath + "/" + url.PathEscape(in.Address), query: q})
}

// listText names a list and how much of it is changed. Addresses are people's and
// do not belong into a log that nobody can cut.
func listText(tenant string, n int) string {
	text := "the list of tenant " + tenant
	if tenant == "" {
		text = "the list of all tenants"
	}
	if n == 1 {
		return text + ", 1 address"
	}
	return text + ", " + strconv.Itoa(n) + " addresses"
}

func (a *api) changeSuppressions(ctx context.Context, wait int, e entry, c call) (*out[SuppressionChange], error) {
	audited := a.record(ctx, e)
	change, node, err := anyNode[SuppressionChange](ctx, a, nil, c)
	if err != nil {
		return nil, err
	}
	change.Node, change.Audited = node, audited
	return &out[SuppressionChange]{change}, a.spread(ctx, change, wait)
}

func (a *api) importSuppressions(ctx context.Context, in *struct {
	ImportParams
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/x-ndjson"`
}) (*out[ImportResult], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	audited := false
	if !in.DryRun {
		n := bytes.Count(in.RawBody, []byte("\n"))
		audited = a.record(ctx, entry{"suppress", listText(in.Tenant, n), in.Reason, "import from line " + strconv.Itoa(in.FirstLine)})
	}
	r, node, err := anyNode[ImportResult](ctx, a, nil, call{method: http.MethodPost, path: suppressionsPath + ":import", query: in.values(), raw: in.RawBody, contentType: in.ContentType})
	if err != nil {
		return nil, err
	}
	if r.Errors == nil {
		r.Errors = []LineError{}
	}
	r.Node, r.Audited = node, audited
	return &out[ImportResult]{r}, a.spread(ctx, &r.SuppressionChange, in.Wait)
}

// spread asks the live nodes whether they have a change.
func (a *api) spread(ctx context.Context, c *SuppressionChange, wait int) error {
	nodes, err := a.targets(ctx, nil)
	if err != nil {
		return err
	}
	var live []state.Node
	for _, n := range nodes {
		if n.Live {
			live = append(live, n)
		}
	}
	c.Spread = Spread{Nodes: len(live), Missing: []Missing{}}
	if c.Seq == 0 {
		c.Have, c.Everywhere = len(live), true
		return nil
	}
	q := pairs("origin", c.Origin, "seq", strconv.FormatUint(c.Seq, 10), "wait", strconv.Itoa(wait))
	for _, x := range ask[struct {
		Has bool `json:"has"`
	}](ctx, a, live, func(state.Node) call { return call{method: http.MethodGet, path: suppressionsPath + ":has", query: q} }) {
		switch {
		case x.err != nil:
			c.Missing = append(c.Missing, Missing{x.node, x.err.Error()})
		case !x.value.Has:
			c.Missing = append(c.Missing, Missing{x.node, "it did not have it yet"})
		default:
			c.Have++
		}
	}
	c.Everywhere = c.Have == c.Nodes
	return nil
}

// exportFor bounds an export: tens of millions of entries take minutes.
const exportFor = 2 * time.Hour

// exportSuppressions passes one node's export on.
func (a *api) exportSuppressions(ctx context.Context, in *struct {
	SuppressionQuery
	NodesQuery
}) (*huma.StreamResponse, error) {
	if err := a.ownSuppressions(ctx, &in.SuppressionQuery); err != nil {
		return nil, err
	}
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, problem(http.StatusServiceUnavailable, "too many streams are open; end one first")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportFor)
	done := func() { cancel(); <-a.streams }
	resp, node, err := a.openAny(ctx, nodes, call{method: http.MethodGet, path: suppressionsPath + ":export", query: in.values()})
	if err != nil {
		done()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer done()
		defer resp.Body.Close()
		defer context.AfterFunc(h.Context(), cancel)() // the client is gone
		_, w := humago.Unwrap(h)
		h.SetHeader("Content-Type", "application/x-ndjson")
		h.SetStatus(http.StatusOK)
		if h.Method() == http.MethodHead {
			return // the client takes the connection for free
		}
		end := passLines(resp, &lines{w: bufio.NewWriterSize(w, 32<<10), control: http.NewResponseController(w)}, node)
		if end != nil {
			a.log.Warn("an export of the suppression list was cut off", "node", node, "error", end)
		}
	}}, nil
}

// openAny opens a stream of a node that answers.
func (a *api) openAny(ctx context.Context, nodes []state.Node, c call) (*http.Response, string, error) {
	last := errors.New("there is no node")
	for _, n := range nodes {
		if !n.Live || n.Peer == "" {
			continue
		}
		resp, err := a.send(ctx, n, c)
		if err == nil {
			return resp, n.Name, nil
		}
		if err := agreed([]answer[struct{}]{{node: n.Name, err: err}}); err != nil {
			return nil, "", err
		}
		last = fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil, "", problem(http.StatusServiceUnavailable, "no node has answered; "+last.Error())
}

// passLines writes a node's lines, and a last line of its own.
func passLines(resp *http.Response, l *lines, node string) error {
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 16<<10), maxLine)
	finish := func(e StreamEnd) error {
		b, err := json.Marshal(e)
		if err == nil {
			err = l.write(b)
		}
		if err == nil {
			err = l.flush()
		}
		return err
	}
	for sc.Scan() {
		if end, ok := ParseStreamEnd(sc.Bytes()); ok {
			end.Coverage = Coverage{Complete: end.Error == "", Nodes: 1, Answered: 1, Missing: []Missing{}}
			return finish(end)
		}
		if err := l.write(sc.Bytes()); err != nil {
			return err
		}
	}
	err := sc.Err()
	if err == nil {
		err = errors.New("its stream was cut off")
	}
	return errors.Join(err, finish(StreamEnd{End: true, Error: "node " + node + ": " + err.Error(), Coverage: Coverage{Nodes: 1, Missing: []Missing{{node, err.Error()}}}}))
}
