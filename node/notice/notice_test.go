package notice_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/node/notice"
	"hikyaku/spool/message"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestWanted(t *testing.T) {
	const sender = "a@example.com"
	const (
		never, success   = message.NotifyNever, message.NotifySuccess
		failure, delayed = message.NotifyFailure, message.NotifyDelay
	)
	all := []notice.Kind{notice.Failed, notice.Delayed, notice.Delivered, notice.Relayed}
	for _, c := range []struct {
		policy, sender string
		notify         message.Notify
		want           string // of "FDSR", which kinds are wanted
	}{
		{"", sender, 0, "F"},
		{"failure", sender, 0, "F"},
		{"failure", sender, never, ""},
		{"failure", sender, failure, "F"},
		{"failure", sender, delayed, ""},
		{"failure", sender, success, ""},
		{"failure", sender, success | failure | delayed, "F"},
		{"full", sender, 0, "FD"},
		{"full", sender, never, ""},
		{"full", sender, failure, "F"},
		{"full", sender, delayed, "D"},
		{"full", sender, success, "SR"},
		{"full", sender, success | failure, "FSR"},
		{"full", sender, success | failure | delayed, "FDSR"},
		{"full", sender, never | success | failure | delayed, ""},
		{"never", sender, 0, ""},
		{"never", sender, success | failure | delayed, ""},
		{"", "", 0, ""},
		{"failure", "", failure, ""},
		{"full", "", 0, ""},
		{"full", "", success | failure | delayed, ""},
	} {
		got := ""
		for i, k := range all {
			if notice.Wanted(c.policy, c.sender, c.notify, k) {
				got += "FDSR"[i : i+1]
			}
		}
		if got != c.want {
			t.Errorf("policy %q, sender %q, notify %04b: %q, want %q", c.policy, c.sender, c.notify, got, c.want)
		}
	}
}

var t0 = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func id(t testing.TB, s string) message.ID {
	t.Helper()
	v, err := message.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const content = "Received: from client.example by tokyo-1.example; Sun, 22 Nov 2026 07:00:00 +0000\r\n" +
	"From: Courier <a@example.com>\r\nTo: b@example.net\r\nSubject: hello\r\n" +
	"Message-ID: <1@example.com>\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n\r\nHello there.\r\n"

// base is a plain failure; cases change what they are about.
func base(t testing.TB) *notice.Notice {
	return &notice.Notice{
		Kind: notice.Failed, Host: "tokyo-1.example", To: "a@example.com",
		ID: id(t, "01jd3q8v5x2m9k7c4t6r0w1yza"), Now: t0,
		Original: &message.Message{
			ID: id(t, "01jd3q8v5x2m9k7c4t6r0w1yz0"), Sender: "a@example.com", EnvID: "QQ314159", Accepted: t0.Add(-time.Hour),
		},
		Content: []byte(content),
		Recipients: []notice.Recipient{{
			Address: "b@example.net", ORcpt: "rfc822;Bob+2BSpecial@example.net",
			Host: "mx1.example.net [192.0.2.1]:25", At: t0.Add(-time.Second),
			Reply: message.Reply{
				Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 1}, Phase: message.PhaseRcpt,
				Text: "The email account that you tried to reach does not exist.\nPlease try double-checking the recipient's email address for typos.",
			},
		}},
	}
}

