package policy

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (v *validation) checkPool(p *Pool) {
	if len(p.Sources) == 0 {
		v.bad("spec.sources", "a pool needs at least one source, as in [{name: default}]")
	}
	v.bounded("spec.sources", len(p.Sources))
	seen := map[string]bool{}
	for i, m := range p.Sources {
		path := at("spec.sources", i)
		if m.Name == "" {
			v.bad(path+".name", "give the name of a source")
		}
		refers(v, path+".name", KindSource, m.Name, v.set.Sources)
		if seen[m.Name] {
			v.bad(path+".name", "source %s is in the pool twice; give it a larger weight instead", quote(m.Name))
		}
		seen[m.Name] = true
		number(v, path+".weight", m.Weight, 1, maxWeight)
	}
}

func (v *validation) checkCarrier(c *Carrier) {
	isDefault := v.now.Name == DefaultName
	claim := v.claim
	if c.Disabled { // another carrier may have what was its
		claim = func(string, string, string) {}
	}
	if isDefault && len(c.MX)+len(c.Domains) > 0 {
		v.bad("spec.mx", "the default carrier takes what no other matches; leave mx and domains out, or use another name")
	}
	v.bounded("spec.mx", len(c.MX))
	for i, m := range c.MX {
		path := at("spec.mx", i)
		if err := CheckDomain(strings.TrimPrefix(m, ".")); err != nil {
			v.bad(path, "%s is no suffix of MX host names: %v; write it as in .google.com", quote(m), err)
			continue
		}
		claim(path, "MX suffix", mxSuffix(m))
	}
	v.bounded("spec.domains", len(c.Domains))
	for i, d := range c.Domains {
		path := at("spec.domains", i)
		if d == "*" {
			v.bad(path, "\"*\" would take all mail; the carrier named default is for that")
			continue
		}
		if v.pattern(path, d) {
			claim(path, "carrier domain", d)
		}
	}
	v.limits("spec.limits", &c.Limits)
	v.limits("spec.per_source", &c.PerSource)
	v.bounded("spec.per_pool", len(c.PerPool))
	for _, pool := range slices.Sorted(maps.Keys(c.PerPool)) {
		path, l := "spec.per_pool."+pool, c.PerPool[pool]
		refers(v, path, KindPool, pool, v.set.Pools)
		v.limits(path, &l)
	}
	number(v, "spec.messages_per_connection", c.MessagesPerConnection, 1, 1_000_000)
	number(v, "spec.recipients_per_connection", c.RecipientsPerConnection, 1, 1_000_000)
	number(v, "spec.recipients_per_transaction", c.RecipientsPerTransaction, 1, 1000)
	v.span("spec.idle_timeout", c.IdleTimeout, Duration(100*time.Millisecond), Duration(5*time.Minute))
	v.retry("spec.retry", c.Retry)
	v.word("spec.tls", c.TLS, carrierTLSWords)
	v.word("spec.addresses", c.Addresses, addressWords)
	v.span("spec.backoff", c.Backoff, Duration(time.Second), Duration(MaxBackoff))
	v.span("spec.start_jitter", c.StartJitter, Duration(time.Millisecond), Duration(24*time.Hour))
	v.span("spec.off_hour", c.OffHour, Duration(time.Second), Duration(20*time.Minute))
	v.bounded("spec.mx_networks", len(c.MXNetworks))
	for i, n := range c.MXNetworks {
		v.network(at("spec.mx_networks", i), n)
		claim(at("spec.mx_networks", i), "network of MX hosts", n.String())
	}
	v.word("spec.odd_local_parts", c.OddLocalParts, oddWords)
	v.steer("spec.steering", c.Steering)
	if isDefault && c.Disabled {
		v.bad("spec.disabled", "the default carrier takes what no other matches; it cannot be left out")
	}
}

func (v *validation) limits(path string, l *Limits) {
	v.rate(path+".rate", l.Rate)
	number(v, path+".per_day", l.PerDay, 1, maxPerDay)
	number(v, path+".connections", l.Connections, 1, maxConnections)
	v.rate(path+".connection_rate", l.ConnectionRate)
}

