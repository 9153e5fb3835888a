package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
)

// authority makes a certificate authority and one certificate of it, for both
// ends of loopback connections, as files.
func authority(t testing.TB) (cert, key, ca string) {
	t.Helper()
	dir := t.TempDir()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert", "CERTIFICATE", leafDER), write("key", "PRIVATE KEY", keyDER), write("ca", "CERTIFICATE", rootDER)
}

func TestMutualTLS(t *testing.T) {
	cert, key, ca := authority(t)
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Listen: "https://127.0.0.1:0", Peer: "https://127.0.0.1:0", CertFile: cert, KeyFile: key, CAFile: ca, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _, otherCA := authority(t)
	strangerCert, strangerKey, _ := authority(t)
	o := store.ConnectOptions{Endpoints: s.Endpoints(), CertFile: cert, KeyFile: key, CAFile: ca, DialTimeout: 3 * time.Second}
	c, err := store.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*store.ConnectOptions){
		"another authority":   func(o *store.ConnectOptions) { o.CAFile = otherCA },
		"the system's":        func(o *store.ConnectOptions) { o.CAFile = "" },
		"no certificate":      func(o *store.ConnectOptions) { o.CertFile, o.KeyFile = "", "" },
		"another certificate": func(o *store.ConnectOptions) { o.CertFile, o.KeyFile = strangerCert, strangerKey },
	} {
		o := o
		o.DialTimeout = 500 * time.Millisecond
		change(&o)
		if c, err := store.Connect(t.Context(), o); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
	}
}
