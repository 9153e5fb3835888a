package reputation

import (
	"fmt"
	"strings"

	"hikyaku/spool/message"
)

// ParseReply reads a reply as people write it down: "550 5.1.1 No such user", of
// several lines too, each with its code or only the first.
func ParseReply(s string) (message.Reply, error) {
	var r message.Reply
	s = strings.TrimSpace(s)
	if len(s) > 2*message.MaxReplyText {
		return r, fmt.Errorf("a reply of %d bytes: at most %d", len(s), 2*message.MaxReplyText)
	}
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return r, fmt.Errorf("%q begins with no reply code; want one as in \"550 5.1.1 No such user\"", cut(s))
	}
	code := s[:3]
	r.Code = uint16(code[0]-'0')*100 + uint16(code[1]-'0')*10 + uint16(code[2]-'0')
	if len(s) > 3 && s[3] != ' ' && s[3] != '-' && s[3] != '\n' && s[3] != '\r' && s[3] != '\t' {
		return r, fmt.Errorf("%q: want a blank after the code", cut(s))
	}
	var text []string
	for i, line := range strings.Split(s, "\n") {
		line = strings.TrimRight(line, "\r \t")
		if rest, ok := strings.CutPrefix(line, code); ok && (rest == "" || strings.IndexByte(" -\t", rest[0]) >= 0) {
			line = strings.TrimLeft(strings.TrimPrefix(rest, "-"), " \t")
		}
		word, rest, _ := strings.Cut(line, " ")
		if e, ok := message.ParseEnhanced(word); ok && (i == 0 || e == r.Enhanced) {
			r.Enhanced, line = e, strings.TrimLeft(rest, " \t")
		}
		text = append(text, clean(line))
	}
	r.Text = strings.TrimRight(strings.Join(text, "\n"), "\n")
	if len(r.Text) > message.MaxReplyText {
		r.Text = r.Text[:message.MaxReplyText]
	}
	return r, nil
}

// clean takes control bytes out, as the SMTP client does.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
