package delivery_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"hikyaku/node/delivery"
)

// FuzzServerWords plays arbitrary bytes as all that a server ever says, then
// closes. Each job that was taken has one result, and none is delivered unless
// the server said 2xx more often than greeting and envelope need.
func FuzzServerWords(f *testing.F) {
	const hello = "220 x\r\n250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
	f.Add([]byte("220 x\r\n250-x\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n"))
	f.Add([]byte(hello + "250 a\r\n250 b\r\n250 c\r\n250 r\r\n250 a\r\n550 b\r\n503 c\r\n"))
	f.Add([]byte(hello + "421 a\r\n421 b\r\n"))
	f.Add([]byte("220 x\r\n502 x\r\n250 x\r\n250 a\r\n452 b\r\n"))
	f.Add([]byte("554 no\r\n"))
	f.Fuzz(func(t *testing.T, words []byte) {
		// The greeting goes out piece by piece, since a server that talks out
		// of turn is refused; what follows comes at once.
		nw := &network{serve: func(_ int, c *memConn) {
			rest := string(words)
			for range 2 {
				var reply string
				reply, rest = firstReply(rest)
				_, _ = io.WriteString(c, reply)
				if rest == "" {
					break
				}
				if _, err := c.Read(make([]byte, 4096)); err != nil {
					break
				}
			}
			_, _ = io.WriteString(c, rest)
			c.out.end(nil)
			_, _ = io.Copy(io.Discard, c)
		}}
		work := &fixedWork{jobs: []*delivery.Job{
			makeJob("s@a.example", []string{"r@b.example", "q@b.example"}, "Subject: x\r\n\r\n.\r\n"),
			makeJob("t@a.example", []string{"p@b.example"}, "Subject: y\r\n\r\n"),
		}}
		target := sinkTarget()
		target.IdleTimeout = 1 // nanosecond
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, work).Run(context.Background())
		nw.wg.Wait()
		if len(work.extra) > 0 || len(work.results) != work.next {
			t.Fatalf("%d jobs taken, %d results, %v", work.next, len(work.results), work.extra)
		}
		said := strings.Count(string(words), "2")
		for j, text := range work.results {
			if strings.Contains(text, "WRONG") || (strings.Contains(text, ": 2") && said < 4) {
				t.Fatalf("%s: %s", j.Sender, text)
			}
		}
	})
}

// firstReply cuts the first reply off: up to the first line that does not go on.
func firstReply(s string) (reply, rest string) {
	for end := 0; ; {
		n := strings.IndexByte(s[end:], '\n')
		if n < 0 {
			return s, ""
		}
		line := s[end : end+n]
		if end += n + 1; len(line) < 4 || line[3] != '-' {
			return s[:end], s[end:]
		}
	}
}
