package dkim

import (
	"slices"
	"strings"
)

// PublicKey is what is to be published for a key that signs.
type PublicKey struct {
	Name             string // of the policy resource
	Domain, Selector string
	Text             string // of the TXT record
}

// Public lists the keys that sign, by the name of their resource.
func (s *Signers) Public() []PublicKey {
	var out []PublicKey
	for _, d := range s.domains {
		for _, k := range d.keys {
			text, err := DNSRecord(k.key.Public())
			if err != nil {
				panic("BUG: a key signs that cannot be published: " + err.Error())
			}
			out = append(out, PublicKey{Name: k.name, Domain: k.tag("d="), Selector: k.tag("s="), Text: text})
		}
	}
	slices.SortFunc(out, func(a, b PublicKey) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// tag reads one tag of the prefix, which newSigner wrote.
func (k *signer) tag(name string) string {
	_, rest, _ := strings.Cut(string(k.prefix), " "+name)
	v, _, _ := strings.Cut(rest, ";")
	return v
}
