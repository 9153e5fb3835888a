package reputation

import (
	"strings"

	"hikyaku/spool/message"
)

// fallbackPrefix begins the rule names of verdicts that no rule gave.
const fallbackPrefix = "fallback/"

// Guessed reports whether no rule knew the reply, and tables by enhanced code,
// code and phase were asked. Such replies are what somebody should write a rule
// for.
func (v Verdict) Guessed() bool { return strings.HasPrefix(v.Rule, fallbackPrefix) }

// guess is an entry of the tables below. An empty action is the category's, but
// never one that suppresses at once: a code alone is not evidence enough.
type guess struct {
	category Category
	about    About
	action   Action
	rule     string
}

func (g guess) verdict(r *message.Reply) Verdict {
	m, _ := meaningOf(g.category)
	c := r.Class()
	v := m.verdict(c)
	if g.about != "" {
		v.About = g.about
	}
	switch {
	case g.action.ends(message.Temporary) && c == message.Temporary:
		// What would end the recipient is for 5xx.
	case g.action != "":
		v.Action, v.Final, v.RetryAfter = g.action, g.action.ends(c), 0
	case v.Action == ActSuppress:
		v.Action = ActSecond
	}
	// After the content an address is judged by what was in the message: "unknown"
	// there is what some say when a filter refused it (docomo).
	if v.Suppresses() && r.Phase > message.PhaseResolve && r.Phase != message.PhaseRcpt {
		v.Action = ActFail
	}
	v.Rule = g.rule
	return v
}

// fallback is for replies that no rule knows. It asks, in this order: what
// happened on the wire, the enhanced code, the step and the code.
func fallback(r *message.Reply) Verdict {
	if r.Fault != message.FaultNone {
		return faultGuess(r).verdict(r)
	}
	if r.Phase > message.PhaseNone && r.Phase < message.PhaseMail && r.Class() == message.Permanent {
		return beforeMail(r).verdict(r)
	}
	if g, ok := enhancedGuess(r); ok {
		return g.verdict(r)
	}
	return codeGuess(r).verdict(r)
}

// faultGuess is for what is not a reply.
func faultGuess(r *message.Reply) guess {
	switch r.Fault {
	case message.FaultDNS:
		if r.Enhanced == (message.Enhanced{Class: 5, Subject: 1, Detail: 10}) { // RFC 7505 4.2
			return guess{NoMail, "", "", "fallback/null-mx"}
		}
		return guess{DNS, "", "", "fallback/dns"}
	case message.FaultTLS:
		return guess{TLS, "", "", "fallback/tls"}
	case message.FaultProtocol:
		return guess{TheirFault, "", ActRetry, "fallback/not-smtp"}
	case message.FaultRefused:
		return guess{Network, "", "", "fallback/refused"}
	case message.FaultReset:
		return guess{Network, "", "", "fallback/reset"}
	case message.FaultClosed:
		return guess{Network, "", "", "fallback/closed"}
	case message.FaultTimeout:
		return guess{Network, "", "", "fallback/timeout"}
	}
	return guess{Network, "", "", "fallback/network"}
}

// beforeMail is for 5xx said before any recipient was named: it cannot be about
// one. RFC 5321 3.1: a server refuses service with 554 in place of its banner.
func beforeMail(r *message.Reply) guess {
	if r.Code == 521 { // RFC 7504 3.1: a host that never takes mail says so in its banner
		return guess{NoMail, "", "", "fallback/no-mail"}
	}
	switch r.Phase {
	case message.PhaseSTARTTLS, message.PhaseTLS:
		return guess{TLS, "", ActRetry, "fallback/starttls"}
	case message.PhaseAuth:
		return guess{OurFault, "", "", "fallback/auth"}
	}
	return guess{Blocked, "", ActElsewhere, "fallback/no-service"}
}

