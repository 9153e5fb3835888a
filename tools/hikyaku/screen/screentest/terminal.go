package screentest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is one pseudo-terminal.
type Terminal struct {
	// Program is the end that a program has for its standard input and output.
	Program *os.File

	person *os.File
	more   chan struct{} // capacity 1: something was shown
	mu     struct {
		sync.Mutex
		shown strings.Builder
	}
}

// New opens a terminal for the length of a test. Where there are none, the test
// is skipped.
func New(t testing.TB, rows, columns uint16) *Terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	x := &Terminal{person: person, more: make(chan struct{}, 1)}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err == nil {
		x.Program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		person.Close()
		t.Fatalf("open a pseudo-terminal: %v", err)
	}
	var reading sync.WaitGroup
	reading.Go(x.read)
	t.Cleanup(func() {
		x.Program.Close() // which ends the reading
		reading.Wait()
		person.Close()
	})
	return x
}

func (x *Terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.person.Read(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.mu.shown.Write(buf[:n])
		x.mu.Unlock()
		select {
		case x.more <- struct{}{}:
		default:
		}
	}
}

// Type is what the person types.
func (x *Terminal) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := x.person.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// Shown is all that was ever written to the terminal, escape sequences included.
func (x *Terminal) Shown() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.mu.shown.String()
}

// Wait waits until a text was written to the terminal.
func (x *Terminal) Wait(t testing.TB, text string) {
	t.Helper()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !strings.Contains(x.Shown(), text) {
		select {
		case <-x.more:
		case <-late.C:
			all := x.Shown()
			t.Fatalf("%q is not on the terminal, whose last is\n%q", text, all[max(0, len(all)-2000):])
		}
	}
}
