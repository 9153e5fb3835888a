package mx

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Options change one look-up.
type Options struct {
	// Addresses is policy.Carrier.Addresses: any (IPv6 first, also for ""),
	// prefer-ipv4, ipv4 or ipv6.
	Addresses string
	// Now is the time by which the cache is judged. Zero is time.Now.
	Now time.Time
}

func (o Options) now() time.Time {
	if o.Now.IsZero() {
		return time.Now()
	}
	return o.Now
}

// types are the record types to ask for, in the order of their addresses.
func (o Options) types() []uint16 {
	switch o.Addresses {
	case policy.AddressesIPv4:
		return []uint16{dns.TypeA}
	case policy.AddressesIPv6:
		return []uint16{dns.TypeAAAA}
	case policy.AddressesPreferIPv4:
		return []uint16{dns.TypeA, dns.TypeAAAA}
	}
	return []uint16{dns.TypeAAAA, dns.TypeA}
}

// partialTTL bounds an answer that some host's addresses are missing from for
// a temporary reason.
const partialTTL = time.Minute

// Resolve finds the hosts of a destination: a domain in A-label form or an
// address literal. Exactly one of the results is set. The reply's class says
// whether to try again; its phase is resolve, its fault dns, its text ours.
func (r *Resolver) Resolve(ctx context.Context, destination string, o Options) (*Answer, *message.Reply) {
	if strings.HasPrefix(destination, "[") {
		return literal(destination, o)
	}
	domain := plain(destination)
	if !hostName(domain) {
		return nil, permanent(550, enhanced(5, 1, 2), "the destination is not a valid domain name")
	}
	now := o.now()
	rec := r.lookup(ctx, key{domain, dns.TypeMX}, now)
	switch rec.status {
	case failed:
		// RFC 5321 5.1: no answer is not "no MX". Never the implicit MX here.
		return nil, temporary("look-up of MX for " + domain + " failed: " + rec.why)
	case noName:
		return nil, permanent(550, enhanced(5, 1, 2), "domain "+domain+" does not exist (NXDOMAIN)")
	case noData:
		return r.implicit(ctx, domain, rec, o, now)
	}
	set, reply := r.usable(domain, rec.mx)
	if reply != nil {
		return nil, reply
	}
	a := &Answer{Site: site(set), Until: rec.until, Names: make([]string, len(set))}
	for i, m := range set {
		a.Names[i] = m.host
	}
	if reply := r.fill(ctx, a, set, o, now); reply != nil {
		return nil, reply
	}
	return a, nil
}

// usable drops MX records that must not be used.
func (r *Resolver) usable(domain string, set []mxRecord) ([]mxRecord, *message.Reply) {
	if len(set) == 1 && set[0].host == "" {
		// RFC 7505 3 and 4.1.
		return nil, permanent(556, enhanced(5, 1, 10), "domain "+domain+" does not accept mail (null MX)")
	}
	hosts := make([]mxRecord, 0, len(set))
	for _, m := range set {
		if r.own[m.host] {
			// RFC 5321 5.1: leave out ourselves and what is not preferred to us.
			cut := hosts[:0]
			for _, h := range hosts {
				if h.pref < m.pref {
					cut = append(cut, h)
				}
			}
			if len(cut) == 0 {
				return nil, permanent(554, enhanced(5, 4, 6), "mail for "+domain+" loops back to this host")
			}
			return cut, nil
		}
		if m.host != "" { // beside others the root is no host (RFC 7505 3)
			hosts = append(hosts, m)
		}
	}
	if len(hosts) == 0 {
		return nil, permanent(550, enhanced(5, 4, 4), "the MX records of "+domain+" name no host")
	}
	return hosts, nil
}

// implicit is RFC 5321 5.1: a domain without MX is its own host. After a CNAME
// the name it leads to counts as if it had been given.
func (r *Resolver) implicit(ctx context.Context, domain string, rec *records, o Options, now time.Time) (*Answer, *message.Reply) {
	name := rec.canonical
	if !hostName(name) {
		return nil, permanent(550, enhanced(5, 4, 4), "domain "+domain+" leads to a name that is no host")
	}
	if r.own[name] {
		return nil, permanent(554, enhanced(5, 4, 6), "mail for "+domain+" loops back to this host")
	}
	h := r.addresses(ctx, name, o, now)
	if len(h.addrs) > 0 {
		return &Answer{
			Hosts: []Host{{Name: name, Addrs: h.addrs}}, Site: name, Names: []string{name},
			Until: earlier(rec.until, h.until), Implicit: true,
		}, nil
	}
	if h.why != "" {
		return nil, temporary("look-up of the address of " + name + " failed: " + h.why)
	}
	return nil, permanent(550, enhanced(5, 4, 4), "domain "+domain+" has neither MX nor "+family(o)+" address")
}

// fill looks up the addresses of the hosts, all at once, and puts those that
// have some into the answer.
func (r *Resolver) fill(ctx context.Context, a *Answer, set []mxRecord, o Options, now time.Time) *message.Reply {
	set = set[:min(len(set), MaxHosts)]
	results := make([]hostAddrs, len(set))
	var wg sync.WaitGroup
	for i, m := range set[1:] {
		wg.Go(func() { results[i+1] = r.addresses(ctx, m.host, o, now) })
	}
	results[0] = r.addresses(ctx, set[0].host, o, now)
	wg.Wait()

	why := ""
	for i, h := range results {
		if len(h.addrs) > 0 {
			a.Hosts = append(a.Hosts, Host{Name: set[i].host, Preference: set[i].pref, Addrs: h.addrs})
		}
		a.Until = earlier(a.Until, h.until)
		if h.why != "" && why == "" {
			why = "look-up of the address of " + set[i].host + " failed: " + h.why
		}
	}
	switch {
	case len(a.Hosts) > 0:
		return nil
	case why != "":
		return temporary(why)
	}
	return permanent(550, enhanced(5, 4, 4), "no MX host of this domain has "+article(family(o))+" address: "+set[0].host+more(len(set)-1))
}

// hostAddrs are the addresses of one host, in the order of policy.
type hostAddrs struct {
	addrs []netip.Addr
	until time.Time
	why   string // what failed for now; there may be addresses of the other family
}

func (r *Resolver) addresses(ctx context.Context, name string, o Options, now time.Time) hostAddrs {
	types := o.types()
	recs := make([]*records, len(types))
	var wg sync.WaitGroup
	for i, t := range types[1:] {
		wg.Go(func() { recs[i+1] = r.lookup(ctx, key{name, t}, now) })
	}
	recs[0] = r.lookup(ctx, key{name, types[0]}, now)
	wg.Wait()

	h := hostAddrs{until: now.Add(r.config.MaxTTL)}
	for _, rec := range recs {
		if rec.status == failed {
			h.why = rec.why
			h.until = earlier(h.until, now.Add(partialTTL))
			continue
		}
		h.addrs = append(h.addrs, rec.addrs...)
		h.until = earlier(h.until, rec.until)
	}
	return h
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