// tables of RFC 3463 3 and of the registry of enhanced codes (RFC 5248), by
// subject; where RFC 7372 (authentication) and RFC 7505 (null MX) added some.
var enhancedGuesses = [...]map[uint16]guess{
	1: {
		0: {PolicyRule, AboutRecipient, "", "fallback/x.1.0"},
		1: {UnknownUser, "", "", "fallback/x.1.1"},
		2: {DNS, "", "", "fallback/x.1.2"},
		3: {UnknownUser, "", ActFail, "fallback/x.1.3"}, // the syntax of the address
		4: {UnknownUser, "", ActFail, "fallback/x.1.4"}, // ambiguous
		6: {Inactive, "", "", "fallback/x.1.6"},
		7: {BadSender, "", "", "fallback/x.1.7"},
		8: {BadSender, "", "", "fallback/x.1.8"},
		9: {TheirFault, "", "", "fallback/x.1.9"},
		// 5.1.10 is null MX, but Microsoft says it of unknown users: second sight either way.
		10: {NoMail, "", "", "fallback/x.1.10"},
	},
	2: {
		1: {Inactive, "", "", "fallback/x.2.1"},
		2: {MailboxFull, "", "", "fallback/x.2.2"},
		3: {Size, "", "", "fallback/x.2.3"},
		4: {TheirFault, AboutRecipient, "", "fallback/x.2.4"},
	},
	3: {
		0: {TheirFault, "", "", "fallback/x.3.0"},
		1: {TheirFault, "", "", "fallback/x.3.1"},
		2: {TheirFault, "", "", "fallback/x.3.2"},
		3: {PolicyRule, "", "", "fallback/x.3.3"},
		4: {Size, "", "", "fallback/x.3.4"},
		5: {TheirFault, "", "", "fallback/x.3.5"},
	},
	4: {
		0: {Network, "", "", "fallback/x.4.0"},
		1: {Network, "", "", "fallback/x.4.1"},
		2: {Network, "", "", "fallback/x.4.2"},
		3: {DNS, "", "", "fallback/x.4.3"},
		4: {DNS, "", "", "fallback/x.4.4"},
		5: {TheirFault, "", "", "fallback/x.4.5"},
		6: {TheirFault, "", "", "fallback/x.4.6"}, // a loop
		7: {TheirFault, "", "", "fallback/x.4.7"}, // expired on their side
	},
	5: {
		0: {OurFault, "", "", "fallback/x.5.0"},
		1: {OurFault, "", "", "fallback/x.5.1"},
		2: {OurFault, "", "", "fallback/x.5.2"},
		3: {PerConn, "", "", "fallback/x.5.3"}, // too many recipients: the rest goes in the next transaction
		4: {OurFault, "", "", "fallback/x.5.4"},
		6: {OurFault, "", "", "fallback/x.5.6"},
	},
	6: {
		0:  {Content, "", "", "fallback/x.6.0"},
		1:  {Content, "", "", "fallback/x.6.1"},
		2:  {Content, "", "", "fallback/x.6.2"},
		3:  {Content, "", "", "fallback/x.6.3"},
		6:  {Content, "", "", "fallback/x.6.6"},
		7:  {PolicyRule, AboutRecipient, ActFail, "fallback/x.6.7"}, // RFC 6531: no SMTPUTF8 there
		9:  {PolicyRule, AboutRecipient, ActFail, "fallback/x.6.9"},
		10: {PolicyRule, AboutRecipient, ActFail, "fallback/x.6.10"},
	},
	7: {
		0:  {PolicyRule, "", "", "fallback/x.7.0"},
		1:  {PolicyRule, "", "", "fallback/x.7.1"},
		2:  {Filtered, "", "", "fallback/x.7.2"},
		7:  {Content, "", "", "fallback/x.7.7"},
		8:  {OurFault, "", "", "fallback/x.7.8"},
		9:  {OurFault, "", "", "fallback/x.7.9"},
		10: {TLS, "", "", "fallback/x.7.10"},
		11: {TLS, "", "", "fallback/x.7.11"},
		12: {OurFault, "", "", "fallback/x.7.12"},
		13: {Inactive, "", "", "fallback/x.7.13"},
		20: {Auth, "", "", "fallback/x.7.20"},
		21: {Auth, "", "", "fallback/x.7.21"},
		22: {Auth, "", "", "fallback/x.7.22"},
		23: {Auth, "", "", "fallback/x.7.23"},
		24: {Auth, "", "", "fallback/x.7.24"},
		25: {DNS, AboutUs, ActAlert, "fallback/x.7.25"}, // PTR
		26: {Auth, "", "", "fallback/x.7.26"},
		27: {BadSender, "", "", "fallback/x.7.27"},
		28: {Rate, "", "", "fallback/x.7.28"}, // mail flood
	},
}

// enhancedGuess asks the enhanced code, unless it says the opposite of the code.
func enhancedGuess(r *message.Reply) (guess, bool) {
	e := r.Enhanced
	if uint16(e.Class) != r.Code/100 || int(e.Subject) >= len(enhancedGuesses) {
		return guess{}, false
	}
	switch r.Code {
	case 502, 503, 530, 534, 535, 538: // about our own commands, whatever else they say
		return guess{}, false
	}
	switch (message.Enhanced{Class: e.Class, Subject: e.Subject, Detail: e.Detail}) {
	case message.Enhanced{Class: 4, Subject: 2, Detail: 1}:
		return guess{TheirFault, AboutRecipient, "", "fallback/4.2.1"}, true
	case message.Enhanced{Class: 4, Subject: 5}: // what filters say when they fail themselves
		return guess{TheirFault, "", "", "fallback/4.5.0"}, true
	}
	g, ok := enhancedGuesses[e.Subject][e.Detail]
	if ok && e.Subject == 1 && r.Phase == message.PhaseMail { // the only address so far is the sender's
		g.category, g.about, g.action = BadSender, "", ""
	}
	return g, ok
}

func afterRcpt(r *message.Reply) bool {
	return r.Phase == message.PhaseData || r.Phase == message.PhaseDot
}

// codeGuess asks the code and the step: RFC 5321 4.2.3, and what servers make of it.
func codeGuess(r *message.Reply) guess {
	switch r.Code {
	case 421:
		return guess{TheirFault, "", "", "fallback/421"}
	case 450, 451:
		if r.Phase == message.PhaseRcpt {
			return guess{TheirFault, AboutRecipient, "", "fallback/rcpt-later"}
		}
	case 500, 501, 502, 503, 504, 555:
		return guess{OurFault, "", "", "fallback/syntax"}
	case 521, 556: // RFC 7504
		return guess{NoMail, "", "", "fallback/no-mail"}
	case 530, 534, 535, 538:
		return guess{OurFault, "", "", "fallback/auth"}
	case 551:
		return guess{Relay, "", "", "fallback/551"}
	case 552:
		if r.Phase == message.PhaseRcpt {
			return guess{MailboxFull, "", "", "fallback/552"}
		}
		return guess{Size, "", "", "fallback/552"}
	}
	switch {
	case r.Class() == message.Temporary:
		return guess{TheirFault, "", ActRetry, "fallback/4xx"}
	case afterRcpt(r):
		return guess{Content, "", "", "fallback/5xx-after-content"}
	case r.Phase == message.PhaseMail:
		return guess{BadSender, "", "", "fallback/5xx-at-mail"}
	}
	return guess{Unknown, "", "", "fallback/5xx"}
}

// localVerdict is for our own decisions, which no rule is asked about.
func localVerdict(r *message.Reply) Verdict {
	m, _ := meaningOf(Local)
	v := m.verdict(r.Class())
	v.Rule = "local"
	return v
}
