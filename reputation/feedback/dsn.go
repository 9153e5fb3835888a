package feedback

import (
	"bytes"
	"net/mail"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// isStatus reports whether a leaf has delivery-status fields: by its type, or,
// since several systems write text/plain there, by its first lines.
func isStatus(p *part) bool {
	switch p.kind.name {
	case "message/delivery-status", "message/global-delivery-status":
		return true
	case "", "text/plain", "text", "message/deliverystatus", "application/octet-stream", "text/delivery-status":
		return beginsStatus(p.body)
	}
	return false
}

// beginsStatus looks for the two fields that every report must have (RFC 3464
// 2.2.2, 2.3.2) among the first lines.
func beginsStatus(b []byte) bool {
	var reporting, final bool
	for range 40 {
		var line []byte
		if line, b = cutLine(b); hasPrefixFold(line, "Reporting-MTA:") || hasPrefixFold(line, "Arrival-Date:") {
			reporting = true
		} else if hasPrefixFold(line, "Final-Recipient:") || hasPrefixFold(line, "Original-Recipient:") {
			final = true
		} else if len(line) > 0 && !reporting && !final {
			return false // prose
		}
		if reporting && final {
			return true
		}
		if len(b) == 0 {
			break
		}
	}
	return false
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && strings.EqualFold(string(b[:len(prefix)]), prefix)
}

// readStatus reads the fields of a report: about the message, then a group for
// each recipient. Groups are separated by empty lines; where those got lost, a
// recipient's field that repeats begins the next one.
func (r *Report) readStatus(b []byte) {
	for groups := 0; len(b) > 0 && groups < 4*MaxRecipients; groups++ {
		b = bytes.TrimLeft(b, "\r\n \t")
		fs, rest, whole := readHeader(b)
		r.Truncated = r.Truncated || !whole
		if !r.readGroup(fs) {
			return
		}
		if len(rest) == len(b) { // a line that is no field: pass over it
			_, rest = cutLine(b)
		}
		b = rest
	}
	r.Truncated = r.Truncated || len(b) > 0
}

// readGroup reads one group. The fields of a recipient come in any order (RFC
// 3464 2.3), so it is known beforehand whether the group is about one. False: no
// room for more.
func (r *Report) readGroup(fs fields) bool {
	var cur *Recipient
	var seen [2]bool // of cur: Original-Recipient, Final-Recipient
	about := fs.has("Final-Recipient") || fs.has("Original-Recipient")
	for i := range fs {
		name, value := strings.ToLower(string(fs[i].name)), fs[i].value
		if r.note(name, value) || !about {
			continue
		}
		k := map[string]int{"original-recipient": 1, "final-recipient": 2}[name]
		if cur == nil || (k > 0 && seen[k-1]) {
			if len(r.Recipients) == MaxRecipients {
				r.Truncated = true
				return false
			}
			r.Recipients = append(r.Recipients, Recipient{})
			cur, seen = &r.Recipients[len(r.Recipients)-1], [2]bool{}
		}
		if k > 0 {
			seen[k-1] = true
		}
		cur.note(name, value)
	}
	return true
}

// note takes a field about the message (RFC 3464 2.2); false if it is none.
func (r *Report) note(name string, value []byte) bool {
	switch name {
	case "reporting-mta":
		r.ReportingMTA = clip(afterType(unfold(value)), maxName)
	case "original-envelope-id":
		r.EnvelopeID = clip(unfold(value), maxName)
	case "arrival-date":
		r.Arrived = parseDate(unfold(value))
	case "received-from-mta", "dsn-gateway":
	default:
		return false
	}
	return true
}

// note takes a field about the recipient (RFC 3464 2.3).
func (c *Recipient) note(name string, value []byte) {
	switch name {
	case "final-recipient":
		c.Address = reportAddress(unfold(value))
	case "original-recipient":
		c.Original = reportAddress(unfold(value))
	case "x-actual-recipient": // sendmail: whom an alias became
		if c.Address == "" {
			c.Address = reportAddress(unfold(value))
		}
	case "action":
		c.Action = parseAction(unfold(value))
	case "status":
		c.Status = findStatus(unfold(value))
	case "remote-mta":
		c.RemoteMTA = clip(afterType(unfold(value)), maxName)
	case "diagnostic-code":
		c.Reply = parseDiagnostic(value)
	case "last-attempt-date":
		c.LastTry = parseDate(unfold(value))
	case "will-retry-until":
		c.RetryUntil = parseDate(unfold(value))
	}
}

// settle fills what a recipient's group left out from what it has.
func (c *Recipient) settle() {
	if c.Status == (message.Enhanced{}) {
		c.Status = c.Reply.Enhanced
	}
	if c.Action == "" {
		switch {
		case c.Status.Class == 2, c.Status.Class == 0 && c.Reply.Code/100 == 2:
			c.Action = Delivered
		case c.Status.Class == 4, c.Status.Class == 0 && c.Reply.Code/100 == 4:
			c.Action = Delayed
		default:
			c.Action = Failed
		}
	}
	// RFC 3463: the status is the reporter's summary. The server's own word, if
	// it has one, says more; where it has none, the status speaks.
	if c.Reply.Enhanced == (message.Enhanced{}) {
		c.Reply.Enhanced = c.Status
	}
	if c.Reply.Code == 0 {
		class := c.Reply.Enhanced.Class
		if class == 0 {
			class = map[Action]uint8{Failed: 5, Delayed: 4}[c.Action]
		}
		switch class {
		case 5:
			c.Reply.Code = 550
		case 4:
			c.Reply.Code = 450
		default:
			c.Reply.Code = 250
		}
	}
}

func parseAction(s string) Action {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(s)), " ")
	switch strings.TrimRight(word, ";,.(") {
	case "failed", "failure", "fail", "error":
		return Failed
	case "delayed", "delay", "deferred":
		return Delayed
	case "delivered", "deliverable":
		return Delivered
	case "relayed":
		return Forwarded
	case "expanded":
		return Expanded
	}
	return ""
}

