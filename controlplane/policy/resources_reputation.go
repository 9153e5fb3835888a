package policy

// ReplyRule says what a carrier's reply means. Rules of policy are asked before
// those that come with the program, in the order of their names. All fields that
// are given must match.
type ReplyRule struct {
	// Carrier is the carrier whose replies are meant. Empty is all.
	Carrier string `json:"carrier,omitempty"`
	// Codes are reply codes, "550", "55x" or "5xx". Empty is all.
	Codes []string `json:"codes,omitempty"`
	// Enhanced are enhanced status codes, "5.7.1", "5.7.x" or "x.2.2". Empty is all.
	Enhanced []string `json:"enhanced,omitempty"`
	// Phases are the steps in which the reply was said: connect, banner, ehlo, starttls, tls, auth, mail, rcpt, data, dot, quit. Empty is all.
	Phases []string `json:"phases,omitempty"`
	// Faults are what happened in place of a reply: dns, refused, reset, closed, timeout, network, tls, protocol. Empty is a real reply.
	Faults []string `json:"faults,omitempty"`
	// Text is a regular expression (RE2, case-insensitive) that the text must contain. Empty is any text.
	Text string `json:"text,omitempty"`
	// Category is what the reply means, one of those that "hikyaku classify --categories" lists.
	Category string `json:"category"`
	// Action overrides what follows from the category, one of those that "hikyaku classify --categories" lists.
	Action string `json:"action,omitempty"`
	// RetryAfter is the least wait before the recipient is tried again, where the category retries.
	RetryAfter Duration `json:"retry_after,omitempty"`
	// Examples are replies, as "550 5.1.1 No such user", that the rule must match. At least one.
	Examples []string `json:"examples,omitempty"`
	// Disabled leaves the rule out.
	Disabled bool `json:"disabled,omitempty"`
}

// WarmUp lets a new source begin with few messages a day at each carrier, and
// more each day that goes well. What it may not take goes from the other
// sources of its pools.
type WarmUp struct {
	// Source is the source that is new.
	Source string `json:"source"`
	// Carriers are those at which it is; empty is all that policy names. The default carrier counts as one for each of its sites.
	Carriers []string `json:"carriers,omitempty"`
	// Start is when the first day begins. Default: when the control plane first sees the resource.
	Start Instant `json:"start,omitzero"`
	// Days are the messages of the first, second, … day, rising; after the last the source is warm. Default 50, 100, 200, 400, 800, 1500, 3000, 6000, 12000, 25000, 50000, 100000, 200000, 400000.
	Days []int64 `json:"days,omitempty"`
	// Paused keeps the day at which it is.
	Paused bool `json:"paused,omitempty"`
}

// Webhook posts events to a URL.
type Webhook struct {
	// Tenant is the tenant whose events are posted. Empty is all.
	Tenant string `json:"tenant,omitempty"`
	// Streams narrow it to some streams. Empty is all.
	Streams []string `json:"streams,omitempty"`
	// Events are the types to post: accepted, delivered, deferred, bounced, expired, cancelled, suppressed, complained, late-bounce, unsubscribed. Empty is all of them.
	Events []string `json:"events,omitempty"`
	// URL takes the events by POST, https unless allow_http is set.
	URL string `json:"url"`
	// Secret signs each request (HMAC-SHA256). It is never shown in a listing; left out of a later apply, the stored one stays as long as url does.
	Secret Secret `json:"secret,omitzero"`
	// FormerSecret signs as well while the endpoint learns the new secret: there are two v1= then. It is dropped when secret is given without it.
	FormerSecret Secret `json:"former_secret,omitzero"`
	// Authorization is the header of that name, "Bearer …", for an endpoint that asks who calls. It is kept as secret is.
	Authorization Secret `json:"authorization,omitzero"`
	// Headers are sent along. They are shown in listings, so what proves who calls belongs in authorization or secret.
	Headers map[string]string `json:"headers,omitempty"`
	// AllowNetworks are private, loopback or link-local networks that the URL may lead to.
	AllowNetworks []Network `json:"allow_networks,omitempty"`
	// AllowHTTP allows a URL without TLS.
	AllowHTTP bool `json:"allow_http,omitempty"`
	// MaxBatch is the most events of one request, 1 to 1000. Default 100.
	MaxBatch int `json:"max_batch,omitempty"`
	// MaxWait is how long events wait for others to go with. Default 1s.
	MaxWait Duration `json:"max_wait,omitempty"`
	// GiveUpAfter is how long a batch is tried. Default 24h.
	GiveUpAfter Duration `json:"give_up_after,omitempty"`
	// Disabled posts nothing; events of the meantime are not posted later.
	Disabled bool `json:"disabled,omitempty"`
}

