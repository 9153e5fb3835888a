package peers

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"hikyaku/bench/candidate"
)

// Hikyaku is the product's own binary, running as an operator would run it.
type Hikyaku struct {
	*Process        // the present one; Restart makes another
	Dir      string // configuration and data
	SMTP     string // addresses of its listeners
	HTTP     string
	Admin    string
	node     *candidate.Hikyaku
}

// HikyakuOptions are what differs between tests.
type HikyakuOptions = candidate.HikyakuOptions

var binary struct {
	once sync.Once
	path string
	err  error
}

// Binary is the path of bin/hikyaku, built once for the test process unless
// HIKYAKU_BIN names one.
func Binary(tb testing.TB) string {
	tb.Helper()
	binary.once.Do(func() { binary.path, binary.err = candidate.Binary(context.Background(), "") })
	if binary.err != nil {
		tb.Fatal(binary.err)
	}
	return binary.path
}

// StartHikyaku writes the configuration, starts a node and waits until it is ready.
func StartHikyaku(tb testing.TB, o HikyakuOptions) *Hikyaku {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Binary == "" {
		o.Binary = Binary(tb)
	}
	node, err := candidate.StartHikyaku(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := node.Close(); err != nil {
			tb.Errorf("hikyaku: %v", err)
		}
		logOutput(tb, "hikyaku serve", node.Output())
	})
	return &Hikyaku{Process: node.Process(), Dir: node.Dir, SMTP: node.SMTP, HTTP: node.HTTP, Admin: node.Admin, node: node}
}

// Restart starts the node again on the same directory and ports, after its end.
func (h *Hikyaku) Restart(tb testing.TB) {
	tb.Helper()
	if err := h.node.Restart(context.Background()); err != nil {
		tb.Fatal(err)
	}
	h.Process = h.node.Process()
}

// CLI runs a command of the binary against this node and returns its output.
func (h *Hikyaku) CLI(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := h.node.CLI(context.Background(), args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Run runs a command of the binary against this node and returns its output,
// standard error behind standard output, and its exit code.
func (h *Hikyaku) Run(tb testing.TB, stdin string, args ...string) (string, int) {
	tb.Helper()
	node := h.node
	if node == nil { // commands that ask no node, such as "config check"
		node = candidate.Commands(Binary(tb))
	}
	out, code, err := node.Run(context.Background(), stdin, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out, code
}

// Post sends JSON to the injection listener and decodes the answer.
func (h *Hikyaku) Post(tb testing.TB, path string, body any, headers ...string) (int, map[string]any) {
	tb.Helper()
	return h.answer(tb)(h.node.Send(context.Background(), http.MethodPost, path, body, headers...))
}

// Send sends a request with any method to the injection listener; body may be nil.
func (h *Hikyaku) Send(tb testing.TB, method, path string, body any) (int, map[string]any) {
	tb.Helper()
	return h.answer(tb)(h.node.Send(context.Background(), method, path, body))
}

// Get reads JSON from a full URL of the node.
func (h *Hikyaku) Get(tb testing.TB, url string) (int, map[string]any) {
	tb.Helper()
	return h.answer(tb)(h.node.Get(context.Background(), url))
}

func (h *Hikyaku) answer(tb testing.TB) func(int, map[string]any, error) (int, map[string]any) {
	return func(status int, v map[string]any, err error) (int, map[string]any) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return status, v
	}
}
