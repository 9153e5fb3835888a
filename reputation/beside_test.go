package reputation_test

import (
	"testing"

	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// TestBeside: at the door, with mail going in beside it, too fast is too many;
// further in, and where the source itself is refused, it is what it says.
func TestBeside(t *testing.T) {
	rules := reputation.Shipped()
	for _, tt := range []struct {
		carrier, text string
		phase         message.Phase
		want          reputation.Category
	}{
		{"yahoo", "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", message.PhaseBanner, reputation.Connections},
		{"yahoo", "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", message.PhaseMail, reputation.Rate},
		{"default", "Service not available, closing transmission channel", message.PhaseBanner, reputation.Connections},
		{"gmx", "gmx.net (mxgmx) Nemesis ESMTP Service not available. Too many connections", message.PhaseBanner, reputation.Connections},
	} {
		r := &message.Reply{Code: 421, Phase: tt.phase, Text: tt.text}
		if v := rules.Classify(tt.carrier, r).Beside(r); v.Category != tt.want || v.Final {
			t.Errorf("%s at %s: %+v, want %s", tt.carrier, tt.phase, v, tt.want)
		}
	}
	listed := &message.Reply{Code: 554, Phase: message.PhaseBanner, Text: "gmx.net (mxgmx) Nemesis ESMTP Service not available. No SMTP service. IP block listed"}
	if v := rules.Classify("gmx", listed).Beside(listed); v.Category != reputation.Blocked {
		t.Errorf("a block beside others: %+v", v)
	}
}
