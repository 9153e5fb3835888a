package reputation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// maxRules bounds the rules of the program and of policy together.
const maxRules = 2048

// Rule is one rule as it is written, for a listing.
type Rule struct {
	Name       string        `json:"name"`               // "docomo/unknown-at-rcpt", "policy/NAME"
	Carriers   []string      `json:"carriers,omitempty"` // none is all
	Codes      []string      `json:"codes,omitempty"`
	Enhanced   []string      `json:"enhanced,omitempty"`
	Phases     []string      `json:"phases,omitempty"`
	Faults     []string      `json:"faults,omitempty"` // none is a real reply
	Text       string        `json:"text,omitempty"`
	Category   Category      `json:"category"`
	About      About         `json:"about,omitempty"`  // "" is the category's
	Action     Action        `json:"action,omitempty"` // "" is the category's
	Final      *bool         `json:"final,omitempty"`  // nil follows from the action
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	Why        string        `json:"why,omitempty"`
}

// rule is a Rule made ready.
type rule struct {
	Rule
	codes    []digits
	enhanced []enhancedMask
	phases   uint32 // a bit for each message.Phase
	faults   uint32 // a bit for each message.Fault
	text     *pattern
	verdict  [2]Verdict // for 4xx and everything else that is temporary; for 5xx
}

// afterNaming are the steps in which an address can be judged. INVARIANT: a rule
// that suppresses, and asks for no step, is not asked before RCPT has named the
// recipient: "user unknown" after MAIL is the sender.
const afterNaming = 1<<message.PhaseNone | 1<<message.PhaseRcpt | 1<<message.PhaseData | 1<<message.PhaseDot | 1<<message.PhaseReset | 1<<message.PhaseQuit

// digits is a reply code in which 0xff is any digit.
type digits [3]uint8

const anyDigit = 0xff

func parseDigits(s string) (digits, bool) {
	var d digits
	if len(s) != 3 {
		return d, false
	}
	for i := range d {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			d[i] = c - '0'
		case c == 'x' && i > 0:
			d[i] = anyDigit
		default:
			return d, false
		}
	}
	return d, d[0] >= 2 && d[0] <= 5 && (d[1] != anyDigit || d[2] == anyDigit)
}

func (d digits) match(code uint16) bool {
	return uint16(d[0]) == code/100 && (d[1] == anyDigit || uint16(d[1]) == code/10%10) && (d[2] == anyDigit || uint16(d[2]) == code%10)
}

// enhancedMask is an enhanced code in which anyNumber is any.
type enhancedMask struct{ class, subject, detail uint16 }

const anyNumber = 0xffff

func parseEnhancedMask(s string) (enhancedMask, bool) {
	p := strings.Split(s, ".")
	if len(p) != 3 {
		return enhancedMask{}, false
	}
	var n [3]uint16
	for i, t := range p {
		if t == "x" {
			n[i] = anyNumber
			p[i] = "4" // read as a number below, whatever it is
		}
	}
	e, ok := message.ParseEnhanced(strings.Join(p, "."))
	if !ok {
		return enhancedMask{}, false
	}
	for i, v := range [...]uint16{uint16(e.Class), e.Subject, e.Detail} {
		if n[i] != anyNumber {
			n[i] = v
		}
	}
	return enhancedMask{n[0], n[1], n[2]}, true
}

func (m enhancedMask) match(e message.Enhanced) bool {
	return e.Class != 0 && (m.class == anyNumber || m.class == uint16(e.Class)) &&
		(m.subject == anyNumber || m.subject == e.Subject) && (m.detail == anyNumber || m.detail == e.Detail)
}

// flaw is one thing wrong with a rule; path is that of the field.
type flaw struct{ path, reason string }

// ready makes a rule ready, or says what is wrong with it.
func (r Rule) ready() (*rule, []flaw) {
	var flaws []flaw
	bad := func(path, format string, args ...any) {
		flaws = append(flaws, flaw{path, fmt.Sprintf(format, args...)})
	}
	x := &rule{Rule: r}
	for i, s := range r.Codes {
		d, ok := parseDigits(s)
		if !ok {
			bad(element("codes", i), "%q is not a reply code, as 550, 55x or 5xx", cut(s))
		}
		x.codes = append(x.codes, d)
	}
	for i, s := range r.Enhanced {
		m, ok := parseEnhancedMask(s)
		if !ok {
			bad(element("enhanced", i), "%q is not an enhanced status code, as 5.7.1, 5.7.x or x.2.2", cut(s))
		}
		x.enhanced = append(x.enhanced, m)
	}
	for i, s := range r.Phases {
		var p message.Phase
		if s == "" || p.UnmarshalText([]byte(s)) != nil {
			bad(element("phases", i), "there is no phase %q", cut(s))
		}
		x.phases |= 1 << p
	}
	for i, s := range r.Faults {
		var f message.Fault
		if s == "" || f.UnmarshalText([]byte(s)) != nil || f == message.FaultLocal {
			bad(element("faults", i), "there is no fault %q", cut(s))
		}
		x.faults |= 1 << f
	}
	if len(r.Faults) == 0 {
		x.faults = 1 << message.FaultNone
	}
	var err error
	if x.text, err = compilePattern(r.Text); err != nil {
		bad("text", "%v", err)
	}
	if len(r.Codes)+len(r.Enhanced)+len(r.Phases)+len(r.Faults) == 0 && r.Text == "" {
		bad("", "the rule asks for nothing, so it would take every reply")
	}
	flaws = append(flaws, x.words()...)
	if x.phases == 0 && x.verdict[1].Suppresses() {
		x.phases = afterNaming
	}
	return x, flaws
}

