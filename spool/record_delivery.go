package spool

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"

	"hikyaku/spool/message"
)

// appendDelivery appends the queue record of d. ID, queue and due time are in
// the key and not repeated.
func appendDelivery(b, key []byte, d *message.Delivery) []byte {
	start := len(b)
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, uint64(d.Attempts))
	b = appendTime(b, d.Accepted)
	b = appendTime(b, d.Expires)
	b = binary.AppendUvarint(b, uint64(d.Size))
	b = binary.AppendUvarint(b, uint64(len(d.Recipients)))
	for i := range d.Recipients {
		r := &d.Recipients[i]
		b = appendText(b, r.Address)
		b = appendText(b, r.Name)
		b = append(b, byte(r.Notify))
		b = appendText(b, r.ORcpt)
		b = appendBytes(b, r.Vars)
		b = appendBytes(b, r.Metadata)
	}
	b = appendBool(b, d.Last != nil)
	if d.Last != nil {
		b = appendTime(b, d.Last.At)
		b = appendText(b, d.Last.Source)
		b = appendText(b, d.Last.Host)
		b = appendReply(b, &d.Last.Reply)
	}
	return seal(b, start, key)
}

// decodeDelivery reads a queue record. q, due and id come from the key.
func decodeDelivery(key, value []byte, q message.QueueKey, due time.Time, id message.DeliveryID) (*message.Delivery, error) {
	f, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	d := &message.Delivery{ID: id, Queue: q, Due: due}
	d.Attempts = uint16(f.below(math.MaxUint16 + 1))
	d.Accepted = f.time()
	d.Expires = f.time()
	d.Size = uint32(f.below(math.MaxUint32 + 1))
	// A recipient takes at least six bytes; count bounds by one, which keeps
	// a damaged record from asking for more than a small multiple of its size.
	d.Recipients = make([]message.Recipient, f.count())
	for i := range d.Recipients {
		r := &d.Recipients[i]
		r.Address = f.str()
		r.Name = f.str()
		r.Notify = message.Notify(f.below(1 << 4))
		r.ORcpt = f.str()
		r.Vars = f.bytes()
		r.Metadata = f.bytes()
	}
	if f.bool() {
		d.Last = &message.LastAttempt{At: f.time(), Source: f.str(), Host: f.str(), Reply: f.reply()}
	}
	return d, f.done()
}

func appendReply(b []byte, r *message.Reply) []byte {
	b = binary.AppendUvarint(b, uint64(r.Code))
	b = append(b, r.Enhanced.Class)
	b = binary.AppendUvarint(b, uint64(r.Enhanced.Subject))
	b = binary.AppendUvarint(b, uint64(r.Enhanced.Detail))
	b = appendText(b, r.Text)
	return append(b, byte(r.Phase), byte(r.Fault))
}

func (f *fields) reply() message.Reply {
	return message.Reply{
		Code: uint16(f.below(math.MaxUint16 + 1)),
		Enhanced: message.Enhanced{
			Class:   uint8(f.below(6)),
			Subject: uint16(f.below(math.MaxUint16 + 1)),
			Detail:  uint16(f.below(math.MaxUint16 + 1)),
		},
		Text:  f.str(),
		Phase: message.Phase(f.below(uint64(message.PhaseQuit) + 1)),
		Fault: message.Fault(f.below(uint64(message.FaultLocal) + 1)),
	}
}

// pointer is the index entry of a delivery: where it stands.
type pointer struct {
	sole       bool   // it is its message's only delivery
	attempts   uint16 // together with the count of recipients, these tell a
	recipients int    // standing from an earlier one that had the same due time
	place      []byte // its queue key without the id
}

func pointerTo(d *message.Delivery, sole bool, queueKey []byte) pointer {
	return pointer{sole, d.Attempts, len(d.Recipients), queueKey[:len(queueKey)-deliveryIDLen]}
}

func (p *pointer) append(b, key []byte) []byte {
	start := len(b)
	b = appendBool(append(b, recordVersion), p.sole)
	b = binary.AppendUvarint(b, uint64(p.attempts))
	b = binary.AppendUvarint(b, uint64(p.recipients))
	b = append(b, p.place...)
	return seal(b, start, key)
}

// decodePointer reads an index entry; its place aliases value.
func decodePointer(key, value []byte) (p pointer, err error) {
	f, err := unseal(key, value)
	if err != nil {
		return p, err
	}
	p.sole = f.bool()
	p.attempts = uint16(f.below(math.MaxUint16 + 1))
	p.recipients = int(f.below(math.MaxInt32))
	p.place = f.rest()
	return p, f.done()
}

// sameStanding compares all but whether it is the only one.
func (p *pointer) sameStanding(o *pointer) bool {
	return p.attempts == o.attempts && p.recipients == o.recipients && bytes.Equal(p.place, o.place)
}

// Final is one recipient's end state.
type Final struct {
	Recipient string        `json:"recipient"`
	State     message.State `json:"state"`
	Reply     message.Reply `json:"reply"`
	At        time.Time     `json:"at"`
	Attempts  uint16        `json:"attempts"`
}

func appendFinals(b, key []byte, q *message.QueueKey, fs []Final) []byte {
	start := len(b)
	b = append(b, recordVersion)
	b = appendQueueName(b, q)
	b = binary.AppendUvarint(b, uint64(len(fs)))
	for i := range fs {
		b = appendText(b, fs[i].Recipient)
		b = append(b, byte(fs[i].State))
		b = appendReply(b, &fs[i].Reply)
		b = appendTime(b, fs[i].At)
		b = binary.AppendUvarint(b, uint64(fs[i].Attempts))
	}
	return seal(b, start, key)
}

func decodeFinals(key, value []byte) (q message.QueueKey, fs []Final, err error) {
	f, err := unseal(key, value)
	if err != nil {
		return q, nil, err
	}
	q = f.queueName()
	fs = make([]Final, f.count())
	for i := range fs {
		fs[i] = Final{
			Recipient: f.str(),
			State:     message.State(f.below(uint64(message.Cancelled) + 1)),
			Reply:     f.reply(),
			At:        f.time(),
			Attempts:  uint16(f.below(math.MaxUint16 + 1)),
		}
	}
	return q, fs, f.done()
}

func appendQueueName(b []byte, q *message.QueueKey) []byte {
	b = appendText(b, q.Destination)
	b = append(b, byte(q.Priority))
	b = appendText(b, q.Tenant)
	b = appendText(b, q.Stream)
	b = appendText(b, q.Pool)
	return appendText(b, q.Job)
}

func (f *fields) queueName() message.QueueKey {
	return message.QueueKey{
		Destination: f.str(),
		Priority:    message.Priority(f.below(message.Priorities)),
		Tenant:      f.str(),
		Stream:      f.str(),
		Pool:        f.str(),
		Job:         f.str(),
	}
}
