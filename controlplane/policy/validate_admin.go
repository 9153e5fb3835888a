package policy

import "unicode/utf8"

// Bounds of a throttle's texts.
const (
	maxJobName = 128 // as at injection
	maxReason  = 1000
)

func (v *validation) checkThrottle(t *Throttle) {
	on := t.On()
	if !on.valid() {
		v.bad("spec", "a throttle is on one scope: carrier; carrier with pool or source; tenant; or tenant with carrier, stream or job")
		return
	}
	refers(v, "spec.carrier", KindCarrier, t.Carrier, v.set.Carriers)
	refers(v, "spec.pool", KindPool, t.Pool, v.set.Pools)
	refers(v, "spec.source", KindSource, t.Source, v.set.Sources)
	refers(v, "spec.tenant", KindTenant, t.Tenant, v.set.Tenants)
	if t.Stream != "" {
		if st, _ := v.set.StreamOf(t.Tenant, t.Stream); st == nil {
			refers(v, "spec.stream", KindStream, t.Stream, v.set.Streams)
		}
	}
	if t.Job != "" && !validJob(t.Job) {
		v.bad("spec.job", "%s is no name of a job: want 1 to %d characters of printable ASCII without spaces", quote(t.Job), maxJobName)
	}
	v.claim("spec", "scope of a throttle", on.String())
	v.throttleLimits(t)
	if len(t.Reason) > maxReason || !utf8.ValidString(t.Reason) {
		v.bad("spec.reason", "want at most %d bytes of UTF-8", maxReason)
	}
}

// throttleLimits checks that there is something to set, and that the scope has
// it.
func (v *validation) throttleLimits(t *Throttle) {
	l := t.Limits()
	if l.IsZero() {
		v.bad("spec", "a throttle needs what it sets: rate, per_day, connections or connection_rate")
	}
	v.limits("spec", &l)
	if t.Tenant != "" {
		if t.Connections != 0 {
			v.bad("spec.connections", "connections are a carrier's; a tenant has no limit of them")
		}
		if t.ConnectionRate != nil {
			v.bad("spec.connection_rate", "connections are a carrier's; a tenant has no limit of them")
		}
	}
	if t.Job != "" && t.PerDay != 0 {
		v.bad("spec.per_day", "a job has no daily limit; set rate")
	}
}

// validJob is what injection takes as the name of a job.
func validJob(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= maxJobName
}

func (v *validation) checkAdminKey(k *AdminKey) {
	if k.Role == "" {
		v.bad("spec.role", "want one of admin, operator, read-only, tenant")
	}
	v.word("spec.role", k.Role, roleWords)
	switch {
	case k.Role == RoleTenant && k.Tenant == "":
		v.bad("spec.tenant", "a key of the role tenant needs the tenant's name")
	case k.Role != RoleTenant && k.Tenant != "":
		v.bad("spec.tenant", "it is for the role tenant only; a key of another role is for all tenants")
	}
	refers(v, "spec.tenant", KindTenant, k.Tenant, v.set.Tenants)
	v.keyHash("spec.hash", k.Hash)
	v.bounded("spec.networks", len(k.Networks))
	for i, n := range k.Networks {
		v.network(at("spec.networks", i), n)
	}
}
