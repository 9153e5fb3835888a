package reputation_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

func reply(t testing.TB, phase message.Phase, fault message.Fault, text string) *message.Reply {
	t.Helper()
	r, err := reputation.ParseReply(text)
	if err != nil {
		t.Fatal(err)
	}
	r.Phase, r.Fault = phase, fault
	return &r
}

// TestHardCases are the replies that others get wrong.
func TestHardCases(t *testing.T) {
	const none = message.FaultNone
	for _, tt := range []struct {
		name, carrier string
		phase         message.Phase
		fault         message.Fault
		reply         string
		category      reputation.Category
		action        reputation.Action
		about         reputation.About
		final         bool
	}{
		{"docomo at RCPT", "docomo", message.PhaseRcpt, none, "550 Unknown user a@docomo.ne.jp", reputation.UnknownUser, reputation.ActSuppress, reputation.AboutRecipient, true},
		{"docomo after DATA", "docomo", message.PhaseDot, none, "550 Unknown user a@docomo.ne.jp", reputation.Filtered, reputation.ActFail, reputation.AboutRecipient, true},
		{"docomo, the 101st", "docomo", message.PhaseRcpt, none, "554 Transaction failed", reputation.PerConn, reputation.ActReconnect, reputation.AboutNothing, false},
		{"au names the address", "au", message.PhaseRcpt, none, "550 <a@ezweb.ne.jp>: User unknown", reputation.UnknownUser, reputation.ActSecond, reputation.AboutRecipient, true},
		{"au names none", "au", message.PhaseDot, none, "550 : User unknown", reputation.Filtered, reputation.ActFail, reputation.AboutRecipient, true},
		{"au resets", "au", message.PhaseConnect, message.FaultReset, "451 4.4.2 connection reset by the host", reputation.Rate, reputation.ActOne, reputation.AboutSource, false},
		{"a reset elsewhere", "", message.PhaseConnect, message.FaultReset, "451 4.4.2 connection reset by the host", reputation.Network, reputation.ActRetry, reputation.AboutCarrier, false},
		{"QQ's 550", "qq", message.PhaseDot, none, "550 Ip frequency limited", reputation.Rate, reputation.ActRest, reputation.AboutSource, false},
		{"QQ's mailbox", "qq", message.PhaseRcpt, none, "550 Mailbox unavailable or access denied", reputation.Rate, reputation.ActSlow, reputation.AboutSource, false},
		{"Yahoo's 553", "yahoo", message.PhaseMail, none, "553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.", reputation.Blocked, reputation.ActRest, reputation.AboutSource, false},
		{"Microsoft's 550", "outlook", message.PhaseMail, none, "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).", reputation.Blocked, reputation.ActRest, reputation.AboutSource, false},
		{"VS98", "yahoo-japan", message.PhaseMail, none, "553 Mail from 192.0.2.1 not allowed - VS98-IP0 deferred", reputation.Reputation, reputation.ActRest, reputation.AboutSource, false},
		{"a bare 421", "ymobile", message.PhaseRcpt, none, "421", reputation.UnknownUser, reputation.ActRetryFar, reputation.AboutRecipient, false},
		{"a bare 421 elsewhere", "", message.PhaseRcpt, none, "421", reputation.TheirFault, reputation.ActRetry, reputation.AboutCarrier, false},
		{"Gmail counts the domain", "gmail", message.PhaseDot, none, "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain [example.org 36].", reputation.SenderRate, reputation.ActHold, reputation.AboutSender, false},
		{"Gmail counts a URL", "gmail", message.PhaseDot, none, "421 4.7.28 Gmail has detected an unusual rate of mail\ncontaining one of your URL domains", reputation.SenderRate, reputation.ActHold, reputation.AboutSender, false},
		{"Gmail counts the source", "gmail", message.PhaseDot, none, "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\nfrom your IP address.", reputation.Rate, reputation.ActSlow, reputation.AboutSource, false},
		{"Gmail's busy mailbox", "gmail", message.PhaseRcpt, none, "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.", reputation.RcptRate, reputation.ActRetryFar, reputation.AboutRecipient, false},
		{"Yandex's 5.7.1", "yandex", message.PhaseRcpt, none, "550 5.7.1 No such user!", reputation.UnknownUser, reputation.ActSuppress, reputation.AboutRecipient, true},
		{"a look back at the sender", "", message.PhaseRcpt, none, "550 Verification failed for <ann@example.com>\nCalled: 192.0.2.1\nSent: RCPT TO:<ann@example.com>\nResponse: 550 5.1.1 User unknown\nSender verify failed", reputation.BadSender, reputation.ActFail, reputation.AboutSender, true},
		{"RFC 5321's own words", "", message.PhaseRcpt, none, "550 Requested action not taken: mailbox unavailable", reputation.UnknownUser, reputation.ActSecond, reputation.AboutRecipient, true},
		{"a full mailbox", "", message.PhaseRcpt, none, "552 5.2.2 Mailbox full", reputation.MailboxFull, reputation.ActFail, reputation.AboutRecipient, true},
		{"a full mailbox for now", "", message.PhaseRcpt, none, "452 4.2.2 Mailbox full", reputation.MailboxFull, reputation.ActRetryFar, reputation.AboutRecipient, false},
		{"a block worded as a mailbox", "", message.PhaseRcpt, none, "550 5.2.1 Mailbox unavailable. Your IP address 11.22.33.44 is blacklisted using SPAMHAUS-XBL.", reputation.Blocked, reputation.ActRest, reputation.AboutSource, false},
		{"refused at the door", "", message.PhaseBanner, none, "550 no", reputation.Blocked, reputation.ActElsewhere, reputation.AboutSource, false},
		{"5.1.1 alone", "", message.PhaseRcpt, none, "550 5.1.1 xyz", reputation.UnknownUser, reputation.ActSecond, reputation.AboutRecipient, true},
		{"5.1.1 after the content", "", message.PhaseDot, none, "550 5.1.1 xyz", reputation.UnknownUser, reputation.ActFail, reputation.AboutRecipient, true},
		{"nobody knows", "", message.PhaseRcpt, none, "550 xyz", reputation.Unknown, reputation.ActFail, reputation.AboutNothing, true},
		{"our own", "gmail", message.PhasePolicy, message.FaultLocal, "550 5.4.7 delivery time expired", reputation.Local, reputation.ActNone, reputation.AboutUs, true},
		{"success", "gmail", message.PhaseDot, none, "250 2.0.0 OK user unknown", reputation.Delivered, reputation.ActNone, reputation.AboutNothing, true},
	} {
		v := reputation.Shipped().Classify(tt.carrier, reply(t, tt.phase, tt.fault, tt.reply))
		if v.Category != tt.category || v.Action != tt.action || v.About != tt.about || v.Final != tt.final {
			t.Errorf("%s: %+v, want %s %s about %s final %v", tt.name, v, tt.category, tt.action, tt.about, tt.final)
		}
		if v.Action == reputation.ActRetryFar && v.RetryAfter == 0 {
			t.Errorf("%s: later, but not how much: %+v", tt.name, v)
		}
	}
}

