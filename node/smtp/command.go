package smtp

import (
	"unicode/utf8"

	"hikyaku/spool/message"
)

// SyntaxError is why a command is refused, in the words of the reply. All of
// them are package constants: refusing costs no allocation, and no text of the
// peer can get into a reply.
type SyntaxError struct {
	Code     uint16
	Enhanced message.Enhanced
	Text     string
}

// Error is "501 5.5.4 text".
func (e *SyntaxError) Error() string {
	r := message.Reply{Code: e.Code, Enhanced: e.Enhanced, Text: e.Text}
	return r.String()
}

func refusal(code uint16, subject, detail uint16, text string) *SyntaxError {
	return &SyntaxError{code, message.Enhanced{Class: uint8(code / 100), Subject: subject, Detail: detail}, text}
}

// Refusals of whole lines.
var (
	ErrControl = refusal(500, 5, 2, "Control character in command")
	ErrUTF8    = refusal(500, 5, 2, "Command is not valid UTF-8")
	ErrUnknown = refusal(500, 5, 1, "Command not recognized")
)

// Verb is a command that the server knows by name.
type Verb uint8

// The verbs. VerbForeign is another protocol's: HTTP, TLS or a proxy header
// knocking at an SMTP port.
const (
	VerbUnknown Verb = iota
	VerbHELO
	VerbEHLO
	VerbMAIL
	VerbRCPT
	VerbDATA
	VerbBDAT
	VerbRSET
	VerbNOOP
	VerbQUIT
	VerbVRFY
	VerbEXPN
	VerbHELP
	VerbSTARTTLS
	VerbAUTH
	VerbXCLIENT
	VerbForeign
)

var verbNames = [...]string{
	"", "HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT",
	"VRFY", "EXPN", "HELP", "STARTTLS", "AUTH", "XCLIENT", "",
}

// String is the verb in upper case, "" for unknown and foreign ones.
func (v Verb) String() string { return verbNames[v] }

// foreign are the first words of other protocols. A browser made to talk to
// this port sends headers, and then a body of SMTP commands: the first of
// these words ends the connection, so the body is never read.
var foreign = [...]string{
	"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "PROXY",
	"HOST:", "USER-AGENT:", "CONTENT-TYPE:", "CONTENT-LENGTH:", "ACCEPT:", "ORIGIN:", "REFERER:",
}

// Command is one line cut into verb and argument. Arg points into the line.
type Command struct {
	Verb Verb
	Arg  []byte // what follows the verb, without the spaces around it
}

// ParseCommand reads a command line without its CRLF. Control bytes (which
// includes a bare CR or LF, NUL and TAB) and invalid UTF-8 are refused for all
// verbs alike, so nothing behind this call has to look for them again. An
// unknown verb is not an error here.
func ParseCommand(line []byte) (Command, *SyntaxError) {
	ascii := true
	for _, b := range line {
		if b < ' ' || b == 0x7f {
			return Command{}, ErrControl
		}
		if b >= utf8.RuneSelf {
			ascii = false
		}
	}
	if !ascii && !validText(line) {
		return Command{}, ErrUTF8
	}
	end := 0
	for end < len(line) && line[end] != ' ' {
		end++
	}
	return Command{verbOf(line[:end]), trimSpaces(line[end:])}, nil
}

func verbOf(word []byte) Verb {
	switch len(word) {
	case 4, 7, 8:
		for v := VerbHELO; v < VerbForeign; v++ {
			if equalFold(word, verbNames[v]) {
				return v
			}
		}
	}
	for _, f := range foreign {
		if equalFold(word, f) {
			return VerbForeign
		}
	}
	return VerbUnknown
}

// validText is valid UTF-8 without the C1 controls and the Unicode line ends,
// which some parser down the road may take for a line break.
func validText(b []byte) bool {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if (r == utf8.RuneError && n == 1) || (r >= 0x80 && r <= 0x9f) || r == 0x2028 || r == 0x2029 {
			return false
		}
		i += n
	}
	return true
}

// equalFold compares ASCII without case; upper must be upper case.
func equalFold(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

func trimSpaces(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}

// ErrBdat is the refusal of a BDAT whose chunk cannot be measured. What
// follows such a line cannot be told from commands: the session must end.
var ErrBdat = refusal(501, 5, 4, "Syntax: BDAT size [LAST]")

// ParseBdat reads BDAT's argument: a decimal chunk size and perhaps LAST
// (RFC 3030 2). At most 18 digits, so it cannot overflow.
func ParseBdat(arg []byte) (size int64, last bool, err *SyntaxError) {
	i := 0
	for i < len(arg) && arg[i] >= '0' && arg[i] <= '9' {
		size = size*10 + int64(arg[i]-'0')
		if i++; i > 18 {
			return 0, false, ErrBdat
		}
	}
	rest := arg[i:]
	switch {
	case i == 0:
		return 0, false, ErrBdat
	case len(rest) == 0:
		return size, false, nil
	case rest[0] == ' ' && equalFold(trimSpaces(rest), "LAST"):
		return size, true, nil
	}
	return 0, false, ErrBdat
}
