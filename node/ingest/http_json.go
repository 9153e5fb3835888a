package ingest

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a request's JSON.
const (
	maxJSONDepth = 32
	maxJSONKeys  = 32 // of one object whose keys are fields
)

// jsonReader reads strict JSON (RFC 8259) in one pass, without building a tree:
// a request with 10,000 recipients is a few hundred thousand tokens.
// encoding/json was measured first: it took 3 times as long, takes duplicate and
// differently cased keys, and cannot say "to[3].email". Errors name the path. The bytes must be valid UTF-8.
type jsonReader struct {
	b       []byte
	pos     int
	depth   int
	path    []pathStep
	scratch []byte
}

type pathStep struct {
	key   []byte // nil: index
	index int
}

// fail is an error at the place where the reader stands.
func (r *jsonReader) fail(reason string) error {
	return refuse(400, codeInvalidJSON, "the request is not what this call takes", Problem{r.where(), reason})
}

func (r *jsonReader) syntax() error {
	return r.fail("not valid JSON at byte " + strconv.Itoa(r.pos+1))
}

// where is the path, as in to[3].email.
func (r *jsonReader) where() string {
	var b []byte
	for _, s := range r.path {
		switch {
		case s.key == nil:
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		case len(b) > 0:
			b = append(append(b, '.'), clipBytes(s.key)...)
		default:
			b = append(b, clipBytes(s.key)...)
		}
	}
	return string(b)
}

// clipBytes shortens a foreign key for a message.
func clipBytes(s []byte) []byte {
	if len(s) <= 64 {
		return s
	}
	return bytes.ToValidUTF8(s[:64:64], nil)
}

func (r *jsonReader) space() {
	for r.pos < len(r.b) {
		switch r.b[r.pos] {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return
		}
	}
}

// peek is the next byte behind white space, 0 at the end.
func (r *jsonReader) peek() byte {
	r.space()
	if r.pos < len(r.b) {
		return r.b[r.pos]
	}
	return 0
}

// take reads one punctuation mark.
func (r *jsonReader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.pos++
	return true
}

// object reads an object and calls field for each key, behind the colon; the key
// is the request's memory. A key
// that comes twice is an error: parsers differ on which of the two counts.
func (r *jsonReader) object(field func(key []byte) error) error {
	if !r.take('{') {
		return r.fail("want an object")
	}
	if r.depth++; r.depth > maxJSONDepth {
		return r.fail("nested deeper than " + strconv.Itoa(maxJSONDepth))
	}
	var seen [maxJSONKeys][]byte
	n := 0
	if r.take('}') {
		r.depth--
		return nil
	}
	for {
		if r.peek() != '"' {
			return r.syntax()
		}
		key, escaped, err := r.rawString()
		if err != nil {
			return err
		}
		if escaped {
			key = appendUnescaped(nil, key)
		}
		r.path = append(r.path, pathStep{key: key})
		for _, s := range seen[:n] {
			if bytes.Equal(s, key) {
				return r.fail("given twice")
			}
		}
		if n < len(seen) { // unknown keys are errors, so there are never more
			seen[n] = key
			n++
		}
		if !r.take(':') {
			return r.syntax()
		}
		if err := field(key); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		if r.take('}') {
			r.depth--
			return nil
		}
		if !r.take(',') {
			return r.syntax()
		}
	}
}

// array reads an array and calls element for each.
func (r *jsonReader) array(element func(i int) error) error {
	if !r.take('[') {
		return r.fail("want a list")
	}
	if r.depth++; r.depth > maxJSONDepth {
		return r.fail("nested deeper than " + strconv.Itoa(maxJSONDepth))
	}
	if r.take(']') {
		r.depth--
		return nil
	}
	at := len(r.path)
	r.path = append(r.path, pathStep{})
	for i := 0; ; i++ {
		r.path[at].index = i
		if err := element(i); err != nil {
			return err
		}
		if r.take(']') {
			r.path = r.path[:at]
			r.depth--
			return nil
		}
		if !r.take(',') {
			return r.syntax()
		}
	}
}

// end makes sure that nothing follows.
func (r *jsonReader) end() error {
	if r.peek(); r.pos != len(r.b) {
		return r.syntax()
	}
	return nil
}

func (r *jsonReader) unknown() error { return r.fail("unknown field") }

// rawString reads a string and returns what is between its quotes.
func (r *jsonReader) rawString() (s []byte, escaped bool, err error) {
	if r.peek() != '"' {
		return nil, false, r.fail("want a string")
	}
	r.pos++
	from := r.pos
	for r.pos < len(r.b) {
		switch c := r.b[r.pos]; {
		case c == '"':
			r.pos++
			return r.b[from : r.pos-1], escaped, nil
		case c < 0x20:
			return nil, false, r.syntax()
		case c == '\\':
			escaped = true
			if n := escapeLen(r.b[r.pos:]); n > 0 {
				r.pos += n
				continue
			}
			return nil, false, r.syntax()
		}
		r.pos++
	}
	return nil, false, r.syntax()
}