func (v *validation) checkRoute(r *Route) {
	if len(r.Domains) == 0 {
		v.bad("spec.domains", "a route needs the domains it is for, as in [example.com], [\"*.example.com\"] or [\"*\"]")
	}
	v.bounded("spec.domains", len(r.Domains))
	for i, d := range r.Domains {
		if path := at("spec.domains", i); v.pattern(path, d) {
			v.claim(path, "route domain", d)
		}
	}
	if len(r.Hosts) > 100 {
		v.bad("spec.hosts", "%d hosts are too many: at most 100", len(r.Hosts))
	}
	for i, h := range r.Hosts {
		if _, err := ParseHost(h); err != nil {
			v.bad(at("spec.hosts", i), "%v", err)
		}
	}
	v.bounded("spec.allow_networks", len(r.AllowNetworks))
	for i, n := range r.AllowNetworks {
		v.network(at("spec.allow_networks", i), n)
	}
	v.word("spec.tls", r.TLS, routeTLSWords)
	if r.TLS == TLSImplicit && len(r.Hosts) == 0 {
		v.bad("spec.tls", "implicit TLS needs hosts, with their port, as in [\"smtp.example.com:465\"]; MX hosts speak STARTTLS")
	}
	v.routeLogin(r)
	refers(v, "spec.carrier", KindCarrier, r.Carrier, v.set.Carriers)
}

// routeLogin checks the credentials of a route: they must be complete, and must
// not go to whatever hosts an MX record names.
func (v *validation) routeLogin(r *Route) {
	switch {
	case r.Username == "" && !r.Password.IsZero():
		v.bad("spec.username", "there is a password but no username")
	case r.Username != "" && r.Password.IsZero():
		v.bad("spec.password", "there is a username but no password; it has to be given again when hosts, tls, username or auth_plaintext change")
	case r.Username == "" && r.AuthPlaintext:
		v.bad("spec.auth_plaintext", "there is no username; leave auth_plaintext out")
	case r.Username == "":
		return
	case len(r.Hosts) == 0:
		v.bad("spec.hosts", "a route with a username needs hosts: a password is not sent to whatever the MX records name")
	case r.TLS == TLSNone && !r.AuthPlaintext:
		v.bad("spec.tls", "without TLS the login would never be tried; set auth_plaintext: true to send the password in the clear")
	}
	if len(r.Username) > 255 || len(r.Password.Reveal()) > 4096 || strings.ContainsRune(r.Username+r.Password.Reveal(), 0) {
		v.bad("spec.username", "username is at most 255 bytes and password at most 4096, neither with a NUL (RFC 4616)")
	}
}

func (v *validation) checkSigningKey(k *SigningKey) {
	if err := CheckDomain(k.Domain); err != nil {
		v.bad("spec.domain", "%s is no domain: %v", quote(k.Domain), err)
	}
	if err := CheckDomain(k.Selector); err != nil {
		v.bad("spec.selector", "%s is no selector: %v", quote(k.Selector), err)
	}
	v.claim("spec.selector", "signing domain and selector", k.Selector+"._domainkey."+k.Domain)
	switch {
	case k.PrivateKey.IsZero() == (k.PrivateKeyFile == ""):
		v.bad("spec.private_key", "give either private_key or private_key_file; \"hikyaku dkim keygen\" makes a key")
	case k.PrivateKeyFile != "":
		if !filepath.IsAbs(k.PrivateKeyFile) {
			v.bad("spec.private_key_file", "want an absolute path: nodes do not share a working directory")
		}
	default:
		if err := checkPrivateKey(k.PrivateKey.Reveal()); err != nil {
			v.bad("spec.private_key", "%v", err)
		}
	}
	if len(k.OversignHeaders) > 100 {
		v.bad("spec.oversign_headers", "%d headers are too many: at most 100", len(k.OversignHeaders))
	}
	for i, h := range k.OversignHeaders {
		if !validHeaderName(h) {
			v.bad(at("spec.oversign_headers", i), "%s is no header field name (RFC 5322 2.2)", quote(h))
		}
	}
}

// checkPrivateKey never repeats any of the text: it would end up in a log.
func checkPrivateKey(text string) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errors.New("not a key in PEM form (-----BEGIN PRIVATE KEY-----)")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return fmt.Errorf("PEM block is a %s: want PRIVATE KEY (PKCS #8) or RSA PRIVATE KEY (PKCS #1)", quote(block.Type))
	}
	if err != nil {
		return errors.New("the PEM block does not hold a readable private key")
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return nil
	case *rsa.PrivateKey:
		// RFC 8301 3.2: signers must use at least 1024 bits, should use 2048.
		if n := k.N.BitLen(); n < 1024 || n > 8192 {
			return fmt.Errorf("RSA key of %d bits: want 1024 to 8192, best 2048 (RFC 8301 3.2)", n)
		}
		return nil
	}
	return errors.New("want an RSA or Ed25519 key: DKIM knows no other (RFC 6376, RFC 8463)")
}

func validHeaderName(s string) bool {
	if s == "" || len(s) > 76 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return true
}
