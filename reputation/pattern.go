package reputation

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is a regular expression over a reply's text, taken apart into
// literals. Nearly all patterns of rules are words with anything between them,
// in a few forms; those are compared directly, which is twenty times faster than
// the regexp package. The others run it, but only where their literals were seen.
type pattern struct {
	alts []sequence     // one of them matches; empty when nothing is known of the text
	re   *regexp.Regexp // nil when alts say all there is to say
	// raw: it asks for an address itself, so the text is not masked for it (mask.go).
	raw bool
}

// letters is a reply's text: as it came, or masked in a buffer.
type letters interface{ string | []byte }

// sequence is literals in this order with anything between them.
type sequence struct {
	parts      []string // folded
	start, end bool     // the first begins the text, the last ends it
	vague      bool     // the text must have it, but it is not all that is asked
	shared     int      // of its first parts, which the alternative before it has too
}

const (
	maxAlternatives = 256  // more are left to regexp
	maxPattern      = 2000 // bytes of a rule's text
)

// fold makes text comparable byte by byte: ASCII letters are small, a line's
// end is a blank. It is a table because it is asked for each byte of each reply.
var fold = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c - 'A' + 'a')
	}
	t['\n'], t['\t'], t['\r'] = ' ', ' ', ' '
	return t
}()

// compilePattern reads a regular expression; "" is nil, any text.
func compilePattern(text string) (*pattern, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxPattern {
		return nil, fmt.Errorf("%d bytes are too many: at most %d", len(text), maxPattern)
	}
	flagged := "(?is)" + text
	tree, err := syntax.Parse(flagged, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("not a regular expression: %w", err)
	}
	p := &pattern{raw: strings.Contains(text, "@")}
	vague := false
	for _, a := range expand(tree) {
		q, ok := a.sequence()
		if !ok { // nothing to look for
			p.alts, vague = nil, true
			break
		}
		p.alts = append(p.alts, q)
		vague = vague || q.vague
	}
	for i := 1; i < len(p.alts); i++ {
		p.alts[i].shared = shared(&p.alts[i-1], &p.alts[i])
	}
	if vague {
		if p.re, err = regexp.Compile(flagged); err != nil {
			return nil, fmt.Errorf("not a regular expression: %w", err)
		}
	}
	return p, nil
}

// token is a piece of an alternative: a literal, a gap of anything, or a place.
type token struct {
	literal string
	gap     bool
	vague   bool // the gap is not of anything at all
	begin   bool
	end     bool
}

type alternative []token

// something is what expand says where it cannot say what exactly matches.
func something() []alternative { return []alternative{{{gap: true, vague: true}}} }

// expand turns a tree into alternatives.
func expand(t *syntax.Regexp) []alternative {
	switch t.Op {
	case syntax.OpEmptyMatch:
		return []alternative{nil}
	case syntax.OpLiteral:
		return literal(t)
	case syntax.OpCharClass:
		return class(t)
	case syntax.OpCapture:
		return expand(t.Sub[0])
	case syntax.OpStar:
		if t.Sub[0].Op == syntax.OpAnyChar {
			return []alternative{{{gap: true}}}
		}
	case syntax.OpQuest:
		return bounded(append(expand(t.Sub[0]), nil))
	case syntax.OpBeginText:
		return []alternative{{{begin: true}}}
	case syntax.OpEndText:
		if t.Flags&syntax.WasDollar != 0 || t.Flags&syntax.OneLine != 0 {
			return []alternative{{{end: true}}}
		}
	case syntax.OpAlternate:
		var all []alternative
		for _, s := range t.Sub {
			all = append(all, expand(s)...)
		}
		return bounded(all)
	case syntax.OpConcat:
		all := []alternative{nil}
		for _, s := range t.Sub {
			all = bounded(product(all, expand(s)))
		}
		return all
	}
	return something()
}

func bounded(all []alternative) []alternative {
	if len(all) > maxAlternatives {
		return something()
	}
	return all
}

// literal folds the runes of a literal. A letter outside ASCII that has two
// cases is left to regexp.
func literal(t *syntax.Regexp) []alternative {
	var b []byte
	for _, r := range t.Rune {
		switch {
		case r < utf8.RuneSelf:
			b = append(b, fold[byte(r)])
		case unicode.SimpleFold(r) == r:
			b = utf8.AppendRune(b, r)
		default:
			return something()
		}
	}
	return []alternative{{{literal: string(b)}}}
}

