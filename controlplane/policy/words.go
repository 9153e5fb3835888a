package policy

// Words of Tenant.DSN.
const (
	DSNNever   = "never"
	DSNFailure = "failure"
	DSNFull    = "full"
)

// Words of Carrier.TLS and Route.TLS.
const (
	TLSNone          = "none"
	TLSOpportunistic = "opportunistic"
	TLSRequired      = "required"
	TLSVerified      = "verified"
	TLSImplicit      = "implicit" // routes only
)

// Words of Carrier.Addresses.
const (
	AddressesAny        = "any"
	AddressesPreferIPv4 = "prefer-ipv4"
	AddressesIPv4       = "ipv4"
	AddressesIPv6       = "ipv6"
)

// Words of Source.Attach.
const (
	AttachNone    = "none"
	AttachNetlink = "netlink"
	AttachCommand = "command"
)

// Words of Carrier.OddLocalParts.
const (
	OddRefuse  = "refuse"
	OddQuoted  = "quoted"
	OddAsGiven = "as-given"
)

// Words of Reputation.Mode, Steer.Mode and Guard.Mode.
const (
	ModeOn     = "on"
	ModeDryRun = "dry-run"
	ModeOff    = "off"
)

// Words of Reputation.Catalogue.
const (
	CatalogueShipped = "shipped"
	CatalogueNone    = "none"
)

// Words of Tenant.Suppress.
const (
	SuppressBounces      = "bounces"
	SuppressComplaints   = "complaints"
	SuppressUnsubscribes = "unsubscribes"
	SuppressNone         = "none"
)

// Words of AdminKey.Role.
const (
	RoleAdmin    = "admin"
	RoleOperator = "operator"
	RoleReadOnly = "read-only"
	RoleTenant   = "tenant"
)

var (
	dsnWords        = []string{DSNNever, DSNFailure, DSNFull}
	carrierTLSWords = []string{TLSNone, TLSOpportunistic, TLSRequired, TLSVerified}
	routeTLSWords   = []string{TLSNone, TLSOpportunistic, TLSRequired, TLSVerified, TLSImplicit}
	addressWords    = []string{AddressesAny, AddressesPreferIPv4, AddressesIPv4, AddressesIPv6}
	priorityWords   = []string{"high", "normal", "low"}
	attachWords     = []string{AttachNone, AttachNetlink, AttachCommand}
	roleWords       = []string{RoleAdmin, RoleOperator, RoleReadOnly, RoleTenant}
	oddWords        = []string{OddRefuse, OddQuoted, OddAsGiven}
	modeWords       = []string{ModeOn, ModeDryRun, ModeOff}
	catalogueWords  = []string{CatalogueShipped, CatalogueNone}
	suppressWords   = []string{SuppressBounces, SuppressComplaints, SuppressUnsubscribes, SuppressNone}
	dayWords        = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
)
