package main

import (
	"bytes"
	"html/template"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// adminDocs renders the operations of the admin API as one page without
// scripts.
func adminDocs(documents ...*huma.OpenAPI) []byte {
	type operation struct{ Method, Path, Summary, Description string }
	type part struct {
		Title, Description string
		Operations         []operation
	}
	var parts []part
	for _, d := range documents {
		p := part{Title: d.Info.Title, Description: d.Info.Description}
		for path, item := range d.Paths {
			for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
				if op != nil {
					p.Operations = append(p.Operations, operation{method, path, op.Summary, op.Description})
				}
			}
		}
		slices.SortFunc(p.Operations, func(a, b operation) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
		parts = append(parts, p)
	}
	var b bytes.Buffer
	if err := adminPage.Execute(&b, parts); err != nil {
		panic("BUG: the admin page does not render: " + err.Error())
	}
	return b.Bytes()
}

var adminPage = template.Must(template.New("admin").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Hikyaku admin API</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;width:100%}td{padding:.35rem .6rem;border-top:1px solid #ddd;vertical-align:top}
td:first-child{font-weight:600;width:5rem}code{font-size:.95em}
</style>
<h1>Hikyaku admin API</h1>
<p>Machine-readable: <a href="/v1/node/openapi.json"><code>/v1/node/openapi.json</code></a>,
<a href="/v1/policy:openapi.json"><code>/v1/policy:openapi.json</code></a>. Also here: <code>/livez</code>, <code>/readyz</code>, <code>/metrics</code>.</p>
{{range .}}<h2>{{.Title}}</h2><p>{{.Description}}</p><table>
{{range .Operations}}<tr><td>{{.Method}}</td><td><code>{{.Path}}</code></td><td>{{.Summary}}</td></tr>
{{end}}</table>{{end}}</html>
`))
