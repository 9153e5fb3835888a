package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// What this node would not have accepted from a client it does not take from
// another node either: a bug there, or a disk gone bad, must not become mail
// here. The sender applies the same rules before it offers anything, so that
// one bad message is left behind and does not keep a thousand others.

// validNodeID reports whether s could be Store.NodeID.
func validNodeID(s string) bool {
	if len(s) != 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validName is the rule of message.QueueKey for tenant, stream and pool.
func validName(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func validJob(s string) bool {
	return len(s) <= 128 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// validDestination is a domain in A-label form or an address literal.
func validDestination(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	if s[0] == '[' {
		return len(s) > 2 && s[len(s)-1] == ']' && strings.IndexFunc(s[1:len(s)-1], func(r rune) bool {
			return r <= ' ' || r > '~' || r == '[' || r == ']' || r == '\\'
		}) < 0
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

// validText is text without control bytes, in UTF-8.
func validText(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// validAddress is a mailbox on the wire: a local part and a domain.
func validAddress(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return validText(s, 1024) && at > 0 && at < len(s)-1 && !strings.ContainsAny(s[at:], " <>\"")
}

// validObject is a JSON object, or nothing.
func validObject(b []byte) bool { return len(b) == 0 || b[0] == '{' && json.Valid(b) }

func checkMessage(m *message.Message) error {
	switch {
	case !validName(m.Tenant, 1, 64), !validName(m.Stream, 0, 64), !validName(m.Pool, 0, 64), !validJob(m.Job):
		return fmt.Errorf("%w: message of tenant %q, stream %q, pool %q, job %q", ErrInvalid, m.Tenant, m.Stream, m.Pool, m.Job)
	case m.Sender != "" && !validAddress(m.Sender):
		return fmt.Errorf("%w: sender %q", ErrInvalid, m.Sender)
	case !validText(m.EnvID, 100), !validText(m.From, 1024), !validName(m.Via, 0, 16), !validText(m.HeaderFrom, 255):
		return fmt.Errorf("%w: envelope of message %s", ErrInvalid, m.ID)
	case len(m.Tags) > 64, !validObject(m.Metadata):
		return fmt.Errorf("%w: tags or metadata of message %s", ErrInvalid, m.ID)
	}
	for _, t := range m.Tags {
		if !validText(t, 256) {
			return fmt.Errorf("%w: tag %q", ErrInvalid, t)
		}
	}
	return nil
}

func checkDelivery(m *message.Message, d *message.Delivery) error {
	q := &d.Queue
	switch {
	case !validDestination(q.Destination):
		return fmt.Errorf("%w: destination %q", ErrInvalid, q.Destination)
	case q.Tenant != m.Tenant, !validName(q.Stream, 0, 64), !validName(q.Pool, 0, 64), !validJob(q.Job):
		return fmt.Errorf("%w: tenant %q (its message's is %q), stream %q, pool %q or job %q", ErrInvalid, q.Tenant, m.Tenant, q.Stream, q.Pool, q.Job)
	case len(d.Recipients) == 0:
		return fmt.Errorf("%w: no recipient", ErrInvalid)
	}
	for i := range d.Recipients {
		r := &d.Recipients[i]
		if !validAddress(r.Address) || !validText(r.Name, 1024) || !validText(r.ORcpt, 1024) {
			return fmt.Errorf("%w: recipient %q", ErrInvalid, r.Address)
		}
		if !validObject(r.Vars) || !validObject(r.Metadata) {
			return fmt.Errorf("%w: variables or metadata of recipient %q", ErrInvalid, r.Address)
		}
	}
	return nil
}

// checkContent checks a content record without keeping what is in it.
func checkContent(key, value []byte) error {
	f, err := unseal(key, value)
	if err != nil {
		return err
	}
	if f.below(contentTemplate+1) == contentTemplate {
		f.template()
	} else if !f.bad {
		f.rest()
	}
	return f.done()
}

// checkText checks that raw content ends its lines in one way only, so that no
// parser on the way can read it as two messages (design.md 5.5).
func checkText(m *message.Message, record []byte) error {
	if record[1] != contentRaw || m.Body == message.BodyBinaryMIME {
		return nil
	}
	raw := record[contentHead : len(record)-sumLen]
	if bytes.IndexByte(raw, 0) >= 0 {
		return fmt.Errorf("%w: content holds a zero byte", ErrInvalid)
	}
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\n')
		line := rest
		if i >= 0 {
			line = rest[:i]
		}
		cr := bytes.IndexByte(line, '\r')
		if i < 0 {
			if cr >= 0 {
				return errBareLine
			}
			return nil
		}
		if cr < 0 || cr != len(line)-1 {
			return errBareLine
		}
		rest = rest[i+1:]
	}
}

var errBareLine = errors.Join(ErrInvalid, errors.New("content holds a bare CR or LF"))
