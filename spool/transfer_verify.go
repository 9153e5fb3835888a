package spool

import (
	"bytes"

	"hikyaku/spool/message"
)

// transfer checks that what is offered is queued as it was offered, and in one
// offer only.
func (v *verifier) transfer(key, value []byte) error {
	r := &v.report
	r.Transfers++
	o, err := decodeOffer(key, value)
	if err != nil {
		r.problem("transfer %q: %v", key, err)
		return nil
	}
	if v.offered == nil {
		v.offered = map[message.DeliveryID]uint64{}
	}
	for i := range o.entries {
		e := &o.entries[i]
		r.Moving++
		if n, twice := v.offered[e.id]; twice {
			r.problem("delivery %s is in transfer %d and in %d", e.id, n, o.Number)
		}
		v.offered[e.id] = o.Number
		if ok, err := v.has(e.queueKey()); err != nil {
			return err
		} else if !ok {
			r.problem("delivery %s is in transfer %d but not queued", e.id, o.Number)
		}
	}
	return nil
}

// receipt checks a receipt, or what is known of a sender.
func (v *verifier) receipt(key, value []byte) (err error) {
	name := bytes.IndexByte(key, 0)
	switch {
	case name < 0 || !validNodeID(string(key[1:name])):
		return errDamaged
	case len(key) == name+1:
		v.floor, err = decodeFloor(key, value)
		v.sender = append(v.sender[:0], key...)
	case len(key) == name+9:
		v.report.Receipts++
		_, err = decodeReceipt(key, value)
		if !bytes.HasPrefix(key, v.sender) || len(v.sender) == 0 {
			v.report.problem("receipt %q: nothing is known of its sender", key)
		} else if n := outboxSeq(key[name:]); n < v.floor.floor || n > v.floor.high {
			v.report.problem("receipt %q: number %d is not within %d and %d", key, n, v.floor.floor, v.floor.high)
		}
	default:
		return errDamaged
	}
	return err
}
