package candidate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Postfix is a real Postfix instance with its own configuration and queue.
type Postfix struct {
	Addr    string // "127.0.0.1:port", its SMTP listener
	Maildir string // where mail for its domains lands, one file a message, in new/
	dir     string
	program string // the postfix command
	master  *Process
}

// PostfixOptions are what differs between the roles an instance plays.
type PostfixOptions struct {
	Host      string   // loopback address to listen on; default 127.0.0.1
	Port      int      // 0 picks a free one
	Dir       string   // where its directory is made; default the system's for temporary files
	Domains   []string // domains it receives for
	RelayHost string   // "[127.0.0.1]:2525" to send everything through
	CertFile  string   // STARTTLS, with KeyFile
	KeyFile   string
	Extra     []string // further main.cf lines
}

// maxPostfixDir leaves room for "/queue/private/" and a service's name in the 108
// bytes of the name of a Unix socket (unix(7)); Postfix ends without a word
// where no syslog runs.
const maxPostfixDir = 70

// installPostfix says where Postfix and its tools come from.
const installPostfix = "run make test-deps, or install the Debian package postfix"

// ErrNeedsRoot is wrapped when a mail server starts only as root.
var ErrNeedsRoot = errors.New("starts only as root")

// StartPostfix starts an instance.
func StartPostfix(ctx context.Context, o PostfixOptions) (_ *Postfix, err error) {
	program, err := Find("postfix", installPostfix)
	if err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("Postfix %w", ErrNeedsRoot)
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		if o.Port, err = FreePort(o.Host); err != nil {
			return nil, err
		}
	}
	p := &Postfix{Addr: net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), program: program}
	if err := loopback(p.Addr); err != nil {
		return nil, fmt.Errorf("Postfix: %w", err)
	}
	if p.dir, err = workDir(o.Dir, "postfix"); err != nil {
		return nil, err
	}
	if len(p.dir) > maxPostfixDir {
		return nil, errors.Join(fmt.Errorf("Postfix: the names of its sockets below %s would be too long: choose a shorter directory", p.dir), p.Close())
	}
	p.Maildir = filepath.Join(p.dir, "mail", "inbox")
	if err := p.start(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("Postfix: %w\n%s", err, Tail(p.Log(), 4000)), p.Close())
	}
	return p, nil
}

