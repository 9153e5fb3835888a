//go:build !linux

package attach

import (
	"errors"
	"net/netip"
)

// none is a system whose interfaces are not known here.
type none struct{}

var errSystem = errors.New("attach: netlink is for Linux; use attach: command")

func newKernel() kernel { return none{} }
func bootID() string    { return "" }

func (none) has(string, netip.Addr) (bool, error) { return false, errSystem }
func (none) add(string, netip.Prefix) error       { return errSystem }
func (none) remove(string, netip.Prefix) error    { return nil }
func (none) announce(string, netip.Addr) error    { return errSystem }
