package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Results of SPF (RFC 7208 2.6).
const (
	SPFNone      = "none"
	SPFNeutral   = "neutral"
	SPFPass      = "pass"
	SPFFail      = "fail"
	SPFSoftFail  = "softfail"
	SPFTempError = "temperror"
	SPFPermError = "permerror"
)

// Limits of RFC 7208 4.6.4.
const (
	spfLookups = 10
	spfVoids   = 2
	spfNames   = 10 // of an mx or ptr mechanism
)

// SPF is what a receiver finds for one address.
type SPF struct {
	Result  string
	Domain  string // that was asked for
	Record  string // its record, "" for none
	Term    string // that decided, "" where none did
	Why     string // for errors
	Lookups int    // terms that ask DNS, up to the decision
	Voids   int    // look-ups without answer
}

// CheckSPF evaluates the record of a domain (RFC 7208 4): does it let ip send
// for sender, from a host that says helo?
func CheckSPF(ctx context.Context, l Lookup, ip netip.Addr, domain, sender, helo string) SPF {
	local, senderDomain, ok := cutAddress(sender)
	if !ok || local == "" { // RFC 7208 4.3
		local = "postmaster"
	}
	if senderDomain == "" {
		senderDomain = domain
	}
	e := &spfEval{ctx: ctx, l: l, ip: ip.Unmap(), local: local, senderDomain: senderDomain, helo: helo}
	out := SPF{Domain: domain}
	if !isDomain(domain) {
		out.Result, out.Why = SPFNone, "it is no domain name"
		return out
	}
	out.Result = e.check(domain, 0)
	out.Record, out.Term, out.Why, out.Lookups, out.Voids = e.record, e.term, e.why, e.lookups, e.voids
	return out
}

// cutAddress splits at the last @.
func cutAddress(a string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(a, '@')
	if i < 0 {
		return "", a, false
	}
	return a[:i], strings.ToLower(a[i+1:]), true
}

// spfEval is one evaluation. Limits are over all records that it reads.
type spfEval struct {
	ctx                       context.Context
	l                         Lookup
	ip                        netip.Addr
	local, senderDomain, helo string

	lookups, voids    int
	record, term, why string // of the domain that was asked for, and what decided
}

func (e *spfEval) permError(format string, args ...any) string {
	e.why = fmt.Sprintf(format, args...)
	return SPFPermError
}

func (e *spfEval) tempError(err error) string {
	e.why = err.Error()
	return SPFTempError
}

// count is one term that asks DNS.
func (e *spfEval) count() bool {
	e.lookups++
	return e.lookups <= spfLookups
}

// void counts an answer that was empty, and says whether that is still allowed.
func (e *spfEval) void(n int) bool {
	if n == 0 {
		e.voids++
	}
	return e.voids <= spfVoids
}

const (
	tooManyLookups = "more than 10 look-ups (RFC 7208 4.6.4)"
	tooManyVoids   = "more than 2 look-ups without answer (RFC 7208 4.6.4)"
)

// check is check_host() (RFC 7208 4). Depth is 0 for the domain that was asked
// for; redirect keeps it, include adds one.
func (e *spfEval) check(domain string, depth int) string {
	texts, err := e.l.TXT(e.ctx, domain)
	if err != nil {
		return e.tempError(err)
	}
	record, n := "", 0
	for _, t := range texts {
		if isSPF(t) {
			record = t
			n++
		}
	}
	if n > 1 {
		return e.permError("%s has %d SPF records; there must be one (RFC 7208 4.5)", domain, n)
	}
	if n == 0 {
		return SPFNone
	}
	if depth == 0 && e.record == "" {
		e.record = record
	}
	terms, err := parseSPF(record)
	if err != nil {
		return e.permError("record of %s: %v", domain, err)
	}
	for i := range terms.mechanisms {
		m := &terms.mechanisms[i]
		match, bad := e.matches(m, domain, depth)
		if bad != "" {
			return bad
		}
		if match {
			if depth == 0 {
				e.term = m.text
			}
			return m.result()
		}
	}
	if terms.redirect == "" {
		return SPFNeutral
	}
	return e.redirect(terms.redirect, domain, depth)
}

func (e *spfEval) redirect(spec, domain string, depth int) string {
	if !e.count() {
		return e.permError(tooManyLookups)
	}
	to, bad := e.expand(spec, domain)
	if bad != "" {
		return bad
	}
	r := e.check(to, depth)
	if r == SPFNone { // RFC 7208 6.1
		return e.permError("redirect=%s leads to no SPF record", to)
	}
	if depth == 0 && e.term == "" && e.why == "" {
		e.term = "redirect=" + spec
	}
	return r
}

