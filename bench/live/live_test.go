package live_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"hikyaku/bench/live"
)

// screen is a terminal of a given size: it obeys what the view writes and
// complains about everything else.
type screen struct {
	sync.Mutex
	width, height int
	rows          []string // what is on it, colours taken out
	row           int
	hidden        bool
	writes        int
	raw           strings.Builder
	wrong         []string
	block         chan struct{} // a write waits for it to be closed
}

func (s *screen) Size() (int, int) { return s.width, s.height }

var (
	colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	up      = regexp.MustCompile(`^\x1b\[(\d+)A`)
)

func (s *screen) Write(b []byte) (int, error) {
	if s.block != nil {
		<-s.block
	}
	s.Lock()
	defer s.Unlock()
	s.writes++
	s.raw.Write(b)
	text := colours.ReplaceAllString(string(b), "")
	for len(text) > 0 {
		if m := up.FindStringSubmatch(text); m != nil {
			n := 0
			fmt.Sscan(m[1], &n)
			if s.row -= n; s.row < 0 {
				s.wrong = append(s.wrong, "above the first line")
				s.row = 0
			}
			text = text[len(m[0]):]
			continue
		}
		if len(s.rows) <= s.row {
			s.rows = append(s.rows, make([]string, s.row+1-len(s.rows))...)
		}
		switch {
		case strings.HasPrefix(text, "\x1b[?25l"):
			s.hidden, text = true, text[6:]
		case strings.HasPrefix(text, "\x1b[?25h"):
			s.hidden, text = false, text[6:]
		case strings.HasPrefix(text, "\x1b[K"):
			text = text[3:]
		case strings.HasPrefix(text, "\x1b[J"):
			s.rows, text = s.rows[:s.row+1], text[3:]
		case strings.HasPrefix(text, "\r\n"):
			s.row, text = s.row+1, text[2:]
		case strings.HasPrefix(text, "\r"):
			text = text[1:]
		default:
			end := strings.IndexAny(text, "\r\x1b\n")
			if end < 0 {
				end = len(text)
			}
			if end == 0 {
				s.wrong = append(s.wrong, fmt.Sprintf("%q", text[:min(len(text), 10)]))
				end = 1
			}
			s.rows[s.row], text = text[:end], text[end:]
			if n := utf8.RuneCountInString(s.rows[s.row]); n >= s.width {
				s.wrong = append(s.wrong, fmt.Sprintf("%d cells in a width of %d: %q", n, s.width, s.rows[s.row]))
			}
		}
	}
	return len(b), nil
}

func state(i int) live.State {
	return live.State{Phase: "steady", Done: int64(i) * 1000, Total: 100_000, InRate: 8600, OutRate: 1000 + float64(i%10)*800, Queue: int64(i * 3),
		P50: 2100 * time.Microsecond, P99: 45 * time.Millisecond, Errors: int64(i / 50), Elapsed: time.Duration(i) * time.Second, Note: "rate 8,600: latency bounded"}
}

func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	for _, width := range []int{20, 40, 80, 200} {
		synctest.Test(t, func(t *testing.T) {
			s := &screen{width: width, height: 24}
			v := live.New(s, true)
			for i := range 60 {
				v.Update(state(i))
				time.Sleep(time.Second)
			}
			s.Lock()
			if !s.hidden || len(s.wrong) > 0 {
				t.Errorf("width %d: hidden %v, wrong %q", width, s.hidden, s.wrong)
			}
			all := strings.Join(s.rows, "\n")
			s.Unlock()
			want := []string{"steady", "0:59", "59 %", "▁▂▃▄▅", "p99 45 ms"}
			if width >= 80 {
				want = append(want, "0:41 left", "59,000 of 100,000", "in 8,600/s", "out 8,200/s", "queue 177", "p50 2.1 ms", "1 error", "rate 8,600: latency bounded")
			}
			for _, w := range want {
				if !strings.Contains(all, w) {
					t.Errorf("width %d: %q is not shown:\n%s", width, w, all)
				}
			}
			if strings.Count(all, "steady") != 1 {
				t.Errorf("width %d: drawn below, not over:\n%s", width, all)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			if s.hidden {
				t.Errorf("width %d: the cursor is not given back", width)
			}
			if err := v.Close(); err != nil {
				t.Errorf("closed again: %v", err)
			}
		})
	}
}

