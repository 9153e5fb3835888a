package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const module = "hikyaku"

// pkg is one folder with Go files. Its path is relative to the module's root.
type pkg struct {
	path  string
	files []*file
}

type file struct {
	name    string // relative to the root
	test    bool
	lines   int
	syntax  *ast.File
	fset    *token.FileSet
	imports []string
}

// readTree parses every Go file below root. It needs no build, so it also works
// on a tree that is being changed.
func readTree(root string) ([]*pkg, error) {
	byPath := map[string]*pkg{}
	var pkgs []*pkg
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := readFile(path, filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		if byPath[dir] == nil {
			byPath[dir] = &pkg{path: dir}
			pkgs = append(pkgs, byPath[dir])
		}
		byPath[dir].files = append(byPath[dir].files, f)
		return nil
	})
	return pkgs, err
}

func readFile(path, rel string) (*file, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &file{name: rel, test: strings.HasSuffix(rel, "_test.go"), lines: strings.Count(string(b), "\n"), fset: token.NewFileSet()}
	if f.syntax, err = parser.ParseFile(f.fset, rel, b, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	for _, i := range f.syntax.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rel, err)
		}
		f.imports = append(f.imports, p)
	}
	return f, nil
}

// matches reports whether a package is meant by a pattern.
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if matches(p, path) {
			return true
		}
	}
	return false
}

// inside gives the path within the project of an import, and whether it is one.
func inside(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// isStd reports whether an import is of the standard library: its first element
// has no dot.
func isStd(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") && first != module
}

// family is the folder to which a sibling in node belongs: "node/api" for
// "node/api/client".
func family(path string) string {
	parts := strings.SplitN(path, "/", 3)
	if len(parts) < 2 {
		return path
	}
	return parts[0] + "/" + parts[1]
}