// isSPF picks records of version 1 (RFC 7208 4.5).
func isSPF(text string) bool {
	return len(text) >= 6 && strings.EqualFold(text[:6], "v=spf1") && (len(text) == 6 || text[6] == ' ')
}

// mechanism is one directive.
type mechanism struct {
	text      string
	qualifier byte
	name      string // lower case
	spec      string // domain-spec with its macros; "" is the domain itself
	network   netip.Prefix
	four, six int // prefix lengths of a and mx
}

func (m *mechanism) result() string {
	switch m.qualifier {
	case '-':
		return SPFFail
	case '~':
		return SPFSoftFail
	case '?':
		return SPFNeutral
	}
	return SPFPass
}

type spfTerms struct {
	mechanisms []mechanism
	redirect   string
	all        bool
}

// parseSPF reads a whole record: one mistake anywhere makes it permerror (RFC
// 7208 4.6).
func parseSPF(record string) (*spfTerms, error) {
	t := &spfTerms{}
	exp := false
	for _, word := range strings.Fields(record[6:]) {
		if name, value, ok := cutModifier(word); ok {
			switch {
			case name == "redirect" && t.redirect == "" && value != "":
				t.redirect = value
			case name == "exp" && !exp && value != "":
				exp = true
			case name == "redirect" || name == "exp":
				return nil, fmt.Errorf("%q is there twice, or empty", word)
			}
			if err := checkMacros(value); err != nil {
				return nil, fmt.Errorf("%q: %w", word, err)
			}
			continue
		}
		m, err := parseMechanism(word)
		if err != nil {
			return nil, err
		}
		t.all = t.all || m.name == "all"
		t.mechanisms = append(t.mechanisms, m)
	}
	if t.all {
		t.redirect = "" // RFC 7208 6.1: ignored beside "all"
	}
	return t, nil
}

// cutModifier reads name=value, where no : or / comes before the =.
func cutModifier(word string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(word, "=")
	if !ok || name == "" || strings.ContainsAny(name, ":/") {
		return "", "", false
	}
	for i := range len(name) {
		c := name[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (name[i] < '0' || name[i] > '9') && !strings.ContainsRune("-_.", rune(name[i]))) {
			return "", "", false
		}
	}
	return strings.ToLower(name), value, true
}

func parseMechanism(word string) (mechanism, error) {
	m := mechanism{text: word, qualifier: '+', four: 32, six: 128}
	rest := word
	if strings.IndexByte("+-~?", rest[0]) >= 0 {
		m.qualifier, rest = rest[0], rest[1:]
	}
	end := strings.IndexAny(rest, ":/")
	if end < 0 {
		end = len(rest)
	}
	m.name, rest = strings.ToLower(rest[:end]), rest[end:]
	bad := func(why string) (mechanism, error) { return m, fmt.Errorf("%.100q: %s", word, why) }
	switch m.name {
	case "all":
		if rest != "" {
			return bad("all takes nothing")
		}
		return m, nil
	case "ip4", "ip6":
		p, err := parseNetwork(strings.TrimPrefix(rest, ":"), m.name == "ip4")
		if err != nil || !strings.HasPrefix(rest, ":") {
			return bad("want an address or network, as in ip4:192.0.2.0/24 or ip6:2001:db8::/32")
		}
		m.network = p
		return m, nil
	case "a", "mx":
		var ok bool
		if rest, ok = m.cutLengths(rest); !ok {
			return bad("the length of a prefix is wrong")
		}
	case "include", "exists":
		if len(rest) < 2 {
			return bad("it needs a domain")
		}
	case "ptr":
	default:
		return bad("there is no such mechanism")
	}
	if rest == "" {
		return m, nil
	}
	spec, ok := strings.CutPrefix(rest, ":")
	if !ok || spec == "" {
		return bad("a domain follows after a colon")
	}
	m.spec = spec
	if err := checkMacros(spec); err != nil {
		return bad(err.Error())
	}
	if !endsWell(spec) {
		return bad("it does not end like a domain name")
	}
	return m, nil
}

