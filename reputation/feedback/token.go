package feedback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/spool/message"
)

// Purpose is what a short token is for. A token of one purpose does not open as
// another's: the letter is under the authentication code.
type Purpose byte

// The purposes. Each is the first letter of its tokens.
const (
	ReturnPath  Purpose = 'b' // envelope sender: bounces
	Trace       Purpose = 't' // the trace header
	Unsubscribe Purpose = 'u' // mailto of List-Unsubscribe
)

// Bounds of tokens.
const (
	// Span is how long return paths and traces count. Carriers bounce for up to a
	// week, people complain for a month.
	Span = 30 * 24 * time.Hour
	// LinkSpan is how long an unsubscribe link and address count: people find old
	// mail again. Former keys must be kept as long.
	LinkSpan = 180 * 24 * time.Hour
	// KeyBytes is the least length of a key.
	KeyBytes = 32
	// MaxKeys bounds a key ring: the current key and those before it.
	MaxKeys = 8

	tenantBytes = 4
	sourceBytes = 3
	headBytes   = 1 + 16 + 2 + 1 // version and key id, message, index, day
	tokenBytes  = headBytes + 18 // what a layout divides
)

// layout is how a version of tokens divides the octets behind the head: hash of
// the recipient, of the tenant, of the source, and the code. Nothing can be tried
// out away from here, since all but the source's is keyed, and who tries it out
// here is slowed down: 32 bits keep one recipient's token from being another's, 56
// keep anybody from making one.
type layout struct{ recipient, code, source int }

// layouts has the versions: 1 did not know the source. Its tokens count until they
// have ended.
var layouts = [16]layout{1: {recipient: 6, code: 8}, 2: {recipient: 4, code: 7, source: sourceBytes}}

const tokenVersion = 2

// TokenLen is the length of a short token: "b-" and 61 letters and digits.
const TokenLen = 2 + (tokenBytes*8+4)/5

// Errors of Open and OpenSealed. Peers are told nothing of the difference.
var (
	ErrNoToken = errors.New("not a token of ours")
	ErrForged  = errors.New("a token that no key of ours has made")
	ErrExpired = errors.New("a token that no longer counts")
)

// base32Text is RFC 4648's alphabet in lower case: 38 octets take 61 letters, one
// less than with a byte more in the token would fit behind "b-" into 64.
var base32Text = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Subject is what a token is about.
type Subject struct {
	Delivery  message.DeliveryID
	Tenant    string
	Stream    string // in sealed tokens only
	Recipient string // as it is sent to
	// Source is the one that sends: of return paths and traces, which are made for
	// an attempt. What the recipient is to keep must not change with it.
	Source string
	Issued time.Time
}

// Token is an opened short token. It knows its recipient and tenant only by a
// keyed hash: Keys.IsRecipient and Keys.IsTenant compare.
type Token struct {
	Purpose  Purpose
	Delivery message.DeliveryID
	Issued   time.Time // the day, UTC

	key       *ringKey
	recipient []byte
	tenant    [tenantBytes]byte
	source    [sourceBytes]byte // zero: not known
}

// Keys is a ring of keys: the first makes tokens, all open them. Safe for
// concurrent use.
type Keys struct{ ring []*ringKey }

// ringKey is one key, split by what it is used for.
type ringKey struct {
	id                     byte // 4 bits that say which key to try; several may share them
	code, rcpt, tnt, links macPool
}

// NewKeys makes a ring. The keys are derived from the cluster's keys by the
// caller (purpose "return-path"), the current one first.
func NewKeys(current []byte, former ...[]byte) (*Keys, error) {
	if len(former)+1 > MaxKeys {
		return nil, fmt.Errorf("feedback keys: %d are given, at most %d are kept", len(former)+1, MaxKeys)
	}
	k := &Keys{}
	for i, secret := range append([][]byte{current}, former...) {
		if len(secret) < KeyBytes {
			return nil, fmt.Errorf("feedback key %d: %d bytes, want at least %d", i, len(secret), KeyBytes)
		}
		sub := func(purpose string) macPool {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte("hikyaku feedback " + purpose))
			return newMACPool(m.Sum(nil))
		}
		id := hmac.New(sha256.New, secret)
		id.Write([]byte("hikyaku feedback id"))
		k.ring = append(k.ring, &ringKey{id: id.Sum(nil)[0] & 15,
			code: sub("code"), rcpt: sub("recipient"), tnt: sub("tenant"), links: sub("links")})
	}
	return k, nil
}

