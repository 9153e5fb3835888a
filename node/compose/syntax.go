package compose

import (
	"fmt"
	"strings"
)

// Bounds of a template's source. The number of tags also bounds how deep blocks
// can nest before maxNesting is looked at.
const (
	maxTags    = 20_000
	maxTagLen  = 1024
	maxNesting = 32
)

// SyntaxError says where a template is wrong.
type SyntaxError struct {
	Line, Column int // from 1; the column counts bytes
	Reason       string
}

// Error is "line 3, column 7: reason".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

type opKind uint8

const (
	opText opKind = iota
	opVar
	opIf
	opUnless
	opEach
	opWith
	opSection // {{#var}} and {{^var}}: each, with or if, by the value's kind
)

// op is one instruction of a program.
type op struct {
	kind        opKind
	text        string // opText: the text; else the tag as written, for Missing "keep"
	arg         operand
	escape      bool // opVar in HTML, not {{{ }}}
	includeZero bool
	body        []op
	inverse     []op
	params      []string // block parameters
}

// program is a parsed template. A program of one opText is constant.
type program []op

func (p program) constant() (string, bool) {
	switch {
	case len(p) == 0:
		return "", true
	case len(p) == 1 && p[0].kind == opText:
		return p[0].text, true
	}
	return "", false
}

// piece is a run of text or one tag of the source.
type piece struct {
	tag        bool
	start, end int // of the source; for text, what white space control left
	t          tag
}

// parse reads a template. html switches escaping of {{var}} on.
func parse(src string, html bool) (program, error) {
	pieces, err := split(src)
	if err != nil {
		return nil, err
	}
	trimPieces(src, pieces)
	p := parser{src: src, pieces: pieces, html: html}
	ops, end, err := p.block(0)
	if err != nil {
		return nil, err
	}
	if end != nil {
		return nil, p.fail(end, "{{"+end.t.closes()+"}} without an open block")
	}
	return mergeText(ops), nil
}

func failAt(src string, pos int, reason string) error {
	pos = min(pos, len(src))
	before := src[:pos]
	return &SyntaxError{
		Line:   strings.Count(before, "\n") + 1,
		Column: pos - strings.LastIndexByte(before, '\n'),
		Reason: reason,
	}
}

// split cuts the source into text and tags.
func split(src string) ([]piece, error) {
	var out []piece
	text := func(start, end int) {
		if start < end {
			out = append(out, piece{start: start, end: end})
		}
	}
	tags, from := 0, 0
	for pos := 0; ; {
		i := strings.Index(src[pos:], "{{")
		if i < 0 {
			text(from, len(src))
			return out, nil
		}
		open := pos + i
		if open > from && src[open-1] == '\\' {
			if open-1 > from && src[open-2] == '\\' { // \\{{x}} is a backslash and a tag
				text(from, open-1)
			} else { // \{{x}} is literal
				text(from, open-1)
				from = open
				pos = open + 2
				for pos < len(src) && src[pos] == '{' {
					pos++
				}
				continue
			}
		} else {
			text(from, open)
		}
		if tags++; tags > maxTags {
			return nil, failAt(src, open, fmt.Sprintf("more than %d tags", maxTags))
		}
		t, end, reason := readTag(src, open)
		if reason != "" {
			return nil, failAt(src, open, reason)
		}
		out = append(out, piece{tag: true, start: open, end: end, t: t})
		pos, from = end, end
	}
}

// trimPieces does white space control: "~" takes all white space on its side,
// and a block tag or comment alone on its line takes the line with it. All
// decisions are made on the text as written, then applied.
func trimPieces(src string, pieces []piece) {
	type cut struct{ start, end int }
	cuts := make([]cut, len(pieces))
	for i := range pieces {
		cuts[i] = cut{pieces[i].start, pieces[i].end}
	}
	for i := range pieces {
		if !pieces[i].tag {
			continue
		}
		t := &pieces[i].t
		prev, next := i > 0 && !pieces[i-1].tag, i+1 < len(pieces) && !pieces[i+1].tag
		lineStart, lineEnd := i == 0, i+1 == len(pieces)
		var before, after int
		if prev {
			text := src[pieces[i-1].start:pieces[i-1].end]
			kept := strings.TrimRight(text, " \t")
			before = pieces[i-1].start + len(kept)
			lineStart = strings.HasSuffix(kept, "\n") || (kept == "" && i == 1)
		}
		if next {
			text := src[pieces[i+1].start:pieces[i+1].end]
			rest := strings.TrimPrefix(strings.TrimLeft(text, " \t"), "\r")
			lineEnd = strings.HasPrefix(rest, "\n") || (rest == "" && i+2 == len(pieces))
			after = pieces[i+1].end - len(strings.TrimPrefix(rest, "\n"))
		}
		if t.kind != tagVar && lineStart && lineEnd {
			if prev {
				cuts[i-1].end = min(cuts[i-1].end, before)
			}
			if next {
				cuts[i+1].start = max(cuts[i+1].start, after)
			}
		}
		if t.stripBefore && prev {
			cuts[i-1].end = min(cuts[i-1].end, pieces[i-1].start+len(strings.TrimRight(src[pieces[i-1].start:pieces[i-1].end], white)))
		}
		if t.stripAfter && next {
			cuts[i+1].start = max(cuts[i+1].start, pieces[i+1].end-len(strings.TrimLeft(src[pieces[i+1].start:pieces[i+1].end], white)))
		}
	}
	for i := range pieces {
		if !pieces[i].tag {
			pieces[i].start, pieces[i].end = cuts[i].start, max(cuts[i].start, cuts[i].end)
		}
	}
}

