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

// key is the longest literal: the rarest, mostly.
func (s *sequence) key() string {
	longest := ""
	for _, p := range s.parts {
		if len(p) > len(longest) {
			longest = p
		}
	}
	return longest
}

// plain reports whether the sequence is one literal anywhere in the text.
func (s *sequence) plain() bool { return len(s.parts) == 1 && !s.start && !s.end && !s.vague }

// matches reports whether the text has the pattern.
func matches[T letters](p *pattern, text T) bool {
	maybe := len(p.alts) == 0
	for i := range p.alts {
		if within(&p.alts[i], text) {
			if !p.alts[i].vague {
				return true
			}
			maybe = true
		}
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

// within reports whether the text has the sequence, as far as it says all.
func within[T letters](s *sequence, text T) bool {
	last := len(s.parts) - 1
	for i, part := range s.parts {
		switch {
		case i == 0 && s.start:
			if len(text) < len(part) || !foldedAt(text, part, 0) || i == last && s.end && len(text) != len(part) {
				return false
			}
			text = text[len(part):]
		case i == last && s.end:
			return len(text) >= len(part) && foldedAt(text, part, len(text)-len(part))
		default:
			at := foldedIndex(text, part)
			if at < 0 {
				return false
			}
			text = text[at+len(part):]
		}
	}
	return true
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
