package compose

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// Bounds of what a template may bring along.
const (
	MaxHeaders     = 100
	MaxAttachments = 100 // attached and inline together
	MaxSubject     = 4096
	MaxName        = 256 // display names and file names, bytes
	maxHeaderName  = 60
	maxHeaderValue = 16 << 10
	maxAddress     = 320 // 64 + "@" + 255 (RFC 5321 4.5.3.1)
)

// reserved are fields that come from elsewhere: from the template's own fields,
// from us, or from the path a message takes.
var reserved = map[string]string{
	"from": "use from", "to": "use to", "reply-to": "use reply_to", "subject": "use subject",
	"cc": "each recipient gets a message of their own", "bcc": "each recipient gets a message of their own",
	"sender": "use from", "date": "it is set at acceptance", "message-id": "it is the delivery's id",
	"mime-version": "it belongs to the structure", "received": "it is a trace field",
	"return-path": "use envelope_from", "dkim-signature": "signing keys are policy",
	"domainkey-signature": "signing keys are policy", "authentication-results": "it is a trace field",
	"received-spf": "it is a trace field", "delivered-to": "it is a trace field",
	"x-original-to": "it is a trace field", "apparently-to": "use to",
}

var reservedPrefixes = []struct{ prefix, why string }{
	{"content-", "it belongs to the structure"},
	{"resent-", "it is a trace field"},
	{"arc-", "it is a trace field"},
	{"x-hikyaku-", "it is an instruction to this server: use the request's fields"},
}

// checkHeaderName says why a name cannot be an extra header field's.
func checkHeaderName(name string) error {
	if name == "" || len(name) > maxHeaderName {
		return fmt.Errorf("want 1 to %d characters", maxHeaderName)
	}
	for i := range len(name) { // RFC 5322 2.2, and no more than is seen in the wild
		if c := name[i]; !isAlnum(c) && c != '-' && c != '_' {
			return errors.New("only letters, digits, - and _ can be in a header's name")
		}
	}
	lower := strings.ToLower(name)
	if why, ok := reserved[lower]; ok {
		return errors.New(name + " cannot be set here: " + why)
	}
	for _, r := range reservedPrefixes {
		if strings.HasPrefix(lower, r.prefix) {
			return errors.New(name + " cannot be set here: " + r.why)
		}
	}
	return nil
}

// structured reports whether a field's value is URIs or message ids, in which
// encoded-words mean nothing.
func structured(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "list-") && name != "list-id" ||
		name == "references" || name == "in-reply-to" || name == "feedback-id" || name == "auto-submitted"
}

var errLongToken = fmt.Errorf("a part without a space becomes longer than a line may be (%d)", maxLine)

// appendStructured appends a value of URIs or message ids, folded at its spaces.
// Bytes beyond ASCII are percent-encoded, as in a URI (RFC 3986 2.5).
func appendStructured(dst []byte, col int, s []byte) ([]byte, error) {
	for i, word := range strings.Fields(string(s)) {
		width := len(word)
		for j := range len(word) {
			if word[j] >= utf8.RuneSelf {
				width += 2
			}
		}
		if i > 0 && col+1+width > foldAt {
			dst, col = append(dst, fold...), 0
		}
		if i > 0 {
			dst = append(dst, ' ')
			col++
		}
		if col+width > maxLine {
			return dst, errLongToken
		}
		for j := range len(word) {
			if c := word[j]; c >= utf8.RuneSelf {
				dst = append(dst, '%', hexUpper[c>>4], hexUpper[c&15])
			} else {
				dst = append(dst, c)
			}
		}
		col += width
	}
	return dst, nil
}

// headerAddress is an address as it stands in a header: a U-label becomes an
// A-label unless the local part needs SMTPUTF8 anyway (RFC 6531 3.2, 6532).
func headerAddress(address string) (string, error) {
	if err := checkAddress(address); err != nil {
		return "", err
	}
	address = smtp.QuoteOdd(address) // RFC 5322 3.2.3 has no dots at the ends or in a row either
	if isASCII(address) {
		return address, nil
	}
	i := strings.LastIndexByte(address, '@')
	if !isASCII(address[:i]) {
		return address, nil
	}
	domain, err := idna.Lookup.ToASCII(address[i+1:])
	if err != nil {
		return "", errors.New("the domain is not a valid internationalised name")
	}
	return address[:i+1] + domain, nil
}

// checkAddress is no grammar: ingest has parsed the address. It makes sure that
// whatever comes here cannot break out of a header field.
func checkAddress(a string) error {
	i := strings.LastIndexByte(a, '@')
	if i < 1 || i+1 == len(a) || len(a) > maxAddress || !utf8.ValidString(a) || hasControl(a) {
		return errors.New("not an address")
	}
	if strings.ContainsAny(a[i:], " <>(),;\"\\") {
		return errors.New("not an address")
	}
	if local := a[:i]; local[0] == '"' {
		return checkQuoted(local)
	} else if strings.ContainsAny(local, " <>()[],;:\\\"@") {
		return errors.New("not an address")
	}
	return nil
}

func checkQuoted(s string) error {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			if i == len(s)-1 {
				return nil
			}
			return errors.New("not an address")
		}
	}
	return errors.New("not an address")
}

// checkPlain is for text that stands in a header as given.
func checkPlain(s string, limit int) error {
	switch {
	case len(s) > limit:
		return fmt.Errorf("longer than %d bytes", limit)
	case !utf8.ValidString(s):
		return errors.New("not valid UTF-8")
	case hasControl(s):
		return errors.New("control characters, line ends among them, cannot be in a header")
	}
	return nil
}

// NeedsUTF8 reports whether the content for r can only go to a server with
// SMTPUTF8: an address in its headers has a local part beyond ASCII. Everything
// else is encoded. With a nil r it is about the template alone.
func NeedsUTF8(t *message.Template, r *message.Recipient) bool {
	needs := func(address string) bool {
		i := strings.LastIndexByte(address, '@')
		return i >= 0 && !isASCII(address[:i])
	}
	return needs(t.From.Email) || t.ReplyTo != nil && needs(t.ReplyTo.Email) || r != nil && needs(r.Address)
}

// HasTags reports whether any field of t holds template tags; without them
// Static can be set.
func HasTags(t *message.Template) bool {
	return strings.Contains(t.Subject, "{{") || strings.Contains(t.Text, "{{") || strings.Contains(t.HTML, "{{") ||
		slices.ContainsFunc(t.Headers, func(h message.Header) bool { return strings.Contains(h.Value, "{{") })
}
