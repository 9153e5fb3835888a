package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
)

// source is the struct types of some packages by "package.Type".
type source map[string]*structType

type structType struct {
	doc    string
	fields []field
}

// field is one key. Its type is "string", "policy.Duration",
// "[]ingest.SMTPListener", "map[string]string" and so on, with pointers left out.
type field struct {
	key, typ, doc string
}

// readSource parses packages, given by their directories.
func readSource(root string, dirs ...string) (source, error) {
	s := source{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%s: no Go files: %w", dir, fs.ErrNotExist)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			s.add(f)
		}
	}
	return s, nil
}

func (s source) add(f *ast.File) {
	pkg := f.Name.Name
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts := spec.(*ast.TypeSpec)
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			doc := ts.Doc
			if doc == nil {
				doc = gen.Doc
			}
			s[pkg+"."+ts.Name.Name] = &structType{plainText(doc), fieldsOf(pkg, st)}
		}
	}
}

func fieldsOf(pkg string, st *ast.StructType) []field {
	var fields []field
	for _, f := range st.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		// One comment may stand for several names; each is a field here.
		for range f.Names {
			fields = append(fields, field{key, typeName(pkg, f.Type), withoutName(f.Names[0].Name, plainText(f.Doc))})
		}
	}
	return fields
}

// typeName is the type as source names it.
func typeName(pkg string, e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return typeName(pkg, t.X)
	case *ast.ArrayType:
		return "[]" + typeName(pkg, t.Elt)
	case *ast.MapType:
		return "map[" + typeName(pkg, t.Key) + "]" + typeName(pkg, t.Value)
	case *ast.SelectorExpr:
		return t.X.(*ast.Ident).Name + "." + t.Sel.Name
	case *ast.Ident:
		if ast.IsExported(t.Name) {
			return pkg + "." + t.Name
		}
		return t.Name
	}
	return "?"
}

// plainText is a comment on one line.
func plainText(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}

// withoutName turns Go's "Listen is the address." into "the address.": readers
// of the page see the key, not the field. Case stays, since the first word may be
// a value ("none, starttls or implicit").
func withoutName(name, doc string) string {
	rest, ok := strings.CutPrefix(doc, name+" ")
	if !ok {
		return doc
	}
	rest = strings.TrimPrefix(rest, "is ")
	return strings.TrimPrefix(rest, "are ")
}
