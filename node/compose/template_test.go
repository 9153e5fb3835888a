package compose_test

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailgun/raymond/v2"

	"hikyaku/node/compose"
	"hikyaku/spool/message"
)

// evaluate renders a template as text or HTML and takes the headers off again.
func evaluate(t testing.TB, tpl, vars string, html bool) (string, error) {
	t.Helper()
	c, err := compose.Compile(letter(func(m *message.Template) {
		m.Subject, m.Text, m.Missing = "x", tpl, "empty"
		if html {
			m.Text, m.HTML = "", tpl
		}
		m.Text = strings.ReplaceAll(m.Text, "\n", "\r\n")
	}))
	if err != nil {
		return "", err
	}
	b, err := c.Render(nil, &message.Recipient{Address: "taro@example.com", Name: "Taro", Vars: []byte(vars)}, msgID)
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	body = strings.ReplaceAll(body, "=\r\n", "")
	body = strings.NewReplacer("\r\n", "\n", "=3D", "=", "=2E", ".", "=20", " ", "=46", "F").Replace(body)
	return body, nil
}

func TestTemplateLanguage(t *testing.T) {
	const vars = `{"a":{"b":"deep","c d":"spaced","list":[10,20,30]},"n":0,"t":true,"f":false,"z":null,"s":"<b> & 'x'","e":"","el":[],
		"users":[{"name":"A","tags":["x","y"]},{"name":"B","tags":[]}],"o":{"k1":"v1","k2":"v2"},"big":123456789012345678901.50,"esc":"\u3042\ud83d\ude00\"\\\/\t|","dup":1,"dup":2}`
	for _, c := range []struct{ tpl, text, html string }{
		{"{{s}}", "<b> & 'x'", "&lt;b&gt; &amp; &#x27;x&#x27;"},
		{"{{{s}}}{{&s}}", "<b> & 'x'<b> & 'x'", "<b> & 'x'<b> & 'x'"},
		{"{{a.b}} {{a/b}} {{a.[c d]}} {{a.list.1}} {{a.list.length}} {{a.list.9}}.", "deep deep spaced 20 3 .", ""},
		{"{{n}} {{t}} {{f}} [{{z}}] {{big}} {{dup}}", "0 true false [] 123456789012345678901.50 2", ""},
		{"{{#if n}}y{{else}}n{{/if}}{{#if n includeZero=true}}y{{/if}}{{#if el}}y{{^}}n{{/if}}{{#unless e}}u{{/unless}}", "nynu", ""},
		{"{{#if f}}1{{else if z}}2{{else if t}}3{{else}}4{{/if}}", "3", ""},
		{"{{#each users}}{{@index}}{{name}}{{#if @first}}!{{/if}}{{#if @last}}.{{/if}}{{#each tags}}{{this}}{{../name}}{{@../index}}{{/each}}{{else}}none{{/each}}", "0A!xA0yA01B.", ""},
		{"{{#each o}}{{@key}}={{.}};{{/each}}", "k1=v1;k2=v2;", "k1=v1;k2=v2;"},
		{"{{#each users as |u i|}}{{i}}{{u.name}}{{#each u.tags as |t|}}{{t}}{{u.name}}{{/each}}{{/each}}", "0AxAyA1B", ""},
		{"{{#with a}}{{b}}{{name}}{{@root.n}}{{/with}}{{#with nope}}x{{else}}no{{/with}}", "deep0no", ""},
		{"{{#users}}{{name}}{{/users}}{{^el}}none{{/el}}{{#t}}{{a.b}}{{/t}}{{#a}}{{b}}{{/a}}", "ABnonedeepdeep", ""},
		{"{{email}} {{name}} {{id}} {{job}}", "taro@example.com Taro 01081g81860w40j2gb1g6gw3rg-7 ", ""},
		{"a {{~n~}} b{{! comment }}c{{!-- }} --}}d", "a0bcd", ""},
		{"\\{{n}} \\\\{{n}}", "{{n}} \\0", ""},
		{"x\n{{#if t}}\n  in\n{{else}}\n  out\n{{/if}}\ny\n", "x\n  in\ny\n", ""},
		{"  {{! alone }}  \nz", "z", ""},
		{"{{#each a.list}}{{this}}{{#unless @last}}, {{/unless}}{{/each}}", "10, 20, 30", ""},
		{"{{#if \"x\"}}lit{{/if}}{{#if 0}}no{{/if}}{{#if null}}no{{/if}}", "lit", ""},
	} {
		if got, err := evaluate(t, c.tpl, vars, false); err != nil || strings.TrimSuffix(got, "\n") != strings.TrimSuffix(c.text, "\n") {
			t.Errorf("text %s\n got %q, %v\nwant %q", c.tpl, got, err, c.text)
		}
		if c.html == "" {
			continue
		}
		if got, err := evaluate(t, c.tpl, vars, true); err != nil || strings.TrimSuffix(got, "\n") != c.html {
			t.Errorf("html %s\n got %q, %v\nwant %q", c.tpl, got, err, c.html)
		}
	}
}

