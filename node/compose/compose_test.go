package compose_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/node/compose"
	"hikyaku/spool/message"
)

var (
	date  = time.Date(2026, 11, 22, 9, 30, 0, 0, time.FixedZone("JST", 9*3600))
	msgID = message.DeliveryID{Message: message.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Index: 7}
)

// letter is a template that compiles; tests change one thing about it.
func letter(change func(*message.Template)) *message.Template {
	t := &message.Template{
		From: message.Address{Email: "shop@example.jp", Name: "飛脚商店"}, Subject: "Order {{order}}",
		Text: "Hello {{name}}\n", Date: date, MessageIDDomain: "mx.example.jp",
	}
	if change != nil {
		change(t)
	}
	return t
}

func render(t testing.TB, tpl *message.Template, r *message.Recipient) string {
	t.Helper()
	c, err := compose.Compile(tpl)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	if err := c.Check(r); err != nil {
		t.Fatalf("check: %v", err)
	}
	b, err := c.Render(nil, r, msgID)
	if err != nil {
		t.Fatalf("render: %v", err)
	}
	wellFormed(t, b)
	return string(b)
}

// wellFormed holds the package's invariant.
func wellFormed(t testing.TB, b []byte) {
	t.Helper()
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		t.Errorf("does not end in CRLF: %q", b[max(0, len(b)-40):])
	}
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Errorf("bad line %q", line)
		}
	}
}

// parsed is what the independent parser found.
type parsed struct {
	Type, Encoding, Disposition, Filename, Name, CID string
	Defects                                          []string
	Text, Bytes                                      string
	Parts                                            []parsed
	Headers                                          [][2]string
	From, To                                         [][2]string
	ReplyTo                                          [][2]string `json:"reply-to"`
}

func (p *parsed) header(name string) (values []string) {
	for _, h := range p.Headers {
		if strings.EqualFold(h[0], name) {
			values = append(values, h[1])
		}
	}
	return values
}

// defects of the message and all its parts.
func (p *parsed) defects() []string {
	d := p.Defects
	for i := range p.Parts {
		d = append(d, p.Parts[i].defects()...)
	}
	return d
}

// pythonParser runs Python's email package (policy default).
func pythonParser(t testing.TB) func(raw []byte) *parsed {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missingPeer(t, "install python3: its email package is the independent parser")
	}
	cmd := exec.Command(python, filepath.Join("testdata", "parse.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	out := bufio.NewReader(pipe)
	return func(raw []byte) *parsed {
		t.Helper()
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
		if _, err := in.Write(frame); err != nil {
			t.Fatalf("write to python: %v", err)
		}
		line, err := out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("python said nothing about %q: %v", raw, err)
		}
		var p parsed
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		return &p
	}
}

const japanese = "山田太郎様\n\n平素は格別のお引き立てを賜り、厚く御礼申し上げます。ご注文の商品を発送いたしましたのでお知らせいたします。\n.\nFrom here\n"

func TestJapaneseMessageReadByPython(t *testing.T) {
	parse := pythonParser(t)
	subjects := []string{
		"件名", "ご注文ありがとうございます（注文番号 12345）🎉 発送のお知らせ、詳細は本文をご覧ください。長い件名を折り返す試験です",
		"Re: 見積書 for ACME Inc. の件", "plain ASCII subject", "Résumé für Ästhetik", strings.Repeat("a", 990) + "あ",
		strings.Repeat("long words in ascii only ", 20), "=?UTF-8?B?44GC?= is not decoded", "👨‍👩‍👧‍👦" + strings.Repeat("𠮷野家", 30), "a  b   c",
		strings.Repeat("x", 2000), "日本 a 日本 b 日本", `quotes "and" \back`, "半角ｶﾅ と 全角　スペース",
	}
	for i, subject := range subjects {
		name := []string{"山田 太郎", `O"Brien, Pat`, "Plain Name", "髙﨑 﨑子 " + strings.Repeat("長", 60), "", "Dr. No", "=?x?="}[i%7]
		tpl := letter(func(m *message.Template) {
			m.Subject, m.Text, m.HTML = subject, japanese, "<p>こんにちは</p><img src=cid:logo@x>\n"
			m.ReplyTo = &message.Address{Email: "help@日本.example.jp", Name: "お客様センター"}
			m.Attachments = []message.Attachment{{Name: "請求書（2026年11月分）株式会社飛脚商店御中・お支払期限は翌月末日です.pdf", Content: []byte("%PDF-1\x00\xff")}, {Name: `a "b".txt`, ContentType: "text/plain", Content: bytes.Repeat([]byte("x"), 200)}}
			m.Inline = []message.Attachment{{Name: "ロゴ.png", ContentID: "logo@x", Content: []byte{1, 2, 3}}}
			m.Static = true
		})
		raw := render(t, tpl, &message.Recipient{Address: "taro@example.com", Name: name})
		p := parse([]byte(raw))
		if d := p.defects(); len(d) > 0 {
			t.Errorf("subject %q: defects %v", subject, d)
		}
		// Python keeps folded runs of spaces, so only the ends differ.
		if got := p.header("Subject")[0]; got != strings.TrimSpace(subject) {
			t.Errorf("subject\n got %q\nwant %q", got, subject)
		}
		if diff := cmp.Diff([][2]string{{name, "taro@example.com"}}, p.To); diff != "" {
			t.Errorf("To: %s\n%s", diff, raw[:800])
		}
		if diff := cmp.Diff([][2]string{{"お客様センター", "help@xn--wgv71a.example.jp"}}, p.ReplyTo); diff != "" {
			t.Errorf("Reply-To: %s", diff)
		}
		checkTree(t, p)
		for line := range strings.SplitSeq(raw, "\r\n") {
			if strings.Contains(line, "=?UTF-8?") && len(line) > 76 {
				t.Errorf("line with an encoded-word of %d characters: %s", len(line), line)
			}
		}
	}
}

