package compose

import (
	"strconv"
	"strings"
)

type tagKind uint8

const (
	tagVar     tagKind = iota
	tagOpen            // {{#x}}
	tagInverse         // {{^x}}
	tagElse            // {{else}}, {{^}}, {{else if x}}
	tagClose           // {{/x}}
	tagComment
)

// tag is one {{…}} of the source.
type tag struct {
	kind        tagKind
	name        string // of a block: the helper or the path as written; of {{else}} ""
	helper      bool   // name is if, unless, each or with
	arg         operand
	params      []string
	raw         bool // {{{x}}} or {{&x}}
	includeZero bool
	stripBefore bool
	stripAfter  bool
}

func (t *tag) closes() string {
	if t.kind == tagClose {
		return "/" + t.name
	}
	return "else"
}

type operandKind uint8

const (
	onPath operandKind = iota
	onString
	onNumber
	onTrue
	onFalse
	onNull
)

// operand is a path or a literal.
type operand struct {
	kind     operandKind
	text     string   // as written; of a string literal, its value
	data     bool     // @path
	depth    int      // how many ../
	scoped   bool     // began with this, . or ..: never a block parameter
	segments []string // "" segments never occur
}

// readTag reads the tag that begins at src[open:], which starts with "{{". It
// returns the tag and where it ends, or why it is wrong.
func readTag(src string, open int) (t tag, end int, reason string) {
	s := src[open+2:]
	in := 2
	if strings.HasPrefix(s, "{{") {
		return t, 0, "raw blocks {{{{…}}}} are not available"
	}
	if strings.HasPrefix(s, "~") {
		t.stripBefore = true
		s, in = s[1:], in+1
	}
	if strings.HasPrefix(s, "!") {
		t.kind = tagComment
		n := commentEnd(s)
		if n < 0 {
			return t, 0, "a comment is never closed"
		}
		t.stripAfter = strings.HasSuffix(s[:n], "~}}")
		return t, open + in + n, ""
	}
	closing := "}}"
	if strings.HasPrefix(s, "{") {
		closing, t.raw = "}}}", true
		s, in = s[1:], in+1
	}
	n := tagEnd(s, closing)
	if n < 0 {
		return t, 0, "a tag is never closed, or is longer than " + strconv.Itoa(maxTagLen) + " bytes"
	}
	inner := s[:n]
	end = open + in + n + len(closing)
	// A triple tag takes its tilde inside: {{{x}~}}.
	if t.raw && strings.HasPrefix(s[n:], "}~}}") {
		t.stripAfter = true
		end = open + in + n + len("}~}}")
	} else if v, ok := strings.CutSuffix(inner, "~"); ok {
		t.stripAfter, inner = true, v
	}
	return t, end, t.read(inner)
}

// commentEnd returns the length of the comment that s starts with.
func commentEnd(s string) int {
	if strings.HasPrefix(s, "!--") {
		// Each "--" is looked at once: searching for both ends from every comment
		// would be quadratic.
		for i := len("!--"); ; {
			n := strings.Index(s[i:], "--")
			if n < 0 {
				return -1
			}
			i += n
			switch rest := s[i+2:]; {
			case strings.HasPrefix(rest, "}}"):
				return i + 4
			case strings.HasPrefix(rest, "~}}"):
				return i + 5
			}
			i++
		}
	}
	i := strings.Index(s, "}}")
	if i < 0 {
		return -1
	}
	return i + 2
}

// tagEnd finds the closing braces, not looking inside strings and [segments].
func tagEnd(s, closing string) int {
	limit := min(len(s), maxTagLen)
	var quote byte
	for i := 0; i < limit; i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '[':
			quote = ']'
		case c == '}' && (strings.HasPrefix(s[i:], closing) || closing == "}}}" && strings.HasPrefix(s[i:], "}~}}")):
			return i
		}
	}
	return -1
}

// read reads the inside of a tag that is no comment.
func (t *tag) read(s string) (reason string) {
	if t.raw { // {{{x}}}
		return t.readVar(s)
	}
	if s == "" {
		return "an empty tag"
	}
	switch rest := s[1:]; s[0] {
	case '#', '^':
		t.kind = tagOpen
		if s[0] == '^' {
			t.kind = tagInverse
			if strings.Trim(rest, white) == "" {
				t.kind = tagElse
				return ""
			}
		}
		if strings.HasPrefix(rest, ">") || strings.HasPrefix(rest, "*") {
			return "partials and decorators are not available"
		}
		return t.readOpen(rest)
	case '/':
		t.kind = tagClose
		t.name = strings.Trim(rest, white)
		return ""
	case '>', '*':
		return "partials and decorators are not available"
	case '&':
		t.raw = true
		return t.readVar(rest)
	}
	s = strings.Trim(s, white)
	if rest, ok := strings.CutPrefix(s, "else"); ok && (rest == "" || strings.IndexByte(white, rest[0]) >= 0) {
		t.kind = tagElse
		if rest = strings.Trim(rest, white); rest == "" {
			return ""
		}
		return t.readOpen(rest)
	}
	return t.readVar(s)
}

func (t *tag) readVar(s string) (reason string) {
	s = strings.Trim(s, white)
	arg, rest, reason := readOperand(s)
	if reason != "" {
		return reason
	}
	if _, ok := helpers[arg.text]; ok && arg.kind == onPath {
		return "{{" + arg.text + "}} is a block: write {{#" + arg.text + " …}}"
	}
	if strings.Trim(rest, white) != "" {
		return "no such helper: " + clip(arg.text) + " (there are if, unless, each and with, as blocks)"
	}
	if arg.kind != onPath {
		return "a literal is not a variable"
	}
	t.arg = arg
	return ""
}