// TestDoubtNeverSuppresses: a code without words a rule knows is no evidence, and
// what has no final digit of its own never ends by a fallback.
func TestDoubtNeverSuppresses(t *testing.T) {
	for code := uint16(400); code < 600; code++ {
		for phase := message.PhaseResolve; phase <= message.PhaseQuit; phase++ {
			for subject := range uint16(9) {
				for detail := range uint16(40) {
					r := message.Reply{Code: code, Phase: phase, Enhanced: message.Enhanced{Class: uint8(code / 100), Subject: subject, Detail: detail}, Text: "zzz"}
					v := reputation.Shipped().Classify("", &r)
					if v.Action == reputation.ActSuppress || code < 500 && v.Final || v.Suppresses() && phase != message.PhaseRcpt && phase != message.PhaseResolve {
						t.Fatalf("%s at %s: %+v", r.String(), phase, v)
					}
				}
			}
		}
	}
}

func TestClassifyDoesNotAllocate(t *testing.T) {
	rules := reputation.Shipped()
	list := cases(t)
	if n := testing.AllocsPerRun(5, func() {
		for i := range list {
			rules.Classify(list[i].Carrier, &list[i].Reply)
		}
	}); n > float64(len(list))/100 {
		t.Errorf("%v allocations for %d replies", n, len(list))
	}
}

// BenchmarkClassify is the time of one reply of the corpus, in turn, and of a day
// on which one in fifty is no success.
func BenchmarkClassify(b *testing.B) {
	rules := reputation.Shipped()
	list := cases(b)
	b.Run("corpus", func(b *testing.B) {
		b.ReportAllocs()
		defer cpu(b)()
		for i := 0; b.Loop(); i++ {
			c := &list[i%len(list)]
			rules.Classify(c.Carrier, &c.Reply)
		}
	})
	b.Run("one-in-fifty", func(b *testing.B) {
		b.ReportAllocs()
		defer cpu(b)()
		ok := message.Reply{Code: 250, Enhanced: message.Enhanced{Class: 2}, Text: "2.0.0 OK 1700000000 abc - gsmtp", Phase: message.PhaseDot}
		for i := 0; b.Loop(); i++ {
			if i%50 != 0 {
				rules.Classify("gmail", &ok)
				continue
			}
			c := &list[i/50%len(list)]
			rules.Classify(c.Carrier, &c.Reply)
		}
	})
}