// words checks category, about and action, and works out the verdicts.
func (x *rule) words() []flaw {
	var flaws []flaw
	m, ok := meaningOf(x.Category)
	if !ok || x.Category == Delivered || x.Category == Unknown || x.Category == Local {
		flaws = append(flaws, flaw{"category", fmt.Sprintf("there is no category %q for a rule; \"hikyaku classify --categories\" lists them", cut(string(x.Category)))})
	}
	if x.Action != "" && !isAction(x.Action) {
		flaws = append(flaws, flaw{"action", fmt.Sprintf("there is no action %q; \"hikyaku classify --categories\" lists them", cut(string(x.Action)))})
	}
	if x.About != "" && !slices.Contains(abouts[:], x.About) {
		flaws = append(flaws, flaw{"about", fmt.Sprintf("a reply cannot be about %q", cut(string(x.About)))})
	}
	for i, class := range [...]message.Class{message.Temporary, message.Permanent} {
		v := m.verdict(class)
		if x.About != "" {
			v.About = x.About
		}
		if x.Action != "" && (class == message.Permanent || x.meantFor4xx()) {
			v.Action, v.RetryAfter = x.Action, 0
			v.Final = v.Action.ends(class)
		}
		if x.Final != nil && (class == message.Permanent || !*x.Final || x.meantFor4xx()) {
			v.Final = *x.Final
		}
		if !v.Final {
			if v.Action == ActRetryFar && v.RetryAfter == 0 {
				v.RetryAfter = max(m.RetryAfter, retryGreyed)
			}
			if x.RetryAfter > 0 {
				v.RetryAfter = x.RetryAfter
			}
		}
		v.Rule = x.Name
		x.verdict[i] = v
	}
	if x.Final != nil && !*x.Final && (x.Action == ActSuppress || x.Action == ActSecond || x.Action == ActFail) {
		flaws = append(flaws, flaw{"final", fmt.Sprintf("action %s ends the recipient", x.Action)})
	}
	if x.verdict[1].Suppresses() && (m.About != AboutRecipient || x.verdict[1].About != AboutRecipient) {
		flaws = append(flaws, flaw{"action", fmt.Sprintf("action %s is for what a reply says of the recipient, which category %s is not", x.verdict[1].Action, cut(string(x.Category)))})
	}
	if x.verdict[1].Final && x.verdict[1].About == AboutSource {
		path := "final"
		if x.Action != "" {
			path = "action"
		}
		flaws = append(flaws, flaw{path, "what a reply says of the source says nothing of the recipient, which therefore does not end"})
	}
	return flaws
}

// meantFor4xx reports whether the action is for 4xx replies too. INVARIANT: a 4xx
// reply suppresses nobody; and it ends a recipient only by a rule that asks for
// nothing but 4xx codes, and therefore means it.
func (x *rule) meantFor4xx() bool {
	switch x.Action {
	case ActSuppress, ActSecond:
		return false
	case ActFail:
		return len(x.codes) > 0 && !slices.ContainsFunc(x.codes, func(d digits) bool { return d[0] != 4 })
	}
	return true
}

// verdictFor is what follows where the rule matches.
func (x *rule) verdictFor(r *message.Reply) Verdict {
	if r.Class() == message.Permanent {
		return x.verdict[1]
	}
	return x.verdict[0]
}

// matchCodes reports whether the codes fit.
func (x *rule) matchCodes(r *message.Reply) bool {
	if len(x.codes) > 0 && !slices.ContainsFunc(x.codes, func(d digits) bool { return d.match(r.Code) }) {
		return false
	}
	return len(x.enhanced) == 0 || slices.ContainsFunc(x.enhanced, func(m enhancedMask) bool { return m.match(r.Enhanced) })
}

// match is the rule by itself, without the automaton.
func (x *rule) match(carrier string, r *message.Reply) bool {
	return (len(x.Carriers) == 0 || slices.Contains(x.Carriers, carrier)) &&
		(x.phases == 0 || x.phases&(1<<r.Phase) != 0) && x.faults&(1<<r.Fault) != 0 &&
		x.matchCodes(r) && textMatches(x.text, r, masked(r.Text), false)
}

func element(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// cut bounds what is shown of a foreign word.
func cut(s string) string { return s[:min(len(s), 60)] }
