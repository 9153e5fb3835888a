package mix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prepared(tb testing.TB, m *Mix) *Mix {
	tb.Helper()
	if err := m.Prepare(); err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestEveryRecipientBelongsToOneMessage(t *testing.T) {
	for name, m := range map[string]*Mix{
		"one each":     {Recipients: 1000},
		"seven each":   {Recipients: 1000, PerMessage: 7},
		"distribution": {Recipients: 100_000, Spread: []Count{{1, 90}, {10, 9}, {500, 1}}, Seed: 7},
		"not one":      {Recipients: 3, PerMessage: 10},
	} {
		t.Run(name, func(t *testing.T) {
			prepared(t, m)
			next := 0
			for i := range m.Messages() {
				msg := m.Message(i)
				if msg.First != next || msg.Count < 1 {
					t.Fatalf("message %d has recipients %d and %d more, want them from %d on", i, msg.First, msg.Count-1, next)
				}
				for n := msg.First; n < msg.First+msg.Count; n++ {
					if m.MessageOf(n) != i {
						t.Fatalf("recipient %d: message %d, want %d", n, m.MessageOf(n), i)
					}
				}
				next += msg.Count
			}
			if next != m.Recipients {
				t.Errorf("%d recipients in messages, want %d", next, m.Recipients)
			}
		})
	}
}

// share counts how often something holds of n draws.
func share(n int, holds func(i int) bool) float64 {
	c := 0
	for i := range n {
		if holds(i) {
			c++
		}
	}
	return float64(c) / float64(n)
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.01 {
		t.Errorf("%s: %.3f, want %.3f", what, got, want)
	}
}

func TestWeightsAreMet(t *testing.T) {
	const n = 100_000
	m := prepared(t, &Mix{Seed: 3, Recipients: n, Sizes: []Share{{4096, 7, Plain}, {8192, 2, Multipart}, {100_000, 1, Plain}},
		Tenants: []Tenant{{Name: "a", Weight: 3}, {Name: "b", Weight: 1, Sender: "b@b.test"}}, Streams: []Stream{{"bulk", 9}, {"transactional", 1}}})
	near(t, "4 KiB", share(n, func(i int) bool { return m.Message(i).Size == 4096 }), 0.7)
	near(t, "100 KB", share(n, func(i int) bool { return m.Message(i).Size == 100_000 }), 0.1)
	near(t, "tenant a", share(n, func(i int) bool { return m.Message(i).Tenant.Name == "a" }), 0.75)
	near(t, "sender of b", share(n, func(i int) bool { return m.Message(i).Sender == "b@b.test" }), 0.25)
	near(t, "bulk", share(n, func(i int) bool { return m.Message(i).Stream == "bulk" }), 0.9)
	near(t, "bulk within tenant b", share(n, func(i int) bool { return m.Message(i).Tenant.Name == "b" && m.Message(i).Stream == "bulk" }), 0.225)

	spread := prepared(t, &Mix{Recipients: 10_000_000, Spread: []Count{{1, 3}, {5, 1}}})
	near(t, "five recipients", share(n, func(i int) bool { return spread.Message(i).Count == 5 }), 0.25)
}

func TestDestinations(t *testing.T) {
	const n = 100_000
	domains := func(d Destinations) map[string]float64 {
		m := prepared(t, &Mix{Seed: 5, Recipients: n, Destinations: d})
		out := map[string]float64{}
		for i := range n {
			out[m.Domain(i)] += 1.0 / n
		}
		return out
	}
	few := domains(Destinations{N: 10})
	if len(few) != 10 {
		t.Errorf("%d domains, want 10", len(few))
	}
	near(t, "one of ten", few["d3.test"], 0.1)
	giant := domains(Destinations{Spreading: Giant, N: 100, Share: 0.8, Suffix: "example"})
	near(t, "giant", giant["giant.example"], 0.8)
	near(t, "beside it", giant["d7.example"], 0.002)
	each := domains(Destinations{Spreading: Each})
	if len(each) != n {
		t.Errorf("%d domains of %d recipients", len(each), n)
	}
	if turns := domains(Destinations{Spreading: Each, N: 1000}); len(turns) != 1000 || math.Abs(turns["d999.test"]-0.001) > 1e-9 {
		t.Errorf("%d domains, the last has %v", len(turns), turns["d999.test"])
	}
	named := domains(Destinations{Names: []Domain{{"gmail.test", 6}, {"docomo.test", 3}, {"au.test", 1}}})
	near(t, "gmail", named["gmail.test"], 0.6)
	near(t, "au", named["au.test"], 0.1)

	// Zipf: the share of rank k is k^-s over the sum of all.
	zipf := domains(Destinations{Spreading: Zipf, N: 1000, S: 1.2})
	sum := 0.0
	for k := 1; k <= 1000; k++ {
		sum += math.Pow(float64(k), -1.2)
	}
	for _, k := range []int{1, 2, 10} {
		near(t, "rank", zipf["d"+string(appendInt(nil, k-1))+".test"], math.Pow(float64(k), -1.2)/sum)
	}
}

// TestMixIsTheSameEveryTime pins the bytes: a receiver on another machine, of
// the same version, must compute what was sent.
func TestMixIsTheSameEveryTime(t *testing.T) {
	make := func(seed uint64) *Mix {
		return prepared(t, &Mix{Seed: seed, Recipients: 2000, Spread: []Count{{1, 3}, {4, 1}}, Sizes: []Share{{4096, 1, Plain}, {9000, 1, Multipart}},
			Destinations: Destinations{Spreading: Zipf, N: 50}, Tenants: []Tenant{{Weight: 1}, {Weight: 1, Sender: "x@y.test"}}})
	}
	all := func(m *Mix) string {
		h := sha256.New()
		var b []byte
		for i := range m.Messages() {
			b = m.AppendContent(b[:0], i)
			h.Write(b)
		}
		for n := range m.Recipients {
			h.Write(m.AppendRecipient(b[:0], n))
		}
		return hex.EncodeToString(h.Sum(nil)[:8])
	}
	a, again, other := all(make(1)), all(make(1)), all(make(2))
	if a != again || a == other {
		t.Errorf("seed 1: %s, again: %s; seed 2: %s", a, again, other)
	}
	if want := "1d0308822d59f5b0"; a != want {
		t.Errorf("the mix has changed: %s, was %s; older reports cannot be repeated", a, want)
	}
}

// wellFormed checks content by the rules of RFC 5322.
func wellFormed(t *testing.T, content []byte) *mail.Message {
	t.Helper()
	if !bytes.HasSuffix(content, []byte("\r\n")) {
		t.Fatal("the last line has no end")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(content), "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("a line of %d columns, or with bare CR, LF or NUL: %.40q", len(line), line)
		}
	}
	for _, b := range content {
		if b >= 0x80 {
			t.Fatal("not ASCII")
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Content-Type"} {
		if len(msg.Header[h]) != 1 {
			t.Errorf("%d %s fields", len(msg.Header[h]), h)
		}
	}
	if _, err := msg.Header.Date(); err != nil {
		t.Error(err)
	}
	if _, err := msg.Header.AddressList("From"); err != nil {
		t.Error(err)
	}
	return msg
}

func TestPlainContent(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 5000, Sizes: []Share{{512, 1, ""}, {513, 1, ""}, {4096, 1, ""}, {100_000, 1, ""}}, PerMessage: 2})
	dots := 0
	for i := range m.Messages() {
		content := m.AppendContent(nil, i)
		if len(content) != m.Message(i).Size {
			t.Fatalf("%d bytes, want %d", len(content), m.Message(i).Size)
		}
		wellFormed(t, content)
		dots += bytes.Count(content, []byte("\r\n."))
		if err := CheckDigest(content); err != nil {
			t.Fatal(err)
		}
	}
	if dots < m.Messages() {
		t.Errorf("%d lines begin with a dot in %d messages", dots, m.Messages())
	}
}