func TestColour(t *testing.T) {
	for _, tt := range []struct {
		noColour, term string
		terminal       bool
		colour, moves  bool
	}{
		{"", "xterm", true, true, true},
		{"1", "xterm", true, false, true},
		{"", "dumb", true, false, false},
		{"", "xterm", false, false, false},
	} {
		t.Setenv("NO_COLOR", tt.noColour)
		t.Setenv("TERM", tt.term)
		synctest.Test(t, func(t *testing.T) {
			s := &screen{width: 80, height: 24}
			v := live.New(s, tt.terminal)
			v.Update(state(10))
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			raw := s.raw.String()
			if colours.MatchString(raw) != tt.colour || strings.Contains(raw, "\x1b[?25l") != tt.moves {
				t.Errorf("%+v: %q", tt, raw)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &plainFile{}
		v := live.New(s, false)
		for i := range 300 { // 30 s
			v.Update(state(i / 10))
			time.Sleep(100 * time.Millisecond)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(s.String(), "\n"), "\n")
		if len(lines) != 7 { // at 0, 5, … 25, and the last state
			t.Errorf("%d lines:\n%s", len(lines), s.String())
		}
		if want := "0:00 steady: 0 of 100,000 (0 %), in 8,600/s, out 1,000/s, queue 0, p50 2.1 ms, p99 45 ms, errors 0, rate 8,600: latency bounded"; lines[0] != want {
			t.Errorf("%q\nwant %q", lines[0], want)
		}
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "0:29 steady: 29,000 of") {
			t.Errorf("the last state is not shown: %q", last)
		}
		if strings.ContainsAny(s.String(), "\x1b\r") {
			t.Error("control characters in a file")
		}
	})
}

type plainFile struct {
	sync.Mutex
	b strings.Builder
}

func (f *plainFile) Write(b []byte) (int, error) {
	f.Lock()
	defer f.Unlock()
	return f.b.Write(b)
}

func (f *plainFile) String() string {
	f.Lock()
	defer f.Unlock()
	return f.b.String()
}

// TestUpdateNeverWaits: a terminal that was stopped (Ctrl-S) must not stop the
// benchmark.
func TestUpdateNeverWaits(t *testing.T) {
	t.Setenv("TERM", "xterm")
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 80, height: 24, block: make(chan struct{})}
		v := live.New(s, true)
		start := time.Now()
		for i := range 1000 {
			v.Update(state(i))
			synctest.Wait() // the drawing goroutine is stuck in its write now
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		close(s.block)
		time.Sleep(time.Second)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if s.writes > 4 || !strings.Contains(strings.Join(s.rows, "\n"), "16:39") {
			t.Errorf("%d writes, last %q", s.writes, s.rows)
		}
	})
}

func TestDrawsTenTimesASecondAtMost(t *testing.T) {
	t.Setenv("TERM", "xterm")
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 80, height: 24}
		v := live.New(s, true)
		for i := range 2000 { // 2 s
			v.Update(state(i))
			time.Sleep(time.Millisecond)
		}
		if err := v.Close(); err != nil || s.writes > 24 || s.writes < 15 {
			t.Errorf("%d writes in 2 s, %v", s.writes, err)
		}
	})
}

func TestHostileAndExtremeStates(t *testing.T) {
	t.Setenv("TERM", "xterm")
	inf := math.Inf(1)
	for name, st := range map[string]live.State{
		"zero":    {},
		"escapes": {Phase: "a\x1b[2Jb\nc\td", Note: "\u202ewide 日本語 e\u0301", Total: 10},
		"huge":    {Phase: strings.Repeat("x", 500), Done: 1<<63 - 1, Total: 1, InRate: 1e300, OutRate: inf - inf, Queue: 1<<63 - 1, P50: 1<<63 - 1, P99: 1<<63 - 1, Errors: 1<<63 - 1, Elapsed: 1<<63 - 1, Left: 1<<63 - 1},
		"back":    {Done: -5, Total: 10, InRate: -1000, OutRate: -inf, Queue: -1000, P50: -1, Elapsed: -1, Errors: -3},
	} {
		for _, height := range []int{24, 2} {
			synctest.Test(t, func(t *testing.T) {
				s := &screen{width: 40, height: height}
				v := live.New(s, true)
				for range 5 {
					v.Update(st)
					time.Sleep(time.Second)
				}
				if err := v.Close(); err != nil || len(s.wrong) > 0 {
					t.Errorf("%s: %v %q", name, err, s.wrong)
				}
				if len(s.rows) > height+1 {
					t.Errorf("%s: %d lines on a screen of %d", name, len(s.rows), height)
				}
			})
		}
	}
}

type broken struct{ n int }

func (b *broken) Write([]byte) (int, error) { b.n++; return 0, errors.New("gone") }

func TestABrokenWriterIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &broken{}
		v := live.New(b, false)
		for i := range 10 {
			v.Update(state(i))
			time.Sleep(6 * time.Second)
		}
		if err := v.Close(); err == nil || !strings.Contains(err.Error(), "gone") || b.n != 1 {
			t.Errorf("%v after %d writes", err, b.n)
		}
	})
}
