package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/build"
)

// Register puts the parts of the admin API that a process has on one mux,
// with one document and one page for all. Either part may be nil.
func Register(mux *http.ServeMux, na *api.Options, pa *policyapi.Options) *huma.OpenAPI {
	h := humago.New(mux, policyapi.NewConfig(build.This().Version))
	if na != nil {
		o := *na
		o.API = h
		api.Register(mux, o)
	}
	if pa != nil {
		o := *pa
		o.API = h
		policyapi.Register(mux, o)
	}
	doc := h.OpenAPI()
	finishAdmin(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		panic("BUG: the OpenAPI document cannot be encoded: " + err.Error())
	}
	yaml, err := doc.YAML()
	if err != nil {
		panic("BUG: the OpenAPI document cannot be encoded: " + err.Error())
	}
	serveText(mux, policyapi.OpenAPIPath+".json", "application/openapi+json", text)
	serveText(mux, policyapi.OpenAPIPath+".yaml", "application/openapi+yaml", yaml)
	serveText(mux, "/docs", "text/html; charset=utf-8", adminDocs(doc))
	return doc
}

func serveText(mux *http.ServeMux, path, kind string, text []byte) {
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = w.Write(text) // the client may be gone
	})
}

// Operation is one operation with where it stands.
type Operation struct {
	Method, Path string
	*huma.Operation
}

// Operations lists the operations of a document, by path.
func Operations(doc *huma.OpenAPI) []Operation {
	var all []Operation
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op != nil {
				all = append(all, Operation{method, path, op})
			}
		}
	}
	slices.SortFunc(all, func(x, y Operation) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Method, y.Method))
	})
	return all
}

// finishAdmin adds what stands before every operation: keys, roles, and what the
// guard and the reading of a body can answer.
func finishAdmin(doc *huma.OpenAPI) {
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {
		Type: "http", Scheme: "bearer",
		Description: "An admin key (policy kind AdminKey), or the token of admin.token_file. Without such a token clients on this machine need none.",
	}}
	doc.Security = []map[string][]string{{"key": {}}, {}}
	fault := doc.Components.Schemas.Schema(typeOf[huma.ErrorModel](), true, "ErrorModel")
	for _, op := range Operations(doc) {
		statuses := []int{
			http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusUnprocessableEntity,
			http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
		}
		if op.RequestBody != nil {
			statuses = append(statuses, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
		}
		for _, status := range statuses {
			key := strconv.Itoa(status)
			if op.Responses[key] == nil {
				op.Responses[key] = &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{"application/problem+json": {Schema: fault}}}
			}
		}
		// net/http says this by itself, before any handler, in plain text.
		op.Responses["431"] = &huma.Response{Description: "The address and the headers have more than 32 KiB.", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}
		role := "Needs the role " + access.Needs(op.Method+" "+op.Path) + "."
		if op.Description != "" {
			role = op.Description + "\n\n" + role
		}
		op.Description = role
	}
}

// adminDocs renders the operations of the admin API as one page without
// scripts.
func adminDocs(doc *huma.OpenAPI) []byte {
	type operation struct{ Method, Path, Summary, Role string }
	type part struct {
		Title      string
		Operations []operation
	}
	parts := []*part{{Title: "policy"}, {Title: "cluster"}, {Title: "reputation"}, {Title: "node"}}
	for _, op := range Operations(doc) {
		i := slices.IndexFunc(parts, func(p *part) bool { return slices.Contains(op.Tags, p.Title) })
		if i < 0 {
			panic("BUG: " + op.OperationID + " is in no part of the page")
		}
		parts[i].Operations = append(parts[i].Operations, operation{op.Method, op.Path, op.Summary, access.Needs(op.Method + " " + op.Path)})
	}
	var b bytes.Buffer
	page := struct {
		Description string
		Parts       []*part
	}{doc.Info.Description, slices.DeleteFunc(parts, func(p *part) bool { return len(p.Operations) == 0 })}
	if err := adminPage.Execute(&b, page); err != nil {
		panic("BUG: the admin page does not render: " + err.Error())
	}
	return b.Bytes()
}

var adminPage = template.Must(template.New("admin").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Hikyaku admin API</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;width:100%}td{padding:.35rem .6rem;border-top:1px solid #ddd;vertical-align:top}
td:first-child{font-weight:600;width:5rem}td:last-child{color:#666}code{font-size:.95em}h2{text-transform:capitalize}
</style>
<h1>Hikyaku admin API</h1>
<p>{{.Description}}</p>
<p>Machine-readable: <a href="/v1/openapi.json"><code>/v1/openapi.json</code></a>,
<a href="/v1/openapi.yaml"><code>/v1/openapi.yaml</code></a>. Also here: <code>/livez</code>, <code>/readyz</code>, <code>/metrics</code>.
The last column is the role that an operation needs.</p>
{{range .Parts}}<h2>{{.Title}}</h2><table>
{{range .Operations}}<tr><td>{{.Method}}</td><td><code>{{.Path}}</code></td><td>{{.Summary}}</td><td>{{.Role}}</td></tr>
{{end}}</table>{{end}}</html>
`))

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