func TestMultipartContent(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 300, Sizes: []Share{{2048, 1, Multipart}, {8192, 1, Multipart}, {60_000, 1, Multipart}}})
	for i := range m.Messages() {
		content := m.AppendContent(nil, i)
		if want := m.Message(i).Size; len(content) > want+100 || len(content) < want-100 {
			t.Fatalf("%d bytes, want %d", len(content), want)
		}
		msg := wellFormed(t, content)
		if err := CheckDigest(content); err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		r := multipart.NewReader(msg.Body, params["boundary"])
		if _, err := r.NextRawPart(); err != nil {
			t.Fatal(err)
		}
		attachment, err := r.NextRawPart()
		if err != nil || attachment.FileName() != "timetable.pdf" {
			t.Fatalf("attachment %v: %v", attachment, err)
		}
		if b, err := io.ReadAll(attachment); err != nil || len(b) < 76 {
			t.Fatalf("%d bytes attached: %v", len(b), err)
		}
		if _, err := r.NextRawPart(); err != io.EOF {
			t.Fatalf("a third part: %v", err)
		}
		var p parts
		msg = wellFormed(t, content)
		if err := p.read(msg.Header.Get("Content-Type"), "", msg.Body, 0); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.html, "<html><body>\r\n<p style=\"margin") || !strings.HasSuffix(p.html, "</p>\r\n</body></html>") || p.text == "" {
			t.Errorf("text %q\nhtml %q", p.text, p.html)
		}
	}
}

