package feedback

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// prose is the text of a report, and what follows it of the returned message.
type prose struct {
	lines    []string
	returned []byte
	own      []string // addresses of the report itself: not whom it is about
	whole    string   // lines joined, lower case
	codes    []quoted // of each line, found once
}

// quoted is the likeliest reply code of a line; score 0 is none.
type quoted struct {
	code  uint16
	score int
}

// prose reads the first text of the mail; nil if there is none.
func (m *received) prose() *prose {
	for _, kind := range []string{"text/plain", "", "text", "text/html"} {
		for i := range m.leaves {
			p := &m.leaves[i]
			if p.kind.name != kind && !(kind == "text" && strings.IndexByte(p.kind.name, '/') < 0 && p.kind.name != "") {
				continue
			}
			if len(bytes.TrimSpace(p.body)) == 0 || isStatus(p) {
				continue
			}
			body := p.body
			if kind == "text/html" {
				body = stripTags(body[:min(len(body), 4*MaxText)])
			}
			s := readProse(body)
			s.own = m.ownAddresses()
			return s
		}
	}
	return nil
}

// ownAddresses are those in the report's own header.
func (m *received) ownAddresses() []string {
	var own []string
	for _, name := range []string{"To", "From", "Cc", "Delivered-To", "X-Original-To", "Reply-To", "Return-Path", "Envelope-To"} {
		own = append(own, findAddresses(m.header.get(name), 4)...)
	}
	return own
}

// readProse takes lines up to where the returned message begins.
func readProse(b []byte) *prose {
	s := &prose{}
	size := 0
	for len(b) > 0 && len(s.lines) < MaxLines && size < MaxText {
		line, rest := cutLine(b)
		l := strings.TrimRight(string(line[:min(len(line), 2000)]), " \t")
		if beginsReturned(l, rest) {
			if !isHeaderStart(l) {
				b = rest
			}
			s.returned = skipToHeader(b)
			break
		}
		s.lines = append(s.lines, l)
		size += len(l) + 1
		b = rest
	}
	s.whole = strings.ToLower(strings.Join(s.lines, "\n"))
	s.codes = make([]quoted, len(s.lines))
	for i, l := range s.lines {
		if at, code, ok := findCode(l); ok && code >= 400 {
			s.codes[i] = quoted{code, codeScore(l, at)}
		}
	}
	return s
}

// returnedMarks are lines, lower case and without dashes around them, behind
// which the returned message stands.
var returnedMarks = []string{"below this line is", "this is a copy of", "a copy of the message", "a copy of your message", "original message", "the original message follows", "message headers follow",
	"message header follows", "unsent message follows", "message follows", "returned message", "undelivered message", "your original message", "original message header", "the header of the original message",
	"the header and top", "enclosed is a copy of the message", "the attachment contains the original", "original mail", "here is a copy of", "the following is a copy", "received message", "the message headers"}

// beginsReturned reports whether the message that comes back begins with this
// line or behind it.
func beginsReturned(l string, rest []byte) bool {
	if isHeaderStart(l) {
		return true
	}
	if len(l) > 120 || len(l) < 10 {
		return false
	}
	t := strings.ToLower(strings.Trim(l, "-=_*|>: \t."))
	dashed := strings.HasPrefix(strings.TrimLeft(l, " \t|"), "--") || strings.HasPrefix(l, "==") || strings.HasPrefix(l, "__")
	for _, w := range returnedMarks {
		if strings.HasPrefix(t, w) && (dashed || looksLikeHeader(rest)) {
			return true
		}
	}
	return false
}

// isHeaderStart knows the fields with which headers begin, at the margin.
func isHeaderStart(l string) bool {
	for _, w := range []string{"Received: ", "Return-Path: ", "Return-path: ", "DKIM-Signature: ", "X-Originating-IP: "} {
		if strings.HasPrefix(l, w) {
			return true
		}
	}
	return false
}

