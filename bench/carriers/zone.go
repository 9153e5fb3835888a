package carriers

import (
	"fmt"
	"strings"
	"time"

	"hikyaku/bench/dns"
)

// Names that every farm has, to show what DNS can do to mail. Their mail goes
// to the first carrier where it goes at all.
const (
	NameNullMX   = "null-mx.farm.test"  // takes no mail (RFC 7505)
	NameNowhere  = "nowhere.farm.test"  // NXDOMAIN
	NameServFail = "servfail.farm.test" // SERVFAIL
	NameSlow     = "slow.farm.test"     // every answer takes SlowAnswer
)

// SlowAnswer is how long the answers for NameSlow take.
const SlowAnswer = 3 * time.Second

const rcodeServFail = 2 // RFC 1035 4.1.1

// zone is the master file of everything the farm has.
func (f *Farm) zone() string {
	var b strings.Builder
	mx := func(domain string, st *station) {
		for _, h := range st.profile.MX {
			fmt.Fprintf(&b, "%s. IN MX %d %s.\n", domain, h.Preference, h.Name)
		}
	}
	for _, st := range f.stations {
		for _, d := range st.profile.Domains {
			mx(d, st)
			if !strings.HasPrefix(d, "*.") {
				// For the time when the product looks: RFC 8461 3.1.
				fmt.Fprintf(&b, "_mta-sts.%s. IN TXT \"v=STSv1; id=1;\"\n", d)
			}
		}
		for i, a := range st.addrs {
			fmt.Fprintf(&b, "%s. IN A %s\n", st.names[i], a.IP)
		}
		for _, h := range st.profile.MX {
			if digest, ok := f.keys.digest(h.Name); ok {
				fmt.Fprintf(&b, "_25._tcp.%s. IN TLSA 3 1 1 %x\n", h.Name, digest) // RFC 6698 2.1, RFC 7672 3.1.1
			}
		}
	}
	fmt.Fprintf(&b, "%s. IN MX 0 .\n", NameNullMX)
	mx(NameSlow, f.stations[0])
	mx(NameServFail, f.stations[0])
	return b.String()
}

func (f *Farm) faults() {
	f.names.SetFault(NameServFail, "", &dns.Fault{Rcode: rcodeServFail})
	f.names.SetFault(NameSlow, "", &dns.Fault{Delay: SlowAnswer})
}

// Names is the farm's name server, to break it further.
func (f *Farm) Names() *dns.Server { return f.names }

// stationOf finds the carrier of a recipient domain.
func (f *Farm) stationOf(domain string) *station {
	domain = strings.ToLower(domain)
	for _, st := range f.stations {
		for _, d := range st.profile.Domains {
			if rest, wild := strings.CutPrefix(d, "*"); d == domain || wild && strings.HasSuffix(domain, rest) {
				return st
			}
		}
	}
	return nil
}

// Carrier names the carrier of a recipient domain; "" when there is none.
func (f *Farm) Carrier(domain string) string {
	if st := f.stationOf(domain); st != nil {
		return st.profile.Name
	}
	return ""
}
