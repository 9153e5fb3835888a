// Package compose turns what the HTTP API accepted (message.Template) into
// complete RFC 5322 content for one recipient: Handlebars over the recipient's
// variables, headers with RFC 2047 and 2231 encoding, and the MIME tree.
//
// It never does I/O, reads no clock and keeps no state between messages: what a
// message looks like depends on its template, its recipient and its delivery id
// alone, so each attempt sends the same bytes.
//
// Way of a message: Compile checks a template once (when it is accepted, and
// again when it is dispatched after a restart) and prepares all that does not
// depend on the recipient; Check says at acceptance whether Render will succeed
// for a recipient; Render appends the message. A Compiled is safe for
// concurrent use.
//
// Read in this order: compose.go (Compile, Check, Render), tree.go (the MIME
// tree), header.go and word.go (header fields, encoded-words, file names),
// body.go (transfer encodings), then the template language: syntax.go and
// tag.go (text to program), eval.go (program and variables to text), vars.go
// (variables as an index over their JSON).
//
// Why not a Handlebars library: the Go ones share one lexer and evaluator
// (aymerick/raymond and its forks). Measured with mailgun/raymond v2.0.48, every
// template with a syntax error leaks a goroutine that holds the template for
// ever; parsing 21 kB takes 16 ms; evaluation bounds neither time nor output; a
// missing variable cannot be told from an empty one. The tests use it as the
// oracle for what both can do.
//
// The language: {{var}}, {{{var}}} and {{&var}}, dotted paths, this, ../ and
// @root, @index, @key, @first, @last; the blocks if, unless, each, with and
// {{#var}}, {{^var}}, with else, else-if chains and block parameters; comments,
// white space control with ~, standalone lines, \{{ for a literal. No partials,
// no other helpers: they are errors when the template is accepted. As in
// Handlebars.js, a name inside a block is looked up in that block's context
// only. Numbers are written as they stand in the JSON.
//
// INVARIANT: the output has CRLF line ends only, no NUL and no line longer than
// 998 bytes, whatever the variables hold (FuzzRender).
package compose
