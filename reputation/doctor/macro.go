package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// macro is one %{…} (RFC 7208 7).
type macro struct {
	letter  byte // lower case
	escape  bool // the letter was upper case
	keep    int  // labels from the right; 0 is all
	reverse bool
	delims  string
}

// cutMacro reads what stands after "%{" and gives the rest.
func cutMacro(s string) (macro, string, error) {
	end := strings.IndexByte(s, '}')
	if end < 1 {
		return macro{}, "", errors.New("a macro has no end")
	}
	body, rest := s[:end], s[end+1:]
	m := macro{letter: body[0] | 0x20, escape: body[0] < 'a'}
	if !strings.ContainsRune("slodiphv", rune(m.letter)) { // c, r and t are for explanations only
		return macro{}, "", fmt.Errorf("there is no macro %%{%.20s}", body)
	}
	digits := 0
	for digits+1 < len(body) && body[digits+1] >= '0' && body[digits+1] <= '9' {
		digits++
	}
	if digits > 0 {
		n, err := strconv.ParseUint(body[1:1+digits], 10, 8)
		if err != nil || n == 0 {
			return macro{}, "", fmt.Errorf("the number in %%{%.20s} is wrong", body)
		}
		m.keep = int(n)
	}
	m.delims = body[1+digits:]
	if m.delims != "" && m.delims[0]|0x20 == 'r' {
		m.reverse, m.delims = true, m.delims[1:]
	}
	if strings.Trim(m.delims, ".-+,/_=") != "" {
		return macro{}, "", fmt.Errorf("%%{%.20s} is not understood", body)
	}
	if m.delims == "" {
		m.delims = "."
	}
	return m, rest, nil
}

// eachMacro calls literal and expand for the parts of a macro-string.
func eachMacro(s string, literal func(string), expand func(macro) error) error {
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			literal(s)
			return nil
		}
		literal(s[:i])
		if i+1 == len(s) {
			return errors.New("a % stands alone")
		}
		next := s[i+2:]
		switch s[i+1] {
		case '%':
			literal("%")
		case '_':
			literal(" ")
		case '-':
			literal("%20")
		case '{':
			m, rest, err := cutMacro(next)
			if err == nil {
				err = expand(m)
			}
			if err != nil {
				return err
			}
			next = rest
		default:
			return errors.New("a % stands alone")
		}
		s = next
	}
	return nil
}

// checkMacros looks at the syntax only.
func checkMacros(s string) error {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] > 0x7e {
			return errors.New("it holds a byte that may not be there")
		}
	}
	return eachMacro(s, func(string) {}, func(macro) error { return nil })
}

// expand makes a domain name of a domain-spec. What is too long loses labels on
// the left (RFC 7208 7.3).
func (e *spfEval) expand(spec, domain string) (string, string) {
	var b strings.Builder
	bad := ""
	err := eachMacro(spec, func(s string) { b.WriteString(s) }, func(m macro) error {
		v := ""
		if v, bad = e.value(m.letter, domain); bad != "" {
			return errors.New(e.why)
		}
		b.WriteString(m.apply(v))
		return nil
	})
	if bad != "" {
		return "", bad
	}
	if err != nil {
		return "", e.permError("%q: %v", spec, err)
	}
	name := strings.ToLower(strings.TrimSuffix(b.String(), "."))
	for len(name) > 253 {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return "", e.permError("%q becomes no domain name", spec)
		}
		name = rest
	}
	return name, ""
}

func (e *spfEval) value(letter byte, domain string) (string, string) {
	switch letter {
	case 's':
		return e.local + "@" + e.senderDomain, ""
	case 'l':
		return e.local, ""
	case 'o':
		return e.senderDomain, ""
	case 'd':
		return domain, ""
	case 'i':
		return dotted(e.ip), ""
	case 'h':
		return e.helo, ""
	case 'v':
		if e.ip.Is4() {
			return "in-addr", ""
		}
		return "ip6", ""
	}
	// p: its use is discouraged, and it counts as a look-up (RFC 7208 4.6.4, 7.3).
	if !e.count() {
		return "", e.permError(tooManyLookups)
	}
	names, bad := e.validated("")
	if bad != "" {
		return "", bad
	}
	below := ""
	for _, n := range names {
		if n == domain {
			return n, ""
		}
		if below == "" && isBelow(n, domain) {
			below = n
		}
	}
	switch {
	case below != "":
		return below, ""
	case len(names) > 0:
		return names[0], ""
	}
	return "unknown", ""
}

// dotted is an address with a dot between its bytes, or the nibbles of IPv6.
func dotted(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	var b strings.Builder
	for i, c := range a.As16() {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%x.%x", c>>4, c&15)
	}
	return b.String()
}

// apply cuts, turns round and escapes a value.
func (m macro) apply(v string) string {
	parts := strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(m.delims, r) })
	if m.reverse {
		slices.Reverse(parts)
	}
	if m.keep > 0 && m.keep < len(parts) {
		parts = parts[len(parts)-m.keep:]
	}
	v = strings.Join(parts, ".")
	if !m.escape {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		c := v[i]
		unreserved := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
		if unreserved {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
