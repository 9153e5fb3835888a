package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"hikyaku/controlplane/access"
	clustertest "hikyaku/controlplane/api/apitest"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/screen/screentest"
)

// start runs a command line until the end of the test, which must be a good one.
func start(t *testing.T, c *cli.Call, args ...string) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	root := newRootCmd(c)
	root.SetArgs(args)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }() // received by end
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestDecisionsAreFollowed: those that are there come first, the oldest before the
// others, and then each as it is decided.
func TestDecisionsAreFollowed(t *testing.T) {
	t.Parallel()
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	in, out := io.Pipe()
	end := start(t, &cli.Call{Out: out, Err: io.Discard, In: strings.NewReader("")}, "--api", b.url, "--token", b.keys[access.ReadOnly], "decisions", "--watch")
	lines := bufio.NewReader(in)
	next := func(want string) {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("the next line is %q (%v), want %q", line, err, want)
		}
	}
	next("tenant shop until")
	next("source a1 at docomo: slowed → blocked")
	b.cluster.Decide(state.Decision{ID: "20261122T101500.000-00001", At: clustertest.Epoch, Carrier: "docomo", Source: "a2", Action: "rest", Rule: "throttled"})
	next("source a2 at docomo, by throttled  20261122T101500.000-00001")
	end()
}

// TestLanesAreWatched: on a terminal the listing is shown anew until q.
func TestLanesAreWatched(t *testing.T) {
	t.Parallel()
	x := screentest.New(t, 24, 100)
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	c := &cli.Call{In: x.Program, Out: x.Program, Err: x.Program}
	end := start(t, c, "--api", b.url, "--token", b.keys[access.ReadOnly], "reputation", "lanes", "--watch")
	x.Wait(t, "hikyaku reputation lanes")
	x.Wait(t, "blocked")
	if _, err := b.cluster.SetLane(t.Context(), state.SetLane{Carrier: "docomo", Source: "a2", State: "retired", Author: "ann"}); err != nil {
		t.Fatal(err)
	}
	x.Wait(t, "retired")
	x.Type(t, "q")
	x.Wait(t, "\x1b[?1049l")
	end()
}

// TestTopOnATerminal: top is live where there is somebody to look.
func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	x := screentest.New(t, 40, 120)
	url, _ := fakeNode(t)
	end := start(t, &cli.Call{In: x.Program, Out: x.Program, Err: x.Program}, "--api", url, "top", "--interval", "100ms")
	x.Wait(t, "hikyaku tokyo-1")
	x.Wait(t, "███") // three looks
	x.Type(t, "p")
	x.Wait(t, "paused")
	x.Type(t, "q")
	x.Wait(t, "\x1b[?1049l")
	end()
}