// cases are one notice a golden file.
var cases = []struct {
	name string
	edit func(*notice.Notice)
}{
	{"failed", func(*notice.Notice) {}},
	{"failed-full", func(n *notice.Notice) {
		n.Full, n.Original.Return = true, message.ReturnFull
	}},
	{"failed-full-8bit", func(n *notice.Notice) {
		n.Full, n.Original.Return = true, message.ReturnFull
		n.Content = append(n.Content, "飛脚\r\n"...)
	}},
	{"failed-header-8bit", func(n *notice.Notice) {
		n.Content = bytes.Replace(n.Content, []byte("hello"), []byte("飛脚が参りました"), 1)
	}},
	{"expired", func(n *notice.Notice) {
		r := &n.Recipients[0]
		r.ORcpt, r.Host = "", ""
		r.Reply = message.Fail(451, message.Enhanced{Class: 4, Subject: 4, Detail: 1}, message.PhaseConnect, message.FaultTimeout, "no host took a connection")
	}},
	{"several", func(n *notice.Notice) {
		r := n.Recipients[0]
		r.Address, r.ORcpt, r.At = "c@example.net", "", time.Time{}
		r.Reply = message.Fail(556, message.Enhanced{Class: 5, Subject: 1, Detail: 10}, message.PhaseResolve, message.FaultDNS, "domain example.net does not accept mail (null MX)")
		r.Host = ""
		n.Recipients = append(n.Recipients, r)
		r.Reply = message.Reply{Code: 554, Text: "no"}
		n.Recipients = append(n.Recipients, r)
	}},
	{"delayed", func(n *notice.Notice) {
		n.Kind, n.Full, n.Original.Return = notice.Delayed, true, message.ReturnFull // the whole goes back with failures only
		r := &n.Recipients[0]
		r.Until = t0.Add(68 * time.Hour)
		r.Reply = message.Reply{Code: 421, Enhanced: message.Enhanced{Class: 4, Subject: 7}, Text: "Try again later"}
	}},
	{"delivered", func(n *notice.Notice) {
		n.Kind = notice.Delivered
		n.Recipients[0].Reply = message.Reply{Code: 250, Enhanced: message.Enhanced{Class: 2}, Text: "Ok: queued as 4B7"}
	}},
	{"relayed", func(n *notice.Notice) {
		n.Kind = notice.Relayed
		n.Recipients[0].Reply = message.Reply{Code: 250, Text: "Ok"}
	}},
	{"utf8", func(n *notice.Notice) {
		n.To, n.Recipients[0].Address, n.Original.UTF8 = "送信@例え.jp", "受信@例え.jp", true
		n.Recipients[0].ORcpt = "utf-8;\\x{53D7}\\x{4FE1}@example.jp"
		n.Recipients[0].Reply.Text = "受信者がいません"
		n.Content = bytes.Replace(n.Content, []byte("hello"), []byte("飛脚"), 1)
		n.Full, n.Original.Return = true, message.ReturnFull
	}},
	{"hostile", func(n *notice.Notice) {
		n.Original.EnvID = "x\r\nAction: delivered\x00"
		r := &n.Recipients[0]
		r.ORcpt = "rfc822;x+0D+0AStatus: 2.0.0"
		r.Host = "mx\r\nX: y [192.0.2.1]:25"
		r.Reply.Text = "a\r\n\r\n--boundary\x1b[2J\x00 \xff\xfe 日本語 \u0085\n" + strings.Repeat("long ", 400) + strings.Repeat("x", 1500)
		n.Content = []byte("Message-ID: <x\x0b>\r\nSubject: --=_01jd3q8v5x2m9k7c4t6r0w1yza--\r\n\r\n")
	}},
	{"no-content", func(n *notice.Notice) {
		n.Content, n.From = nil, "postmaster@example.com"
		n.Original.EnvID, n.Original.Accepted = "", time.Time{}
	}},
	{"unsound-content", func(n *notice.Notice) {
		n.Full, n.Original.Return = true, message.ReturnFull
		n.Content = append(n.Content, strings.Repeat("x", 1200)+"\r\n"...)
	}},
}

