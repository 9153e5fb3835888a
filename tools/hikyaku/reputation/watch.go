package reputation

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/client"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/screen"
)

// watchEvery is how often what is watched is asked for again.
const watchEvery = 2 * time.Second

// listing is a listing that can be watched: how to ask for it, how to show it.
type listing[T any] struct {
	ask   func(context.Context, *client.Cluster) (T, error)
	show  func(c *cli.Call, w io.Writer, v T) error
	watch bool
}

func (l *listing[T]) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&l.watch, "watch", false, "show it anew every 2s, until q; without a terminal, and with --json, one look is printed")
}

// run prints the listing, or shows it on the terminal until the user ends that.
func (l *listing[T]) run(cmd *cobra.Command, c *cli.Call) error {
	cl, err := c.Control()
	if err != nil {
		return err
	}
	look := func(ctx context.Context) (T, error) {
		v, err := l.ask(ctx, cl)
		return v, c.NoControl(err)
	}
	// The first look comes before the screen: what it says of a server that is no
	// control plane, or of a key that may not ask, should stay to be read.
	first, err := look(cmd.Context())
	if err != nil {
		return err
	}
	in, live := screen.Terminal(c)
	if !l.watch || c.JSON || !live {
		return c.Print(first, func(w io.Writer) error { return l.show(c, w, first) })
	}
	v := &view[T]{c: c, title: cmd.CommandPath(), look: look, show: l.show, last: first, at: time.Now()}
	return screen.Watch(cmd.Context(), c, in, watchEvery, v)
}

// view is a listing on the screen.
type view[T any] struct {
	c     *cli.Call
	title string
	look  func(context.Context) (T, error)
	show  func(c *cli.Call, w io.Writer, v T) error

	last T
	at   time.Time // of the last look that was answered
	err  error     // of the last look
}

// Look is of screen.View.
func (v *view[T]) Look(ctx context.Context) (take func()) {
	got, err := v.look(ctx)
	at := time.Now()
	return func() {
		if v.err = err; err == nil {
			v.last, v.at = got, at
		}
	}
}

// Draw is of screen.View. A look that failed keeps what was last known.
func (v *view[T]) Draw(_, _ int, paused bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", v.c.Paint(v.title, cli.Bold), human.Stamp(v.at))
	if paused {
		b.WriteString(v.c.Paint("  paused", cli.Yellow))
	}
	b.WriteByte('\n')
	if v.err != nil {
		// An error may have a hint on a line of its own.
		fmt.Fprintf(&b, "%s\n", v.c.Paint("cannot ask: "+human.Clean(strings.ReplaceAll(v.err.Error(), "\n", "; ")), cli.Red))
	}
	b.WriteByte('\n')
	// What a listing notes beside its table belongs on the screen too.
	on := *v.c
	on.Out, on.Err = &b, &b
	if err := v.show(&on, &b, v.last); err != nil {
		fmt.Fprintf(&b, "%s\n", human.Clean(err.Error()))
	}
	return b.String()
}
