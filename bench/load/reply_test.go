package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// replies reads all replies from a text, whatever the sizes of the reads.
func replies(in io.Reader) (out []string, err error) {
	var r replyReader
	r.reset(in)
	for {
		got, err := r.read()
		if err != nil {
			return out, err
		}
		out = append(out, strconv.Itoa(got.code)+" "+string(got.text))
	}
}

func TestReplies(t *testing.T) {
	for in, want := range map[string][]string{
		"250 ok\r\n":              {"250 ok"},
		"250 ok\r\n354 go on\r\n": {"250 ok", "354 go on"},
		"250\r\n":                 {"250 "},
		"250-a\r\n250-SIZE 1000\r\n250 b\r\n221 bye\n": {"250 a\nSIZE 1000\nb", "221 bye"},
		"250-\r\n250\r\n": {"250 \n"},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(in), "by bytes": iotest.OneByteReader(strings.NewReader(in))} {
			got, err := replies(r)
			if d := cmp.Diff(want, got); d != "" || !errors.Is(err, io.EOF) {
				t.Errorf("%q %s: %v %s", in, name, err, d)
			}
		}
	}
	long := "250 " + strings.Repeat("x", replyBuffer) + "\r\n"
	for in, want := range map[string]string{
		"hello\r\n": "not an SMTP reply", "25\r\n": "not an SMTP reply", "250x\r\n": "not an SMTP reply", "950 ok\r\n": "not an SMTP reply",
		"250-a\r\n251 b\r\n": "changes its code", long: errReplyLine.Error(), strings.Repeat("250-a\r\n", 300): errReplyLines.Error(), "250-a\r\n": "EOF", "250": "EOF",
	} {
		if _, err := replies(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n421 bye\r\n"), 3)
	f.Add([]byte("220 x ESMTP\n250 \r\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, chunk int) {
		at, errAt := replies(bytes.NewReader(in))
		by, errBy := replies(&chunked{in, max(chunk, 1)})
		if d := cmp.Diff(at, by); d != "" || errAt.Error() != errBy.Error() {
			t.Errorf("depends on the reads: %v, %v, %s", errAt, errBy, d)
		}
		for _, r := range at {
			if len(r) < 4 || r[0] < '2' || r[0] > '5' {
				t.Errorf("reply %q", r)
			}
		}
	})
}

// chunked gives n bytes a read.
type chunked struct {
	b []byte
	n int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.n, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

func TestEnhancedStatus(t *testing.T) {
	for text, want := range map[string]string{"4.7.1 later": "4.7.1", "5.1.10 no": "5.1.10", "no": "", "": "", "7.1.1 x": "", "4.7": "", "4..7.1": "", "10.0.0.1 is blocked": ""} {
		if got := enhanced([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestTallyIsBounded: what a server can make us count has an end.
func TestTallyIsBounded(t *testing.T) {
	var l tally
	for i := range 10_000 {
		l.reply("rcpt", 400+i%100, strconv.AppendInt([]byte("5."), int64(i), 10))
		l.failure("connect", errors.New("odd"))
		l.reply("rcpt", 550, fmt.Appendf(nil, "5.%d.%d x", i%100, i/100))
	}
	sum := int64(0)
	list := l.list()
	for _, c := range list {
		sum += c.Count
		if len(c.First) > keptTexts {
			t.Errorf("%d texts", len(c.First))
		}
	}
	if sum != 30_000 || len(list) > maxClasses+3 {
		t.Errorf("%d classes, %d errors", len(list), sum)
	}
}

// unstuffed is the receiver's side of RFC 5321 4.5.2, written down again.
func unstuffed(b []byte) string {
	lines := strings.SplitAfter(string(b), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, ".")
	}
	return strings.Join(lines, "")
}

func FuzzStuffing(f *testing.F) {
	f.Add([]byte(".\r\n..\r\na.b\r\n.c\r\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		stuffed := appendStuffed(nil, content)
		if unstuffed(stuffed) != string(content) {
			t.Errorf("%q became %q", content, stuffed)
		}
		for l := range strings.SplitSeq(string(stuffed), "\n") {
			if strings.HasPrefix(l, ".") && !strings.HasPrefix(l, "..") {
				t.Errorf("a line with one dot in front: %q", stuffed)
			}
		}
	})
}
