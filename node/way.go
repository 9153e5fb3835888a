package node

import (
	"context"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// way is where a destination's mail goes at the moment: by route or by MX.
type way struct {
	answer  *mx.Answer
	route   *policy.Route // nil: by MX
	carrier string
	site    string
}

// wayTo looks a destination up. DNS answers come from the resolver's cache
// while they hold, so asking again costs little.
func (n *Node) wayTo(ctx context.Context, dest string) (*way, *message.Reply) {
	set := n.policy.Load()
	route, name := set.RouteOf(dest)
	w := &way{route: route}
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
	_, w.carrier = set.CarrierFor(route, dest, w.answer.Names)
	w.site = w.answer.Site
	if route != nil {
		// A route has settings of its own, so its connections are never shared
		// with those of the same hosts by MX.
		w.site = "route " + name + ": " + w.site
	}
	return w, nil
}

// addressesFor is the carrier's choice of address family as far as it is known
// before the MX is: by the route's carrier, or by domain.
func (n *Node) addressesFor(set *policy.Set, route *policy.Route, dest string) string {
	if c, _ := set.CarrierFor(route, dest, nil); c != nil {
		return c.Addresses
	}
	return ""
}

// target is what a session of the lane connects to.
func (n *Node) target(ctx context.Context, o *outbound) (*delivery.Target, *message.Reply) {
	w, reply := n.wayTo(ctx, o.destination)
	if reply != nil {
		return nil, reply
	}
	set := n.policy.Load()
	src := set.Sources[o.lane.Source]
	if src == nil || src.Disabled {
		r := message.Fail(451, message.Enhanced{Class: 4, Subject: 3, Detail: 5}, message.PhaseConnect, message.FaultLocal, "source "+o.lane.Source+" is not usable any more")
		return nil, &r
	}
	c := set.Carriers[o.carrier]
	if c == nil {
		c = set.Carriers[policy.DefaultName]
	}
	t := &delivery.Target{
		Port: n.cfg.Delivery.Port, Addresses: c.Addresses, AllowNetworks: n.cfg.Delivery.AllowNetworks, RootCAs: n.cfg.Delivery.RootCAs,
		EHLO: src.EHLO, MessagesPerConnection: c.MessagesPerConnection, RecipientsPerConnection: c.RecipientsPerConnection,
		IdleTimeout: c.IdleTimeout.D(), Timeouts: n.cfg.Delivery.Timeouts,
	}
	if t.EHLO == "" {
		t.EHLO = n.hostname
	}
	if src.Address != "" {
		a, err := netip.ParseAddr(src.Address)
		if err != nil {
			r := message.Fail(451, message.Enhanced{Class: 4, Subject: 3, Detail: 5}, message.PhaseConnect, message.FaultLocal, "source "+o.lane.Source+" has no valid address")
			return nil, &r
		}
		t.Source = a
	}
	for _, h := range w.answer.Shuffled(nil).Hosts {
		t.Hosts = append(t.Hosts, delivery.Host{Name: h.Name, Preference: h.Preference, Port: h.Port, Addrs: h.Addrs})
	}
	t.TLS, _ = delivery.ParseTLSMode(c.TLS)
	if r := w.route; r != nil {
		t.Username, t.Password, t.AuthPlaintext = r.Username, r.Password, r.AuthPlaintext
		t.AllowNetworks = append(append([]policy.Network(nil), t.AllowNetworks...), r.AllowNetworks...)
		if r.TLS != "" {
			t.TLS, _ = delivery.ParseTLSMode(r.TLS)
		}
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
	dispatched time.Time
}

func (n *Node) newAttempt(d scheduler.Dispatch, source string, now time.Time) *delivery.Job {
	a := &attempt{n: n, delivery: d.Delivery, carrier: d.Carrier, source: source, dispatched: now}
	a.content, a.err = n.contentOf(d.Delivery.ID.Message)
	if a.err != nil {
		m, _ := n.metaOf(d.Delivery) // what is known; the error is in the outcome
		a.content = &content{msg: m}
	}
	m := a.content.msg
	a.job = delivery.Job{Delivery: d.Delivery, Content: a, Sender: m.Sender, Body: m.Body, UTF8: m.UTF8, Return: m.Return, EnvID: m.EnvID, MaxRecipients: d.MaxRecipients}
	return &a.job
}
