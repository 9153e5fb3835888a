package reputation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNormal is the bound on what Normalise returns.
const maxNormal = 200

// Normalise takes out of a reply's text what differs from message to message, so
// that replies of the same kind have the same text: addresses, IP addresses,
// names of hosts, ids, numbers, the query of a URL. What is left holds no address
// of a recipient, and may be shown, counted and sent to other nodes. It is at
// most 200 bytes. Recipients, if given, are taken out where they stand without
// their domain too.
func Normalise(text string, recipients ...string) string {
	const most = 4 << 10 // far more than a reply has
	if len(text) > most {
		text = text[:most]
	}
	text = strings.ToValidUTF8(text, "?")
	for _, r := range recipients {
		text = withoutRecipient(text, r)
	}
	text = withoutAddresses(text)
	var b strings.Builder
	for word := range strings.FieldsSeq(text) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(normalWord(word))
		if b.Len() > maxNormal {
			break
		}
	}
	return strings.ToValidUTF8(clip(b.String()), "") // nothing above should leave half a character
}

// clip cuts at maxNormal, between characters.
func clip(s string) string {
	if len(s) <= maxNormal {
		return s
	}
	n := maxNormal
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// signs stand for "@" in replies.
var signs = strings.NewReplacer("＠", "@", "%40", "@", "(at)", "@", "[at]", "@", "(AT)", "@", "[AT]", "@", "&#64;", "@", "&commat;", "@")

const address = "<addr>"

// withoutAddresses replaces each "@" and all around it up to a blank or an angle
// bracket: rather too much than too little.
func withoutAddresses(text string) string {
	text = signs.Replace(text)
	// A quoted local part first: it may hold blanks, and more of "@".
	for {
		at := strings.Index(text, `"@`)
		if at < 0 {
			break
		}
		from := max(0, strings.LastIndexByte(text[:at], '"'))
		text = text[:from] + text[at+1:]
	}
	var b strings.Builder
	for {
		at := strings.IndexByte(text, '@')
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		from := 0
		if i := strings.LastIndexFunc(text[:at], atEdge); i >= 0 {
			_, n := utf8.DecodeRuneInString(text[i:])
			from = i + n
		}
		to := len(text)
		if i := strings.IndexFunc(text[at:], atEdge); i >= 0 {
			to = at + i
		}
		b.WriteString(strings.TrimSuffix(text[:from], "<"))
		b.WriteString(" " + address + " ")
		text = strings.TrimPrefix(text[to:], ">")
	}
}

func atEdge(r rune) bool { return r == '<' || r == '>' || unicode.IsSpace(r) }

// withoutRecipient takes out an address that the text holds in parts.
func withoutRecipient(text, recipient string) string {
	local, domain := recipient, ""
	if i := strings.LastIndexByte(recipient, '@'); i >= 0 {
		local, domain = recipient[:i], recipient[i+1:]
	}
	for _, part := range [...]string{recipient, local, domain} {
		if len(part) < 2 {
			continue
		}
		lower := folded(part)
		for {
			i := foldedIndex(text, lower)
			if i < 0 {
				break
			}
			text = text[:i] + "#" + text[i+len(part):]
		}
	}
	return text
}

func folded(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = fold[b[i]]
	}
	return string(b)
}

const around = "()[]<>{}\"'`,;:!*=|"

// normalWord is one word without what differs.
func normalWord(word string) string {
	if word == address {
		return word
	}
	core := strings.Trim(word, around+".")
	if core == "" {
		return word
	}
	i := strings.Index(word, core)
	left, right := word[:i], word[i+len(core):]
	if strings.Contains(core, "://") {
		return left + normalURL(core) + right
	}
	switch {
	case isIP(core):
		core = "<ip>"
	case enhancedCode(core), shortCode(core):
	case isHost(core):
		core = "<host>"
	default:
		core = withoutNumbers(core)
	}
	return left + core + right
}

// normalURL keeps where a URL leads and drops what it carries.
func normalURL(u string) string {
	if i := strings.IndexAny(u, "?#&="); i >= 0 {
		u = u[:i]
	}
	return withoutNumbers(u)
}

// isIP is an address of version 4 or 6, with a port or prefix too.
func isIP(s string) bool {
	digits, dots, colons := 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.':
			dots++
		case c == ':':
			colons++
		case c == '/' || c == '%' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			if dots == 3 && c != '/' {
				return false
			}
		default:
			return false
		}
	}
	return digits > 0 && (dots == 3 && colons <= 1 || colons >= 2)
}

// enhancedCode is "5.7.1", with "#" before it too.
func enhancedCode(s string) bool {
	s = strings.TrimPrefix(s, "#")
	if len(s) < 5 || len(s) > 9 || s[0] < '2' || s[0] > '5' || strings.Count(s, ".") != 2 {
		return false
	}
	return strings.Trim(s, "0123456789.") == ""
}

// shortCode is a word such as TSS04, S3150, OFR_416 or VS98-IP0, by which
// carriers name their rules: letters in one case, at most four digits in a row.
func shortCode(s string) bool {
	if len(s) > 12 {
		return false
	}
	upper, row := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			upper++
			row = 0
		case c >= '0' && c <= '9':
			if row++; row > 4 {
				return false
			}
		case c == '-' || c == '_' || c == ':':
			row = 0
		default:
			return false
		}
	}
	return upper > 0
}

// isHost is a name with a dot in it.
func isHost(s string) bool {
	s, _, _ = strings.Cut(s, ":")
	last := s[strings.LastIndexByte(s, '.')+1:]
	if len(last) == len(s) || len(last) < 2 || strings.Trim(last, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// withoutNumbers replaces runs of digits, and words that are ids as a whole:
// long ones with digits in them.
func withoutNumbers(s string) string {
	if strings.IndexAny(s, "0123456789") < 0 {
		return s
	}
	var b strings.Builder
	const between = "/.-_:=+"
	for part := range splitAfterAny(s, between) {
		if len(part) >= 7 && strings.IndexAny(part, "0123456789") >= 0 {
			b.WriteByte('#')
			if end := part[len(part)-1]; strings.IndexByte(between, end) >= 0 {
				b.WriteByte(end)
			}
			continue
		}
		for i := 0; i < len(part); i++ {
			if part[i] < '0' || part[i] > '9' {
				b.WriteByte(part[i])
			} else if i == 0 || part[i-1] < '0' || part[i-1] > '9' {
				b.WriteByte('#')
			}
		}
	}
	return b.String()
}

// splitAfterAny yields the parts of s, each with the character that ended it.
func splitAfterAny(s, chars string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s != "" {
			n := 1 + strings.IndexAny(s, chars)
			if n == 0 {
				n = len(s)
			}
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}
