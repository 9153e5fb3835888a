package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// RFC 8301 3.2: signers use at least 1024 bits, and should use 2048.
const (
	minRSABits = 1024
	maxRSABits = 8192 // beyond that one signature takes tens of milliseconds
)

// ParseKey reads a private key in PEM: PKCS #8, or PKCS #1 for RSA. Errors
// never hold any of the text.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("private key: no PEM block found")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("private key: it is encrypted; store it without a pass phrase")
	default:
		return nil, fmt.Errorf("private key: PEM block %q: want PRIVATE KEY or RSA PRIVATE KEY", strings.ToValidUTF8(block.Type, "?"))
	}
	if err != nil {
		return nil, errors.New("private key: the PEM block is damaged or not supported")
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("private key: RSA of %d bits: want %d to %d", n, minRSABits, maxRSABits)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("private key: type %T: want RSA or Ed25519", key)
}

// Kinds of key that Generate makes.
const (
	RSA2048 = "rsa2048"
	Ed25519 = "ed25519"
)

// Generate makes a key. It returns the private key as PKCS #8 PEM and the text
// of the DNS TXT record (see DNSRecord).
func Generate(kind string) (pemText, dnsTXT string, err error) {
	var key crypto.Signer
	switch kind {
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return "", "", fmt.Errorf("kind %q: want %s or %s", kind, RSA2048, Ed25519)
	}
	if err != nil {
		return "", "", fmt.Errorf("generate %s key: %w", kind, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("encode %s key: %w", kind, err)
	}
	if dnsTXT, err = DNSRecord(key.Public()); err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), dnsTXT, nil
}

// DNSRecord is the text of the TXT record at selector._domainkey.domain (RFC
// 6376 3.6.1, RFC 8463 4), as one string.
func DNSRecord(pub crypto.PublicKey) (string, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return "", fmt.Errorf("encode public key: %w", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(p), nil
	}
	return "", fmt.Errorf("key of type %T: want RSA or Ed25519", pub)
}

// ZoneRecord is the record as a line of a zone file, its text split into
// strings of at most 255 bytes, which verifiers join without a space (RFC 6376
// 3.6.2.2).
func ZoneRecord(selector, domain, txt string) string {
	var b strings.Builder
	b.WriteString(selector + "._domainkey." + domain + ". IN TXT (")
	for len(txt) > 0 {
		n := min(len(txt), 255)
		b.WriteString(` "` + txt[:n] + `"`)
		txt = txt[n:]
	}
	b.WriteString(" )")
	return b.String()
}
