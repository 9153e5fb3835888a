package reputation

import (
	"fmt"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// mind is one way to treat carriers.
type mind interface {
	// limits are what its policy says of a carrier beforehand.
	limits(written *policy.Carrier) *policy.Carrier
	// begin is told the policy that came of it.
	begin(now time.Time, set *policy.Set)
	// read is told what a carrier said, and says what follows for the recipient.
	read(m *met) reading
	// second is called once a second. With changed, x replaces the steering.
	second(now time.Time) (x *policy.Steering, changed bool)
}

// met is a reply and to what it was said.
type met struct {
	at      time.Time
	carrier string
	source  string
	// Of the delivery; to is empty when a connection was refused and no mail was
	// in it.
	to, tenant, job string
	domain          string // of the From header
	attempts        uint16 // before this one
	late            bool   // came back by mail, after the carrier had taken the message
	complaint       bool   // likewise: the recipient has complained
	beside          bool   // a refused connection, while others of the lane carried mail
	reply           message.Reply
}

// reading is what follows from a reply for its recipient. The zero value is a
// retry by the schedule.
type reading struct {
	final    bool
	suppress bool
	atOnce   bool          // on a new connection, without using an attempt up
	wait     time.Duration // at least
	soon     time.Duration // in place of the schedule
	brake    time.Time     // until which the node stops the source there, before anything is decided
}

// newMind makes a mind by its name.
func (w *world) newMind(name string) (mind, error) {
	switch name {
	case Unlimited:
		return &plain{}, nil
	case Fixed:
		return &plain{keeps: true}, nil
	case TextRules:
		return newTextRules(w.o.pace())
	case Ours:
		o := newOurs(true)
		o.steer = w.steer()
		return o, nil
	case Unsteered:
		return newOurs(false), nil
	case Oracle:
		return &oracle{w: w}, nil
	}
	return nil, fmt.Errorf("there is no mind of this name")
}
