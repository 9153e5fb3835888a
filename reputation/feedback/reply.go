package feedback

import (
	"bytes"
	"strings"

	"hikyaku/spool/message"
)

// parseDiagnostic makes a reply of the value of a Diagnostic-Code field, folded
// as it stands. Its type says whose words they are; only smtp's have a code, but
// x-postfix and others quote replies too, so each is looked through.
func parseDiagnostic(value []byte) message.Reply {
	var lines []string
	for len(value) > 0 && len(lines) < 60 {
		var line []byte
		line, value = cutLine(value)
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, string(line[:min(len(line), message.MaxReplyText)]))
		}
	}
	if len(lines) == 0 {
		return message.Reply{}
	}
	lines[0] = afterType(lines[0])
	return parseReply(lines)
}

// parseReply makes a reply of lines that quote one. What stands before the code
// ("host mx.example.com said:") is kept only if there is no text behind it.
func parseReply(lines []string) message.Reply {
	whole := strings.Join(lines, "\n")
	rep := message.Reply{Phase: phaseOf(whole)}
	whole = cutPhase(whole)
	at, code, ok := findCode(whole)
	if !ok {
		rep.Enhanced = findStatus(whole)
		rep.Text = cleanText(whole)
		return rep
	}
	rep.Code = code
	prefix := whole[at : at+3]
	text := whole[at:]
	var out []string
	for _, l := range splitReply(text, prefix) {
		// "550: text" loses its colon, "550 : User unknown" keeps it: that is how au
		// says that the recipient filters.
		l = strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(l, prefix), ":"), "- \t")
		if e, rest, found := cutStatus(l); found {
			if rep.Enhanced.Class == 0 {
				rep.Enhanced = e
			}
			l = rest
		}
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	if rep.Enhanced.Class == 0 {
		rep.Enhanced = findStatus(text)
	}
	if rep.Text = closed(cleanText(strings.Join(out, "\n"))); rep.Text == "" {
		rep.Text = cleanText(whole[:at])
	}
	return rep
}

// cutPhase takes Postfix's remark off: it is in Reply.Phase, and no word of the
// server's.
func cutPhase(s string) string {
	i := strings.LastIndex(s, "(in reply to")
	if i < 0 {
		i = strings.LastIndex(s, "(in\n")
	}
	if i <= 0 || len(s)-i > 60 || !strings.HasSuffix(strings.TrimRight(s, " \n"), "command)") {
		return s
	}
	return strings.TrimRight(s[:i], " \n")
}

// closed takes off a bracket that was opened before the reply: "(reason: 550 …)".
func closed(s string) string {
	for _, b := range []string{"()", "[]"} {
		if strings.HasSuffix(s, b[1:]) && strings.Count(s, b[:1]) < strings.Count(s, b[1:]) {
			s = strings.TrimSuffix(s, b[1:])
		}
	}
	return s
}

// splitReply takes the lines of a multi-line reply apart, which folding has often
// made one: "550-5.1.1 a 550 5.1.1 b".
func splitReply(s, code string) []string {
	var out []string
	start := 0
	for i := len(code); i+len(code) < len(s); i++ {
		if (s[i-1] == ' ' || s[i-1] == '\n') && s[i:i+len(code)] == code && (s[i+len(code)] == '-' || s[i+len(code)] == ' ') {
			out = append(out, s[start:i])
			start = i
			i += len(code)
		}
	}
	return append(out, s[start:])
}

// findCode looks for a reply code in prose: 4xx or 5xx, and best of all with an
// enhanced code behind it or a mark of quotation before it. Numbers of other
// kinds (bytes, seconds, parts of dates and addresses) are around everywhere.
func findCode(s string) (at int, code uint16, ok bool) {
	best := 0
	for i := 0; i+3 <= len(s); i++ {
		if (s[i] != '4' && s[i] != '5' && s[i] != '2') || s[i+1] < '0' || s[i+1] > '5' || s[i+2] < '0' || s[i+2] > '9' {
			continue
		}
		if i > 0 && !strings.ContainsRune(" \t\n:;<>[('\"=#", rune(s[i-1])) {
			continue
		}
		if i+3 < len(s) && !strings.ContainsRune(" -\t\n:)]'\",", rune(s[i+3])) {
			continue
		}
		score := codeScore(s, i)
		if score > best {
			best, at = score, i
		}
		i += 2
	}
	if best == 0 {
		return 0, 0, false
	}
	return at, uint16(s[at]-'0')*100 + uint16(s[at+1]-'0')*10 + uint16(s[at+2]-'0'), true
}

// quoteMarks stand before a quoted reply.
var quoteMarks = []string{"said:", "<<<", "error:", "reply:", "response:", "response was:", "responded:", "returned:", "code:", "code", "code :", "code=", "error",
	"message:", "with:", "reason:", "status:", "smtp;", "was:", "mailer:", "host:", "]:", "):", ">:", "server:", "error is:"}

func codeScore(s string, i int) int {
	behind := s[min(len(s), i+3):min(len(s), i+60)]
	before := strings.TrimRight(s[max(0, i-24):i], " \t'\"[(#")
	score := 0
	if len(behind) > 1 {
		if _, _, ok := cutStatus(strings.TrimLeft(behind, "- \t:(#")); ok {
			score += 8
		}
	}
	if i == 0 || s[i-1] == '\n' {
		score += 4
	}
	low := strings.ToLower(before)
	for _, m := range quoteMarks {
		if strings.HasSuffix(low, m) {
			score += 6
			break
		}
	}
	if s[i] == '2' {
		return max(0, score-7) // a 250 in a transcript is about something else
	}
	word, _, _ := strings.Cut(strings.TrimLeft(strings.ToLower(behind), " \t"), " ")
	switch strings.Trim(word, ".,;:)") {
	case "bytes", "byte", "seconds", "second", "minutes", "hours", "days", "kb", "mb", "messages", "recipients", "lines", "ms", "times", "smtp":
		return 0
	}
	if score == 0 && len(behind) > 0 && (behind[0] == ' ' || behind[0] == '-') {
		score = 1
	}
	return score
}

