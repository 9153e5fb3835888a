package screen

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hikyaku/tools/hikyaku/cli"
)

// terminal is a pseudo-terminal: what a person has, and what a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 6, Col: 30})
	}
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// counter is a view that counts its looks.
type counter struct{ looks, asked int }

func (v *counter) Look(context.Context) func() {
	v.asked++ // one look runs at a time
	return func() { v.looks = v.asked }
}

func (v *counter) Draw(_, _ int, paused bool) string {
	return fmt.Sprintf("look %d\npaused %v\n%s\n", v.looks, paused, strings.Repeat("x", 50))
}

// seen collects what a person sees.
type seen struct {
	mu struct {
		sync.Mutex
		text strings.Builder
	}
	more chan struct{} // capacity 1
}

func (s *seen) read(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.mu.text.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

func (s *seen) wait(t *testing.T, want string) {
	t.Helper()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for {
		s.mu.Lock()
		text := s.mu.text.String()
		s.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-s.more:
		case <-late.C:
			t.Fatalf("%q is not on the screen:\n%q", want, text)
		}
	}
}

// TestWatchOnATerminal: it looks again and again, obeys keys, keeps within the
// terminal, and leaves it as it was.
func TestWatchOnATerminal(t *testing.T) {
	person, program := terminal(t)
	before, err := term.GetState(int(program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c := &cli.Call{In: program, Out: program}
	in, ok := Terminal(c)
	if !ok {
		t.Fatal("a terminal on both sides is none")
	}
	s := &seen{more: make(chan struct{}, 1)}
	var reading sync.WaitGroup
	reading.Go(func() { s.read(person) })
	t.Cleanup(func() {
		program.Close() // which ends the reading
		reading.Wait()
	})
	ended := make(chan error, 1)
	v := &counter{}
	go func() { ended <- Watch(t.Context(), c, in, time.Millisecond, v) }() // received below
	s.wait(t, "\x1b[?1049h\x1b[?25l\x1b[Hlook 0\x1b[K\r\n")
	s.wait(t, "look 3")
	if _, err := person.WriteString("p"); err != nil {
		t.Fatal(err)
	}
	s.wait(t, "paused true")
	if _, err := person.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("q does not end it")
	}
	s.wait(t, "\x1b[?25h\x1b[?1049l")
	after, err := term.GetState(int(program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal is not as it was")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(s.mu.text.String(), strings.Repeat("x", 31)) {
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
