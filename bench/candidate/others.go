package candidate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// installPeers says where the further mail servers come from: as packages they
// conflict with Postfix.
const installPeers = "run sh tools/bench-peers.sh DIR and set " + PeersDirEnv + "=DIR"

// eximConfig relays everything to one host. Exim's own bounds on messages of
// one connection are lifted, since the source sends many on each; the rest is
// as it comes.
const eximConfig = `primary_hostname = exim.example.test
local_interfaces = <; [127.0.0.1]:%d
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%%slog
pid_file_path = /run/exim4/exim.pid
keep_environment =
tls_advertise_hosts =
acl_smtp_rcpt = accept_all
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
host_lookup =
rfc1413_query_timeout = 0s
begin acl
accept_all:
  accept
begin routers
sink:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = sink
begin transports
sink:
  driver = smtp
  port = %d
  allow_localhost
  hosts_avoid_tls = *
begin retry
* * F,1h,10s
`

func relayExim(ctx context.Context, o RelayOptions) (Candidate, error) {
	program, err := Find("exim4", installPeers)
	if err != nil {
		return nil, err
	}
	port, dir, err := place(o, "exim")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(eximConfig, port, portOf(o.Sink))
	return enclosure{
		name: "exim", program: program, args: []string{"-bdf", "-q1h"}, users: []string{"Debian-exim"},
		files:      map[string]string{"etc/exim4/exim4.conf": config, "etc/mailname": "exim.example.test\n", "spool/exim4/": "", "log/exim4/": "", "run/exim4/": "", "varlib/exim4/": ""},
		durability: "syncs the spool file before every 250", log: "log/exim4/mainlog", addr: address(port),
	}.open(ctx, dir, "", "log/exim4", "spool/exim4", "run/exim4")
}

// openSMTPDConfig relays everything to one host. Its bound of messages on a
// connection is lifted, as Exim's.
const openSMTPDConfig = `smtp limit max-mails 1000000
queue ttl 1h
listen on 127.0.0.1 port %d hostname opensmtpd.example.test
action "sink" relay host smtp://127.0.0.1:%d
match from any for any action "sink"
`

func relayOpenSMTPD(ctx context.Context, o RelayOptions) (Candidate, error) {
	program, err := Find("smtpd", installPeers)
	if err != nil {
		return nil, err
	}
	port, dir, err := place(o, "opensmtpd")
	if err != nil {
		return nil, err
	}
	return enclosure{
		name: "opensmtpd", program: program, args: []string{"-d", "-f", "/etc/smtpd.conf"}, users: []string{"opensmtpd", "opensmtpq"},
		files: map[string]string{"etc/smtpd.conf": fmt.Sprintf(openSMTPDConfig, port, portOf(o.Sink)), "varlib/opensmtpd/empty/": ""},
		// Its queue_fs renames into place; fsync is for later changes only, as strace shows.
		durability: "renames the queue file into place before its 250, without a sync", addr: address(port),
	}.open(ctx, dir, versionOf(ctx, program, "-h", regexp.MustCompile(`version: OpenSMTPD (\S+)`)))
}

// Haraka is a Node.js program without compiled-in places, so it needs no
// enclosure.
type haraka struct {
	*Process
	addr, dir, version string
}

