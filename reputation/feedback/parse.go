package feedback

import "strings"

// Parse says what a mail is that came back. It reads at most MaxBytes and keeps
// no reference to raw.
func Parse(raw []byte) *Report {
	r := &Report{}
	if len(raw) > MaxBytes {
		raw, r.Truncated = raw[:MaxBytes], true
	}
	r.parse(raw, 0)
	r.Recipients = mergeRecipients(r.Recipients)
	for i := range r.Recipients {
		r.Recipients[i].settle()
	}
	r.decide()
	return r
}

// received is a mail while it is read.
type received struct {
	header  fields
	leaves  []part
	subject string // decoded, lower case
	asItIs  string // the subject, decoded: lower case would spoil ISO-2022-JP
	from    string
}

// parse asks the questions in the order in which an answer is worth most: what
// was written for machines first, prose last.
func (r *Report) parse(raw []byte, inner int) {
	h, body, whole := readHeader(raw)
	t := tree{}
	t.read(h, body, 0)
	r.Truncated = r.Truncated || t.truncated || !whole
	m := &received{header: h, leaves: t.leaves, asItIs: decodeWords(h.get("Subject")), from: lowered(decodeWords(h.get("From")), 400)}
	m.subject = lowered(m.asItIs, 400)
	if r.scanTokens(h); inner == 0 {
		r.From = findAddresses(h.get("From"), MaxTokens)
	}
	switch {
	case r.readComplaint(m):
	case r.readDelivery(m):
	case r.readNotDelivery(m):
	case r.readProse(m, inner):
	case inner < maxInner && r.readInner(m, inner):
	default:
		r.Kind, r.Form, r.Why = Other, "", "nothing known"
		r.automatic(m)
	}
	if !r.nested {
		r.readReturned(m)
	}
}

// readDelivery takes reports with delivery-status fields, wherever they are.
func (r *Report) readDelivery(m *received) bool {
	if m.away() && !m.isReport() {
		return false // an answer that has somebody's report attached
	}
	for i := range m.leaves {
		if p := &m.leaves[i]; p.body != nil && isStatus(p) {
			r.readStatus(p.body)
		}
	}
	if len(r.Recipients) == 0 {
		r.readStrayStatus(m)
	}
	if len(r.Recipients) == 0 {
		return false
	}
	r.Form = "rfc3464"
	r.addProse(m)
	return true
}

// isReport reports whether a part says that it is a report.
func (m *received) isReport() bool {
	for i := range m.leaves {
		if k := m.leaves[i].kind.name; k == "multipart/report" || k == "message/delivery-status" {
			return true
		}
	}
	return false
}

// readStrayStatus looks for the fields in the middle of a mail system's text: MIME
// was lost on the way, or never there.
func (r *Report) readStrayStatus(m *received) {
	if !m.fromSystem() && !m.bounceSubject() {
		return // somebody tells of his troubles
	}
	for i := range m.leaves {
		p := &m.leaves[i]
		if name := p.kind.name; name != "" && name != "text/plain" && name != "text" {
			continue
		}
		b, start := p.body[:min(len(p.body), MaxText)], []byte(nil)
		action := false
		for len(b) > 0 {
			line, rest := cutLine(b)
			switch {
			case hasPrefixFold(line, "Reporting-MTA:"), start == nil && (hasPrefixFold(line, "Final-Recipient:") || hasPrefixFold(line, "Original-Recipient:")),
				start == nil && hasPrefixFold(line, "Action:"):
				start = b
			case hasPrefixFold(line, "Status:"):
				action = true
			}
			if isHeaderStart(string(line[:min(len(line), 20)])) {
				break
			}
			b = rest
		}
		if start != nil && action {
			r.readStatus(start[:len(start)-len(b)])
			return
		}
	}
}

