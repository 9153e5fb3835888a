package feedback

import (
	"bytes"
	"strings"
)

// returned is the message that was sent back, or its header: the first part that
// is one, or what follows the prose.
func (m *received) returned() []byte {
	for i := range m.leaves {
		p := &m.leaves[i]
		switch p.kind.name {
		case "message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global", "message/global-headers",
			"text/rfc822", "message/partial", "message/external-body":
			if b := bytes.TrimLeft(p.body, "\r\n"); len(b) > 0 {
				return b
			}
		}
	}
	for i := range m.leaves { // headers that are sent as text
		p := &m.leaves[i]
		if name := p.kind.name; i > 0 && (name == "text/plain" || name == "application/octet-stream" || name == "") && looksLikeHeader(p.body) {
			return bytes.TrimLeft(p.body, "\r\n")
		}
	}
	if p := m.prose(); p != nil && len(p.returned) > 0 {
		return p.returned
	}
	return nil
}

// looksLikeHeader reports whether a text begins with fields of a message.
func looksLikeHeader(b []byte) bool {
	b = bytes.TrimLeft(b, "\r\n \t")
	fs, _, _ := readHeader(b[:min(len(b), 16<<10)])
	return len(fs) >= 3 && (fs.has("Message-ID") || fs.has("Received") || fs.has("Return-Path") || (fs.has("From") && fs.has("Subject")))
}

// readReturned notes what the returned message still has of ours.
func (r *Report) readReturned(m *received) {
	if r.Complaint != nil {
		r.addTokens([]byte(r.Complaint.MailFrom))
	}
	b := m.returned()
	if len(b) == 0 {
		return
	}
	h, _, whole := readHeader(b)
	r.Truncated = r.Truncated || !whole
	r.scanTokens(h)
	if id := h.get("Message-ID"); id != "" && r.Returned.MessageID == "" {
		r.Returned.MessageID = clip(strings.Trim(strings.TrimSpace(id), "<>"), maxName)
	}
	if r.Returned.Subject == "" {
		r.Returned.Subject = clip(h.get("Subject"), 200)
	}
	for i := range h {
		switch strings.ToLower(string(h[i].name)) {
		case "to", "x-hmxmroriginalrecipient", "x-original-to", "envelope-to":
			r.addReturnedTo(unfold(h[i].value))
		}
	}
}

func (r *Report) addReturnedTo(s string) {
	for _, a := range findAddresses(s, MaxTokens) {
		r.Returned.To = addOnce(r.Returned.To, a)
	}
}

// scanTokens looks through header values for what has the shape of our tokens.
// Where it stands does not matter: a token proves itself.
func (r *Report) scanTokens(h fields) {
	for i := range h {
		v := h[i].value
		if len(h[i].name) == 7 && strings.EqualFold(string(h[i].name), "Subject") {
			v = []byte(decodeWords(unfold(v)))
		}
		r.addTokens(v)
	}
}

// addTokens takes runs of letters, digits, '-' and '_'. A short token is a run
// of just its length, or stands at the end of one behind a separator that is
// itself such a letter (prvs=…-b-x, SRS0-…).
func (r *Report) addTokens(v []byte) {
	if len(v) < TokenLen {
		return
	}
	for i := 0; i < len(v); {
		if v[i] == '%' && i+2 < len(v) { // an escape, as in ?subject=unsubscribe%20…
			i += 3
			continue
		}
		if !isTokenByte(v[i]) {
			i++
			continue
		}
		j := i
		for j < len(v) && isTokenByte(v[j]) {
			j++
		}
		run := v[i:j]
		if len(run) >= TokenLen {
			if t := run[len(run)-TokenLen:]; t[1] == '-' && (t[0]|0x20 == 'b' || t[0]|0x20 == 't' || t[0]|0x20 == 'u') {
				r.Returned.Tokens = addOnce(r.Returned.Tokens, strings.ToLower(string(t)))
			} else if len(run) >= minSealedLen && len(run) <= MaxSealedLen {
				r.Returned.Links = addOnce(r.Returned.Links, string(run))
			}
		}
		i = j
	}
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func addOnce(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	if len(list) >= MaxTokens {
		return list
	}
	return append(list, s)
}
