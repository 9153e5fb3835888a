package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Postfix is a real Postfix instance with its own configuration and queue.
type Postfix struct {
	Addr    string // "127.0.0.1:port", its SMTP listener
	Maildir string // where mail for its domains lands, one file a message, in new/
	conf    string
	postfix string
}

// PostfixOptions are what differs between the roles an instance plays.
type PostfixOptions struct {
	Host      string   // loopback address to listen on; default 127.0.0.1
	Port      int      // 0 picks a free one
	Domains   []string // domains it receives for
	RelayHost string   // "[127.0.0.1]:2525" to send everything through
	CertFile  string   // STARTTLS, with KeyFile
	KeyFile   string
	Extra     []string // further main.cf lines
}

// StartPostfix starts an instance. Postfix insists on root to start.
func StartPostfix(tb testing.TB, o PostfixOptions) *Postfix {
	tb.Helper()
	bin := Find(tb, "postfix", "postfix")
	if os.Getuid() != 0 {
		msg := "Postfix starts only as root: run the tests as root"
		if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
			tb.Fatal(msg)
		}
		tb.Skip(msg)
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		o.Port = FreePort(tb, o.Host)
	}
	// Postfix's daemons drop root: every directory above the queue must let
	// them through, which the test's own temporary directory does not.
	dir, err := os.MkdirTemp("", "hikyaku-postfix-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	p := &Postfix{
		Addr:    net.JoinHostPort(o.Host, strconv.Itoa(o.Port)),
		Maildir: filepath.Join(dir, "mail", "inbox"),
		conf:    filepath.Join(dir, "etc"), postfix: bin,
	}
	p.configure(tb, dir, o)
	if out, err := exec.Command(bin, "-c", p.conf, "start").CombinedOutput(); err != nil {
		tb.Fatalf("postfix start: %v\n%s\n%s", err, out, p.Log())
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("postfix log:\n%s", tail(p.Log(), 8000))
		}
		_ = exec.Command(bin, "-c", p.conf, "abort").Run()
	})
	Listening(tb, p.Addr)
	return p
}

func (p *Postfix) configure(tb testing.TB, dir string, o PostfixOptions) {
	tb.Helper()
	owner, err := user.Lookup("postfix")
	if err != nil {
		tb.Fatalf("user postfix: %v", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	for _, d := range []string{"", "etc", "queue", "data", "mail", "log"} {
		d = filepath.Join(dir, d)
		if err := os.MkdirAll(d, 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	for _, d := range []string{"data", "mail"} {
		if err := os.Chown(filepath.Join(dir, d), uid, gid); err != nil {
			tb.Fatal(err)
		}
	}
	main := []string{
		"compatibility_level = 3.6",
		"queue_directory = " + filepath.Join(dir, "queue"),
		"data_directory = " + filepath.Join(dir, "data"),
		"maillog_file = " + filepath.Join(dir, "log", "postfix.log"),
		"maillog_file_prefixes = " + dir,
		"mail_owner = postfix", "setgid_group = postdrop",
		"myhostname = postfix.example.test", "mydestination =", "alias_maps =", "alias_database =",
		"mynetworks = 127.0.0.0/8", "inet_interfaces = 127.0.0.1", // of those the machine knows; master.cf names the real one
		"inet_protocols = ipv4",
		"smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination",
		"virtual_mailbox_domains = " + strings.Join(o.Domains, ", "),
		"virtual_mailbox_base = " + filepath.Join(dir, "mail"),
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
	master := fmt.Sprintf(`%s inet n - n - - smtpd
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
`, net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	write("main.cf", strings.Join(main, "\n")+"\n")
	write("master.cf", master)
}

// Log is Postfix's own log so far.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(p.conf), "log", "postfix.log"))
	return string(b)
}

// Messages returns the received messages, whole.
func (p *Postfix) Messages(tb testing.TB) []string {
	tb.Helper()
	files, _ := filepath.Glob(filepath.Join(p.Maildir, "new", "*"))
	var ms []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		ms = append(ms, string(b))
	}
	return ms
}

// WaitMessage waits for a message that holds the text and returns it.
func (p *Postfix) WaitMessage(tb testing.TB, text string) string {
	tb.Helper()
	var found string
	Until(tb, 30*time.Second, "a message with "+strconv.Quote(text)+" at Postfix", func() bool {
		for _, m := range p.Messages(tb) {
			if strings.Contains(m, text) {
				found = m
			}
		}
		return found != ""
	})
	return found
}

// Sendmail submits through the instance's sendmail command, as a local program would.
func (p *Postfix) Sendmail(tb testing.TB, content string, args ...string) {
	tb.Helper()
	cmd := exec.Command(Find(tb, "sendmail", "postfix"), append([]string{"-C", p.conf}, args...)...)
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("sendmail: %v\n%s", err, out)
	}
}
