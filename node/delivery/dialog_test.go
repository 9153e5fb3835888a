package delivery_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/spool/message"
)

// A dialog is a story in testdata/dialog: settings and jobs, a line "---", what
// server and client say, a line "---", and what came of it.
//
//	S: line       the server says line and CRLF; S" takes a Go string as it is
//	C: line       the client must say exactly this
//	!close        the server closes, !reset resets, !stall says nothing for ever
//	!tls          the server does its side of a handshake, !garbage writes none of it
//	!next         the rest is the next connection
type dialog struct {
	target *delivery.Target
	work   *fixedWork
	acts   [][]string // for each connection
	want   string
}

func loadDialog(t *testing.T, path string) *dialog {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(raw), "---\n", 3)
	if len(parts) != 3 {
		t.Fatalf("%s: want three parts", path)
	}
	d := &dialog{target: sinkTarget(), work: &fixedWork{}, want: parts[2]}
	for _, line := range strings.Split(parts[0], "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "target":
			d.settings(t, rest)
		case "job":
			d.work.jobs = append(d.work.jobs, parseJob(t, rest))
		case "", "#":
		default:
			t.Fatalf("%s: unknown line %q", path, line)
		}
	}
	var acts []string
	for _, line := range strings.Split(strings.TrimSuffix(parts[1], "\n"), "\n") {
		if line == "!next" {
			d.acts = append(d.acts, acts)
			acts = nil
			continue
		}
		acts = append(acts, line)
	}
	d.acts = append(d.acts, acts)
	return d
}

func (d *dialog) settings(t *testing.T, line string) {
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "tls":
			m, ok := delivery.ParseTLSMode(v)
			if !ok {
				t.Fatalf("tls mode %q", v)
			}
			d.target.TLS = m
		case "user":
			d.target.Username, d.target.Password = v, policy.NewSecret("geheim")
		case "authplain":
			d.target.AuthPlaintext = true
		case "messages":
			d.target.MessagesPerConnection = n
		case "recipients":
			d.target.RecipientsPerConnection = n
		case "nopipelining":
			d.target.NoPipelining = true
		case "nochunking":
			d.target.NoChunking = true
		case "gap":
			d.target.IdleTimeout = time.Minute
			d.work.gap = func(i int) time.Duration { return time.Duration(i) * 10 * time.Second }
		default:
			t.Fatalf("unknown setting %q", k)
		}
	}
}

func parseJob(t *testing.T, line string) *delivery.Job {
	j := makeJob("s@a.example", []string{"r@b.example"}, "Subject: x\r\n\r\nhi\r\n")
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		if u, err := strconv.Unquote(v); err == nil {
			v = u
		}
		switch k {
		case "from":
			j.Sender = v
		case "to":
			j.Delivery.Recipients = nil
			for _, a := range strings.Split(v, ",") {
				j.Delivery.Recipients = append(j.Delivery.Recipients, message.Recipient{Address: a})
			}
		case "notify":
			for i := range j.Delivery.Recipients {
				j.Delivery.Recipients[i].Notify = message.NotifySuccess | message.NotifyFailure
				j.Delivery.Recipients[i].ORcpt = v
			}
		case "content":
			j.Content = &content{pieces: [][]byte{[]byte(strings.ReplaceAll(v, "_", " "))}}
		case "fail":
			j.Content = &content{err: fmt.Errorf("render: %w", &delivery.ContentError{
				Reply: message.Fail(554, message.Enhanced{Class: 5, Subject: 6}, message.PhasePolicy, message.FaultLocal, "template")})}
		case "max":
			j.MaxRecipients, _ = strconv.Atoi(v)
		case "body":
			j.Body = map[string]message.Body{"8bit": message.Body8BitMIME, "binary": message.BodyBinaryMIME}[v]
		case "utf8":
			j.UTF8 = true
		case "ret":
			j.Return = message.ReturnHeaders
		case "envid":
			j.EnvID = v
		case "deadline":
			d, err := time.ParseDuration(v)
			if err != nil {
				t.Fatal(err)
			}
			j.Deadline = time.Now().Add(d)
		default:
			t.Fatalf("unknown job setting %q", k)
		}
	}
	return j
}

