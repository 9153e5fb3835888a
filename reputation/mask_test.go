package reputation

import (
	"bytes"
	"strings"
	"testing"

	"hikyaku/spool/message"
)

func TestMask(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"no address", "no address"},
		{"550 <ann@example.com>: User unknown", "550 <xxxxxxxxxxxxxxx>: User unknown"},
		{"user ann@example.com. Try", "user xxxxxxxxxxxxxxx. Try"},
		{"(ann@example.com:blocked)", "(xxxxxxxxxxxxxxx:blocked)"},
		{`<"a b"@example.com> x`, "<xxxxxxxxxxxxxxxxx> x"},
		{`"@a`, "xxx"},
		{"@", "x"},
		{"@@b", "xxx"},
		{"a@b c@d", "xxx xxx"},
		{"http://h.example/?e=ann@example.com", "http://h.example/?xxxxxxxxxxxxxxxxx"},
		{"<SRS0=x=y.com=ann@example.com>", "<xxxxxxxxxxxxxxxxxxxxxxxxxxxx>"},
		{"ann@例え.jp", "xxxxxxxxxxxxx"},
		{"ann @ b", "ann x b"},
	} {
		if got := masked(tt.in); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// TestAddressesSayNothing: the words of a recipient's address, which whoever
// sends chooses, decide nothing. The control is the same words outside of it.
func TestAddressesSayNothing(t *testing.T) {
	for _, tt := range []struct{ local, outside string }{
		{"junkmail", "junkmail"},
		{"blocked-using-spamhaus", "blocked using spamhaus"},
		{"too-many-connections", "too many connections"},
		{"unusual.rate.limit", "rate limit"},
		{"mailbox-full-quota", "quota exceeded"},
		{"virus", "virus"},
	} {
		judge := func(text string) string {
			v := Shipped().Classify("", &message.Reply{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: text, Phase: message.PhaseRcpt})
			return v.Rule
		}
		if rule := judge("<" + tt.local + "@example.com>: Recipient address rejected: User unknown"); rule != "general/unknown-at-rcpt" {
			t.Errorf("the address %s@ made it %s", tt.local, rule)
		}
		if rule := judge(tt.outside + ": User unknown"); rule == "general/unknown-at-rcpt" {
			t.Errorf("%q outside of an address does nothing either: the test shows nothing", tt.outside)
		}
	}
}

// TestRulesMayAskForAddresses: a rule with "@" in its text reads the text as it
// came; others find the address blotted out.
func TestRulesMayAskForAddresses(t *testing.T) {
	r := &message.Reply{Code: 554, Text: "write to tosa@rx.example or give up", Phase: message.PhaseRcpt}
	for text, want := range map[string]bool{"to tosa@rx": true, `tosa@\w+\.example`: true, "tosa": false, `write to \S+ or`: true} {
		x, flaws := Rule{Name: "t/t", Text: text, Category: Rate}.ready()
		if len(flaws) > 0 {
			t.Fatal(flaws)
		}
		if got := newRules([]*rule{x}).find("", r) != nil; got != want || x.match("", r) != want {
			t.Errorf("%q: found %v, one by one %v, want %v", text, got, x.match("", r), want)
		}
	}
}

// FuzzMask: what is blotted out is around "@", nothing grows, and nothing is left
// to blot out.
func FuzzMask(f *testing.F) {
	for _, s := range []string{"", "@", `"@`, `""@""@`, "a@b", "<a b@c.>", strings.Repeat("a", 100) + "@" + strings.Repeat("b", 300), "\xff@\xff", "a@b@c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := bytes.Clone(in)
		mask(out)
		if len(out) != len(in) || bytes.IndexByte(out, '@') >= 0 {
			t.Fatalf("%q: %q", in, out)
		}
		if bytes.IndexByte(in, '@') < 0 && !bytes.Equal(in, out) {
			t.Errorf("%q holds no address, and became %q", in, out)
		}
		if again := masked(string(out)); again != string(out) {
			t.Errorf("%q: %q, and then %q", in, out, again)
		}
	})
}