// class is a few characters to choose from, as in [45].
func class(t *syntax.Regexp) []alternative {
	seen := map[byte]bool{}
	var all []alternative
	for i := 0; i+1 < len(t.Rune); i += 2 {
		for r := t.Rune[i]; r <= t.Rune[i+1]; r++ {
			if r >= utf8.RuneSelf {
				if r == '\u212a' || r == '\u017f' { // the other cases of k and s
					continue
				}
				return something()
			}
			c := fold[byte(r)]
			if seen[c] {
				continue
			}
			if seen[c] = true; len(seen) > 4 {
				return something()
			}
			all = append(all, alternative{{literal: string([]byte{c})}})
		}
	}
	if len(all) == 0 {
		return something()
	}
	return all
}

func product(left, right []alternative) []alternative {
	var all []alternative
	for _, l := range left {
		for _, r := range right {
			all = append(all, append(append(alternative(nil), l...), r...))
		}
	}
	return all
}

// sequence joins what touches. It reports false when the alternative has no
// literal to look for, or a place where no place can be.
func (a alternative) sequence() (sequence, bool) {
	var s sequence
	joined, ended := false, false
	for i, t := range a {
		switch {
		case ended:
			return s, false
		case t.begin && i == 0:
			s.start, joined = true, true
			s.parts = append(s.parts, "")
		case t.begin:
			return s, false
		case t.end:
			if !joined {
				return s, false
			}
			s.end, ended = true, true
		case t.gap:
			joined = false
			s.vague = s.vague || t.vague
		case joined:
			s.parts[len(s.parts)-1] += t.literal
		default:
			s.parts, joined = append(s.parts, t.literal), true
		}
	}
	return s, s.key() != "" || s.start && s.end && len(s.parts) == 1
}

// key is the longest literal, the rarest mostly; but words that stand in every
// other reply are looked for only where there is nothing else.
func (s *sequence) key() string {
	longest, rarest := "", ""
	for _, p := range s.parts {
		if len(p) > len(longest) {
			longest = p
		}
		if len(p) > len(rarest) && !common[strings.TrimSpace(p)] {
			rarest = p
		}
	}
	if len(rarest) < 3 {
		return longest
	}
	return rarest
}

var common = map[string]bool{"account": true, "address": true, "connection": true, "email": true, "mailbox": true, "message": true, "recipient": true, "sender": true, "user": true, "your ip": true}

// shared is how many parts the two begin with together, asked in the same way.
func shared(a, b *sequence) int {
	n := 0
	for n < min(len(a.parts), len(b.parts)) && a.parts[n] == b.parts[n] && a.start == b.start &&
		(a.end && n == len(a.parts)-1) == (b.end && n == len(b.parts)-1) {
		n++
	}
	return n
}

// plain reports whether the sequence is one literal anywhere in the text.
func (s *sequence) plain() bool { return len(s.parts) == 1 && !s.start && !s.end && !s.vague }

// matches reports whether the text has the pattern. scanned: what the automaton
// is sure of would have been seen, so only the other alternatives are looked for.
func matches[T letters](p *pattern, text T, scanned bool) bool {
	maybe := len(p.alts) == 0
	missing := -1 // the part that the text lacked, of the alternative before
	for i := range p.alts {
		s := &p.alts[i]
		switch {
		case missing >= 0 && missing < s.shared: // "(a|b).*(c|d)" is four, but a is looked for once
			continue
		case scanned && s.plain() && len(s.parts[0]) <= maxKey:
			missing = -1
			continue
		}
		if missing = lacks(s, text); missing >= 0 {
			continue
		}
		if !s.vague {
			return true
		}
		maybe = true
	}
	if !maybe || p.re == nil {
		return false
	}
	s := string(text)
	if strings.ContainsAny(s, "\n\t\r") {
		s = unfolded.Replace(s)
	}
	return p.re.MatchString(s)
}

var unfolded = strings.NewReplacer("\n", " ", "\t", " ", "\r", " ")

// lacks is the first part of the sequence that the text has not where it should
// be, -1 when it has them all.
func lacks[T letters](s *sequence, text T) int {
	last := len(s.parts) - 1
	for i, part := range s.parts {
		switch {
		case i == 0 && s.start:
			if len(text) < len(part) || !foldedAt(text, part, 0) || i == last && s.end && len(text) != len(part) {
				return i
			}
			text = text[len(part):]
		case i == last && s.end:
			if len(text) < len(part) || !foldedAt(text, part, len(text)-len(part)) {
				return i
			}
		default:
			at := foldedIndex(text, part)
			if at < 0 {
				return i
			}
			text = text[at+len(part):]
		}
	}
	return -1
}

// foldedIndex is where folded text has part, -1 when nowhere.
func foldedIndex[T letters](text T, part string) int {
	if part == "" {
		return 0
	}
	for i := 0; i+len(part) <= len(text); i++ {
		if fold[text[i]] == part[0] && foldedAt(text, part, i) {
			return i
		}
	}
	return -1
}

func foldedAt[T letters](text T, part string, at int) bool {
	for i := range len(part) {
		if fold[text[at+i]] != part[i] {
			return false
		}
	}
	return true
}
