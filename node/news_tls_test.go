package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	bignum "math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// writePair writes a certificate with a serial number, and its key.
func writePair(t *testing.T, dir string, serial int64) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: bignum.NewInt(serial), DNSNames: []string{"mail.acme.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

type writerFunc func(line []byte)

func (f writerFunc) Write(line []byte) (int, error) {
	f(line)
	return len(line), nil
}

// TestOneClickKeepsItsCertificate: a renewal that is half done, or went wrong,
// leaves the last good certificate in place; a new one counts without a restart.
func TestOneClickKeepsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writePair(t, dir, 1)
	var oneClick string
	feedback := withFeedback(t, &oneClick)
	var noticed atomic.Bool
	newWorld(t, func(c *Config) {
		feedback(c)
		c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(line []byte) {
			if bytes.Contains(line, []byte("certificate changed but cannot be used")) {
				noticed.Store(true)
			}
		}), nil))
		c.Feedback.HTTP.CertFile, c.Feedback.HTTP.KeyFile = certFile, keyFile
	})
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", oneClick, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}) // the serial number says which it is
		if err != nil {
			t.Fatalf("handshake: %v", err)
		}
		defer conn.Close()
		state := conn.ConnectionState()
		if state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("protocol %q", state.NegotiatedProtocol)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("certificate %d", got)
	}
	if err := os.WriteFile(certFile, []byte("-----BEGIN CERTI"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the broken file to be noticed", func() bool {
		if got := serial(); got != 1 {
			t.Fatalf("certificate %d", got)
		}
		return noticed.Load()
	})
	writePair(t, dir, 2)
	until(t, "the new certificate", func() bool { return serial() == 2 })
}
