package feedback

import "strings"

// automatic knows replies that programs write to whatever arrives (RFC 3834).
// None of them is a bounce: the mail arrived. It is asked when nothing in the
// mail tells of a failure, because mail systems mark bounces in the same way
// (Exim and Postfix write "Auto-Submitted: auto-replied" there).
func (r *Report) automatic(m *received) {
	if why := m.automatic(); why != "" {
		r.Kind, r.Form, r.Why = AutoReply, "rfc3834", why
		return
	}
	if strings.HasPrefix(strings.TrimSpace(m.subject), "unsubscribe") {
		r.Kind, r.Why = Unsubscribing, "subject: unsubscribe"
	}
}

// automatic is the sign by which an automatic reply is known, "" for none.
func (m *received) automatic() string {
	h := m.header
	if word := lowered(h.get("Auto-Submitted"), 40); word != "" && !strings.HasPrefix(word, "no") {
		if challenge(m) {
			return "challenge"
		}
		// Mail programs mark the requests that their unsubscribe button makes: Apple's
		// as auto-replied. An answer to a mailing has the mailing's subject.
		if strings.HasPrefix(m.subject, "unsubscribe") {
			return ""
		}
		return "auto-submitted"
	}
	switch {
	case challenge(m):
		return "challenge"
	case m.awaySubject():
		return "subject: away"
	case m.responder() != "":
		return m.responder()
	case h.has("X-Auto-Response-Suppress") && (h.has("In-Reply-To") || strings.HasPrefix(m.subject, "automatic")):
		return "x-auto-response-suppress"
	case h.has("X-MS-Exchange-Inbox-Rules-Loop"), h.has("X-MS-Exchange-Generated-Message-Source") && m.from != "":
		return "inbox rule"
	}
	return ""
}

// responder knows the fields that only programs write which answer for a person.
// Auto-Submitted is none of them.
func (m *received) responder() string {
	h := m.header
	switch {
	case h.has("X-Autoreply"), h.has("X-Autorespond"), h.has("X-Autoresponder"), h.has("X-Auto-Reply-From"), h.has("X-Vacation"),
		h.has("X-Mail-Autoreply"), h.has("X-Autoreply-From"), lowered(h.get("X-Apple-Action"), 40) == "vacation",
		lowered(h.get("Delivered-To"), 40) == "autoresponder", strings.HasPrefix(lowered(h.get("X-POST-MessageClass"), 60), "9; autoresponder"):
		return "autoresponder field"
	case strings.HasPrefix(lowered(h.get("Precedence"), 40), "auto"):
		return "precedence"
	}
	return ""
}

// awaySubject knows subjects of people who are not there.
func (m *received) awaySubject() bool {
	if japaneseAway(m.asItIs) {
		return true
	}
	for _, w := range awaySubjects {
		if strings.HasPrefix(m.subject, w) {
			return true
		}
	}
	return containsAny(m.subject, awayAnywhere)
}

// challenge knows systems that ask strangers to prove themselves. Answering
// would confirm an address to whoever forged it, and nobody reads there anyway.
func challenge(m *received) bool {
	if m.header.has("X-Boxbe-Challenge") || m.header.has("X-TMDA-Confirm") || m.header.has("X-ChoiceMail-Registration-Request") ||
		m.header.has("X-BlueBottle-Request") || m.header.has("X-SpamArrest-Challenge") {
		return true
	}
	return containsAny(m.subject, challengeSubjects)
}
