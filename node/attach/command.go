package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxOutput is how much of what a command says is kept.
const maxOutput = 2048

// afterKill is how long the ends of a killed command's pipes are waited for.
const afterKill = 2 * time.Second

// allowed refuses a program that this node's configuration does not list.
func (t *Table) allowed(program string) error {
	if !slices.Contains(t.opt.Programs, program) {
		return fmt.Errorf("this node does not allow policy to run %q: it is not in the node's own configuration", program)
	}
	return nil
}

// run runs a program to its end, or kills it with all it has started.
func (t *Table) run(ctx context.Context, args []string) error {
	t.count(func(m *Metrics) { m.Commands++ })
	ctx, cancel := context.WithTimeout(ctx, t.opt.CommandTimeout)
	defer cancel()
	out := &head{}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = afterKill
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("it was killed after %s", t.opt.CommandTimeout)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if text := out.text(); text != "" {
		return fmt.Errorf("%s: %w: %s", args[0], err, text)
	}
	return fmt.Errorf("%s: %w", args[0], err)
}

// head keeps the beginning of what is written to it.
type head struct{ b bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), maxOutput-h.b.Len())])
	return len(p), nil
}

// text is the output on one line, fit for a log.
func (h *head) text() string {
	s := strings.ToValidUTF8(h.b.String(), "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