// cutStatus cuts an enhanced code off the beginning.
func cutStatus(s string) (e message.Enhanced, rest string, ok bool) {
	s = strings.TrimLeft(s, "#(")
	n := 0
	for n < len(s) && n < 9 && (s[n] == '.' || (s[n] >= '0' && s[n] <= '9')) {
		n++
	}
	if n < len(s) && !strings.ContainsRune(" \t\n)]:;,-<'\"", rune(s[n])) {
		return e, s, false
	}
	if e, ok = message.ParseEnhanced(strings.TrimRight(s[:n], ".")); !ok {
		return e, s, false
	}
	return e, strings.TrimLeft(strings.TrimLeft(s[n:], "):"), " \t"), true
}

// findStatus is the first enhanced code that stands by itself in the text.
func findStatus(s string) message.Enhanced {
	for i := 0; i+5 <= len(s); i++ {
		if s[i+1] != '.' || (s[i] != '5' && s[i] != '4' && s[i] != '2') {
			continue
		}
		if i > 0 && !strings.ContainsRune(" \t\n#([:;<='\"-", rune(s[i-1])) {
			continue
		}
		if e, _, ok := cutStatus(s[i:]); ok {
			return e
		}
	}
	return message.Enhanced{}
}

// phaseOf is the step of the transaction at which the reply was said, where the
// report tells. docomo's 550 means one thing after RCPT and another after DATA,
// so nothing is guessed here.
func phaseOf(s string) message.Phase {
	low := strings.ToLower(strings.Join(strings.Fields(s), " ")) // the words are folded anywhere
	for _, p := range phaseWords {
		if strings.Contains(low, p.words) {
			return p.phase
		}
	}
	return message.PhaseNone
}

var phaseWords = []struct {
	words string
	phase message.Phase
}{
	{"after rcpt command", message.PhaseRcpt},     // GMX
	{"in reply to end of data", message.PhaseDot}, // Postfix
	{"in reply to rcpt to", message.PhaseRcpt},
	{"in reply to data command", message.PhaseData},
	{"in reply to mail from", message.PhaseMail},
	{"in reply to ehlo", message.PhaseEHLO}, {"in reply to helo", message.PhaseEHLO},
	{"in reply to starttls", message.PhaseSTARTTLS},
	{"after end of data", message.PhaseDot}, {"after rcpt to", message.PhaseRcpt}, // Exim
	{"after mail from", message.PhaseMail}, {"after data", message.PhaseData},
	{"after pipelined end of data", message.PhaseDot}, {"after pipelined rcpt to", message.PhaseRcpt}, {"after pipelined mail from", message.PhaseMail},
	{"after initial connection", message.PhaseBanner}, {"after ehlo", message.PhaseEHLO}, {"after helo", message.PhaseEHLO},
	{"did not like our final data", message.PhaseDot}, {"did not like our rcpt", message.PhaseRcpt}, // DragonFly
	{"did not like our mail from", message.PhaseMail}, {"did not like our data", message.PhaseData},
	{">>> rcpt to", message.PhaseRcpt}, {">>> mail from", message.PhaseMail}, {">>> .", message.PhaseDot}, // sendmail, Courier; what they show behind ">>> DATA" may answer a RCPT before it
	{"[rcpt_to]", message.PhaseRcpt}, {"[mail_from]", message.PhaseMail}, {"[body]", message.PhaseDot}, {"[data]", message.PhaseDot}, // Yahoo
	{"smtp:rcpt", message.PhaseRcpt}, {"smtp:mail", message.PhaseMail}, {"smtp:data", message.PhaseDot},
	{"does not like recipient", message.PhaseRcpt}, {"does not like sender", message.PhaseMail}, {"failed after i sent the message", message.PhaseDot}, // qmail
	{"<<< rcpt to", message.PhaseRcpt}, // InterScan
	{"host rejected the recipient", message.PhaseRcpt}, {"rcpt to command", message.PhaseRcpt}, {"mail from command", message.PhaseMail},
	{"end of data command", message.PhaseDot},
}

// cleanText makes a text that a Reply may hold.
func cleanText(s string) string {
	var out []byte
	s = strings.ToValidUTF8(stripJIS(s), "?")
	space := true
	for _, r := range s {
		switch {
		case r == '\n':
			out = append(bytes.TrimRight(out, " "), '\n')
			space = true
		case r <= ' ' || r == 0x7f:
			if !space {
				out = append(out, ' ')
			}
			space = true
		default:
			out = append(out, string(r)...)
			space = false
		}
		if len(out) > message.MaxReplyText {
			break
		}
	}
	out = bytes.TrimSpace(out)
	if len(out) > message.MaxReplyText {
		return strings.TrimSpace(strings.ToValidUTF8(string(out[:message.MaxReplyText]), ""))
	}
	return string(out)
}

// stripJIS takes the two-byte stretches of ISO-2022-JP out, which would be read
// as letters.
func stripJIS(s string) string {
	if !strings.Contains(s, "\x1b$") {
		return s
	}
	var out strings.Builder
	for {
		i := strings.Index(s, "\x1b$")
		if i < 0 {
			break
		}
		out.WriteString(s[:i])
		end := strings.Index(s[i:], "\x1b(")
		if end < 0 || len(s) < i+end+3 {
			return out.String() + "?"
		}
		out.WriteByte('?')
		s = s[i+end+3:]
	}
	out.WriteString(s)
	return out.String()
}
