package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hikyaku/tools/hikyaku/cli"
)

// The view is drawn with a handful of escape sequences of our own. bubbletea
// was tried and taken out: merely to import it makes every command ask the
// terminal for its background colour before main runs, which swallows what was
// typed ahead and costs five seconds on a terminal that does not answer.
const (
	screenOpen  = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	screenClose = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineEnd     = "\x1b[K\r\n" // clear the rest of the line; raw mode wants CR LF
	screenRest  = "\x1b[J"
)

// Bounds of what takes time.
const (
	keyPoll  = 100              // milliseconds between looks of the key reader whether it should stop
	patience = 10 * time.Second // with one look
	fastest  = 250 * time.Millisecond
	slowest  = time.Minute
)

// View is what is shown.
type View interface {
	// Look asks. It runs beside the drawing; what it returns puts the answer, or
	// that there was none, into the view.
	Look(ctx context.Context) (take func())
	// Draw is the view as lines of text. What does not fit into the terminal is
	// cut off.
	Draw(width, height int, paused bool) string
}

// Terminal gives the terminal that keys come from, if there is one on both sides.
func Terminal(c *cli.Call) (*os.File, bool) {
	in, ok := c.In.(*os.File)
	return in, ok && cli.IsTerminal(c.Out) && cli.IsTerminal(in)
}

// Watch shows a view on a terminal until the user ends it. It looks at once, then
// after each interval.
func Watch(ctx context.Context, c *cli.Call, in *os.File, every time.Duration, v View) (err error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("live view: %w", err)
	}
	defer func() { err = errors.Join(err, term.Restore(int(in.Fd()), old)) }()
	if _, err := io.WriteString(c.Out, screenOpen); err != nil {
		return err
	}
	defer func() {
		_, werr := io.WriteString(c.Out, screenClose)
		err = errors.Join(err, werr)
	}()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup // the key reader and at most one look
	defer running.Wait()
	defer cancel()
	keys, looks := make(chan byte), make(chan func())
	running.Go(func() { readKeys(ctx, in, keys) })
	begin := func() {
		running.Go(func() {
			try, done := context.WithTimeout(ctx, patience)
			defer done()
			select {
			case looks <- v.Look(try):
			case <-ctx.Done():
			}
		})
	}
	begin()
	p := pace{every: every}
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		if err := draw(c, v, p.paused); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case k, open := <-keys:
			if !open || p.key(k) {
				return nil
			}
		case take := <-looks:
			take()
			next.Reset(p.every)
		case <-next.C:
			if p.paused {
				next.Reset(p.every)
				continue
			}
			begin()
		}
	}
}

// pace is what keys change.
type pace struct {
	every  time.Duration
	paused bool
}

// key obeys one key; quit ends the view. Raw mode gives Ctrl-C as a byte.
func (p *pace) key(k byte) (quit bool) {
	switch k {
	case 'q', 'Q', 0x03, 0x04:
		return true
	case 'p', ' ':
		p.paused = !p.paused
	case '+':
		p.every = max(p.every/2, fastest)
	case '-':
		p.every = min(p.every*2, slowest)
	}
	return false
}

// draw writes the view over the last one, without clearing first: no flicker.
func draw(c *cli.Call, v View, paused bool) error {
	width, height := 120, 40
	if f, ok := c.Out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	text := strings.ReplaceAll(fit(v.Draw(width, height, paused), width, height), "\n", lineEnd)
	_, err := io.WriteString(c.Out, screenHome+text+screenRest)
	return err
}

// fit cuts the text to the terminal, so that lines do not wrap and the head
// stays on the screen.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(1, height-1))]
	style := lipgloss.NewStyle().MaxWidth(max(20, width))
	for i, l := range lines {
		lines[i] = style.Render(l)
	}
	return strings.Join(lines, "\n") + "\n"
}

// readKeys sends what is typed until ctx ends or the terminal is gone, then
// closes keys. It polls, because a read of a terminal cannot be interrupted.
func readKeys(ctx context.Context, in *os.File, keys chan<- byte) {
	defer close(keys)
	var buf [16]byte
	fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, keyPoll)
		if errors.Is(err, unix.EINTR) || (err == nil && n == 0) {
			continue
		}
		if err != nil {
			return
		}
		read, err := in.Read(buf[:])
		if err != nil {
			return
		}
		for _, k := range buf[:read] {
			select {
			case keys <- k:
			case <-ctx.Done():
				return
			}
		}
	}
}