// addProse takes from the text beside the fields what the fields lack: in which
// phase the reply was said (Postfix and Exim say so only there), and the
// server's words where there is no Diagnostic-Code.
func (r *Report) addProse(m *received) {
	prose := m.prose()
	if prose == nil {
		return
	}
	found := prose.recipients()
	for i := range r.Recipients {
		c := &r.Recipients[i]
		for j := range found {
			f := &found[j]
			if !sameAddress(f.Address, c.Address) && !sameAddress(f.Address, c.Original) && len(r.Recipients)+len(found) > 2 {
				continue
			}
			if c.Reply.Text == "" && c.Reply.Code == 0 {
				c.Reply = f.Reply
			} else if c.Reply.Phase == 0 && (f.Reply.Code == c.Reply.Code || f.Reply.Code == 0 || c.Reply.Code == 0) {
				c.Reply.Phase = f.Reply.Phase
			}
			break
		}
	}
}

func sameAddress(a, b string) bool { return a != "" && b != "" && Normal(a) == Normal(b) }

// readNotDelivery knows reports that are about something else: receipts
// (RFC 8098), reports about TLS and DMARC.
func (r *Report) readNotDelivery(m *received) bool {
	for i := range m.leaves {
		switch m.leaves[i].kind.name {
		case "message/disposition-notification":
			r.Kind, r.Form, r.Why = AutoReply, "rfc8098", "disposition notification"
			return true
		case "application/tlsrpt+gzip", "application/tlsrpt+json":
			r.Kind, r.Form, r.Why = Other, "rfc8460", "TLS report"
			return true
		}
	}
	if strings.HasPrefix(m.subject, "report domain:") && strings.Contains(m.subject, "submitter:") { // RFC 7489 7.2.1.1
		r.Kind, r.Form, r.Why = Other, "rfc7489", "DMARC report"
		return true
	}
	return false
}

// readInner reads a message within the mail as a report of its own: some filters
// send the real report on as an attachment.
func (r *Report) readInner(m *received, inner int) bool {
	if !m.fromSystem() && !m.bounceSubject() {
		return false // somebody forwards a bounce: that is his own mail
	}
	for i := range m.leaves {
		if p := &m.leaves[i]; p.kind.name == "message/rfc822" && len(p.body) > 0 {
			sub := &Report{}
			if sub.parse(p.body, inner+1); sub.Kind == "" && len(sub.Recipients) > 0 {
				sub.Truncated, sub.From = sub.Truncated || r.Truncated, r.From
				*r = *sub
				r.nested = true
				return true
			}
			return false
		}
	}
	return false
}

// decide names the kind of reports with recipients: what is worst for one of
// them.
func (r *Report) decide() {
	if r.Kind != "" {
		return
	}
	worst := Action("")
	for i := range r.Recipients {
		switch a := r.Recipients[i].Action; {
		case a == Failed, worst == "", worst != Failed && a == Delayed:
			worst = a
		}
	}
	how := "text: "
	if r.Form == "rfc3464" {
		how = ""
	}
	switch worst {
	case Failed:
		r.Kind = Bounce
	case Delayed:
		r.Kind = Delay
	case Delivered, Forwarded, Expanded:
		r.Kind = Relayed
	default:
		r.Kind, r.Why = Other, "nothing known"
		return
	}
	r.Why = how + r.Form + " " + string(worst)
}

// mergeRecipients joins groups about the same address: reports that give each
// host tried a group of its own. The last word counts, and failed above all.
func mergeRecipients(rs []Recipient) []Recipient {
	out := rs[:0]
	at := make(map[string]int, len(rs))
	for i := range rs {
		key := Normal(rs[i].Address) + "\x00" + Normal(rs[i].Original)
		if rs[i].Address == "" && rs[i].Original == "" && rs[i].Action == "" && rs[i].Reply.Text == "" {
			continue
		}
		if j, ok := at[key]; ok {
			if out[j].Action != Failed || rs[i].Action == Failed {
				out[j] = rs[i]
			}
			continue
		}
		at[key] = len(out)
		out = append(out, rs[i])
	}
	return out
}

// lowered is the beginning of a text in lower case.
func lowered(s string, most int) string {
	return strings.ToLower(strings.TrimSpace(s[:min(len(s), most)]))
}

// fromSystem reports whether a mail claims to come from a mail system.
func (m *received) fromSystem() bool {
	for _, w := range systemSenders {
		if strings.Contains(m.from, w) {
			return true
		}
	}
	return m.from == "" && len(m.header) > 0
}

func (m *received) bounceSubject() bool {
	return containsAny(m.subject, bounceSubjects) || japanese(m.asItIs) != nil
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
