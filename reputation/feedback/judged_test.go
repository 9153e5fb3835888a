package feedback_test

import (
	"testing"

	"hikyaku/reputation"
	"hikyaku/reputation/feedback"
)

// TestLateBouncesAreJudgedAsIfSaidToUs: what Parse makes of a report's diagnostic
// is a reply that the shipped rules read as they read one on the wire: the phase
// is kept where docomo and au need it, and what is no word of the server does not
// get in the way.
func TestLateBouncesAreJudgedAsIfSaidToUs(t *testing.T) {
	rules := reputation.Shipped()
	stories := map[string]story{}
	for _, s := range corpus(t, "dsn") {
		stories[s.name] = s
	}
	for _, c := range []struct {
		story, carrier string
		want           []reputation.Category // any of these
		suppresses     bool                  // at once, or after a second sight
	}{
		{"postfix/unknown-user", "default", []reputation.Category{reputation.UnknownUser}, true},
		{"qmail/unknown-user", "default", []reputation.Category{reputation.UnknownUser}, true},
		{"others/domino", "default", []reputation.Category{reputation.UnknownUser}, true},
		{"postfix/docomo-at-rcpt", "docomo", []reputation.Category{reputation.UnknownUser}, true},
		{"postfix/docomo-after-data", "docomo", []reputation.Category{reputation.Filtered}, false},
		{"postfix/au-filtered", "au", []reputation.Category{reputation.Filtered}, false},
		{"japan/ezweb-over-quota", "au", []reputation.Category{reputation.MailboxFull}, false},
		{"japan/kddi-full", "au", []reputation.Category{reputation.MailboxFull}, false},
		{"japan/full-shift-jis", "default", []reputation.Category{reputation.MailboxFull}, false},
		{"japan/biglobe-filtered", "biglobe", []reputation.Category{reputation.Filtered}, false},
		{"japan/ezweb-expired", "au", []reputation.Category{reputation.Unknown, reputation.Network, reputation.TheirFault}, false},
		{"exchange/exchange-2007-text", "microsoft365", []reputation.Category{reputation.MailboxFull}, false},
		{"exim/retry-timeout", "default", []reputation.Category{reputation.Unknown, reputation.Network, reputation.TheirFault}, false},
		{"rfc3464/expired-with-4yz", "default", []reputation.Category{reputation.TheirFault}, false},
		{"others/dragonfly", "default", []reputation.Category{reputation.Auth}, false},
		{"others/permanent-errors", "default", []reputation.Category{reputation.TheirFault, reputation.OurFault}, false},
	} {
		s, ok := stories[c.story]
		if !ok {
			t.Errorf("no story %s", c.story)
			continue
		}
		r := feedback.Parse(s.raw)
		if len(r.Recipients) != 1 {
			t.Errorf("%s: %d recipients", c.story, len(r.Recipients))
			continue
		}
		v := rules.Classify(c.carrier, &r.Recipients[0].Reply)
		known := false
		for _, w := range c.want {
			known = known || v.Category == w
		}
		if !known || v.Suppresses() != c.suppresses {
			t.Errorf("%s at %s: %q is %s by %s, suppresses %v; want one of %s, %v", c.story, c.carrier, r.Recipients[0].Reply.String(), v.Category, v.Rule, v.Suppresses(), c.want, c.suppresses)
		}
	}
	// Without the phase, as most reports come, docomo's two replies cannot be told
	// apart: then nobody is suppressed.
	r := feedback.Parse(stories["postfix/docomo-at-rcpt"].raw)
	r.Recipients[0].Reply.Phase = 0
	if v := rules.Classify("docomo", &r.Recipients[0].Reply); v.Suppresses() {
		t.Errorf("docomo's unknown user without a phase: %s by %s suppresses", v.Category, v.Rule)
	}
}
