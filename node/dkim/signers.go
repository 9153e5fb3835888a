package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
)

const (
	fieldName = "DKIM-Signature"
	maxName   = 64 // longest header name that can be listed for signing
	maxNames  = 128
)

// DefaultOversign are the names signed once more than they occur when a key
// lists none of its own.
var DefaultOversign = []string{
	"From", "Subject", "Date", "To", "List-Unsubscribe", "List-Unsubscribe-Post", "Message-ID",
}

// signedNames are the other names signed where they occur: what RFC 6376 5.4.1
// recommends, the MIME fields, and Feedback-ID, which Gmail's feedback loop
// only takes when it is signed. Fields that relays change or add (Received,
// Return-Path, Authentication-Results) are left out.
var signedNames = []string{
	"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Sender",
	"In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	"Content-ID", "Content-Description", "Content-Disposition", "Content-Language",
	"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe",
	"List-Post", "List-Owner", "List-Archive", "Feedback-ID", "Auto-Submitted", "Precedence",
}

// Signers holds the keys of one policy snapshot. It never changes after it was
// made, but for its counters, and is safe for concurrent use.
type Signers struct {
	domains map[string]*domain
	cache   map[cacheKey]parsedKey // by what they were parsed from
	read    func(path string) ([]byte, error)
	rsa     *rsaEngine
	metrics *counters // shared by all snapshots made from one another
	slow    []error
}

// domain is the keys of one d= domain.
type domain struct {
	keys  []*signer
	ranks map[string]uint8 // lower-case name → rank, the same for all keys
}

// signer is one key, ready to sign.
type signer struct {
	name   string // of the policy resource
	key    crypto.Signer
	hash   crypto.Hash // 0 for Ed25519, which takes the digest as its message
	prefix []byte      // the field up to t=
	names  []signedName
}

type signedName struct {
	text     string
	oversign bool
}

type cacheKey [sha256.Size]byte

// parsedKey is a key, and why it does not sign by libcrypto although that is
// in use.
type parsedKey struct {
	crypto.Signer
	slow error
}

type counters struct {
	signed, failed, unsigned, fallbacks atomic.Uint64
	nanoseconds                         atomic.Int64
}

// Metrics is a snapshot of the counters. They run on over policy changes.
type Metrics struct {
	Signed    uint64        // signatures made
	Failed    uint64        // keys or messages that could not be signed
	Unsigned  uint64        // messages whose domain has no key
	Fallbacks uint64        // signatures that libcrypto failed to make and crypto/rsa made
	Keys      int           // keys in use
	Time      time.Duration // spent in private keys' operations, waiting for a processor included
	RSA       RSA           // what makes RSA signatures
}

// NewSigners makes the signers of a policy snapshot. ReadFile reads the files
// that keys name; nil makes such keys errors. A key that cannot be used is left out and reported, with the
// name of its resource and never with its content; the others work.
func NewSigners(set *policy.Set, readFile func(path string) ([]byte, error)) (*Signers, []error) {
	return newSigners(set, readFile, systemRSA())
}

func newSigners(set *policy.Set, readFile func(path string) ([]byte, error), engine *rsaEngine) (*Signers, []error) {
	empty := &Signers{read: readFile, rsa: engine, metrics: new(counters)}
	return empty.Update(set)
}

// Update makes the signers of the next snapshot. Keys whose text has not
// changed are taken over without parsing them again; files are read again, so
// a rotated file is seen.
func (s *Signers) Update(set *policy.Set) (*Signers, []error) {
	next := &Signers{
		domains: make(map[string]*domain),
		cache:   make(map[cacheKey]parsedKey),
		read:    s.read,
		rsa:     s.rsa,
		metrics: s.metrics,
	}
	var errs []error
	names := make([]string, 0, len(set.SigningKeys))
	for name := range set.SigningKeys {
		names = append(names, name)
	}
	slices.Sort(names) // the order of the signatures on a message
	lists := make(map[string][][]signedName)
	for _, name := range names {
		k := set.SigningKeys[name]
		if k.Disabled {
			continue
		}
		sg, err := s.compile(next, name, k)
		if err != nil {
			errs = append(errs, fmt.Errorf("signing key %s: %w", name, err))
			continue
		}
		d := strings.ToLower(k.Domain)
		if next.domains[d] == nil {
			next.domains[d] = &domain{}
		}
		next.domains[d].keys = append(next.domains[d].keys, sg)
		lists[d] = append(lists[d], sg.names)
	}
	for name, d := range next.domains {
		d.rank(lists[name])
	}
	return next, errs
}

// compile makes one key ready. It is put into next's cache.
func (s *Signers) compile(next *Signers, name string, k *policy.SigningKey) (*signer, error) {
	if !validDomain(k.Domain) {
		return nil, fmt.Errorf("domain %q is not a domain name in A-label form", k.Domain)
	}
	if !validDomain(k.Selector) {
		return nil, fmt.Errorf("selector %q is not a domain name in A-label form", k.Selector)
	}
	text := []byte(k.PrivateKey.Reveal())
	if k.PrivateKeyFile != "" {
		if !k.PrivateKey.IsZero() {
			return nil, errors.New("both private_key and private_key_file are given")
		}
		var err error
		if s.read == nil {
			return nil, errors.New("private_key_file is not allowed here")
		}
		if text, err = s.read(k.PrivateKeyFile); err != nil {
			return nil, fmt.Errorf("read private_key_file: %w", err)
		}
	}
	sum := cacheKey(sha256.Sum256(text))
	key := s.cache[sum]
	if key.Signer == nil {
		key = next.cache[sum]
	}
	if key.Signer == nil {
		parsed, err := ParseKey(text)
		if err != nil {
			return nil, err
		}
		key = s.rsa.accelerate(parsed, &s.metrics.fallbacks)
	}
	next.cache[sum] = key
	if key.slow != nil {
		next.slow = append(next.slow, fmt.Errorf("signing key %s: %w", name, key.slow))
	}
	return newSigner(name, k, key.Signer)
}

