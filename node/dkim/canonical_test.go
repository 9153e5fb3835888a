package dkim_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"hikyaku/node/dkim"
)

// plainCanonicalBody says RFC 6376 3.4.4 in the plainest way.
func plainCanonicalBody(body string) string {
	if body == "" {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(body, "\r\n"), "\r\n")
	for i, line := range lines {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		lead := ""
		if line != "" && isBlank(line[0]) && len(words) > 0 {
			lead = " "
		}
		lines[i] = lead + strings.Join(words, " ")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// cutAt cuts a body into three segments.
func cutAt(body []byte, one, two uint16) [][]byte {
	a, b := min(int(one), len(body)), min(int(two), len(body))
	a, b = min(a, b), max(a, b)
	return [][]byte{body[:a], body[a:b], body[b:]}
}

func checkCanonicalBody(t *testing.T, body []byte, one, two uint16) {
	t.Helper()
	want := plainCanonicalBody(string(body))
	if got := dkim.CanonicalBody(cutAt(body, one, two)...); string(got) != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Fatalf("cut at %d and %d: differs at byte %d of %d\ngot  %q\nwant %q\nof   %q", one, two, at, len(want),
			got[max(0, at-20):min(len(got), at+20)], want[max(0, at-20):min(len(want), at+20)], body[:min(len(body), 400)])
	}
}

// Bodies made of few kinds of byte have white space of every shape at every
// place of a word, of a stretch and of a segment.
func TestCanonicalBodyOfRandomText(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, alphabet := range []string{
		"a \t\n", "ab    \n", "  \t\t ", "abcdefgh ", "abcdefghijkl  \t\n", "\x08\x0a\x0b\x0c\x0e\x1f !\x89\xa0\xff ",
	} {
		for range 400 {
			n := rng.IntN(40)
			if rng.IntN(4) == 0 {
				n = rng.IntN(9000)
			}
			body := make([]byte, n)
			for i := range body {
				body[i] = alphabet[rng.IntN(len(alphabet))]
			}
			body = normalise(body)
			checkCanonicalBody(t, body, uint16(rng.IntN(len(body)+1)), uint16(rng.IntN(len(body)+1)))
		}
	}
}

// A run of white space at each distance from the ends of a stretch.
func TestCanonicalBodyAtTheEdgesOfStretches(t *testing.T) {
	for _, run := range []string{"  ", "\t", " \t ", strings.Repeat(" ", 17), " \r\n", "\t \r\n  "} {
		for _, at := range []int{256, 512, 768, 2048, 2304, 4096, 6144} {
			for d := -12; d <= 12; d++ {
				body := "x  y" + strings.Repeat("z", at+d) + run + strings.Repeat("w  w", 600)
				checkCanonicalBody(t, []byte(body), uint16(at), uint16(at+d+1))
			}
		}
	}
}

func FuzzCanonicalBody(f *testing.F) {
	for i, c := range contents {
		_, body, _ := strings.Cut(c.raw, "\r\n\r\n")
		f.Add([]byte(body), uint16(i), uint16(i*9))
	}
	f.Add(bytes.Repeat([]byte(dirtyLine), 60), uint16(2048), uint16(2049))
	f.Fuzz(func(t *testing.T, body []byte, one, two uint16) {
		checkCanonicalBody(t, normalise(body), one, two)
	})
}
