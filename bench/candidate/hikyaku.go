package candidate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Hikyaku is the product's own binary, running as an operator would run it.
// The addresses stay the same over restarts.
type Hikyaku struct {
	Dir   string // configuration and data
	SMTP  string // addresses of its listeners
	HTTP  string
	Admin string
	opts  HikyakuOptions
	owned bool // Dir was made here and goes with Close
	mu    struct {
		sync.Mutex
		process *Process
		before  string // end of the output of the process before this one
		spent   Usage  // of the processes before this one
	}
}

// HikyakuOptions are what differs between nodes.
type HikyakuOptions struct {
	Binary   string   // default: as Binary finds it
	Host     string   // loopback address of its listeners; default 127.0.0.1
	Name     string   // node.name; default test-1
	NodeKeys string   // keys added to the node section, "drain_timeout: 5s"
	Pprof    bool     // serve profiles on the admin listener
	Dir      string   // default: a fresh one, removed by Close
	Resolver string   // DNS server, host:port
	Port     int      // where MX hosts listen; default 25
	Policy   string   // YAML resources
	Config   string   // YAML added at the end of hikyaku.yaml
	Delivery string   // lines added to the delivery section
	SMTPKeys string   // keys added to the SMTP listener, "line_endings: normalize, max_recipients: 200"
	SMTP     []string // further SMTP listeners, each as the keys between the braces
	Args     []string // further arguments of serve
	Env      []string
	Ready    time.Duration // how long a start may take; default 30 s
}

// Binary returns the path of the hikyaku program: the one given, else
// $HIKYAKU_BIN, else this program if it is hikyaku, else one built from the
// module that the working directory is in.
func Binary(ctx context.Context, path string) (string, error) {
	if path == "" {
		path = os.Getenv("HIKYAKU_BIN")
	}
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("the hikyaku binary: %w", err)
		}
		return filepath.Abs(path)
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Path == mainPackage {
		return os.Executable()
	}
	return buildBinary(ctx)
}

const mainPackage = "hikyaku/tools/hikyaku"

// buildBinary builds into the user's cache, named by content: two test
// processes that build at once do not disturb each other and leave one file.
func buildBinary(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	if cache = filepath.Join(cache, "hikyaku-bench"); os.MkdirAll(cache, 0o700) != nil {
		return "", fmt.Errorf("build hikyaku: no directory %s", cache)
	}
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", fmt.Errorf("build hikyaku: %w", err)
	}
	defer os.RemoveAll(dir)
	fresh := filepath.Join(dir, "hikyaku")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", fresh, mainPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hikyaku: %w\n%s", err, Tail(string(out), 4000))
	}
	b, err := os.ReadFile(fresh)
	if err != nil {
		return "", fmt.Errorf("build hikyaku: %w", err)
	}
	sum := sha256.Sum256(b)
	built := filepath.Join(cache, "hikyaku-"+hex.EncodeToString(sum[:8]))
	if err := os.Rename(fresh, built); err != nil {
		return "", fmt.Errorf("build hikyaku: %w", err)
	}
	forgetBuilds(cache, built)
	return built, nil
}

// forgetBuilds removes binaries that nobody built for a day.
func forgetBuilds(cache, keep string) {
	old, _ := filepath.Glob(filepath.Join(cache, "hikyaku-*")) // the pattern is well formed
	for _, f := range old {
		if st, err := os.Stat(f); err == nil && f != keep && time.Since(st.ModTime()) > 24*time.Hour {
			_ = os.Remove(f) // another process may have been first
		}
	}
}

