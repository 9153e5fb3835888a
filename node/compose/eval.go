package compose

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// Bounds of one rendering. Loops are bounded by the variables' size, but loops
// in loops multiply; steps bounds the product.
const (
	MaxRendered = 16 << 20 // bytes of all text of one message
	maxSteps    = 2_000_000
)

var (
	errRenderedBig = errors.New("the message becomes larger than " + strconv.Itoa(MaxRendered>>20) + " MiB")
	errSteps       = errors.New("the template's loops take too many steps")
)

// MissingError says that a template names a variable that a recipient lacks.
type MissingError struct {
	Tag    string // as written in the template
	Reason string
}

// Error is `{{name}}: the recipient has no such variable`.
func (e *MissingError) Error() string { return e.Tag + ": " + e.Reason }

// frame is one context of the stack. Frame 0 is the root.
type frame struct {
	node   int32 // in vars; -1 in a block over a literal
	params []string
	index  int32 // of each: position, -1 outside
	key    int32 // of each over an object: the key's node, -1 otherwise
	last   bool
}

// evaluation runs programs over one recipient's variables. Reused.
type evaluation struct {
	vars      vars
	frames    []frame
	recipient *message.Recipient
	id        message.DeliveryID
	job       string
	missing   string // Template.Missing

	mode    outMode
	out     []byte
	scratch []byte
	written int // over all fields
	steps   int
	dry     bool // only count: nothing is appended to out
}

// outMode says where text goes, which decides what a variable may bring along.
type outMode uint8

const (
	toBody   outMode = iota // line ends become CRLF, NUL becomes U+FFFD
	toHeader                // controls become spaces
)

// begin makes ev ready for a recipient.
func (ev *evaluation) begin(r *message.Recipient, id message.DeliveryID) error {
	ev.recipient, ev.id, ev.written, ev.steps = r, id, 0, 0
	return ev.vars.load(r.Vars)
}

// run appends the program's text to ev.out[:0].
func (ev *evaluation) run(p program, mode outMode) ([]byte, error) {
	ev.mode, ev.out = mode, ev.out[:0]
	ev.frames = append(ev.frames[:0], frame{index: -1, key: -1})
	err := ev.ops(p)
	return ev.out, err
}

