package compose_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hikyaku/node/compose"
	"hikyaku/spool/message"
)

// encodingOf is the rule of the package's doc, byte by byte.
func encodingOf(s string) string {
	special, plain := 0, true
	for _, line := range strings.Split(s, "\r\n") {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "From ") {
			special++
			plain = false
		}
		if len(line) > 998 {
			plain = false
		}
		for i := range len(line) {
			switch c := line[i]; {
			case c == '=':
				special++
				plain = plain && !strings.HasPrefix(line[i:], "=_")
			case c >= 0x80 || c == 0x7f || c < 0x20 && c != '\t':
				special++
				plain = false
			}
		}
	}
	qp := len(s) + 2*special
	qp += qp / 73 * 3
	b64 := (len(s) + 2) / 3 * 4
	b64 += b64 / 76 * 2
	switch {
	case plain:
		return "7bit"
	case qp <= b64:
		return "quoted-printable"
	}
	return "base64"
}

// TestEncodingIsChosenByTheRule compares the choice, which looks at eight bytes
// at a time, with one that looks at each.
func TestEncodingIsChosenByTheRule(t *testing.T) {
	bits := []string{"\r\n", "=", "_", "=_", ".", "From ", "F", "\t", "\x7f", "\x01", "\x1f", " ", "!", "~", "é", "日本語", "plain words ", strings.Repeat("x", 300)}
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 20_000 {
		var b strings.Builder
		b.WriteString("a")
		usual := rng.IntN(4) // most texts are mostly plain
		for range rng.IntN(30) {
			if rng.IntN(4) < usual {
				b.WriteString(strings.Repeat("y", rng.IntN(20)))
			} else {
				b.WriteString(bits[rng.IntN(len(bits))])
			}
		}
		text, want := b.String(), encodingOf(b.String())
		c, err := compose.Compile(letter(func(m *message.Template) { m.Static, m.Subject, m.Text = true, "x", text }))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.Render(nil, &message.Recipient{Address: "a@b.c"}, msgID)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), "Content-Transfer-Encoding: "+want+"\r\n") {
			t.Fatalf("%q: want %s in\n%s", text, want, raw)
		}
		seen[want]++
	}
	if len(seen) != 3 {
		t.Errorf("not every encoding was met: %v", seen)
	}
}

// newsletter is 4 KiB of text and HTML with a few variables: what most bulk mail is.
func newsletter(line string) *message.Template {
	return letter(func(m *message.Template) {
		m.Text = "Dear {{first}},\nyour number is {{num}}.\n" + strings.Repeat(line+"\n", 1000/len(line))
		m.HTML = "<p>Dear {{first}}, your number is <b>{{num}}</b>, see <a href=\"https://example.com/{{path}}\">here</a></p>\n" + strings.Repeat("<p>"+line+"</p>\n", 3000/len(line))
		m.Subject = "Hello {{first}}"
	})
}

func BenchmarkRenderNewsletter(b *testing.B) {
	to := message.Recipient{Address: "r12345@d5.test", Vars: []byte(`{"first":"Taro","num":12345,"path":"offer/2p3q"}`)}
	for _, text := range []struct{ name, line string }{
		{"7bit", "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod"},
		{"quoted-printable", "Lörem ipsum dolor sit ämet, consectetur adipiscing elit, sed do eiusmöd"},
		{"base64", "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"},
	} {
		b.Run(text.name, func(b *testing.B) {
			c, err := compose.Compile(newsletter(text.line))
			if err != nil {
				b.Fatal(err)
			}
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = c.Render(dst[:0], &to, msgID); err != nil {
					b.Fatal(err)
				}
			}
			if want := fmt.Sprintf("Transfer-Encoding: %s\r\n", text.name); !strings.Contains(string(dst), want) {
				b.Fatalf("not %s", want)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}
