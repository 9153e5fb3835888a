package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"hikyaku/bench/ledger"
	"hikyaku/bench/sink"
	"hikyaku/node/api"
	nodeclient "hikyaku/node/api/client"
	"hikyaku/node/dkim"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
)

func newDemoCmd(c *cli.Call) *cobra.Command {
	d := &demo{c: c}
	cmd := &cobra.Command{
		Use: "demo", Short: "Show the whole way on this machine, with a ledger at the end", GroupID: cli.GroupRun, Args: cli.WantArgs(0, 0),
		Long: `Starts a node and a receiving mail server on loopback, in a temporary
directory, sends mail by SMTP and by HTTP, and compares what was accepted with
what was received and what was reported as bounced. Exit code 0 means that every
message is accounted for.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().IntVar(&d.messages, "messages", 5000, "messages to send, half by SMTP, half by HTTP")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "keep the temporary directory")
	return cmd
}

// demo is one run.
type demo struct {
	c        *cli.Call
	messages int
	keep     bool

	dir               string
	smtp, http, admin string
	ledger            *ledger.Ledger
	began             time.Time
	received          atomic.Int64
	signed            atomic.Int64
}

// Every bounceEvery-th recipient does not exist at the receiver.
const (
	bounceEvery  = 20
	demoDomains  = 25
	demoSMTP     = 8
	demoHTTPSize = 500
)

func (d *demo) run(ctx context.Context) (err error) {
	if d.messages < 2 || d.messages > 1_000_000 {
		return cli.UsageError("--messages must be 2 to 1000000")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if d.dir, err = os.MkdirTemp("", "hikyaku-demo-"); err != nil {
		return err
	}
	if d.keep {
		d.say("directory", d.dir)
	} else {
		defer os.RemoveAll(d.dir)
	}
	d.ledger, d.began = ledger.New(d.messages), time.Now()
	receiver, err := sink.Start(sink.Options{Recipient: sink.ByName, Message: d.message})
	if err != nil {
		return err
	}
	defer receiver.Close()
	stop, err := d.startNode(ctx, receiver.Addr)
	if err != nil {
		return err
	}
	d.say("receiver", receiver.Addr+"  (refuses every 20th recipient)")
	d.say("node", fmt.Sprintf("SMTP %s, HTTP %s, admin %s", d.smtp, d.http, d.admin))
	start := time.Now()
	err = d.send(ctx)
	if err == nil {
		err = d.settle(ctx)
	}
	took := time.Since(start)
	stopErr := stop()
	if err = errors.Join(err, stopErr); err != nil {
		return err
	}
	return d.report(took)
}

func (d *demo) say(what, text string) { fmt.Fprintf(d.c.Out, "%-10s %s\n", what, text) }

// startNode runs "serve" as a child, as an operator would.
func (d *demo) startNode(ctx context.Context, receiver string) (stop func() error, err error) {
	for _, p := range []*string{&d.smtp, &d.http, &d.admin} {
		if *p, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	key, _, err := dkim.Generate("ed25519")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("node: {name: demo, hostname: demo.hikyaku.test, data_dir: %q}\ningest:\n  smtp: [{listen: %q, relay_networks: [127.0.0.0/8]}]\n  http: {listen: %q, open_networks: [127.0.0.0/8]}\nadmin: {listen: %q}\nlog: {level: warn}\n",
		filepath.Join(d.dir, "data"), d.smtp, d.http, d.admin)
	policy := fmt.Sprintf("kind: Route\nname: receiver\nspec: {domains: [\"*\"], hosts: [%q], allow_networks: [127.0.0.0/8]}\n---\nkind: Tenant\nname: default\nspec: {dsn: never}\n---\nkind: SigningKey\nname: demo\nspec:\n  domain: sender.test\n  selector: demo\n  private_key: |\n    %s\n",
		receiver, strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n    "))
	for name, text := range map[string]string{"hikyaku.yaml": config, "policy.yaml": policy} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, "serve", "--config", filepath.Join(d.dir, "hikyaku.yaml"), "--policy", filepath.Join(d.dir, "policy.yaml"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // received by stop, or by the wait below
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			return fmt.Errorf("the node ended with %w\n%s", err, log.String())
		}
		return nil
	}
	for {
		if resp, err := http.Get("http://" + d.admin + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return stop, nil
			}
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the node did not start: %w\n%s", err, log.String())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (d *demo) message(r *sink.Received) string {
	for _, to := range r.To {
		if n, ok := ledger.Number(to); ok {
			d.ledger.Received(n, time.Since(d.began))
			d.received.Add(1)
		}
	}
	if bytes.Contains(r.Data, []byte("DKIM-Signature:")) {
		d.signed.Add(1)
	}
	return ""
}

func demoAddress(n int) string {
	prefix := "r"
	if n%bounceEvery == 0 {
		prefix = "bounce"
	}
	return ledger.Address(prefix, n, fmt.Sprintf("d%d.test", n%demoDomains))
}

// send injects the first half by SMTP, the second by HTTP.
func (d *demo) send(ctx context.Context) error {
	bar := d.bar("send", d.messages)
	defer d.endBar(bar)
	half := d.messages / 2
	var wg sync.WaitGroup
	errs := make(chan error, demoSMTP)
	var next atomic.Int64
	for range demoSMTP {
		wg.Go(func() { errs <- d.sendSMTP(ctx, &next, half, bar) })
	}
	wg.Wait()
	for range demoSMTP {
		if err := <-errs; err != nil {
			return fmt.Errorf("send by SMTP: %w", err)
		}
	}
	for from := half; from < d.messages; from += demoHTTPSize {
		to := min(from+demoHTTPSize, d.messages)
		if err := d.sendHTTP(ctx, from, to); err != nil {
			return fmt.Errorf("send by HTTP: %w", err)
		}
		_ = bar.Add(to - from)
	}
	return nil
}

func (d *demo) sendSMTP(ctx context.Context, next *atomic.Int64, end int, bar *progressbar.ProgressBar) error {
	c, err := smtp.Dial(d.smtp)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		n := int(next.Add(1)) - 1
		if n >= end {
			return c.Quit()
		}
		d.ledger.Offered(n)
		if err := d.sendOne(c, n); err != nil {
			return err
		}
		d.ledger.Accepted(n, time.Since(d.began))
		_ = bar.Add(1)
	}
	return ctx.Err()
}

func (d *demo) sendOne(c *smtp.Client, n int) error {
	if err := c.Mail("demo@sender.test"); err != nil {
		return err
	}
	to := demoAddress(n)
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "From: demo@sender.test\r\nTo: %s\r\nSubject: demo %d\r\nMessage-ID: <%d@sender.test>\r\n\r\nHello from the demo.\r\n", to, n, n); err != nil {
		return err
	}
	return w.Close()
}

func (d *demo) sendHTTP(ctx context.Context, from, to int) error {
	type rcpt struct {
		Email string         `json:"email"`
		Name  string         `json:"name"`
		Vars  map[string]any `json:"vars"`
	}
	body := map[string]any{
		"from": map[string]string{"email": "demo@sender.test", "name": "飛脚"}, "subject": "{{name}}様へ", "text": "{{name}}様、{{points}}ポイントです。\n",
		"html": "<p>{{name}}様、<b>{{points}}</b>ポイントです。</p>", "job": "demo",
	}
	rs := make([]rcpt, 0, to-from)
	for n := from; n < to; n++ {
		d.ledger.Offered(n)
		rs = append(rs, rcpt{demoAddress(n), fmt.Sprintf("お客様%d", n), map[string]any{"points": n}})
	}
	body["to"] = rs
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.http+"/v1/messages", bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Messages []struct{ Email string }
	}
	if err := json.Unmarshal(text, &answer); err != nil || resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	for _, m := range answer.Messages {
		if n, ok := ledger.Number(m.Email); ok {
			d.ledger.Accepted(n, time.Since(d.began))
		}
	}
	return nil
}

// settle waits until nothing is queued, then reads the bounces from the event log.
func (d *demo) settle(ctx context.Context) error {
	bar := d.bar("deliver", d.messages)
	cl, err := d.client()
	if err != nil {
		return err
	}
	for {
		o, err := cl.Overview(ctx)
		if err != nil {
			return err
		}
		_ = bar.Set(d.messages - int(min(o.Queue.Queued, int64(d.messages))))
		if o.Queue.Counted && o.Queue.Queued == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d deliveries are still queued: %w", o.Queue.Queued, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	d.endBar(bar)
	return d.readBounces(ctx)
}

func (d *demo) readBounces(ctx context.Context) error {
	cl, err := d.client()
	if err != nil {
		return err
	}
	_, err = cl.SearchEvents(ctx, api.EventQuery{Type: string(message.EventBounced), Limit: d.messages}, func(line []byte) error {
		var r message.EventRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		if n, ok := ledger.Number(r.Recipient); ok {
			d.ledger.Ended(n, message.Bounced)
		}
		return nil
	})
	return err
}

func (d *demo) client() (*nodeclient.Client, error) {
	c := *d.c
	c.API, c.Token = "http://"+d.admin, ""
	return c.Node()
}

func (d *demo) bar(name string, total int) *progressbar.ProgressBar {
	o := []progressbar.Option{progressbar.OptionSetDescription(fmt.Sprintf("%-10s", name)), progressbar.OptionSetWriter(d.c.Err),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("msg"), progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetVisibility(cli.IsTerminal(d.c.Err))}
	return progressbar.NewOptions(total, o...)
}

func (d *demo) endBar(bar *progressbar.ProgressBar) {
	_ = bar.Finish()
	if cli.IsTerminal(d.c.Err) {
		fmt.Fprintln(d.c.Err)
	}
}

func (d *demo) report(took time.Duration) error {
	b := d.ledger.Balance()
	d.say("sent", fmt.Sprintf("%d messages in %.1f s, %.0f a second from first connection to last outcome", d.messages, took.Seconds(), float64(d.messages)/took.Seconds()))
	d.say("signed", fmt.Sprintf("%d of %d received carry a DKIM-Signature", d.signed.Load(), d.received.Load()))
	d.say("ledger", b.String())
	if err := b.Err(0); err != nil {
		return err
	}
	if b.Accepted != d.messages || d.signed.Load() != d.received.Load() {
		return fmt.Errorf("%d of %d messages were accepted, %d of %d received are signed", b.Accepted, d.messages, d.signed.Load(), d.received.Load())
	}
	d.say("result", "every message is accounted for")
	return nil
}
