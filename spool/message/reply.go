package message

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var errBadState = errors.New("unknown state: want queued, delivered, bounced, expired or cancelled")

// Phase is where in an attempt a reply was said. The same text means different
// things in different phases (docomo's 550 after RCPT and after DATA).
type Phase uint8

// The phases, in the order of an attempt.
const (
	PhaseNone     Phase = iota
	PhasePolicy         // our own decision: expiry, cancel, no usable source, suppressed
	PhaseResolve        // DNS
	PhaseConnect        // TCP
	PhaseBanner         // 220
	PhaseEHLO           // EHLO or HELO
	PhaseSTARTTLS       // the STARTTLS command
	PhaseTLS            // the handshake
	PhaseAuth           // AUTH
	PhaseMail           // MAIL FROM
	PhaseRcpt           // RCPT TO
	PhaseData           // DATA's 354
	PhaseDot            // the end of data, or BDAT LAST
	PhaseReset          // RSET
	PhaseQuit           // QUIT
)

var phaseNames = [...]string{"", "policy", "resolve", "connect", "banner", "ehlo", "starttls", "tls", "auth", "mail", "rcpt", "data", "dot", "rset", "quit"}

// String is the word used in events.
func (p Phase) String() string { return phaseNames[p] }

// MarshalText gives JSON the word.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *Phase) UnmarshalText(b []byte) error {
	i := slices.Index(phaseNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown phase %q", b)
	}
	*p = Phase(i)
	return nil
}

// Fault says that a reply was made by us because the remote said nothing we
// could use: a refused connection and a 421 are different signals.
type Fault uint8

// The faults. FaultNone is a real reply from the remote.
const (
	FaultNone     Fault = iota
	FaultDNS            // no answer, or an unusable one
	FaultRefused        // TCP connection refused
	FaultReset          // TCP reset by the peer
	FaultClosed         // the peer closed without a reply
	FaultTimeout        // a phase's deadline passed
	FaultNetwork        // unreachable, no route, and the rest
	FaultTLS            // the handshake failed or its result was not acceptable
	FaultProtocol       // the peer's reply was not SMTP
	FaultLocal          // our own: no source, no connection allowed there, expired, cancelled
)

var faultNames = [...]string{"", "dns", "refused", "reset", "closed", "timeout", "network", "tls", "protocol", "local"}

// String is the word used in events and metrics.
func (f Fault) String() string { return faultNames[f] }

// MarshalText gives JSON the word.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (f *Fault) UnmarshalText(b []byte) error {
	i := slices.Index(faultNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown fault %q", b)
	}
	*f = Fault(i)
	return nil
}

// Enhanced is an enhanced status code (RFC 3463): class, subject, detail.
// The zero value is "none given".
type Enhanced struct {
	Class   uint8 // 2, 4 or 5
	Subject uint16
	Detail  uint16
}

// String is "5.1.1", or "" when none was given.
func (e Enhanced) String() string {
	return string(e.AppendText(make([]byte, 0, 12)))
}

// AppendText appends what String returns.
func (e Enhanced) AppendText(b []byte) []byte {
	if e.Class == 0 {
		return b
	}
	b = strconv.AppendUint(b, uint64(e.Class), 10)
	b = strconv.AppendUint(append(b, '.'), uint64(e.Subject), 10)
	return strconv.AppendUint(append(b, '.'), uint64(e.Detail), 10)
}

// ParseEnhanced reads "5.1.1". Subject and detail are 0 to 999 (RFC 3463 2).
func ParseEnhanced(s string) (Enhanced, bool) {
	p := strings.Split(s, ".")
	if len(p) != 3 || len(p[0]) != 1 || (p[0] != "2" && p[0] != "4" && p[0] != "5") {
		return Enhanced{}, false
	}
	var n [2]uint64
	for i, t := range p[1:] {
		v, err := strconv.ParseUint(t, 10, 16)
		if err != nil || len(t) > 3 {
			return Enhanced{}, false
		}
		n[i] = v
	}
	return Enhanced{p[0][0] - '0', uint16(n[0]), uint16(n[1])}, true
}

// MarshalText gives JSON the dotted form.
func (e Enhanced) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (e *Enhanced) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*e = Enhanced{}
		return nil
	}
	v, ok := ParseEnhanced(string(b))
	if !ok {
		return fmt.Errorf("enhanced status code %q: want class.subject.detail, as in 5.1.1", b)
	}
	*e = v
	return nil
}

// Reply is what the remote said, kept whole, with the phase in which it was
// said. Lines of a multi-line reply are joined by "\n"; the code and enhanced
// code are not repeated in Text. Text holds no control bytes but "\n" and is at
// most MaxReplyText bytes. With a Fault, Code is our own judgement (4xx or
// 5xx) and Text our own words.
type Reply struct {
	Code     uint16   `json:"code"`
	Enhanced Enhanced `json:"enhanced,omitzero"`
	Text     string   `json:"text"`
	Phase    Phase    `json:"phase,omitempty"`
	Fault    Fault    `json:"fault,omitempty"`
}

// MaxReplyText is the bound on Reply.Text in bytes.
const MaxReplyText = 2048

// Class is what a reply means for the recipient it answers.
type Class uint8

// The classes of a reply.
const (
	Temporary Class = iota // try again later
	Success
	Permanent // give up
)

// Class is the one place where temporary or permanent is decided from the
// code. Carrier rules (package reputation) may overrule it before it is asked.
func (r *Reply) Class() Class {
	switch r.Code / 100 {
	case 2:
		return Success
	case 5:
		return Permanent
	}
	return Temporary
}

// String is "550 5.1.1 text", on one line.
func (r *Reply) String() string {
	b := strconv.AppendUint(nil, uint64(r.Code), 10)
	if r.Enhanced.Class != 0 {
		b = append(append(b, ' '), r.Enhanced.String()...)
	}
	if r.Text != "" {
		b = append(append(b, ' '), strings.ReplaceAll(r.Text, "\n", " ")...)
	}
	return string(b)
}

// Fail makes a reply of our own.
func Fail(code uint16, enhanced Enhanced, phase Phase, fault Fault, text string) Reply {
	return Reply{Code: code, Enhanced: enhanced, Text: text, Phase: phase, Fault: fault}
}
