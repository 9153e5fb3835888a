package strict

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"hikyaku/controlplane/policy"
)

// decoding is one Decode under way.
type decoding struct {
	doc    *Document
	errors Errors
}

// Raw is a value that is kept for later, when another value has told what it
// is. The zero Raw is a value that was not there.
type Raw struct {
	doc  *Document
	node ast.Node
	path string
}

// IsZero reports whether there was no value.
func (r Raw) IsZero() bool { return r.node == nil }

// Decode reads the value into a pointer; errors have their place as always. A
// value that was not there changes nothing.
func (r Raw) Decode(into any) Errors {
	if r.IsZero() {
		return nil
	}
	return r.doc.decode(r.path, r.node, into)
}

func (d *Document) decode(path string, n ast.Node, into any) Errors {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("BUG: strict decodes into a pointer")
	}
	c := &decoding{doc: d}
	c.value(path, n, v.Elem())
	return c.errors
}

func (c *decoding) bad(path string, at Position, format string, args ...any) {
	if len(c.errors) < maxErrors {
		c.errors = append(c.errors, &Error{File: c.doc.file, Position: at, Path: path, Reason: fmt.Sprintf(format, args...)})
	}
}

// value reads one node into one settable value.
func (c *decoding) value(path string, n ast.Node, v reflect.Value) {
	at := nodePlace(n)
	c.doc.seen[path] = at
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		c.bad(path, at, "anchors (&), aliases (*) and merge keys (<<) are not supported; write the value out")
		return
	case ast.TagType:
		c.bad(path, at, "tags (!…) are not supported; leave it out")
		return
	case ast.NullType:
		c.bad(path, at, "there is no value; give one or leave the key out")
		return
	}
	if raw, ok := v.Addr().Interface().(*Raw); ok {
		*raw = Raw{c.doc, n, path}
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		c.value(path, n, p.Elem())
		v.Set(p)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		c.text(path, n, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		c.structure(path, n, v)
	case reflect.Slice:
		c.slice(path, n, v)
	case reflect.Map:
		c.mapping(path, n, v)
	default:
		c.scalar(path, n, v)
	}
}

// text hands a scalar's text, as it is written, to a type that reads text.
func (c *decoding) text(path string, n ast.Node, u encoding.TextUnmarshaler) {
	text, ok := scalarText(n)
	if !ok {
		c.bad(path, nodePlace(n), "want text, got %s", describe(n))
		return
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		c.bad(path, nodePlace(n), "%v", err)
	}
}

func (c *decoding) scalar(path string, n ast.Node, v reflect.Value) {
	at := nodePlace(n)
	switch v.Kind() {
	case reflect.String:
		switch n.Type() {
		case ast.StringType, ast.LiteralType:
			text, _ := scalarText(n)
			v.SetString(text)
		case ast.IntegerType, ast.FloatType, ast.BoolType, ast.NanType, ast.InfinityType:
			c.bad(path, at, "want text, got %s; put it in quotes: %q", describe(n), n.GetToken().Value)
		default:
			c.bad(path, at, "want text, got %s", describe(n))
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			c.bad(path, at, "want true or false, got %s", describe(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := integer(n)
		if !ok || v.OverflowInt(i) {
			c.bad(path, at, "want a whole number%s, got %s", rangeOf(v), describe(n))
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, ok := integer(n)
		if !ok || i < 0 || v.OverflowUint(uint64(i)) {
			c.bad(path, at, "want a whole number%s, got %s", rangeOf(v), describe(n))
			return
		}
		v.SetUint(uint64(i))
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.GetToken().Value, 64)
		if i, ok := integer(n); ok {
			f, err = float64(i), nil
		}
		if err != nil || (n.Type() != ast.FloatType && n.Type() != ast.IntegerType) || math.IsInf(f, 0) || math.IsNaN(f) {
			c.bad(path, at, "want a number, got %s", describe(n))
			return
		}
		v.SetFloat(f)
	default:
		panic("BUG: strict cannot decode into " + v.Type().String())
	}
}

func rangeOf(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return ""
	case reflect.Uint, reflect.Uint64:
		return " of 0 or more"
	}
	bits := v.Type().Bits()
	if v.CanUint() {
		return fmt.Sprintf(" from 0 to %d", uint64(1)<<bits-1)
	}
	return fmt.Sprintf(" from %d to %d", -(int64(1) << (bits - 1)), int64(1)<<(bits-1)-1)
}

func (c *decoding) slice(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		c.bad(path, nodePlace(n), "want a list, as in [a, b], got %s", describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		c.value(fmt.Sprintf("%s[%d]", path, i), item, out.Index(i))
	}
	v.Set(out)
}

func (c *decoding) mapping(path string, n ast.Node, v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		panic("BUG: strict decodes maps with text keys only")
	}
	values, ok := mapping(n)
	if !ok {
		c.bad(path, nodePlace(n), "want a mapping of keys to values, got %s", describe(n))
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(values))
	for _, kv := range values {
		key := keyText(kv)
		item := reflect.New(v.Type().Elem()).Elem()
		c.value(join(path, key), kv.Value, item)
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

func (c *decoding) structure(path string, n ast.Node, v reflect.Value) {
	values, ok := mapping(n)
	if !ok {
		c.bad(path, nodePlace(n), "want a mapping of keys to values, got %s", describe(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]Position{}
	for _, kv := range values {
		key, at := keyText(kv), keyPlace(kv)
		if first, twice := seen[key]; twice {
			c.bad(join(path, key), at, "the key is given twice; the first is in line %d", first.Line)
			continue
		}
		seen[key] = at
		index, known := fields[key]
		if !known {
			c.bad(join(path, key), at, "unknown key %s%s", quote(key), didYouMean(key, fields))
			continue
		}
		if kv.Value.Type() == ast.NullType {
			c.bad(join(path, key), at, "there is no value; give one or leave the key out")
			continue
		}
		c.value(join(path, key), kv.Value, v.FieldByIndex(index))
	}
}

// fieldsOf maps the keys of a struct to its fields. Embedded structs without a
// key of their own are flattened.
func fieldsOf(t reflect.Type) map[string][]int {
	fields := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("json")
		name, _, _ := strings.Cut(tag, ",")
		if name == "-" || !f.IsExported() || (f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct) {
			continue
		}
		if !tagged || name == "" {
			panic("BUG: field " + t.String() + "." + f.Name + " has no key (json tag)")
		}
		fields[name] = f.Index
	}
	return fields
}

// didYouMean names the nearest key, or all keys where none is near.
func didYouMean(key string, fields map[string][]int) string {
	names := slices.Sorted(maps.Keys(fields))
	if near := policy.Nearest(strings.ToLower(key), names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(names) == 0 {
		return ""
	}
	return "; the keys here are " + strings.Join(names, ", ")
}
