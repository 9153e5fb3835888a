package top

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	policyapi "hikyaku/controlplane/api"
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

// TestAlarmsOfTheCluster: what the leader wants looked at stands above the nodes,
// a few lines of it.
func TestAlarmsOfTheCluster(t *testing.T) {
	o, err := apitest.New().Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &topState{now: o, each: []policyapi.NodeSummary{}, width: 120, alarms: []string{"source out-1 is blocked at gmail", "tenant shop is held at docomo", "c", "d", "e"}}
	view := topView(&cli.Call{Out: io.Discard}, s, false)
	for _, want := range []string{"source out-1 is blocked at gmail", "tenant shop is held at docomo", "and 2 more"} {
		if !strings.Contains(view, want) {
			t.Errorf("the view lacks %q:\n%s", want, view)
		}
	}
}

// The live view is a state machine: looks in, text out.
func TestModel(t *testing.T) {
	node := apitest.New()
	m := &model{c: &cli.Call{Out: io.Discard}, look: func(ctx context.Context) (*topLook, error) {
		o, err := node.Overview(ctx)
		return &topLook{Overview: o}, err
	}}
	view := func() string { return m.Draw(120, 40, false) }
	if !strings.Contains(view(), "asking") {
		t.Errorf("before the first look: %q", view())
	}
	m.Look(t.Context())()
	for _, want := range []string{"tokyo-1", "4100/s", "docomo.ne.jp", "carrier.per_source.rate", "silent 4s", "421 4.7.1 try again later"} {
		if !strings.Contains(view(), want) {
			t.Errorf("view lacks %q:\n%s", want, view())
		}
	}
	if strings.Contains(view(), "paused") || !strings.Contains(m.Draw(120, 40, true), "paused") {
		t.Error("the view does not say when it is paused, and only then")
	}
	node.Err = errors.New("gone")
	m.Look(t.Context())()
	if !strings.Contains(view(), "cannot ask the node: gone") || !strings.Contains(view(), "tokyo-1") {
		t.Errorf("a failed look loses the last one:\n%s", view())
	}
}
