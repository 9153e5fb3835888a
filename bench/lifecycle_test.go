package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
)

// dialogue is one SMTP client by hand, for what no client does.
type dialogue struct {
	tb   testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(tb testing.TB, addr string) *dialogue {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	d := &dialogue{tb, conn, bufio.NewReader(conn)}
	d.want("220")
	return d
}

// want reads one reply and checks its code.
func (d *dialogue) want(code string) {
	d.tb.Helper()
	for {
		line, err := d.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, code) {
			d.tb.Fatalf("want %s, got %q, %v", code, line, err)
		}
		if len(line) > 3 && line[3] == ' ' {
			return
		}
	}
}

func (d *dialogue) say(text, code string) {
	d.tb.Helper()
	if _, err := d.conn.Write([]byte(text + "\r\n")); err != nil {
		d.tb.Fatal(err)
	}
	d.want(code)
}

// TestDrainAndSecondStart: SIGTERM lets the transaction in hand end, the exit
// code is 0, and the second start finds everything, holds included.
func TestDrainAndSecondStart(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	h.CLI(t, "queue", "hold", "--all", "--reason", "until the second start")
	const queued = 20
	for i := range queued {
		if out, ok := swaks(t, "--server", h.SMTP, "--to", fmt.Sprintf("b@d%d.test", i), "--h-Subject", fmt.Sprintf("number %d", i)); !ok {
			t.Fatalf("not accepted:\n%s", out)
		}
	}
	idle, busy := dial(t, h.SMTP), dial(t, h.SMTP)
	for _, c := range []*dialogue{idle, busy} {
		c.say("EHLO client.test", "250")
	}
	busy.say("MAIL FROM:<a@sender.test>", "250")
	busy.say("RCPT TO:<b@last.test>", "250")
	busy.say("DATA", "354")
	if err := h.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	idle.want("421") // it has nothing in hand
	if c, err := net.Dial("tcp", h.SMTP); err == nil {
		c.Close()
		t.Error("a new connection was taken while draining")
	}
	busy.say("Subject: in hand\r\n\r\nx\r\n.", "250")
	busy.want("421")
	select {
	case <-h.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("the drain does not end")
	}
	if code := h.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}

	checkOffline(t, h, queued+1)
	h.Restart(t)
	if out := h.CLI(t, "actions", "ls"); !strings.Contains(out, "until the second start") {
		t.Errorf("the hold is lost:\n%s", out)
	}
	h.CLI(t, "queue", "release", "--all")
	for i := range queued {
		in.wait(t, fmt.Sprintf("Subject: number %d\r\n", i))
	}
	in.wait(t, "Subject: in hand")
	if n := len(in.all()); n != queued+1 {
		t.Errorf("%d messages were sent", n)
	}
}

// checkOffline looks into a copy of a stopped node's spool, as after a crash
// on another machine.
func checkOffline(t *testing.T, h *peers.Hikyaku, queued int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(h.Dir, "data", "spool"))); err != nil {
		t.Fatal(err)
	}
	out, code := h.Run(t, "", "spool", "verify", dir)
	if code != 0 || !strings.Contains(out, "All records are sound.") {
		t.Errorf("spool verify: exit code %d\n%s", code, out)
	}
	if out := h.CLI(t, "spool", "verify", dir, "--json"); !json.Valid([]byte(out)) {
		t.Errorf("spool verify --json: %s", out)
	}
	out = h.CLI(t, "spool", "stats", dir)
	if want := fmt.Sprintf("%d deliveries in %d queues for %d destinations", queued, queued, queued); !strings.Contains(out, want) {
		t.Errorf("spool stats lacks %q:\n%s", want, out)
	}
	lines := 0
	for line := range strings.Lines(h.CLI(t, "spool", "dump", dir)) {
		if lines++; !json.Valid([]byte(line)) {
			t.Errorf("spool dump: not JSON: %s", line)
		}
	}
	if lines != queued {
		t.Errorf("spool dump has %d lines, %d are queued", lines, queued)
	}
	if out, code := h.Run(t, "", "spool", "verify", filepath.Join(dir, "none")); code != 1 || !strings.Contains(out, "no such file") {
		t.Errorf("spool verify of nothing: exit code %d\n%s", code, out)
	}
}

