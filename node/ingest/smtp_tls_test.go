package ingest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate makes a self-signed pair for the name.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func (c *client) startTLS(name string) *client {
	c.t.Helper()
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return &client{c.t, tc, bufio.NewReader(tc)}
}

func withTLS(t *testing.T, kind string) func(*SMTPListener) {
	dir := t.TempDir()
	return func(l *SMTPListener) {
		loopback(l)
		l.CertFile, l.KeyFile = writeCertificate(t, dir, "mx.test")
		l.TLS = kind
	}
}

func TestSTARTTLS(t *testing.T) {
	s := newTestServer(t, withTLS(t, ""))
	addr := s.start(t)
	c := dial(t, addr)
	c.expect("220 ")
	c.ask("STARTTLS", "503 ")
	if caps := c.ask("EHLO c.test", "250-"); !strings.Contains(caps, "STARTTLS") || strings.Contains(caps, "AUTH") {
		t.Errorf("before TLS: %q", caps)
	}
	c.ask("AUTH PLAIN AHVzZXIAc2VjcmV0", "538 5.7.11 ")
	c.ask("MAIL FROM:<before@acme.test>", "250 ")
	c.ask("STARTTLS", "220 2.0.0 ")
	c = c.startTLS("mx.test")
	c.ask("RCPT TO:<b@dest.test>", "503 ") // the transaction is gone
	c.ask("MAIL FROM:<a@acme.test>", "503 ")
	if caps := c.ask("EHLO c.test", "250-"); strings.Contains(caps, "STARTTLS") || !strings.Contains(caps, "AUTH PLAIN LOGIN") {
		t.Errorf("under TLS: %q", caps)
	}
	c.ask("STARTTLS", "503 ")
	c.ask("AUTH PLAIN AHVzZXIAc2VjcmV0", "235 2.7.0 ")
	c.ask("AUTH PLAIN AHVzZXIAc2VjcmV0", "503 ")
	c.say(envelope)
	c.expect("250 ")
	c.expect("250 ")
	c.ask("DATA", "354 ")
	c.ask("Subject: x\r\n\r\nbody\r\n.", "250 2.0.0 Ok: queued as ")
	c.ask("QUIT", "221 ")
	c.expectEnd()
	m := s.store.taken()[0].Message
	if !strings.Contains(string(m.Raw), " with ESMTPSA\r\n\t(TLS1.3 TLS_") {
		t.Errorf("trace: %q", m.Raw)
	}
	if !strings.HasPrefix(m.From, "user user ") { // who sent it is said by name, with the address
		t.Errorf("handed in by %q", m.From)
	}
}

// Commands that a man in the middle puts behind STARTTLS have no effect under
// TLS (CVE-2011-0411).
func TestSTARTTLSInjection(t *testing.T) {
	s := newTestServer(t, withTLS(t, TLSStartTLS))
	c := dial(t, s.start(t))
	c.expect("220 ")
	c.ask("EHLO c.test", "250-")
	c.ask("STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@acme.test>\r\nRCPT TO:<v@dest.test>", "220 2.0.0 ")
	c = c.startTLS("mx.test")
	c.ask("NOOP", "250 2.0.0 Ok\r\n") // the first reply under TLS is to the first command under TLS
	c.ask("DATA", "503 ")
	if n := s.Metrics()[0].Errors["smuggling"]; n != 1 {
		t.Errorf("smuggling counted %d times", n)
	}
}

// "Dead.Letter" (CVE-2026-45185): TLS is closed inside a chunk, and clear text
// follows on the same connection.
func TestTLSEndInsideChunk(t *testing.T) {
	s := newTestServer(t, withTLS(t, TLSStartTLS))
	plain := dial(t, s.start(t))
	plain.expect("220 ")
	plain.ask("EHLO c.test", "250-")
	plain.ask("STARTTLS", "220 ")
	c := plain.startTLS("mx.test")
	c.ask("EHLO c.test", "250-")
	c.say(envelope + "BDAT 40 LAST\r\nSubject: x\r\n\r\n")
	c.expect("250 ")
	c.expect("250 ")
	if err := c.conn.(*tls.Conn).CloseWrite(); err != nil { // close_notify
		t.Fatal(err)
	}
	_ = plain.conn.SetDeadline(time.Now().Add(20 * time.Second)) // CloseWrite ended writing
	plain.say("1234567890123456789012345678\r\nQUIT\r\n")
	_, _ = io.ReadAll(plain.conn) // ends: the server closed
	if n := len(s.store.taken()); n != 0 {
		t.Errorf("%d messages accepted", n)
	}
}

func TestImplicitTLSAndCertificateReload(t *testing.T) {
	dir := t.TempDir()
	s := newTestServer(t, func(l *SMTPListener) {
		loopback(l)
		l.CertFile, l.KeyFile = writeCertificate(t, dir, "old.test")
		l.TLS = TLSImplicit
	})
	addr := s.start(t)
	name := func() string {
		c := dial(t, addr).startTLS("x.test")
		c.expect("220 mx.test ")
		if caps := c.ask("EHLO c.test", "250-"); strings.Contains(caps, "STARTTLS") {
			t.Errorf("under implicit TLS: %q", caps)
		}
		return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if n := name(); n != "old.test" {
		t.Errorf("certificate of %s", n)
	}
	certFile, _ := writeCertificate(t, dir, "new.test")
	if err := s.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	if n := name(); n != "new.test" {
		t.Errorf("certificate of %s after a reload", n)
	}
	if err := os.WriteFile(certFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ReloadCertificates(); err == nil || !strings.Contains(err.Error(), certFile) {
		t.Errorf("broken certificate: %v", err)
	}
	if n := name(); n != "new.test" {
		t.Errorf("certificate of %s after a broken reload", n)
	}
}

// A changed file is noticed without a signal.
func TestCertificateIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "old.test")
	c, err := newCertificate(certFile, keyFile, quiet)
	if err != nil {
		t.Fatal(err)
	}
	common := func() string {
		c.mu.checked = time.Time{} // as if the last look was long ago
		cert, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if n := common(); n != "old.test" {
		t.Error(n)
	}
	writeCertificate(t, dir, "new.test")
	future := time.Now().Add(time.Minute)
	if err := os.Chtimes(certFile, future, future); err != nil {
		t.Fatal(err)
	}
	if n := common(); n != "new.test" {
		t.Error(n)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if n := common(); n != "new.test" {
		t.Error(n)
	}
}
