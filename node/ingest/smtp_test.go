package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// store is an Acceptor that keeps what it is given.
type store struct {
	mu struct {
		sync.Mutex
		subs []*Submission
	}
	ids    message.IDs
	refuse error
	policy *policy.Set
	slow   []*slowReceipt // not nil: submissions wait to be waited for
	waited func(*message.Message) error
}

func (a *store) Admit(string) error             { return nil }
func (a *store) NewID(now time.Time) message.ID { return a.ids.New(now) }
func (a *store) Policy() *policy.Set            { return a.policy }
func (a *store) Accept(_ context.Context, s *Submission) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil {
		return a.refuse
	}
	a.mu.subs = append(a.mu.subs, s)
	return nil
}

// Offer is durable at once, or takes its place in slow.
func (a *store) Offer(ctx context.Context, s *Submission) (Receipt, error) {
	if a.slow == nil {
		return nil, a.Accept(ctx, s)
	}
	r := &slowReceipt{a, s}
	a.slow = append(a.slow, r)
	return r, nil
}

// slowReceipt accepts its submission when it is waited for.
type slowReceipt struct {
	a *store
	s *Submission
}

func (r *slowReceipt) Wait(ctx context.Context) error {
	if r.a.slow[0] != r {
		panic("waited for in another order than offered")
	}
	r.a.slow = r.a.slow[1:]
	if r.a.waited != nil {
		if err := r.a.waited(r.s.Message); err != nil {
			return err
		}
	}
	return r.a.Accept(ctx, r.s)
}

func (a *store) taken() []*Submission {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.subs
}

// logins knows one user and one network.
type logins struct{}

func (logins) Password(_ context.Context, user, password string) (tenant, name string, ok bool) {
	return "acme", user, user == "user" && password == "secret"
}

func (logins) Network(a netip.Addr) (string, bool) {
	return "net", netip.MustParsePrefix("198.51.100.0/24").Contains(a)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// testServer is a server without sockets: sessions run on scripted connections.
type testServer struct {
	*SMTPServer
	store *store
}

func newTestServer(t testing.TB, change func(*SMTPListener)) testServer {
	l := SMTPListener{
		Listen: "127.0.0.1:0", Hostname: "mx.test", RelayNetworks: networks("192.0.2.0/24"),
		AuthPlaintextNetworks: networks("203.0.113.0/24"), AuthFailureDelay: policy.Duration(time.Nanosecond),
	}
	if change != nil {
		change(&l)
	}
	set, problems := policy.New([]policy.Resource{
		{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{SenderDomains: []string{"acme.test", "*.acme.test"}}},
		{Kind: policy.KindTenant, Name: "net", Spec: &policy.Tenant{Disabled: true}},
		{Kind: policy.KindCarrier, Name: "docomo", Spec: &policy.Carrier{Domains: []string{"docomo.test"}, OddLocalParts: policy.OddQuoted}},
	})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	st := &store{policy: set}
	s, err := NewSMTPServer(SMTPOptions{Listeners: []SMTPListener{l}, Acceptor: st, Authenticator: logins{}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return testServer{s, st}
}

func networks(cidrs ...string) (ns []policy.Network) {
	for _, c := range cidrs {
		ns = append(ns, policy.Network{Prefix: netip.MustParsePrefix(c)})
	}
	return ns
}

// scripted is a connection that says one turn for each read, then ends, and
// keeps what the server said between them.
type scripted struct {
	from   netip.AddrPort
	turns  [][]byte
	out    []byte
	said   [][]byte // said[0] is before the first turn
	closed bool
}

func (c *scripted) Read(b []byte) (int, error) {
	if c.out != nil || len(c.said) == 0 {
		c.said = append(c.said, c.out)
		c.out = []byte{}
	}
	if len(c.turns) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.turns[0])
	if c.turns[0] = c.turns[0][n:]; len(c.turns[0]) == 0 {
		c.turns = c.turns[1:]
	}
	return n, nil
}

func (c *scripted) Write(b []byte) (int, error)      { c.out = append(c.out, b...); return len(b), nil }
func (c *scripted) Close() error                     { c.closed = true; return nil }
func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scripted) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(c.from) }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

func (c *scripted) all() string {
	return string(bytes.Join(append(c.said, c.out), nil))
}

// talk runs one session that hears the turns, from a relay network.
func (s testServer) talk(turns ...string) *scripted { return s.talkFrom("192.0.2.1", turns...) }

func (s testServer) talkFrom(addr string, turns ...string) *scripted {
	c := s.script(addr, turns...)
	newSession(s.SMTPServer, s.listeners[0], c).run()
	return c
}

