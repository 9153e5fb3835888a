package feedback_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	receiver "hikyaku/node/feedback"
	"hikyaku/reputation/feedback"
)

// certificateFiles are a certificate for 127.0.0.1 that signs itself.
func certificateFiles(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return cert, key, pool
}

func TestHTTPServer(t *testing.T) {
	cert, key, pool := certificateFiles(t)
	d := newDesk(t, nil)
	for scheme, o := range map[string]receiver.HTTPOptions{
		"http":  {Listen: "127.0.0.1:0", MaxConnections: 2},
		"https": {Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key},
	} {
		srv, err := d.NewHTTPServer(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
		for range 5 { // more than there are places: each gives its own back
			s := d.sent("ann@example.net")
			resp, err := c.Post(scheme+"://"+srv.Addr().String()+"/u/"+d.keys.SealLink(s), form, strings.NewReader(feedback.OneClick))
			if err != nil {
				t.Fatalf("%s: %v", scheme, err)
			}
			_ = resp.Body.Close()
			tr.CloseIdleConnections()
			if got := d.took(); resp.StatusCode != 200 || len(got) != 1 || got[0].From != "127.0.0.1" {
				t.Errorf("%s: %d, %+v", scheme, resp.StatusCode, got)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if _, err := net.Dial("tcp", srv.Addr().String()); err == nil {
			t.Errorf("%s: still listening", scheme)
		}
	}
	if _, err := d.NewHTTPServer(receiver.HTTPOptions{Listen: "127.0.0.1:0", CertFile: key, KeyFile: cert}); err == nil {
		t.Error("a key was taken for a certificate")
	}
}
