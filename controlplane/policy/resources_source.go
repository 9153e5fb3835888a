package policy

// Source is a sending address with its EHLO name. With an address it is
// movable: the control plane gives it to one node at a time, among those that
// labels allow; or it is pinned by node. Without an address it is no more than
// a setting that each node has for itself.
type Source struct {
	// Address is the local IP address to send from. Empty leaves the choice to the system of each node.
	Address string `json:"address,omitempty"`
	// EHLO is the name given to remote servers. Default: the node's host name. It should resolve to Address and back.
	EHLO string `json:"ehlo,omitempty"`
	// Node pins the source to the node of this name: it may be used there, without asking anybody, and nowhere else. Empty lets the control plane choose.
	Node string `json:"node,omitempty"`
	// Labels are those that a node must have, with these values, to be given the source. Empty is any node.
	Labels map[string]string `json:"labels,omitempty"`
	// Attach says how the address comes onto the node that holds the source: none (the default: it is there already, or routed there), netlink (put on interface, and taken off) or command.
	Attach string `json:"attach,omitempty"`
	// Interface is the network interface that takes the address, for attach: netlink.
	Interface string `json:"interface,omitempty"`
	// PrefixLength is that of the address on the interface, for attach: netlink. Default 32 for IPv4, 128 for IPv6.
	PrefixLength int `json:"prefix_length,omitempty"`
	// AttachCommand is the program and its arguments, run by no shell, that bring the address to the node; {address}, {source} and {epoch} are replaced. The node's own configuration must allow the program. It may be run again while the address is there.
	AttachCommand []string `json:"attach_command,omitempty"`
	// DetachCommand is the same for taking the address away. It may be run when the address is not there.
	DetachCommand []string `json:"detach_command,omitempty"`
	// Disabled takes the source out of its pools, and from the node that holds it.
	Disabled bool `json:"disabled,omitempty"`
}

// Local reports whether the source has no address: each node has its own, and
// no node can take it from another.
func (s *Source) Local() bool { return s.Address == "" }

// Pinned reports whether one node has the source for good.
func (s *Source) Pinned() bool { return s.Address != "" && s.Node != "" }

// Movable reports whether a node needs the control plane's word, and a lease, to
// use the source.
func (s *Source) Movable() bool { return s.Address != "" && s.Node == "" }

// MayBeOn reports whether the node of this name and these labels may use the
// source: at once if it is not movable, else when it is given to it.
func (s *Source) MayBeOn(node string, labels map[string]string) bool {
	if s.Disabled || s.Pinned() && s.Node != node {
		return false
	}
	for key, want := range s.Labels {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	return true
}
