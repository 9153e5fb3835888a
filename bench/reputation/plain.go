package reputation

import (
	"regexp"
	"time"

	"hikyaku/controlplane/policy"
)

// plain does what is usual: a 5xx is final, and one whose code or text says
// that there is no such user suppresses the address. It never changes its pace.
type plain struct {
	keeps bool // to what is written about each carrier
}

func (p *plain) limits(written *policy.Carrier) *policy.Carrier {
	if p.keeps {
		return written
	}
	return &policy.Carrier{RecipientsPerTransaction: 1}
}

func (p *plain) begin(time.Time, *policy.Set) {}

func (p *plain) second(time.Time) (*policy.Steering, bool) { return nil, false }

func (p *plain) read(m *met) reading { return usual(m) }

// hardBounce is how bounce classifiers find an invalid recipient: by words that
// occur in it. They are given the text alone, without the phase.
var hardBounce = regexp.MustCompile(`(?i)user (is )?unknown|unknown user|no such user|user not found|mailbox (not found|unavailable)|does(n't| not) (exist|have)|invalid recipient|inactive`)

// usual is how most senders read a reply. Bounces that come later are hard if
// their status is.
func usual(m *met) reading {
	switch {
	case m.complaint:
		return reading{final: true, suppress: true}
	case m.reply.Code < 500:
		return reading{}
	}
	e := m.reply.Enhanced
	hard := e.Class == 5 && e.Subject == 1 || hardBounce.MatchString(m.reply.Text) || m.late && e.Class == 5
	return reading{final: true, suppress: hard && m.to != ""}
}