// cpu reports the processor's time, which other programs on the machine change
// less than the clock's.
func cpu(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkCompile(b *testing.B) {
	reputation.Shipped()
	for b.Loop() {
		reputation.Compile(nil)
	}
}

// own is a small set of rules of policy.
func own() map[string]*policy.ReplyRule {
	return map[string]*policy.ReplyRule{
		"a-frozen":  {Carrier: "gmail", Codes: []string{"55x"}, Text: "petrified (by|at) \\d+", Category: "inactive", Action: "fail", Examples: []string{"550 5.2.1 Petrified by 7"}},
		"b-partner": {Phases: []string{"banner"}, Text: "^come back", Category: "greylist", RetryAfter: policy.Duration(20 * time.Minute), Examples: []string{"554 Come back soon"}},
		"c-off":     {Text: "spam", Category: "no such word", Disabled: true},
		"d-cut":     {Faults: []string{"closed"}, Carrier: "acme", Category: "rate", Examples: []string{"451 closed"}},
	}
}

func TestOwnRulesComeFirst(t *testing.T) {
	rules, problems := reputation.Compile(own())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, tt := range []struct {
		carrier string
		phase   message.Phase
		fault   message.Fault
		reply   string
		rule    string
		action  reputation.Action
		wait    time.Duration
	}{
		{"gmail", message.PhaseRcpt, 0, "550 5.2.1 The account is petrified at 12. It is disabled", "policy/a-frozen", reputation.ActFail, 0},
		{"yahoo", message.PhaseRcpt, 0, "550 5.2.1 The account is petrified at 12", "fallback/x.2.1", reputation.ActSecond, 0},
		{"gmail", message.PhaseRcpt, 0, "450 4.2.1 The account is petrified at 12", "fallback/4.2.1", reputation.ActRetry, 0},
		{"yahoo", message.PhaseBanner, 0, "554 COME BACK", "policy/b-partner", reputation.ActRetryFar, 20 * time.Minute},
		{"yahoo", message.PhaseRcpt, 0, "450 COME BACK", "fallback/rcpt-later", reputation.ActRetry, 0},
		{"acme", message.PhaseDot, message.FaultClosed, "451 4.4.2 x", "policy/d-cut", reputation.ActSlow, 0},
		{"acme", message.PhaseRcpt, 0, "550 5.1.1 user unknown", "general/unknown-at-rcpt", reputation.ActSuppress, 0},
	} {
		v := rules.Classify(tt.carrier, reply(t, tt.phase, tt.fault, tt.reply))
		if v.Rule != tt.rule || v.Action != tt.action || v.RetryAfter != tt.wait {
			t.Errorf("%s %q: %+v, want %s %s %s", tt.carrier, tt.reply, v, tt.rule, tt.action, tt.wait)
		}
	}
	if list := rules.List(); len(list) != len(reputation.Shipped().List())+3 || list[0].Name != "policy/a-frozen" {
		t.Errorf("%d rules, the first is %s", len(list), list[0].Name)
	}
}

func TestOwnRulesAreHeldAgainstTheirExamples(t *testing.T) {
	rule := func(change func(*policy.ReplyRule)) map[string]*policy.ReplyRule {
		r := &policy.ReplyRule{Text: "too fast", Category: "rate", Examples: []string{"550 Too fast"}}
		change(r)
		return map[string]*policy.ReplyRule{"r": r}
	}
	second := func(m map[string]*policy.ReplyRule) map[string]*policy.ReplyRule {
		m["s"] = &policy.ReplyRule{Carrier: "gmail", Text: "much too fast", Category: "rate", Examples: []string{"550 much too fast"}}
		return m
	}
	for _, tt := range []struct {
		name, want string
		rules      map[string]*policy.ReplyRule
	}{
		{"in order", "", rule(func(*policy.ReplyRule) {})},
		{"category", `ReplyRule/r: spec.category: there is no category "fast"`, rule(func(r *policy.ReplyRule) { r.Category = "fast" })},
		{"our own category", `spec.category`, rule(func(r *policy.ReplyRule) { r.Category = "delivered" })},
		{"action", `spec.action: there is no action "stop"`, rule(func(r *policy.ReplyRule) { r.Action = "stop" })},
		{"example", `spec.examples[1]: the rule does not match its own example "450 slow"`, rule(func(r *policy.ReplyRule) { r.Examples = append(r.Examples, "450 slow") })},
		{"no reply", `spec.examples[0]: "fast" begins with no reply code`, rule(func(r *policy.ReplyRule) { r.Examples = []string{"fast"} })},
		{"success", `spec.examples[0]: 2xx`, rule(func(r *policy.ReplyRule) { r.Examples = []string{"250 too fast"} })},
		{"nothing asked", `spec: the rule asks for nothing`, rule(func(r *policy.ReplyRule) { r.Text = "" })},
		{"text", `spec.text: not a regular expression`, rule(func(r *policy.ReplyRule) { r.Text = "(" })},
		{"shadowed", `ReplyRule/s: spec: rule policy/r, which is asked before, takes all its examples`, second(rule(func(*policy.ReplyRule) {}))},
		{"not shadowed by another carrier's", "", second(rule(func(r *policy.ReplyRule) { r.Carrier = "yahoo" }))},
		{"not shadowed in another phase", "", second(rule(func(r *policy.ReplyRule) { r.Phases = []string{"mail"} }))},
	} {
		got := ""
		if p := reputation.Problems(tt.rules); len(p) > 0 {
			got = p.Error()
		}
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		// What is wrong is left out, the rest works.
		if rules, _ := reputation.Compile(tt.rules); rules.Classify("", reply(t, message.PhaseRcpt, 0, "550 5.1.1 user unknown")).Rule != "general/unknown-at-rcpt" {
			t.Errorf("%s: the other rules do not work", tt.name)
		}
	}
}
