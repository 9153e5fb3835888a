package smtp

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// scanAll feeds src cut after each of the given lengths in turn.
func scanAll(c *Content, src []byte, cuts ...int) (out []byte, n int, v Verdict) {
	for k := 0; n < len(src); k++ {
		step := len(src) - n
		if len(cuts) > 0 {
			step = min(step, max(1, cuts[k%len(cuts)]))
		}
		var m int
		out, m, v = c.Scan(out, src[n:n+step])
		n += m
		if v != More {
			return out, n, v
		}
	}
	return out, n, More
}

func dataRules(repair bool) ContentRules {
	return ContentRules{Dots: true, Repair: repair, MaxLine: 998, MaxSize: 1 << 20}
}

func TestContentEndsOnlyAtCRLFDotCRLF(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		rest    string
	}{
		{".\r\n", "", ""},
		{"a\r\n.\r\n", "a\r\n", ""},
		{"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
		{"a\r\n..\r\n.\r\n", "a\r\n.\r\n", ""},
		{"a\r\n.b\r\n.\r\n", "a\r\nb\r\n", ""},
		{"a\r\n...b\r\n.\r\n", "a\r\n..b\r\n", ""},
		{"a.\r\n.\r\n", "a.\r\n", ""},
		{"a\r\n\r\n\r\n.\r\n", "a\r\n\r\n\r\n", ""},
	} {
		for _, cuts := range [][]int{nil, {1}, {2}, {3, 1}} {
			var c Content
			c.Reset(dataRules(false))
			out, n, v := scanAll(&c, []byte(tt.in), cuts...)
			if string(out) != tt.out || v != End || tt.in[n:] != tt.rest || c.Defect != NoDefect {
				t.Errorf("%q in pieces of %v: got %q, verdict %d, rest %q, %v", tt.in, cuts, out, v, tt.in[n:], c.Defect)
			}
		}
	}
}

// lookAlikes are ends of data to one parser or another (safety.md 0.1 and
// CVE-2023-51764, -51765, -51766).
var lookAlikes = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r.\r", "\r.\n", "\n.\r",
	"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\n\x00.\n", "\r\r.\r\n", "\n\n.\r\n",
	"\r\n.\r\r\n", "\r\n.\n\r\n",
}

func TestContentStopsAtLookAlikes(t *testing.T) {
	for _, seq := range lookAlikes {
		in := "Subject: x\r\n\r\nbody" + seq + "MAIL FROM:<evil@example.com>\r\n.\r\n"
		for _, cuts := range [][]int{nil, {1}, {7, 2}} {
			var c Content
			c.Reset(dataRules(false))
			if _, n, v := scanAll(&c, []byte(in), cuts...); v != LookAlike || n > strings.Index(in, "AIL FROM") {
				t.Errorf("%q in pieces of %v: verdict %d after %q", seq, cuts, v, in[:n])
			}
			c.Reset(dataRules(true))
			out, n, v := scanAll(&c, []byte(in), cuts...)
			if v != End || n != len(in) || c.Defect != NoDefect || c.Repairs == 0 {
				t.Errorf("%q repaired in pieces of %v: verdict %d, %v, rest %q", seq, cuts, v, c.Defect, in[n:])
			}
			if !bytes.Contains(out, []byte("\r\n.\r\n")) || !bytes.Contains(out, []byte("MAIL FROM")) {
				t.Errorf("%q repaired: the dot line or the text behind it is gone: %q", seq, out)
			}
			checkClean(t, out, 998)
		}
	}
}