// Reputation holds the settings of what is learnt from replies. There is one,
// named "default".
type Reputation struct {
	// Mode is on (the default), dry-run (decisions are made and recorded, and nothing follows) or off.
	Mode string `json:"mode,omitempty"`
	// Catalogue is shipped (the default: the carriers that come with the program are there, and local resources of the same name change them field by field) or none.
	Catalogue string `json:"catalogue,omitempty"`
	// Steering bounds the controller of rates, at carriers that have no settings of their own.
	Steering *Steer `json:"steering,omitempty"`
	// Guard watches tenants that have no settings of their own.
	Guard *Guard `json:"guard,omitempty"`
	// Blocklists are DNS zones that are asked now and then whether they list our sources, as "zen.spamhaus.org". Default none.
	Blocklists []string `json:"blocklists,omitempty"`
}

// Steer is how the rate of one source at one carrier follows what the carrier
// says: it rises by a step for each span without complaint, and falls to a part
// when the carrier throttles.
type Steer struct {
	// Mode is on (the default), dry-run or off.
	Mode string `json:"mode,omitempty"`
	// Start is the rate at which a source begins where nothing is known of what the carrier takes from it; it doubles while it is used up without a sign. Default: what the carrier's limits allow.
	Start *Rate `json:"start,omitempty"`
	// Floor is the least rate to slow down to. Default "1/m".
	Floor *Rate `json:"floor,omitempty"`
	// Ceiling is the most to rise to. Default: the carrier's own limit.
	Ceiling *Rate `json:"ceiling,omitempty"`
	// Decrease is the part that is left of the rate after a sign of throttling, in percent, 10 to 95. Default 50, and up to 80 where the rate that the carrier took was measured on many messages.
	Decrease int `json:"decrease,omitempty"`
	// Increase is the step upwards, in percent of the rate at which the carrier last throttled, 1 to 100. Default 5.
	Increase int `json:"increase,omitempty"`
	// Every is how long a rate must hold without a sign before the next step. Default 30s.
	Every Duration `json:"every,omitempty"`
	// Rest is how long a source rests after a block, at first; it doubles with each one more, up to 24h. Default 30m.
	Rest Duration `json:"rest,omitempty"`
}

// Guard stops a tenant, or its job, before carriers stop the source.
type Guard struct {
	// Mode is on (the default), dry-run or off.
	Mode string `json:"mode,omitempty"`
	// Sample is how many of the last recipients are looked at. Default 1000.
	Sample int `json:"sample,omitempty"`
	// UnknownWarn and UnknownPause are parts of unknown users in percent. Default 2 and 5.
	UnknownWarn float64 `json:"unknown_warn,omitempty"`
	// UnknownPause holds the tenant's mail for the carrier, or the job's.
	UnknownPause float64 `json:"unknown_pause,omitempty"`
	// ComplaintPause is the part of complaints in percent of what was delivered. Default 0.3.
	ComplaintPause float64 `json:"complaint_pause,omitempty"`
	// AuthPause is the part of refusals for SPF, DKIM or DMARC in percent. Default 20.
	AuthPause float64 `json:"auth_pause,omitempty"`
	// Hold is how long. Default 1h; 0s is the default too, since a hold without an end is an operator's.
	Hold Duration `json:"hold,omitempty"`
}