// afterType takes the type off "dns; mx.example.com" (RFC 3464 2.1.2).
func afterType(s string) string {
	if i := strings.IndexByte(s, ';'); i >= 0 && i < 20 && !strings.ContainsAny(s[:i], "@<. ") {
		s = s[i+1:]
	}
	return strings.TrimSpace(s)
}

// reportAddress reads an address with a type: "rfc822; x@example.com",
// "utf-8; …" with RFC 6533's escapes, or without a type at all.
func reportAddress(s string) string {
	kind, rest, typed := strings.Cut(s, ";")
	if !typed || strings.ContainsAny(kind, "@<") {
		rest = s
	}
	rest = strings.TrimSpace(rest)
	if strings.EqualFold(strings.TrimSpace(kind), "utf-8") && strings.Contains(rest, `\x{`) {
		rest = decodeUnitext(rest)
	}
	if i := strings.IndexByte(rest, '<'); i >= 0 {
		if j := strings.LastIndexByte(rest, '>'); j > i {
			rest = rest[i+1 : j]
		}
	}
	return cleanAddress(rest)
}

// decodeUnitext undoes \x{HEX} (RFC 6533 3).
func decodeUnitext(s string) string {
	var out strings.Builder
	for {
		i := strings.Index(s, `\x{`)
		if i < 0 {
			break
		}
		end := strings.IndexByte(s[i:min(len(s), i+11)], '}')
		if end < 0 {
			break
		}
		var r rune
		for _, c := range []byte(s[i+3 : i+end]) {
			if unhex(c) > 15 {
				return s
			}
			r = r<<4 | rune(unhex(c))
		}
		out.WriteString(s[:i])
		out.WriteRune(r)
		s = s[i+end+1:]
	}
	out.WriteString(s)
	return out.String()
}

// cleanAddress takes an address out of what people put around it. "" if it
// cannot be one.
func cleanAddress(s string) string {
	s = strings.TrimSpace(s)
	s = strings.Trim(s, "<>")
	if len(s) > 7 && strings.EqualFold(s[:7], "mailto:") {
		s = s[7:]
	}
	if s == "" || len(s) > maxAddress || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	return strings.ToValidUTF8(s, "?")
}

// parseDate reads a date as mail has it; zero if it cannot.
func parseDate(s string) time.Time {
	if len(s) > 100 {
		return time.Time{}
	}
	t, err := mail.ParseDate(s)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

// clip bounds a text and makes it one of printable characters.
func clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 4*most)], "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return strings.TrimSpace(s)
}
