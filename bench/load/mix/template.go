package mix

import (
	"fmt"
	"strings"
)

// Template is what HTTP template requests carry: one text for all recipients,
// with {{number}}, {{name}}, {{points}}, {{city}} and {{code}} in it, which the
// mix gives each recipient. Other tags, and the product's blocks, are not for
// here: the receiver has to compute the same text without the product.
type Template struct {
	Subject string
	Text    string
	HTML    string
	// Bytes is the size of a generated Text and HTML together, where both are
	// empty. Default 4096.
	Bytes int

	subject, text, html []segment
	quoted              struct{ subject, text, html []byte } // as JSON strings
}

// segment is text, or a variable.
type segment struct {
	text     string
	variable variable // none: text
}

type variable uint8

const (
	none variable = iota
	varNumber
	varName
	varPoints
	varCity
	varCode
)

var variables = map[string]variable{"number": varNumber, "name": varName, "points": varPoints, "city": varCity, "code": varCode}

// numberHeader carries the recipient's number in a rendered message.
const numberHeader = "X-Load-Number"

func (t *Template) prepare(c *corpus) error {
	if t.Text == "" && t.HTML == "" {
		t.generate(c)
	}
	if t.Subject == "" {
		t.Subject = "{{name}}様: {{points}} points"
	}
	for _, f := range []struct {
		name, text string
		to         *[]segment
		quoted     *[]byte
	}{
		{"subject", t.Subject, &t.subject, &t.quoted.subject}, {"text", t.Text, &t.text, &t.quoted.text}, {"html", t.HTML, &t.html, &t.quoted.html},
	} {
		var err error
		if *f.to, err = parseTemplate(f.text); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		*f.quoted = appendQuoted(nil, f.text)
	}
	return nil
}

// generate writes a newsletter: a greeting with each variable, and text to fill
// the size, in both alternatives.
func (t *Template) generate(c *corpus) {
	size := t.Bytes
	if size == 0 {
		size = 4096
	}
	var text, html strings.Builder
	text.WriteString("{{name}}様 ({{number}})\n\nIn {{city}} you have {{points}} points. Your code: {{code}}\n\n")
	html.WriteString("<html><body><h1>{{name}}様</h1><p>{{city}}: <b>{{points}}</b> points, <a href=\"https://source.test/{{code}}\">{{number}}</a></p>\n")
	for k := 0; text.Len()+html.Len() < size; k++ {
		from, to := c.lines[k%(len(c.lines)-1)], c.lines[k%(len(c.lines)-1)+1]
		line := strings.TrimRight(string(c.text[from:to]), "\r\n")
		text.WriteString(line + "\n")
		html.WriteString("<p>" + line + "</p>\n")
	}
	html.WriteString("</body></html>\n")
	t.Text, t.HTML = text.String(), html.String()
}

func parseTemplate(s string) (out []segment, err error) {
	for s != "" {
		before, rest, tag := strings.Cut(s, "{{")
		if before != "" {
			out = append(out, segment{text: before})
		}
		if !tag {
			break
		}
		name, after, closed := strings.Cut(rest, "}}")
		v := variables[name]
		if !closed || v == none {
			return nil, fmt.Errorf("%.40q: want {{number}}, {{name}}, {{points}}, {{city}} or {{code}}", "{{"+rest)
		}
		out = append(out, segment{variable: v})
		s = after
	}
	return out, nil
}

// The values of variables hold what has to be quoted somewhere: letters beyond
// ASCII, and characters that mean something in HTML. None has to be in JSON.
var (
	families  = []string{"山田 太郎", "佐藤 花子", "O'Brien & Sons", "Müller", "Smith", "鈴木 一郎", "García", "Tanaka <3"}
	cities    = []string{"東京", "京都", "大阪", "Edo", "Köln", "Zürich", "Nagoya"}
	escapes   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;", "`", "&#x60;", "=", "&#x3D;")
	safeNames = escapeAll(families)
)

func escapeAll(in []string) (out []string) {
	for _, s := range in {
		out = append(out, escapes.Replace(s))
	}
	return out
}

const maxPoints = 100_000

// appendVariable appends the value of a variable for recipient n.
func (m *Mix) appendVariable(dst []byte, v variable, n int, html bool) []byte {
	h := m.hash(saltVariable, n)
	switch v {
	case varName:
		names := families
		if html {
			names = safeNames
		}
		dst = append(append(dst, names[h%uint64(len(names))]...), ' ')
		return appendInt(dst, n)
	case varPoints:
		return appendInt(dst, int(h>>16%maxPoints))
	case varCity:
		return append(dst, cities[h>>8%uint64(len(cities))]...)
	case varCode:
		return appendHex(dst, mix64(h))
	case varNumber, none:
	}
	return appendInt(dst, n)
}

// render is the text for recipient n.
func (m *Mix) render(t []segment, n int, html bool) string {
	var b []byte
	for _, s := range t {
		if b = append(b, s.text...); s.variable != none {
			b = m.appendVariable(b, s.variable, n, html)
		}
	}
	return string(b)
}

// appendTemplateRecipient appends recipient n as the API wants it.
func (m *Mix) appendTemplateRecipient(dst []byte, n int) []byte {
	dst = append(dst, `{"email":"`...)
	dst = m.AppendRecipient(dst, n)
	dst = append(dst, `","name":"`...)
	dst = m.appendVariable(dst, varName, n, false)
	dst = append(dst, `","vars":{"number":`...)
	dst = appendInt(dst, n)
	dst = append(dst, `,"points":`...)
	dst = m.appendVariable(dst, varPoints, n, false)
	dst = append(dst, `,"city":"`...)
	dst = m.appendVariable(dst, varCity, n, false)
	dst = append(dst, `","code":"`...)
	dst = m.appendVariable(dst, varCode, n, false)
	return append(dst, `"}}`...)
}

// appendQuoted appends s as a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
