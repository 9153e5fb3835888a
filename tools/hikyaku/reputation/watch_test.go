package reputation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"hikyaku/tools/hikyaku/cli"
)

// TestView: looks in, text out; what a listing notes is on the screen, and a look
// that fails keeps what was known.
func TestView(t *testing.T) {
	var err error
	n := 0
	v := &view[int]{
		c: &cli.Call{Err: io.Discard}, title: "hikyaku reputation lanes", at: time.Now(),
		look: func(context.Context) (int, error) { n++; return n, err },
		show: func(c *cli.Call, w io.Writer, n int) error {
			fmt.Fprintln(c.Err, "a note")
			_, err := fmt.Fprintf(w, "row %d\n", n)
			return err
		},
	}
	has := func(paused bool, wants ...string) {
		t.Helper()
		text := v.Draw(80, 24, paused)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("the view lacks %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "paused") != paused || strings.Contains(text, "cannot ask") != (err != nil) {
			t.Errorf("the view is not as it is:\n%s", text)
		}
	}
	has(false, "hikyaku reputation lanes", "row 0", "a note")
	v.Look(t.Context())()
	has(true, "row 1")
	err = errors.New("gone\nhint: \x1b[2J")
	v.Look(t.Context())()
	has(false, "row 1", `cannot ask: gone; hint: \x1b[2J`)
	err = nil
	v.Look(t.Context())()
	has(false, "row 3")
}
