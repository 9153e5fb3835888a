package feedback

import "strings"

// introductions are words behind which the recipient stands in the same line.
var introductions = []string{"delivered to", "deliver to", "delivery to", "delivering to", "delivering your mail to", "delivering your message to", "deliver your message to", "your message to", "message to", "mail to", "your mail to", "rcpt to", "recipient", "addressed to",
	"sending to", "send to", "sent to", "address:", "addresses:", "address is", "user:", "undeliverable to", "failed:", "errors:", "for:", "unknown user", "mailbox", "account", "for <", "宛先", "送信先", "адрес", "empfänger"}

// introduced are the addresses of a line that are recipients by where they stand.
// In the second, careless pass any address counts.
func introduced(l string, careless bool) []string {
	if strings.IndexByte(l, '@') < 0 {
		return nil
	}
	t := strings.TrimLeft(l, " \t*>|-•\"'([")
	t = strings.TrimPrefix(t, "<")
	all := findAddresses(l, 8)
	if len(all) == 0 {
		return nil
	}
	if strings.HasPrefix(t, all[0]) || careless {
		return all[:1]
	}
	if len(t) > 4 && (t[0] == '4' || t[0] == '5') && t[3] == ' ' && strings.HasPrefix(strings.TrimLeft(t[4:], " <"), all[0]) { // a transcript: "554 <x>... why"
		return all[:1]
	}
	low := strings.ToLower(l)
	at := strings.Index(low, strings.ToLower(all[0]))
	if at < 0 {
		return nil
	}
	before := low[:at]
	for _, w := range introductions {
		if i := strings.LastIndex(before, w); i >= 0 && len(before)-i-len(w) < 40 {
			return all
		}
	}
	return nil
}

// findAddresses are what looks like addresses in a text, at most so many.
func findAddresses(s string, most int) []string {
	var out []string
	for from := 0; len(out) < most; {
		at := strings.IndexByte(s[from:], '@')
		if at < 0 {
			break
		}
		at += from
		i := at
		if i > 0 && s[i-1] == '"' { // a quoted local part
			i--
			for i > from && s[i-1] != '"' && at-i < 66 {
				i--
			}
			i = max(from, i-1)
		}
		for i > from && at-i < 65 && isLocal(s[i-1]) {
			i--
		}
		j := at + 1
		for j < len(s) && j-at < 256 && isDomain(s[j]) {
			j++
		}
		domain := strings.TrimRight(s[at+1:j], ".-")
		if i < at && len(domain) > 2 && strings.IndexByte(domain, '.') > 0 {
			out = append(out, s[i:at]+"@"+domain)
		}
		from = j
	}
	return out
}

func isLocal(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) >= 0
}

func isDomain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c >= 0x80
}
