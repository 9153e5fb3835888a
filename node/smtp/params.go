package smtp

import (
	"time"

	"hikyaku/spool/message"
)

// Bounds on parameters: RFC 3461 4.4 for ENVID, 4.2 for ORCPT.
const (
	maxEnvID = 100
	maxORcpt = 500
)

// Refusals of parameters. RFC 5321 4.1.1.11: 555 is for parameters that are
// not known, 501 for bad values, 504 for values that are known but not done.
var (
	errParamSyntax  = refusal(501, 5, 4, "Parameter syntax error")
	errParamTwice   = refusal(501, 5, 4, "Parameter given twice")
	errParamUnknown = refusal(555, 5, 4, "Parameter not recognized")
	errSize         = refusal(501, 5, 4, "Bad SIZE value")
	errBody         = refusal(501, 5, 4, "Bad BODY value")
	errBinary       = refusal(504, 5, 4, "BODY=BINARYMIME is not offered")
	errRet          = refusal(501, 5, 4, "Bad RET value")
	errEnvID        = refusal(501, 5, 4, "Bad ENVID value")
	errAuthParam    = refusal(501, 5, 4, "Bad AUTH value")
	errPriority     = refusal(501, 5, 4, "Bad MT-PRIORITY value")
	errHold         = refusal(501, 5, 4, "Bad HOLDFOR or HOLDUNTIL value")
	errNotify       = refusal(501, 5, 4, "Bad NOTIFY value")
	errORcpt        = refusal(501, 5, 4, "Bad ORCPT value")
)

// MailArgs are the parameters of MAIL. Zero fields were not given.
type MailArgs struct {
	Size          int64 // SIZE= (RFC 1870)
	Body          message.Body
	BodyGiven     bool
	UTF8          bool           // SMTPUTF8 (RFC 6531)
	Return        message.Return // RET= (RFC 3461)
	Priority      int8           // MT-PRIORITY= (RFC 6710), -9 to 9
	PriorityGiven bool
	HoldFor       time.Duration // HOLDFOR= (RFC 4865)
	HoldUntil     time.Time     // HOLDUNTIL= (RFC 4865)

	envID    [maxEnvID]byte
	envIDLen uint8
}

// EnvID is ENVID=, decoded: printable ASCII.
func (m *MailArgs) EnvID() []byte { return m.envID[:m.envIDLen] }

// RcptArgs are the parameters of RCPT.
type RcptArgs struct {
	Notify message.Notify // NOTIFY= (RFC 3461)
	ORcpt  []byte         // ORCPT= as given, "type;xtext"; points into the line
}

// The parameters as bits, to find those given twice.
const (
	gotSize = 1 << iota
	gotBody
	gotUTF8
	gotRet
	gotEnvID
	gotAuth
	gotPriority
	gotHold // HOLDFOR and HOLDUNTIL exclude each other (RFC 4865 5)
	gotNotify
	gotORcpt
)

// Parse reads what follows the reverse-path.
func (m *MailArgs) Parse(b []byte) *SyntaxError {
	*m = MailArgs{}
	seen := 0
	for len(b) > 0 {
		var key, value []byte
		var hasValue bool
		var err *SyntaxError
		if key, value, hasValue, b, err = nextParam(b); err != nil {
			return err
		}
		bit, err := m.set(key, value, hasValue)
		if err != nil {
			return err
		}
		if seen&bit != 0 {
			return errParamTwice
		}
		seen |= bit
	}
	return nil
}

func (m *MailArgs) set(key, value []byte, hasValue bool) (bit int, err *SyntaxError) {
	ok := hasValue
	switch {
	case equalFold(key, "SIZE"):
		bit, err = gotSize, errSize
		var n int64
		n, ok = decimal(value, 18)
		m.Size = n
	case equalFold(key, "BODY"):
		bit, err = gotBody, errBody
		m.BodyGiven = true
		switch {
		case equalFold(value, "7BIT"):
		case equalFold(value, "8BITMIME"):
			m.Body = message.Body8BitMIME
		case equalFold(value, "BINARYMIME"):
			// Not offered: a next hop without BINARYMIME could only be
			// given a bounce (RFC 3030 3), so 8BITMIME serves better.
			return 0, errBinary
		default:
			ok = false
		}
	case equalFold(key, "SMTPUTF8"):
		bit, err = gotUTF8, errParamSyntax
		m.UTF8, ok = true, !hasValue
	case equalFold(key, "RET"):
		bit, err = gotRet, errRet
		switch {
		case equalFold(value, "FULL"):
			m.Return = message.ReturnFull
		case equalFold(value, "HDRS"):
			m.Return = message.ReturnHeaders
		default:
			ok = false
		}
	case equalFold(key, "ENVID"):
		bit, err = gotEnvID, errEnvID
		ok = len(value) > 0 && m.setEnvID(value)
	case equalFold(key, "AUTH"):
		// RFC 4954 5: who first submitted it. Checked, then not used: we
		// trust the session's own identity only.
		bit, err = gotAuth, errAuthParam
		ok = hasValue && (string(value) == "<>" || checkXtext(value, false))
	default:
		return m.setLater(key, value)
	}
	if !ok {
		return 0, err
	}
	return bit, nil
}

