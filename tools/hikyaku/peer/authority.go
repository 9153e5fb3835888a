package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The names of what MakeAuthority and MakeCertificate write.
const (
	AuthorityCert = "ca.pem"
	AuthorityKey  = "ca-key.pem"
)

const (
	authorityLife   = 10 * 366 * 24 * time.Hour
	certificateLife = 825 * 24 * time.Hour
)

// MakeAuthority writes the certificate and key of a new authority into dir. It
// never writes over one.
func MakeAuthority(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, AuthorityKey)); err == nil {
		return fmt.Errorf("%s exists already: remove it first if every certificate of the cluster shall be made anew", filepath.Join(dir, AuthorityKey))
	}
	t, err := template(name, authorityLife)
	if err != nil {
		return err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return write(dir, AuthorityCert, AuthorityKey, t, nil)
}

// MakeCertificate writes NAME.pem and NAME-key.pem for one machine, signed by
// the authority in dir. Hosts are the names and addresses that it advertises.
func MakeCertificate(dir, name string, hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("name the host names or addresses by which others reach the machine")
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, AuthorityCert), filepath.Join(dir, AuthorityKey))
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	t, err := template(name, certificateLife)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return write(dir, name+".pem", name+"-key.pem", t, &ca)
}

func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}, nil
}

// write makes a key, has the certificate signed by ca (nil: by itself) and
// writes both.
func write(dir, certName, keyName string, t *x509.Certificate, ca *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	parent, signer := t, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign a certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyName), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, certName), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
