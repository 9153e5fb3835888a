package reputation

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"hikyaku/spool/message"
)

// slowly is find without the automaton and the masks: each rule in turn.
func (rs *Rules) slowly(carrier string, r *message.Reply) *rule {
	for _, x := range rs.rules {
		if x.match(carrier, r) {
			return x
		}
	}
	return nil
}

// FuzzClassify: the quick way and the plain way agree about any reply, and what
// comes out keeps the promises of doc.go.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{"User unknown", "blocked using zen.spamhaus.org", "421 [TSS04]", "^: user unknown", ": User unknown", "OFR006_104", "unusual rate of\nmail your DKIM domain", "\x00\xff", "",
		strings.Repeat("user unknow", 40) + "n", strings.Repeat("x", 300) + "spamhaus" + strings.Repeat("y", 300)} {
		f.Add("gmail", uint16(550), "5.1.1", uint8(10), uint8(0), s)
		f.Add("au", uint16(450), "", uint8(12), uint8(3), s)
	}
	f.Fuzz(func(t *testing.T, carrier string, code uint16, enhanced string, phase, fault uint8, text string) {
		e, _ := message.ParseEnhanced(enhanced)
		r := &message.Reply{Code: code, Enhanced: e, Text: text, Phase: message.Phase(phase % uint8(message.PhaseQuit+1)), Fault: message.Fault(fault % uint8(message.FaultLocal+1))}
		rs := Shipped()
		if quick, plain := rs.find(carrier, r), rs.slowly(carrier, r); quick != plain {
			t.Fatalf("%q %+v: %v, one by one %v", carrier, r, name(quick), name(plain))
		}
		v := rs.Classify(carrier, r)
		m, ok := meaningOf(v.Category)
		switch {
		case !ok:
			t.Errorf("%+v: category %q is not in the table", r, v.Category)
		case v.Suppresses() && (v.About != AboutRecipient || !v.Final || r.Class() != message.Permanent || v.Guessed() && v.Action != ActSecond):
			t.Errorf("%+v suppresses: %+v", r, v)
		case v.Suppresses() && r.Phase >= message.PhaseConnect && r.Phase < message.PhaseRcpt:
			t.Errorf("%+v judges an address before it was named: %+v", r, v)
		case v.About == AboutSource && v.Final:
			t.Errorf("%+v ends a recipient for its source's sake: %+v", r, v)
		case v.Final && r.Class() == message.Temporary:
			t.Errorf("%+v ends a recipient: %+v", r, v)
		case v.Action == ActRetryFar && v.RetryAfter <= 0, v.Final && v.RetryAfter != 0:
			t.Errorf("%+v waits %s: %+v (%s)", r, v.RetryAfter, v, m.Text)
		}
	})
}

func name(x *rule) string {
	if x == nil {
		return "none"
	}
	return x.Name
}

// TestFindsAcrossTheMiddle: two halves of a text are read side by side; a literal
// is seen wherever it stands.
func TestFindsAcrossTheMiddle(t *testing.T) {
	for before := range 120 {
		for _, after := range []int{0, 7, 60, 119} {
			r := &message.Reply{Code: 550, Phase: message.PhaseRcpt, Text: strings.Repeat("-", before) + "Blacklisted URL" + strings.Repeat("-", after)}
			if v := Shipped().Classify("", r); v.Rule != "general/domain-listed" {
				t.Fatalf("%d before, %d after: %+v", before, after, v)
			}
		}
	}
}

// TestKeyIsRare: a rule is asked where its rarest words stand, not wherever a
// reply says "recipient".
func TestKeyIsRare(t *testing.T) {
	for text, want := range map[string]string{"recipient .*no longer": "no longer", "mailbox .*full": "full", "user .*on": "user ", "mailbox": "mailbox"} {
		p, err := compilePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.alts[0].key(); got != want {
			t.Errorf("%q: %q is looked for, want %q", text, got, want)
		}
	}
}

// blanks are the lines and tabs of a pattern, as they stand or written as escapes.
var blanks = regexp.MustCompile(`[\n\r\t]|\\[nrtx0-7]`)

