package candidate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Candidate is a mail server that relays all it is given.
type Candidate interface {
	Name() string          // "hikyaku", "postfix", …
	Version() string       // as the program says it
	Address() string       // its SMTP listener, host:port
	PIDs() []int           // its processes that live now
	Usage() Usage          // what all its processes cost so far
	Durability() string    // whether it syncs before its 250, by its configuration
	Output() string        // what it printed or logged, bounded
	Close() error          // ends it and removes what it made
	Exited() chan struct{} // closed when it ended by itself or was ended
}

// Names are the candidates that Start knows, in the order of tables.
func Names() []string { return []string{"hikyaku", "postfix", "exim", "opensmtpd", "haraka"} }

// RelayOptions are what all candidates are given when the same work goes
// through each of them.
type RelayOptions struct {
	Sink   string // loopback address and port that everything is relayed to
	Dir    string // where data directories are made; default the system's for temporary files
	Binary string // Hikyaku's own; default as Binary finds it
	Policy string // further policy resources for Hikyaku, such as signing keys
}

// Start starts a candidate by name as a relay to one sink, with its
// configuration as it comes but for what the work needs (config of each is in
// its file).
func Start(ctx context.Context, name string, o RelayOptions) (Candidate, error) {
	if err := loopback(o.Sink); err != nil {
		return nil, fmt.Errorf("%s: the sink: %w", name, err)
	}
	switch name {
	case "hikyaku":
		return relayHikyaku(ctx, o)
	case "postfix":
		return relayPostfix(ctx, o)
	case "exim":
		return relayExim(ctx, o)
	case "opensmtpd":
		return relayOpenSMTPD(ctx, o)
	case "haraka":
		return relayHaraka(ctx, o)
	}
	return nil, fmt.Errorf("no candidate is called %q; there are %s", name, strings.Join(Names(), ", "))
}

// ErrNotInstalled is wrapped by errors about a missing program.
var ErrNotInstalled = errors.New("not installed")

// PeersDirEnv names the environment variable with a directory of programs that
// are not installed as packages: <dir>/bin, <dir>/sbin, <dir>/usr/sbin, ….
const PeersDirEnv = "HIKYAKU_PEERS_DIR"

// Find returns the path of a program: from PATH, the directories for daemons,
// which are often not in PATH, and HIKYAKU_PEERS_DIR.
func Find(program, install string) (string, error) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/local/sbin")
	// What is installed goes first: unpacked mail servers bring a sendmail of
	// their own.
	if d := os.Getenv(PeersDirEnv); d != "" {
		for _, sub := range []string{"", "bin", "sbin", "usr/bin", "usr/sbin", "node_modules/.bin"} {
			dirs = append(dirs, filepath.Join(d, sub))
		}
	}
	for _, dir := range dirs {
		p := filepath.Join(dir, program)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Abs(p)
		}
	}
	return "", fmt.Errorf("%s is %w: %s", program, ErrNotInstalled, install)
}

// loopback refuses an address that others could reach.
func loopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("address %q: the port is not a number below 65536", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("address %q is not a loopback address", address)
	}
	return nil
}

// given are the ports that this process has given out, by address. The one that
// asks opens it later, and meanwhile it must not be given to somebody else.
var given struct {
	sync.Mutex
	ports map[string]bool
}

// FreePort returns a TCP port of a loopback address that nothing listens on, and
// that it has not returned before. It is none that the system gives away by
// itself, to a listener on port 0 or a connection (Linux: from 32768 on).
func FreePort(host string) (int, error) {
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return 0, fmt.Errorf("find a free port: %q is not a loopback address", host)
	}
	const first, ports, tries = 10_000, 22_000, 100
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[string]bool{}
	}
	var err error
	for range tries {
		port := first + rand.IntN(ports) // other processes look for one as well
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if given.ports[address] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address); err != nil {
			continue
		}
		given.ports[address] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port on %s: %d tries: %w", host, tries, err)
}

// FreeAddress is 127.0.0.1 with a free port.
func FreeAddress() (string, error) { return FreeAddressOf("127.0.0.1") }

// FreeAddressOf is a loopback address with a free port. Whoever leaves it and
// comes back later should have an address of its own: on 127.0.0.1 other tests
// may have taken the port meanwhile, and answer in its place.
func FreeAddressOf(host string) (string, error) {
	port, err := FreePort(host)
	return net.JoinHostPort(host, strconv.Itoa(port)), err
}

// Until asks cond every few milliseconds until it holds, fails, or the time is
// up. what ends the error's sentence.
func Until(ctx context.Context, within time.Duration, what string, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %v: %s", within, what))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := cond(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Listening waits until something takes connections on addr.
func Listening(ctx context.Context, addr string) error {
	return Until(ctx, 30*time.Second, "a listener on "+addr, func() (bool, error) { return takes(addr) })
}

func takes(addr string) (bool, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false, nil // not yet
	}
	return true, c.Close()
}

// listening waits until something takes connections on addr and p still runs.
func listening(ctx context.Context, p *Process, addr string) error {
	err := Until(ctx, 30*time.Second, "a listener on "+addr, func() (bool, error) {
		if !p.Running() {
			return false, fmt.Errorf("%s ended before it listened on %s: %w", p.name, addr, p.ended())
		}
		return takes(addr)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, Tail(p.Output(), 4000))
	}
	return nil
}

// workDir makes a directory that a mail server's unprivileged processes can
// pass through, which a private directory for temporary files often is not.
func workDir(parent, name string) (string, error) {
	dir, err := os.MkdirTemp(parent, "hikyaku-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("directory for %s: %w", name, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// Tail is the end of a text.
func Tail(s string, bytes int) string {
	if len(s) > bytes {
		return "…" + s[len(s)-bytes:]
	}
	return s
}
