package reputation

import "strings"

// A reply often repeats the address it is about, and that address was chosen by
// whoever sent the message: "550 <virus-alert@example.com>: User unknown" is no
// word about a virus, and "<spamhaus@…>" must not lay a source to rest. So rules
// read texts in which each address is blotted out, but for rules that ask for
// an address themselves.

// maxLocal is how far before "@" an address may begin (RFC 5321 4.5.3.1.1).
const maxLocal = 64

// blot is what addresses are overwritten with. It is a letter, so that a rule's
// \w+ or \S+ goes over it as over the address.
const blot = 'x'

// mask blots out what is an address, or looks like one: what is around "@".
func mask(text []byte) {
	for at := 0; at < len(text); at++ {
		if text[at] != '@' {
			continue
		}
		from, to := at, at+1
		if from > 0 && text[from-1] == '"' { // a quoted local part may hold anything
			for from--; from > 0 && at-from <= maxLocal && text[from-1] != '"'; from-- {
			}
			from = max(0, from-1)
		} else {
			for from > 0 && at-from < maxLocal && !notLocal[text[from-1]] {
				from--
			}
		}
		for to < len(text) && domainByte(text[to]) {
			to++
		}
		for to > at+1 && text[to-1] == '.' { // the end of a sentence
			to--
		}
		for i := from; i < to; i++ {
			text[i] = blot
		}
		at = to - 1
	}
}

// masked is mask for who does not count nanoseconds.
func masked(text string) string {
	if strings.IndexByte(text, '@') < 0 {
		return text
	}
	b := []byte(text)
	mask(b)
	return string(b)
}

// notLocal is what no unquoted local part holds, or only such as stand in a URL.
var notLocal = func() (t [256]bool) {
	for _, c := range []byte(" \n\t\r<>()[]{},;:\"'/?&|\\") {
		t[c] = true
	}
	return t
}()

func domainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c >= 0x80
}
