package access

import (
	"slices"
	"strings"
)

// Role is what the bearer of a key may do.
type Role string

// The roles. Each but Tenant may do all that those below it may.
const (
	// Admin may do everything: keys, secrets of policy, membership.
	Admin Role = "admin"
	// Operator changes limits, holds mail, drains nodes.
	Operator Role = "operator"
	// ReadOnly looks.
	ReadOnly Role = "read-only"
	// Tenant looks at one tenant's mail and acts on it.
	Tenant Role = "tenant"
)

// Roles lists the roles, the strongest first.
func Roles() []Role { return []Role{Admin, Operator, ReadOnly, Tenant} }

// rank orders the roles that are above each other; 0 is none of them.
func (r Role) rank() int {
	switch r {
	case Admin:
		return 3
	case Operator:
		return 2
	case ReadOnly:
		return 1
	}
	return 0
}

// need is what an operation asks of a role.
type need struct {
	least  Role
	tenant bool // a tenant may too, within what is its own
}

// table has each route of the admin listener, as the mux knows it, with what it
// needs. A test compares it with the OpenAPI document.
var table = func() map[string]need {
	t := map[string]need{}
	add := func(n need, routes string) {
		for route := range strings.Lines(routes) {
			if route = strings.TrimSpace(route); route != "" {
				t[route] = n
			}
		}
	}
	add(need{ReadOnly, true}, `
		GET /docs
		GET /v1/openapi.json
		GET /v1/openapi.yaml
		GET /v1/cluster
		GET /v1/queues
		GET /v1/queues/why
		GET /v1/deliveries
		GET /v1/messages/{id}
		GET /v1/actions
		GET /v1/jobs
		GET /v1/jobs/{tenant}/{id}
		GET /v1/events
		GET /v1/events/tail
		GET /v1/cluster/queues
		GET /v1/cluster/queues/why
		GET /v1/cluster/deliveries
		GET /v1/cluster/messages/{id}
		GET /v1/cluster/actions
		GET /v1/cluster/jobs
		GET /v1/cluster/jobs/{tenant}/{id}
		GET /v1/cluster/events
		GET /v1/cluster/events/tail
		GET /v1/suppressions
		GET /v1/suppressions/{address}
		GET /v1/suppressions:stats
		GET /v1/suppressions:export
		GET /v1/cluster/suppressions
		GET /v1/cluster/suppressions/{address}
		GET /v1/cluster/suppressions:stats
		GET /v1/cluster/suppressions:export
		GET /v1/webhooks
		GET /v1/cluster/webhooks
	`)
	// What a tenant may do to its own mail, an operator may do to all.
	add(need{Operator, true}, `
		POST /v1/actions
		DELETE /v1/actions/{id}
		PATCH /v1/jobs/{tenant}/{id}
		POST /v1/cluster/actions
		DELETE /v1/cluster/actions/{id}
		PATCH /v1/cluster/jobs/{tenant}/{id}
		POST /v1/suppressions
		POST /v1/suppressions:remove
		POST /v1/suppressions:import
		DELETE /v1/suppressions/{address}
		POST /v1/cluster/suppressions
		POST /v1/cluster/suppressions:remove
		POST /v1/cluster/suppressions:import
		DELETE /v1/cluster/suppressions/{address}
		POST /v1/webhooks/{name}/test
		POST /v1/cluster/webhooks/{name}/test
	`)
	add(need{ReadOnly, false}, `
		GET /metrics
		GET /v1/overview
		GET /v1/lanes
		GET /v1/sites
		GET /v1/budgets
		GET /v1/transfers
		GET /v1/suppressions:has
		GET /v1/policy
		GET /v1/policy/{kind}
		GET /v1/policy/{kind}/{name}
		GET /v1/policy:history
		GET /v1/policy:diff
		GET /v1/policy:applied
		GET /v1/carriers/{carrier}/throttle
		GET /v1/nodes
		GET /v1/nodes/{node}
		GET /v1/sources
		GET /v1/grants
		GET /v1/leases
		GET /v1/leader
		GET /v1/gossip-keys
		GET /v1/decisions
		GET /v1/decisions/{id}
		GET /v1/reputation
		GET /v1/reputation/lanes
		GET /v1/reputation/holds
		GET /v1/warm-ups
		GET /v1/cluster/overview
		GET /v1/cluster/lanes
		GET /v1/cluster/sites
		GET /v1/cluster/budgets
		GET /v1/cluster/transfers
		GET /v1/signing-keys
		GET /v1/cluster/signing-keys
		GET /v1/blocklists
		GET /v1/cluster/blocklists
		GET /v1/replies/unclassified
		GET /v1/cluster/replies/unclassified
	`)
	// A trace shows addresses and sessions of all tenants.
	add(need{Operator, false}, `
		GET /v1/trace
		GET /v1/cluster/trace
		GET /v1/audit
		GET /v1/audit:verify
		PUT /v1/carriers/{carrier}/throttle
		DELETE /v1/carriers/{carrier}/throttle
		POST /v1/nodes/{node}/drain
		POST /v1/nodes/{node}/undrain
		POST /v1/sources/{source}/move
		POST /v1/decisions/{id}/undo
		POST /v1/reputation/lanes/{carrier}/{source}
	`)
	// Policy is changed by admins, but an operator may change what tunes and
	// not what lets in: see MayChange.
	add(need{Operator, false}, `
		PUT /v1/policy/{kind}/{name}
		DELETE /v1/policy/{kind}/{name}
		POST /v1/policy:apply
	`)
	add(need{Admin, false}, `
		POST /v1/policy:rollback
		POST /v1/policy:accept-restored
		DELETE /v1/nodes/{node}
		POST /v1/gossip-keys
		POST /v1/gossip-keys/{id}/use
		DELETE /v1/gossip-keys/{id}
		POST /v1/transfers/{number}/reclaim
		POST /v1/cluster/transfers/{node}/{number}/reclaim
		GET /debug/pprof/
		GET /debug/pprof/cmdline
		GET /debug/pprof/profile
		GET /debug/pprof/symbol
		GET /debug/pprof/trace
	`)
	return t
}()

// Routes lists the routes that the table knows.
func Routes() []string {
	var out []string
	for route := range table {
		out = append(out, route)
	}
	slices.Sort(out)
	return out
}

// needOf is the need of a route; one that is not in the table needs an admin.
func needOf(route string) need {
	if n, ok := table[route]; ok {
		return n
	}
	return need{Admin, false}
}

// May reports whether the role is enough for a route ("GET /v1/queues").
func (r Role) May(route string) bool {
	n := needOf(route)
	if r == Tenant {
		return n.tenant
	}
	return r.rank() > 0 && r.rank() >= n.least.rank()
}

// Needs says what a route needs, for people.
func Needs(route string) string {
	n := needOf(route)
	if n.tenant {
		return string(n.least) + ", or tenant for what is its own"
	}
	return string(n.least)
}

// adminKinds are the kinds of policy that let somebody in or hold secrets; only an
// admin changes them. Of the others the API keeps what is secret for admins.
var adminKinds = []string{"AdminKey", "SigningKey"}

// MayChange reports whether the role may change resources of the kind.
func (r Role) MayChange(kind string) bool {
	if slices.Contains(adminKinds, kind) {
		return r == Admin
	}
	return r.rank() >= Operator.rank()
}
