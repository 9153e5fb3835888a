package ingest_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/compose"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// raw sends bytes and returns the status codes of all answers until the server
// closes. The write side is closed first unless hold.
func raw(tb testing.TB, s *ingest.HTTPServer, hold bool, text string) []int {
	tb.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	go func() { // the server may answer and close before it has read all
		_, _ = io.WriteString(conn, text)
		if !hold {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	var statuses []int
	br := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

func TestSmuggling(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) { l.Timeouts.Header = policy.Duration(2 * time.Second) })
	auth := "Host: x\r\nAuthorization: Bearer " + goodKey + "\r\nContent-Type: application/json\r\n"
	size := fmt.Sprintf("Content-Length: %d\r\n", len(hello))
	inner := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	post := "POST /v1/messages HTTP/1.1\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hello), hello)
	for _, c := range []struct {
		name, text string
		want       []int
	}{
		{"good, then another", post + auth + size + "\r\n" + hello + inner, []int{202, 200}},
		{"chunked, then another", post + auth + "Transfer-Encoding: chunked\r\n\r\n" + chunk + inner, []int{202, 200}},
		{"expect", post + auth + size + "Expect: 100-continue\r\n\r\n" + hello, []int{100, 202}},
		{"two lengths", post + auth + size + "Content-Length: 3\r\n\r\n" + hello + inner, []int{400}},
		{"two equal lengths", post + auth + size + size + "\r\n" + hello + inner, []int{400}},
		{"list of lengths", post + auth + "Content-Length: 3, 3\r\n\r\n" + hello + inner, []int{400}},
		{"length with sign", post + auth + "Content-Length: +3\r\n\r\n" + hello + inner, []int{400}},
		{"length wraps", post + auth + "Content-Length: 18446744073709551619\r\n\r\n" + hello + inner, []int{400}},
		{"length and chunked", post + auth + size + "Transfer-Encoding: chunked\r\n\r\n" + chunk + inner, []int{400}},
		{"chunked and length", post + auth + "Transfer-Encoding: chunked\r\n" + size + "\r\n" + chunk + inner, []int{400}},
		{"two encodings", post + auth + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + inner, []int{400}},
		{"other encoding", post + auth + "Transfer-Encoding: xchunked\r\n\r\n" + chunk + inner, []int{400}},
		{"encoding list", post + auth + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk + inner, []int{400}},
		{"chunked in 1.0", "POST /v1/messages HTTP/1.0\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n" + chunk + inner, []int{400}},
		{"space before colon", post + auth + "Transfer-Encoding : chunked\r\n\r\n" + chunk + inner, []int{400}},
		{"folded header", post + "X-A: b\r\n c: d\r\n" + auth + size + "\r\n" + hello + inner, []int{400}},
		{"folded encoding", post + auth + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk + inner, []int{400}},
		{"header ends in LF", post + "X-A: b\n" + auth + size + "\r\n" + hello + inner, []int{400}},
		{"bare CR in header", post + "X-A: b\rX: c\r\n" + auth + size + "\r\n" + hello + inner, []int{400}},
		{"NUL in header", post + "X-A: b\x00\r\n" + auth + size + "\r\n" + hello + inner, []int{400}},
		{"two hosts", post + "Host: y\r\n" + auth + size + "\r\n" + hello + inner, []int{400}},
		{"no host", "GET /healthz HTTP/1.1\r\n\r\n" + inner, []int{400}},
		{"two keys", post + auth + "Authorization: Bearer x\r\n" + size + "\r\n" + hello + inner, []int{400}},
		{"two types", post + auth + "Content-Type: text/plain\r\n" + size + "\r\n" + hello + inner, []int{400}},
		{"chunk size with LF", post + auth + "Transfer-Encoding: chunked\r\n\r\n" + strings.Replace(chunk, "\r\n", "\n", 1) + inner, []int{400}},
		{"chunk extension with LF", post + auth + "Transfer-Encoding: chunked\r\n\r\n" + strings.Replace(chunk, "\r\n", ";a\n\r\n", 1) + inner, []int{400}},
		{"chunk without its end", post + auth + "Transfer-Encoding: chunked\r\n\r\n" + strings.Replace(chunk, "\r\n0", "xx0", 1) + inner, []int{400}},
		{"chunk size huge", post + auth + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + hello + inner, []int{400}},
		{"version", "POST /v1/messages HTTP/9.9\r\n" + auth + size + "\r\n" + hello, []int{505}},
		{"huge header", post + auth + "X-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", []int{431}},
		{"many headers", post + auth + strings.Repeat("X-A: a\r\n", 10000) + "\r\n", []int{431}},
		{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		{"cut off body", post + auth + size + "\r\n" + hello[:20], []int{400}},
		{"body of a refused request is no request", strings.Replace(post+auth+"Content-Length: 35\r\n\r\n"+inner+"x", goodKey, "nope", 1), []int{401}},
	} {
		before := len(n.accepted())
		got := raw(t, s, false, c.text)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: answers %v, want %v", c.name, got, c.want)
		}
		good := slices.Contains(c.want, 202)
		if took := len(n.accepted()) - before; took > 1 || good != (took == 1) {
			t.Errorf("%s: %d messages accepted", c.name, took)
		}
	}
}

// TestSlowClients: each phase ends by its deadline although bytes keep coming.
func TestSlowClients(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) {
		l.Timeouts = ingest.HTTPTimeouts{Header: policy.Duration(300 * time.Millisecond), Body: policy.Duration(300 * time.Millisecond), Idle: policy.Duration(300 * time.Millisecond)}
	})
	head := "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + goodKey + "\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		begin, drip string
		want        []int
	}{
		"header":       {"POST /v1/messages HTTP/1.1\r\n", "X-A: b\r\n", []int{408}},
		"body":         {head + "Content-Length: 100000\r\n\r\n", " ", []int{408}},
		"chunks":       {head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", []int{408}},
		"idle":         {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "", []int{200}},
		"nothing":      {"", "", nil},
		"chunk header": {head + "Transfer-Encoding: chunked\r\n\r\n1;", "a", []int{400}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, c.begin); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						if _, err := io.WriteString(conn, c.drip); err != nil {
							return
						}
					case <-stop:
						return
					}
				}
			}()
			var got []int
			br := bufio.NewReader(conn)
			for {
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, res.Body)
				got = append(got, res.StatusCode)
			}
			if len(c.want) > 0 && !slices.Equal(got, c.want) {
				t.Errorf("answers %v, want %v", got, c.want)
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	n := newNode(t)
	s := startHTTP(t, n, func(l *ingest.HTTPListener) { l.MaxConnectionsPerClient = 2 })
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn, bufio.NewReader(conn)
	}
	ask := func(conn net.Conn, br *bufio.Reader) int {
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	a, abr := dial()
	b, bbr := dial()
	defer b.Close()
	if ask(a, abr) != 200 || ask(b, bbr) != 200 {
		t.Fatal("two connections are within the bound")
	}
	c, cbr := dial()
	res, err := http.ReadResponse(cbr, nil)
	if err != nil || res.StatusCode != 503 {
		t.Errorf("third connection: %v %v", res, err)
	}
	c.Close()
	a.Close()
	deadline := time.Now().Add(5 * time.Second)
	for s.Metrics().Open > 1 && time.Now().Before(deadline) {
		ask(b, bbr)
	}
	d, dbr := dial()
	defer d.Close()
	if ask(d, dbr) != 200 {
		t.Error("a place that was given back is not given out again")
	}
	if m := s.Metrics(); m.Refused != 1 {
		t.Errorf("%d refused, want 1", m.Refused)
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.acme.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pk}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startHTTP(t, newNode(t), func(l *ingest.HTTPListener) { l.CertFile, l.KeyFile = cert, keyFile })
	pool := x509.NewCertPool()
	pool.AddCert(func() *x509.Certificate { c, _ := x509.ParseCertificate(der); return c }())
	conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "mx.acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("over TLS: %v %v", res, err)
	}
}

