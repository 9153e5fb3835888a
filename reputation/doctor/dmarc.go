package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// DMARC is a policy record (RFC 9989 4.7).
type DMARC struct {
	Text       string
	P, SP, NP  string // none, quarantine, reject; SP and NP are "" where absent
	ADKIM      string // r or s
	ASPF       string
	RUA        []string
	PSD        string // y, n or u
	Testing    bool
	Deprecated []string // tags that were taken out: pct, rf, ri
	Problems   []string // what is wrong with it but does not make it invalid
}

// errNotDMARC is a text that is something else.
var errNotDMARC = errors.New("not a DMARC record")

// ParseDMARC reads a record. errNotDMARC is no mistake of the record's.
func ParseDMARC(text string) (*DMARC, error) {
	version, _, _ := strings.Cut(text, ";")
	name, value, _ := strings.Cut(version, "=")
	if strings.TrimSpace(name) != "v" || strings.TrimSpace(value) != "DMARC1" {
		return nil, errNotDMARC
	}
	tags, err := parseTags(text)
	if err != nil {
		return nil, err
	}
	d := &DMARC{Text: text, ADKIM: "r", ASPF: "r", PSD: "u"}
	policies := map[string]bool{"none": true, "quarantine": true, "reject": true}
	for _, t := range tags {
		v := strings.ToLower(t.value)
		known := true
		switch t.name {
		case "v":
		case "p":
			d.P, known = v, policies[v]
		case "sp":
			d.SP, known = v, policies[v]
		case "np":
			d.NP, known = v, policies[v]
		case "adkim":
			d.ADKIM, known = v, v == "r" || v == "s"
		case "aspf":
			d.ASPF, known = v, v == "r" || v == "s"
		case "psd":
			d.PSD, known = v, v == "y" || v == "n" || v == "u"
		case "t":
			d.Testing, known = v == "y", v == "y" || v == "n"
		case "rua":
			d.RUA, known = splitURIs(t.value)
		case "pct", "rf", "ri":
			d.Deprecated = append(d.Deprecated, t.name)
		}
		if !known {
			d.Problems = append(d.Problems, fmt.Sprintf("%s=%.60s is not understood", t.name, t.value))
		}
	}
	return d, d.settleP(policies)
}

// settleP is RFC 9989 4.7 on a record whose p= is not there or not valid: with
// reports it counts as none, without it is no record.
func (d *DMARC) settleP(policies map[string]bool) error {
	if policies[d.P] {
		return nil
	}
	if len(d.RUA) == 0 {
		return errors.New("it has no p= of none, quarantine or reject")
	}
	if d.P == "" {
		d.Problems = append(d.Problems, "it has no p=, which counts as none")
	}
	d.P = "none"
	return nil
}

// splitURIs reads the list of rua.
func splitURIs(v string) ([]string, bool) {
	var out []string
	ok := true
	for u := range strings.SplitSeq(v, ",") {
		u = strings.TrimSpace(u)
		scheme, rest, has := strings.Cut(u, ":")
		if !has || scheme == "" || rest == "" {
			ok = false
			continue
		}
		out = append(out, u)
	}
	return out, ok && len(out) > 0
}

// tag is one of a tag-list (RFC 6376 3.2), which DMARC uses too.
type tag struct{ name, value string }

func parseTags(text string) ([]tag, error) {
	var out []tag
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("%.60q is no tag with a value", strings.TrimSpace(part))
		}
		if seen[name] {
			return nil, fmt.Errorf("the tag %.20s is there twice", name)
		}
		seen[name] = true
		out = append(out, tag{name, strings.TrimSpace(value)})
	}
	return out, nil
}

// maxWalk is how many names a tree walk asks (RFC 9989 4.10).
const maxWalk = 8

// step is one name of a tree walk where there was a valid record.
type step struct {
	domain string
	record *DMARC
}

// walk is the DNS tree walk from a domain upwards, itself first (RFC 9989 4.10).
// Names without a valid record are left out; why tells what was wrong with the
// record of the first name.
func walk(ctx context.Context, l Lookup, domain string) (steps []step, why string, err error) {
	labels := strings.Split(domain, ".")
	for n := 0; len(labels) > 0 && n < maxWalk; n++ {
		name := strings.Join(labels, ".")
		d, bad, err := recordAt(ctx, l, name)
		if err != nil {
			return nil, "", err
		}
		if n == 0 {
			why = bad
		}
		if d != nil {
			steps = append(steps, step{name, d})
			if d.PSD != "u" {
				break
			}
		}
		if n == 0 && len(labels) >= maxWalk {
			labels = labels[len(labels)-maxWalk+1:]
			continue
		}
		labels = labels[1:]
	}
	return steps, why, nil
}

// recordAt is the DMARC record of one name. More than one counts as none.
func recordAt(ctx context.Context, l Lookup, name string) (d *DMARC, why string, err error) {
	texts, err := l.TXT(ctx, "_dmarc."+name)
	if err != nil {
		return nil, "", err
	}
	n := 0
	for _, t := range texts {
		r, err := ParseDMARC(t)
		if errors.Is(err, errNotDMARC) {
			continue
		}
		n++
		if err != nil {
			why = err.Error()
			continue
		}
		d = r
	}
	if n > 1 {
		return nil, fmt.Sprintf("there are %d DMARC records at _dmarc.%s; receivers use none of them", n, name), nil
	}
	return d, why, nil
}

// organizational picks the organizational domain from a walk (RFC 9989 4.10.2).
func organizational(domain string, steps []step) string {
	for i, s := range steps {
		if s.record.PSD == "n" {
			return s.domain
		}
		if s.record.PSD == "y" && s.domain != domain {
			below := strings.TrimSuffix(domain, "."+s.domain)
			return below[strings.LastIndexByte(below, '.')+1:] + "." + s.domain
		}
		if i == len(steps)-1 {
			return s.domain
		}
	}
	return domain
}

// policyOf is the record that is in force for a domain, and what it asks for.
func policyOf(domain string, steps []step) (s *step, policy string) {
	if len(steps) == 0 {
		return nil, ""
	}
	if steps[0].domain == domain {
		return &steps[0], steps[0].record.P
	}
	org := organizational(domain, steps)
	for i := range steps {
		if steps[i].domain == org {
			s = &steps[i]
		}
	}
	if s == nil { // the organizational domain has none; that of the public suffix holds
		s = &steps[len(steps)-1]
	}
	if s.record.SP != "" {
		return s, s.record.SP
	}
	return s, s.record.P
}

// aligned compares an authenticated domain with that of From (RFC 9989 4.4).
func aligned(ctx context.Context, l Lookup, from, other, mode string) (bool, error) {
	if from == other {
		return true, nil
	}
	if mode == "s" || from == "" || other == "" {
		return false, nil
	}
	a, _, err := walk(ctx, l, from)
	if err != nil {
		return false, err
	}
	b, _, err := walk(ctx, l, other)
	if err != nil {
		return false, err
	}
	return organizational(from, a) == organizational(other, b), nil
}
