package policy

import (
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Bounds of a source's fields.
const (
	maxLabels        = 32
	maxInterfaceName = 15 // IFNAMSIZ less the NUL
	maxArguments     = 64
	maxArgument      = 4096 // bytes
)

func (v *validation) checkSource(s *Source) {
	var addr netip.Addr
	if s.Address != "" {
		a, err := netip.ParseAddr(s.Address)
		switch {
		case err != nil || a.Zone() != "" || a.Is4In6():
			v.bad("spec.address", "%s is no IP address: want one as in 192.0.2.10 or 2001:db8::10", quote(s.Address))
		case a.IsUnspecified() || a.IsMulticast():
			v.bad("spec.address", "mail cannot be sent from %s; leave address out to let the system choose", a)
		default:
			addr = a
		}
	}
	// Two sources of one address could be on two nodes. One that is disabled is
	// on none: so an address can go from one name to another.
	if addr.IsValid() && !s.Disabled {
		v.claim("spec.address", "source address", addr.String())
	}
	if s.EHLO != "" {
		if err := CheckDomain(s.EHLO); err != nil {
			v.bad("spec.ehlo", "%s is no host name: %v", quote(s.EHLO), err)
		}
	}
	v.word("spec.attach", s.Attach, attachWords)
	if s.Address == "" {
		v.localSource(s)
		return
	}
	v.placement(s)
	v.attachment(s, addr)
}

// localSource refuses what makes no sense for a source that each node has for
// itself.
func (v *validation) localSource(s *Source) {
	for _, f := range []struct {
		key   string
		given bool
	}{
		{"node", s.Node != ""}, {"labels", len(s.Labels) > 0}, {"attach", s.Attach != "" && s.Attach != AttachNone},
		{"interface", s.Interface != ""}, {"prefix_length", s.PrefixLength != 0},
		{"attach_command", len(s.AttachCommand) > 0}, {"detach_command", len(s.DetachCommand) > 0},
	} {
		if f.given {
			v.bad("spec."+f.key, "a source without an address is not one that a node holds: each node has its own; give an address or leave %s out", f.key)
		}
	}
}

// placement checks where the source may be.
func (v *validation) placement(s *Source) {
	if s.Node != "" && !validWord(s.Node) {
		v.bad("spec.node", "%s is no name of a node: want %s", quote(s.Node), wordRule)
	}
	if s.Node != "" && len(s.Labels) > 0 {
		v.bad("spec.labels", "the source is pinned to node %s, so there is nothing to choose; leave labels or node out", quote(s.Node))
	}
	if len(s.Labels) > maxLabels {
		v.bad("spec.labels", "%d labels are too many: at most %d", len(s.Labels), maxLabels)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		if !validWord(key) || !validWord(s.Labels[key]) {
			v.bad("spec.labels", "%s: %s is no label: want key and value of %s", quote(key), quote(s.Labels[key]), wordRule)
		}
	}
}

const wordRule = "1 to 64 letters, digits, '.', '_' or '-'"

// validWord reports whether s may name a node or be part of a label. They come
// from the nodes' own configuration, which also takes upper case.
func validWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxNameLen
}

// attachment checks how the address comes to its node.
func (v *validation) attachment(s *Source, addr netip.Addr) {
	only := func(key string, given bool, word string) {
		if given && s.Attach != word {
			v.bad("spec."+key, "it is for attach: %s only; set that or leave %s out", word, key)
		}
	}
	only("interface", s.Interface != "", AttachNetlink)
	only("prefix_length", s.PrefixLength != 0, AttachNetlink)
	only("attach_command", len(s.AttachCommand) > 0, AttachCommand)
	only("detach_command", len(s.DetachCommand) > 0, AttachCommand)
	switch s.Attach {
	case AttachNetlink:
		v.interfaceName(s.Interface)
		if addr.IsValid() {
			number(v, "spec.prefix_length", s.PrefixLength, 1, addr.BitLen())
		}
	case AttachCommand:
		v.command("spec.attach_command", s.AttachCommand)
		v.command("spec.detach_command", s.DetachCommand)
	}
}

// interfaceName holds a name to what the kernel takes (dev_valid_name).
func (v *validation) interfaceName(s string) {
	switch {
	case s == "":
		v.bad("spec.interface", "attach: netlink needs the interface that takes the address, as in eth0")
	case len(s) > maxInterfaceName || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
	}):
		v.bad("spec.interface", "%s is no name of an interface: want 1 to %d bytes without '/', ':' and spaces", quote(s), maxInterfaceName)
	}
}

// placeholders are what attach and detach commands may have replaced.
var placeholders = []string{"{address}", "{source}", "{epoch}"}

var braced = regexp.MustCompile(`\{[a-zA-Z_]*\}`)

func (v *validation) command(path string, args []string) {
	switch {
	case len(args) == 0:
		v.bad(path, "attach: command needs it, as in [/usr/local/sbin/address, add, \"{address}\"]")
		return
	case len(args) > maxArguments:
		v.bad(path, "%d arguments are too many: at most %d", len(args), maxArguments)
		return
	case !filepath.IsAbs(args[0]) || filepath.Clean(args[0]) != args[0]:
		v.bad(at(path, 0), "%s: want the program's absolute path, without '..' and the like: nodes do not share a search path", quote(args[0]))
	}
	for i, a := range args {
		if len(a) > maxArgument || strings.ContainsRune(a, 0) {
			v.bad(at(path, i), "want at most %d bytes, none of them NUL", maxArgument)
			continue
		}
		for _, word := range braced.FindAllString(a, -1) {
			if i == 0 || !slices.Contains(placeholders, word) {
				v.bad(at(path, i), "%s is not replaced here: %s are, in the arguments", quote(word), strings.Join(placeholders, ", "))
			}
		}
	}
}

// Command is a command of the source with its placeholders replaced; epoch is
// the source's, as text.
func (s *Source) Command(args []string, source, epoch string) []string {
	r := strings.NewReplacer("{address}", s.Address, "{source}", source, "{epoch}", epoch)
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; i > 0 {
			out[i] = r.Replace(a)
		}
	}
	return out
}
