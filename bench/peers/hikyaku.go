package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Hikyaku is the product's own binary, running as an operator would run it.
type Hikyaku struct {
	*Process
	Dir   string // configuration and data
	SMTP  string // addresses of its listeners
	HTTP  string
	Admin string
	opts  HikyakuOptions
}

// HikyakuOptions are what differs between tests.
type HikyakuOptions struct {
	Dir      string   // default: a fresh one
	Resolver string   // DNS server, host:port
	Port     int      // where MX hosts listen; default 25
	Policy   string   // YAML resources
	Config   string   // YAML added at the end of hikyaku.yaml
	Delivery string   // lines added to the delivery section
	SMTPKeys string   // keys added to the SMTP listener, "line_endings: normalize, max_recipients: 200"
	SMTP     []string // further SMTP listeners, each as the keys between the braces
	Args     []string // further arguments of serve
	Env      []string
}

var binary struct {
	once sync.Once
	path string
	err  error
}

// Binary is the path of bin/hikyaku, built once for the test process unless
// HIKYAKU_BIN names one.
func Binary(tb testing.TB) string {
	tb.Helper()
	binary.once.Do(func() {
		if binary.path = os.Getenv("HIKYAKU_BIN"); binary.path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "hikyaku-bin-")
		if err != nil {
			binary.err = err
			return
		}
		binary.path = filepath.Join(dir, "hikyaku")
		cmd := exec.Command("go", "build", "-trimpath", "-o", binary.path, "hikyaku/tools/hikyaku")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
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
	if o.Port == 0 {
		o.Port = 25
	}
	port := func() string { return "127.0.0.1:" + strconv.Itoa(FreePort(tb, "127.0.0.1")) }
	h := &Hikyaku{Dir: o.Dir, SMTP: port(), HTTP: port(), Admin: port(), opts: o}
	more := ""
	for _, l := range o.SMTP {
		more += ", {" + l + "}"
	}
	config := fmt.Sprintf(`node: {name: test-1, data_dir: %s}
ingest:
  smtp: [{listen: %q, relay_networks: [127.0.0.0/8]%s}%s]
  http: {listen: %q, open_networks: [127.0.0.0/8]}
delivery:
  port: %d
  resolver: %q
%sadmin: {listen: %q}
%s`, filepath.Join(o.Dir, "data"), h.SMTP, prefixed(", ", o.SMTPKeys), more, h.HTTP, o.Port, o.Resolver, o.Delivery, h.Admin, o.Config)
	for name, text := range map[string]string{"hikyaku.yaml": config, "policy.yaml": o.Policy} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	h.Restart(tb)
	return h
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// Restart starts the node again on the same directory and ports.
func (h *Hikyaku) Restart(tb testing.TB) {
	tb.Helper()
	args := []string{"serve", "--config", filepath.Join(h.Dir, "hikyaku.yaml")}
	if h.opts.Policy != "" {
		args = append(args, "--policy", filepath.Join(h.Dir, "policy.yaml"))
	}
	h.Process = Start(tb, Binary(tb), append(args, h.opts.Args...)...)
	Until(tb, 30*time.Second, "the node to be ready", func() bool {
		select {
		case <-h.Exited():
			tb.Fatalf("hikyaku serve ended: %v\n%s", h.err, h.Output())
		default:
		}
		resp, err := http.Get("http://" + h.Admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// CLI runs a command of the binary against this node and returns its output.
func (h *Hikyaku) CLI(tb testing.TB, args ...string) string {
	tb.Helper()
	cmd := exec.Command(Binary(tb), args...)
	cmd.Env = append(os.Environ(), "HIKYAKU_API=http://"+h.Admin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		tb.Fatalf("hikyaku %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

// Run runs a command of the binary against this node and returns its output,
// standard error behind standard output, and its exit code.
func (h *Hikyaku) Run(tb testing.TB, stdin string, args ...string) (string, int) {
	tb.Helper()
	cmd := exec.Command(Binary(tb), args...)
	cmd.Env = append(os.Environ(), "HIKYAKU_API=http://"+h.Admin)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return out.String() + errOut.String(), cmd.ProcessState.ExitCode()
}

// Post sends JSON to the injection listener and decodes the answer.
func (h *Hikyaku) Post(tb testing.TB, path string, body any, headers ...string) (int, map[string]any) {
	tb.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	return h.do(tb, http.MethodPost, "http://"+h.HTTP+path, b, headers)
}

// Send sends a request with any method to the injection listener; body may be nil.
func (h *Hikyaku) Send(tb testing.TB, method, path string, body any) (int, map[string]any) {
	tb.Helper()
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			tb.Fatal(err)
		}
	}
	return h.do(tb, method, "http://"+h.HTTP+path, b, nil)
}

// Get reads JSON from a full URL of the node.
func (h *Hikyaku) Get(tb testing.TB, url string) (int, map[string]any) {
	tb.Helper()
	return h.do(tb, http.MethodGet, url, nil, nil)
}

func (h *Hikyaku) do(tb testing.TB, method, url string, body []byte, headers []string) (int, map[string]any) {
	tb.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	var v map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			tb.Fatalf("%s %s: %d, not JSON: %s", method, url, resp.StatusCode, b)
		}
	}
	return resp.StatusCode, v
}

// Usage is what a process cost so far.
type Usage struct {
	CPU      time.Duration
	PeakRSS  int64 // bytes
	WroteOut int64 // bytes handed to the disk
}

// UsageOf reads /proc for a process.
func UsageOf(pid int) Usage {
	var u Usage
	proc := func(name string) string {
		b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
		return string(b)
	}
	// Fields 14 and 15 of stat are utime and stime in ticks of 1/100 s.
	stat := proc("stat")
	if i := strings.LastIndexByte(stat, ')'); i > 0 {
		if f := strings.Fields(stat[i+1:]); len(f) > 13 {
			ut, _ := strconv.ParseInt(f[11], 10, 64)
			st, _ := strconv.ParseInt(f[12], 10, 64)
			u.CPU = time.Duration(ut+st) * 10 * time.Millisecond
		}
	}
	field := func(text, name string) int64 {
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				v, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				return v
			}
		}
		return 0
	}
	u.PeakRSS = field(proc("status"), "VmHWM") << 10
	u.WroteOut = field(proc("io"), "write_bytes")
	return u
}