func TestGolden(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := base(t)
			c.edit(n)
			got := notice.Build([]byte("kept"), n)
			if !bytes.HasPrefix(got, []byte("kept")) {
				t.Fatal("what was in the buffer is gone")
			}
			got = got[4:]
			check(t, n, got)
			file := filepath.Join("testdata", c.name+".eml")
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\r\n"), strings.Split(string(got), "\r\n")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// check holds the invariants that no input may break.
func check(t *testing.T, n *notice.Notice, raw []byte) {
	t.Helper()
	for i, line := range bytes.Split(raw, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %d of %d bytes is not a line: %.80q", i, len(line), line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	for name := range m.Header {
		if !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Auto-Submitted", "Mime-Version", "Content-Type"}, name) {
			t.Errorf("header field %s", name)
		}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("type %q, %v", m.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var bodies []string
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	if len(bodies) != 3 {
		t.Fatalf("%d parts, want 3\n%s", len(bodies), raw)
	}
	for _, c := range bodies[0] + bodies[1] {
		if (c < ' ' && c != '\r' && c != '\n') || (c >= 0x7f && c < 0xa0) || c == '\ufffd' {
			t.Errorf("control byte %#x in what we wrote", c)
		}
	}
	blocks := strings.Split(strings.TrimSuffix(bodies[1], "\r\n"), "\r\n\r\n")
	if len(blocks) != 1+len(n.Recipients) {
		t.Fatalf("%d blocks for %d recipients:\n%s", len(blocks), len(n.Recipients), bodies[1])
	}
	for _, block := range blocks[1:] {
		block = "\r\n" + block
		if strings.Count(block, "\r\nAction: ") != 1 || !strings.Contains(block, "\r\nAction: "+n.Kind.String()+"\r\n") || strings.Count(block, "\r\nStatus: ") != 1 {
			t.Errorf("block:\n%s", block)
		}
	}
}

func TestEnvelope(t *testing.T) {
	for _, c := range cases {
		n := base(t)
		c.edit(n)
		raw := notice.Build(nil, n)
		body, utf8 := notice.BodyOf(raw), notice.NeedsUTF8(n)
		wantBody := message.Body7Bit
		if c.name == "utf8" || c.name == "failed-full-8bit" {
			wantBody = message.Body8BitMIME
		}
		if body != wantBody || utf8 != (c.name == "utf8") {
			t.Errorf("%s: body %d, SMTPUTF8 %v", c.name, body, utf8)
		}
	}
}

// Content and header over their bounds are cut, and stay well formed.
func TestBounds(t *testing.T) {
	n := base(t)
	n.Full, n.Original.Return = true, message.ReturnFull
	n.Content = []byte(content + strings.Repeat("line\r\n", notice.MaxContent/6))
	raw := notice.Build(nil, n)
	check(t, n, raw)
	if len(raw) > 10_000 {
		t.Errorf("notice of %d bytes for content over the bound", len(raw))
	}
	n.Full = false
	n.Content = []byte(strings.Repeat("X-Padding: "+strings.Repeat("x", 80)+"\r\n\tfolded\r\n", 2000) + content)
	raw = notice.Build(nil, n)
	check(t, n, raw)
	if len(raw) > notice.MaxHeader+10_000 || !bytes.Contains(raw, []byte("\tfolded\r\n\r\n--=_")) {
		t.Errorf("notice of %d bytes for a header over the bound, ending %q", len(raw), raw[len(raw)-100:])
	}
}

// pythonScript prints what Python's email package reads in the message.
const pythonScript = `
import email, email.policy, json, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP.clone(utf8=True))
out = {"types": [], "defects": [], "blocks": [], "to": m["To"], "subject": m["Subject"], "report": m["Content-Type"].params.get("report-type", "")}
for p in m.walk():
    out["types"].append(p.get_content_type())
    out["defects"] += [repr(d) for d in p.defects]
human = m.get_payload(0)
out["human"] = human.get_content()
status = m.get_payload(1)
blocks = status.get_payload()
if status.get_content_type() == "message/global-delivery-status": # unknown to Python: a message with the first block as its header
    text = blocks[0].as_bytes(policy=email.policy.compat32).decode("utf-8").replace("\r\n", "\n")
    blocks = [email.message_from_string(b, policy=email.policy.default) for b in text.strip().split("\n\n")]
for b in blocks:
    if b.items():
        out["blocks"].append({k: " ".join(str(v).split()) for k, v in b.items()})
json.dump(out, sys.stdout)
`

// Python's email package, an independent reader, understands every notice.
func TestPythonReads(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		missingPeer(t, "python3 is missing: install the package python3")
	}
	read := map[string]parsed{}
	for _, c := range cases {
		n := base(t)
		c.edit(n)
		cmd := exec.Command("python3", "-c", pythonScript)
		cmd.Stdin = bytes.NewReader(notice.Build(nil, n))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", c.name, err, stderr.String())
		}
		var p parsed
		if err := json.Unmarshal(out, &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Defects) > 0 || p.Report != "delivery-status" || p.To != "<"+n.To+">" && p.To != n.To || len(p.Blocks) != 1+len(n.Recipients) {
			t.Errorf("%s: %+v", c.name, p)
		}
		read[c.name] = p
	}
	for _, c := range []struct{ name, field, want string }{
		{"failed", "Original-Recipient", "rfc822; Bob+Special@example.net"},
		{"failed", "Final-Recipient", "rfc822; b@example.net"},
		{"failed", "Action", "failed"},
		{"failed", "Status", "5.1.1"},
		{"failed", "Remote-MTA", "dns; mx1.example.net"},
		{"failed", "Diagnostic-Code", "smtp; 550-5.1.1 The email account that you tried to reach does not exist. 550 5.1.1 Please try double-checking the recipient's email address for typos."},
		{"failed", "Last-Attempt-Date", "Sun, 22 Nov 2026 07:59:59 +0000"},
		{"expired", "Status", "4.4.7"},
		{"expired", "Diagnostic-Code", "x-hikyaku; 451 4.4.1 no host took a connection"},
		{"delayed", "Will-Retry-Until", "Wed, 25 Nov 2026 04:00:00 +0000"},
		{"delayed", "Status", "4.7.0"},
		{"delivered", "Action", "delivered"},
		{"relayed", "Status", "2.0.0"},
		{"utf8", "Final-Recipient", "utf-8; 受信@例え.jp"},
		{"utf8", "Diagnostic-Code", "smtp; 550 5.1.1 受信者がいません"},
		{"hostile", "Action", "failed"},
		{"hostile", "Remote-MTA", ""},
	} {
		if got := read[c.name].Blocks[1][c.field]; got != c.want {
			t.Errorf("%s: %s: %q, want %q", c.name, c.field, got, c.want)
		}
	}
	if got := read["failed"].Blocks[0]; got["Original-Envelope-Id"] != "QQ314159" || got["Reporting-MTA"] != "dns; tokyo-1.example" || got["Arrival-Date"] != "Sun, 22 Nov 2026 07:00:00 +0000" {
		t.Errorf("per-message fields: %v", got)
	}
	for name, want := range map[string]string{
		"failed":           "multipart/report text/plain message/delivery-status text/plain text/plain text/rfc822-headers",
		"failed-full":      "multipart/report text/plain message/delivery-status text/plain text/plain message/rfc822 text/plain",
		"delayed":          "multipart/report text/plain message/delivery-status text/plain text/plain text/rfc822-headers",
		"failed-full-8bit": "multipart/report text/plain message/delivery-status text/plain text/plain message/rfc822 text/plain",
		"unsound-content":  "multipart/report text/plain message/delivery-status text/plain text/plain text/rfc822-headers",
	} {
		if got := strings.Join(read[name].Types, " "); got != want {
			t.Errorf("%s: parts %s, want %s", name, got, want)
		}
	}
	h := read["failed"].Human
	for _, want := range []string{"could not be delivered", "配信できませんでした", "<b@example.net>", "mx1.example.net [192.0.2.1]:25", "double-checking"} {
		if !strings.Contains(h, want) {
			t.Errorf("the text for people lacks %q:\n%s", want, h)
		}
	}
	if !strings.Contains(read["failed"].Subject, "メールを配信できませんでした") || !strings.Contains(read["delayed"].Human, "2026年11月25日 13:00 JST") {
		t.Errorf("Japanese: %q\n%s", read["failed"].Subject, read["delayed"].Human)
	}
}

