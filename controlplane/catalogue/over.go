package catalogue

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"hikyaku/controlplane/policy"
)

// Over lays resources over the shipped carriers and gives what is in force:
// shipped carriers, changed by local ones of their names, then all else. The
// resources are not changed; those that nothing was done to are in the answer as
// they are.
func Over(resources []policy.Resource) []policy.Resource {
	if !inUse(resources) {
		return resources
	}
	local := carriers(resources)
	out := make([]policy.Resource, 0, len(resources)+40)
	taken := claims(local)
	for _, e := range shipped() {
		own := local[e.name]
		c := merged(&e.spec, own)
		taken.release(e.name, c, own)
		out = append(out, policy.Resource{Kind: policy.KindCarrier, Name: e.name, Spec: c})
	}
	for _, r := range resources {
		if c, ok := r.Spec.(*policy.Carrier); ok && c != nil && r.Kind == policy.KindCarrier && Has(r.Name) && c == local[r.Name] {
			continue // merged above; a second one of the name is for policy to refuse
		}
		out = append(out, r)
	}
	return out
}

// OverStored is Over for policy that has been checked already, maybe by another
// version: carriers that it speaks of and that nobody knows here are there, but
// left out. Their mail counts as that of the default carrier.
func OverStored(resources []policy.Resource) []policy.Resource {
	out := Over(resources)
	known := map[string]bool{policy.DefaultName: true}
	for _, r := range out {
		if r.Kind == policy.KindCarrier {
			known[r.Name] = true
		}
	}
	added := false
	for i := range resources {
		for _, name := range spokenOf(&resources[i]) {
			if name == "" || known[name] {
				continue
			}
			if known[name] = true; !added {
				out, added = slices.Clone(out), true
			}
			out = append(out, policy.Resource{Kind: policy.KindCarrier, Name: name, Spec: &policy.Carrier{Disabled: true, Origin: "not known to this version"}})
		}
	}
	return out
}

// spokenOf are the carriers that a resource refers to.
func spokenOf(r *policy.Resource) []string {
	switch s := r.Spec.(type) {
	case *policy.Tenant:
		if s != nil {
			return slices.Sorted(maps.Keys(s.Carriers))
		}
	case *policy.Route:
		if s != nil {
			return []string{s.Carrier}
		}
	case *policy.Throttle:
		if s != nil {
			return []string{s.Carrier}
		}
	case *policy.ReplyRule:
		if s != nil {
			return []string{s.Carrier}
		}
	case *policy.WarmUp:
		if s != nil {
			return s.Carriers
		}
	}
	return nil
}

// inUse reports whether the shipped carriers are wanted.
func inUse(resources []policy.Resource) bool {
	for _, r := range resources {
		if x, ok := r.Spec.(*policy.Reputation); ok && x != nil && r.Name == policy.DefaultName && x.Catalogue == policy.CatalogueNone {
			return false
		}
	}
	return true
}

// carriers are the local ones by name; of two with one name, which policy refuses,
// the first.
func carriers(resources []policy.Resource) map[string]*policy.Carrier {
	m := map[string]*policy.Carrier{}
	for _, r := range resources {
		if c, ok := r.Spec.(*policy.Carrier); ok && c != nil && r.Kind == policy.KindCarrier && m[r.Name] == nil {
			m[r.Name] = c
		}
	}
	return m
}

// merged is a copy of a shipped carrier with what a local one gives; nil gives
// nothing.
func merged(base, own *policy.Carrier) *policy.Carrier {
	c := *base
	if own != nil {
		overlay(reflect.ValueOf(&c).Elem(), reflect.ValueOf(own).Elem())
	}
	return &c
}

// overlay sets the fields of a struct that are given in another.
func overlay(into, given reflect.Value) {
	for i := range given.NumField() {
		to, from := into.Field(i), given.Field(i)
		switch {
		case from.IsZero():
		case from.Kind() == reflect.Struct: // Limits
			overlay(to, from)
		case groups[from.Type()] && !to.IsNil():
			c := reflect.New(from.Type().Elem()) // what ships is never changed
			c.Elem().Set(to.Elem())
			overlay(c.Elem(), from.Elem())
			to.Set(c)
		default:
			to.Set(from)
		}
	}
}

// groups are the pointers that stand for a group of fields; others, as to a Rate,
// for one value.
var groups = map[reflect.Type]bool{reflect.TypeFor[*policy.Retry](): true, reflect.TypeFor[*policy.Steer](): true}

// claimed says which local carrier gave what mail is known by.
type claimed map[string]string

func claims(local map[string]*policy.Carrier) claimed {
	t := claimed{}
	for name, c := range local {
		if c.Disabled {
			continue
		}
		for _, s := range c.MX {
			t[mxKey(s)] = name
		}
		for _, s := range c.Domains {
			t["domain "+s] = name
		}
		for _, n := range c.MXNetworks {
			t["network "+n.String()] = name
		}
	}
	return t
}

// mxKey makes ".google.com" and "google.com", which mean the same, equal.
func mxKey(suffix string) string { return "mx " + strings.TrimPrefix(suffix, ".") }

// release takes from a carrier what others gave. What it was given itself stays:
// if others gave that too, policy has to refuse it.
func (t claimed) release(name string, c, own *policy.Carrier) {
	lost := func(key string) bool {
		owner, ok := t[key]
		return ok && owner != name
	}
	if own == nil || len(own.MX) == 0 {
		c.MX = slices.DeleteFunc(slices.Clone(c.MX), func(s string) bool { return lost(mxKey(s)) })
	}
	if own == nil || len(own.Domains) == 0 {
		c.Domains = slices.DeleteFunc(slices.Clone(c.Domains), func(s string) bool { return lost("domain " + s) })
	}
	if own == nil || len(own.MXNetworks) == 0 {
		c.MXNetworks = slices.DeleteFunc(slices.Clone(c.MXNetworks), func(n policy.Network) bool { return lost("network " + n.String()) })
	}
}
