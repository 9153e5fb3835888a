package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hikyaku/tools/hikyaku/cli"
)

// The live view draws with a handful of escape sequences of its own. bubbletea
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

// keyPoll is how often the key reader looks whether it should stop.
const keyPoll = 100 // milliseconds

// topModel is what the live view knows: looks and keys in, text out.
type topModel struct {
	look  func(context.Context) (*topLook, error)
	every time.Duration
	state topState
}

func newTopModel(look func(context.Context) (*topLook, error), every time.Duration) *topModel {
	return &topModel{look: look, every: every, state: topState{width: 120, height: 40}}
}

// looked is the answer to one look.
type looked struct {
	o   *topLook
	err error
}

func (m *topModel) take(ctx context.Context) looked {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	o, err := m.look(ctx)
	return looked{o, err}
}

// key obeys one key; quit ends the view. Raw mode gives Ctrl-C as a byte.
func (m *topModel) key(k byte) (quit bool) {
	switch k {
	case 'q', 'Q', 0x03, 0x04:
		return true
	case 'p', ' ':
		m.state.paused = !m.state.paused
	case '+':
		m.every = max(m.every/2, 250*time.Millisecond)
	case '-':
		m.every = min(m.every*2, time.Minute)
	}
	return false
}

// watch runs the live view on a terminal until the user ends it.
func watch(ctx context.Context, c *cli.Call, in *os.File, m *topModel) (err error) {
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
	keys, looks := make(chan byte), make(chan looked)
	running.Go(func() { readKeys(ctx, in, keys) })
	begin := func() {
		running.Go(func() {
			select {
			case looks <- m.take(ctx):
			case <-ctx.Done():
			}
		})
	}
	begin()
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		if err := draw(c, m); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case k, open := <-keys:
			if !open || m.key(k) {
				return nil
			}
		case l := <-looks:
			m.state.add(l.o, l.err)
			next.Reset(m.every)
		case <-next.C:
			if m.state.paused {
				next.Reset(m.every)
				continue
			}
			begin()
		}
	}
}

// draw writes the view over the last one, without clearing first: no flicker.
func draw(c *cli.Call, m *topModel) error {
	if f, ok := c.Out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			m.state.width, m.state.height = w, h
		}
	}
	text := strings.ReplaceAll(topView(c, &m.state), "\n", lineEnd)
	_, err := io.WriteString(c.Out, screenHome+text+screenRest)
	return err
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
