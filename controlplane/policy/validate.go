package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds of spec fields. They catch typing errors; none is a recommendation.
const (
	maxWeight      = 1000
	maxPerDay      = 1e12
	maxConnections = 100_000
	maxList        = 100_000 // entries of one list
	maxNameLen     = 64
)

// validation collects what is wrong with a set of resources. Its methods speak
// of the resource given to at.
type validation struct {
	set      *Set
	problems Problems
	now      *Resource

	// Who claimed what: things that only one resource may have.
	claims map[string]string
}

func (v *validation) at(r *Resource) { v.now = r }

func (v *validation) bad(path, format string, args ...any) {
	v.problems = append(v.problems, Problem{v.now.Kind, v.now.Name, path, fmt.Sprintf(format, args...)})
}

// claim notes that the resource has a thing that no other may have, and reports
// the second claimant. what names the thing for people, key for the program.
func (v *validation) claim(path, what, key string) {
	if v.claims == nil {
		v.claims = map[string]string{}
	}
	key = what + "\x00" + key
	owner := v.now.ID()
	switch first, taken := v.claims[key]; {
	case !taken:
		v.claims[key] = owner
	case first == owner:
		v.bad(path, "this %s is listed twice; leave one out", what)
	default:
		v.bad(path, "this %s is taken by %s; only one may have it", what, first)
	}
}

// check looks at one resource beside all others.
func (v *validation) check(r *Resource) {
	v.at(r)
	switch spec := r.Spec.(type) {
	case *Tenant:
		checkSpec(v, r, spec, v.set.Tenants, v.checkTenant)
	case *Stream:
		checkSpec(v, r, spec, v.set.Streams, v.checkStream)
	case *Pool:
		checkSpec(v, r, spec, v.set.Pools, v.checkPool)
	case *Source:
		checkSpec(v, r, spec, v.set.Sources, v.checkSource)
	case *Carrier:
		checkSpec(v, r, spec, v.set.Carriers, v.checkCarrier)
	case *Route:
		checkSpec(v, r, spec, v.set.Routes, v.checkRoute)
	case *SigningKey:
		checkSpec(v, r, spec, v.set.SigningKeys, v.checkSigningKey)
	case *Throttle:
		checkSpec(v, r, spec, v.set.Throttles, v.checkThrottle)
	case *AdminKey:
		checkSpec(v, r, spec, v.set.AdminKeys, v.checkAdminKey)
	case *ReplyRule:
		checkSpec(v, r, spec, v.set.ReplyRules, v.checkReplyRule)
	case *WarmUp:
		checkSpec(v, r, spec, v.set.WarmUps, v.checkWarmUp)
	case *Webhook:
		checkSpec(v, r, spec, v.set.Webhooks, v.checkWebhook)
	case *Reputation:
		if spec != nil && v.set.Reputation != nil {
			v.checkReputation(v.set.Reputation)
		}
	}
}

// checkSpec runs check on what add took in; what it refused is reported
// already.
func checkSpec[T any](v *validation, r *Resource, spec *T, in map[string]*T, check func(*T)) {
	if spec != nil && in[r.Name] != nil {
		check(spec)
	}
}

// checkResourceName holds names to the form that queue keys, URLs and metric
// labels share: message.QueueKey names the letters; that a name begins with a
// letter or digit keeps "." and ".." out of URLs.
func (v *validation) checkResourceName(r *Resource) {
	name := r.Name
	if r.Kind == KindStream {
		tenant, stream, ok := strings.Cut(r.Name, "/")
		if ok {
			if !validName(tenant) {
				v.bad("name", "%s before the slash must be a tenant's name: %s", quote(tenant), nameRule)
				return
			}
			name = stream
		}
	}
	if !validName(name) {
		v.bad("name", "%s is not a name: %s", quote(name), nameRule)
	}
}

const nameRule = "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"

// validName reports whether s is a resource name.
func validName(s string) bool {
	if s == "" || len(s) > maxNameLen || strings.IndexByte("._-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// quote shows a foreign word in a message, cut short.
func quote(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%.77q…", s)
	}
	return fmt.Sprintf("%q", s)
}

// word checks one of a few words; empty is the default.
func (v *validation) word(path, s string, words []string) {
	if s != "" && !slices.Contains(words, s) {
		v.bad(path, "%s is none of %s", quote(s), strings.Join(words, ", "))
	}
}

// number checks a range in which 0 stands for "not given".
func number[T int | int64](v *validation, path string, n, least, most T) {
	if n != 0 && (n < least || n > most) {
		v.bad(path, "%d is out of range: want %d to %d, or leave it out", n, least, most)
	}
}

// span checks a duration in which 0 stands for "not given".
func (v *validation) span(path string, d, least, most Duration) {
	if d != 0 && (d < least || d > most) {
		v.bad(path, "%s is out of range: want %s to %s, or leave it out", d, least, most)
	}
}

func (v *validation) rate(path string, r *Rate) {
	if r != nil && (r.Per <= 0 || r.N < 0 || r.Burst < 0) {
		v.bad(path, "not a rate: want N/s, N/m, N/h or N/d, with ,burst=N after it if wanted, as in 100/s or 5000/h,burst=50")
	}
}

// refers checks that a name given refers to something.
func refers[T any](v *validation, path, kind, name string, in map[string]*T) {
	if name == "" || in[name] != nil {
		return
	}
	hint := ""
	if near := Nearest(name, slices.Sorted(maps.Keys(in))); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	v.bad(path, "there is no %s %s%s", kind, quote(name), hint)
}

// bounded reports a list that nobody wrote by hand.
func (v *validation) bounded(path string, n int) {
	if n > maxList {
		v.bad(path, "%d entries are too many: at most %d", n, int(maxList))
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
