package doctor

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// isPrivate reports whether an address is one that receivers do not see.
func isPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || netip.MustParsePrefix("100.64.0.0/10").Contains(a)
}

// sources looks at the names of the addresses that mail leaves from.
func (x *exam) sources() {
	if len(x.s.Sources) == 0 {
		x.add(CheckNamePTR, "sources", Unknown, "no source is known; give one with --source, or ask a running node")
		return
	}
	for _, s := range x.s.Sources {
		switch {
		case !s.Addr.IsValid():
			x.add(CheckNamePTR, s.Name, Unknown, "the source has no address of its own: each node has its own; give them with --source")
		case isPrivate(s.Addr):
			x.add(CheckNamePTR, s.Addr.String(), Unknown, "a private address: receivers see another; give it with --source")
		default:
			x.source(s)
		}
	}
}

func (x *exam) source(s Source) {
	about := s.Addr.String()
	names, err := x.l.PTR(x.ctx, s.Addr)
	if err != nil {
		x.add(CheckNamePTR, about, Unknown, "%v", err)
		return
	}
	if len(names) == 0 {
		c := x.add(CheckNamePTR, about, Fail, "the address has no name (PTR); who gave it to you can set one")
		if name := strings.ToLower(strings.TrimSuffix(s.EHLO, ".")); name != "" {
			c.Publish = &Record{Name: reverseName(s.Addr), Type: "PTR", Text: name + "."}
		}
		return
	}
	var confirmed []string
	unknown := error(nil)
	for _, n := range names[:min(len(names), spfNames)] {
		found, err := addrs(x.ctx, x.l, n, s.Addr.Unmap())
		if err != nil {
			unknown = err
		}
		if slices.Contains(found, s.Addr.Unmap()) {
			confirmed = append(confirmed, n)
		}
	}
	switch {
	case len(confirmed) == 0 && unknown != nil:
		x.add(CheckNamePTR, about, Unknown, "%v", unknown)
		return
	case len(confirmed) == 0:
		c := x.add(CheckNamePTR, about, Fail, "its name %s does not lead back to it", names[0])
		c.Publish = x.wayBack(s, names[0])
		return
	case generic(confirmed[0], s.Addr):
		x.add(CheckNamePTR, about, Warn, "its name %s looks like that of a customer's line; some receivers refuse those", confirmed[0])
	default:
		x.add(CheckNamePTR, about, Pass, "%s, and back", confirmed[0])
	}
	x.ehlo(s, confirmed)
}

// wayBack is what makes a name and its address one: the PTR, where the name that
// the source says leads to it already, or the address of the name there is.
func (x *exam) wayBack(s Source, name string) *Record {
	ehlo := strings.ToLower(strings.TrimSuffix(s.EHLO, "."))
	if ehlo != "" && ehlo != name {
		found, err := addrs(x.ctx, x.l, ehlo, s.Addr.Unmap())
		if err == nil && slices.Contains(found, s.Addr.Unmap()) {
			return &Record{Name: reverseName(s.Addr), Type: "PTR", Text: ehlo + "."}
		}
	}
	return addressRecord(name, s.Addr)
}

// ehlo compares the name that the source says with the one it has.
func (x *exam) ehlo(s Source, names []string) {
	about := s.Addr.String()
	name := strings.ToLower(strings.TrimSuffix(s.EHLO, "."))
	switch {
	case name == "":
		x.add(CheckNameEHLO, about, Unknown, "the source says its node's host name; set ehlo to %s", names[0])
		return
	case slices.Contains(names, name):
		x.add(CheckNameEHLO, about, Pass, "%s is its name", name)
		return
	}
	found, err := addrs(x.ctx, x.l, name, s.Addr.Unmap())
	switch {
	case err != nil:
		x.add(CheckNameEHLO, about, Unknown, "%v", err)
	case slices.Contains(found, s.Addr.Unmap()):
		x.add(CheckNameEHLO, about, Warn, "it says %s, and its name is %s; they should be one", name, names[0])
	case len(found) > 0:
		x.add(CheckNameEHLO, about, Fail, "it says %s, which is another machine's (%s); set ehlo to %s", name, found[0], names[0])
	default:
		c := x.add(CheckNameEHLO, about, Fail, "it says %s, which has no address; set ehlo to %s, or publish one", name, names[0])
		c.Publish = addressRecord(name, s.Addr)
	}
}

func addressRecord(name string, a netip.Addr) *Record {
	kind := "A"
	if a.Unmap().Is6() {
		kind = "AAAA"
	}
	return &Record{Name: name, Type: kind, Text: a.Unmap().String()}
}

// reverseName is where the PTR of an address stands.
func reverseName(a netip.Addr) string {
	a = a.Unmap()
	labels := strings.Split(dotted(a), ".")
	slices.Reverse(labels)
	if a.Is4() {
		return strings.Join(labels, ".") + ".in-addr.arpa"
	}
	return strings.Join(labels, ".") + ".ip6.arpa"
}

// generic finds the address in its name, as in 192-0-2-1.static.example.net.
func generic(name string, a netip.Addr) bool {
	a = a.Unmap()
	if !a.Is4() {
		return false
	}
	b := a.As4()
	var words []string
	for _, f := range strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		words = append(words, strings.TrimLeft(f, "0"))
	}
	var want []string
	for _, c := range b {
		want = append(want, strings.TrimLeft(strconv.Itoa(int(c)), "0"))
	}
	for range 2 {
		for i := 0; i+4 <= len(words); i++ {
			if slices.Equal(words[i:i+4], want) {
				return true
			}
		}
		slices.Reverse(want)
	}
	return false
}

// mx looks whether mail to a domain arrives: receivers refuse mail from domains
// that cannot be answered.
func (x *exam) mx(domain, what string) {
	about := domain
	hosts, err := x.l.MX(x.ctx, domain)
	if err != nil {
		x.add(CheckNameMX, about, Unknown, "%v", err)
		return
	}
	if len(hosts) == 1 && hosts[0].Host == "" {
		x.add(CheckNameMX, about, Fail, "%s: null MX says that the domain takes no mail; docomo and others refuse mail from such a domain", what)
		return
	}
	if len(hosts) == 0 {
		a, err4 := x.l.A(x.ctx, domain)
		six, err6 := x.l.AAAA(x.ctx, domain)
		switch {
		case len(a)+len(six) > 0:
			x.add(CheckNameMX, about, Pass, "%s: no MX, but an address", what)
		case err4 != nil || err6 != nil:
			x.add(CheckNameMX, about, Unknown, "%s: look-up of its address failed", what)
		default:
			x.add(CheckNameMX, about, Fail, "%s: neither MX nor address; docomo, Yahoo and others refuse mail from such a domain", what)
		}
		return
	}
	null := func(h MX) bool { return h.Host == "" }
	if slices.ContainsFunc(hosts, null) {
		x.add(CheckNameMX, about, Warn, "%s: null MX beside others: some take it for a domain without mail (RFC 7505 3)", what)
		hosts = slices.DeleteFunc(hosts, null)
	}
	for _, h := range hosts[:min(len(hosts), spfNames)] {
		a, err4 := x.l.A(x.ctx, h.Host)
		six, err6 := x.l.AAAA(x.ctx, h.Host)
		if len(a)+len(six) > 0 {
			x.add(CheckNameMX, about, Pass, "%s: MX %s", what, h.Host)
			return
		}
		if err4 != nil || err6 != nil {
			x.add(CheckNameMX, about, Unknown, "%s: look-up of the address of %s failed", what, h.Host)
			return
		}
	}
	x.add(CheckNameMX, about, Fail, "%s: no MX host has an address", what)
}
