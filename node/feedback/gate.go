package feedback

import (
	"net/netip"
	"strings"

	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

var (
	unknownAddress = &Refusal{550, message.Enhanced{Class: 5, Subject: 1, Detail: 1}, "No such address here"}
	notHere        = &Refusal{550, message.Enhanced{Class: 5, Subject: 7, Detail: 1}, "Relaying denied"}
	tooFast        = &Refusal{450, message.Enhanced{Class: 4, Subject: 7, Detail: 1}, "Too much from your address, try again later"}
	noReport       = &Refusal{550, message.Enhanced{Class: 5, Subject: 6, Detail: 0}, "This address takes delivery and feedback reports only"}
	laterPlease    = &Refusal{451, message.Enhanced{Class: 4, Subject: 3, Detail: 0}, "Temporary failure, try again later"}
)

// Recipient says whether mail for the address is taken. It is asked at RCPT: what
// is refused there costs nobody anything, and nothing is relayed from here.
// Which of the reasons a token is refused for, nobody is told. What is good has a
// rate of its own: a large provider's servers bring old tokens too, and that must
// not cost the new ones.
func (r *Receiver) Recipient(client netip.Addr, address string) *Refusal {
	refusal, which, rate := r.recipient(address), messageRate, r.o.Limits.Messages
	if refusal != nil {
		which, rate = badRate, r.o.Limits.Bad
	}
	if !r.limits.may(client, which, rate, r.o.Now()) {
		r.counters.limited.Add(1)
		return tooFast
	}
	if refusal != nil {
		r.counters.refusedRecipients.Add(1)
	}
	return refusal
}

func (r *Receiver) recipient(address string) *Refusal {
	if r.addresses[feedback.Normal(address)] {
		return nil
	}
	local, domain := split(address)
	v := r.policyView()
	if _, ok := v.domains[domain]; !ok {
		return notHere
	}
	if isOffice(local) {
		return nil
	}
	t, err := r.o.Keys.Open(local, r.o.Now())
	if err != nil || t.Purpose == feedback.Trace || v.tenant(t, domain) == "" {
		return unknownAddress
	}
	return nil
}

// isOffice knows the local parts that every domain has (RFC 5321 4.5.1, RFC
// 2142): some carriers send complaints to abuse@ whatever was arranged.
func isOffice(local string) bool {
	return strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "abuse")
}

func split(address string) (local, domain string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, ""
	}
	return address[:at], strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
}