// FuzzPattern: a pattern that was taken apart matches what the regexp package
// says it matches.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"a", "^a$", "(a|b).*c", "a?b", "[ab]c", "^(.*)x", "a.c", "a+", "(?:ab|cd)e$", "a{2,3}", `\bspam\b`, "é", "k", "[a-z]", "()", "a||b", "^", "$", "x^y", "a$b", "(^a|b$)", ".*", "K[st]", "a b", "(?i)A", "a.*b.*a", "(a|b).*(c|d)", "(a|b)(c|d)?.*(x|y|c$)"} {
		for _, s := range []string{"", "a", "abc", "xay", "abab", "A\nB", "aa bb cc", "spam", "Éé", "K k", "ab cde", "x y"} {
			f.Add(p, s)
		}
	}
	f.Fuzz(func(t *testing.T, text, s string) {
		if strings.ContainsFunc(text+s, func(r rune) bool { return r >= 0x80 || r == '\v' || r == '\f' }) || strings.Contains(text, "(?") || blanks.MatchString(text) || strings.Contains(s, "@") {
			t.Skip() // the ASCII fold, the blanks for lines and the masks are ours
		}
		p, err := compilePattern(text)
		re, want := regexp.Compile("(?is)" + text)
		if len(text) > maxPattern {
			t.Skip()
		}
		if (err == nil) != (want == nil) {
			t.Fatalf("%q: %v, regexp %v", text, err, want)
		}
		if err != nil || p == nil {
			return
		}
		s = unfolded.Replace(s)
		if got, want := matches(p, s, false), re.MatchString(s); got != want {
			t.Errorf("%q in %q: %v, regexp says %v; %+v", text, s, got, want, p)
		}
		// And through the automaton, which must not lose a match.
		x, flaws := Rule{Name: "t/t", Codes: []string{"5xx"}, Text: text, Category: Rate}.ready()
		if len(flaws) > 0 {
			t.Fatal(flaws)
		}
		rs := newRules([]*rule{x})
		if got := rs.find("", &message.Reply{Code: 550, Text: s}) != nil; got != re.MatchString(s) {
			t.Errorf("%q in %q: found %v", text, s, got)
		}
	})
}

func load(text string) (*Rules, error) {
	return Load(fstest.MapFS{"rules/acme.yaml": {Data: []byte(text)}}, "rules", nil)
}

func TestLoadRefuses(t *testing.T) {
	const head = "carriers: [acme]\nrules:\n  - name: slow\n"
	for _, tt := range []struct{ text, want string }{
		{head + "    codes: [650]\n    category: rate\n", `rules/acme.yaml:4:13: rules[0].codes[0]: "650" is not a reply code`},
		{head + "    codes: [5x5]\n    category: rate\n", `"5x5" is not a reply code`},
		{head + "    enhanced: [5.7]\n    category: rate\n", `rules[0].enhanced[0]: "5.7" is not an enhanced`},
		{head + "    phases: [rctp]\n    category: rate\n", `rules[0].phases[0]: there is no phase "rctp"`},
		{head + "    faults: [local]\n    category: rate\n", `there is no fault "local"`},
		{head + "    text: (\n    category: rate\n", `rules/acme.yaml:4:11: rules[0].text: not a regular expression`},
		{head + "    text: a\n    category: fast\n", `rules/acme.yaml:5:15: rules[0].category: there is no category "fast" for a rule`},
		{head + "    text: a\n    category: rate\n    action: stop\n", `rules[0].action: there is no action "stop"`},
		{head + "    text: a\n    category: rate\n    about: them\n", `cannot be about "them"`},
		{head + "    text: a\n    category: unknown-user\n    action: suppress\n    final: false\n", `action suppress ends the recipient`},
		{head + "    text: a\n    category: rate\n    final: true\n", `says nothing of the recipient`},
		{head + "    text: a\n    category: content\n    action: suppress\n", `rules/acme.yaml:6:13: rules[0].action: action suppress is for what a reply says of the recipient`},
		{head + "    text: a\n    category: policy\n    about: recipient\n    action: second-sight\n", `which category policy is not`},
		{head + "    text: a\n    category: unknown-user\n    about: source\n", `action suppress is for what`},
		{head + "    category: rate\n", `rules/acme.yaml:3:5: rules[0]: the rule asks for nothing`},
		{head + "    text: a\n    category: rate\n    txt: b\n", `rules/acme.yaml:6:5: rules[0].txt: unknown key "txt"; did you mean "text"?`},
		{head + "    text: a\n    category: rate\n    carriers: [other]\n", `"other" is not one of the file's carriers`},
		{head + "    text: a\n    category: rate\n  - name: slow\n    text: b\n    category: rate\n", `rules/acme.yaml:6:11: rules[1].name: "slow" is there already`},
		{"rules:\n  - name: Slow\n    text: a\n    category: rate\n", `"Slow" is no name`},
		{"rules: []\n---\nrules: []\n", `2 documents: a rule file is one`},
		{"rules: [", `rules/acme.yaml:1:`},
	} {
		_, err := load(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
	if _, err := Load(fstest.MapFS{}, "rules", nil); err == nil {
		t.Error("a folder without rules was loaded")
	}
}

// TestRulesShareWords: a file's words stand for their texts, wherever they are
// written.
func TestRulesShareWords(t *testing.T) {
	rs, err := load("carriers: [acme]\nwords: {gone: (left|moved)}\nrules:\n  - name: a\n    codes: [5xx]\n    text: 'has {gone}'\n    category: inactive\n  - name: b\n    text: \"{gone}\"\n    category: temporary\n")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"has moved": "acme/a", "left": "acme/b", "{gone}": ""} {
		v := rs.Classify("acme", &message.Reply{Code: 550, Text: text, Phase: message.PhaseRcpt})
		if v.Guessed() != (want == "") || want != "" && v.Rule != want {
			t.Errorf("%q: %s, want %q", text, v.Rule, want)
		}
	}
}

// TestLoadRefusesUselessRules is the control of TestCorpus: with a rule too many
// it is red.
func TestLoadRefusesUselessRules(t *testing.T) {
	example := []Example{{"acme", message.Reply{Code: 550, Text: "Too fast"}}, {"", message.Reply{Code: 550, Text: "Too slow"}}}
	fast := "  - name: fast\n    text: too fast\n    category: rate\n"
	for _, tt := range []struct{ more, want string }{
		{"", ""},
		{"  - name: never\n    text: never\n    category: rate\n", "rule acme/never matches none of the examples"},
		{"  - name: late\n    text: fast\n    category: rate\n", "rule acme/late is shadowed by acme/fast"},
		{"  - name: other\n    text: too slow\n    category: rate\n", "rule acme/other matches none"}, // the reply is of nobody in particular
	} {
		_, err := Load(fstest.MapFS{"rules/acme.yaml": {Data: []byte("carriers: [acme]\nrules:\n" + fast + tt.more)}}, "rules", example)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.more, err, tt.want)
		}
	}
}

