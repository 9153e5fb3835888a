package bench

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
)

// signingKey makes a key with the product's own command and returns the
// resource and the public part for DNS.
func signingKey(tb testing.TB, kind string) (resource, publicKey string) {
	tb.Helper()
	cmd := exec.Command(peers.Binary(tb), "dkim", "keygen", "--domain", "sender.test", "--selector", kind, "--type", kind)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		tb.Fatalf("dkim keygen: %v\n%s", err, errOut.String())
	}
	// The record is printed as quoted strings of at most 255 bytes, as a zone
	// file wants them.
	var record strings.Builder
	for i, part := range strings.Split(out.String()+errOut.String(), `"`) {
		if i%2 == 1 && (record.Len() > 0 || strings.HasPrefix(part, "v=DKIM1")) {
			record.WriteString(part)
		}
	}
	if !strings.HasPrefix(record.String(), "v=DKIM1") {
		tb.Fatalf("dkim keygen printed no DNS record:\n%s\n%s", out.String(), errOut.String())
	}
	return out.String(), record.String()
}

// txt splits a TXT value for dnsmasq.
func txt(name, value string) string {
	arg := "--txt-record=" + name
	for len(value) > 0 {
		n := min(len(value), 250)
		arg += "," + value[:n]
		value = value[n:]
	}
	return arg
}

// TestSignedMailReachesPostfixThroughMX is the way that the README promises:
// swaks and HTTP in, MX look-up at a real DNS server, a real Postfix out, the
// signature verified by OpenDKIM.
func TestSignedMailReachesPostfixThroughMX(t *testing.T) {
	swaks := peers.Find(t, "swaks", "swaks")
	rsa, rsaRecord := signingKey(t, "rsa2048")
	ed, edRecord := signingKey(t, "ed25519")
	dns := peers.StartDNS(t,
		"--mx-host=example.test,dead.example.test,5",
		"--mx-host=example.test,mx1.example.test,10",
		"--host-record=dead.example.test,127.0.0.3",
		"--host-record=mx1.example.test,127.0.0.2",
		txt("rsa2048._domainkey.sender.test", rsaRecord), txt("ed25519._domainkey.sender.test", edRecord))
	cert, key := peers.Certificate(t, "mx1.example.test")
	pf := peers.StartPostfix(t, peers.PostfixOptions{Host: "127.0.0.2", Domains: []string{"example.test"}, CertFile: cert, KeyFile: key})
	_, port, _ := net.SplitHostPort(pf.Addr)
	var portNumber int
	fmt.Sscan(port, &portNumber)
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Resolver: dns, Port: portNumber,
		Delivery: "  allow_networks: [127.0.0.0/8]\n", Policy: rsa + "\n---\n" + ed})

	out, err := exec.Command(swaks, "--server", h.SMTP, "--from", "taro@sender.test", "--to", "hanako@example.test", "--h-Subject", "by SMTP", "--body", ".\n..\nline").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("250 2.0.0 Ok: queued as ")) {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
	status, answer := h.Post(t, "/v1/messages", map[string]any{
		"from": map[string]any{"email": "taro@sender.test", "name": "飛脚 太郎"}, "subject": "{{name}}様 by HTTP", "text": "こんにちは、{{name}}様", "html": "<p>{{name}}</p>",
		"to": []any{map[string]any{"email": "hanako@example.test", "name": "花子"}, map[string]any{"email": "not an address"}},
	})
	if status != 202 || len(answer["messages"].([]any)) != 1 || len(answer["rejected"].([]any)) != 1 {
		t.Fatalf("HTTP injection: %d %v", status, answer)
	}

	bySMTP := pf.WaitMessage(t, "Subject: by SMTP")
	byHTTP := pf.WaitMessage(t, "To: =?")
	for name, m := range map[string]string{"SMTP": bySMTP, "HTTP": byHTTP} {
		if !strings.Contains(m, "DKIM-Signature:") || !strings.Contains(m, "Return-Path: <taro@sender.test>") {
			t.Errorf("by %s: no signature or wrong envelope:\n%s", name, m)
		}
		if !strings.Contains(m, "using TLS") {
			t.Errorf("by %s: Postfix offered STARTTLS and was not taken up:\n%s", name, m)
		}
		verifyWithOpenDKIM(t, dns, m)
	}
	if !strings.Contains(bySMTP, "\n.\n..\nline") {
		t.Errorf("dots were changed on the way:\n%s", bySMTP)
	}
}

// verifyWithOpenDKIM runs opendkim-testmsg in a mount namespace of its own, in
// which the system's resolver is our DNS server (resolv.conf has no port, so a
// second server on port 53 of another loopback address passes queries on).
func verifyWithOpenDKIM(tb testing.TB, dns, stored string) {
	tb.Helper()
	bin := peers.Find(tb, "opendkim-testmsg", "opendkim-tools")
	unshare := peers.Find(tb, "unshare", "util-linux")
	const port53 = "127.0.0.153"
	host, port, _ := net.SplitHostPort(dns)
	peers.Start(tb, peers.Find(tb, "dnsmasq", "dnsmasq-base"), "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root",
		"--listen-address="+port53, "--bind-interfaces", "--port=53", "--server="+host+"#"+port)
	peers.Listening(tb, port53+":53")
	resolv := filepath.Join(tb.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+port53+"\n"), 0o644); err != nil {
		tb.Fatal(err)
	}
	// What Postfix put in front (Return-Path, its own Received) is not signed
	// and may stay; maildir has bare LF, the verifier wants CRLF.
	wire := strings.ReplaceAll(stored, "\n", "\r\n")
	cmd := exec.Command(unshare, "--mount", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec "$2"`, "sh", resolv, bin)
	cmd.Stdin = strings.NewReader(wire)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Errorf("OpenDKIM does not verify the signature: %v\n%s\n%s", err, out, stored)
	}
}

// TestPostfixUsesUsAsRelayHost has a real Postfix as client.
func TestPostfixUsesUsAsRelayHost(t *testing.T) {
	got := make(chan sink.Received, 4)
	s := startSink(t, sink.Options{Message: func(r *sink.Received) string {
		c := *r
		c.Data, c.To = bytes.Clone(r.Data), append([]string(nil), r.To...)
		got <- c
		return ""
	}})
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Policy: route(s.Addr)})
	host, port, _ := net.SplitHostPort(h.SMTP)
	pf := peers.StartPostfix(t, peers.PostfixOptions{RelayHost: "[" + host + "]:" + port})
	pf.Sendmail(t, "Subject: through two\n\n日本語の本文\n.\n", "-i", "-f", "a@sender.test", "b@example.test", "c@example.test")
	select {
	case r := <-got:
		if r.From != "a@sender.test" || len(r.To) != 2 || !bytes.Contains(r.Data, []byte("Subject: through two")) || !bytes.Contains(r.Data, []byte("日本語の本文\r\n.\r\n")) {
			t.Errorf("got from %s to %v:\n%s", r.From, r.To, r.Data)
		}
		if bytes.Count(r.Data, []byte("Received: ")) != 2 {
			t.Errorf("want one Received of Postfix and one of ours:\n%s", r.Data)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing arrived")
	}
}

// route sends everything to one address.
func route(addr string) string {
	return fmt.Sprintf("kind: Route\nname: sink\nspec: {domains: [\"*\"], hosts: [%q], allow_networks: [127.0.0.0/8], tls: opportunistic}\n", addr)
}

func startSink(tb testing.TB, o sink.Options) *sink.Sink {
	tb.Helper()
	s, err := sink.Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}
