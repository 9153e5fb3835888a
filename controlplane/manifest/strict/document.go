package strict

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize bounds what Parse takes. The parser's cost is not quite linear.
const MaxSize = 8 << 20

// maxDepth bounds nesting: the parser is recursive, and quadratic in it.
const maxDepth = 64

// maxErrors bounds how much is said about one document.
const maxErrors = 50

// Position is a place in a file, counted from 1; columns in characters.
type Position struct{ Line, Column int }

// Error is one thing wrong with a document.
type Error struct {
	File string
	Position
	Path   string // "spec.hosts[0]"; "" for the document itself
	Reason string
}

// Error is "file:line:column: path: reason".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	fmt.Fprintf(&b, "%d:%d: ", e.Line, e.Column)
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Errors is everything found wrong, in the order of the file.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when nothing is wrong.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Document is one YAML document of a file.
type Document struct {
	file  string
	body  ast.Node
	start Position
	seen  map[string]Position // path → place, of all that Decode has read
}

// Parse reads the documents of a file; file is its name for errors. Documents
// that hold nothing but comments are left out. The error is Errors.
func Parse(file string, data []byte) (docs []*Document, err error) {
	whole := func(reason string) Errors {
		return Errors{{File: file, Position: Position{1, 1}, Reason: reason}}
	}
	if len(data) > MaxSize {
		return nil, whole(fmt.Sprintf("larger than %d MiB", MaxSize>>20))
	}
	// The parser is somebody else's and the bytes are foreign: a panic in it is
	// a refusal of these bytes, not the end of a node that carries mail.
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, whole(fmt.Sprintf("not readable as YAML: %.100v", r))
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if tk := tooDeep(tokens); tk != nil {
		e := whole(fmt.Sprintf("nested deeper than %d levels", maxDepth))
		e[0].Position = place(tk)
		return nil, e
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		e := whole(err.Error())
		var at yaml.Error
		if errors.As(err, &at) {
			e[0].Reason = at.GetMessage()
			e[0].Position = place(at.GetToken())
		}
		return nil, e
	}
	for _, d := range tree.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		docs = append(docs, &Document{file: file, body: d.Body, start: nodePlace(d.Body), seen: map[string]Position{}})
	}
	if starts := documentStarts(tokens); len(starts) != len(docs) {
		e := whole("empty documents between --- lines confuse the YAML library, which would leave others out; remove the line that has nothing after it")
		return nil, e
	}
	return docs, nil
}

// documentStarts finds the documents that hold something, from the tokens
// alone. goccy/go-yaml 1.19.2 silently drops the document after "---\n---\n";
// policy that was written and not read must be an error.
func documentStarts(tokens token.Tokens) []*token.Token {
	var starts []*token.Token
	empty := true
	for _, tk := range tokens {
		switch tk.Type {
		case token.DocumentHeaderType, token.DocumentEndType:
			empty = true
		case token.CommentType:
		default:
			if empty {
				starts = append(starts, tk)
			}
			empty = false
		}
	}
	return starts
}

// tooDeep finds the token at which the nesting passes maxDepth: brackets in
// brackets, or several sequence entries opened on one line. Block nesting by
// indentation costs as many bytes as the square of its depth, so MaxSize
// bounds it.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, entries, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, entries = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if brackets > maxDepth || entries > maxDepth {
			return tk
		}
	}
	return nil
}

// Start is where the document begins.
func (d *Document) Start() Position { return d.start }

// Locate is the place of a value that Decode has read, by path; else that of
// the nearest value around it; else the document's start.
func (d *Document) Locate(path string) Position {
	for path != "" {
		if p, ok := d.seen[path]; ok {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.start
}

// ErrorAt is an error of the caller's own about a value.
func (d *Document) ErrorAt(path, reason string) *Error {
	return &Error{File: d.file, Position: d.Locate(path), Path: path, Reason: reason}
}

// Decode reads the whole document into a pointer to a struct. What it found
// wrong it left out, so into is to be used only when the errors are empty.
func (d *Document) Decode(into any) Errors {
	return d.decode("", d.body, into)
}

// Text is the text of a top-level key, "" when it has none; to look at a
// document before it is known what to decode it into.
func (d *Document) Text(key string) string {
	m, _ := mapping(d.body)
	for _, kv := range m {
		if keyText(kv) == key {
			d.seen[key] = nodePlace(kv.Value)
			text, _ := scalarText(kv.Value)
			return text
		}
	}
	return ""
}

// place is where a token stands. Some tokens of the parser's making have no
// place of their own.
func place(tk *token.Token) Position {
	if tk == nil || tk.Position == nil {
		return Position{1, 1}
	}
	return Position{tk.Position.Line, tk.Position.Column}
}

func nodePlace(n ast.Node) Position {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return keyPlace(m.Values[0])
	}
	return place(n.GetToken())
}

func keyPlace(kv *ast.MappingValueNode) Position { return place(kv.Key.GetToken()) }
