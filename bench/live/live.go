package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// State is what is shown. Rates are per second.
type State struct {
	Phase           string
	Done, Total     int64 // Total 0: unknown, no bar
	InRate, OutRate float64
	Queue           int64
	P50, P99        time.Duration
	Errors          int64
	Note            string        // "rate 8,500: latency bounded"
	Elapsed         time.Duration // since the run began
	Left            time.Duration // of a run that is bounded in time; 0: told from Done and Total
}

// How often it is drawn.
const (
	drawEvery  = 100 * time.Millisecond
	printEvery = 5 * time.Second
	sparkEvery = time.Second
	keepSparks = 240
)

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[K"
	clearRest  = "\x1b[J"
)

// View draws states. Safe for concurrent use.
type View struct {
	w        io.Writer
	terminal bool
	colour   bool
	size     func() (width, height int)
	wake     chan struct{}
	stop     chan struct{}
	done     sync.WaitGroup
	once     sync.Once
	mu       struct {
		sync.Mutex
		state State
		fresh bool // not drawn yet
		known bool
		err   error // of the last write; nothing is drawn after it
	}
	// What the drawing goroutine alone knows.
	lines     int // drawn last, over which to draw
	out       []float64
	sparkAt   time.Time
	lastPhase string
}

// New starts a view. terminal says whether w is one: then it is drawn over, in
// colour unless NO_COLOR is set (no-color.org) or TERM is dumb. Close must be
// called.
func New(w io.Writer, terminal bool) *View {
	v := &View{
		w: w, terminal: terminal && os.Getenv("TERM") != "dumb", size: sizeOf(w),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	v.colour = v.terminal && os.Getenv("NO_COLOR") == ""
	v.done.Go(v.run)
	return v
}

// sizeOf asks the terminal at each drawing, because its window may be resized.
func sizeOf(w io.Writer) func() (int, int) {
	return func() (int, int) {
		if f, ok := w.(interface{ Fd() uintptr }); ok {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
				return width, height
			}
		}
		if s, ok := w.(interface{ Size() (int, int) }); ok { // what stands for a terminal
			return s.Size()
		}
		return 80, 24
	}
}

// Update notes a state. It does not draw and does not wait.
func (v *View) Update(s State) {
	v.mu.Lock()
	v.mu.state, v.mu.fresh, v.mu.known = s, true, true
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Close draws the last state, gives the cursor back and ends. It returns the
// first error of writing. It may be called again.
func (v *View) Close() error {
	v.once.Do(func() { close(v.stop) })
	v.done.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.err
}

// run draws at most once in a while, and at the end.
func (v *View) run() {
	every := printEvery
	if v.terminal {
		every = drawEvery
	}
	var last time.Time
	wait := time.NewTimer(time.Hour)
	defer wait.Stop()
	for {
		select {
		case <-v.stop:
			v.end()
			return
		case <-v.wake:
			if rest := every - time.Since(last); !last.IsZero() && rest > 0 {
				wait.Reset(rest)
				continue
			}
		case <-wait.C:
		}
		if v.show() {
			last = time.Now()
		}
	}
}

// show writes the state if there is a new one.
func (v *View) show() bool {
	v.mu.Lock()
	s, fresh, broken := v.mu.state, v.mu.fresh, v.mu.err != nil
	v.mu.fresh = false
	v.mu.Unlock()
	if !fresh || broken {
		return false
	}
	if !v.terminal {
		v.write(plain(s) + "\n")
		return true
	}
	v.remember(s, time.Now())
	width, height := v.size()
	v.write(v.over(v.draw(s, width), height))
	return true
}

// remember adds to the history of the rate, which each phase begins anew.
func (v *View) remember(s State, now time.Time) {
	if s.Phase != v.lastPhase {
		v.lastPhase, v.out, v.sparkAt = s.Phase, v.out[:0], time.Time{}
	}
	if !v.sparkAt.IsZero() && now.Sub(v.sparkAt) < sparkEvery {
		return
	}
	v.sparkAt = now
	if len(v.out) == keepSparks {
		v.out = append(v.out[:0], v.out[1:]...)
	}
	v.out = append(v.out, s.OutRate)
}

// over is the text that draws the lines over the last ones. It stays at the
// last line: a line end after it would scroll a full screen by one each time.
func (v *View) over(lines []string, height int) string {
	lines = lines[:min(len(lines), max(height, 1))]
	var b strings.Builder
	if v.lines == 0 {
		b.WriteString(hideCursor)
	}
	b.WriteString("\r")
	if v.lines > 1 {
		fmt.Fprintf(&b, "\x1b[%dA", v.lines-1)
	}
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + clearLine)
	}
	b.WriteString(clearRest)
	v.lines = len(lines)
	return b.String()
}

// end shows what is not shown yet and leaves the terminal as it was.
func (v *View) end() {
	v.show()
	if v.terminal && v.lines > 0 {
		v.write("\r\n" + showCursor)
	}
}

func (v *View) write(s string) {
	if _, err := io.WriteString(v.w, s); err != nil {
		v.mu.Lock()
		v.mu.err = errors.Join(v.mu.err, fmt.Errorf("live view: %w", err))
		v.mu.Unlock()
	}
}