const white = " \t\r\n"

type parser struct {
	src    string
	pieces []piece
	next   int
	html   bool
}

func (p *parser) fail(at *piece, reason string) error { return failAt(p.src, at.start, reason) }

// block reads until the end of the source or a tag that ends a block ("else",
// "/name"), which it returns.
func (p *parser) block(depth int) ([]op, *piece, error) {
	var ops []op
	for p.next < len(p.pieces) {
		pc := &p.pieces[p.next]
		p.next++
		if !pc.tag {
			if pc.start < pc.end {
				ops = append(ops, op{kind: opText, text: p.src[pc.start:pc.end]})
			}
			continue
		}
		switch pc.t.kind {
		case tagComment:
		case tagVar:
			ops = append(ops, op{kind: opVar, text: p.src[pc.start:pc.end], arg: pc.t.arg, escape: p.html && !pc.t.raw})
		case tagOpen, tagInverse:
			o, err := p.open(pc, depth+1)
			if err != nil {
				return nil, nil, err
			}
			ops = append(ops, o)
		default:
			return ops, pc, nil
		}
	}
	return ops, nil, nil
}

// open reads a block from behind its opening tag to its closing tag.
func (p *parser) open(pc *piece, depth int) (op, error) {
	if depth > maxNesting {
		return op{}, p.fail(pc, fmt.Sprintf("blocks nest deeper than %d", maxNesting))
	}
	o := p.blockOp(pc)
	body, end, err := p.block(depth)
	if err != nil {
		return o, err
	}
	var inverse []op
	if end != nil && end.t.kind == tagElse {
		if inverse, end, err = p.elseChain(end, depth); err != nil {
			return o, err
		}
	}
	if end == nil {
		return o, p.fail(pc, "{{#"+pc.t.name+"}} is never closed")
	}
	if end.t.kind != tagClose {
		return o, p.fail(end, "a second else in one block")
	}
	if end.t.name != pc.t.name {
		return o, p.fail(end, "{{/"+end.t.name+"}} closes {{#"+pc.t.name+"}}")
	}
	if pc.t.kind == tagInverse {
		body, inverse = inverse, body
	}
	o.body, o.inverse = mergeText(body), mergeText(inverse)
	return o, nil
}

// elseChain reads what follows {{else}} or {{else if x}}, up to the closing tag.
// The chain is read in a loop, not by recursion, and nests in the program.
func (p *parser) elseChain(at *piece, depth int) (inverse []op, end *piece, err error) {
	var links []op
	for at.t.name != "" { // {{else if x}}
		if depth+len(links) >= maxNesting {
			return nil, nil, p.fail(at, fmt.Sprintf("blocks nest deeper than %d", maxNesting))
		}
		o := p.blockOp(at)
		if o.body, end, err = p.block(depth + len(links) + 1); err != nil {
			return nil, nil, err
		}
		o.body = mergeText(o.body)
		links = append(links, o)
		if end == nil || end.t.kind != tagElse {
			return chain(links, nil), end, nil
		}
		at = end
	}
	last, end, err := p.block(depth + len(links))
	return chain(links, mergeText(last)), end, err
}

func chain(links, last []op) []op {
	for i := len(links) - 1; i >= 0; i-- {
		links[i].inverse = last
		last = []op{links[i]}
	}
	return last
}

var helpers = map[string]opKind{"if": opIf, "unless": opUnless, "each": opEach, "with": opWith}

func (p *parser) blockOp(pc *piece) op {
	t := &pc.t
	o := op{kind: opSection, text: p.src[pc.start:pc.end], arg: t.arg, params: t.params, includeZero: t.includeZero}
	if t.helper {
		o.kind = helpers[t.name]
	}
	return o
}

// mergeText joins neighbouring texts, which escapes and comments leave behind.
func mergeText(ops []op) []op {
	out := ops[:0]
	for _, o := range ops {
		if n := len(out); o.kind == opText && n > 0 && out[n-1].kind == opText {
			out[n-1].text += o.text
			continue
		}
		out = append(out, o)
	}
	return out
}