// FuzzLoad: whatever is in a file, it is read or refused with a place, and what
// was read can be asked.
func FuzzLoad(f *testing.F) {
	f.Add("carriers: [acme]\nrules:\n  - name: slow\n    codes: [55x]\n    enhanced: [x.7.1]\n    phases: [rcpt]\n    text: a.*b\n    category: rate\n    retry_after: 1h\n")
	f.Add("rules:\n  - name: a\n    faults: [reset]\n    category: network\n    final: false\n")
	f.Add("rules: [{name: a, text: '(a|b){3}', category: auth, action: hold}]")
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := load(text)
		if err != nil {
			if !strings.Contains(err.Error(), "acme.yaml:") && !strings.Contains(err.Error(), "too many") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		for _, phase := range []message.Phase{message.PhaseNone, message.PhaseRcpt} {
			r := &message.Reply{Code: 550, Text: text[:min(len(text), 300)], Phase: phase}
			if rs.find("acme", r) != rs.slowly("acme", r) {
				t.Errorf("the quick way and the plain way differ for %q", text)
			}
		}
	})
}

// TestManyRules: an operator's rules up to the bound do not change what is found.
func TestManyRules(t *testing.T) {
	var list []*rule
	for i := range maxRules {
		x, flaws := Rule{Name: fmt.Sprintf("t/%d", i), Text: fmt.Sprintf("word%d end|(%d|x).*%d", i, i, i), Codes: []string{"5xx"}, Category: Rate}.ready()
		if len(flaws) > 0 {
			t.Fatal(flaws)
		}
		list = append(list, x)
	}
	rs := newRules(list)
	for _, text := range []string{"word2047 end", "word12 end", "none", "1999 1999", "x 7"} {
		r := &message.Reply{Code: 550, Text: text}
		if quick, plain := rs.find("", r), rs.slowly("", r); quick != plain {
			t.Errorf("%q: %s, one by one %s", text, name(quick), name(plain))
		}
	}
}

// TestNoJudgementBeforeRCPT is the control of that case of FuzzClassify: the same
// words are the sender's before RCPT, and the recipient's after.
func TestNoJudgementBeforeRCPT(t *testing.T) {
	for p := message.PhaseConnect; p <= message.PhaseQuit; p++ {
		r := &message.Reply{Code: 550, Text: "<ann@example.com>... User unknown", Phase: p, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 1}}
		if v := Shipped().Classify("", r); v.Suppresses() != (p >= message.PhaseRcpt) {
			t.Errorf("at %s: %+v", p, v)
		}
	}
	asked, _ := Rule{Name: "t/t", Text: "user unknown", Phases: []string{"mail"}, Category: UnknownUser}.ready()
	if rs := newRules([]*rule{asked}); !rs.Classify("", &message.Reply{Code: 550, Text: "user unknown", Phase: message.PhaseMail}).Suppresses() {
		t.Error("a rule that asks for the step is not asked there: the test shows nothing")
	}
}

func BenchmarkShipped(b *testing.B) {
	for b.Loop() {
		if _, err := Load(shippedFiles, "rules", nil); err != nil {
			b.Fatal(err)
		}
	}
}
