package message

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// SuppressionKey is the one form under which an address is suppressed, however
// it is written: the local part without quotes and backslashes, its ASCII letters
// in lower case, then "@", then the domain as A-labels in lower case without a
// final dot. `"a..b"@Docomo.NE.jp` and `a..b@docomo.ne.jp` are one key.
//
//   - Without quotes, since quoting is a matter of syntax: RFC 5321 4.1.2 has both
//     forms of a local part name one mailbox, and Japanese carriers' addresses
//     with odd dots are written by some systems in one way and by some in the other.
//   - In lower case, although RFC 5321 2.4 would let "A" and "a" be two mailboxes:
//     hardly any host has it so, and to write to somebody who has asked not to be
//     written to is worse than not to write to a namesake. ASCII only, since nobody
//     agrees on how to fold the rest.
//   - Nothing else is folded: no dots, no "+tag". These are one provider's habits,
//     and elsewhere they tell mailboxes apart.
//
// A key is to be compared and stored, never sent to: without its quotes it may
// hold spaces, angle brackets or "@". The last "@" is always the one before the
// domain, so two mailboxes never share a key. What is no address gives a key too,
// equal to none of an address; "" gives "".
//
// A domain with other letters than ASCII is put in lower case and into A-labels
// without the mappings of IDNA (RFC 5895), of which this leaf knows nothing. Whoever has
// the destination at hand, where they are done, asks SuppressionKeyAt.
func SuppressionKey(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return unquotedLower(address)
	}
	local, domain := unquotedLower(address[:i]), asciiDomain(address[i+1:])
	if local == address[:i] && domain == address[i+1:] {
		return address // the path of nearly every recipient: no allocation
	}
	return local + "@" + domain
}

// SuppressionKeyAt is SuppressionKey with the destination (QueueKey.Destination)
// in place of the address's own domain.
func SuppressionKeyAt(address, destination string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		i = len(address)
	}
	return unquotedLower(address[:i]) + "@" + destination
}

// unquotedLower takes a quoted-string (RFC 5321 4.1.2) out of its quotes; what is
// none stays as it is.
func unquotedLower(local string) string {
	if len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"' {
		return lowerASCII(local)
	}
	inner := local[1 : len(local)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return lowerASCII(inner)
	}
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		}
		b = append(b, inner[i])
	}
	return lowerASCII(string(b))
}

// lowerASCII allocates only where something changes.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

func asciiDomain(domain string) string {
	domain = strings.TrimSuffix(domain, ".")
	plain := true
	for i := range len(domain) {
		plain = plain && domain[i] < utf8.RuneSelf
	}
	if plain {
		return lowerASCII(domain)
	}
	labels := strings.Split(strings.Map(unicode.ToLower, domain), ".")
	for i, l := range labels {
		labels[i] = aLabel(l)
	}
	return strings.Join(labels, ".")
}

// Parameters of Punycode (RFC 3492 5).
const (
	punyBase, punyMin, punyMax  = 36, 1, 26
	punySkew, punyDamp          = 38, 700
	punyFirstBias, punyFirstNum = 72, 128
	punyDigits                  = "abcdefghijklmnopqrstuvwxyz0123456789"
	punyLongest                 = 255 // bytes of a label that is looked at: no domain has more
)

// aLabel is a label in Punycode (RFC 3492 6.3). A label that is ASCII, not UTF-8
// or too long stays as it is.
func aLabel(label string) string {
	if len(label) > punyLongest || !utf8.ValidString(label) {
		return label
	}
	runes := []rune(label)
	out := []byte("xn--")
	for _, r := range runes {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
		}
	}
	basic := len(out) - len("xn--")
	if basic == len(runes) {
		return label
	}
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(punyFirstNum), 0, punyFirstBias
	for done := basic; done < len(runes); {
		next := rune(unicode.MaxRune)
		for _, r := range runes {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range runes {
			if r < n {
				delta++
			}
			if r == n {
				out = appendPuny(out, delta, bias)
				bias = adaptPuny(delta, done+1, done == basic)
				delta = 0
				done++
			}
		}
		delta++
		n++
	}
	return string(out)
}

// appendPuny writes one number.
func appendPuny(out []byte, q, bias int) []byte {
	for k := punyBase; ; k += punyBase {
		t := min(max(k-bias, punyMin), punyMax)
		if q < t {
			return append(out, punyDigits[q])
		}
		out = append(out, punyDigits[t+(q-t)%(punyBase-t)])
		q = (q - t) / (punyBase - t)
	}
}

func adaptPuny(delta, points int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (punyBase-punyMin)*punyMax/2; k += punyBase {
		delta /= punyBase - punyMin
	}
	return k + (punyBase-punyMin+1)*delta/(delta+punySkew)
}