func TestCheckFindsWhatChanged(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 100, PerMessage: 2, Sizes: []Share{{3000, 1, Plain}, {5000, 1, Multipart}}})
	const n = 42
	sent := string(m.AppendContent(nil, m.MessageOf(n)))
	trace := "Received: from x\r\n\tby y; z\r\nDKIM-Signature: v=1;\r\n b=abc\r\n"
	for name, c := range map[string]struct{ got, want string }{
		"as sent":            {sent, ""},
		"trace, signature":   {"Return-Path: <a@b>\r\n" + trace + sent, ""},
		"one byte":           {trace + strings.Replace(sent, "X-Load-Message: 21", "X-Load-Message: 22", 1), "got \"ssage: 22"},
		"cut":                {sent[:len(sent)-1], "4992 bytes, 4993 were sent"},
		"a line more":        {sent + "footer\r\n", "byte 0 of 4993"},
		"another's":          {string(m.AppendContent(nil, m.MessageOf(n)+6)), "were sent"},
		"a field in front":   {"X-Spam: yes\r\n" + sent, "which no relay adds"},
		"no field in front":  {"hello\r\n" + sent, "no header field"},
		"a body in front":    {trace + "\r\n" + sent, "no header field"},
		"an unfinished line": {"Received: x" + sent, "no header field"},
	} {
		err := m.Check(n, []byte(c.got))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := m.Check(100, []byte(sent)); err == nil {
		t.Error("a number out of range passes")
	}
	for at := 0; at < len(sent); at += 3 { // each byte counts; a third of them is enough to see it
		altered := []byte(sent)
		altered[at] ^= 1
		if m.Check(n, altered) == nil {
			t.Fatalf("byte %d altered, and not found", at)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	for want, m := range map[string]*Mix{
		"recipients 0":            {},
		"size 10":                 {Recipients: 1, Sizes: []Share{{10, 1, Plain}}},
		"kind \"odd\"":            {Recipients: 1, Sizes: []Share{{4096, 1, "odd"}}},
		"weight 0 of size":        {Recipients: 1, Sizes: []Share{{4096, 0, Plain}}},
		"sender \"nobody\"":       {Recipients: 1, Sender: "nobody"},
		"sender \"a@b>\\r\\nX\"":  {Recipients: 1, Sender: "a@b>\r\nX"},
		"recipients per message":  {Recipients: 1, Spread: []Count{{-1, 1}}},
		"want few, zipf, giant":   {Recipients: 1, Destinations: Destinations{Spreading: "many"}},
		"suffix \"a b\"":          {Recipients: 1, Destinations: Destinations{Suffix: "a b"}},
		"no names":                {Recipients: 1, Destinations: Destinations{Spreading: Named}},
		"stream \"a b\"":          {Recipients: 1, Streams: []Stream{{"a b", 1}}},
		"template: text: \"{{x}}": {Recipients: 1, Template: &Template{Text: "{{x}}"}},
	} {
		if err := m.Prepare(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestRender(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 100, Template: &Template{Subject: "{{number}} of {{number}}", Text: "a{{number}}", HTML: "{{name}}!"}})
	if got := m.render(m.Template.subject, 7, false); got != "7 of 7" {
		t.Error(got)
	}
	n := 0 // somebody whose name HTML has to quote
	for ; !strings.HasPrefix(string(m.appendVariable(nil, varName, n, false)), "O'Brien"); n++ {
	}
	if d := cmp.Diff("O&#x27;Brien &amp; Sons "+string(appendInt(nil, n))+"!", m.render(m.Template.html, n, true)); d != "" {
		t.Error(d)
	}
}

func TestContentDoesNotAllocate(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 1000, Sizes: []Share{{4096, 1, Plain}, {8192, 1, Multipart}}})
	buf, i := make([]byte, 0, 16<<10), 0
	if a := testing.AllocsPerRun(500, func() { buf = m.AppendContent(buf[:0], i); i++ }); a != 0 {
		t.Errorf("%v allocations a message", a)
	}
}

// FuzzCheckTemplate gives the receiver's MIME reading foreign bytes.
func FuzzCheckTemplate(f *testing.F) {
	m := &Mix{Recipients: 10, Template: &Template{Subject: "s", Text: "t {{number}}"}}
	if err := m.Prepare(); err != nil {
		f.Fatal(err)
	}
	to := string(m.AppendRecipient(nil, 3))
	f.Add([]byte("X-Load-Number: 3\r\nSubject: s\r\nTo: <" + to + ">\r\nContent-Type: text/plain\r\n\r\nt 3\r\n"))
	f.Add([]byte("X-Load-Number: 3\r\nSubject: s\r\nTo: <" + to + ">\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\ndCAz\r\n--x--\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := range 10 {
			if n != 3 && m.Check(3, b) == nil && m.Check(n, b) == nil {
				t.Errorf("passes for two numbers: %q", b)
			}
		}
	})
}

func BenchmarkContent(b *testing.B) {
	for name, s := range map[string]Share{"4KiB": {4096, 1, Plain}, "100KB": {100_000, 1, Plain}, "multipart8KiB": {8192, 1, Multipart}} {
		b.Run(name, func(b *testing.B) {
			m := prepared(b, &Mix{Recipients: 1_000_000, Sizes: []Share{s}})
			var buf []byte
			i := 0
			b.SetBytes(int64(s.Bytes))
			for b.Loop() {
				buf = m.AppendContent(buf[:0], i%1_000_000)
				i++
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	m := prepared(b, &Mix{Recipients: 1000})
	content := m.AppendContent(nil, 77)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Check(77, content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTemplateBody is the cost of a recipient in a template job's request.
func BenchmarkTemplateBody(b *testing.B) {
	m := prepared(b, &Mix{Recipients: 1_000_000, PerMessage: 5000, Template: &Template{}})
	msg := m.Message(7)
	var body, content []byte
	for b.Loop() {
		body, content = m.AppendRequest(body[:0], content, &msg, nil)
	}
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "recipients/s")
	b.ReportMetric(float64(len(body))/5000, "B/recipient")
}
