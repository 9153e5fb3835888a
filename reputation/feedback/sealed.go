package feedback

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// Bounds of sealed tokens.
const (
	sealedVersion = 1
	sealedHead    = 1 + 16 // version and key id, message id: in clear, authenticated
	nonceBytes    = 12
	tagBytes      = 16
	sealedPad     = 16
	maxSealedText = 3 + 3 + 255 + 255 + 400
	// MaxSealedLen bounds a sealed token.
	MaxSealedLen = (sealedHead + nonceBytes + tagBytes + maxSealedText + sealedPad) * 4 / 3
	// minSealedLen is that of one with empty names.
	minSealedLen = (sealedHead + nonceBytes + tagBytes + sealedPad) * 4 / 3
)

// SealLink makes the token of an unsubscribe link: all of the subject, encrypted
// and authenticated, URL-safe. The same subject gives the same token, so that a
// second attempt of a message is the same message. "" if a field is too long.
//
// Each message has a key of its own (from its id), and the nonce is a keyed hash
// of the text: a random one would come to AES-GCM's bound of 2^32 texts under one
// key within days, and a hash can repeat only with the text itself.
func (k *Keys) SealLink(s *Subject) string {
	if len(s.Tenant) > 255 || len(s.Stream) > 255 || len(s.Recipient) > 400 {
		return ""
	}
	key := k.ring[0]
	head := make([]byte, sealedHead, sealedHead+nonceBytes+maxSealedText+sealedPad+tagBytes)
	head[0] = sealedVersion<<4 | key.id
	copy(head[1:], s.Delivery.Message[:])
	text := make([]byte, 0, 6+len(s.Tenant)+len(s.Stream)+len(s.Recipient)+sealedPad)
	text = binary.BigEndian.AppendUint16(text, s.Delivery.Index)
	text = append(text, daysAfter(s.Delivery.Message, s.Issued))
	text = append(append(text, byte(len(s.Tenant))), s.Tenant...)
	text = append(append(text, byte(len(s.Stream))), s.Stream...)
	text = binary.BigEndian.AppendUint16(text, uint16(len(s.Recipient)))
	text = append(text, s.Recipient...)
	for len(text)%sealedPad != 0 { // the length would tell of the address
		text = append(text, 0)
	}
	var sum [sha256.Size]byte
	nonce := key.links.sum(sum[:0], []byte("nonce"), head, text)[:nonceBytes]
	out := append(head, nonce...)
	out = key.link(head[:sealedHead]).Seal(out, nonce, text, head[:sealedHead])
	return base64.RawURLEncoding.EncodeToString(out)
}

// link is the cipher of one message's links.
func (key *ringKey) link(head []byte) cipher.AEAD {
	var sum [sha256.Size]byte
	b, err := aes.NewCipher(key.links.sum(sum[:0], []byte("key"), head))
	if err != nil {
		panic("BUG: a key of 32 bytes: " + err.Error())
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic("BUG: AES is a cipher of 16 bytes: " + err.Error())
	}
	return a
}

// OpenLink opens the token of a link. The error is ErrNoToken, ErrForged or
// ErrExpired.
func (k *Keys) OpenLink(token string, now time.Time) (Subject, error) {
	// The decoder steps over line ends; a token has one spelling.
	if len(token) < minSealedLen || len(token) > MaxSealedLen || strings.ContainsAny(token, "\r\n") {
		return Subject{}, ErrNoToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < sealedHead+nonceBytes+tagBytes || raw[0]>>4 != sealedVersion {
		return Subject{}, ErrNoToken
	}
	head, nonce, sealed := raw[:sealedHead], raw[sealedHead:sealedHead+nonceBytes], raw[sealedHead+nonceBytes:]
	for _, key := range k.ring {
		if key.id != raw[0]&15 {
			continue
		}
		text, err := key.link(head).Open(nil, nonce, sealed, head)
		if err != nil {
			continue
		}
		s, ok := readSubject(text, message.ID(head[1:]))
		if !ok {
			return Subject{}, ErrForged
		}
		if err := inSpan(s.Issued, now, LinkSpan); err != nil {
			return Subject{}, err
		}
		return s, nil
	}
	return Subject{}, ErrForged
}

func readSubject(text []byte, id message.ID) (Subject, bool) {
	s := Subject{Delivery: message.DeliveryID{Message: id}}
	if len(text) < 4 {
		return s, false
	}
	s.Delivery.Index, s.Issued = binary.BigEndian.Uint16(text), issued(id, text[2])
	text = text[3:]
	for _, field := range []*string{&s.Tenant, &s.Stream} {
		if len(text) < 1 || len(text) < 1+int(text[0]) {
			return s, false
		}
		*field, text = string(text[1:1+text[0]]), text[1+text[0]:]
	}
	if len(text) < 2 {
		return s, false
	}
	n := int(binary.BigEndian.Uint16(text))
	if len(text) < 2+n {
		return s, false
	}
	s.Recipient = string(text[2 : 2+n])
	return s, true
}