// readOpen reads "if x", "each x as |a b|", or "x".
func (t *tag) readOpen(s string) (reason string) {
	s = strings.Trim(s, white)
	first, rest, reason := readOperand(s)
	if reason != "" {
		return reason
	}
	t.name = first.text
	t.arg = first
	if first.kind != onPath {
		return "a block needs a helper or a variable"
	}
	rest = strings.Trim(rest, white)
	if _, ok := helpers[first.text]; ok {
		t.helper = true
		if rest == "" {
			return "{{#" + t.name + "}} needs a variable"
		}
		if t.arg, rest, reason = readOperand(rest); reason != "" {
			return reason
		}
		if rest != "" && strings.IndexByte(white, rest[0]) < 0 {
			return "{{#" + t.name + "}} takes one variable"
		}
		rest = strings.Trim(rest, white)
	}
	if (t.name == "if" || t.name == "unless") && t.helper {
		if r, ok := strings.CutPrefix(rest, "includeZero=true"); ok {
			t.includeZero, rest = true, strings.Trim(r, white)
		}
	}
	if r, ok := strings.CutPrefix(rest, "as"); ok && strings.HasPrefix(strings.TrimLeft(r, white), "|") {
		r = strings.TrimLeft(r, white)
		list, found := strings.CutSuffix(r[1:], "|")
		t.params = strings.Fields(list)
		if !found || len(t.params) == 0 || len(t.params) > 2 || strings.Contains(list, "|") {
			return "block parameters: want as |item| or as |item index|"
		}
		rest = ""
	}
	if rest != "" {
		if !t.helper {
			return "no such helper: " + clip(first.text) + " (there are if, unless, each and with)"
		}
		return "{{#" + t.name + "}} takes one variable"
	}
	return ""
}

// readOperand reads one path or literal and returns what follows it.
func readOperand(s string) (o operand, rest, reason string) {
	if s == "" {
		return o, "", "a variable is missing"
	}
	switch c := s[0]; {
	case c == '(':
		return o, "", "subexpressions (…) are not available"
	case c == '"' || c == '\'':
		i := strings.IndexByte(s[1:], c)
		if i < 0 {
			return o, "", "a string is never closed"
		}
		return operand{kind: onString, text: s[1 : 1+i]}, s[2+i:], ""
	}
	n := 0
	for n < len(s) && strings.IndexByte(white+"=()|\"'", s[n]) < 0 {
		if s[n] == '[' {
			i := strings.IndexByte(s[n:], ']')
			if i < 0 {
				return o, "", "a [segment] is never closed"
			}
			n += i
		}
		n++
	}
	o.text, rest = s[:n], s[n:]
	switch o.text {
	case "":
		return o, "", "unexpected " + strconv.QuoteRune(rune(s[0]))
	case "true":
		o.kind = onTrue
	case "false":
		o.kind = onFalse
	case "null", "undefined":
		o.kind = onNull
	default:
		if c := o.text[0]; (c >= '0' && c <= '9') || c == '-' {
			if _, err := strconv.ParseFloat(o.text, 64); err != nil {
				return o, "", "not a number: " + clip(o.text)
			}
			o.kind = onNumber
			return o, rest, ""
		}
		reason = o.readPath(o.text)
	}
	return o, rest, reason
}

// readPath reads a.b, a/b, a.[b c].0, this.a, ./a, ../a, @root.a, @../index.
func (o *operand) readPath(s string) (reason string) {
	if r, ok := strings.CutPrefix(s, "@"); ok {
		o.data, s = true, r
	}
	for {
		if r, ok := strings.CutPrefix(s, "../"); ok {
			o.depth, o.scoped, s = o.depth+1, true, r
		} else if r, ok := strings.CutPrefix(s, "./"); ok {
			o.scoped, s = true, r
		} else {
			break
		}
	}
	switch s {
	case "..":
		o.depth, o.scoped = o.depth+1, true
		return ""
	case ".", "this":
		o.scoped = true
		return ""
	}
	if strings.HasPrefix(s, "this.") || strings.HasPrefix(s, "this/") {
		o.scoped, s = true, s[len("this."):]
	}
	for s != "" {
		var seg string
		if s[0] == '[' {
			i := strings.IndexByte(s, ']')
			if i < 0 {
				return "a [segment] is never closed"
			}
			seg, s = s[1:i], s[i+1:]
		} else {
			i := strings.IndexAny(s, "./")
			if i < 0 {
				i = len(s)
			}
			seg, s = s[:i], s[i:]
			if seg == "" || seg == "this" || strings.ContainsAny(seg, "!#%&'()*+,;<=>@[\\]^`{|}~") || hasControl(seg) {
				return "not a variable name: " + clip(o.text)
			}
		}
		o.segments = append(o.segments, seg)
		if s != "" {
			if s[0] != '.' && s[0] != '/' {
				return "not a variable name: " + clip(o.text)
			}
			if s = s[1:]; s == "" {
				return "not a variable name: " + clip(o.text)
			}
		}
	}
	return o.checkData()
}

func (o *operand) checkData() (reason string) {
	if !o.data {
		return ""
	}
	if len(o.segments) > 0 {
		switch o.segments[0] {
		case "root":
			return ""
		case "index", "key", "first", "last":
			if len(o.segments) == 1 {
				return ""
			}
		}
	}
	return "unknown data variable " + clip(o.text) + " (there are @root, @index, @key, @first and @last)"
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// clip quotes foreign text for an error message: short, and without controls.
func clip(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strconv.Quote(s)
}
