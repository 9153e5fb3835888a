package policy

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Resource is one named piece of policy. Spec is a pointer to the spec struct
// of its Kind (*Tenant, *Stream, …).
type Resource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Spec any    `json:"spec"`
	// Revision is the store's revision at which the resource last changed; 0
	// before it is stored.
	Revision int64 `json:"revision,omitempty"`
}

// ID is "Kind/name", for messages.
func (r *Resource) ID() string { return r.Kind + "/" + r.Name }

// Kinds lists the kinds in the order in which they are best read.
func Kinds() []string {
	return []string{KindTenant, KindStream, KindPool, KindSource, KindCarrier, KindRoute, KindSigningKey, KindThrottle, KindAdminKey,
		KindReplyRule, KindWarmUp, KindWebhook, KindReputation}
}

// NewSpec is a pointer to an empty spec of the kind; nil for an unknown kind.
func NewSpec(kind string) any {
	switch kind {
	case KindTenant:
		return new(Tenant)
	case KindStream:
		return new(Stream)
	case KindPool:
		return new(Pool)
	case KindSource:
		return new(Source)
	case KindCarrier:
		return new(Carrier)
	case KindRoute:
		return new(Route)
	case KindSigningKey:
		return new(SigningKey)
	case KindThrottle:
		return new(Throttle)
	case KindAdminKey:
		return new(AdminKey)
	case KindReplyRule:
		return new(ReplyRule)
	case KindWarmUp:
		return new(WarmUp)
	case KindWebhook:
		return new(Webhook)
	case KindReputation:
		return new(Reputation)
	}
	return nil
}

// KindOf finds the kind that an operator means by a word: any case, singular or
// plural ("tenants", "signingkey").
func KindOf(word string) (string, bool) {
	for _, k := range Kinds() {
		if strings.EqualFold(word, k) || strings.EqualFold(word, k+"s") {
			return k, true
		}
	}
	return "", false
}

// Compare orders resources by kind, in the order of Kinds, then by name.
func Compare(a, b Resource) int {
	kinds := Kinds()
	return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Name, b.Name))
}

// Secrets finds the secret fields of a spec by their key, so that the one place
// that keeps them (controlplane/store) needs to know no kind. Only fields of
// the spec itself are secrets, never nested ones.
func Secrets(spec any) map[string]*Secret {
	v := reflect.ValueOf(spec).Elem()
	var found map[string]*Secret
	for i := range v.NumField() {
		s, ok := v.Field(i).Addr().Interface().(*Secret)
		if !ok {
			continue
		}
		if found == nil {
			found = map[string]*Secret{}
		}
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		found[key] = s
	}
	return found
}

// KeepSecrets copies into a new spec the secrets that it leaves out and that the
// spec it replaces has, so that a listing, which hides them, can be edited and
// applied again. A route's password stays only while it would go to the same
// place: who may edit routes must not be able to have a password sent elsewhere.
func KeepSecrets(spec, old any) {
	switch s := spec.(type) {
	case *Route:
		o, ok := old.(*Route)
		if ok && s.Password.IsZero() && s.Username == o.Username && slices.Equal(s.Hosts, o.Hosts) && s.TLS == o.TLS && s.AuthPlaintext == o.AuthPlaintext {
			s.Password = o.Password
		}
	case *SigningKey:
		o, ok := old.(*SigningKey)
		if ok && s.PrivateKey.IsZero() && s.PrivateKeyFile == "" {
			s.PrivateKey = o.PrivateKey
		}
	case *Webhook:
		o, ok := old.(*Webhook)
		if ok && s.Authorization.IsZero() && s.URL == o.URL {
			s.Authorization = o.Authorization
		}
		if ok && s.Secret.IsZero() && s.URL == o.URL {
			s.Secret = o.Secret
			if s.FormerSecret.IsZero() { // who gives the secret anew without it drops it
				s.FormerSecret = o.FormerSecret
			}
		}
	}
}

// Problem is one thing wrong with a set of resources.
type Problem struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Path   string `json:"path"`   // "spec.retry.schedule[2]"; "name" or "kind" for the resource itself
	Reason string `json:"reason"` // what is wrong, what is allowed, what to do
}

// String is "Kind/name: path: reason".
func (p Problem) String() string {
	return fmt.Sprintf("%s/%s: %s: %s", p.Kind, p.Name, p.Path, p.Reason)
}

// Problems is everything found wrong. It is an error when it is not empty: use
// Err, since an empty Problems in an error variable is not nil.
type Problems []Problem

// Err is nil when there is no problem.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}
