package compose

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a recipient's variables.
const (
	MaxVars      = 256 << 10 // bytes of JSON
	maxVarsDepth = 32
)

var (
	errVarsJSON  = errors.New("variables: not valid JSON")
	errVarsUTF8  = errors.New("variables: not valid UTF-8")
	errVarsDepth = errors.New("variables: nested deeper than " + strconv.Itoa(maxVarsDepth))
	errVarsBig   = errors.New("variables: more than " + strconv.Itoa(MaxVars) + " bytes")
	errVarsKind  = errors.New("variables: want a JSON object")
)

type kind uint8

const (
	missing kind = iota
	null
	boolean
	number
	text
	array
	object
)

// node is one value of the variables, or one key of an object. Nodes stand in
// the order of the JSON: an object's are key, value, key, value…, an array's
// its values; next is the first node behind the whole value.
type node struct {
	kind       kind
	escaped    bool // text with backslashes
	truth      bool // boolean
	start, end int32
	next       int32
	count      int32 // elements of an array, members of an object
}

// vars is an index over one JSON object: values are found by walking siblings,
// and nothing is decoded before it is used. Reused between renders.
type vars struct {
	json  []byte
	nodes []node
	pos   int
}

// load indexes json, which must be one object. nil is an empty one.
func (v *vars) load(json []byte) error {
	v.json, v.nodes, v.pos = json, v.nodes[:0], 0
	if len(json) == 0 {
		v.nodes = append(v.nodes, node{kind: object, next: 1})
		return nil
	}
	if len(json) > MaxVars {
		return errVarsBig
	}
	if !utf8.Valid(json) {
		return errVarsUTF8
	}
	v.space()
	if v.pos == len(json) || json[v.pos] != '{' {
		return errVarsKind
	}
	if err := v.value(0); err != nil {
		return err
	}
	if v.space(); v.pos != len(json) {
		return errVarsJSON
	}
	return nil
}

func (v *vars) space() {
	for v.pos < len(v.json) {
		switch v.json[v.pos] {
		case ' ', '\t', '\r', '\n':
			v.pos++
		default:
			return
		}
	}
}

func (v *vars) peek() byte {
	if v.pos < len(v.json) {
		return v.json[v.pos]
	}
	return 0
}

func (v *vars) value(depth int) error {
	if depth > maxVarsDepth {
		return errVarsDepth
	}
	v.space()
	i := len(v.nodes)
	v.nodes = append(v.nodes, node{start: int32(v.pos)})
	var err error
	switch c := v.peek(); c {
	case '{', '[':
		err = v.container(i, depth)
	case '"':
		err = v.str(i)
	case 't':
		v.nodes[i].kind, v.nodes[i].truth = boolean, true
		err = v.word("true")
	case 'f':
		v.nodes[i].kind = boolean
		err = v.word("false")
	case 'n':
		v.nodes[i].kind = null
		err = v.word("null")
	default:
		v.nodes[i].kind = number
		err = v.number()
	}
	n := &v.nodes[i]
	if n.kind != text {
		n.end = int32(v.pos)
	}
	n.next = int32(len(v.nodes))
	return err
}

func (v *vars) word(w string) error {
	if len(v.json)-v.pos < len(w) || string(v.json[v.pos:v.pos+len(w)]) != w {
		return errVarsJSON
	}
	v.pos += len(w)
	return nil
}

func (v *vars) container(i, depth int) error {
	closing := byte(']')
	v.nodes[i].kind = array
	if v.json[v.pos] == '{' {
		closing, v.nodes[i].kind = '}', object
	}
	v.pos++
	if v.space(); v.peek() == closing {
		v.pos++
		return nil
	}
	for {
		if closing == '}' {
			v.space()
			if v.peek() != '"' {
				return errVarsJSON
			}
			k := len(v.nodes)
			v.nodes = append(v.nodes, node{next: int32(k + 1)})
			if err := v.str(k); err != nil {
				return err
			}
			if v.space(); v.peek() != ':' {
				return errVarsJSON
			}
			v.pos++
		}
		if err := v.value(depth + 1); err != nil {
			return err
		}
		v.nodes[i].count++
		v.space()
		switch v.peek() {
		case ',':
			v.pos++
		case closing:
			v.pos++
			return nil
		default:
			return errVarsJSON
		}
	}
}

