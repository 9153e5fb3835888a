package bench

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
)

// inbox keeps what a sink receives.
type inbox struct {
	mu struct {
		sync.Mutex
		messages []sink.Received
	}
}

func (b *inbox) message(r *sink.Received) string {
	c := *r
	c.Data, c.To = bytes.Clone(r.Data), slices.Clone(r.To)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.messages = append(b.mu.messages, c)
	return ""
}

// all is what has come so far.
func (b *inbox) all() []sink.Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mu.messages)
}

// wait waits for the n-th message that holds the text and returns it.
func (b *inbox) wait(tb testing.TB, text string) sink.Received {
	tb.Helper()
	var found *sink.Received
	peers.Until(tb, 20*time.Second, fmt.Sprintf("a message with %q", text), func() bool {
		for _, r := range b.all() {
			if bytes.Contains(r.Data, []byte(text)) {
				found = &r
			}
		}
		return found != nil
	})
	return *found
}

// doors are the listeners of an operator's first hikyaku.yaml: submission with
// STARTTLS, with TLS from the first byte, and one that nobody may relay on.
type doors struct {
	*peers.Hikyaku
	inbox                        *inbox
	submission, implicit, closed string
}

const doorsPassword = "correct horse"

func openDoors(t *testing.T) *doors {
	t.Helper()
	d := &doors{inbox: &inbox{}}
	s := startSink(t, sink.Options{Message: d.inbox.message})
	cert, key := peers.Certificate(t, "mta1.sender.test")
	for _, addr := range []*string{&d.submission, &d.implicit, &d.closed} {
		*addr = fmt.Sprintf("127.0.0.1:%d", peers.FreePort(t, "127.0.0.1"))
	}
	files := fmt.Sprintf("cert_file: %s, key_file: %s, require_auth: true, auth_failure_delay: 10ms", cert, key)
	hash := exec.Command(peers.Binary(t), "secret", "hash")
	hash.Stdin = strings.NewReader(doorsPassword + "\n")
	hashed, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	d.Hikyaku = peers.StartHikyaku(t, peers.HikyakuOptions{
		SMTPKeys: "max_message_size: 65536",
		SMTP: []string{
			fmt.Sprintf("listen: %q, %s", d.submission, files), fmt.Sprintf("listen: %q, tls: implicit, %s", d.implicit, files), fmt.Sprintf("listen: %q", d.closed),
		},
		Policy: route(s.Addr) + fmt.Sprintf("---\nkind: Tenant\nname: shop\nspec:\n  smtp_users: [{name: shop, password_hash: '%s'}]\n  sender_domains: [sender.test]\n", strings.TrimSpace(string(hashed))),
	})
	return d
}

// swaks runs one dialogue and returns it.
func swaks(tb testing.TB, args ...string) (dialogue string, ok bool) {
	tb.Helper()
	base := []string{"--from", "a@sender.test", "--helo", "client.test", "--timeout", "20"}
	if !slices.Contains(args, "--to") {
		base = append(base, "--to", "b@example.test")
	}
	out, err := exec.Command(peers.Find(tb, "swaks", "swaks"), append(base, args...)...).CombinedOutput()
	return string(out), err == nil
}

// TestSwaksAtEveryDoor holds the dialogues that docs/operations.md promises.
func TestSwaksAtEveryDoor(t *testing.T) {
	d := openDoors(t)
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("a line of the body\n"), 4000), 0o600); err != nil {
		t.Fatal(err)
	}
	login := func(kind, password string) []string {
		return []string{"--auth", kind, "--auth-user", "shop", "--auth-password", password}
	}
	starttls, implicit := []string{"--server", d.submission, "--tls"}, []string{"--server", d.implicit, "--tlsc"}
	const queued = "250 2.0.0 Ok: queued as "
	accepted := 0
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"STARTTLS PLAIN":                {append(login("PLAIN", doorsPassword), starttls...), queued},
		"STARTTLS LOGIN":                {append(login("LOGIN", doorsPassword), starttls...), queued},
		"implicit TLS PLAIN":            {append(login("PLAIN", doorsPassword), implicit...), queued},
		"implicit TLS LOGIN":            {append(login("LOGIN", doorsPassword), implicit...), queued},
		"wrong password":                {append(login("PLAIN", "guess"), starttls...), "535 5.7.8 "},
		"login before TLS":              {append(login("PLAIN", doorsPassword), "--server", d.submission), "Host did not advertise authentication"},
		"no login":                      {starttls, "530 5.7.0 "},
		"other sender":                  {append(login("PLAIN", doorsPassword), "--server", d.implicit, "--tlsc", "--from", "a@other.test"), "553 5.7.1 "},
		"other From header":             {append(login("PLAIN", doorsPassword), "--server", d.implicit, "--tlsc", "--h-From", "a@other.test"), "553 5.7.1 "},
		"stranger":                      {[]string{"--server", d.closed}, "550 5.7.1 Relaying denied"},
		"stranger, percent hack":        {[]string{"--server", d.closed, "--to", "b%example.test@mta1.sender.test"}, "550 5.7.1 "},
		"stranger, bang path":           {[]string{"--server", d.closed, "--to", "example.test!b@mta1.sender.test"}, "550 5.7.1 "},
		"stranger, quoted address":      {[]string{"--server", d.closed, "--to", `"b@example.test"@mta1.sender.test`}, "550 5.7.1 "},
		"stranger, source route":        {[]string{"--server", d.closed, "--to", "@mta1.sender.test:b@example.test"}, "550 5.7.1 "},
		"stranger with the null sender": {[]string{"--server", d.closed, "--from", "<>"}, "550 5.7.1 "},
		"pipelined":                     {[]string{"--server", d.SMTP, "--pipeline"}, queued},
		"too large":                     {[]string{"--server", d.SMTP, "--body", "@" + big}, "552 5.3.4 "},
	} {
		out, ok := swaks(t, c.args...)
		if !strings.Contains(out, c.want) || ok != (c.want == queued) {
			t.Errorf("%s: want %q\n%s", name, c.want, out)
		}
		if c.want == queued {
			accepted++
		}
	}
	peers.Until(t, 20*time.Second, "the accepted messages at the receiver", func() bool { return len(d.inbox.all()) >= accepted })
	events := d.CLI(t, "events", "search", "--type", "accepted", "--json")
	if n := strings.Count(events, "\n"); n != accepted {
		t.Errorf("%d messages accepted, %d of them wanted:\n%s", n, accepted, events)
	}
	if n := strings.Count(events, `"from":"user shop 127.0.0.1"`); n != 4 || strings.Count(events, `"tenant":"shop"`) != 4 {
		t.Errorf("%d of 4 events name the user:\n%s", n, events)
	}
}

