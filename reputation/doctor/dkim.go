package doctor

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KeyRecord is the record of a DKIM key (RFC 6376 3.6.1).
type KeyRecord struct {
	Kind    string // rsa or ed25519
	Bits    int    // of RSA
	Key     any    // *rsa.PublicKey or ed25519.PublicKey; nil: revoked
	Testing bool   // t=y
	Strict  bool   // t=s: i= must be d= itself
	Hashes  []string
}

// ParseKeyRecord reads the text at selector._domainkey.domain.
func ParseKeyRecord(text string) (*KeyRecord, error) {
	tags, err := parseTags(text)
	if err != nil {
		return nil, err
	}
	r := &KeyRecord{Kind: "rsa"}
	p, hasP := "", false
	for i, t := range tags {
		switch t.name {
		case "v":
			if i != 0 || t.value != "DKIM1" {
				return nil, errors.New("v= must be DKIM1 and come first")
			}
		case "k":
			r.Kind = strings.ToLower(t.value)
		case "p":
			p, hasP = strings.Join(strings.Fields(t.value), ""), true
		case "h":
			r.Hashes = list(t.value)
		case "s":
			if services := list(t.value); !slices.Contains(services, "*") && !slices.Contains(services, "email") {
				return nil, fmt.Errorf("s=%.40s does not let the key sign mail", t.value)
			}
		case "t":
			r.Testing, r.Strict = slices.Contains(list(t.value), "y"), slices.Contains(list(t.value), "s")
		}
	}
	switch {
	case !hasP:
		return nil, errors.New("it has no p=")
	case len(r.Hashes) > 0 && !slices.Contains(r.Hashes, "sha256"):
		return nil, errors.New("h= does not allow sha256, with which mail is signed")
	case p == "":
		return r, nil
	}
	return r, r.readKey(p)
}

func list(v string) []string {
	out := strings.Split(strings.ToLower(v), ":")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}

func (r *KeyRecord) readKey(p string) error {
	raw, err := base64.StdEncoding.DecodeString(p)
	if err != nil {
		return errors.New("p= is not base64; was the record cut, or a string lost?")
	}
	switch r.Kind {
	case "ed25519":
		if len(raw) != ed25519.PublicKeySize {
			return fmt.Errorf("p= has %d bytes; an Ed25519 key has 32 (RFC 8463 4)", len(raw))
		}
		r.Key = ed25519.PublicKey(raw)
	case "rsa":
		key, err := rsaKey(raw)
		if err != nil {
			return err
		}
		r.Key, r.Bits = key, key.N.BitLen()
	default:
		return fmt.Errorf("k=%.20s is a kind that receivers do not know", r.Kind)
	}
	return nil
}

// rsaKey takes SubjectPublicKeyInfo, which all publish, and RSAPublicKey, which
// RFC 6376 names.
func rsaKey(raw []byte) (*rsa.PublicKey, error) {
	if k, err := x509.ParsePKIXPublicKey(raw); err == nil {
		key, ok := k.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("p= is a key of another kind (%T) than k=rsa", k)
		}
		return key, nil
	}
	key, err := x509.ParsePKCS1PublicKey(raw)
	if err != nil {
		return nil, errors.New("p= is no RSA key; was the record cut, or a string lost?")
	}
	return key, nil
}

// same compares two public keys.
func same(a, b any) bool {
	switch k := a.(type) {
	case *rsa.PublicKey:
		o, ok := b.(*rsa.PublicKey)
		return ok && k.Equal(o)
	case ed25519.PublicKey:
		o, ok := b.(ed25519.PublicKey)
		return ok && k.Equal(o)
	}
	return false
}
