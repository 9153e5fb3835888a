package mix

import (
	"fmt"
	"math"
	"strconv"
)

// Spreading says how recipients are spread over destinations.
type Spreading string

// The spreadings.
const (
	Few   Spreading = "few"   // N domains, each as likely
	Zipf  Spreading = "zipf"  // N domains, the k-th as likely as 1/k^S: what real lists look like
	Giant Spreading = "giant" // one domain has Share of all, N others the rest
	Each  Spreading = "each"  // every recipient has its own domain; with N, they take turns over N domains
	Named Spreading = "named" // the domains of Names, by weight
)

// Destinations are the domains of recipients. Those without names are
// "d0.test", "d1.test", …; the giant is "giant.test".
type Destinations struct {
	Spreading Spreading
	N         int
	S         float64 // Zipf's exponent; default 1.07, about what mailing lists show
	Share     float64 // of the giant; default 0.9
	Suffix    string  // default "test"
	Names     []Domain
}

// Domain is a named destination.
type Domain struct {
	Name   string
	Weight float64
}

const maxDestinations = 10_000_000

func (d *Destinations) defaults() {
	if d.Spreading == "" {
		d.Spreading = Few
		if len(d.Names) > 0 {
			d.Spreading = Named
		}
	}
	if d.N == 0 && d.Spreading != Each && d.Spreading != Named {
		d.N = 50
	}
	if d.S == 0 {
		d.S = 1.07
	}
	if d.Share == 0 {
		d.Share = 0.9
	}
	if d.Suffix == "" {
		d.Suffix = "test"
	}
}

func (d *Destinations) check() (errs []error) {
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("destinations: "+format, args...))
		}
	}
	switch d.Spreading {
	case Few, Zipf, Giant:
		bad(d.N >= 1 && d.N <= maxDestinations, "%d of them: want 1 to %d", d.N, maxDestinations)
	case Each:
		bad(d.N >= 0, "%d of them: want 0 or more", d.N)
	case Named:
		bad(len(d.Names) > 0, "no names")
	default:
		bad(false, "%q: want few, zipf, giant, each or named", d.Spreading)
	}
	bad(d.S > 0 && d.S <= 5, "exponent %v: want more than 0, at most 5", d.S)
	bad(d.Share > 0 && d.Share < 1, "share %v of the giant: want more than 0, less than 1", d.Share)
	bad(mailbox("x@"+d.Suffix), "suffix %q: not a domain", d.Suffix)
	for _, n := range d.Names {
		bad(mailbox("x@"+n.Name) && weight(n.Weight), "%q, weight %v: want a domain and more than 0", n.Name, n.Weight)
	}
	return errs
}

// chooser draws the destination of a recipient.
type chooser struct {
	d     Destinations
	seed  uint64
	alias alias
}

func newChooser(d Destinations, seed uint64) chooser {
	c := chooser{d: d, seed: seed}
	switch d.Spreading {
	case Zipf:
		c.alias = newAlias(d.N, func(i int) float64 { return math.Pow(float64(i+1), -d.S) })
	case Named:
		c.alias = newAlias(len(d.Names), func(i int) float64 { return d.Names[i].Weight })
	}
	return c
}

func (c *chooser) appendDomain(dst []byte, n int) []byte {
	k := n
	if c.d.Spreading != Each {
		h := hash(c.seed, saltDestination, n)
		switch c.d.Spreading {
		case Few:
			k = int(h % uint64(c.d.N))
		case Giant:
			if unit(h) < c.d.Share {
				return append(append(dst, "giant."...), c.d.Suffix...)
			}
			k = int(mix64(h) % uint64(c.d.N))
		case Zipf:
			k = c.alias.pick(h)
		case Named:
			return append(dst, c.d.Names[c.alias.pick(h)].Name...)
		}
	} else if c.d.N > 0 {
		k = n % c.d.N
	}
	dst = appendInt(append(dst, 'd'), k)
	return append(append(dst, '.'), c.d.Suffix...)
}

func appendInt(dst []byte, n int) []byte { return strconv.AppendInt(dst, int64(n), 10) }

// alias draws from a discrete distribution in constant time, whatever its size:
// Walker's alias method as built by Vose (IEEE TSE 17(9), 1991).
type alias struct {
	below []uint64 // of the 64-bit fraction: stay in the cell
	other []uint32
}

func newAlias(n int, weightOf func(int) float64) alias {
	a := alias{below: make([]uint64, n), other: make([]uint32, n)}
	w := make([]float64, n)
	total := 0.0
	for i := range w {
		w[i] = weightOf(i)
		total += w[i]
	}
	var small, large []uint32
	for i := range w {
		w[i] *= float64(n) / total
		if w[i] < 1 {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.below[s], a.other[s] = uint64(w[s]*(1<<63))<<1, l
		if w[l] -= 1 - w[s]; w[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]uint32{small, large} { // 1, but for the last bits
		for _, i := range rest {
			a.below[i], a.other[i] = math.MaxUint64, i
		}
	}
	return a
}

func (a *alias) pick(h uint64) int {
	if len(a.below) == 1 {
		return 0
	}
	i := h % uint64(len(a.below))
	if mix64(h^0xd1b54a32d192ed03) <= a.below[i] {
		return int(i)
	}
	return int(a.other[i])
}
