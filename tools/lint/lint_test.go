package lint

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

func tree(t *testing.T) []*pkg {
	t.Helper()
	pkgs, err := readTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages found: is this the root of the repository?", len(pkgs))
	}
	return pkgs
}

// allowed says why a package may not import another; "" when it may.
func allowed(path, imported string) string {
	target, ours := inside(imported)
	for _, r := range importRules {
		if !matches(r.packages, path) {
			continue
		}
		switch {
		case !ours && !isStd(imported) && r.stdOnly:
			return r.packages + " may use the standard library only"
		case !ours:
			return ""
		case matchesAny(r.may, target):
			return ""
		case family(path) == family(target) && strings.HasPrefix(path, "node/"):
			return "" // folders of one sibling
		}
		if len(r.may) == 0 {
			return r.packages + " may import nothing of this project"
		}
		return r.packages + " may import " + strings.Join(r.may, ", ")
	}
	return "the folder has no rule in the table"
}

func table() string {
	var b strings.Builder
	b.WriteString("The table (tools/lint/rules.go, docs/design.md section 6); the first row that matches counts:\n")
	for _, r := range importRules {
		may := strings.Join(r.may, ", ")
		if may == "" {
			may = "-"
		}
		if r.stdOnly {
			may += " (beside these, the standard library only)"
		}
		fmt.Fprintf(&b, "  %-26s may import  %s\n", r.packages, may)
	}
	return b.String()
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			for _, i := range f.imports {
				target, ours := inside(i)
				if f.test {
					// Tests may use other parts as tools, but the direction
					// stays: nothing below tools knows tools.
					if ours && matches("tools/...", target) && !matches("tools/...", p.path) {
						t.Errorf("%s imports %s: nothing imports tools", f.name, i)
					}
					continue
				}
				if why := allowed(p.path, i); why != "" {
					t.Errorf("%s imports %s: %s", f.name, i, why)
				}
			}
		}
	}
	if t.Failed() {
		t.Log("\n" + table())
	}
}

func TestLibrariesHaveOneDoor(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			for _, i := range f.imports {
				for _, d := range doors {
					if !f.test && (i == d.library || strings.HasPrefix(i, d.library+"/")) && !matchesAny(d.only, p.path) {
						t.Errorf("%s imports %s: only %s may", f.name, i, strings.Join(d.only, ", "))
					}
				}
			}
		}
	}
}

// eachTimeCall calls fn for each use of a function of package time.
func eachTimeCall(f *file, fn func(name string, at ast.Node)) {
	if !slices.Contains(f.imports, "time") {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
			fn(sel.Sel.Name, sel)
		}
		return true
	})
}

// inBubble reports whether a node lies in an argument of synctest.Test, where
// sleeping costs nothing.
func inBubble(f *file, at ast.Node) bool {
	found := false
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return !found
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Test" {
			return !found
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && x.Name == "synctest" && call.Pos() <= at.Pos() && at.End() <= call.End() {
			found = true
		}
		return !found
	})
	return found
}

func TestVirtualTimeStaysVirtual(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			eachTimeCall(f, func(name string, at ast.Node) {
				if !f.test && matchesAny(virtualTime, p.path) && slices.Contains(clocks, name) {
					t.Errorf("%s: time.%s: time comes in as an argument here", f.fset.Position(at.Pos()), name)
				}
				if f.test && name == "Sleep" && !inBubble(f, at) {
					t.Errorf("%s: time.Sleep: use testing/synctest, a passed-in time, or wait for a condition with a deadline", f.fset.Position(at.Pos()))
				}
			})
		}
	}
}

func TestPackagesIntroduceThemselves(t *testing.T) {
	for _, p := range tree(t) {
		doc, code, docFile := false, false, false
		for _, f := range p.files {
			if f.test {
				continue
			}
			code = true
			doc = doc || f.syntax.Doc != nil
			docFile = docFile || strings.HasSuffix(f.name, "/doc.go")
			if slices.Contains(forbiddenNames, f.syntax.Name.Name) {
				t.Errorf("%s: package %s: the name does not say what is in it", f.name, f.syntax.Name.Name)
			}
		}
		if code && (!doc || !docFile) {
			t.Errorf("%s: needs doc.go with a package comment: what it does, what it never does, what to read first", p.path)
		}
		if top, _, _ := strings.Cut(p.path, "/"); !slices.Contains(topLevel, top) {
			t.Errorf("%s: Go code lies in %s only", p.path, strings.Join(topLevel, ", "))
		}
		for part := range strings.SplitSeq(p.path, "/") {
			if slices.Contains(forbiddenNames, part) {
				t.Errorf("%s: the folder's name %s does not say what is in it", p.path, part)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			if f.lines > maxFileLines && !ast.IsGenerated(f.syntax) {
				t.Errorf("%s has %d lines: at most %d, split it by step", f.name, f.lines, maxFileLines)
			}
			for _, d := range f.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines && !f.test {
					t.Errorf("%s: %s has %d lines: at most %d, split it by step", f.fset.Position(fn.Pos()), fn.Name.Name, n, maxFunctionLines)
				}
			}
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, p := range tree(t) {
		for _, f := range p.files {
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: func init: wiring is visible in New", f.fset.Position(fn.Pos()))
				}
			}
		}
	}
}

// TestTheRulesThemselves: a rule that allows all would pass all.
func TestTheRulesThemselves(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"spool/message", "hikyaku/controlplane/policy", false},
		{"spool/message", "golang.org/x/net/idna", false},
		{"spool/message", "crypto/rand", true},
		{"scheduler", "hikyaku/spool/message", true},
		{"scheduler", "hikyaku/spool", false},
		{"scheduler", "github.com/x/y", false},
		{"spool", "github.com/cockroachdb/pebble/v2", true},
		{"node", "hikyaku/node/ingest", true},
		{"node", "hikyaku/controlplane/store", false},
		{"node/ingest", "hikyaku/node/smtp", true},
		{"node/ingest", "hikyaku/node/delivery", false},
		{"node/ingest", "hikyaku/node", false},
		{"node/api/client", "hikyaku/node/api", true},
		{"node/ingest", "hikyaku/controlplane/policy", true},
		{"node/ingest", "hikyaku/controlplane/manifest", false},
		{"controlplane/api", "hikyaku/node", false},
		{"controlplane/store", "hikyaku/spool", false},
		{"controlplane/api", "hikyaku/controlplane/store", true},
		{"bench", "hikyaku/tools/lint", false},
		{"node", "hikyaku/bench", false},
		{"tools/hikyaku/dev", "hikyaku/bench/run", true},
		{"tools/hikyaku/dev", "hikyaku/tools/hikyaku/bench", true},
		{"tools/hikyaku/queue", "hikyaku/tools/hikyaku/cli", true},
		{"tools/hikyaku/queue", "hikyaku/tools/hikyaku/events", false},
		{"tools/hikyaku/cli", "hikyaku/tools/hikyaku/mailbox", false},
		{"tools/hikyaku", "hikyaku/node", false},
		{"elsewhere", "fmt", false},
	} {
		if why := allowed(tt.from, tt.to); (why == "") != tt.ok {
			t.Errorf("%s → %s: %q", tt.from, tt.to, why)
		}
	}
}