// endsWell is RFC 7208 7.1's domain-end: a macro, or a top-level label.
func endsWell(spec string) bool {
	if strings.HasSuffix(spec, "}") {
		return true
	}
	spec = strings.TrimSuffix(spec, ".")
	i := strings.LastIndexByte(spec, '.')
	if i < 0 {
		return false
	}
	label := spec[i+1:]
	return label != "" && strings.Trim(label, "0123456789") != "" && label[0] != '-' && label[len(label)-1] != '-' &&
		strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// cutLengths takes "/24", "//64" or "/24//64" off the end.
func (m *mechanism) cutLengths(s string) (string, bool) {
	if i := strings.LastIndex(s, "//"); i >= 0 && !strings.Contains(s[i:], "}") {
		n, ok := prefixLength(s[i+2:], 128)
		if !ok {
			return "", false
		}
		m.six, s = n, s[:i]
	}
	// A slash inside a macro is a delimiter.
	if i := strings.LastIndexByte(s, '/'); i >= 0 && !strings.Contains(s[i:], "}") {
		n, ok := prefixLength(s[i+1:], 32)
		if !ok {
			return "", false
		}
		m.four, s = n, s[:i]
	}
	return s, true
}

func prefixLength(s string, most int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || int(n) > most || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	return int(n), true
}

func parseNetwork(s string, four bool) (netip.Prefix, error) {
	text, length, has := strings.Cut(s, "/")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4() != four {
		return netip.Prefix{}, fmt.Errorf("%.50q is no address of this family", text)
	}
	n := a.BitLen()
	if has {
		var ok bool
		if n, ok = prefixLength(length, a.BitLen()); !ok {
			return netip.Prefix{}, fmt.Errorf("%.50q is no length of a prefix", length)
		}
	}
	return netip.PrefixFrom(a, n).Masked(), nil
}

// within compares the bits of a network.
func (e *spfEval) within(a netip.Addr, m *mechanism) bool {
	n := m.four
	if a.Is6() {
		n = m.six
	}
	p, err := a.Prefix(n)
	return err == nil && a.BitLen() == e.ip.BitLen() && p.Contains(e.ip)
}

// matches evaluates one mechanism (RFC 7208 5). bad is a result that ends the
// evaluation.
func (e *spfEval) matches(m *mechanism, domain string, depth int) (match bool, bad string) {
	switch m.name {
	case "all":
		return true, ""
	case "ip4", "ip6":
		return m.network.Contains(e.ip), ""
	}
	if !e.count() {
		return false, e.permError(tooManyLookups)
	}
	target := domain
	if m.spec != "" {
		if target, bad = e.expand(m.spec, domain); bad != "" {
			return false, bad
		}
	}
	switch m.name {
	case "include":
		return e.include(target, depth)
	case "a":
		return e.hasAddress(target, m)
	case "mx":
		return e.mx(target, m)
	case "exists":
		found, err := e.l.A(e.ctx, target)
		if err != nil {
			return false, e.tempError(err)
		}
		if !e.void(len(found)) {
			return false, e.permError(tooManyVoids)
		}
		return len(found) > 0, ""
	}
	names, bad := e.validated(target)
	return len(names) > 0, bad
}

func (e *spfEval) include(target string, depth int) (bool, string) {
	switch r := e.check(target, depth+1); r {
	case SPFPass:
		return true, ""
	case SPFTempError, SPFPermError:
		return false, r
	case SPFNone: // RFC 7208 5.2
		return false, e.permError("include:%s leads to no SPF record", target)
	}
	return false, ""
}

func (e *spfEval) hasAddress(target string, m *mechanism) (bool, string) {
	found, err := addrs(e.ctx, e.l, target, e.ip)
	if err != nil {
		return false, e.tempError(err)
	}
	if !e.void(len(found)) {
		return false, e.permError(tooManyVoids)
	}
	for _, a := range found {
		if e.within(a.Unmap(), m) {
			return true, ""
		}
	}
	return false, ""
}

func (e *spfEval) mx(target string, m *mechanism) (bool, string) {
	hosts, err := e.l.MX(e.ctx, target)
	if err != nil {
		return false, e.tempError(err)
	}
	if !e.void(len(hosts)) {
		return false, e.permError(tooManyVoids)
	}
	if len(hosts) > spfNames {
		return false, e.permError("%s has %d MX records; SPF allows 10 (RFC 7208 4.6.4)", target, len(hosts))
	}
	for _, h := range hosts {
		if h.Host == "" {
			continue
		}
		match, bad := e.hasAddress(h.Host, m)
		if match || bad != "" {
			return match, bad
		}
	}
	return false, ""
}

// validated is the names of the address that lead back to it and lie at or below
// target (RFC 7208 5.5).
func (e *spfEval) validated(target string) ([]string, string) {
	names, err := e.l.PTR(e.ctx, e.ip)
	if err != nil {
		return nil, "" // RFC 7208 5.5: does not match
	}
	if !e.void(len(names)) {
		return nil, e.permError(tooManyVoids)
	}
	var out []string
	for _, n := range names[:min(len(names), spfNames)] {
		if target != "" && !isBelow(n, target) {
			continue
		}
		found, err := addrs(e.ctx, e.l, n, e.ip)
		if err != nil {
			continue
		}
		for _, a := range found {
			if a.Unmap() == e.ip {
				out = append(out, n)
				break
			}
		}
	}
	return out, ""
}

// isBelow reports whether name is domain or below it.
func isBelow(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// isDomain takes names of at least two labels that DNS can hold.
func isDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}
