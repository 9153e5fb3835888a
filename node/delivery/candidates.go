package delivery

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"hikyaku/spool/message"
)

// candidate is one address to try.
type candidate struct {
	host  *Host
	to    netip.AddrPort
	until time.Time // when it counts as dead: up to here
}

// candidates puts the target's addresses in the order in which to try them:
// hosts by preference, equals at random (RFC 5321 5.1), each host's addresses
// by family, addresses that were dead a moment ago after all others, the one
// that failed longest ago first. At most maxConnects are returned, and how many
// of them are not known to be dead. When none may be tried, the reply says why.
func (c *Client) candidates(t *Target, now time.Time) (list []candidate, living int, why *message.Reply) {
	hosts := slices.Clone(t.Hosts)
	c.opt.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })
	var alive, dead []candidate
	total, forbidden := 0, 0
	for i := range hosts {
		h := &hosts[i]
		total += len(h.Addrs)
		for _, a := range c.byFamily(t, h.Addrs) {
			to := netip.AddrPortFrom(a, t.port(h))
			if !c.allowed(to, t.AllowNetworks) {
				forbidden++
				continue
			}
			if until, is := c.dead.until(route{t.Source, to}, now); is {
				dead = append(dead, candidate{h, to, until})
			} else {
				alive = append(alive, candidate{host: h, to: to})
			}
		}
	}
	slices.SortStableFunc(dead, func(a, b candidate) int { return a.until.Compare(b.until) })
	list = append(alive, dead...)
	if len(list) > 0 {
		return list[:min(len(list), maxConnects)], min(len(alive), maxConnects), nil
	}
	if forbidden > 0 {
		reply := faultReply(errForbidden, message.PhaseConnect)
		return nil, 0, &reply
	}
	text := "no address to connect to"
	if total > 0 {
		text = "no address of a family that the source can reach"
	}
	reply := message.Fail(451, enhNoAnswer, message.PhaseConnect, message.FaultLocal, text)
	return nil, 0, &reply
}

// byFamily picks and orders the addresses of one host.
func (c *Client) byFamily(t *Target, addrs []netip.Addr) []netip.Addr {
	use4, use6, first4 := true, true, false
	switch t.Addresses {
	case "ipv4":
		use6 = false
	case "ipv6":
		use4 = false
	case "prefer-ipv4":
		first4 = true
	}
	if t.Source.IsValid() {
		if t.Source.Unmap().Is4() {
			use6 = false
		} else {
			use4 = false
		}
	}
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() && use4:
			v4 = append(v4, a)
		case a.Is6() && use6:
			v6 = append(v6, a)
		}
	}
	for _, list := range [][]netip.Addr{v4, v6} {
		c.opt.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	if first4 {
		return append(v4, v6...)
	}
	return append(v6, v4...)
}
