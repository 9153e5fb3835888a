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
	dayWords        = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
)
