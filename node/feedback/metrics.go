package feedback

import (
	"sync/atomic"

	"hikyaku/reputation/feedback"
)

// Metrics is a snapshot of the counters.
type Metrics struct {
	// Mails by what they were.
	Bounces, Delays, Relayed, Complaints, AutoReplies, Unsubscribes, Others uint64
	// Handled is news that was proved and is durable; Failed could not be stored
	// and was put off.
	LateBounces, Complained, Unsubscribed, Failed uint64
	// Why news changed nothing: without a token, one that is not ours or has ended,
	// a recipient that it does not prove, a tenant that is gone, said before.
	NoToken, BadTokens, Unproved, NoTenant, Replayed uint64
	// Truncated mails met a bound of the parser.
	Truncated uint64
	// RefusedRecipients got 550 at RCPT, RefusedMails after the data, Limited 450 or
	// 429 for their rate.
	RefusedRecipients, RefusedMails, Limited uint64
	// Pages shown, and one-click requests by what became of them.
	Pages, BadRequests, Busy uint64
	Bytes                    uint64
}

type counters struct {
	kinds                                            [7]atomic.Uint64
	lateBounces, complained, unsubscribed, failed    atomic.Uint64
	noToken, badTokens, unproved, noTenant, replayed atomic.Uint64
	truncated                                        atomic.Uint64
	refusedRecipients, refusedMails, limited         atomic.Uint64
	pages, badRequests, busy                         atomic.Uint64
	bytes                                            atomic.Uint64
}

var kindOrder = [7]feedback.Kind{feedback.Bounce, feedback.Delay, feedback.Relayed, feedback.Complaint, feedback.AutoReply, feedback.Unsubscribing, feedback.Other}

func (c *counters) kind(k feedback.Kind) {
	for i, have := range kindOrder {
		if have == k {
			c.kinds[i].Add(1)
			return
		}
	}
}

// Metrics is a snapshot.
func (r *Receiver) Metrics() Metrics {
	c := &r.counters
	return Metrics{
		Bounces: c.kinds[0].Load(), Delays: c.kinds[1].Load(), Relayed: c.kinds[2].Load(), Complaints: c.kinds[3].Load(),
		AutoReplies: c.kinds[4].Load(), Unsubscribes: c.kinds[5].Load(), Others: c.kinds[6].Load(),
		LateBounces: c.lateBounces.Load(), Complained: c.complained.Load(), Unsubscribed: c.unsubscribed.Load(), Failed: c.failed.Load(),
		NoToken: c.noToken.Load(), BadTokens: c.badTokens.Load(), Unproved: c.unproved.Load(), NoTenant: c.noTenant.Load(), Replayed: c.replayed.Load(),
		Truncated: c.truncated.Load(), RefusedRecipients: c.refusedRecipients.Load(), RefusedMails: c.refusedMails.Load(), Limited: c.limited.Load(),
		Pages: c.pages.Load(), BadRequests: c.badRequests.Load(), Busy: c.busy.Load(), Bytes: c.bytes.Load(),
	}
}
