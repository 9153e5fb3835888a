package mx

import (
	"strconv"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

func enhanced(class uint8, subject, detail uint16) message.Enhanced {
	return message.Enhanced{Class: class, Subject: subject, Detail: detail}
}

func permanent(code uint16, e message.Enhanced, text string) *message.Reply {
	reply := message.Fail(code, e, message.PhaseResolve, message.FaultDNS, text)
	return &reply
}

// temporary is 451 4.4.3, "directory server failure" (RFC 3463 3.5).
func temporary(text string) *message.Reply {
	return permanent(451, enhanced(4, 4, 3), text)
}

// family is the kind of address that the options allow, in words.
func family(o Options) string {
	switch o.Addresses {
	case policy.AddressesIPv4:
		return "IPv4"
	case policy.AddressesIPv6:
		return "IPv6"
	}
	return "IP"
}

func article(word string) string { return "an " + word }

func more(n int) string {
	if n == 0 {
		return ""
	}
	return " and " + strconv.Itoa(n) + " more"
}