func relayHaraka(ctx context.Context, o RelayOptions) (Candidate, error) {
	program, err := Find("haraka", installPeers)
	if err != nil {
		return nil, err
	}
	port, dir, err := place(o, "haraka")
	if err != nil {
		return nil, err
	}
	h := &haraka{addr: address(port), dir: dir, version: versionOf(ctx, program, "--version", regexp.MustCompile(`Version:\s*(\S+)`))}
	for name, text := range map[string]string{
		"smtp.ini":               fmt.Sprintf("listen=127.0.0.1:%d\nnodes=0\n", port),
		"plugins":                "relay\n",
		"relay.ini":              "[relay]\nacl=true\nforce_routing=true\n",
		"me":                     "haraka.example.test\n",
		"loglevel":               "warn\n",
		"outbound.ini":           "local_mx_ok=true\nenable_tls=false\n",
		"relay_acl_allow":        "127.0.0.0/8\n",
		"relay_dest_domains.ini": fmt.Sprintf("[domains]\nany = {\"action\":\"accept\",\"nexthop\":\"127.0.0.1:%d\"}\n", portOf(o.Sink)),
	} {
		path := filepath.Join(dir, "config", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "queue"), 0o755), copyDefaults(program, filepath.Join(dir, "config"))); err != nil {
		return nil, errors.Join(fmt.Errorf("haraka: %w", err), h.Close())
	}
	if h.Process, err = StartProcess(program, []string{"-c", dir}, ProcessOptions{}); err == nil {
		err = listening(ctx, h.Process, h.addr)
	}
	if err == nil { // it takes connections before it has loaded all it needs for them
		err = Until(ctx, 20*time.Second, "a greeting of haraka", func() (bool, error) { return bannerVersion(h.addr, greeting) != "unknown", nil })
	}
	if err == nil {
		err = onlyLoopback(h.PIDs())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("haraka: %w", err), h.Close())
	}
	return h, nil
}

// copyDefaults takes those files of the program's own configuration without
// which it does not greet.
func copyDefaults(program, to string) error {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return err
	}
	const name = "connection.ini"
	text, err := os.ReadFile(filepath.Join(filepath.Dir(real), "..", "config", name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, name), text, 0o644)
}

func (h *haraka) Name() string    { return "haraka" }
func (h *haraka) Version() string { return h.version }
func (h *haraka) Address() string { return h.addr }
func (h *haraka) PIDs() []int     { return Tree(h.PID()) }
func (h *haraka) Usage() Usage    { return TreeUsage(h.PID()) }

// Durability: outbound/index.js writes the queue file through haraka-utils'
// FsyncWriteStream.
func (h *haraka) Durability() string { return "syncs the queue file before every 250" }

func (h *haraka) Close() error {
	if h.Process != nil {
		h.end(5 * time.Second)
	}
	return os.RemoveAll(h.dir)
}

// open is start, with directories that belong to the first of the users.
func (e enclosure) open(ctx context.Context, dir, version string, owned ...string) (Candidate, error) {
	for _, d := range owned {
		d = filepath.Join(dir, d)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chown(d, firstUser, firstUser)); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", e.name, err), os.RemoveAll(dir))
		}
	}
	c, err := e.start(ctx, dir, version)
	if err != nil {
		return nil, err
	}
	if version == "" {
		c.version = bannerVersion(c.addr, eximBanner)
	}
	return c, nil
}

func place(o RelayOptions, name string) (port int, dir string, err error) {
	if port, err = FreePort("127.0.0.1"); err == nil {
		dir, err = workDir(o.Dir, name)
	}
	return port, dir, err
}

// versionOf asks a program for its version. One that was unpacked needs its
// libraries.
func versionOf(ctx context.Context, program, arg string, in *regexp.Regexp) string {
	cmd := exec.CommandContext(ctx, program, arg)
	if root := peersRoot(program); root != "" {
		libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu")) // the pattern is well formed
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	out, _ := cmd.CombinedOutput() // help may end with 1
	if m := in.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return "unknown"
}

// eximBanner tells its version: "exim -bV" wants the user that the program was
// built for, which may exist only where it runs.
var eximBanner = regexp.MustCompile(`^220 .*\bExim (\S+)`)

// greeting is any that welcomes.
var greeting = regexp.MustCompile(`^(220) `)

func bannerVersion(addr string, in *regexp.Regexp) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "unknown"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, _ := bufio.NewReader(c).ReadString('\n')
	_, _ = c.Write([]byte("QUIT\r\n")) // so that it does not log a lost connection
	if m := in.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return "unknown"
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// portOf is the port of a host:port that loopback has looked at.
func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return n
}
