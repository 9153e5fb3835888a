package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration written as "90s", "15m", "4h" or "3d".
type Duration time.Duration

// D is the plain duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Or is d, or def where d is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// String is the written form.
func (d Duration) String() string {
	if d != 0 && time.Duration(d)%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(time.Duration(d)/(24*time.Hour)), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText gives JSON and YAML the written form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the written form; negative spans are errors.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("duration %q: want a number with a unit, as in 90s, 15m, 4h or 3d", s)
	}
	*d = Duration(v)
	return nil
}

// Rate is a bound of N things in each Per, with at most Burst at once. Written
// "100/s", "10/m", "5000/h", "100000/d", with ",burst=N" after it. Without a
// burst, it is what a tenth of a second holds, at least 1.
type Rate struct {
	N     int64
	Per   time.Duration
	Burst int64
}

// BurstOrDefault is the burst in force.
func (r Rate) BurstOrDefault() int64 {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int64(float64(r.N)*float64(100*time.Millisecond)/float64(r.Per)))
}

var rateUnits = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// String is the written form.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if u.per == r.Per {
			s := strconv.FormatInt(r.N, 10) + "/" + u.name
			if r.Burst > 0 {
				s += ",burst=" + strconv.FormatInt(r.Burst, 10)
			}
			return s
		}
	}
	return fmt.Sprintf("%d/%s", r.N, r.Per)
}

// MarshalText gives JSON and YAML the written form.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the written form. N is 0 to 10^12 (0 stops), burst 1 to 10^9.
func (r *Rate) UnmarshalText(b []byte) error {
	v, err := ParseRate(string(b))
	if err == nil {
		*r = v
	}
	return err
}

// ParseRate reads the written form of a Rate.
func ParseRate(s string) (Rate, error) {
	bad := fmt.Errorf("rate %q: want N/s, N/m, N/h or N/d, with ,burst=N after it if wanted, as in 100/s or 5000/h,burst=50", s)
	spec, opt, hasOpt := strings.Cut(s, ",")
	num, unit, ok := strings.Cut(spec, "/")
	if !ok {
		return Rate{}, bad
	}
	n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
	if err != nil || n < 0 || n > 1e12 {
		return Rate{}, bad
	}
	r := Rate{N: n}
	for _, u := range rateUnits {
		if strings.TrimSpace(unit) == u.name {
			r.Per = u.per
		}
	}
	if r.Per == 0 {
		return Rate{}, bad
	}
	if hasOpt {
		v, ok := strings.CutPrefix(strings.TrimSpace(opt), "burst=")
		r.Burst, err = strconv.ParseInt(v, 10, 64)
		if !ok || err != nil || r.Burst < 1 || r.Burst > 1e9 {
			return Rate{}, bad
		}
	}
	return r, nil
}

// Instant is a moment, written as in RFC 3339: "2026-11-22T18:00:00+09:00". The
// zero Instant is none. Two that are the same moment are equal.
type Instant struct{ at time.Time }

// At is the instant of t, to the second, as far as it can be written.
func At(t time.Time) Instant { return Instant{t.UTC().Truncate(time.Second)} }

// Time is the moment, in UTC.
func (i Instant) Time() time.Time { return i.at }

// IsZero reports whether there is none.
func (i Instant) IsZero() bool { return i.at.IsZero() }

// Reached reports whether there is an instant and now is not before it.
func (i Instant) Reached(now time.Time) bool { return !i.IsZero() && !now.Before(i.at) }

// String is the written form, in UTC; "" for none.
func (i Instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.at.Format(time.RFC3339)
}

// MarshalText gives JSON and YAML the written form.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads the written form, with any offset from UTC. Parts of a
// second are dropped.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	// A year of three or five digits is a slip; it would also not be written back.
	if y := t.UTC().Year(); err != nil || y < 2000 || y > 9998 {
		return fmt.Errorf("instant %.60q: want a date and time with its offset from UTC, as in 2026-11-22T18:00:00Z or 2026-11-22T18:00:00+09:00", b)
	}
	*i = At(t)
	return nil
}

// Network is a network in CIDR form; a bare address is a network of one.
type Network struct{ netip.Prefix }

// UnmarshalText reads "192.0.2.0/24" or "192.0.2.1".
func (n *Network) UnmarshalText(b []byte) error {
	s := string(b)
	if a, err := netip.ParseAddr(strings.SplitN(s, "/", 2)[0]); err == nil && a.Is4In6() {
		return fmt.Errorf("network %q: write an IPv4 network as IPv4, as in 192.0.2.0/24", s)
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Masked() != p {
			return fmt.Errorf("network %q: bits are set beyond the prefix; did you mean %s?", s, p.Masked())
		}
		n.Prefix = p
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("network %q: want an address or CIDR, as in 192.0.2.0/24 or 2001:db8::/32", s)
	}
	n.Prefix = netip.PrefixFrom(a, a.BitLen())
	return nil
}

// MarshalText gives JSON and YAML the CIDR form.
func (n Network) MarshalText() ([]byte, error) { return []byte(n.Prefix.String()), nil }

// AnyContains reports whether one of the networks holds a. 4-in-6 addresses
// are compared as IPv4.
func AnyContains(ns []Network, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range ns {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Secret is text that never shows itself: it prints, and is listed, as "***".
// Reveal is for the one place that needs it.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal is the text itself.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

const hidden = "***"

// String is "***", or "" when there is none.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return hidden
}

// GoString is String, so %#v shows nothing either.
func (s Secret) GoString() string { return s.String() }

// MarshalText is "***": what is stored is written by the store through Reveal.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text. "***" is refused: it is a listing sent back.
func (s *Secret) UnmarshalText(b []byte) error {
	if string(b) == hidden {
		return fmt.Errorf("secret: %q is how a listing hides it; give the real value or leave the key out", hidden)
	}
	s.text = string(b)
	return nil
}