func checkTree(t *testing.T, p *parsed) {
	t.Helper()
	shape := func(p *parsed) string {
		var f func(p *parsed) string
		f = func(p *parsed) string {
			s := p.Type
			for i := range p.Parts {
				s += "[" + f(&p.Parts[i]) + "]"
			}
			return s
		}
		return f(p)
	}
	want := "multipart/mixed[multipart/alternative[text/plain][multipart/related[text/html][image/png]]][application/pdf][text/plain]"
	if got := shape(p); got != want {
		t.Fatalf("tree %s, want %s", got, want)
	}
	alt, pdf, txt := p.Parts[0], p.Parts[1], p.Parts[2]
	related := alt.Parts[1]
	for _, c := range [][2]string{
		{alt.Parts[0].Text, japanese}, {related.Parts[0].Text, "<p>こんにちは</p><img src=cid:logo@x>\n"},
		{related.Parts[1].CID, "<logo@x>"}, {related.Parts[1].Filename, "ロゴ.png"}, {related.Parts[1].Bytes, "010203"},
		{related.Parts[1].Disposition, "inline"}, {pdf.Disposition, "attachment"}, {pdf.Bytes, fmt.Sprintf("%x", "%PDF-1\x00\xff")},
		{pdf.Filename, "請求書（2026年11月分）株式会社飛脚商店御中・お支払期限は翌月末日です.pdf"},
		{pdf.Name, strings.Repeat("_", 4) + "2026_11" + strings.Repeat("_", 26) + ".pdf"},
		{txt.Filename, `a "b".txt`}, {txt.Bytes, strings.Repeat("78", 200)},
	} {
		if strings.ReplaceAll(c[0], "\r\n", "\n") != c[1] {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
}

func TestTransferEncodings(t *testing.T) {
	parse := pythonParser(t)
	for _, c := range []struct{ name, text, encoding string }{
		{"short ASCII", "hello\nworld\n", "7bit"},
		{"no line end", "hello", "7bit"},
		{"ASCII of 998", strings.Repeat("a", 998) + "\n", "7bit"},
		{"ASCII of 999", strings.Repeat("a", 999) + "\n", "quoted-printable"},
		{"mostly ASCII", strings.Repeat("caf\u00e9 au lait\n", 30), "quoted-printable"},
		{"Japanese", strings.Repeat("日本語の本文です。\n", 30), "base64"},
		{"From line", "a\nFrom me\n", "quoted-printable"},
		{"dot line", "a\n.\nb\n..\n", "quoted-printable"},
		{"looks like a boundary", "--=_x\n", "quoted-printable"},
		{"trailing space", "caf\u00e9 \nsig -- \n", "quoted-printable"},
		{"long words", strings.Repeat("=", 300) + "\n" + strings.Repeat(".", 300) + strings.Repeat("x", 400) + "\n", "base64"},
		{"bare CR and LF", "a\rb\nc\r\nd", "7bit"},
	} {
		for _, both := range []bool{false, true} {
			raw := render(t, letter(func(m *message.Template) {
				m.Static, m.Subject, m.Text = true, "x", c.text
				if both {
					m.HTML = "<p>"
				}
			}), &message.Recipient{Address: "a@b.c"})
			p := parse([]byte(raw))
			part := p
			if both {
				part = &p.Parts[0]
			}
			if part.Encoding != c.encoding {
				t.Errorf("%s: encoding %s, want %s", c.name, part.Encoding, c.encoding)
			}
			want := strings.ReplaceAll(strings.ReplaceAll(c.text, "\r\n", "\n"), "\r", "\n")
			if got := strings.ReplaceAll(part.Text, "\r\n", "\n"); strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
				t.Errorf("%s: text %q, want %q", c.name, got, want)
			}
			if d := p.defects(); len(d) > 0 {
				t.Errorf("%s: %v", c.name, d)
			}
			_, body, _ := strings.Cut(raw, "\r\n\r\n")
			if strings.Contains(body, "\r\nFrom ") || strings.Contains(body, "\r\n.") {
				t.Errorf("%s: a line begins with From or a dot: %q", c.name, body)
			}
		}
	}
}

func TestRenderedFieldsCannotEscape(t *testing.T) {
	parse := pythonParser(t)
	evil := "x\r\nBcc: victim@example.com\r\n\r\nbody\x00\u2028\x0b\x7f"
	vars, err := json.Marshal(map[string]string{"v": evil})
	if err != nil {
		t.Fatal(err)
	}
	raw := render(t, letter(func(m *message.Template) {
		m.Subject, m.Text, m.HTML = "s {{v}}", "{{v}}", "{{v}}"
		m.Headers = []message.Header{{Name: "X-V", Value: "{{v}}"}, {Name: "List-Unsubscribe", Value: "<https://u.example/{{v}}>"}}
	}), &message.Recipient{Address: "a@b.c", Vars: vars})
	p := parse([]byte(raw))
	if got := p.header("Bcc"); got != nil {
		t.Errorf("injected Bcc %q", got)
	}
	if len(p.header("To")) != 1 || len(p.Headers) != 9 {
		t.Errorf("headers %q", p.Headers)
	}
	if got := p.header("X-V")[0]; got != "x  Bcc: victim@example.com    body \u2028" {
		t.Errorf("X-V %q", got)
	}
	if got := p.Parts[0].Text; !strings.HasPrefix(got, "x\r\nBcc: victim@example.com\r\n\r\nbody\uFFFD") {
		t.Errorf("text %q", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*message.Template)
		want   string // part of "field: reason"
	}{
		{"CRLF in subject", func(m *message.Template) { m.Subject = "a\r\nBcc: x@y.z" }, "subject: control"},
		{"CRLF in header value", func(m *message.Template) { m.Headers = []message.Header{{Name: "X-A", Value: "a\nb"}} }, "headers[0].value: control"},
		{"colon in header name", func(m *message.Template) { m.Headers = []message.Header{{Name: "X-A: b", Value: "a"}} }, "headers[0].name: only letters"},
		{"Bcc", func(m *message.Template) { m.Headers = []message.Header{{Name: "bCC", Value: "a@b.c"}} }, "headers[0].name: bCC cannot be set"},
		{"Content-Type", func(m *message.Template) { m.Headers = []message.Header{{Name: "Content-Type", Value: "a"}} }, "belongs to the structure"},
		{"DKIM-Signature", func(m *message.Template) { m.Headers = []message.Header{{Name: "DKIM-Signature", Value: "a"}} }, "signing keys"},
		{"second header bad", func(m *message.Template) {
			m.Headers = []message.Header{{Name: "X-A", Value: "a"}, {Name: "Received", Value: "x"}}
		}, "headers[1].name"},
		{"URI over a line", func(m *message.Template) {
			m.Headers = []message.Header{{Name: "List-Unsubscribe", Value: "<https://" + strings.Repeat("a", 1000) + ">"}}
		}, "headers[0].value: a part"},
		{"CRLF in from name", func(m *message.Template) { m.From.Name = "a\r\nTo: b" }, "from.name: control"},
		{"from breaks out", func(m *message.Template) { m.From.Email = "a@b.c>\r\nX: y" }, "from.email: not an address"},
		{"from with brackets", func(m *message.Template) { m.From.Email = "a@b.c, d@e.f" }, "from.email: not an address"},
		{"bad UTF-8", func(m *message.Template) { m.Text = "\xff" }, "text: not valid UTF-8"},
		{"NUL", func(m *message.Template) { m.HTML = "\x00" }, "html: NUL"},
		{"nothing to say", func(m *message.Template) { m.Text = "" }, "text: a message needs"},
		{"unknown missing mode", func(m *message.Template) { m.Missing = "ignore" }, "missing: want"},
		{"inline without html", func(m *message.Template) {
			m.Inline = []message.Attachment{{Name: "a", ContentID: "x"}}
		}, "inline: inline images need html"},
		{"content id breaks out", func(m *message.Template) {
			m.HTML, m.Inline = "x", []message.Attachment{{ContentID: "x>\r\nX-Y: z"}}
		}, "inline[0].content_id"},
		{"file name breaks out", func(m *message.Template) {
			m.Attachments = []message.Attachment{{Name: "a\r\nX: y"}}
		}, "attachments[0].name: control"},
		{"media type breaks out", func(m *message.Template) {
			m.Attachments = []message.Attachment{{Name: "a", ContentType: "text/plain\r\nX: y"}}
		}, "attachments[0].content_type: not a media type"},
		{"multipart attachment", func(m *message.Template) {
			m.Attachments = []message.Attachment{{Name: "a", ContentType: "multipart/mixed; boundary=x"}}
		}, "attachments[0].content_type: multipart"},
		{"unclosed block", func(m *message.Template) { m.HTML = "a\n b {{#if x}}" }, "html: line 2, column 4: {{#if}} is never closed"},
		{"partial", func(m *message.Template) { m.Text = "{{> /etc/passwd}}" }, "text: line 1, column 1: partials"},
		{"helper", func(m *message.Template) { m.Text = "{{lookup a b}}" }, "no such helper: \"lookup\""},
	} {
		_, err := compose.Compile(letter(c.change))
		var es compose.Errors
		if !errors.As(err, &es) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestMissingVariables(t *testing.T) {
	for _, c := range []struct{ mode, vars, want string }{
		{"", `{}`, "error: text: {{ given }}: the recipient has no such variable"},
		{"error", `{"given":["a"]}`, "error: text: {{ given }}: the variable is a list"},
		{"error", `{"given":null}`, "Dear !"},
		{"error", `{"given":""}`, "Dear !"},
		{"empty", `{}`, "Dear !"},
		{"keep", `{}`, "Dear {{ given }}!"},
		{"keep", `{"given":"Eve & Co"}`, "Dear Eve & Co!"},
	} {
		tpl := letter(func(m *message.Template) {
			m.Subject, m.Text, m.Missing = "x", "Dear {{ given }}!{{#if nothing}}{{nothing}}{{/if}}", c.mode
		})
		compiled, err := compose.Compile(tpl)
		if err != nil {
			t.Fatal(err)
		}
		r := &message.Recipient{Address: "a@b.c", Vars: []byte(c.vars)}
		b, err := compiled.Render(nil, r, msgID)
		got := string(b[bytes.Index(b, []byte("\r\n\r\n"))+4:])
		if err != nil {
			got = "error: " + err.Error()
		}
		if strings.TrimSuffix(got, "\r\n") != c.want {
			t.Errorf("%s %s: %q, want %q", c.mode, c.vars, got, c.want)
		}
		if (compiled.Check(r) != nil) != (err != nil) {
			t.Errorf("%s %s: Check and Render disagree", c.mode, c.vars)
		}
	}
}

func TestCheckRefusesRecipients(t *testing.T) {
	c, err := compose.Compile(letter(func(m *message.Template) {
		m.Subject = "s"
		m.Text = "{{#each a}}{{#each @root.a}}{{#each @root.a}}{{this}}{{/each}}{{/each}}{{/each}}"
	}))
	if err != nil {
		t.Fatal(err)
	}
	big := []byte(`{"a":[` + strings.Repeat(`"0123456789012345678901234567890123456789",`, 999) + `1]}`)
	for _, r := range []struct {
		r    message.Recipient
		want string
	}{
		{message.Recipient{Address: "a@b.c>\r\n"}, "email: not an address"},
		{message.Recipient{Address: `"x> NOTIFY"y@b.c`}, "email: not an address"},
		{message.Recipient{Address: "a@b.c", Name: "x\r\nBcc: y"}, "name: control"},
		{message.Recipient{Address: "a@b.c", Vars: []byte(`[1]`)}, "vars: variables: want a JSON object"},
		{message.Recipient{Address: "a@b.c", Vars: []byte(`{"a":01}`)}, "vars: variables: not valid JSON"},
		{message.Recipient{Address: "a@b.c", Vars: []byte("{\"a\":\"\xff\"}")}, "vars: variables: not valid UTF-8"},
		{message.Recipient{Address: "a@b.c", Vars: []byte(`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`)}, "vars: variables: nested"},
		{message.Recipient{Address: "a@b.c", Vars: big}, "text: the "},
	} {
		err := c.Check(&r.r)
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%.60q: error %v, want %q", r.r.Vars, err, r.want)
		}
		if _, err := c.Render(nil, &r.r, msgID); err == nil {
			t.Errorf("%.60q: rendered", r.r.Vars)
		}
	}
}

func TestGoldenMessages(t *testing.T) {
	for name, c := range map[string]struct {
		tpl *message.Template
		r   message.Recipient
	}{
		"text": {letter(nil), message.Recipient{Address: "taro@example.com", Name: "山田 太郎", Vars: []byte(`{"order":12345678901234567890}`)}},
		"alternative": {letter(func(m *message.Template) {
			m.Subject, m.HTML = "発送のお知らせ {{order}}", "<p>{{name}} &amp; {{order}}</p>\n"
			m.Headers = []message.Header{{Name: "List-Unsubscribe", Value: "<https://u.example.jp/{{id}}>, <mailto:u@example.jp?subject={{email}}>"}, {Name: "List-Unsubscribe-Post", Value: "List-Unsubscribe=One-Click"}, {Name: "X-Job", Value: "{{job}}"}}
			m.Job = "november"
		}), message.Recipient{Address: "taro@example.com", Name: "T & T", Vars: []byte(`{"order":"<1>"}`)}},
		"smtputf8": {letter(func(m *message.Template) { m.Subject = "hi" }), message.Recipient{Address: "山田@日本.example", Name: "山田"}},
		"mixed": {letter(func(m *message.Template) {
			m.Subject, m.HTML = "hi", "<img src=cid:i>"
			m.Inline = []message.Attachment{{Name: "i.png", ContentID: "i", Content: []byte("png")}}
			m.Attachments = []message.Attachment{{Name: "請求書.pdf", Content: bytes.Repeat([]byte("pdf"), 30)}}
		}), message.Recipient{Address: "taro@example.com", Name: "Taro"}},
	} {
		got := render(t, c.tpl, &c.r)
		file := filepath.Join("testdata", name+".eml")
		if os.Getenv("REWRITE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNeedsUTF8(t *testing.T) {
	for address, want := range map[string]bool{"a@b.c": false, "a@日本.jp": false, "山@b.c": true} {
		if got := compose.NeedsUTF8(letter(nil), &message.Recipient{Address: address}); got != want {
			t.Errorf("%s: %v", address, got)
		}
		if got := compose.NeedsUTF8(letter(func(m *message.Template) { m.From.Email = address }), nil); got != want {
			t.Errorf("from %s: %v", address, got)
		}
	}
}

var small = letter(func(m *message.Template) {
	m.Text = "{{name}} 様\n\nご注文 {{order}} の商品 {{item}} を {{date}} に発送しました。合計 {{total}} 円\n"
	m.HTML = "<p>{{name}} 様</p><p>ご注文 {{order}} の商品 {{item}} を {{date}} に発送しました。合計 {{total}} 円</p>\n"
})
var smallTo = message.Recipient{Address: "taro@example.com", Name: "山田 太郎", Vars: []byte(`{"order":"A-1","item":"急須 & 湯呑","date":"11月22日","total":4800}`)}

func BenchmarkRenderSmall(b *testing.B) {
	c, err := compose.Compile(small)
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = c.Render(dst[:0], &smallTo, msgID); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkCheckSmall(b *testing.B) {
	c, err := compose.Compile(small)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err = c.Check(&smallTo); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileSmall(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compose.Compile(small); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRenderAllocations(t *testing.T) {
	c, err := compose.Compile(small)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 8<<10)
	if n := testing.AllocsPerRun(200, func() {
		if dst, err = c.Render(dst[:0], &smallTo, msgID); err != nil {
			t.Fatal(err)
		}
	}); n > 4 && !raceEnabled { // the detector makes sync.Pool drop things at random
		t.Errorf("%.0f allocations a message, want at most 4", n)
	}
}

// missingPeer skips, or fails where peers are required (make test).
func missingPeer(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}