// escapeLen is the length of the escape that b starts with, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

// str reads a string.
func (r *jsonReader) str() (string, error) {
	s, escaped, err := r.rawString()
	if err != nil || !escaped {
		return string(s), err
	}
	r.scratch = appendUnescaped(r.scratch[:0], s)
	return string(r.scratch), nil
}

// base64 reads a string of standard base64; line ends in it are ignored.
func (r *jsonReader) base64() ([]byte, error) {
	s, escaped, err := r.rawString()
	if err != nil {
		return nil, err
	}
	if escaped { // as PHP writes "/"
		s = appendUnescaped(make([]byte, 0, len(s)), s)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(out, s)
	if err != nil {
		return nil, r.fail("not valid base64")
	}
	return out[:n], nil
}

// boolean reads true or false.
func (r *jsonReader) boolean() (bool, error) {
	switch r.peek() {
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	}
	return false, r.fail("want true or false")
}

func (r *jsonReader) word(w string) error {
	if len(r.b)-r.pos < len(w) || string(r.b[r.pos:r.pos+len(w)]) != w {
		return r.syntax()
	}
	r.pos += len(w)
	return nil
}

// appendObject reads an object of any content and appends it to dst without
// white space, so that it can stand in one line of an event.
func (r *jsonReader) appendObject(dst []byte) ([]byte, error) {
	if r.peek() != '{' {
		return dst, r.fail("want an object")
	}
	return r.appendAny(dst)
}

func (r *jsonReader) appendAny(dst []byte) ([]byte, error) {
	switch c := r.peek(); c {
	case '{', '[':
		return r.appendContainer(dst, c)
	case '"':
		from := r.pos
		_, _, err := r.rawString()
		return append(dst, r.b[from:r.pos]...), err
	case 't':
		return append(dst, "true"...), r.word("true")
	case 'f':
		return append(dst, "false"...), r.word("false")
	case 'n':
		return append(dst, "null"...), r.word("null")
	}
	from := r.pos
	err := r.number()
	return append(dst, r.b[from:r.pos]...), err
}

func (r *jsonReader) appendContainer(dst []byte, open byte) ([]byte, error) {
	if r.depth++; r.depth > maxJSONDepth {
		return dst, r.fail("nested deeper than " + strconv.Itoa(maxJSONDepth))
	}
	closing := open + 2 // "{" and "}", "[" and "]" are two apart in ASCII
	r.pos++
	dst = append(dst, open)
	if r.take(closing) {
		r.depth--
		return append(dst, closing), nil
	}
	var err error
	for {
		if open == '{' {
			if r.peek() != '"' {
				return dst, r.syntax()
			}
			if dst, err = r.appendAny(dst); err != nil {
				return dst, err
			}
			if !r.take(':') {
				return dst, r.syntax()
			}
			dst = append(dst, ':')
		}
		if dst, err = r.appendAny(dst); err != nil {
			return dst, err
		}
		if r.take(closing) {
			r.depth--
			return append(dst, closing), nil
		}
		if !r.take(',') {
			return dst, r.syntax()
		}
		dst = append(dst, ',')
	}
}

// number reads a number by RFC 8259 section 6.
func (r *jsonReader) number() error {
	at := func() byte {
		if r.pos < len(r.b) {
			return r.b[r.pos]
		}
		return 0
	}
	digits := func() bool {
		from := r.pos
		for c := at(); c >= '0' && c <= '9'; c = at() {
			r.pos++
		}
		return r.pos > from
	}
	if at() == '-' {
		r.pos++
	}
	if at() == '0' {
		r.pos++
	} else if !digits() {
		return r.syntax()
	}
	if at() == '.' {
		if r.pos++; !digits() {
			return r.syntax()
		}
	}
	if at()|0x20 == 'e' {
		if r.pos++; at() == '+' || at() == '-' {
			r.pos++
		}
		if !digits() {
			return r.syntax()
		}
	}
	return nil
}

func hex4(b []byte) (v rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			v = v<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// appendUnescaped decodes the inside of a string that rawString has checked. A
// surrogate without its other half becomes U+FFFD.
func appendUnescaped(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		switch s[i] {
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
			v, _ := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(v) {
				low := rune(0)
				if i+2 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					low, _ = hex4(s[i+3:])
				}
				if v = utf16.DecodeRune(v, low); v != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, v)
		default:
			dst = append(dst, s[i])
		}
	}
	return dst
}

// appendJSONString appends s as a JSON string, in ASCII control bytes escaped.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			v, n := utf8.DecodeRuneInString(s[i:])
			if v != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			b = append(append(b, s[from:i]...), `\ufffd`...)
		} else if b = append(b, s[from:i]...); c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
