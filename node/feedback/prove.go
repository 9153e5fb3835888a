package feedback

import "hikyaku/reputation/feedback"

// prove finds the delivery, the tenant and the recipient that the mail is about.
// Addresses in it are guesses until the token's hash matches one of them. False:
// nothing is proved, and the reason is counted.
func (n *news) prove() (*Feedback, bool) {
	link, linked := n.link()
	if !n.proved && !n.headerToken() {
		if !linked {
			return nil, n.drop()
		}
		return n.byLink(&link)
	}
	v := n.r.policyView()
	f := &Feedback{Delivery: n.token.Delivery, Tenant: v.tenant(n.token, n.domain), Source: v.sources.Of(n.token)}
	if f.Tenant == "" {
		n.r.counters.noTenant.Add(1)
		return nil, false
	}
	if linked && link.Delivery == n.token.Delivery && n.is(link.Recipient) {
		f.Recipient, f.Stream = link.Recipient, link.Stream
	}
	if n.kind == feedback.Bounce && !n.diagnose(f) {
		return nil, false
	}
	if f.Recipient == "" {
		f.Recipient = n.guess()
	}
	if f.Recipient == "" {
		n.r.counters.unproved.Add(1)
		return nil, false
	}
	return f, true
}

// drop counts why there is no token: none was there, or none that opens.
func (n *news) drop() bool {
	if len(n.rep.Returned.Tokens)+len(n.rep.Returned.Links) == 0 {
		n.r.counters.noToken.Add(1)
	} else {
		n.r.counters.badTokens.Add(1)
	}
	return false
}

// headerToken takes the token from the returned header: the mail came to an
// address that many use. Our Message-ID alone would not do: it is no secret, and
// has no code.
func (n *news) headerToken() bool {
	for _, text := range n.rep.Returned.Tokens {
		if t, err := n.r.o.Keys.Open(text, n.now); err == nil {
			n.token, n.proved = t, true
			return true
		}
	}
	return false
}

// link is the first link that opens.
func (n *news) link() (feedback.Subject, bool) {
	for _, text := range n.rep.Returned.Links {
		if s, err := n.r.o.Keys.OpenLink(text, n.now); err == nil {
			return s, true
		}
	}
	return feedback.Subject{}, false
}

// byLink takes all from a link: complaints whose returned header has kept nothing
// else, requests by mail to an office.
func (n *news) byLink(s *feedback.Subject) (*Feedback, bool) {
	if set := n.r.o.Policy(); set == nil || set.Tenants[s.Tenant] == nil {
		n.r.counters.noTenant.Add(1)
		return nil, false
	}
	f := &Feedback{Delivery: s.Delivery, Tenant: s.Tenant, Stream: s.Stream, Recipient: s.Recipient}
	if n.kind == feedback.Bounce {
		// A link proves its recipient, so the report's must be the same one.
		for i := range n.rep.Recipients {
			c := &n.rep.Recipients[i]
			if c.Action == feedback.Failed && (feedback.Normal(c.Address) == feedback.Normal(s.Recipient) || feedback.Normal(c.Original) == feedback.Normal(s.Recipient)) {
				f.Reply, f.Status, f.Host = c.Reply, c.Status, c.RemoteMTA
				return f, true
			}
		}
		n.r.counters.unproved.Add(1)
		return nil, false
	}
	return f, true
}

func (n *news) is(address string) bool { return n.r.o.Keys.IsRecipient(n.token, address) }

func (n *news) first(addresses []string) string {
	for _, a := range addresses {
		if n.is(a) {
			return a
		}
	}
	return ""
}

// diagnose takes the reply of a bounce: of the recipient whom the token proves,
// or of the only one that there is, to whom the recipient's mail goes on. False
// if it does not say that this one failed.
func (n *news) diagnose(f *Feedback) bool {
	cs := n.rep.Recipients
	var c *feedback.Recipient
	for i := range cs {
		if n.is(cs[i].Address) || n.is(cs[i].Original) {
			c = &cs[i]
			if f.Recipient = c.Address; !n.is(c.Address) {
				f.Recipient, f.Forwarded = c.Original, c.Address != ""
			}
			break
		}
	}
	if c == nil {
		if len(cs) != 1 {
			n.r.counters.unproved.Add(1)
			return false
		}
		c = &cs[0]
		f.Forwarded = c.Address != ""
	}
	if c.Action != feedback.Failed {
		return false // others failed, this one waits: no news
	}
	f.Reply, f.Status, f.Host = c.Reply, c.Status, c.RemoteMTA
	if f.Host == "" {
		f.Host = n.rep.ReportingMTA
	}
	return true
}

// guess tries the addresses that the mail has.
func (n *news) guess() string {
	if a := n.first(n.rep.Returned.To); a != "" {
		return a
	}
	if c := n.rep.Complaint; c != nil {
		if a := n.first(c.Recipients); a != "" {
			return a
		}
	}
	return n.first(n.authors)
}