// TestSecondProcessIsRefused: two on one data directory would send twice.
func TestSecondProcessIsRefused(t *testing.T) {
	s := startSink(t, sink.Options{})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	other := filepath.Join(t.TempDir(), "other.yaml")
	text := fmt.Sprintf("node: {data_dir: %s}\ningest: {smtp: [{listen: '127.0.0.1:0'}], http: {listen: '127.0.0.1:0'}}\nadmin: {listen: '127.0.0.1:0'}\n", filepath.Join(h.Dir, "data"))
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := h.Run(t, "", "serve", "--config", other)
	if code != 1 || !strings.Contains(out, "in use") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := h.Run(t, "", "spool", "verify", filepath.Join(h.Dir, "data", "spool")); code != 1 || !strings.Contains(out, "in use") {
		t.Errorf("spool verify beside the node: exit code %d: %s", code, out)
	}
	if _, ok := swaks(t, "--server", h.SMTP); !ok {
		t.Error("the first one was disturbed")
	}
}

// TestConfigErrorsHaveAPlace: what is wrong in a file is said with line and
// column, and nothing is started.
func TestConfigErrorsHaveAPlace(t *testing.T) {
	h := &peers.Hikyaku{Admin: "127.0.0.1:1"}
	for text, want := range map[string]string{
		"node: {nmae: x}\n":                                          `hikyaku.yaml:1:8: node.nmae: unknown key "nmae"; did you mean "name"?`,
		"ingest:\n  smtp:\n    - listen: nowhere\n":                  "hikyaku.yaml:3:15: ingest.smtp[0].listen: ",
		"node: {name: a}\nnode: {name: b}\n":                         "hikyaku.yaml:2:",
		"node: [\n":                                                  "hikyaku.yaml:",
		"spool: {min_free_percent: '5'}\n":                           "hikyaku.yaml:1:27: spool.min_free_percent: ",
		"ingest: {smtp: [{listen: '127.0.0.1:1', tls: implicit}]}\n": "ingest.smtp[0].tls: implicit: needs cert_file and key_file",
		"admin: {listen: '0.0.0.0:8080'}\n":                          "hikyaku.yaml:1:17: admin.listen: 0.0.0.0:8080 can be reached from the network",
	} {
		file := filepath.Join(t.TempDir(), "hikyaku.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"serve", "--config", file}, {"config", "check", "--config", file}} {
			if out, code := h.Run(t, "", args...); code != 1 || !strings.Contains(out, want) || strings.Count(out, "\n") > 3 {
				t.Errorf("%s of %q: exit code %d, want %q:\n%s", args[0], text, code, want, out)
			}
		}
	}
}

// TestEveryListingIsJSON: --json prints one JSON document, logs a document a
// line, and neither prints colours into a pipe.
func TestEveryListingIsJSON(t *testing.T) {
	in := &inbox{}
	s := startSink(t, sink.Options{Message: in.message})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	h.CLI(t, "queue", "hold", "held.test")
	for _, to := range []string{"b@sent.test", "b@held.test"} {
		if out, ok := swaks(t, "--server", h.SMTP, "--to", to, "--add-header", "X-Hikyaku-Job: j1"); !ok {
			t.Fatal(out)
		}
	}
	in.wait(t, "Subject: test")
	held := strings.Fields(h.CLI(t, "queue", "show", "held.test"))
	id := held[12] // the second cell below the header's NODE, DELIVERY … REPLY, "DUE IN" and "EXPIRES IN" being two words each
	for _, line := range []string{"queue ls", "queue show held.test", "queue why held.test", "queue why", "message show " + id, "job ls", "job show default/j1", "actions ls",
		"get", "get Route", "get Route sink", "history", "top --once", "events search", "events tail --since 1h --limit 2", "version", "config reference"} {
		args := append(strings.Fields(line), "--json")
		plain, code := h.Run(t, "", args[:len(args)-1]...)
		if code != 0 || strings.Contains(plain, "\x1b") {
			t.Errorf("%s: exit code %d, or colours in a pipe:\n%s", line, code, plain)
		}
		if line == "config reference" {
			continue // a page of text
		}
		out := h.CLI(t, args...)
		documents := []string{out}
		if strings.HasPrefix(line, "events") {
			documents = strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		}
		for _, d := range documents {
			if !json.Valid([]byte(d)) {
				t.Errorf("%s --json: not JSON:\n%s", line, d)
			}
		}
	}
	out := h.CLI(t, "completion", "bash")
	if !strings.Contains(out, "__start_hikyaku") {
		t.Errorf("completion bash:\n%.300s", out)
	}
}