// setLater is the parameters about when and how urgently.
func (m *MailArgs) setLater(key, value []byte) (bit int, err *SyntaxError) {
	ok := false
	switch {
	case equalFold(key, "MT-PRIORITY"):
		bit, err = gotPriority, errPriority
		m.PriorityGiven = true
		m.Priority, ok = priority(value)
	case equalFold(key, "HOLDFOR"):
		bit, err = gotHold, errHold
		var seconds int64
		seconds, ok = decimal(value, 9) // RFC 4865 4: up to nine digits
		m.HoldFor = time.Duration(seconds) * time.Second
		ok = ok && seconds > 0
	case equalFold(key, "HOLDUNTIL"):
		bit, err = gotHold, errHold
		var perr error
		if len(value) <= 40 {
			m.HoldUntil, perr = time.Parse(time.RFC3339, string(value))
			ok = perr == nil && !m.HoldUntil.IsZero()
		}
	default:
		return 0, errParamUnknown
	}
	if !ok {
		return 0, err
	}
	return bit, nil
}

func (m *MailArgs) setEnvID(value []byte) bool {
	if len(value) > maxEnvID { // the bound is on the encoded form
		return false
	}
	out, ok := appendUnxtext(m.envID[:0], value, false)
	m.envIDLen = uint8(len(out))
	return ok
}

// Parse reads what follows the forward-path.
func (r *RcptArgs) Parse(b []byte) *SyntaxError {
	*r = RcptArgs{}
	seen := 0
	for len(b) > 0 {
		var key, value []byte
		var hasValue bool
		var err *SyntaxError
		if key, value, hasValue, b, err = nextParam(b); err != nil {
			return err
		}
		var bit int
		switch {
		case equalFold(key, "NOTIFY"):
			bit = gotNotify
			if !hasValue || !r.setNotify(value) {
				return errNotify
			}
		case equalFold(key, "ORCPT"):
			bit = gotORcpt
			if !hasValue || !goodORcpt(value) {
				return errORcpt
			}
			r.ORcpt = value
		default:
			return errParamUnknown
		}
		if seen&bit != 0 {
			return errParamTwice
		}
		seen |= bit
	}
	return nil
}

// setNotify reads NEVER alone, or a list of SUCCESS, FAILURE and DELAY, each
// at most once (RFC 3461 4.1).
func (r *RcptArgs) setNotify(value []byte) bool {
	if equalFold(value, "NEVER") {
		r.Notify = message.NotifyNever
		return true
	}
	for {
		end := 0
		for end < len(value) && value[end] != ',' {
			end++
		}
		var bit message.Notify
		switch word := value[:end]; {
		case equalFold(word, "SUCCESS"):
			bit = message.NotifySuccess
		case equalFold(word, "FAILURE"):
			bit = message.NotifyFailure
		case equalFold(word, "DELAY"):
			bit = message.NotifyDelay
		}
		if bit == 0 || r.Notify&bit != 0 {
			return false
		}
		r.Notify |= bit
		if end == len(value) {
			return true
		}
		value = value[end+1:]
	}
}

// goodORcpt checks "addr-type;xtext" (RFC 3461 4.2). It is kept as given.
func goodORcpt(v []byte) bool {
	if len(v) > maxORcpt {
		return false
	}
	i := 0
	for i < len(v) && v[i] != ';' {
		if !atext[v[i]] {
			return false
		}
		i++
	}
	if i == 0 || i+1 >= len(v) {
		return false
	}
	return checkXtext(v[i+1:], equalFold(v[:i], "UTF-8"))
}

// nextParam cuts "KEY" or "KEY=value" off the front of b, and the spaces after
// it (RFC 5321 4.1.2, with UTF-8 in values from RFC 6531 3.3).
func nextParam(b []byte) (key, value []byte, hasValue bool, rest []byte, err *SyntaxError) {
	i := 0
	for i < len(b) && keywordByte(b[i], i == 0) {
		i++
	}
	key = b[:i]
	if i == 0 {
		return nil, nil, false, nil, errParamSyntax
	}
	if i < len(b) && b[i] == '=' {
		i++
		from := i
		for i < len(b) && b[i] != ' ' {
			if c := b[i]; c < '!' || c == 0x7f || c == '=' {
				return nil, nil, false, nil, errParamSyntax
			}
			i++
		}
		if i == from {
			return nil, nil, false, nil, errParamSyntax
		}
		value, hasValue = b[from:i], true
	}
	if i < len(b) && b[i] != ' ' {
		return nil, nil, false, nil, errParamSyntax
	}
	return key, value, hasValue, trimSpaces(b[i:]), nil
}

func keywordByte(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || (c == '-' && !first)
}

// priority reads -9 to 9 (RFC 6710 4.1): one digit with a minus sign perhaps.
func priority(v []byte) (int8, bool) {
	minus := len(v) == 2 && v[0] == '-'
	if minus {
		v = v[1:]
	}
	if len(v) != 1 || v[0] < '0' || v[0] > '9' {
		return 0, false
	}
	n := int8(v[0] - '0')
	if minus {
		return -n, n != 0
	}
	return n, true
}

func decimal(v []byte, digits int) (n int64, ok bool) {
	if len(v) == 0 || len(v) > digits {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// Has8Bit reports whether p has a byte of 128 or above.
func Has8Bit(p []byte) bool { return hasHighBit(p) }
