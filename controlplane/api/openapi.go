package api

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// NewConfig is the OpenAPI document that all parts of the admin API are put
// into. Neither the document nor a page is served by it.
func NewConfig(version string) huma.Config {
	c := huma.DefaultConfig("Hikyaku admin API", version)
	c.Info.Description = "Policy, cluster, queues and what to do about them. Each operation needs a role (admin, operator, read-only, tenant), " +
		"which the key that the request brings has: Authorization: Bearer KEY. Errors are problem documents (RFC 9457)."
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil // no $schema in answers: they are for programs that have the types
	c.RejectUnknownQueryParameters = true
	return c
}

// schemaName tells types of one name apart: a Source of policy, and one as the
// cluster has it.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	switch {
	case strings.HasSuffix(t.PkgPath(), "/controlplane/policy"):
		return "Policy" + name
	case strings.HasSuffix(t.PkgPath(), "/controlplane/state"):
		return "Cluster" + name
	case strings.HasSuffix(t.PkgPath(), "/node/api"):
		return "Local" + name
	}
	return name
}
