package policy

// The kinds of resource.
const (
	KindTenant     = "Tenant"
	KindStream     = "Stream"
	KindPool       = "Pool"
	KindSource     = "Source"
	KindCarrier    = "Carrier"
	KindRoute      = "Route"
	KindSigningKey = "SigningKey"
	KindThrottle   = "Throttle"
	KindAdminKey   = "AdminKey"
	KindReplyRule  = "ReplyRule"
	KindWarmUp     = "WarmUp"
	KindWebhook    = "Webhook"
	KindReputation = "Reputation"
)

// DefaultName is the tenant, stream, pool, source and carrier that always
// exist; a resource of that name changes their settings. Without one, the
// default pool holds the default source, and the default source leaves address
// and name to the node.
const DefaultName = "default"

// Tenant is an upstream product or customer.
type Tenant struct {
	// Disabled refuses all new mail of the tenant; what is queued goes on.
	Disabled bool `json:"disabled,omitempty"`
	// Networks may submit without credentials and count as this tenant.
	Networks []Network `json:"networks,omitempty"`
	// SMTPUsers may log in with AUTH PLAIN or LOGIN.
	SMTPUsers []SMTPUser `json:"smtp_users,omitempty"`
	// APIKeys may use the HTTP API as bearer tokens.
	APIKeys []APIKey `json:"api_keys,omitempty"`
	// SenderDomains are the domains allowed in the envelope sender and From header: "example.com", "*.example.com" or "*". Empty allows all.
	SenderDomains []string `json:"sender_domains,omitempty"`
	// DefaultStream is used when a message names none.
	DefaultStream string `json:"default_stream,omitempty"`
	// Pool is used when neither the message nor its stream names one.
	Pool string `json:"pool,omitempty"`
	// Weight is the tenant's share where tenants compete, 1 to 1000. Default 10.
	Weight int `json:"weight,omitempty"`
	// Rate bounds the tenant's messages leaving over all carriers, as "100/s", "5000/h,burst=50".
	Rate *Rate `json:"rate,omitempty"`
	// PerDay bounds messages leaving in any 24 hours. 0 is no bound.
	PerDay int64 `json:"per_day,omitempty"`
	// Carriers bounds what the tenant sends to single carriers, by their names. At the default carrier the bound is over all its sites together.
	Carriers map[string]Quota `json:"carriers,omitempty"`
	// MaxQueued refuses new mail (452 4.3.1, 429) while this many deliveries of the tenant are queued. 0 is no bound.
	MaxQueued int64 `json:"max_queued,omitempty"`
	// DSN says which notices (RFC 3464) go to the envelope sender: never, failure (the default) or full (also delay and, where asked for, success; with the whole content where RET=FULL).
	DSN string `json:"dsn,omitempty"`
	// ReturnPath is a domain whose MX leads to a feedback listener. With it each recipient's mail leaves with an envelope sender of its own there, so that bounces that come back later are known; notices still go to the sender that was given.
	ReturnPath string `json:"return_path,omitempty"`
	// UnsubscribeURL is the https address under which the feedback listener's one-click endpoint can be reached (RFC 8058). With it, mail of bulk streams without List-Unsubscribe gets one.
	UnsubscribeURL string `json:"unsubscribe_url,omitempty"`
	// Suppress says what feeds the tenant's suppression list by itself: bounces, complaints, unsubscribes. Default all; [none] is none.
	Suppress []string `json:"suppress,omitempty"`
	// Guard watches the tenant in place of the settings of Reputation.
	Guard *Guard `json:"guard,omitempty"`
}

// Quota bounds messages. Zero or absent is no bound of that kind at that place.
type Quota struct {
	// Rate bounds messages, as "100/s", "5000/h,burst=50".
	Rate *Rate `json:"rate,omitempty"`
	// PerDay bounds messages in any 24 hours.
	PerDay int64 `json:"per_day,omitempty"`
}

// SMTPUser is one login of a tenant.
type SMTPUser struct {
	// Name is the login name, unique over all tenants.
	Name string `json:"name"`
	// PasswordHash is the output of "hikyaku secret hash".
	PasswordHash string `json:"password_hash"`
}

// APIKey is one bearer key of a tenant.
type APIKey struct {
	// Name tells keys apart in logs and events.
	Name string `json:"name"`
	// Hash is printed by "hikyaku secret key" beside the key itself.
	Hash string `json:"hash"`
}