// script is a connection that will say the turns.
func (s testServer) script(addr string, turns ...string) *scripted {
	c := &scripted{from: netip.AddrPortFrom(netip.MustParseAddr(addr), 4000)}
	for _, t := range turns {
		c.turns = append(c.turns, []byte(t))
	}
	return c
}

const envelope = "MAIL FROM:<a@acme.test>\r\nRCPT TO:<b@dest.test>\r\n"

// TestDialogues plays the stories in testdata: "C: " is a line from the
// client, "C> " is a Go string without a line end, "S: " is a line that the
// server must say, with * for anything; "from ADDRESS" and "set KEY" choose
// the client and the listener, "accepted N" says how many messages are taken.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/smtp/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playDialogue(t, file) })
	}
}

var listenerSettings = map[string]func(*SMTPListener){
	"normalize":       func(l *SMTPListener) { l.LineEndings = LinesNormalize },
	"small":           func(l *SMTPListener) { l.MaxMessageSize, l.MaxRecipients, l.MaxErrors = 64<<10, 100, 5 },
	"require_auth":    func(l *SMTPListener) { l.RequireAuth = true },
	"xclient":         func(l *SMTPListener) { l.XCLIENTNetworks = networks("203.0.113.0/24") },
	"ignore_controls": func(l *SMTPListener) { l.IgnoreControlHeaders = true },
}

func playDialogue(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from, accepted := "192.0.2.1", 0
	var change func(*SMTPListener)
	var turns []string
	want := [][]string{nil}
	client := false
	for n, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "from":
			from = rest
		case "set":
			if change = listenerSettings[rest]; change == nil {
				t.Fatalf("%s:%d: no setting %q", file, n+1, rest)
			}
		case "accepted":
			_, err = fmt.Sscan(rest, &accepted)
		case "C:", "C>":
			said := rest + "\r\n"
			if word == "C>" {
				_, err = fmt.Sscanf(rest, "%q", &said)
			}
			if !client {
				turns, want = append(turns, ""), append(want, nil)
			}
			turns[len(turns)-1] += said
			client = true
		case "S:":
			want[len(want)-1] = append(want[len(want)-1], rest)
			client = false
		default:
			t.Fatalf("%s:%d: cannot read %q", file, n+1, line)
		}
		if err != nil {
			t.Fatalf("%s:%d: %v", file, n+1, err)
		}
	}
	s := newTestServer(t, change)
	c := s.talkFrom(from, turns...)
	if len(c.out) > 0 {
		c.said = append(c.said, c.out)
	}
	for i := range max(len(want), len(c.said)) {
		var got, pattern string
		if i < len(c.said) {
			got = strings.TrimSuffix(string(c.said[i]), "\r\n")
		}
		if i < len(want) {
			pattern = strings.Join(want[i], "\r\n")
		}
		re := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^\r\n]*`) + "$"
		if !regexp.MustCompile(re).MatchString(got) {
			t.Errorf("turn %d: server said\n%s\nwant\n%s", i, got, pattern)
		}
	}
	if n := len(s.store.taken()); n != accepted {
		t.Errorf("%d messages accepted, want %d", n, accepted)
	}
	if n := s.buffers.lent.Load(); n != 0 {
		t.Errorf("%d bytes of content buffers were not given back", n)
	}
}

type recorder struct{ lines []string }

func (r *recorder) Match(client netip.Addr, _ string) bool {
	return client == netip.MustParseAddr("203.0.113.5")
}

func (r *recorder) Line(_ uint64, _ netip.Addr, sent bool, line []byte) {
	r.lines = append(r.lines, fmt.Sprintf("%v %s", sent, line))
}

func TestTraceShowsTheDialogueWithoutSecrets(t *testing.T) {
	s := newTestServer(t, nil)
	r := &recorder{}
	s.SetTracer(r)
	s.talk("EHLO other.test\r\n", "QUIT\r\n")
	if len(r.lines) != 0 {
		t.Errorf("traced without a match: %q", r.lines)
	}
	s.talkFrom("203.0.113.5", "HELO c.test\r\n", "EHLO c.test\r\n", "AUTH LOGIN dXNlcg==\r\n", "c2VjcmV0\r\n", "AUTH PLAIN \x01c2VjcmV0\r\n",
		envelope+"DATA\r\n", "Subject: private\r\n\r\n.\r\n")
	all := strings.Join(r.lines, "\n")
	for _, want := range []string{"true 220 mx.test ESMTP", "false HELO c.test", "true 250 ENHANCEDSTATUSCODES", "false AUTH ***", "false ***",
		"true 235 2.7.0 Authentication successful", "false (content, bytes) 23", "true 250 2.0.0 Ok: queued as "} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, "c2VjcmV0") || strings.Contains(all, "private") || strings.Contains(all, "dXNlcg") {
		t.Errorf("secrets in\n%s", all)
	}
	s.SetTracer(nil)
}