// TestShutdownWaits: a request under way is answered, new ones are not taken.
func TestShutdownWaits(t *testing.T) {
	n := newNode(t)
	entered, release := make(chan struct{}), make(chan struct{})
	n.accept = func(*ingest.Submission) error { close(entered); <-release; return nil }
	s := startHTTP(t, n, nil)
	got := make(chan *answer)
	go func() { got <- do(t, s, call{body: hello}) }()
	<-entered
	done := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	deadline := time.Now().Add(5 * time.Second)
	for {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("still accepting")
		}
	}
	close(release)
	if a := <-got; a.status != 202 {
		t.Errorf("request under way: %d %s", a.status, a.body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzRequestBody: whatever the body, it is accepted whole and once, or not at
// all; and what was accepted renders.
func FuzzRequestBody(f *testing.F) {
	f.Add([]byte(hello))
	f.Add([]byte(`{"raw":"RnJvbTogYUBhY21lLmV4YW1wbGUNCg0KeA0K","to":[{"email":"a@x.example","metadata":{"a":[1,2.5e-3,null,true,"\ud83d\ude00"]}}],"tags":["a"],"priority":"low"}`))
	f.Add([]byte(`{"from":{"email":"a@acme.example","name":"\u0000"},"subject":"{{#each l}}{{this}}{{/each}}","html":"{{{a.b}}}","headers":[{"name":"X-A","value":"{{a}}"}],"to":[{"email":"\"q q\"@x.example","vars":{"l":[1]}},{"email":"山@日本.example"}],"missing":"keep"}`))
	f.Add([]byte(`{"from":{"email":"a@acme.example"},"text":"x","attachments":[{"name":"a","content":"AA=="}],"to":[{"email":"a@x.example"}],"send_at":"2026-01-01T00:00:00Z","envelope_from":"","allow_duplicates":true}`))
	n := newNode(f)
	s := startHTTP(f, n, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		n.mu.Lock()
		n.mu.subs = nil
		n.mu.Unlock()
		a := do(t, s, call{body: string(body), header: []string{"Content-Type", "application/json"}})
		subs := n.accepted()
		switch {
		case a.status != 202 && len(subs) != 0:
			t.Fatalf("%d, but %d submissions were accepted", a.status, len(subs))
		case a.status != 202 && a.status != 400 && a.status != 403 && a.status != 422:
			t.Fatalf("%d %s", a.status, a.body)
		case a.status == 202 && (len(subs) != 1 || len(subs[0].Recipients) != len(a.decoded.Messages) || len(subs[0].Recipients) == 0):
			t.Fatalf("202 for %d submissions: %s", len(subs), a.body)
		case !json.Valid([]byte(a.body)):
			t.Fatalf("answer is not JSON: %q", a.body)
		case a.status == 202:
			checkSubmission(t, subs[0])
		}
	})
}

// checkSubmission holds a submission to what the spool and the renderer expect.
func checkSubmission(t *testing.T, s *ingest.Submission) {
	t.Helper()
	m := s.Message
	if (m.Raw == nil) == (m.Template == nil) || m.ID.IsZero() || m.Tenant != "acme" {
		t.Fatalf("message %+v", m)
	}
	if m.Metadata != nil && !json.Valid(m.Metadata) {
		t.Fatalf("metadata %q", m.Metadata)
	}
	var c *compose.Compiled
	if m.Template != nil {
		var err error
		if c, err = compose.Compile(m.Template); err != nil {
			t.Fatalf("accepted, but does not compile: %v", err)
		}
	}
	for i := range s.Recipients {
		r := &s.Recipients[i]
		if _, err := ingest.Destination(r.Address); err != nil {
			t.Fatalf("recipient %q: %v", r.Address, err)
		}
		for _, b := range [][]byte{r.Vars, r.Metadata} {
			if b != nil && (!json.Valid(b) || strings.ContainsAny(string(b), "\n\r")) {
				t.Fatalf("object %q", b)
			}
		}
		if c != nil {
			if _, err := c.Render(nil, r, message.DeliveryID{Message: m.ID, Index: uint16(i)}); err != nil {
				t.Fatalf("accepted, but does not render: %v", err)
			}
		}
	}
}
