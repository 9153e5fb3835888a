package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// way is where a destination's mail goes at the moment: by route or by MX.
type way struct {
	answer    *mx.Answer
	route     *policy.Route // nil: by MX
	routeName string
	carrier   string
	site      string
}

// wayTo looks a destination up. DNS answers come from the resolver's cache
// while they hold, so asking again costs little.
func (n *Node) wayTo(ctx context.Context, dest string) (*way, *message.Reply) {
	set := n.policy.Load()
	route, name := set.RouteOf(dest)
	w := &way{route: route, routeName: name}
	o := mx.Options{Addresses: n.addressesFor(set, route, dest)}
	var reply *message.Reply
	if route != nil && len(route.Hosts) > 0 {
		w.answer, reply = n.resolver.Hosts(ctx, route.Hosts, o)
	} else {
		w.answer, reply = n.resolver.Resolve(ctx, dest, o)
	}
	if reply != nil {
		return nil, reply
	}
	_, w.carrier = set.CarrierFor(route, dest, w.answer.Names, hostAddresses(w.answer)...)
	w.site = w.answer.Site
	if route != nil {
		// A route has settings of its own, so its connections are never shared
		// with those of the same hosts by MX.
		w.site = "route " + name + ": " + w.site
	}
	return w, nil
}

// hostAddresses are those of all hosts that have some.
func hostAddresses(a *mx.Answer) (addrs []netip.Addr) {
	for i := range a.Hosts {
		addrs = append(addrs, a.Hosts[i].Addrs...)
	}
	return addrs
}

// addressesFor is the carrier's choice of address family as far as it is known
// before the MX is: by the route's carrier, or by domain.
func (n *Node) addressesFor(set *policy.Set, route *policy.Route, dest string) string {
	if c, _ := set.CarrierFor(route, dest, nil); c != nil {
		return c.Addresses
	}
	return ""
}

// terms is what a session is opened under, as far as policy says it. Sessions
// whose terms have changed end after what they have in hand.
type terms struct {
	source               netip.Addr // zero: the system's choice
	ehlo                 string
	addresses            string
	messages, recipients int // on one connection
	idle                 time.Duration
	tls                  delivery.TLSMode
	username             string
	password             policy.Secret
	authPlaintext        bool
	networks             string // that the route allows
	oddAsGiven           bool   // policy.Carrier.OddLocalParts
}

// termsOf reads a session's terms from policy.
func (n *Node) termsOf(set *policy.Set, source, carrier string, route *policy.Route) (t terms, reply *message.Reply) {
	refuse := func(why string) *message.Reply {
		r := message.Fail(451, message.Enhanced{Class: 4, Subject: 3, Detail: 5}, message.PhaseConnect, message.FaultLocal, "source "+source+why)
		return &r
	}
	src := set.Sources[source]
	if src == nil || src.Disabled {
		return t, refuse(" is not usable any more")
	}
	c := set.Carriers[carrier]
	if c == nil {
		c = set.Carriers[policy.DefaultName]
	}
	t = terms{ehlo: src.EHLO, addresses: c.Addresses, messages: c.MessagesPerConnection, recipients: c.RecipientsPerConnection, idle: c.IdleTimeout.D(),
		oddAsGiven: c.OddLocalParts == policy.OddAsGiven}
	if t.ehlo == "" {
		t.ehlo = n.hostname
	}
	if src.Address != "" {
		var err error
		if t.source, err = netip.ParseAddr(src.Address); err != nil {
			return t, refuse(" has no valid address")
		}
	}
	t.tls, _ = delivery.ParseTLSMode(c.TLS)
	if route == nil {
		return t, nil
	}
	t.username, t.password, t.authPlaintext = route.Username, route.Password, route.AuthPlaintext
	if route.TLS != "" {
		t.tls, _ = delivery.ParseTLSMode(route.TLS)
	}
	for _, network := range route.AllowNetworks {
		t.networks += network.String() + " "
	}
	return t, nil
}

// target is what a session of the lane connects to; nil without a reply when
// the destination it was to be opened for does not lead to the lane's site any
// more.
func (n *Node) target(ctx context.Context, o *outbound) (*delivery.Target, *message.Reply) {
	w, reply := n.wayTo(ctx, o.destination)
	if reply != nil {
		return nil, reply
	}
	if o.lane.Site != w.site && o.lane.Site != w.site+" "+w.carrier { // the scheduler tells one host set under two carriers apart
		return nil, nil
	}
	if o.terms, reply = n.termsOf(o.set, o.lane.Source, o.carrier, w.route); reply != nil {
		return nil, reply
	}
	o.route = w.routeName
	c := &o.terms
	t := &delivery.Target{
		Port: n.cfg.Delivery.Port, Addresses: c.addresses, AllowNetworks: n.cfg.Delivery.AllowNetworks, RootCAs: n.cfg.Delivery.RootCAs,
		EHLO: o.ehloName(c.ehlo), Source: c.source, MessagesPerConnection: c.messages, RecipientsPerConnection: c.recipients,
		IdleTimeout: c.idle, Timeouts: n.cfg.Delivery.Timeouts, TLS: c.tls, OddAsGiven: c.oddAsGiven,
		Username: c.username, Password: c.password, AuthPlaintext: c.authPlaintext,
	}
	if o.hold != nil {
		t.Fence = o.hold
	}
	if w.route != nil {
		t.AllowNetworks = slices.Concat(t.AllowNetworks, w.route.AllowNetworks)
	}
	for _, h := range w.answer.Shuffled(nil).Hosts {
		t.Hosts = append(t.Hosts, delivery.Host{Name: h.Name, Preference: h.Preference, Port: h.Port, Addrs: h.Addrs})
	}
	return t, nil
}

// retryAfter is the wait after the failure that makes it the given number of
// attempts.
func (n *Node) retryAfter(q *message.QueueKey, carrier string, attempts int) time.Duration {
	set := n.policy.Load()
	st, _ := set.StreamOf(q.Tenant, q.Stream)
	return scheduler.RetryAfter(set.RetryFor(st, carrier), attempts, n.random())
}

// attempt is one dispatched delivery: delivery.Content of its job.
type attempt struct {
	job        delivery.Job
	n          *Node
	delivery   *message.Delivery
	content    *content
	err        error // why there is no content
	carrier    string
	source     string
	site       string
	dispatched time.Time
	rendered   *[]byte   // of renderBuffers, from Prepare to release
	pieces     [3][]byte // what Prepare gave
}

func (n *Node) newAttempt(d scheduler.Dispatch, l scheduler.Lane, now time.Time) *delivery.Job {
	a := &attempt{n: n, delivery: d.Delivery, carrier: d.Carrier, source: l.Source, site: l.Site, dispatched: now}
	a.content, a.err = n.contentOf(d.Delivery.ID.Message)
	if a.err != nil {
		m, _ := n.metaOf(d.Delivery) // what is known; the error is in the outcome
		a.content = &content{msg: m}
	}
	m := a.content.msg
	a.job = delivery.Job{Delivery: d.Delivery, Content: a, Sender: m.Sender, Body: m.Body, UTF8: m.UTF8, Return: m.Return, EnvID: m.EnvID, MaxRecipients: d.MaxRecipients, Offer: n.dispatch.parted.of(d.Delivery.ID),
		SenderOf: a.senderOf(n.returnPath(m))}
	return &a.job
}
