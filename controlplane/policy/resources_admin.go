package policy

// Throttle sets other limits for one scope while it exists: it replaces those
// that it gives and leaves the rest, so it can lower and lift. The scope is one
// of: carrier; carrier and pool; carrier and source; tenant; tenant and
// carrier; tenant and stream; tenant and job. A scope has at most one.
type Throttle struct {
	// Carrier is the carrier that is meant.
	Carrier string `json:"carrier,omitempty"`
	// Pool narrows it to the sources of a pool together.
	Pool string `json:"pool,omitempty"`
	// Source narrows it to one source.
	Source string `json:"source,omitempty"`
	// Tenant is the tenant that is meant; with a carrier, what it sends there.
	Tenant string `json:"tenant,omitempty"`
	// Stream narrows it to one of the tenant's streams.
	Stream string `json:"stream,omitempty"`
	// Job narrows it to one of the tenant's jobs.
	Job string `json:"job,omitempty"`
	// Rate bounds messages, as "100/s", "5000/h,burst=50"; "0/s" stops them.
	Rate *Rate `json:"rate,omitempty"`
	// PerDay bounds messages in any 24 hours. Not for a job.
	PerDay int64 `json:"per_day,omitempty"`
	// Connections bounds open connections. Only for a carrier, with pool or source if wanted.
	Connections int `json:"connections,omitempty"`
	// ConnectionRate bounds new connections, as "100/m". Only for a carrier, with pool or source if wanted.
	ConnectionRate *Rate `json:"connection_rate,omitempty"`
	// Expires ends it, as "2026-11-22T18:00:00+09:00": nodes stop heeding it then, and the control plane deletes it. None lasts until it is deleted.
	Expires Instant `json:"expires,omitzero"`
	// Reason says why, for people.
	Reason string `json:"reason,omitempty"`
}

// AdminKey may use the admin API as a bearer token.
type AdminKey struct {
	// Role is admin (everything), operator (everything but admin keys and secrets), read-only, or tenant (what is of one tenant).
	Role string `json:"role"`
	// Tenant is the tenant whose things a key of the role tenant may see and change.
	Tenant string `json:"tenant,omitempty"`
	// Hash is printed by "hikyaku secret key" beside the key itself.
	Hash string `json:"hash"`
	// Expires ends it, as "2026-11-22T18:00:00+09:00". None lasts until it is deleted or disabled.
	Expires Instant `json:"expires,omitzero"`
	// Disabled refuses the key.
	Disabled bool `json:"disabled,omitempty"`
	// Networks are those from which the key may be used. Empty is all.
	Networks []Network `json:"networks,omitempty"`
}
