package delivery

import (
	"net/netip"

	"hikyaku/controlplane/policy"
)

// allowed adds our own listeners to policy.MayReach: mail must not go round in
// circles.
func (c *Client) allowed(to netip.AddrPort, allow []policy.Network) bool {
	if !policy.MayReach(to.Addr(), allow) {
		return false
	}
	if policy.AnyContains(allow, to.Addr()) {
		return true
	}
	for _, own := range c.opt.Own {
		if own.Port() == to.Port() && own.Addr().Unmap() == to.Addr().Unmap() {
			return false
		}
	}
	return true
}
