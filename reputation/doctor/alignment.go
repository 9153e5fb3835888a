package doctor

import (
	"slices"
	"strings"
)

// dmarc finds the policy in force, then whether what authenticates belongs to
// the domain in From. signs are the domains with a good key.
func (x *exam) dmarc(signs []string) {
	domain := x.s.Domain
	steps, why, err := walk(x.ctx, x.l, domain)
	if err != nil {
		x.add(CheckNameDMARC, domain, Unknown, "%v", err)
		x.add(CheckNameAlignment, domain, Unknown, "needs the DMARC record")
		return
	}
	at, policy := policyOf(domain, steps)
	if at == nil {
		text := "no DMARC record on " + domain + " or above it"
		if why != "" {
			text = "no valid DMARC record: " + why
		}
		c := x.add(CheckNameDMARC, domain, Fail, "%s", text)
		c.Publish = x.oneDMARC(domain)
		x.aligned("r", "r", signs)
		return
	}
	if why != "" {
		x.add(CheckNameDMARC, "_dmarc."+domain, Fail, "the record is not valid: %s", why).Publish = x.oneDMARC(domain)
	}
	x.record(at, policy)
	x.reports(at)
	x.aligned(at.record.ADKIM, at.record.ASPF, signs)
}

// oneDMARC is the record for a domain whose own is missing, not valid, or one of
// several: the first that can be read, or the least there is.
func (x *exam) oneDMARC(domain string) *Record {
	name := "_dmarc." + domain
	text := "v=DMARC1; p=none; rua=mailto:dmarc-reports@" + domain
	texts, err := x.l.TXT(x.ctx, name)
	if err == nil {
		slices.Sort(texts) // answers come in any order; what is advised should not
		for _, t := range texts {
			if _, err := ParseDMARC(t); err == nil {
				text = t
				break
			}
		}
	}
	return &Record{Name: name, Type: "TXT", Text: text}
}

// record says what the record in force asks for.
func (x *exam) record(at *step, policy string) {
	d, about := at.record, "_dmarc."+at.domain
	from := ""
	if at.domain != x.s.Domain {
		from = ", inherited from " + at.domain
	}
	c := x.add(CheckNameDMARC, about, Pass, "p=%s%s", policy, from)
	if d.Testing {
		c.Text += ", but t=y asks receivers not to act on it"
	}
	if len(d.Problems) > 0 {
		c.Status = Warn
		c.Text += "; " + strings.Join(d.Problems, "; ")
	}
	if len(d.Deprecated) > 0 {
		c.Text += "; RFC 9989 no longer has " + strings.Join(d.Deprecated, ", ")
	}
	if len(d.RUA) == 0 {
		c.Status = Warn
		c.Text += "; without rua= nobody reports what fails"
		c.Publish = &Record{Name: about, Type: "TXT", Text: strings.TrimRight(strings.TrimSpace(d.Text), "; ") + "; rua=mailto:dmarc-reports@" + x.s.Domain}
	}
}

const maxReports = 10 // addresses of rua that are looked at

// reports looks whether others take the reports that rua sends them (RFC 9990 4).
func (x *exam) reports(at *step) {
	for _, uri := range at.record.RUA[:min(len(at.record.RUA), maxReports)] {
		address, ok := strings.CutPrefix(strings.ToLower(uri), "mailto:")
		if !ok {
			continue
		}
		address, _, _ = strings.Cut(address, "!") // a limit of size that RFC 7489 had
		_, to, ok := cutAddress(address)
		if !ok {
			continue
		}
		own, err := aligned(x.ctx, x.l, at.domain, to, "r")
		if err != nil || own {
			continue
		}
		name := at.domain + "._report._dmarc." + to
		texts, err := x.l.TXT(x.ctx, name)
		if err == nil && !slices.ContainsFunc(texts, func(t string) bool { return strings.HasPrefix(t, "v=DMARC1") }) {
			c := x.add(CheckNameDMARC, name, Warn, "%s has not agreed to take reports of %s; they are not sent", to, at.domain)
			c.Publish = &Record{Name: name, Type: "TXT", Text: "v=DMARC1"}
		}
	}
}

// unknown reports whether a check of this name could not be made.
func (x *exam) unknown(name string) bool {
	return slices.ContainsFunc(x.Checks, func(c Check) bool { return c.Name == name && c.Status == Unknown })
}

// aligned is whether From belongs to what DKIM and SPF prove.
func (x *exam) aligned(adkim, aspf string, signs []string) {
	byKey, err := false, error(nil)
	for _, d := range signs {
		ok, e := aligned(x.ctx, x.l, x.s.Domain, d, adkim)
		byKey = byKey || ok
		if e != nil {
			err = e
		}
	}
	byPath, e := aligned(x.ctx, x.l, x.s.Domain, x.s.ReturnPath, aspf)
	if e != nil {
		err = e
	}
	// A return path proves something only where SPF passes.
	spf := true
	for _, c := range x.Checks {
		spf = spf && (c.Name != CheckNameSPF || c.Status == Pass || c.Status == Warn)
	}
	byPath = byPath && spf
	domain := x.s.Domain
	switch {
	case byKey && byPath:
		x.add(CheckNameAlignment, domain, Pass, "DKIM and SPF both belong to the domain in From")
	case byKey:
		x.add(CheckNameAlignment, domain, Pass, "DKIM belongs to the domain in From; SPF of %s does not prove it", x.s.ReturnPath)
	case err != nil:
		x.add(CheckNameAlignment, domain, Unknown, "%v", err)
	case byPath:
		x.add(CheckNameAlignment, domain, Warn, "only SPF of %s belongs to the domain in From: forwarded mail fails (RFC 9989 8)", x.s.ReturnPath)
	case len(signs) == 0 && x.unknown(CheckNameDKIM):
		x.add(CheckNameAlignment, domain, Unknown, "whether DKIM proves the domain is not known, and SPF of %s does not", x.s.ReturnPath)
	default:
		x.add(CheckNameAlignment, domain, Fail, "neither a good DKIM key nor SPF of %s belongs to the domain in From", x.s.ReturnPath)
	}
}