func TestTemplateSyntaxErrors(t *testing.T) {
	for tpl, want := range map[string]string{
		"{{": "never closed", "{{}}": "an empty tag", "{{a": "never closed", "{{{a}}": "never closed",
		"{{#if}}{{/if}}": "needs a variable", "{{#if a b}}{{/if}}": "takes one variable", "{{/if}}": "without an open block",
		"{{#if a}}{{/each}}": "{{/each}} closes {{#if}}", "{{else}}": "without an open block", "{{#if a}}{{else}}{{else}}{{/if}}": "second else",
		"{{a b}}": "no such helper", "{{if a}}": "is a block", "{{#foo a}}{{/foo}}": "no such helper", "{{(a)}}": "subexpressions",
		"{{#if (eq a b)}}{{/if}}": "subexpressions", "{{>p}}": "partials", "{{#>p}}{{/p}}": "partials", "{{{{raw}}}}": "raw blocks",
		"{{a..b}}": "not a variable name", "{{a.}}": "not a variable name", "{{a.this}}": "not a variable name", "{{@foo}}": "unknown data variable",
		"{{#each a as |b c d|}}{{/each}}": "block parameters", "{{#each a as ||}}{{/each}}": "block parameters", "{{'a'}}": "a literal is not", "{{1}}": "a literal is not",
		"{{a.[b}}": "never closed", "{{! a": "comment is never closed", "{{!-- a }}": "comment is never closed", "{{=<% %>=}}": "unexpected",
		strings.Repeat("{{#if a}}", 40) + strings.Repeat("{{/if}}", 40): "deeper than 32",
		"{{#if a}}" + strings.Repeat("{{else if a}}", 40) + "{{/if}}":   "deeper than 32",
		strings.Repeat("{{a}}", 20_001):                                 "more than 20000 tags", "{{" + strings.Repeat("a", 2000) + "}}": "longer than 1024",
	} {
		if _, err := evaluate(t, tpl, `{}`, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want %q", tpl, err, want)
		}
	}
}