func TestContentDefects(t *testing.T) {
	long := strings.Repeat("x", 999)
	for _, tt := range []struct {
		in     string
		defect Defect
		line   int
		fixed  string
	}{
		{"a\r\nb\rc\r\n.\r\n", BareCR, 2, "a\r\nb\r\nc\r\n"},
		{"a\nb\r\n.\r\n", BareLF, 1, "a\r\nb\r\n"},
		{"a\x00b\r\n.\r\n", NUL, 1, "ab\r\n"},
		{"a\r\r\n.\r\n", BareCR, 1, "a\r\n\r\n"},
		{"a\r\n" + long + "\r\n.\r\n", LongLine, 2, "a\r\n" + long[:998] + "\r\n x\r\n"},
		{long[:998] + "\r\n.\r\n", NoDefect, 0, long[:998] + "\r\n"},
		{"." + long[:998] + "\r\n.\r\n", NoDefect, 0, long[:998] + "\r\n"}, // the stuffed dot does not count
	} {
		for _, cuts := range [][]int{nil, {1}, {5}} {
			var c Content
			c.Reset(dataRules(false))
			if _, n, v := scanAll(&c, []byte(tt.in), cuts...); v != End || n != len(tt.in) || c.Defect != tt.defect || c.DefectLine != tt.line {
				t.Errorf("%.40q: verdict %d, %v at line %d; want %v at line %d", tt.in, v, c.Defect, c.DefectLine, tt.defect, tt.line)
			}
			c.Reset(dataRules(true))
			out, _, v := scanAll(&c, []byte(tt.in), cuts...)
			if v != End || string(out) != tt.fixed || c.Defect != NoDefect {
				t.Errorf("%.40q repaired to %.60q, want %.60q", tt.in, out, tt.fixed)
			}
		}
	}
}

func TestContentTooLargeIsReadToItsEnd(t *testing.T) {
	var c Content
	c.Reset(ContentRules{Dots: true, MaxLine: 998, MaxSize: 10})
	in := []byte("12345678\r\n9\r\n.\r\nQUIT\r\n")
	out, n, v := scanAll(&c, in)
	if v != End || c.Defect != TooLarge || string(in[n:]) != "QUIT\r\n" || len(out) > 10 {
		t.Errorf("verdict %d, %v, rest %q, %d bytes kept", v, c.Defect, in[n:], len(out))
	}
}

func TestContentOfChunks(t *testing.T) {
	for _, tt := range []struct {
		in, fixed string
		defect    Defect
	}{
		{"a\r\nb\r\n", "a\r\nb\r\n", NoDefect},
		{"a\r\nb", "a\r\nb\r\n", NoDefect},
		{"", "", NoDefect},
		{"a\r\n.\r\n.b\r\n", "a\r\n.\r\n.b\r\n", NoDefect}, // no dot-stuffing in BDAT
		{"a\n.\nb", "a\r\n.\r\nb\r\n", BareLF},
		{"a\r", "a\r\n", BareCR},
		{"a\x00", "a\r\n", NUL},
	} {
		for _, cuts := range [][]int{nil, {1}, {2}} {
			for _, repair := range []bool{false, true} {
				var c Content
				c.Reset(ContentRules{Repair: repair, MaxLine: 998, MaxSize: 1 << 20})
				out, _, v := scanAll(&c, []byte(tt.in), cuts...)
				out = c.Finish(out)
				switch {
				case v != More:
					t.Errorf("%q: verdict %d", tt.in, v)
				case !repair && c.Defect != tt.defect:
					t.Errorf("%q: %v, want %v", tt.in, c.Defect, tt.defect)
				case (repair || tt.defect == NoDefect) && string(out) != tt.fixed:
					t.Errorf("%q became %q, want %q", tt.in, out, tt.fixed)
				}
			}
		}
	}
}

func checkClean(t *testing.T, out []byte, maxLine int) {
	t.Helper()
	rest := bytes.ReplaceAll(out, []byte("\r\n"), nil)
	if bytes.ContainsAny(rest, "\r\n\x00") {
		t.Fatalf("accepted content has a bare CR, bare LF or NUL: %q", out)
	}
	for line := range bytes.SplitSeq(out, []byte("\r\n")) {
		if len(line) > maxLine {
			t.Fatalf("accepted content has a line of %d bytes", len(line))
		}
	}
}

// reference says what the content of data is by looking at all of it at once:
// slow, and plain to see.
type reference struct {
	verdict  Verdict
	consumed int
	defect   bool
	content  []byte
}

var lenientEnd = regexp.MustCompile(`(?:\r\n|\r|\n)\.(?:\r|\n)`)