// skipToHeader passes over empty lines and dashes in front of a header.
func skipToHeader(b []byte) []byte {
	for range 20 {
		line, rest := cutLine(b)
		t := bytes.Trim(line, "-=_* \t|>")
		if len(t) > 0 || len(b) == 0 {
			break
		}
		b = rest
	}
	return b
}

// stripTags makes text of HTML: enough to find addresses and replies in.
func stripTags(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		i := bytes.IndexByte(b, '<')
		if i < 0 {
			out = append(out, b...)
			break
		}
		out = append(out, b[:i]...)
		end := bytes.IndexByte(b[i:], '>')
		if end < 0 {
			break
		}
		tag := strings.ToLower(string(bytes.TrimLeft(b[i+1:min(i+end, i+10)], "/")))
		switch {
		case strings.HasPrefix(tag, "br"), strings.HasPrefix(tag, "p"), strings.HasPrefix(tag, "div"), strings.HasPrefix(tag, "tr"),
			strings.HasPrefix(tag, "li"), strings.HasPrefix(tag, "h"), strings.HasPrefix(tag, "table"):
			out = append(out, '\n')
		case strings.HasPrefix(tag, "td"):
			out = append(out, ' ')
		}
		b = b[i+end+1:]
		if strings.HasPrefix(tag, "style") || strings.HasPrefix(tag, "script") {
			j := bytes.Index(b, []byte("</"))
			if j < 0 {
				break // it never ends: no text follows
			}
			b = b[j:]
		}
	}
	for _, e := range [][2]string{{"&lt;", "<"}, {"&gt;", ">"}, {"&nbsp;", " "}, {"&quot;", `"`}, {"&#39;", "'"}, {"&amp;", "&"}} {
		out = bytes.ReplaceAll(out, []byte(e[0]), []byte(e[1]))
	}
	return out
}

// readProse takes bounces without fields. It asks for a sign that it is one:
// X-Failed-Recipients, a phrase that only bounces have, or a mail system as the
// sender with a subject of bounces.
func (r *Report) readProse(m *received, inner int) bool {
	failed := m.header.get("X-Failed-Recipients")
	if failed == "" && m.away() {
		return false
	}
	s := m.prose()
	if s == nil {
		s = &prose{own: m.ownAddresses()}
	}
	form := s.form()
	system, subject := m.fromSystem(), m.bounceSubject()
	switch {
	case failed != "":
	case form != "" && (system || subject):
	case system && subject:
	case s.saysJapanese() && (system || subject):
	case system && s.quotesReply():
	default:
		return false
	}
	found := s.recipients()
	if failed != "" {
		found = keepFailed(found, failed)
	}
	if len(found) == 0 && inner < maxInner && r.readInner(m, inner) {
		return true
	}
	if len(found) == 0 {
		if form == "" && !subject {
			return false
		}
		found = []Recipient{s.nobody()}
	}
	for i := range found {
		s.judge(&found[i], m)
	}
	if len(found) > MaxRecipients {
		found, r.Truncated = found[:MaxRecipients], true
	}
	r.Recipients = found
	if r.Form = form; form == "" {
		r.Form = "text"
	}
	return true
}

// away reports whether the mail is an automatic reply beyond doubt, by its subject
// or a field: such mail may quote a bounce, and tell of a mailbox in a bounce's words.
func (m *received) away() bool { return m.awaySubject() || challenge(m) || m.responder() != "" }

func (s *prose) form() string {
	for _, p := range prosePhrases {
		if strings.Contains(s.whole, p.words) {
			return p.form
		}
	}
	return ""
}

// quotesReply reports whether a line is, beyond doubt, a server's refusal.
func (s *prose) quotesReply() bool {
	for _, q := range s.codes {
		if q.score >= 8 {
			return true
		}
	}
	return false
}

func (s *prose) saysJapanese() bool {
	for _, l := range s.lines {
		if japanese(l) != nil {
			return true
		}
	}
	return false
}