// Stream is a traffic class. Its name is "stream" for all tenants, or
// "tenant/stream" for one; the latter wins.
type Stream struct {
	// Priority is high, normal or low. Default normal.
	Priority string `json:"priority,omitempty"`
	// Pool sends this stream's mail. Default: the tenant's pool, else "default".
	Pool string `json:"pool,omitempty"`
	// Expires ends deliveries that are still queued this long after acceptance. Default 72h.
	Expires Duration `json:"expires,omitempty"`
	// DelayNotice is when the sender is told of a delay, if the tenant's dsn is full. Default 4h.
	DelayNotice Duration `json:"delay_notice,omitempty"`
	// Retry overrides the carrier's retry schedule.
	Retry *Retry `json:"retry,omitempty"`
	// Rate bounds the stream's messages leaving, per tenant.
	Rate *Rate `json:"rate,omitempty"`
	// PerDay bounds the stream's messages leaving in any 24 hours, per tenant. 0 is no bound.
	PerDay int64 `json:"per_day,omitempty"`
	// Weight is the stream's share among the tenant's streams of the same priority, 1 to 1000. Default 10.
	Weight int `json:"weight,omitempty"`
	// Windows are the hours in which the stream may send. None is always. Waiting for a window uses up no retry, but expiry goes on.
	Windows []Window `json:"windows,omitempty"`
}

// Window is a span of hours that repeats on some days of the week.
type Window struct {
	// Days are mon, tue, wed, thu, fri, sat, sun. Empty is every day.
	Days []string `json:"days,omitempty"`
	// Start is the local time at which sending may begin, "HH:MM".
	Start string `json:"start"`
	// End is the local time at which it stops, "HH:MM", up to "24:00". An end before the start runs past midnight.
	End string `json:"end"`
	// TZ is the IANA time zone. Default UTC.
	TZ string `json:"tz,omitempty"`
}

// Pool is a named, weighted set of sources.
type Pool struct {
	// Sources are the members.
	Sources []PoolMember `json:"sources"`
}

// PoolMember is one source in a pool.
type PoolMember struct {
	// Name of the source.
	Name string `json:"name"`
	// Weight is its share of the pool's messages, 1 to 1000. Default 10.
	Weight int `json:"weight,omitempty"`
}

// Limits are the bounds that can stand on a carrier, over all sources or on
// each source. Zero or absent is no bound of that kind at that place.
type Limits struct {
	// Rate bounds messages, as "100/s", "10/m", "5000/h,burst=50".
	Rate *Rate `json:"rate,omitempty"`
	// PerDay bounds messages in any 24 hours.
	PerDay int64 `json:"per_day,omitempty"`
	// Connections bounds open connections.
	Connections int `json:"connections,omitempty"`
	// ConnectionRate bounds new connections, as "100/m".
	ConnectionRate *Rate `json:"connection_rate,omitempty"`
}

