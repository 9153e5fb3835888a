package notice

import (
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Kind is what a notice says of its recipients.
type Kind uint8

// The kinds, by the Action of RFC 3464 2.3.3.
const (
	Failed    Kind = iota // bounced or expired: nothing more will be tried
	Delayed               // still being tried
	Delivered             // into the mailbox, as far as we know
	Relayed               // to a server that sends no notices itself (RFC 3461 5.2.2)
)

var actions = [...]string{"failed", "delayed", "delivered", "relayed"}

// String is the Action.
func (k Kind) String() string { return actions[k] }

// Wanted decides whether a notice of a kind is due to a sender for a recipient.
// TenantDSN is policy.Tenant.DSN, empty meaning failure; notify is the
// recipient's NOTIFY parameter.
//
//	                 kind      no NOTIFY   NEVER   FAILURE   DELAY   SUCCESS
//	policy never     any       no          no      no        no      no
//	policy failure   failed    yes         no      yes       no      no
//	                 others    no          no      no        no      no
//	policy full      failed    yes         no      yes       no      no
//	                 delayed   yes         no      no        yes     no
//	                 success   no          no      no        no      yes
//
// NOTIFY values combine; NEVER wins over all (RFC 3461 4.1). Without NOTIFY,
// delay notices are at the server's choice. A sender that is the null
// reverse-path gets none, ever.
func Wanted(tenantDSN, sender string, notify message.Notify, kind Kind) bool {
	if sender == "" || tenantDSN == policy.DSNNever || notify&message.NotifyNever != 0 {
		return false
	}
	switch kind {
	case Failed:
		return notify == 0 || notify&message.NotifyFailure != 0
	case Delayed:
		return tenantDSN == policy.DSNFull && (notify == 0 || notify&message.NotifyDelay != 0)
	default:
		return tenantDSN == policy.DSNFull && notify&message.NotifySuccess != 0
	}
}