// str reads a string into node i; start and end are inside the quotes.
func (v *vars) str(i int) error {
	n := &v.nodes[i]
	n.kind = text
	v.pos++
	n.start = int32(v.pos)
	for v.pos < len(v.json) {
		switch c := v.json[v.pos]; {
		case c == '"':
			n.end = int32(v.pos)
			v.pos++
			return nil
		case c < 0x20:
			return errVarsJSON
		case c == '\\':
			n.escaped = true
			if v.pos++; v.pos == len(v.json) {
				return errVarsJSON
			}
			switch v.json[v.pos] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				v.pos++
			case 'u':
				if _, ok := hex4(v.json[v.pos+1:]); !ok {
					return errVarsJSON
				}
				v.pos += 5
			default:
				return errVarsJSON
			}
		default:
			v.pos++
		}
	}
	return errVarsJSON
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number reads a number by RFC 8259 section 6.
func (v *vars) number() error {
	if v.peek() == '-' {
		v.pos++
	}
	switch c := v.peek(); {
	case c == '0':
		v.pos++
	case c >= '1' && c <= '9':
		v.digits()
	default:
		return errVarsJSON
	}
	if v.peek() == '.' {
		v.pos++
		if !v.digits() {
			return errVarsJSON
		}
	}
	if v.peek()|0x20 == 'e' {
		v.pos++
		if c := v.peek(); c == '+' || c == '-' {
			v.pos++
		}
		if !v.digits() {
			return errVarsJSON
		}
	}
	return nil
}

func (v *vars) digits() bool {
	from := v.pos
	for c := v.peek(); c >= '0' && c <= '9'; c = v.peek() {
		v.pos++
	}
	return v.pos > from
}

// member finds a member of the object i, or -1. Of members with the same name
// the last counts, as JavaScript has it; steps counts the names compared.
func (v *vars) member(i int32, name string, steps *int) int32 {
	found := int32(-1)
	for k := i + 1; k < v.nodes[i].next; k = v.nodes[k+1].next {
		*steps++
		n := &v.nodes[k]
		raw := v.json[n.start:n.end]
		if string(raw) == name || n.escaped && string(appendUnescaped(nil, raw)) == name {
			found = k + 1
		}
	}
	return found
}

// element finds an element of the array i, or -1.
func (v *vars) element(i int32, index string, steps *int) int32 {
	n, err := strconv.ParseUint(index, 10, 31)
	if err != nil || n >= uint64(v.nodes[i].count) {
		return -1
	}
	e := i + 1
	for range n {
		*steps++
		e = v.nodes[e].next
	}
	return e
}

// truthy is JavaScript's notion as Handlebars uses it: false, null, 0, "" and
// an empty list are not.
func (v *vars) truthy(i int32) bool {
	switch n := &v.nodes[i]; n.kind {
	case boolean:
		return n.truth
	case number:
		return !v.zero(i)
	case text:
		return n.end > n.start
	case array:
		return n.count > 0
	case object:
		return true
	}
	return false
}

func (v *vars) zero(i int32) bool {
	n := &v.nodes[i]
	f, err := strconv.ParseFloat(string(v.json[n.start:n.end]), 64)
	return err == nil && f == 0 && !math.IsNaN(f)
}

// appendValue appends the text of a string, number or boolean; null is empty.
func (v *vars) appendValue(dst []byte, i int32) []byte {
	n := &v.nodes[i]
	raw := v.json[n.start:n.end]
	switch {
	case n.kind == null:
		return dst
	case n.kind == text && n.escaped:
		return appendUnescaped(dst, raw)
	}
	return append(dst, raw...)
}

// appendUnescaped decodes the inside of a JSON string that was checked by str.
// A surrogate without its other half becomes U+FFFD.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if i+2 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					low, _ = hex4(raw[i+3:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, raw[i])
		}
	}
	return dst
}
