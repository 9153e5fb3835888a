package feedback

import (
	"net/netip"
	"strconv"
	"strings"
)

// readComplaint takes feedback reports (RFC 5965), and those of Microsoft's JMRP,
// which has no fields: the complaint is the message inside.
func (r *Report) readComplaint(m *received) bool {
	for i := range m.leaves {
		p := &m.leaves[i]
		if p.kind.name == "message/feedback-report" || (p.body != nil && beginsFeedback(p)) {
			r.Complaint = readFeedback(p.body)
			break
		}
	}
	if r.Complaint == nil && strings.HasPrefix(m.leaves[0].kind.name, "multipart/report") &&
		strings.EqualFold(m.leaves[0].kind.param("report-type"), "feedback-report") {
		// The report itself is missing or damaged, but the type says what it was.
		r.Complaint = &Complained{Type: "abuse", Incidents: 1}
		r.Form, r.Why = "arf without fields", ""
	}
	if r.Complaint == nil && strings.HasPrefix(m.subject, "complaint about message from ") && m.returned() != nil {
		r.Complaint = &Complained{Type: "abuse", Incidents: 1, UserAgent: "JMRP"}
		r.Complaint.note("source-ip", strings.TrimPrefix(m.subject, "complaint about message from "))
		r.Form = "jmrp"
	}
	if r.Complaint == nil {
		return false
	}
	if r.Form == "" {
		r.Form = "rfc5965"
	}
	r.complained()
	return true
}

// complained says what follows from the type. Only a person's word that the
// mail was not wanted is a complaint.
func (r *Report) complained() {
	r.Why = r.Form + " " + r.Complaint.Type
	switch r.Complaint.Type {
	case "abuse", "fraud", "virus", "miscategorized", "other":
		r.Kind = Complaint
	case "opt-out", "opt-out-list": // RFC 5965 as drafted; still sent
		r.Kind = Unsubscribing
	default: // not-spam, auth-failure (RFC 6591), dmarc, dkim: nobody complained
		r.Kind = Other
	}
}

// beginsFeedback looks for the field that every report must have (RFC 5965 3.1)
// in parts of another type.
func beginsFeedback(p *part) bool {
	switch p.kind.name {
	case "", "text/plain", "text", "application/octet-stream", "text/feedback-report", "message/feedback":
	default:
		return false
	}
	b := p.body
	for range 12 {
		var line []byte
		if line, b = cutLine(b); hasPrefixFold(line, "Feedback-Type:") {
			return true
		}
		if colon := strings.IndexByte(string(line), ':'); len(line) > 0 && colon < 0 {
			return false
		}
	}
	return false
}

// feedbackTypes are the words of the type (RFC 5965 7.3 and those in use). What
// is none of them is "other", which RFC 5965 3.1 asks to be read as a complaint
// that fits nowhere.
var feedbackTypes = map[string]bool{"abuse": true, "fraud": true, "virus": true, "not-spam": true, "other": true, "auth-failure": true,
	"opt-out": true, "opt-out-list": true, "miscategorized": true, "dmarc": true, "dkim": true}

func readFeedback(b []byte) *Complained {
	c := &Complained{Incidents: 1}
	for len(b) > 0 && len(b) < MaxBytes {
		fs, rest, _ := readHeader(b)
		for i := range fs {
			c.note(strings.ToLower(string(fs[i].name)), unfold(fs[i].value))
		}
		if len(fs) > 0 {
			break // one block of fields; what follows is prose
		}
		if len(rest) == len(b) {
			_, rest = cutLine(b)
		}
		b = rest
	}
	if !feedbackTypes[c.Type] {
		if c.Type == "" {
			c.Type = "abuse" // the field is required; some leave it out of a type that says enough
		} else {
			c.Type = "other"
		}
	}
	return c
}

func (c *Complained) note(name, value string) {
	switch name {
	case "feedback-type":
		c.Type = strings.Trim(lowered(value, 40), `"'; `)
	case "user-agent":
		c.UserAgent = clip(value, maxName)
	case "original-mail-from":
		c.MailFrom = reportAddress(value)
	case "original-rcpt-to":
		if a := reportAddress(value); a != "" && len(c.Recipients) < MaxTokens {
			c.Recipients = append(c.Recipients, a)
		}
	case "arrival-date", "received-date":
		if t := parseDate(value); !t.IsZero() {
			c.Arrived = t
		}
	case "source-ip":
		if a, err := netip.ParseAddr(strings.Trim(value, "[] ")); err == nil {
			c.SourceIP = a.String()
		}
	case "reported-domain":
		c.Domain = clip(value, maxName)
	case "reporting-mta":
		c.Reporter = clip(afterType(value), maxName)
	case "incidents":
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 {
			c.Incidents = min(n, 1_000_000)
		}
	}
}
