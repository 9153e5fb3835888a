package control

import "hikyaku/controlplane/lease"

// NewHold is a hold by a lease, as one of Control's own.
func NewHold(source string, epoch int64, k *lease.Keeper) *Hold { return newHold(source, epoch, k) }

// End takes the right of a hold away.
func (h *Hold) End() { h.end() }
