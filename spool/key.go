package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// The first byte of a key says what lies there. doc.go has the whole table.
const (
	kindQueue       = 'q'
	kindIndex       = 'i'
	kindMeta        = 'm'
	kindContent     = 'b'
	kindFinal       = 'f'
	kindIdempotency = 'k'
	kindIdemExpiry  = 'y'
	kindCounters    = 'c'
	kindJob         = 'j'
	kindAction      = 'x'
	kindOutbox      = 'e'
	kindTransfer    = 't'
	kindReceipt     = 'r'
	kindGone        = 'g'
	kindPast        = 'p'
	kindQuarantine  = 'z'
	kindStore       = '!'
)

const (
	deliveryIDLen = 18
	dueLen        = 8
	// maxQueueName bounds the text of a queue key: destination 255, three
	// names of 64, job 128, with room.
	maxQueueName = 1024
)

// checkQueue refuses names that would break the order of keys: a zero byte
// ends a name, so none may contain one.
func checkQueue(q *message.QueueKey) error {
	n := 0
	for _, s := range [...]string{q.Destination, q.Tenant, q.Stream, q.Pool, q.Job} {
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("%w: queue name %q holds a zero byte", ErrInvalid, s)
		}
		n += len(s)
	}
	if q.Destination == "" || n > maxQueueName || q.Priority >= message.Priorities {
		return fmt.Errorf("%w: queue key %+v", ErrInvalid, *q)
	}
	return nil
}

func appendName(b []byte, s string) []byte { return append(append(b, s...), 0) }

// appendQueuePrefix is the part of a queue key that all records of one queue share.
func appendQueuePrefix(b []byte, q *message.QueueKey) []byte {
	b = appendName(append(b, kindQueue), q.Destination)
	b = append(b, byte(q.Priority))
	b = appendName(b, q.Tenant)
	b = appendName(b, q.Stream)
	b = appendName(b, q.Pool)
	return appendName(b, q.Job)
}

// appendDue appends a time so that byte order is time order.
func appendDue(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(max(0, t.UnixMicro())))
}

func appendDeliveryID(b []byte, id message.DeliveryID) []byte {
	return binary.BigEndian.AppendUint16(append(b, id.Message[:]...), id.Index)
}

func appendQueueKey(b []byte, d *message.Delivery) []byte {
	return appendDeliveryID(appendDue(appendQueuePrefix(b, &d.Queue), d.Due), d.ID)
}

func appendIDKey(b []byte, kind byte, id message.ID) []byte {
	return append(append(b, kind), id[:]...)
}

func appendIndexKey(b []byte, id message.DeliveryID) []byte {
	return appendDeliveryID(append(b, kindIndex), id)
}

func appendPairKey(b []byte, kind byte, tenant, name string) []byte {
	return append(appendName(append(b, kind), tenant), name...)
}

func appendOutboxKey(b []byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kindOutbox), seq)
}

// keyEnd is the first key after all that begin with prefix.
func keyEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// queueTail splits a queue key into its queue's prefix, due time and id.
func queueTail(key []byte) (prefix []byte, due time.Time, id message.DeliveryID, ok bool) {
	n := len(key) - dueLen - deliveryIDLen
	if n < 1 || key[0] != kindQueue || key[n-1] != 0 {
		return nil, time.Time{}, id, false
	}
	return key[:n], dueOf(key[n:]), deliveryIDOf(key[n+dueLen:]), true
}

func dueOf(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC()
}

func deliveryIDOf(b []byte) message.DeliveryID {
	return message.DeliveryID{Message: message.ID(b[:16]), Index: binary.BigEndian.Uint16(b[16:])}
}

// parseQueuePrefix is the inverse of appendQueuePrefix.
func parseQueuePrefix(prefix []byte) (q message.QueueKey, ok bool) {
	if len(prefix) == 0 || prefix[0] != kindQueue {
		return q, false
	}
	text := string(prefix[1:])
	var rest string
	if q.Destination, rest, ok = strings.Cut(text, "\x00"); !ok || q.Destination == "" || rest == "" {
		return q, false
	}
	if q.Priority = message.Priority(rest[0]); q.Priority >= message.Priorities {
		return q, false
	}
	rest = rest[1:]
	for _, p := range [...]*string{&q.Tenant, &q.Stream, &q.Pool, &q.Job} {
		if *p, rest, ok = strings.Cut(rest, "\x00"); !ok {
			return q, false
		}
	}
	return q, rest == ""
}

// tenantOfPrefix finds the tenant in a queue's prefix without making a string.
func tenantOfPrefix(prefix []byte) []byte {
	i := bytes.IndexByte(prefix, 0) + 2 // past the destination and the priority
	if i < 2 || i > len(prefix) {
		return nil
	}
	if n := bytes.IndexByte(prefix[i:], 0); n >= 0 {
		return prefix[i : i+n]
	}
	return nil
}

// parsePair is the inverse of appendPairKey.
func parsePair(key []byte) (tenant, name string, ok bool) {
	if len(key) < 2 {
		return "", "", false
	}
	return strings.Cut(string(key[1:]), "\x00")
}