// StartHikyaku writes the configuration, starts a node and waits until it is ready.
func StartHikyaku(ctx context.Context, o HikyakuOptions) (_ *Hikyaku, err error) {
	if o.Binary, err = Binary(ctx, o.Binary); err != nil {
		return nil, err
	}
	h := &Hikyaku{Dir: o.Dir, opts: o}
	if h.Dir == "" {
		if h.Dir, err = workDir("", "node"); err != nil {
			return nil, err
		}
		h.owned = true
	}
	if err := h.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("hikyaku: %w", err), h.Close())
	}
	if err := h.Restart(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// listenKey finds what a listener of the options listens on.
var listenKey = regexp.MustCompile(`\blisten:\s*["']?([^\s"',}]+)`)

func (h *Hikyaku) configure() (err error) {
	o := h.opts
	host := o.Host
	if host == "" {
		host = "127.0.0.1"
	}
	for _, p := range []*string{&h.SMTP, &h.HTTP, &h.Admin} {
		if *p, err = FreeAddressOf(host); err != nil {
			return err
		}
	}
	more := ""
	for _, l := range o.SMTP {
		more += ", {" + l + "}"
	}
	for _, text := range append([]string{o.Config, o.SMTPKeys}, o.SMTP...) {
		for _, m := range listenKey.FindAllStringSubmatch(text, -1) {
			if err := loopback(m[1]); err != nil {
				return fmt.Errorf("listener: %w", err)
			}
		}
	}
	name, port := o.Name, o.Port
	if name == "" {
		name = "test-1"
	}
	if port == 0 {
		port = 25
	}
	keys := ""
	if o.SMTPKeys != "" {
		keys = ", " + o.SMTPKeys
	}
	nodeKeys := ""
	if o.NodeKeys != "" {
		nodeKeys = ", " + o.NodeKeys
	}
	config := fmt.Sprintf(`node: {name: %s, data_dir: %q%s}
ingest:
  smtp: [{listen: %q, relay_networks: [127.0.0.0/8]%s}%s]
  http: {listen: %q, open_networks: [127.0.0.0/8]}
delivery:
  port: %d
  resolver: %q
%sadmin: {listen: %q, pprof: %t}
%s`, name, filepath.Join(h.Dir, "data"), nodeKeys, h.SMTP, keys, more, h.HTTP, port, o.Resolver, o.Delivery, h.Admin, o.Pprof, o.Config)
	for name, text := range map[string]string{"hikyaku.yaml": config, "policy.yaml": o.Policy} {
		if err := os.WriteFile(filepath.Join(h.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Restart starts the node again on the same directory and ports, after Stop or
// Kill, and waits until it is ready.
func (h *Hikyaku) Restart(ctx context.Context) error {
	if h.Running() {
		return errors.New("hikyaku is running: stop it before starting it again")
	}
	args := []string{"serve", "--config", filepath.Join(h.Dir, "hikyaku.yaml")}
	if h.opts.Policy != "" {
		args = append(args, "--policy", filepath.Join(h.Dir, "policy.yaml"))
	}
	p, err := StartProcess(h.opts.Binary, append(args, h.opts.Args...), ProcessOptions{Env: h.opts.Env})
	if err != nil {
		return err
	}
	h.mu.Lock()
	if last := h.mu.process; last != nil {
		h.mu.before = Tail(last.Output(), 16<<10)
	}
	h.mu.process = p
	h.mu.Unlock()
	if err := h.waitReady(ctx, p); err != nil {
		p.end(5 * time.Second)
		return err
	}
	return nil
}

func (h *Hikyaku) waitReady(ctx context.Context, p *Process) error {
	within := h.opts.Ready
	if within == 0 {
		within = 30 * time.Second
	}
	err := Until(ctx, within, "hikyaku serve to be ready", func() (bool, error) {
		if !p.Running() {
			return false, fmt.Errorf("hikyaku serve ended before it was ready: %w", p.ended())
		}
		return h.Ready(ctx), nil
	})
	if err == nil {
		err = onlyLoopback(Tree(p.PID()))
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, Tail(p.Output(), 8000))
	}
	return nil
}

// Ready asks the node once whether it is ready.
func (h *Hikyaku) Ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Process is the node's process, running or ended; nil before the first start.
func (h *Hikyaku) Process() *Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.process
}

// Running reports whether the node's process has not ended.
func (h *Hikyaku) Running() bool {
	p := h.Process()
	return p != nil && p.Running()
}

// PID is the id of the node's process, also after its end.
func (h *Hikyaku) PID() int {
	if p := h.Process(); p != nil {
		return p.PID()
	}
	return 0
}

// Exited is closed when the present process has ended.
func (h *Hikyaku) Exited() chan struct{} {
	if p := h.Process(); p != nil {
		return p.Exited()
	}
	never := make(chan struct{})
	close(never)
	return never
}

// Stop asks the node to end, in order, and waits; after the grace time it is
// killed and that is the error. Restart starts it again.
func (h *Hikyaku) Stop(grace time.Duration) error {
	return h.stop(func(p *Process) error { return p.Stop(grace) })
}

// Kill ends the node at once, as a crash would.
func (h *Hikyaku) Kill() error { return h.stop((*Process).Kill) }

func (h *Hikyaku) stop(end func(*Process) error) error {
	p := h.Process()
	if p == nil || !p.Running() {
		return nil
	}
	last := UsageOf(p.PID())
	err := end(p)
	// What the kernel says of the ended process is the truth about its CPU;
	// its memory and I/O are as of just before.
	if state := p.Cmd.ProcessState; state != nil {
		last.CPU = state.UserTime() + state.SystemTime()
		if r, ok := state.SysUsage().(*syscall.Rusage); ok {
			last.PeakRSS = max(last.PeakRSS, r.Maxrss<<10)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.spent.CPU += last.CPU
	h.mu.spent.WroteOut += last.WroteOut
	h.mu.spent.PeakRSS = max(h.mu.spent.PeakRSS, last.PeakRSS)
	return err
}

// Usage adds up the node's processes over restarts; its memory is the highest
// of them.
func (h *Hikyaku) Usage() Usage {
	h.mu.Lock()
	sum, p := h.mu.spent, h.mu.process
	h.mu.Unlock()
	if p == nil || !p.Running() {
		return sum
	}
	now := UsageOf(p.PID())
	return Usage{CPU: sum.CPU + now.CPU, WroteOut: sum.WroteOut + now.WroteOut, PeakRSS: max(sum.PeakRSS, now.PeakRSS)}
}

// Output is what the present process printed, behind the end of what the one
// before it did.
func (h *Hikyaku) Output() string {
	h.mu.Lock()
	before, p := h.mu.before, h.mu.process
	h.mu.Unlock()
	if p == nil {
		return before
	}
	return before + p.Output()
}

// Close ends the node and removes its directory if it was made here.
func (h *Hikyaku) Close() error {
	if p := h.Process(); p != nil {
		p.end(10 * time.Second)
	}
	if h.owned {
		return os.RemoveAll(h.Dir)
	}
	return nil
}

// Name, Version, Address, PIDs and Durability make it a Candidate.
func (h *Hikyaku) Name() string { return "hikyaku" }

// Version is what "hikyaku version" says first.
func (h *Hikyaku) Version() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, h.opts.Binary, "version").Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "hikyaku ")
}

// Address is the SMTP listener.
func (h *Hikyaku) Address() string { return h.SMTP }

// PIDs are its living processes.
func (h *Hikyaku) PIDs() []int {
	if !h.Running() {
		return nil
	}
	return Tree(h.PID())
}

// Durability says what the configuration asks for.
func (h *Hikyaku) Durability() string {
	if slices.Contains(h.opts.Args, "--unsafe-no-sync") {
		return "told not to sync before its 250"
	}
	return "syncs its log before every 250, shared by those that wait"
}

const relayRoute = `kind: Route
name: sink
spec: {domains: ["*"], hosts: [%q], allow_networks: [127.0.0.0/8], tls: opportunistic}
`

func relayHikyaku(ctx context.Context, o RelayOptions) (Candidate, error) {
	dir, err := workDir(o.Dir, "node")
	if err != nil {
		return nil, err
	}
	policy := fmt.Sprintf(relayRoute, o.Sink)
	if o.Policy != "" {
		policy += "---\n" + o.Policy
	}
	h, err := StartHikyaku(ctx, HikyakuOptions{Binary: o.Binary, Dir: dir, Policy: policy})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	h.owned = true
	return h, nil
}
