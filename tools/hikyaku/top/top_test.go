package top

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"hikyaku/node/api/apitest"
	"hikyaku/tools/hikyaku/cli"
)

func TestSparkline(t *testing.T) {
	for _, x := range []struct {
		h     []float64
		width int
		want  string
	}{
		{nil, 5, ""},
		{[]float64{0, 0}, 5, "▁▁"},
		{[]float64{0, 4, 8}, 5, "▁▅█"},
		{[]float64{8, 1, 2, 4}, 3, "▃▅█"},
	} {
		if got := sparkline(x.h, x.width); got != x.want {
			t.Errorf("sparkline(%v, %d) = %q, want %q", x.h, x.width, got, x.want)
		}
	}
}

// The live view is a state machine: looks and keys in, text out.
func TestTopModel(t *testing.T) {
	node := apitest.New()
	c, m := &cli.Call{Out: io.Discard}, newTopModel(func(ctx context.Context) (*topLook, error) {
		o, err := node.Overview(ctx)
		return &topLook{Overview: o}, err
	}, time.Second)
	view := func() string { return topView(c, &m.state) }
	look := func() {
		l := m.take(t.Context())
		m.state.add(l.o, l.err)
	}
	if !strings.Contains(view(), "asking") {
		t.Errorf("before the first look: %q", view())
	}
	look()
	for _, want := range []string{"tokyo-1", "4100/s", "docomo.ne.jp", "carrier.per_source.rate", "silent 4s", "421 4.7.1 try again later"} {
		if !strings.Contains(view(), want) {
			t.Errorf("view lacks %q:\n%s", want, view())
		}
	}
	m.state.width, m.state.height = 40, 5
	if lines := strings.Split(strings.TrimSuffix(view(), "\n"), "\n"); len(lines) > 4 || len([]rune(lines[0])) > 40 {
		t.Errorf("view does not fit 40×5:\n%s", view())
	}
	node.Err = errors.New("gone")
	look()
	if !strings.Contains(view(), "cannot ask the node: gone") || !strings.Contains(view(), "tokyo-1") {
		t.Errorf("a failed look loses the last one:\n%s", view())
	}
	if m.key('p'); !m.state.paused {
		t.Error("p does not pause")
	}
	if m.key('-'); m.every != 2*time.Second {
		t.Errorf("interval after -: %v", m.every)
	}
	for k, quit := range map[byte]bool{'q': true, 0x03: true, 'x': false} {
		if m.key(k) != quit {
			t.Errorf("key %q ends the view: %v", k, !quit)
		}
	}
}
