package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// CheckDomain holds a domain to the form in which queues name destinations:
// A-labels, lower case, no dot at the end, at most 253 bytes. Underscores are
// allowed, since such names are in use.
func CheckDomain(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > 253:
		return fmt.Errorf("it has %d bytes, at most 253 are allowed", len(s))
	case strings.HasSuffix(s, "."):
		return fmt.Errorf("leave out the dot at the end: %q", strings.TrimSuffix(s, "."))
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			return fmt.Errorf("write it in lower case: %q", strings.ToLower(s))
		case c >= 0x80:
			return errors.New("write an internationalised domain in its A-label form (xn--…)")
		case (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.':
			return fmt.Errorf("%q cannot be in a domain", string(rune(c)))
		}
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("a label is empty, longer than 63 bytes, or begins or ends with '-'")
		}
	}
	return nil
}

// pattern checks "example.com", "*.example.com" or "*".
func (v *validation) pattern(path, s string) bool {
	if s == "*" {
		return true
	}
	if err := CheckDomain(strings.TrimPrefix(s, "*.")); err != nil {
		v.bad(path, "%s is no domain pattern: %v; want example.com, *.example.com or *", quote(s), err)
		return false
	}
	return true
}

// MatchDomain reports whether a pattern as in Tenant.SenderDomains takes in the
// domain (lower case, A-label). "*.example.com" is for what is below
// example.com, not for itself.
func MatchDomain(pattern, domain string) bool {
	if pattern == "*" {
		return true
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(domain) > len(suffix) && strings.HasSuffix(domain, suffix)
	}
	return pattern == domain
}

// Host is one entry of Route.Hosts. Exactly one of Name and Addr is set.
type Host struct {
	Name string
	Addr netip.Addr
	Port uint16
}

// DefaultPort is the port of a route's host that names none.
const DefaultPort = 25

// ParseHost reads an entry of Route.Hosts: "name", "name:port", "192.0.2.1",
// "192.0.2.1:25", "2001:db8::1" or "[2001:db8::1]:25".
func ParseHost(s string) (Host, error) {
	bad := func(why string) (Host, error) {
		return Host{}, fmt.Errorf("host %s: %s; want name, name:port, 192.0.2.1:25 or [2001:db8::1]:25", quote(s), why)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return bad("an address with a zone cannot be used")
		}
		return Host{Addr: a.Unmap(), Port: DefaultPort}, nil
	}
	name, port := s, uint16(DefaultPort)
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return bad("the port must be 1 to 65535")
		}
		name, port = s[:i], uint16(n)
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		if !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return bad("brackets are for an IPv6 address")
		}
		return Host{Addr: a.Unmap(), Port: port}, nil
	}
	if a, err := netip.ParseAddr(name); err == nil && a.Is4() {
		return Host{Addr: a, Port: port}, nil
	}
	if err := CheckDomain(name); err != nil {
		return bad(err.Error())
	}
	return Host{Name: name, Port: port}, nil
}
