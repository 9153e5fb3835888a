package catalogue

import (
	"slices"

	"hikyaku/controlplane/policy"
)

// entry is one shipped carrier.
type entry struct {
	name  string
	title string // for people
	spec  policy.Carrier
}

// shipped are all of them, in the order in which they are best read: by the size of
// what they receive, the world's first. The specs' parts are shared by all callers,
// who copy what they change.
func shipped() []entry { return all }

// all and byName never change.
var (
	all    = slices.Concat(world(), gateways(), japan())
	byName = func() map[string]int {
		m := make(map[string]int, len(all))
		for i, e := range all {
			m[e.name] = i
		}
		return m
	}()
)

// Has reports whether a carrier of this name ships.
func Has(name string) bool {
	_, ok := byName[name]
	return ok
}

// Names are those of the shipped carriers, in order.
func Names() []string {
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.name
	}
	return names
}

// What lies behind a carrier in force.
const (
	Shipped    = "shipped"    // nothing is set locally
	Overridden = "overridden" // it ships, and local settings change it
	Local      = "local"      // it does not ship, or the catalogue is not in use
)

// Carrier is one carrier in force, beside what was given for it.
type Carrier struct {
	Name   string
	Title  string // of a shipped one: for people
	Origin string // Shipped, Overridden or Local
	// Local is what was given; nil for nothing.
	Local    *policy.Resource
	InForce  *policy.Carrier
	LeftOut  bool     // by disabled: true
	Released []string // what it ships with and lost to other local carriers, as "mx .google.com"
}

// View is all carriers in force under the resources, in order of name; those that
// policy makes up itself (default) only if they were given.
func View(resources []policy.Resource) []Carrier {
	var out []Carrier
	inUse := inUse(resources)
	given := map[string]*policy.Resource{}
	for i := range resources {
		if r := &resources[i]; r.Kind == policy.KindCarrier {
			given[r.Name] = r
		}
	}
	for _, r := range Over(resources) {
		c, ok := r.Spec.(*policy.Carrier)
		if !ok || c == nil {
			continue
		}
		v := Carrier{Name: r.Name, Origin: Local, Local: given[r.Name], InForce: c, LeftOut: c.Disabled}
		if i, ships := byName[r.Name]; ships && inUse {
			v.Title, v.Origin = all[i].title, Overridden
			if v.Local == nil {
				v.Origin = Shipped
			}
			v.Released = released(&all[i].spec, c, v.Local)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Carrier) int { return policy.Compare(a.resource(), b.resource()) })
	return out
}

func (c *Carrier) resource() policy.Resource {
	return policy.Resource{Kind: policy.KindCarrier, Name: c.Name}
}

// released are the things by which mail is known that a carrier ships with and does
// not have in force, other than by its own resource.
func released(ships, now *policy.Carrier, local *policy.Resource) (lost []string) {
	own := &policy.Carrier{}
	if local != nil {
		own = local.Spec.(*policy.Carrier)
	}
	if len(own.MX) == 0 {
		lost = append(lost, missing("mx ", ships.MX, now.MX)...)
	}
	if len(own.Domains) == 0 {
		lost = append(lost, missing("domain ", ships.Domains, now.Domains)...)
	}
	return lost
}

func missing(what string, before, now []string) (lost []string) {
	for _, s := range before {
		if !slices.Contains(now, s) {
			lost = append(lost, what+s)
		}
	}
	return lost
}
