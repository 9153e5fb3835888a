package ingest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// The OpenAPI document is made from the Go types when the server starts: the
// schemas by huma's registry from the struct tags, the operations below. It is
// served as OpenAPI 3.0.3, which all tools read; TestOpenAPI holds the handlers
// to it.

// Schema says that a JSONObject is any object.
func (JSONObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// operation is one call of the API.
type operation struct {
	method, path, id, summary, about string
	params                           []*huma.Param
	body                             reflect.Type // nil: none
	answers                          map[int]reflect.Type
	errors                           []int
	open                             bool // needs no key
}

func (o *operation) String() string { return o.method + " " + o.path }

func operations() []operation {
	job := param("job", "path", "The job's name, or the id of a message that was sent without one.", &huma.Schema{Type: huma.TypeString})
	id := param("id", "path", "A message's id, or a delivery's: the message's id, a hyphen and a number.", &huma.Schema{Type: huma.TypeString})
	common := []int{400, 401, 404, 429, 500, 503}
	return []operation{
		{method: http.MethodPost, path: "/v1/messages", id: "submit", summary: "Send a message to 1 to 10,000 recipients",
			about: "Answers 202 when the message is on disk. Recipients that cannot get it are listed in rejected; if none can, the answer is 422 and nothing is sent. " +
				"Bodies may be sent with Content-Encoding: gzip. Templates are Handlebars: {{var}}, {{{var}}}, if, unless, each, with. " +
				"Beside vars there are email, name, id and job.",
			params: []*huma.Param{{Name: "Idempotency-Key", In: "header", Description: "Makes repeating safe: the same key and body give the same answer for 24 hours; the same key with another body is 409.",
				Schema: &huma.Schema{Type: huma.TypeString, MinLength: ptr(1), MaxLength: ptr(maxIdempotencyKey)}}},
			body: reflect.TypeFor[SubmitRequest](), answers: map[int]reflect.Type{202: reflect.TypeFor[SubmitAnswer]()},
			errors: []int{400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503}},
		{method: http.MethodGet, path: "/v1/messages/{id}", id: "message", summary: "Where a message stands",
			params: []*huma.Param{id,
				{Name: "from", In: "query", Description: "Number of the first delivery to list.", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: ptr(0.0), Maximum: ptr(65535.0)}},
				{Name: "limit", In: "query", Description: "How many to list. Default 100.", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: ptr(1.0), Maximum: ptr(float64(maxPage))}}},
			answers: map[int]reflect.Type{200: reflect.TypeFor[MessageStatus]()}, errors: common},
		{method: http.MethodDelete, path: "/v1/messages/{id}", id: "cancelMessage", summary: "Cancel what is still queued of a message",
			params: []*huma.Param{id}, answers: map[int]reflect.Type{200: reflect.TypeFor[CancelResult]()}, errors: common},
		{method: http.MethodGet, path: "/v1/jobs/{job}", id: "job", summary: "How far a job is",
			params: []*huma.Param{job}, answers: map[int]reflect.Type{200: reflect.TypeFor[JobStatus]()}, errors: common},
		{method: http.MethodPatch, path: "/v1/jobs/{job}", id: "patchJob", summary: "Pause, resume or slow a job",
			params: []*huma.Param{job}, body: reflect.TypeFor[PatchRequest](),
			answers: map[int]reflect.Type{200: reflect.TypeFor[JobStatus]()}, errors: append([]int{409, 413, 415, 422}, common...)},
		{method: http.MethodDelete, path: "/v1/jobs/{job}", id: "cancelJob", summary: "Cancel what is left of a job",
			params: []*huma.Param{job}, answers: map[int]reflect.Type{200: reflect.TypeFor[JobStatus]()}, errors: append([]int{409}, common...)},
		{method: http.MethodGet, path: "/healthz", id: "health", summary: "Whether this server takes mail",
			answers: map[int]reflect.Type{200: reflect.TypeFor[health](), 503: reflect.TypeFor[health]()}, open: true},
	}
}

type health struct {
	OK bool `json:"ok"`
}

func ptr[T any](v T) *T { return &v }

func param(name, in, about string, s *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: about, Required: in == "path", Schema: s}
}