func newSigner(name string, k *policy.SigningKey, key crypto.Signer) (*signer, error) {
	algorithm, err := algorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	sg := &signer{name: name, key: key}
	if algorithm == "rsa" {
		sg.hash = crypto.SHA256
	}
	oversign := k.OversignHeaders
	if oversign == nil {
		oversign = DefaultOversign
	}
	if sg.names, err = nameList(oversign); err != nil {
		return nil, err
	}
	// RFC 6376 3.5. No l=: it lets a third party add to the body. No i= and
	// q=: their defaults are what is meant.
	sg.prefix = []byte(fieldName + ": v=1; a=" + algorithm + "-sha256; c=relaxed/relaxed;\r\n d=" +
		strings.ToLower(k.Domain) + ";\r\n s=" + strings.ToLower(k.Selector) + ";\r\n t=")
	return sg, nil
}

func algorithmOf(pub crypto.PublicKey) (string, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return "", fmt.Errorf("RSA key of %d bits: at least %d are needed (RFC 8301 3.2)", p.N.BitLen(), minRSABits)
		}
		return "rsa", nil
	case ed25519.PublicKey:
		return "ed25519", nil
	}
	return "", fmt.Errorf("key of type %T: want RSA or Ed25519", pub)
}

// nameList is the names a key signs, From first: those listed for
// over-signing and the usual ones.
func nameList(oversign []string) ([]signedName, error) {
	list := []signedName{{text: "From"}}
	add := func(text string, over bool) error {
		if !validFieldName(text) {
			return fmt.Errorf("oversign_headers: %q is not a header name of at most %d bytes", text, maxName)
		}
		if strings.EqualFold(text, fieldName) {
			return fmt.Errorf("oversign_headers: %s cannot be signed (RFC 6376 5.4)", fieldName)
		}
		i := slices.IndexFunc(list, func(n signedName) bool { return strings.EqualFold(n.text, text) })
		if i < 0 {
			i = len(list)
			list = append(list, signedName{text: text})
		}
		list[i].oversign = list[i].oversign || over
		return nil
	}
	for _, n := range oversign {
		if err := add(n, true); err != nil {
			return nil, err
		}
	}
	for _, n := range signedNames {
		if err := add(n, false); err != nil {
			return nil, err
		}
	}
	if len(list) > maxNames {
		return nil, fmt.Errorf("oversign_headers: %d names, at most %d in all", len(list), maxNames)
	}
	return list, nil
}

// rank gives every name that some key of the domain signs one number, and
// brings all keys' lists into that order, so that fields are looked up once.
func (d *domain) rank(lists [][]signedName) {
	var order []string
	d.ranks = make(map[string]uint8)
	for _, list := range lists {
		for _, n := range list {
			l := strings.ToLower(n.text)
			if _, ok := d.ranks[l]; !ok && len(order) < unranked {
				d.ranks[l] = uint8(len(order))
				order = append(order, l)
			}
		}
	}
	for _, k := range d.keys {
		ranked := make([]signedName, len(order))
		for _, n := range k.names {
			if r, ok := d.ranks[strings.ToLower(n.text)]; ok {
				ranked[r] = n
			}
		}
		k.names = ranked
	}
}

// lookup finds the domain's keys, else those of the nearest parent that has
// some (RFC 6376 does not bind d= to From; DMARC's relaxed alignment accepts a
// parent).
func (s *Signers) lookup(name string) *domain {
	if len(s.domains) == 0 {
		return nil
	}
	for name != "" {
		if d := s.domains[name]; d != nil {
			return d
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return nil
}

// Signs reports whether mail from the domain (lower case, A-label) is signed.
func (s *Signers) Signs(domain string) bool { return s.lookup(domain) != nil }

// Metrics reads the counters.
func (s *Signers) Metrics() Metrics {
	m := Metrics{
		Signed:    s.metrics.signed.Load(),
		Failed:    s.metrics.failed.Load(),
		Unsigned:  s.metrics.unsigned.Load(),
		Fallbacks: s.metrics.fallbacks.Load(),
		Time:      time.Duration(s.metrics.nanoseconds.Load()),
		RSA:       s.rsa.says,
	}
	for _, d := range s.domains {
		m.Keys += len(d.keys)
	}
	return m
}

// Slow are the keys that sign by crypto/rsa although libcrypto is in use, as
// libcrypto did not take them or did not sign as crypto/rsa does. Their
// signatures are as good as any; they cost more.
func (s *Signers) Slow() []error { return s.slow }

// sign goes through crypto.Signer only, so that a key can live elsewhere (in
// libcrypto, in an HSM).
func (k *signer) sign(digest []byte) ([]byte, error) {
	// RFC 8463 3: Ed25519 signs the SHA-256 digest as its message.
	return k.key.Sign(rand.Reader, digest, k.hash)
}

// validDomain takes letters, digits, hyphens and underscores in labels of 1 to
// 63 bytes, 253 in all.
func validDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := lower(label[i])
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// validFieldName is RFC 5322 3.6.8 without the semicolon, which would end h=.
func validFieldName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' || c == ';' {
			return false
		}
	}
	return true
}
