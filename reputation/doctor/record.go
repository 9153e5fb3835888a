package doctor

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
)

// Record is a DNS record to publish.
type Record struct {
	Name string `json:"name"` // without the dot at the end
	Type string `json:"type"`
	Text string `json:"text"` // of TXT as one text; else the data
}

// Zone is the record as a line of a zone file. A text is split into strings of
// at most 255 bytes, which is what one can hold (RFC 1035 3.3); readers join
// them without a space.
func (r *Record) Zone() string {
	line := r.Name + ". IN " + r.Type + " "
	if r.Type != "TXT" {
		return line + r.Text
	}
	if len(r.Text) <= 255 {
		return line + quoted(r.Text)
	}
	line += "("
	for rest := r.Text; rest != ""; {
		n := min(len(rest), 255)
		line += " " + quoted(rest[:n])
		rest = rest[n:]
	}
	return line + " )"
}

// quoted writes a string as zone files do (RFC 1035 5.1).
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c > 0x7e:
			fmt.Fprintf(&b, "\\%03d", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// keyRecord is what to publish for a key; nil when it is not known.
func keyRecord(k *Key) *Record {
	var kind string
	var raw []byte
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return nil
		}
		kind, raw = "rsa", der
	case ed25519.PublicKey:
		kind, raw = "ed25519", p
	default:
		return nil
	}
	return &Record{
		Name: k.Selector + "._domainkey." + k.Domain, Type: "TXT",
		Text: "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(raw),
	}
}