// start runs the master as a child in the foreground, rather than "postfix
// start", which leaves a daemon that would outlive a killed benchmark.
func (p *Postfix) start(ctx context.Context, o PostfixOptions) error {
	if err := p.configure(o); err != nil {
		return err
	}
	conf := filepath.Join(p.dir, "etc")
	// This makes the queue's directories.
	if out, err := exec.CommandContext(ctx, p.program, "-c", conf, "check").CombinedOutput(); err != nil {
		return fmt.Errorf("postfix check: %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.program), "postconf"), "-c", conf, "-h", "daemon_directory").Output()
	if err != nil {
		return fmt.Errorf("postconf daemon_directory: %w", err)
	}
	if p.master, err = StartProcess(filepath.Join(strings.TrimSpace(string(out)), "master"), []string{"-c", conf, "-s"}, ProcessOptions{OwnSession: true}); err != nil {
		return err
	}
	if err := listening(ctx, p.master, p.Addr); err != nil {
		return err
	}
	return onlyLoopback(p.PIDs())
}

// postfixMaster are the services, none of them in a chroot.
const postfixMaster = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
showq unix n - n - - showq
`

func (p *Postfix) configure(o PostfixOptions) error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	for _, d := range []string{"etc", "queue", "data", "mail", "log"} {
		d = filepath.Join(p.dir, d)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil {
			return err
		}
	}
	for _, d := range []string{"data", "mail"} {
		if err := chown(filepath.Join(p.dir, d), owner); err != nil {
			return err
		}
	}
	main := []string{
		"compatibility_level = 3.6",
		"queue_directory = " + filepath.Join(p.dir, "queue"),
		"data_directory = " + filepath.Join(p.dir, "data"),
		"maillog_file = " + filepath.Join(p.dir, "log", "postfix.log"),
		"maillog_file_prefixes = " + p.dir,
		"mail_owner = postfix", "setgid_group = postdrop",
		"myhostname = postfix.example.test", "mydestination =", "alias_maps =", "alias_database =",
		"mynetworks = 127.0.0.0/8", "inet_interfaces = 127.0.0.1", // of those the machine knows; master.cf names the real one
		"inet_protocols = ipv4",
		"smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination",
		"virtual_mailbox_domains = " + strings.Join(o.Domains, ", "),
		"virtual_mailbox_base = " + filepath.Join(p.dir, "mail"),
		"virtual_mailbox_maps = static:inbox/",
		"virtual_minimum_uid = 1", "virtual_mailbox_limit = 0", "virtual_uid_maps = static:" + owner.Uid, "virtual_gid_maps = static:" + owner.Gid,
		"smtpd_forbid_bare_newline = no", "relayhost = " + o.RelayHost, "smtp_host_lookup = native, dns",
		"smtputf8_enable = yes", "biff = no", "message_size_limit = 52428800", "in_flow_delay = 0",
		"smtpd_client_connection_rate_limit = 0", "default_process_limit = 200",
	}
	if o.CertFile != "" {
		main = append(main, "smtpd_tls_security_level = may", "smtpd_tls_cert_file = "+o.CertFile, "smtpd_tls_key_file = "+o.KeyFile, "smtpd_tls_received_header = yes")
	}
	main = append(main, o.Extra...)
	for name, text := range map[string]string{"main.cf": strings.Join(main, "\n") + "\n", "master.cf": fmt.Sprintf(postfixMaster, p.Addr)} {
		if err := os.WriteFile(filepath.Join(p.dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func chown(path string, u *user.User) error {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("user %s: %w", u.Username, err)
	}
	return os.Chown(path, uid, gid)
}

// Log is Postfix's own log so far.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log", "postfix.log")) // none yet is an empty one
	return string(b)
}

// Messages returns the received messages, whole.
func (p *Postfix) Messages() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(p.Maildir, "new", "*"))
	if err != nil {
		return nil, err
	}
	var ms []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read a delivered message: %w", err)
		}
		ms = append(ms, string(b))
	}
	return ms, nil
}

// WaitMessage waits for a message that holds the text and returns it.
func (p *Postfix) WaitMessage(ctx context.Context, text string) (found string, err error) {
	err = Until(ctx, 30*time.Second, "a message with "+strconv.Quote(text)+" at Postfix", func() (bool, error) {
		ms, err := p.Messages()
		for _, m := range ms {
			if strings.Contains(m, text) {
				found = m
			}
		}
		return found != "", err
	})
	return found, err
}

// Sendmail submits through the instance's sendmail command, as a local program would.
func (p *Postfix) Sendmail(ctx context.Context, content string, args ...string) error {
	program, err := Find("sendmail", installPostfix)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"-C", filepath.Join(p.dir, "etc")}, args...)...)
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sendmail: %w\n%s", err, out)
	}
	return nil
}

// Name, Version, Address, PIDs, Usage, Durability, Output, Exited and Close
// make it a Candidate.
func (p *Postfix) Name() string { return "postfix" }

// Version is mail_version.
func (p *Postfix) Version() string {
	out, err := exec.Command(filepath.Join(filepath.Dir(p.program), "postconf"), "-h", "mail_version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Address is the SMTP listener.
func (p *Postfix) Address() string { return p.Addr }

// PIDs are the master and its daemons.
func (p *Postfix) PIDs() []int { return Tree(p.master.PID()) }

// Usage adds up the master and its daemons, ended ones too: the master waits
// for them.
func (p *Postfix) Usage() Usage { return TreeUsage(p.master.PID()) }

// Durability: cleanup(8) syncs the queue file before smtpd(8) answers, and no
// parameter turns that off.
func (p *Postfix) Durability() string { return "syncs the queue file before every 250" }

// Output is the log.
func (p *Postfix) Output() string { return Tail(p.Log(), keptHead+keptTail) }

// Exited is closed when the master has ended.
func (p *Postfix) Exited() chan struct{} { return p.master.Exited() }

// Close ends the instance and removes its directory.
func (p *Postfix) Close() error {
	if p.master != nil {
		p.master.end(10 * time.Second)
	}
	return os.RemoveAll(p.dir)
}

func relayPostfix(ctx context.Context, o RelayOptions) (Candidate, error) {
	host, port, err := net.SplitHostPort(o.Sink)
	if err != nil {
		return nil, err
	}
	return StartPostfix(ctx, PostfixOptions{Dir: o.Dir, RelayHost: "[" + host + "]:" + port})
}