func refer(in []byte, repair bool, maxLine int) reference {
	virtual := append([]byte("\r\n"), in...) // the CRLF of the DATA command
	end := bytes.Index(virtual, []byte("\r\n.\r\n"))
	r := reference{verdict: More, consumed: len(in)}
	if end >= 0 {
		r.verdict, r.consumed = End, end+5-2
	}
	if !repair {
		// The first dot that is alone between line ends to a parser which
		// takes CR, LF and CRLF for line ends and does not see NUL.
		var kept []int // offsets in virtual of the bytes that are not NUL
		var stripped []byte
		for i, b := range virtual {
			if b != 0 {
				kept, stripped = append(kept, i), append(stripped, b)
			}
		}
		if loc := lenientEnd.FindIndex(stripped); loc != nil {
			last := loc[1] - 1
			behindTheEnd := end >= 0 && kept[last-1] >= end+2
			nextByteDecides := stripped[last] == '\r' && last == len(stripped)-1
			if !behindTheEnd && !nextByteDecides {
				return reference{verdict: LookAlike}
			}
		}
	}
	body := in[:r.consumed]
	if r.verdict == End {
		body = in[:r.consumed-3]
	}
	var raw []byte // dot-stuffing undone
	lines := bytes.SplitAfter(body, []byte("\r\n"))
	for _, line := range lines {
		if len(line) > 1 && line[0] == '.' && !bytes.ContainsRune([]byte("\x00\r\n"), rune(line[1])) {
			line = line[1:]
		}
		raw = append(raw, line...)
	}
	fixed := bytes.ReplaceAll(raw, []byte{0}, nil)
	fixed = bytes.ReplaceAll(fixed, []byte("\r\n"), []byte("\n"))
	fixed = bytes.ReplaceAll(fixed, []byte("\r"), []byte("\n"))
	var folded []string
	for _, line := range strings.Split(string(fixed), "\n") {
		room := maxLine
		for len(line) > room {
			cut := room
			for cut > room-3 && cut > 1 && line[cut]&0xc0 == 0x80 {
				cut--
			}
			folded = append(folded, line[:cut])
			line, room = " "+line[cut:], maxLine
		}
		folded = append(folded, line)
	}
	r.content = []byte(strings.Join(folded, "\r\n"))
	r.defect = !bytes.Equal(r.content, raw)
	return r
}

func FuzzEndOfData(f *testing.F) {
	for _, seq := range lookAlikes {
		f.Add([]byte("a"+seq+"b\r\n.\r\nQUIT\r\n"), uint16(0), false)
		f.Add([]byte("a"+seq+"b\r\n.\r\nQUIT\r\n"), uint16(0x0102), true)
	}
	f.Add([]byte("a\r\n..b\r\n.\r\n"), uint16(3), false)
	f.Add([]byte("日本語日本語日本語日本語日本語\r\n.\r\n"), uint16(3), true)
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, repair bool) {
		const maxLine = 20
		var c Content
		c.Reset(ContentRules{Dots: true, Repair: repair, MaxLine: maxLine, MaxSize: 1 << 30})
		out, n, v := scanAll(&c, in, int(cut&0xff), int(cut>>8))
		want := refer(in, repair, maxLine)
		if v != want.verdict {
			t.Fatalf("verdict %d, reference %d", v, want.verdict)
		}
		switch v {
		case LookAlike:
			return
		case End:
			if n != want.consumed {
				t.Fatalf("read %d bytes, reference %d", n, want.consumed)
			}
			if (c.Defect != NoDefect || c.Repairs > 0) != want.defect {
				t.Fatalf("%v, %d repairs; reference says defect=%v", c.Defect, c.Repairs, want.defect)
			}
			if c.Defect == NoDefect && !bytes.Equal(out, want.content) {
				t.Fatalf("content %q, reference %q", out, want.content)
			}
		}
		if c.Defect == NoDefect && v == End {
			checkClean(t, out, maxLine)
		}
	})
}

func TestContentScanDoesNotAllocate(t *testing.T) {
	msg := benchContent(4096)
	dst := make([]byte, 0, 8192)
	var c Content
	n := testing.AllocsPerRun(100, func() {
		c.Reset(dataRules(false))
		if _, _, v := c.Scan(dst, msg); v != End {
			t.Fatal("no end")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchContent(size int) []byte {
	var b []byte
	for i := 0; len(b) < size; i++ {
		b = fmt.Appendf(b, "line %06d of the usual length in mail, which is below seventy-six\r\n", i)
	}
	return append(b, ".\r\n"...)
}

func BenchmarkContentScan(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			msg := benchContent(size)
			dst := make([]byte, 0, len(msg))
			b.SetBytes(int64(len(msg)))
			var c Content
			for b.Loop() {
				c.Reset(ContentRules{Dots: true, MaxLine: 998, MaxSize: 1 << 30})
				c.Scan(dst, msg)
			}
		})
	}
}
