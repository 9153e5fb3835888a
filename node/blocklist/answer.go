package blocklist

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// States of a pair.
const (
	Waiting = "waiting" // not asked yet
	Clear   = "clear"
	Listed  = "listed"
	Refused = "refused" // the list does not answer us
	Failed  = "failed"  // no answer
)

// Name is what is looked up: the address backwards, below the zone (RFC 5782 2.1
// and 2.4).
func Name(a netip.Addr, zone string) string {
	a = a.Unmap()
	var b strings.Builder
	if a.Is4() {
		q := a.As4()
		for i := len(q) - 1; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(q[i])) + ".")
		}
	} else {
		q := a.As16()
		for i := len(q) - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "%x.%x.", q[i]&15, q[i]>>4)
		}
	}
	return b.String() + zone
}

// Read says what the addresses of an answer mean.
func Read(zone string, answer []netip.Addr) (state string, means []string) {
	state = Clear
	for _, a := range answer {
		s, m := readOne(zone, a.Unmap())
		switch {
		case s == Refused && state != Listed:
			state = Refused
		case s == Listed && state != Listed:
			state, means = Listed, nil // what refuses beside a listing says nothing
		case s != state:
			continue
		}
		means = append(means, m)
	}
	return state, means
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	errorNet = netip.MustParsePrefix("127.255.255.0/24")
)

func readOne(zone string, a netip.Addr) (state, means string) {
	switch {
	case !loopback.Contains(a):
		// RFC 5782 2.1: all answers of a list are there. This is a resolver that
		// invents answers, or a zone that somebody else has by now.
		return Refused, a.String() + ": not the answer of a blocklist"
	case errorNet.Contains(a):
		return Refused, refusals(a)
	case a == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		return Refused, "127.0.0.1: the list refuses the question" // RFC 5782 5: it never is a listing
	}
	if isBelow(zone, "spamhaus.org") || isBelow(zone, "spamhaus.net") {
		return Listed, spamhaus(a)
	}
	return Listed, a.String()
}

func isBelow(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// refusals are Spamhaus' error codes, which others have taken over:
// https://www.spamhaus.org/faqs/dnsbl-usage/
func refusals(a netip.Addr) string {
	switch a.As4()[3] {
	case 252:
		return "127.255.255.252: the name of the zone is wrong"
	case 254:
		return "127.255.255.254: asked through a public resolver; use one of your own"
	case 255:
		return "127.255.255.255: too many questions"
	}
	return a.String() + ": the list refuses the question"
}

// spamhaus are the codes of ZEN and its parts (same page).
func spamhaus(a netip.Addr) string {
	q := a.As4()
	name := ""
	if q[1] == 0 && q[2] == 0 {
		switch q[3] {
		case 2:
			name = "SBL"
		case 3:
			name = "SBL CSS"
		case 4, 5, 6, 7:
			name = "XBL"
		case 9:
			name = "DROP"
		case 10, 11:
			name = "PBL"
		}
	}
	if name == "" {
		return a.String()
	}
	return name + " (" + a.String() + ")"
}

// maxReason bounds what is kept of a list's own words.
const maxReason = 300

// reason is the first text of a list, fit for a line.
func reason(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	s := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(texts[0], " "))
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), maxReason)], ""))
}