// Carrier is a mailbox provider, ISP or mobile operator. The carrier named
// "default" holds the settings of all mail that matches no other.
type Carrier struct {
	// MX are suffixes of MX host names, as ".google.com", which takes in google.com itself; all hosts of a site must match. The longest match wins.
	MX []string `json:"mx,omitempty"`
	// Domains are recipient domains, "docomo.ne.jp" or "*.vodafone.ne.jp". A match here wins over MX.
	Domains []string `json:"domains,omitempty"`
	// Limits hold over all sources together.
	Limits Limits `json:"limits,omitzero"`
	// PerSource holds for each source on its own. Connections default to 20.
	PerSource Limits `json:"per_source,omitzero"`
	// PerPool holds for the sources of a pool together, by the pool's name. At the default carrier each site has these limits for itself, as it has the others.
	PerPool map[string]Limits `json:"per_pool,omitempty"`
	// MessagesPerConnection closes a connection after this many messages. Default 1000.
	MessagesPerConnection int `json:"messages_per_connection,omitempty"`
	// RecipientsPerConnection closes a connection after this many recipients. 0 is no bound.
	RecipientsPerConnection int `json:"recipients_per_connection,omitempty"`
	// RecipientsPerTransaction bounds recipients of one message in one transaction. Default 100.
	RecipientsPerTransaction int `json:"recipients_per_transaction,omitempty"`
	// IdleTimeout closes a connection that has nothing to send. Default 5s.
	IdleTimeout Duration `json:"idle_timeout,omitempty"`
	// Retry is the schedule after a temporary failure. Default: that of the default carrier.
	Retry *Retry `json:"retry,omitempty"`
	// TLS is none, opportunistic (the default), required (any certificate) or verified (a certificate that names the MX host).
	TLS string `json:"tls,omitempty"`
	// Addresses picks IPv4 and IPv6 addresses of MX hosts: any (IPv6 first), prefer-ipv4, ipv4 or ipv6. Default any.
	Addresses string `json:"addresses,omitempty"`
	// Backoff is how long a site rests after all its hosts failed to take a connection: first this long, doubling up to 30 min. Default 30s.
	Backoff Duration `json:"backoff,omitempty"`
	// StartJitter spreads the first attempts of a job's deliveries at random over this span.
	StartJitter Duration `json:"start_jitter,omitempty"`
	// OffHour keeps first attempts of jobs out of the first minutes of each hour, up to this span; they are spread over as much after it.
	OffHour Duration `json:"off_hour,omitempty"`
	// MXNetworks are addresses of MX hosts, matched where no domain and no MX suffix does; all addresses of a site must match.
	MXNetworks []Network `json:"mx_networks,omitempty"`
	// OddLocalParts says how local parts that RFC 5321 does not allow unquoted ("a..b", "a.") are sent: refuse (the default), quoted or as-given.
	OddLocalParts string `json:"odd_local_parts,omitempty"`
	// Steering is how rates follow replies, in place of the settings of Reputation.
	Steering *Steer `json:"steering,omitempty"`
	// Origin says where the settings come from, for people.
	Origin string `json:"origin,omitempty"`
	// Disabled leaves the carrier out: its mail counts as that of the default carrier.
	Disabled bool `json:"disabled,omitempty"`
}

// Retry is a retry schedule.
type Retry struct {
	// Schedule holds the waits after the first, second, … failure; the last repeats until expiry. Default 5m, 15m, 30m, 1h, 2h, 4h.
	Schedule []Duration `json:"schedule,omitempty"`
	// Jitter moves each wait by a random share of it, up to this many percent either way. 0 to 50. Default 10.
	Jitter *int `json:"jitter,omitempty"`
}

// Route sends chosen domains to fixed hosts instead of their MX.
type Route struct {
	// Domains are recipient domains: "example.com", "*.example.com" or "*". The longest match wins.
	Domains []string `json:"domains"`
	// Hosts are "name:port", "name" (port 25), "192.0.2.1:25" or "[2001:db8::1]:25", tried in this order. Names are resolved by A and AAAA only. Empty uses the domain's MX with the other settings of this route.
	Hosts []string `json:"hosts,omitempty"`
	// AllowNetworks are private, loopback or link-local networks that this route may connect to.
	AllowNetworks []Network `json:"allow_networks,omitempty"`
	// TLS overrides the carrier's setting: none, opportunistic, required, verified or implicit (TLS from the first byte, verified).
	TLS string `json:"tls,omitempty"`
	// Username logs in with AUTH PLAIN or LOGIN, only over TLS unless auth_plaintext is set.
	Username string `json:"username,omitempty"`
	// Password of the login. It is never shown in a listing; left out of a later apply, the stored one stays as long as hosts, tls, username and auth_plaintext do.
	Password Secret `json:"password,omitzero"`
	// AuthPlaintext allows the login without TLS.
	AuthPlaintext bool `json:"auth_plaintext,omitempty"`
	// Carrier puts the route's mail under this carrier's limits.
	Carrier string `json:"carrier,omitempty"`
}

// SigningKey signs mail by the domain of its From header with DKIM (RFC 6376).
// All keys of a domain sign.
type SigningKey struct {
	// Domain is the d= domain. A From domain below it is signed too unless it has a key of its own.
	Domain string `json:"domain"`
	// Selector is the s= name.
	Selector string `json:"selector"`
	// PrivateKey is PEM (PKCS #1 or #8): RSA of at least 1024 bits or Ed25519. It is never shown in a listing; left out of a later apply, the stored one stays.
	PrivateKey Secret `json:"private_key,omitzero"`
	// PrivateKeyFile is read instead of private_key, on the node.
	PrivateKeyFile string `json:"private_key_file,omitempty"`
	// Disabled stops signing with the key.
	Disabled bool `json:"disabled,omitempty"`
	// OversignHeaders are signed once more than they occur, so none can be added. Default From, Subject, Date, To, List-Unsubscribe, List-Unsubscribe-Post, Message-ID.
	OversignHeaders []string `json:"oversign_headers,omitempty"`
}