// TestControlHeaders: X-Hikyaku headers are obeyed and never delivered.
func TestControlHeaders(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	send := func(subject string, headers ...string) (id string) {
		t.Helper()
		args := []string{"--server", h.SMTP, "--h-Subject", subject}
		for _, header := range headers {
			args = append(args, "--add-header", header)
		}
		out, ok := swaks(t, args...)
		_, rest, found := strings.Cut(out, "queued as ")
		if !ok || !found {
			t.Fatalf("not accepted:\n%s", out)
		}
		return strings.Fields(rest)[0]
	}
	send("now", "X-Hikyaku-Job: autumn", "X-Hikyaku-Tags: red, blue", `X-Hikyaku-Metadata: {"order": 7}`, "X-Hikyaku-Priority: high")
	if m := in.wait(t, "Subject: now"); bytes.Contains(bytes.ToLower(m.Data), []byte("x-hikyaku")) {
		t.Errorf("a control header was delivered:\n%s", m.Data)
	}
	if out := h.CLI(t, "events", "search", "--job", "autumn", "--tag", "blue", "--json"); strings.Count(out, "\n") != 2 || !strings.Contains(out, `"order":7`) {
		t.Errorf("accepted and delivered, with job, tags and metadata:\n%s", out)
	}

	later := send("later", "X-Hikyaku-Send-At: "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	send("after that")
	in.wait(t, "Subject: after that")
	if len(in.all()) != 2 {
		t.Error("a message was sent before its time")
	}
	if out := h.CLI(t, "queue", "why", "example.test"); !strings.Contains(out, "nothing is due before") {
		t.Errorf("queue why: %s", out)
	}
	state := func() any {
		status, m := h.Get(t, "http://"+h.HTTP+"/v1/messages/"+later)
		if status != 200 {
			t.Fatalf("status of %s: %d %v", later, status, m)
		}
		return m["deliveries"].([]any)[0].(map[string]any)["recipients"].([]any)[0].(map[string]any)["state"]
	}
	if state() != "queued" {
		t.Errorf("before its time it is %v", state())
	}
	if status, answer := h.Send(t, "DELETE", "/v1/messages/"+later, nil); status != 200 || answer["cancelled"] != 1.0 {
		t.Errorf("cancel: %d %v", status, answer)
	}
	if state() != "cancelled" {
		t.Errorf("after the cancel it is %v", state())
	}
	if out, ok := swaks(t, "--server", h.SMTP, "--add-header", "X-Hikyaku-Sned-At: 2030-01-01T00:00:00Z"); ok || !strings.Contains(out, "550 5.6.0 ") {
		t.Errorf("an unknown control header was accepted:\n%s", out)
	}
}

// pythonClient is a client of another make: Python's smtplib asks for SMTPUTF8
// where an address needs it, and is driven by hand through BDAT.
const pythonClient = `
import smtplib, sys
s = smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=20)
s.ehlo("client.test")
assert s.has_extn("smtputf8") and s.has_extn("chunking") and s.has_extn("8bitmime"), s.esmtp_features
body = "Subject: 日本語の件名\r\nFrom: a@sender.test\r\nTo: 太郎@example.test\r\n\r\nこんにちは\r\n".encode()
s.sendmail("a@sender.test", ["太郎@例え.test"], body, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
def want(code, answer):
    assert answer[0] == code, answer
want(250, s.mail("a@sender.test"))
want(250, s.rcpt("b@example.test"))
for chunk, last in ((b"Subject: in chunks\r\n", ""), (b"\r\nfirst\r\n.\r\n", ""), (b"second\r\n", " LAST")):
    s.send(b"BDAT %d%s\r\n" % (len(chunk), last.encode()) + chunk)
    want(250, s.getreply())
s.quit()
`

func TestPythonSendsUTF8AndChunks(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	host, port, _ := net.SplitHostPort(h.SMTP)
	if out, err := exec.Command(peers.Find(t, "python3", "python3"), "-c", pythonClient, host, port).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The domain goes out in its A-label form; the local part needs SMTPUTF8.
	if m := in.wait(t, "Subject: 日本語の件名"); len(m.To) != 1 || m.To[0] != "太郎@xn--r8jz45g.test" || !bytes.Contains(m.Data, []byte("こんにちは")) {
		t.Errorf("to %q:\n%s", m.To, m.Data)
	}
	if m := in.wait(t, "Subject: in chunks"); !bytes.HasSuffix(m.Data, []byte("\r\n\r\nfirst\r\n.\r\nsecond\r\n")) {
		t.Errorf("chunks arrived as:\n%q", m.Data)
	}
}
