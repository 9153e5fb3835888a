package screen

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/term"

	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/screen/screentest"
)

// counter is a view that counts its looks.
type counter struct{ looks, asked int }

func (v *counter) Look(context.Context) func() {
	v.asked++ // one look runs at a time
	return func() { v.looks = v.asked }
}

func (v *counter) Draw(_, _ int, paused bool) string {
	return fmt.Sprintf("look %d\npaused %v\n%s\n", v.looks, paused, strings.Repeat("x", 50))
}

// TestWatchOnATerminal: it looks again and again, obeys keys, keeps within the
// terminal, and leaves it as it was.
func TestWatchOnATerminal(t *testing.T) {
	x := screentest.New(t, 6, 30)
	before, err := term.GetState(int(x.Program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c := &cli.Call{In: x.Program, Out: x.Program}
	in, ok := Terminal(c)
	if !ok {
		t.Fatal("a terminal on both sides is none")
	}
	ended := make(chan error, 1)
	v := &counter{}
	go func() { ended <- Watch(t.Context(), c, in, time.Millisecond, v) }() // received below
	x.Wait(t, "\x1b[?1049h\x1b[?25l\x1b[Hlook 0\x1b[K\r\n")
	x.Wait(t, "look 3")
	x.Type(t, "p")
	x.Wait(t, "paused true")
	x.Type(t, "q")
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("q does not end it")
	}
	x.Wait(t, "\x1b[?25h\x1b[?1049l")
	after, err := term.GetState(int(x.Program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal is not as it was")
	}
	if strings.Contains(x.Shown(), strings.Repeat("x", 31)) {
		t.Error("a line is wider than the terminal")
	}
}

func TestKeys(t *testing.T) {
	p := pace{every: time.Second}
	for _, k := range []byte{'q', 'Q', 0x03, 0x04} {
		if !p.key(k) {
			t.Errorf("%q does not end the view", k)
		}
	}
	for _, x := range []struct {
		keys   string
		every  time.Duration
		paused bool
	}{
		{"x", time.Second, false}, {"p", time.Second, true}, {" ", time.Second, false},
		{"-", 2 * time.Second, false}, {"------", time.Minute, false}, {"+++++++++", 250 * time.Millisecond, false},
	} {
		for i := range len(x.keys) {
			if p.key(x.keys[i]) {
				t.Errorf("%q ends the view", x.keys[i])
			}
		}
		if p.every != x.every || p.paused != x.paused {
			t.Errorf("after %q: every %v, paused %v; want %v, %v", x.keys, p.every, p.paused, x.every, x.paused)
		}
	}
}

func TestFit(t *testing.T) {
	text := fit(strings.Repeat("a long line of text that does not fit into it\n", 9), 40, 5)
	if lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n"); len(lines) != 4 || len([]rune(lines[0])) != 40 {
		t.Errorf("it does not fit 40×5:\n%s", text)
	}
}

func TestWithoutATerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []*cli.Call{{In: f, Out: f}, {In: strings.NewReader(""), Out: &strings.Builder{}}} {
		if _, ok := Terminal(c); ok {
			t.Error("what is none is taken for a terminal")
		}
	}
}
