package mx

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Answer is where a destination's mail goes. It is shared between callers:
// nobody may write to it.
type Answer struct {
	// Hosts that have addresses, by preference. Hosts of one preference stand
	// in alphabetic order; use Shuffled for the order to try them in.
	Hosts []Host
	// Site names the ordered MX host set, addresses or not: hosts of one
	// preference are joined by "+", preferences by ",", as in
	// "mx1.example.com+mx2.example.com,backup.example.com". It is stable while
	// the MX records are, and at most MaxSite bytes.
	Site string
	// Names are the MX host names of the site, by preference then name, lower
	// case without the final dot: what carriers are matched by.
	Names []string
	// Until is when the answer must be asked for again.
	Until time.Time
	// Implicit says that the domain has no MX and is its own host (RFC 5321
	// 5.1); Fixed that the hosts were given by a route or an address literal.
	Implicit, Fixed bool
}

// Host is one host to try.
type Host struct {
	Name       string // lower case, no final dot; an address for literals
	Port       uint16 // 0 is the port mail is delivered to by default
	Preference uint16
	Addrs      []netip.Addr // at least one, at most MaxAddrs, in the order of the address policy
}

// Bounds on what one answer can hold.
const (
	MaxMX    = 64  // MX records considered, the most preferred ones
	MaxHosts = 20  // hosts whose addresses are looked up
	MaxAddrs = 16  // addresses of one host and family
	MaxSite  = 255 // bytes of a site's name
)

// Shuffled is a copy with hosts of equal preference in random order, which RFC
// 5321 5.1 asks for, and the addresses of a host in random order within their
// family. A nil rnd uses the global source.
func (a *Answer) Shuffled(rnd *rand.Rand) *Answer {
	shuffle := rand.Shuffle
	if rnd != nil {
		shuffle = rnd.Shuffle
	}
	c := *a
	c.Hosts = slices.Clone(a.Hosts)
	for i := range c.Hosts {
		addrs := slices.Clone(c.Hosts[i].Addrs)
		for run := range runs(addrs, func(x, y netip.Addr) bool { return x.Is4() == y.Is4() }) {
			shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
		}
		c.Hosts[i].Addrs = addrs
	}
	for run := range runs(c.Hosts, func(x, y Host) bool { return x.Preference == y.Preference }) {
		shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
	}
	return &c
}

// runs yields the stretches of s whose members are alike.
func runs[T any](s []T, alike func(x, y T) bool) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for start := 0; start < len(s); {
			end := start + 1
			for end < len(s) && alike(s[start], s[end]) {
				end++
			}
			if !yield(s[start:end]) {
				return
			}
			start = end
		}
	}
}

// site makes the name of a host set, sorted by preference then name. What is
// longer than MaxSite keeps its beginning and ends in a hash over the whole.
func site(set []mxRecord) string {
	var b strings.Builder
	for i, m := range set {
		if i > 0 && m.pref == set[i-1].pref {
			b.WriteByte('+')
		} else if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.host)
	}
	return boundSite(b.String())
}

func boundSite(s string) string {
	if len(s) <= MaxSite {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "~" + hex.EncodeToString(sum[:16])
	return s[:MaxSite-len(tail)] + tail
}