// serve plays the server's part of one connection; what goes wrong is the
// returned text.
func (d *dialog) serve(n int, c *memConn) string {
	if n >= len(d.acts) {
		c.reset()
		return fmt.Sprintf("connection %d is not in the script", n+1)
	}
	defer c.Close()
	var conn net.Conn = c
	in := &lines{bufio.NewReader(conn)}
	var out strings.Builder
	flush := func() {
		_, _ = io.WriteString(conn, out.String())
		out.Reset()
	}
	for _, act := range d.acts[n] {
		if text, ok := strings.CutPrefix(act, "S: "); ok {
			out.WriteString(text + "\r\n")
			continue
		}
		if strings.HasPrefix(act, `S"`) {
			text, err := strconv.Unquote(act[1:])
			if err != nil {
				return "script: " + act
			}
			out.WriteString(text)
			continue
		}
		flush()
		switch {
		case strings.HasPrefix(act, "C:"):
			want := strings.TrimPrefix(act[2:], " ")
			got, err := in.next()
			if err != nil {
				return fmt.Sprintf("want client to say %q, got error %v", want, err)
			}
			if got != want {
				return fmt.Sprintf("client said %q, want %q", got, want)
			}
		case act == "!close":
			return ""
		case act == "!reset":
			c.reset()
			return ""
		case act == "!stall":
			_, _ = io.Copy(io.Discard, conn)
			return ""
		case act == "!garbage":
			_, _ = in.r.ReadByte()
			_, _ = io.WriteString(conn, "this is not TLS at all, sorry")
			return ""
		case act == "!tls":
			s := tls.Server(conn, serverTLS)
			if err := s.Handshake(); err != nil {
				return ""
			}
			conn = s
			in = &lines{bufio.NewReader(conn)}
		}
	}
	flush()
	if got, err := in.next(); err == nil {
		return fmt.Sprintf("client said %q after the end of the script", got)
	}
	return ""
}

func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/dialog/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d dialogs, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := loadDialog(t, path)
				got := d.run(t)
				if got != d.want {
					t.Errorf("%s\ngot:\n%swant:\n%s", path, got, d.want)
				}
			})
		})
	}
}

func (d *dialog) run(t *testing.T) string {
	var problems []string
	nw := &network{serve: func(n int, c *memConn) {
		if p := d.serve(n, c); p != "" {
			problems = append(problems, fmt.Sprintf("connection %d: %s", n+1, p))
		}
	}}
	d.target.RootCAs = rootCAs
	c := delivery.New(delivery.Options{Dial: nw.dial})
	var trace []string
	c.SetTrace(func(l delivery.TraceLine) {
		if strings.Contains(l.Text, "geheim") || strings.Contains(l.Text, "Z2VoZWlt") {
			t.Errorf("the trace shows a password: %s", l.Text)
		}
		dir := "S: "
		if l.Out {
			dir = "C: "
		}
		trace = append(trace, dir+l.Text)
	})
	ended := c.NewSession(d.target, d.work).Run(context.Background())
	nw.wg.Wait()
	for _, p := range problems {
		t.Error(p)
	}
	if len(d.work.extra) > 0 {
		t.Error(d.work.extra)
	}
	if t.Failed() {
		t.Logf("trace:\n%s", strings.Join(trace, "\n"))
	}
	var b strings.Builder
	for i, j := range d.work.jobs {
		if text, ok := d.work.results[j]; ok {
			fmt.Fprintf(&b, "job %d\n%s", i, text)
		}
	}
	if !ended.Connected {
		fmt.Fprintf(&b, "not connected: %s (%s, %s)\n", ended.Reply.String(), ended.Reply.Phase, ended.Reply.Fault)
	} else if ended.Reply.Code != 0 {
		fmt.Fprintf(&b, "ended: %s (%s, %s)\n", ended.Reply.String(), ended.Reply.Phase, ended.Reply.Fault)
	}
	return b.String()
}
