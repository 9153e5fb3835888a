package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"hikyaku/node/ingest"
)

// contract checks requests and answers against the document that is served.
type contract struct {
	doc    *openapi3.T
	router routers.Router
	seen   map[string]bool // "POST /v1/messages 202"
}

func loadContract(t *testing.T, s *ingest.HTTPServer) *contract {
	t.Helper()
	a := do(t, s, call{method: "GET", path: "/openapi.json"})
	if a.status != 200 {
		t.Fatalf("openapi.json: %d", a.status)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("the document is not valid OpenAPI 3.0: %v", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &contract{doc, router, map[string]bool{}}
}

// check makes the call and returns the answer, and whether the document allows
// the request. An answer that it does not describe is an error.
func (c *contract) check(t *testing.T, s *ingest.HTTPServer, in call) (*answer, error) {
	t.Helper()
	method := in.method
	if method == "" {
		method = "POST"
	}
	path := in.path
	if path == "" {
		path = "/v1/messages"
	}
	req, err := http.NewRequest(method, path, strings.NewReader(in.body))
	if err != nil {
		t.Fatal(err)
	}
	if in.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		t.Fatalf("%s %s: not in the document: %v", method, path, err)
	}
	input := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	allowed := openapi3filter.ValidateRequest(context.Background(), input)
	a := do(t, s, in)
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: a.status, Header: a.header,
		Body: io.NopCloser(bytes.NewBufferString(a.body)), Options: input.Options}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Errorf("%s %s %.200s: answer %d does not fit the document: %v\n%s", method, path, in.body, a.status, err, a.body)
	}
	c.seen[fmt.Sprintf("%s %s %d", method, route.Path, a.status)] = true
	return a, allowed
}

func TestOpenAPI(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) { l.MaxBodyBytes = 64 << 10 })
	c := loadContract(t, s)
	full := `{"from":{"email":"a@acme.example","name":"A"},"reply_to":{"email":"b@acme.example"},"subject":"s","text":"t","html":"<p>","missing":"empty",
		"headers":[{"name":"X-A","value":"b"}],"attachments":[{"name":"a.pdf","content_type":"application/pdf","content":"AQ=="}],
		"inline":[{"name":"i.png","content_id":"i","content":"AQ=="}],"to":[{"email":"a@x.example","name":"n","vars":{"a":1},"metadata":{"b":2}},{"email":"bad"}],
		"allow_duplicates":true,"envelope_from":"","stream":"bulk","pool":"default","job":"j","tags":["t"],"priority":"low","metadata":{"m":[1]}}`
	if _, err := c.check(t, s, call{body: full}); err != nil {
		t.Errorf("a request with every field is not in the document: %v", err)
	}
	id := n.accepted()[0].Message.ID.String()
	for _, in := range []call{
		{body: `{"raw":"RnJvbTogYUBhY21lLmV4YW1wbGUNCg0KeA0K","to":[{"email":"a@x.example"}]}`},
		{method: "GET", path: "/v1/messages/" + id + "?from=0&limit=1"}, {method: "GET", path: "/v1/messages/" + id + "-0"},
		{method: "DELETE", path: "/v1/messages/" + id}, {method: "GET", path: "/v1/jobs/j"},
		{method: "PATCH", path: "/v1/jobs/j", body: `{"state":"paused","rate":"10/s"}`}, {method: "DELETE", path: "/v1/jobs/j"},
		{method: "GET", path: "/healthz"},
	} {
		a, err := c.check(t, s, in)
		if err != nil || a.status/100 != 2 {
			t.Errorf("%s %s: %d, document says %v: %s", in.method, in.path, a.status, err, a.body)
		}
	}
	// What the document forbids, the handlers refuse.
	for _, in := range []call{
		{body: `{}`}, {body: `{"to":[]}`}, {body: `{"to":[{"email":"a@x.example"}],"form":1}`}, {body: `{"to":[{"name":"x"}]}`},
		{body: strings.Replace(hello, `"text"`, `"missing":"x","text"`, 1)}, {body: strings.Replace(hello, `"text"`, `"priority":"urgent","text"`, 1)},
		{body: strings.Replace(hello, `"text"`, `"metadata":[],"text"`, 1)}, {body: strings.Replace(hello, `"text"`, `"subject":null,"text"`, 1)},
		{body: strings.Replace(hello, `"text"`, `"job":"`+strings.Repeat("x", 129)+`","text"`, 1)},
		{method: "GET", path: "/v1/messages/" + id + "?limit=5000"}, {method: "PATCH", path: "/v1/jobs/j", body: `{"state":"x"}`}, {method: "PATCH", path: "/v1/jobs/j", body: `{"x":1}`},
	} {
		if a, err := c.check(t, s, in); err == nil || a.status/100 != 4 {
			t.Errorf("%s %s %s: %d, document says %v", in.method, in.path, in.body, a.status, err)
		}
	}
	// Refusals for which a request cannot be blamed by its shape.
	for _, in := range []call{
		{body: strings.Replace(hello, "acme", "evil", 1)}, {body: hello + strings.Repeat(" ", 64<<10)},
		{method: "GET", path: "/v1/messages/" + id + "-9"}, {method: "GET", path: "/v1/jobs/unknown"}, {method: "DELETE", path: "/v1/jobs/unknown"},
		{body: hello, header: []string{"Authorization", "Bearer x"}}, {body: hello, header: []string{"Content-Encoding", "br"}},
	} {
		if a, _ := c.check(t, s, in); a.status/100 != 4 {
			t.Errorf("%s %s: %d", in.method, in.path, a.status)
		}
	}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			ok := slices.ContainsFunc([]int{200, 202}, func(status int) bool { return c.seen[fmt.Sprintf("%s %s %d", method, path, status)] })
			if !ok {
				t.Errorf("%s: no successful call was checked", op.OperationID)
			}
		}
	}
}

// TestOpenAPIFieldsAreDecoded: the decoder is written by hand, so each field of
// the types in the document is sent on its own and must be known to it.
func TestOpenAPIFieldsAreDecoded(t *testing.T) {
	s := startHTTP(t, newNode(t), nil)
	unknown := func(path, body string) {
		t.Helper()
		a := do(t, s, call{body: body})
		if strings.Contains(a.body, "unknown field") || strings.Contains(a.body, `"bad_request"`) {
			t.Errorf("%s is in the document, but not read: %s", path, a.body)
		}
	}
	for field, wrap := range map[reflect.Type]string{
		reflect.TypeFor[ingest.SubmitRequest](): `{%s}`, reflect.TypeFor[ingest.SubmitAddress](): `{"from":{%s}}`, reflect.TypeFor[ingest.SubmitHeader](): `{"headers":[{%s}]}`,
		reflect.TypeFor[ingest.SubmitFile](): `{"attachments":[{%s}]}`, reflect.TypeFor[ingest.SubmitRecipient](): `{"to":[{%s}]}`,
	} {
		for i := range field.NumField() {
			name, _, _ := strings.Cut(field.Field(i).Tag.Get("json"), ",")
			key, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			unknown(field.Name()+"."+name, fmt.Sprintf(wrap, string(key)+":0"))
		}
	}
}