// ClusterKeys is the ring of a cluster: its key, and those before it.
func ClusterKeys(current keyspace.Key, former ...keyspace.Key) (*Keys, error) {
	if current.IsZero() {
		return nil, errors.New("feedback keys: there is no cluster key")
	}
	var old [][]byte
	for _, k := range former {
		old = append(old, k.Derive("return-path", KeyBytes))
	}
	return NewKeys(current.Derive("return-path", KeyBytes), old...)
}

// macPool lends keyed hashes: making one costs as much as using it.
type macPool struct{ *sync.Pool }

func newMACPool(key []byte) macPool {
	return macPool{&sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// sum is the keyed hash of the parts.
func (p macPool) sum(out []byte, parts ...[]byte) []byte {
	h := p.Get().(hash.Hash)
	defer p.Put(h)
	h.Reset()
	for _, b := range parts {
		h.Write(b)
	}
	return h.Sum(out)
}

// Seal makes a short token, TokenLen letters.
func (k *Keys) Seal(p Purpose, s *Subject) string {
	key := k.ring[0]
	l := &layouts[tokenVersion]
	var raw [tokenBytes]byte
	raw[0] = tokenVersion<<4 | key.id
	copy(raw[1:], s.Delivery.Message[:])
	binary.BigEndian.PutUint16(raw[17:], s.Delivery.Index)
	raw[19] = daysAfter(s.Delivery.Message, s.Issued)
	var sum [sha256.Size]byte
	body := append(raw[:headBytes], key.rcpt.sum(sum[:0], []byte(Normal(s.Recipient)))[:l.recipient]...)
	body = append(body, key.tnt.sum(sum[:0], []byte(s.Tenant))[:tenantBytes]...)
	var source [sourceBytes]byte
	if p != Unsubscribe {
		source = sourceHash(s.Source)
	}
	body = append(body, source[:]...)
	copy(raw[len(body):], key.code.sum(sum[:0], []byte{byte(p)}, body)[:l.code])
	out := make([]byte, TokenLen)
	out[0], out[1] = byte(p), '-'
	base32Text.Encode(out[2:], raw[:])
	return string(out)
}

// Open opens a short token, in either case. The error is ErrNoToken, ErrForged
// or ErrExpired.
func (k *Keys) Open(local string, now time.Time) (Token, error) {
	if len(local) != TokenLen || local[1] != '-' {
		return Token{}, ErrNoToken
	}
	local = strings.ToLower(local)
	p := Purpose(local[0])
	if p != ReturnPath && p != Trace && p != Unsubscribe {
		return Token{}, ErrNoToken
	}
	var raw [tokenBytes]byte
	n, err := base32Text.Decode(raw[:], []byte(local[2:]))
	l := layouts[raw[0]>>4]
	if err != nil || n != tokenBytes || l.code == 0 {
		return Token{}, ErrNoToken
	}
	// The last letter has a bit to spare: two texts must not be one token.
	if base32Text.EncodeToString(raw[:]) != local[2:] {
		return Token{}, ErrNoToken
	}
	body := raw[:tokenBytes-l.code]
	for _, key := range k.ring {
		var sum [sha256.Size]byte
		if key.id != raw[0]&15 || !hmac.Equal(key.code.sum(sum[:0], []byte{byte(p)}, body)[:l.code], raw[len(body):]) {
			continue
		}
		t := Token{Purpose: p, key: key}
		copy(t.Delivery.Message[:], raw[1:])
		t.Delivery.Index = binary.BigEndian.Uint16(raw[17:])
		t.Issued = issued(t.Delivery.Message, raw[19])
		rest := body[headBytes:]
		t.recipient, rest = rest[:l.recipient], rest[l.recipient:]
		copy(t.tenant[:], rest)
		copy(t.source[:], rest[tenantBytes:])
		span := Span
		if p == Unsubscribe {
			span = LinkSpan
		}
		if err := inSpan(t.Issued, now, span); err != nil {
			return Token{}, err
		}
		return t, nil
	}
	return Token{}, ErrForged
}

// IsRecipient reports whether the token was made for this address.
func (k *Keys) IsRecipient(t Token, address string) bool {
	if t.key == nil || address == "" {
		return false
	}
	var sum [sha256.Size]byte
	return hmac.Equal(t.key.rcpt.sum(sum[:0], []byte(Normal(address)))[:len(t.recipient)], t.recipient)
}

// IsTenant reports whether the token was made for this tenant.
func (k *Keys) IsTenant(t Token, name string) bool {
	if t.key == nil {
		return false
	}
	var sum [sha256.Size]byte
	return hmac.Equal(t.key.tnt.sum(sum[:0], []byte(name))[:tenantBytes], t.tenant[:])
}

// TenantIndex finds the tenants of tokens among many.
type TenantIndex struct {
	byHash map[*ringKey]map[[tenantBytes]byte][]string
}

// Tenants makes an index of names. It is good as long as the list is.
func (k *Keys) Tenants(names []string) *TenantIndex {
	x := &TenantIndex{byHash: make(map[*ringKey]map[[tenantBytes]byte][]string)}
	for _, key := range k.ring {
		m := make(map[[tenantBytes]byte][]string, len(names))
		for _, name := range names {
			var sum [sha256.Size]byte
			h := [tenantBytes]byte(key.tnt.sum(sum[:0], []byte(name)))
			m[h] = append(m[h], name)
		}
		x.byHash[key] = m
	}
	return x
}

// Of are the tenants for which the token may be: one, or none, and in one case of
// millions two, which the return-path domain tells apart.
func (x *TenantIndex) Of(t Token) []string {
	return x.byHash[t.key][t.tenant]
}

// sourceHash names a source in a token: 24 bits of FNV-1a, zero for none. It is no
// secret which source sent, and it is asked for every recipient.
func sourceHash(name string) (b [sourceBytes]byte) {
	if name == "" {
		return b
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	sum := h.Sum32()
	sum = sum>>24 ^ sum&(1<<24-1)
	b[0], b[1], b[2] = byte(sum>>16), byte(sum>>8), byte(sum)
	return b
}

// SourceIndex finds the sources of tokens among many.
type SourceIndex struct{ byHash map[[sourceBytes]byte]string }

// Sources makes an index of names. It is good as long as the list is.
func Sources(names []string) *SourceIndex {
	x := &SourceIndex{byHash: make(map[[sourceBytes]byte]string, len(names))}
	for _, name := range names {
		h := sourceHash(name)
		if _, two := x.byHash[h]; two {
			name = "" // neither is blamed for the other
		}
		x.byHash[h] = name
	}
	return x
}

// Of is the source that sent, "" if the token does not know or it is gone.
func (x *SourceIndex) Of(t Token) string {
	if t.source == ([sourceBytes]byte{}) {
		return ""
	}
	return x.byHash[t.source]
}

// daysAfter is the day of issue, counted from the message's own, which its id
// has: one byte in place of two. Mail that waits longer expires with its token
// earlier than others, but none does.
func daysAfter(id message.ID, at time.Time) byte {
	days := (at.Unix() - id.Time().Truncate(24*time.Hour).Unix()) / 86400
	return byte(min(max(days, 0), 255))
}

func issued(id message.ID, days byte) time.Time {
	return id.Time().UTC().Truncate(24*time.Hour).AddDate(0, 0, int(days))
}

// inSpan allows a day before the issue for clocks that run apart, and the day
// of issue itself beyond the span.
func inSpan(day, now time.Time, span time.Duration) error {
	if age := now.Sub(day); age < -24*time.Hour || age > span+24*time.Hour {
		return ErrExpired
	}
	return nil
}

// Normal is the form of an address that is compared and hashed: the one under
// which it is suppressed. Who returns mail often changes case and quotes.
func Normal(address string) string {
	return message.SuppressionKey(strings.TrimSpace(address))
}

func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