type parsed struct {
	Types, Defects             []string
	Blocks                     []map[string]string
	To, Subject, Report, Human string
}

// FuzzBuild: what remote servers and clients wrote breaks no invariant.
func FuzzBuild(f *testing.F) {
	f.Add("550 no", "mx.example [192.0.2.1]:25", "rfc822;x+2Bx", "env", []byte(content), uint8(0), uint16(550), true)
	f.Add("a\r\n\x00\xff日本\n\n ", "\r\n", ";", "\r\n", []byte("\r\n\r\n"), uint8(1), uint16(451), false)
	f.Add(strings.Repeat("x", 3000), "", "utf-8;+", "", []byte("Subject:\r\n\r\n\x00"), uint8(2), uint16(250), true)
	f.Fuzz(func(t *testing.T, text, host, orcpt, envID string, body []byte, kind uint8, code uint16, full bool) {
		n := base(t)
		n.Kind = notice.Kind(kind % 4)
		n.Content, n.Full = body, full
		n.Original.EnvID, n.Original.UTF8 = envID, kind&4 != 0
		if full {
			n.Original.Return = message.ReturnFull
		}
		r := &n.Recipients[0]
		r.Reply.Text, r.Reply.Code, r.Host, r.ORcpt = text[:min(len(text), message.MaxReplyText)], code, host, orcpt
		if len(host) > 300 || len(orcpt) > 500 || len(envID) > 100 {
			return // bounded where they come in
		}
		check(t, n, notice.Build(nil, n))
	})
}

func BenchmarkBuild(b *testing.B) {
	n := base(b)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = notice.Build(dst[:0], n)
	}
}

// missingPeer skips, or fails where peers are required (make test).
func missingPeer(t *testing.T, text string) {
	t.Helper()
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}