// TestAgreesWithRaymond compares with the Go port of Handlebars on random
// templates, where the two mean to agree: its lookup in outer contexts and the
// way it prints lists are not Handlebars.js's, nor are white space control beside
// text that is only white space and standalone tags of uneven else chains, so
// templates stay clear of them; it also forgets the line start behind a tag that
// took its line with it, so block tags are not indented here.
func TestAgreesWithRaymond(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const vars = `{"a":"x<y","b":true,"c":0,"d":"","l":[{"v":1},{"v":"two"}],"o":{"p":"q"},"e":[]}`
	var data map[string]any
	if err := json.Unmarshal([]byte(vars), &data); err != nil {
		t.Fatal(err)
	}
	var gen func(depth int) string
	gen = func(depth int) string {
		var b strings.Builder
		for range rnd.IntN(5) + 1 {
			n := rnd.IntN(14)
			if depth == 0 && n > 7 {
				n -= 8
			}
			body := func() string { return []string{"", "\n", " \n."}[rnd.IntN(3)] + gen(depth-1) }
			cond := []string{"a", "b", "c", "d", "l", "e", "o.p", "nope"}[rnd.IntN(8)]
			b.WriteString([]string{"text ", "\n", "  .", "{{@root.a}}", "{{{@root.a}}}", "t {{~@root.o.p}}", "{{! c }}\n", "{{@root.nope~}} t", "", "", "", "", "", ""}[n])
			switch n {
			case 8, 9:
				b.WriteString("{{#if @root." + cond + "}}" + body() + "{{else}}" + body() + "{{/if}}\n")
			case 10:
				b.WriteString("{{#unless @root." + cond + "}}" + body() + "{{/unless}}")
			case 11:
				b.WriteString("{{#each @root.l}}" + body() + "{{v}}{{@index}}{{/each}}\n")
			case 12:
				b.WriteString("{{#with @root.o}}" + body() + "{{p}}{{/with}}")
			case 13:
				b.WriteString("{{#if @root." + cond + "}}\n1\n{{else if @root.b}}\n" + body() + "\n{{else}}\n3\n{{/if}}\n")
			}
		}
		return b.String()
	}
	for range 2000 {
		tpl := "^" + gen(2) + "$"
		oracle, err := raymond.Parse(tpl)
		if err != nil {
			t.Fatalf("raymond does not parse %q: %v", tpl, err)
		}
		want, err := oracle.Exec(data)
		if err != nil {
			t.Fatalf("raymond does not render %q: %v", tpl, err)
		}
		got, err := evaluate(t, tpl, vars, true)
		if strings.TrimSuffix(got, "\n") != want || err != nil {
			t.Fatalf("template %q\n got %q, %v\nwant %q", tpl, got, err, want)
		}
	}
}

func FuzzRender(f *testing.F) {
	parse := func([]byte) *parsed { return nil }
	// Python takes seconds for some inputs, so it only reads the seeds.
	if flag.Lookup("test.fuzz").Value.String() == "" {
		parse = pythonParser(f)
	}
	f.Add("Hi {{name}}", "t {{a}}\n", "<p>{{{a}}}", "X-A", "{{a}}", `{"a":"b"}`, "山", "empty")
	f.Add("あ{{#each l}}{{this}}{{/each}}", "\r.\r\n", "", "List-Unsubscribe", "<{{a}}>", `{"l":[1,"\u0000\r\n"],"a":"\ud800x"}`, `"q"`, "keep")
	f.Add("{{a}}", strings.Repeat("=あ ", 400), "From x\n.\n", "List-Id", "山 {{a}}", `{"a":"`+strings.Repeat("x", 1200)+`"}`, strings.Repeat("名", 60), "")
	f.Add("{{#if}}", "{{", "}}", "", "", "[", "\x00", "error")
	f.Fuzz(func(t *testing.T, subject, text, html, header, value, vars, name, missing string) {
		tpl := letter(func(m *message.Template) {
			m.Subject, m.Text, m.HTML, m.Missing = subject, text, html, missing
			m.From.Name = name
			if header != "" {
				m.Headers = []message.Header{{Name: header, Value: value}}
			}
			m.Attachments = []message.Attachment{{Name: name, ContentType: value, Content: []byte(vars)}}
		})
		c, err := compose.Compile(tpl)
		if err != nil {
			if utf8.ValidString(subject+text+html) && !utf8.ValidString(err.Error()) {
				t.Errorf("error is not UTF-8: %q", err)
			}
			return
		}
		r := &message.Recipient{Address: "taro@example.com", Name: name, Vars: []byte(vars)}
		check := c.Check(r)
		b, err := c.Render(nil, r, msgID)
		if (check == nil) != (err == nil) {
			t.Fatalf("Check says %v, Render %v", check, err)
		}
		if err != nil {
			return
		}
		wellFormed(t, b)
		if p := parse(b); p != nil {
			if len(p.header("To")) != 1 || len(p.header("From")) != 1 || len(p.Headers) > 10 {
				t.Errorf("headers %q", p.Headers)
			}
		}
	})
}
