package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// spf evaluates the record of the return path for each source.
func (x *exam) spf() {
	domain := x.s.ReturnPath
	var known []Source
	for _, src := range x.s.Sources {
		if src.Addr.IsValid() && !isPrivate(src.Addr) {
			known = append(known, src)
		}
	}
	if len(known) == 0 {
		x.spfOfNobody(domain)
		return
	}
	var missing []netip.Addr
	first := len(x.Checks)
	for _, src := range known {
		r := CheckSPF(x.ctx, x.l, src.Addr, domain, "postmaster@"+domain, src.EHLO)
		if x.spfOf(src.Addr, &r) && !slices.Contains(missing, src.Addr.Unmap()) {
			missing = append(missing, src.Addr.Unmap())
		}
	}
	if len(missing) == 0 {
		x.spfOfOthers(domain)
		return
	}
	texts, err := x.l.TXT(x.ctx, domain)
	if err != nil {
		return // it was known a moment ago; without it a record would take away what is there
	}
	texts = slices.DeleteFunc(texts, func(t string) bool { return !isSPF(t) })
	slices.Sort(texts) // answers come in any order; what is advised should not
	publish := spfRecord(domain, texts, missing)
	for i := range x.Checks[first:] {
		if c := &x.Checks[first+i]; c.Status == Fail {
			c.Publish = publish
		}
	}
}

// spfOf says what came of one address. It reports whether the record has to name
// it.
func (x *exam) spfOf(a netip.Addr, r *SPF) (missing bool) {
	about := a.String()
	switch {
	case r.Result == SPFTempError:
		x.add(CheckNameSPF, about, Unknown, "%s", r.Why)
		return false
	case r.Result == SPFPermError:
		x.add(CheckNameSPF, about, Fail, "permerror: %s", r.Why)
	case r.Result == SPFNone:
		x.add(CheckNameSPF, about, Fail, "%s has no SPF record", r.Domain)
	case r.Result != SPFPass:
		x.add(CheckNameSPF, about, Fail, "%s by %s: the record of %s does not name the address", r.Result, orNone(r.Term), r.Domain)
	case strings.EqualFold(strings.TrimLeft(r.Term, "+"), "all"):
		x.add(CheckNameSPF, about, Fail, "the record passes everybody on earth: %s", r.Record)
	case r.Lookups > spfLookups-2:
		x.add(CheckNameSPF, about, Warn, "pass by %s, but with %d of 10 look-ups: one more include and it is permerror", r.Term, r.Lookups)
		return false
	default:
		x.add(CheckNameSPF, about, Pass, "pass by %s, %d of 10 look-ups", r.Term, r.Lookups)
		return false
	}
	return true
}

// nobody is an address that no host has (RFC 5737).
var nobody = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// spfOfNobody looks at the record alone.
func (x *exam) spfOfNobody(domain string) {
	r := CheckSPF(x.ctx, x.l, nobody, domain, "postmaster@"+domain, domain)
	switch r.Result {
	case SPFNone:
		x.add(CheckNameSPF, domain, Fail, "%s has no SPF record", domain)
	case SPFPermError:
		x.add(CheckNameSPF, domain, Fail, "permerror: %s", r.Why)
	case SPFTempError:
		x.add(CheckNameSPF, domain, Unknown, "%s", r.Why)
	case SPFPass:
		x.add(CheckNameSPF, domain, Fail, "the record passes an address that is nobody's, by %s", r.Term)
	default:
		x.add(CheckNameSPF, domain, Unknown, "there is a record, but no public address of ours is known; give one with --source")
	}
}

// spfOfOthers reads the record to its end, where a source that passes early does
// not come to: a mistake there is found by who sends from elsewhere, and by
// receivers that look at the whole.
func (x *exam) spfOfOthers(domain string) {
	r := CheckSPF(x.ctx, x.l, nobody, domain, "postmaster@"+domain, domain)
	switch r.Result {
	case SPFPermError:
		x.add(CheckNameSPF, domain, Warn, "for other addresses: permerror: %s", r.Why)
	case SPFPass:
		x.add(CheckNameSPF, domain, Warn, "the record passes an address that is nobody's, by %s", r.Term)
	}
}

func orNone(s string) string {
	if s == "" {
		return "no term"
	}
	return s
}

// spfRecord is the one record that lets these addresses send: what there is, with
// them put first. There they are found before a limit is reached, or an include
// that leads nowhere. Terms that cannot be read are left out, for one makes the
// whole record a permerror; several records become one.
func spfRecord(domain string, old []string, missing []netip.Addr) *Record {
	words := []string{"v=spf1"}
	for _, a := range missing {
		kind := "ip4:"
		if a.Is6() {
			kind = "ip6:"
		}
		words = append(words, kind+a.String())
	}
	all, redirect := "", ""
	for _, text := range old {
		for _, w := range strings.Fields(text[len("v=spf1"):]) {
			t, err := parseSPF("v=spf1 " + w)
			switch {
			case err != nil || slices.Contains(words, w):
			case t.all:
				all = softer(all, w)
			case t.redirect != "":
				redirect = w
			default:
				words = append(words, w)
			}
		}
	}
	switch {
	case all != "":
		words = append(words, all)
	case redirect != "":
		words = append(words, redirect)
	case len(old) != 1:
		words = append(words, "~all")
	}
	return &Record{Name: domain, Type: "TXT", Text: strings.Join(words, " ")}
}

// softer is what asks less of receivers; nothing passes everybody.
func softer(a, b string) string {
	b = strings.ToLower(b)
	switch {
	case b == "all" || b == "+all":
		b = "~all"
	}
	for _, w := range []string{"?all", "~all"} {
		if a == w || b == w {
			return w
		}
	}
	return b
}
