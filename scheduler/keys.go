package scheduler

import (
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
)

type (
	jobKey    struct{ tenant, job string }
	streamKey struct{ tenant, stream string }
	// tenantKey is a tenant at one carrier: at the default carrier, over all
	// its sites.
	tenantKey struct{ tenant, carrier string }
	// linkKey names a carrier's budget: of all sources together, of those of a
	// pool, or of one. The default carrier is not one provider, so there each
	// site has its own.
	linkKey struct{ carrier, site, source, pool string }
)

// The scopes by which policy and the leader know a budget.

func tenantScope(name string) exchange.Scope {
	return exchange.Scope{Kind: exchange.Tenant, Tenant: name}
}

func (k streamKey) scope() exchange.Scope {
	return exchange.Scope{Kind: exchange.Stream, Tenant: k.tenant, Stream: k.stream}
}

func (k jobKey) scope() exchange.Scope {
	return exchange.Scope{Kind: exchange.Job, Tenant: k.tenant, Job: k.job}
}

func (k tenantKey) scope() exchange.Scope {
	return exchange.Scope{Kind: exchange.TenantCarrier, Tenant: k.tenant, Carrier: k.carrier}
}

func (k linkKey) scope() exchange.Scope {
	x := exchange.Scope{Kind: exchange.Carrier, Carrier: k.carrier, Site: k.site, Source: k.source, Pool: k.pool}
	switch {
	case k.source != "":
		x.Kind = exchange.CarrierSource
	case k.pool != "":
		x.Kind = exchange.CarrierPool
	}
	return x
}

func selectorOf(x *exchange.Scope) policy.Selector {
	return policy.Selector{Carrier: x.Carrier, Pool: x.Pool, Source: x.Source, Tenant: x.Tenant, Stream: x.Stream, Job: x.Job}
}