// keepFailed makes the addresses of X-Failed-Recipients the recipients, with
// what the text says of them.
func keepFailed(found []Recipient, failed string) []Recipient {
	var out []Recipient
	for _, a := range findAddresses(failed, MaxRecipients) {
		c := Recipient{Address: a}
		for i := range found {
			if sameAddress(found[i].Address, a) || (len(found) == 1) {
				c = found[i]
				c.Address = a
				break
			}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return found
	}
	return out
}

// nobody is the recipient of a report that names none: the token may.
func (s *prose) nobody() Recipient {
	return Recipient{Reply: s.replyIn(0, len(s.lines))}
}

// judge decides whether the recipient failed or waits.
func (s *prose) judge(c *Recipient, m *received) {
	if c.Reply.Code == 0 && c.Reply.Enhanced.Class == 0 {
		if p, at := s.firstJapanese(); p != nil {
			c.Reply.Enhanced, _ = message.ParseEnhanced(p.status)
			if p.action == Delayed {
				c.Action = Delayed
			}
			if !utf8.ValidString(s.lines[at]) || strings.Contains(s.lines[at], "\x1b") {
				c.Reply.Text = p.words[0] // the rest cannot be shown
			}
		}
	}
	c.Status = c.Reply.Enhanced
	late := containsAny(s.whole, delayPhrases) || containsAny(m.subject, []string{"delay", "warning: could not send"})
	if late && !containsAny(s.whole, givenUp) {
		c.Action = Delayed
	} else if c.Action == "" {
		c.Action = Failed
	}
}

// firstJapanese is the first phrase that says what is wrong, else the first that
// says that something is, and its line.
func (s *prose) firstJapanese() (best *phrase, at int) {
	for i, l := range s.lines {
		p := japanese(l)
		if p != nil && (best == nil || (strings.HasSuffix(best.status, ".0.0") && !strings.HasSuffix(p.status, ".0.0"))) {
			best, at = p, i
		}
	}
	return best, at
}

// recipients finds whom the text is about: addresses that stand at the beginning
// of a line or behind words that introduce them. What is said from there to the
// next one is said about it; what is said before the first is said about all.
func (s *prose) recipients() []Recipient {
	type found struct {
		address string
		line    int
	}
	var marks []found
	seen := map[string]bool{}
	for pass := 0; pass < 2 && len(marks) == 0; pass++ {
		for i, l := range s.lines {
			if len(marks) > MaxRecipients {
				break
			}
			for _, a := range introduced(l, pass == 1) {
				key := Normal(a)
				if seen[key] || s.isOwn(key) {
					continue
				}
				seen[key] = true
				marks = append(marks, found{a, i})
			}
		}
	}
	var out []Recipient
	for i, f := range marks {
		end := len(s.lines)
		for j := i + 1; j < len(marks); j++ {
			if marks[j].line > f.line {
				end = marks[j].line
				break
			}
		}
		c := Recipient{Address: f.address, Reply: s.replyIn(f.line, end)}
		if first := s.line(0); strings.HasPrefix(first, "The user(s) account is ") && c.Reply.Code != 0 { // au: the reply is "user unknown" whatever it is
			c.Reply.Text = cleanText(first + "\n" + c.Reply.Text)
		}
		if c.Reply.Code == 0 && c.Reply.Enhanced.Class == 0 {
			if other := s.replyAbout(f.address); other.Code != 0 {
				c.Reply = other
			} else if other := s.replyIn(0, marks[0].line); other.Code != 0 || c.Reply.Text == "" {
				c.Reply = other
			} else if last := marks[len(marks)-1].line; last > f.line {
				if other := s.replyIn(last, len(s.lines)); other.Code != 0 { // a list, then one text for all
					c.Reply = other
				}
			}
		}
		out = append(out, c)
	}
	return out
}

func (s *prose) isOwn(key string) bool {
	if strings.HasPrefix(key, "mailer-daemon@") || strings.HasPrefix(key, "abuse@") || strings.HasPrefix(key, "helpdesk@") || strings.HasPrefix(key, "support@") {
		return true
	}
	for _, a := range s.own {
		if Normal(a) == key {
			return true
		}
	}
	return false
}

// maxReplyLines bounds what is taken as one diagnostic.
const maxReplyLines = 12

// replyIn is the reply quoted in some lines: from the line with the likeliest
// code on, as far as the paragraph goes. Without a code it is what is said first.
func (s *prose) replyIn(from, to int) message.Reply {
	best, bestAt := 0, -1
	for i := from; i < to; i++ {
		if s.codes[i].score > best {
			best, bestAt = s.codes[i].score, i
		}
	}
	if bestAt >= 0 {
		rep := parseReply(s.paragraph(bestAt, to))
		if rep.Phase == message.PhaseNone {
			rep.Phase = phaseOf(strings.Join(s.lines[max(from, bestAt-3):min(to, bestAt+4)], "\n"))
		}
		return rep
	}
	return s.words(from, to)
}

// paragraph is the lines of one diagnostic.
func (s *prose) paragraph(i, to int) []string {
	out := []string{s.lines[i]}
	for j := i + 1; j < to && len(out) < maxReplyLines; j++ {
		l := s.lines[j]
		if strings.TrimSpace(l) == "" || strings.HasPrefix(l, "--") || isHeading(l) || strings.HasPrefix(l, ">>>") || strings.HasPrefix(l, "Giving up on ") || strings.HasPrefix(l, "I'm not going to try again") {
			break
		}
		if strings.HasPrefix(l, "<<<") || strings.HasPrefix(s.lines[i], "<<<") {
			if !strings.HasPrefix(l, "<<<") {
				break
			}
			l = strings.TrimSpace(strings.TrimPrefix(l, "<<<"))
		}
		out = append(out, l)
	}
	out[0] = strings.TrimSpace(strings.TrimPrefix(out[0], "<<<"))
	return out
}

// words is what stands there without a code: the first paragraphs with letters.
func (s *prose) words(from, to int) message.Reply {
	var text []string
	for i := from; i < to && len(text) < 6; i++ {
		l := strings.TrimSpace(s.lines[i])
		if i == from { // the rest of the line that names the recipient
			if as := findAddresses(l, 1); len(as) > 0 {
				before, behind, _ := strings.Cut(l, as[0])
				l = strings.TrimLeft(behind, ">:;,.\"') \t")
				if before = strings.TrimSpace(before); l == "" && len(before) > 8 && strings.Trim(s.line(i+1), " ") == "" {
					l = before // "Unknown user: x@example.com"
				}
			}
		}
		if l != "" && strings.Trim(l, "-=_*#. ") != "" && !isHeading(l) {
			if strings.HasSuffix(l, ":") && strings.Count(l, " ") < 2 && len(text) == 0 && i > from {
				continue // "because:"
			}
			text = append(text, l)
		} else if len(text) > 0 {
			break
		}
	}
	joined := strings.Join(text, "\n")
	return message.Reply{Enhanced: findStatus(joined), Text: cleanText(joined), Phase: phaseOf(joined)}
}

// isHeading knows lines between dashes, "----- Transcript of session follows -----".
func isHeading(l string) bool {
	l = strings.TrimLeft(l, " \t|")
	return strings.HasPrefix(l, "---") && len(l) > 6
}

// line is a line, or "" behind the last.
func (s *prose) line(i int) string {
	if i < len(s.lines) {
		return s.lines[i]
	}
	return ""
}

// replyAbout looks for a reply that names the address anywhere in the text: the
// transcript stands apart from the list of recipients (sendmail).
func (s *prose) replyAbout(address string) message.Reply {
	low := strings.ToLower(address)
	for i, l := range s.lines {
		if s.codes[i].score > 1 && strings.Contains(strings.ToLower(l), low) {
			rep := parseReply(s.paragraph(i, len(s.lines)))
			if rep.Phase == message.PhaseNone {
				rep.Phase = phaseOf(strings.Join(s.lines[max(0, i-2):i+1], "\n"))
			}
			return rep
		}
	}
	return message.Reply{}
}