// describeAPI makes the document and the page for people.
func describeAPI() (document, page []byte, err error) {
	reg := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	api := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Hikyaku injection API", Version: "1", Description: "Send mail and see what became of it."},
		Components: &huma.Components{Schemas: reg, SecuritySchemes: map[string]*huma.SecurityScheme{
			"key": {Type: "http", Scheme: "bearer", Description: "An API key of a tenant. Networks named in the configuration need none."},
		}},
	}
	ops := operations()
	for i := range ops {
		api.AddOperation(ops[i].describe(reg))
	}
	limits(reg)
	if document, err = api.Downgrade(); err != nil {
		return nil, nil, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, document, "", " "); err != nil {
		return nil, nil, fmt.Errorf("indent OpenAPI document: %w", err)
	}
	page, err = docsPage(ops, reg)
	return indented.Bytes(), page, err
}

// limits adds what struct tags cannot say.
func limits(reg huma.Registry) {
	for name, s := range reg.Map() {
		if name == "SubmitRequest" {
			s.Properties["to"].MaxItems = ptr(10_000)
			s.Properties["tags"].Items.MaxLength = ptr(maxTag)
		}
		for _, p := range s.Properties {
			p.Nullable = false // null is never taken and never given
		}
	}
}

func (o *operation) describe(reg huma.Registry) *huma.Operation {
	op := &huma.Operation{OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.about,
		Parameters: o.params, Responses: map[string]*huma.Response{}}
	if !o.open {
		op.Security = []map[string][]string{{"key": {}}, {}}
	}
	content := func(t reflect.Type) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: reg.Schema(t, true, "")}}
	}
	if o.body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: content(o.body)}
	}
	for status, t := range o.answers {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: content(t)}
	}
	for _, status := range o.errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: content(reflect.TypeFor[ErrorBody]())}
	}
	return op
}

//go:embed http_docs.html
var docsTemplate string

// docsField is one row of a table in the docs.
type docsField struct{ Name, Type, Required, About string }

type docsSchema struct {
	Name   string
	Fields []docsField
}

func docsPage(ops []operation, reg huma.Registry) ([]byte, error) {
	type docsOp struct {
		Method, Path, Summary, About, Body string
		Params                             []docsField
		Answers                            []docsField
	}
	var page struct {
		Ops     []docsOp
		Schemas []docsSchema
	}
	name := func(t reflect.Type) string {
		if t == nil {
			return ""
		}
		return huma.DefaultSchemaNamer(t, "")
	}
	for _, o := range ops {
		d := docsOp{Method: o.method, Path: o.path, Summary: o.summary, About: o.about, Body: name(o.body)}
		for _, p := range o.params {
			d.Params = append(d.Params, docsField{Name: p.Name, Type: p.In, About: p.Description})
		}
		for _, status := range slices.Sorted(maps.Keys(o.answers)) {
			d.Answers = append(d.Answers, docsField{Name: strconv.Itoa(status), Type: name(o.answers[status]), About: http.StatusText(status)})
		}
		for _, status := range o.errors {
			d.Answers = append(d.Answers, docsField{Name: strconv.Itoa(status), Type: "ErrorBody", About: http.StatusText(status)})
		}
		page.Ops = append(page.Ops, d)
	}
	schemas := reg.Map()
	for _, n := range slices.Sorted(maps.Keys(schemas)) {
		s := docsSchema{Name: n}
		for _, f := range slices.Sorted(maps.Keys(schemas[n].Properties)) {
			p := schemas[n].Properties[f]
			row := docsField{Name: f, Type: schemaType(p), About: p.Description}
			if slices.Contains(schemas[n].Required, f) {
				row.Required = "yes"
			}
			s.Fields = append(s.Fields, row)
		}
		page.Schemas = append(page.Schemas, s)
	}
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse docs page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("make docs page: %w", err)
	}
	return out.Bytes(), nil
}

func schemaType(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Type == huma.TypeArray && s.Items != nil:
		return "list of " + schemaType(s.Items)
	case s.ContentEncoding != "":
		return s.ContentEncoding
	case s.Format != "" && s.Type == huma.TypeString:
		return s.Format
	case len(s.Enum) > 0:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Enum...), " ", ", "), "[]")
	}
	return s.Type
}