func (ev *evaluation) ops(p []op) error {
	for i := range p {
		o := &p[i]
		if ev.steps++; ev.steps > maxSteps {
			return errSteps
		}
		var err error
		switch o.kind {
		case opText:
			err = ev.emit(len(o.text))
			if !ev.dry && err == nil {
				ev.out = append(ev.out, o.text...)
			}
		case opVar:
			err = ev.variable(o)
		default:
			err = ev.block(o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (ev *evaluation) emit(n int) error {
	if ev.written += n; ev.written > MaxRendered {
		return errRenderedBig
	}
	return nil
}

// found is what a path leads to: a node of the variables, or text that is not
// in them (built-in variables, @index, lengths, literals), or nothing.
type found struct {
	node int32
	kind kind // of a value outside of the variables: missing, number, text, boolean or null
	text string
	yes  bool // boolean
}

var nothing = found{node: -1}

func (ev *evaluation) variable(o *op) error {
	f := ev.lookup(&o.arg)
	k := ev.kindOf(f)
	if k == missing || k == array || k == object {
		return ev.absent(o, k)
	}
	ev.scratch = ev.scratch[:0]
	if f.node >= 0 {
		ev.scratch = ev.vars.appendValue(ev.scratch, f.node)
	} else {
		ev.scratch = append(ev.scratch, f.text...)
	}
	from := len(ev.out)
	ev.out = appendClean(ev.out, ev.scratch, ev.mode, o.escape)
	n := len(ev.out) - from
	if ev.dry {
		ev.out = ev.out[:from]
	}
	if ev.steps += n >> 6; ev.steps > maxSteps {
		return errSteps
	}
	return ev.emit(n)
}

// absent is a tag without text to stand for it. Lists and objects are no text:
// "[object Object]" in a letter is never meant.
func (ev *evaluation) absent(o *op, k kind) error {
	switch ev.missing {
	case "empty":
		return nil
	case "keep":
		if !ev.dry {
			ev.out = appendClean(ev.out, []byte(o.text), ev.mode, false)
		}
		return ev.emit(len(o.text))
	}
	switch k {
	case array:
		return &MissingError{o.text, "the variable is a list"}
	case object:
		return &MissingError{o.text, "the variable is an object"}
	}
	return &MissingError{o.text, "the recipient has no such variable"}
}

func (ev *evaluation) kindOf(f found) kind {
	if f.node >= 0 {
		return ev.vars.nodes[f.node].kind
	}
	return f.kind
}

func (ev *evaluation) truthy(f found) bool {
	if f.node >= 0 {
		return ev.vars.truthy(f.node)
	}
	switch f.kind {
	case boolean:
		return f.yes
	case number:
		n, err := strconv.ParseFloat(f.text, 64)
		return err != nil || n != 0
	case text:
		return f.text != ""
	}
	return false
}

// block runs a block. Unknown variables are false here in every Missing mode:
// asking whether a variable is there is what a block is for.
func (ev *evaluation) block(o *op) error {
	f := ev.lookup(&o.arg)
	k := ev.kindOf(f)
	yes := ev.truthy(f)
	if o.includeZero && k == number {
		yes = true
	}
	switch kind := o.kind; {
	case kind == opUnless:
		yes = !yes
	case !yes || kind == opIf:
	case kind == opEach:
		if k == array || k == object {
			return ev.each(o, f.node)
		}
		yes = false // nothing to go over
	case kind == opSection && k == array:
		return ev.each(o, f.node)
	case kind == opSection && k == boolean:
	default:
		return ev.within(o, f)
	}
	if yes {
		return ev.ops(o.body)
	}
	return ev.ops(o.inverse)
}

func (ev *evaluation) within(o *op, f found) error {
	if f.node < 0 { // a built-in variable as a context has no members
		return ev.ops(o.body)
	}
	outer := ev.frames[len(ev.frames)-1]
	ev.frames = append(ev.frames, frame{node: f.node, params: o.params, index: outer.index, key: outer.key, last: outer.last})
	err := ev.ops(o.body)
	ev.frames = ev.frames[:len(ev.frames)-1]
	return err
}

func (ev *evaluation) each(o *op, list int32) error {
	n := ev.vars.nodes[list]
	if n.count == 0 {
		return ev.ops(o.inverse)
	}
	at := len(ev.frames)
	ev.frames = append(ev.frames, frame{})
	for i, e := int32(0), list+1; i < n.count; i++ {
		f := frame{node: e, params: o.params, index: i, key: -1, last: i+1 == n.count}
		if n.kind == object {
			f.key, f.node = e, e+1
		}
		ev.frames[at] = f
		if err := ev.ops(o.body); err != nil {
			return err
		}
		if ev.steps++; ev.steps > maxSteps {
			return errSteps
		}
		e = ev.vars.nodes[f.node].next
	}
	ev.frames = ev.frames[:at]
	return nil
}

// lookup follows an operand.
func (ev *evaluation) lookup(o *operand) found {
	switch o.kind {
	case onString:
		return found{node: -1, kind: text, text: o.text}
	case onNumber:
		return found{node: -1, kind: number, text: o.text}
	case onTrue, onFalse:
		return found{node: -1, kind: boolean, text: o.text, yes: o.kind == onTrue}
	case onNull:
		return found{node: -1, kind: null}
	}
	if o.data {
		return ev.dataLookup(o)
	}
	if !o.scoped {
		if f, rest, ok := ev.blockParam(o.segments); ok {
			return ev.follow(f, rest)
		}
	}
	depth := len(ev.frames) - 1 - o.depth
	if depth < 0 {
		return nothing
	}
	if depth == 0 {
		return ev.fromRoot(o.segments)
	}
	return ev.follow(found{node: ev.frames[depth].node}, o.segments)
}

// fromRoot looks in the variables, then among the built-in ones.
func (ev *evaluation) fromRoot(segments []string) found {
	f := ev.follow(found{node: 0}, segments)
	if ev.kindOf(f) != missing || len(segments) != 1 {
		return f
	}
	switch segments[0] {
	case "email":
		return found{node: -1, kind: text, text: ev.recipient.Address}
	case "name":
		if ev.recipient.Name != "" {
			return found{node: -1, kind: text, text: ev.recipient.Name}
		}
	case "id":
		return found{node: -1, kind: text, text: ev.id.String()}
	case "job":
		if ev.job != "" {
			return found{node: -1, kind: text, text: ev.job}
		}
	}
	return nothing
}

func (ev *evaluation) follow(f found, segments []string) found {
	for _, s := range segments {
		if f.node < 0 {
			return nothing
		}
		at := f.node
		switch n := &ev.vars.nodes[at]; n.kind {
		case object:
			f.node = ev.vars.member(at, s, &ev.steps)
		case array:
			if s == "length" {
				f = found{node: -1, kind: number, text: strconv.Itoa(int(n.count))}
				continue
			}
			f.node = ev.vars.element(at, s, &ev.steps)
		default:
			return nothing
		}
	}
	return f
}

func (ev *evaluation) blockParam(segments []string) (f found, rest []string, ok bool) {
	if len(segments) == 0 {
		return nothing, nil, false
	}
	for i := len(ev.frames) - 1; i > 0; i-- {
		for j, p := range ev.frames[i].params {
			if p != segments[0] {
				continue
			}
			if j == 0 {
				return found{node: ev.frames[i].node}, segments[1:], true
			}
			return ev.position(&ev.frames[i]), segments[1:], true
		}
	}
	return nothing, nil, false
}

// position is a loop's key or index.
func (ev *evaluation) position(f *frame) found {
	switch {
	case f.key >= 0:
		return found{node: f.key}
	case f.index >= 0:
		return found{node: -1, kind: number, text: strconv.Itoa(int(f.index))}
	}
	return nothing
}

func (ev *evaluation) dataLookup(o *operand) found {
	if o.segments[0] == "root" {
		return ev.fromRoot(o.segments[1:])
	}
	i := len(ev.frames) - 1 - o.depth
	if i < 0 || ev.frames[i].index < 0 {
		return nothing
	}
	f := &ev.frames[i]
	switch o.segments[0] {
	case "index":
		return found{node: -1, kind: number, text: strconv.Itoa(int(f.index))}
	case "key":
		return ev.position(f)
	case "first":
		return flag(f.index == 0)
	}
	return flag(f.last)
}

func flag(b bool) found {
	return found{node: -1, kind: boolean, text: strconv.FormatBool(b), yes: b}
}

// appendClean appends a variable's text so that it cannot leave its place: in a
// header controls become spaces, in a body line ends become CRLF and other
// line-like controls stay harmless.
func appendClean(dst, s []byte, mode outMode, escape bool) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf || c >= 0x20 && c != 0x7f:
			if escape {
				if e := htmlEscape(c); e != "" {
					dst = append(dst, e...)
					continue
				}
			}
			dst = append(dst, c)
		case mode == toHeader:
			dst = append(dst, ' ')
		case c == '\r' && i+1 < len(s) && s[i+1] == '\n':
		case c == '\r' || c == '\n':
			dst = append(dst, '\r', '\n')
		case c == 0:
			dst = append(dst, "\uFFFD"...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// htmlEscape escapes what Handlebars.js escapes.
func htmlEscape(c byte) string {
	switch c {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	case '"':
		return "&quot;"
	case '\'':
		return "&#x27;"
	case '`':
		return "&#x60;"
	case '=':
		return "&#x3D;"
	}
	return ""
}

// canonical makes line ends CRLF. Compile has refused NUL.
func canonical(s string) string {
	if strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, '\n') < 0 {
		return s
	}
	return string(appendClean(nil, []byte(s), toBody, false))
}
