package reputation_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"hikyaku/reputation"
)

func TestNormalise(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"Unknown user kijitora@docomo.ne.jp", "Unknown user <addr>"},
		{"<a.b+c@example.com>: Recipient address rejected: User unknown", "<addr> : Recipient address rejected: User unknown"},
		{`<"a b@c"@example.com>... User Unknown`, "<addr> ... User Unknown"},
		{"[kijitora@example.org]: Recipient address rejected", "<addr> Recipient address rejected"},
		{"user%40example.com and user＠example.com and user(at)example.com", "<addr> and <addr> and <addr>"},
		{"5.7.1 [192.0.2.22 13] Our system; 550-5.7.1 (2001:db8::1) x", "5.7.1 [<ip> #] Our system; #-#.#.# (<ip>) x"},
		{"[TSS04] Messages from 0.0.0.0 deferred - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes", "[TSS04] Messages from <ip> deferred - <ip>; see https://postmaster.yahooinc.com/error-codes"},
		{"visit https://support.google.com/mail/?p=NoSuchUser d2e1a72fcca58-7a0f1 - gsmtp", "visit https://support.google.com/mail/ #-#a#f# - gsmtp"},
		{"Service refused (S3150) VS98-IP0 OFR006_104 AS(508)", "Service refused (S3150) VS98-IP0 OFR006_104 AS(#)"},
		{"user unknown - mta1397.mail.mud.yahoo.com", "user unknown - <host>"},
		{"id V2VkIEFwciAgMyAxNjozNjo1OSBKU1QgMjAxOQo=/RkNGMjlFQTVEQ0E x", "id #=/# x"},
		{"two\nlines\tand  blanks", "two lines and blanks"},
		{"", ""},
		{strings.Repeat("é", 300), strings.Repeat("é", 100)},
	} {
		if got := reputation.Normalise(tt.text); got != tt.want {
			t.Errorf("%q:\n got %q\nwant %q", tt.text, got, tt.want)
		}
	}
	if got := reputation.Normalise("Sorry, Kijitora has no mailbox at Example.COM", "kijitora@example.com"); got != "Sorry, # has no mailbox at #" {
		t.Errorf("%q", got)
	}
}

// TestNormaliseGroups: two replies of one kind are one text.
func TestNormaliseGroups(t *testing.T) {
	for _, pair := range [][2]string{
		{"Message rejected. id=20025-09 for a@b.example at 12:01:02", "Message rejected. id=7-1 for c.d@e.example at 23:59:59"},
		{"xyz from 192.0.2.1 blocked, ref 01J8ZQ3K4M5N6P7Q8R9S", "xyz from 203.0.113.77 blocked, ref 01J9AAAABBBBCCCCDDDD"},
	} {
		if a, b := reputation.Normalise(pair[0]), reputation.Normalise(pair[1]); a != b {
			t.Errorf("%q and %q", a, b)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, c := range cases(f) {
		f.Add(c.Reply.Text, "kijitora", "example.com")
	}
	f.Add("<\"a b\"@x> (at) @", "a\"b", "x")
	f.Fuzz(func(t *testing.T, text, local, domain string) {
		check := func(got string) {
			if len(got) > 200 || !utf8.ValidString(got) || strings.ContainsAny(got, "@\n\r\t") {
				t.Errorf("%q became %q", text, got)
			}
		}
		check(reputation.Normalise(text))
		// An address in the text is gone, whatever stands around it.
		if !strings.ContainsAny(local, "<>\"@%&([") && len(strings.Fields(local)) == 1 && strings.Fields(local)[0] == local && utf8.ValidString(local) {
			const mark = "Q7wIRTz"
			got := reputation.Normalise(text + " " + mark + local + "@" + domain)
			check(got)
			if strings.Contains(got, mark) && !strings.Contains(text, mark) {
				t.Errorf("%q is left of %q", mark+local, got)
			}
		}
		got := reputation.Normalise(text, local+"@"+domain)
		check(got)
	})
}
