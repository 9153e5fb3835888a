package scheduler

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

var worldStart = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) // a Monday

// policyOf makes a set of lines "Kind name {spec}".
func policyOf(t testing.TB, lines ...string) *policy.Set {
	t.Helper()
	var rs []policy.Resource
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, spec, _ := strings.Cut(rest, " ")
		r := policy.Resource{Kind: kind, Name: name, Spec: policy.NewSpec(kind)}
		if err := json.Unmarshal([]byte(spec), r.Spec); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rs = append(rs, r)
	}
	set, problems := policy.New(rs)
	if set == nil {
		t.Fatalf("policy: %v", problems)
	}
	return set
}

// disk is a spool: what is durable.
type disk struct {
	queues map[message.QueueKey][]*message.Delivery // in order
	byID   map[message.DeliveryID]*message.Delivery
	made   uint64
}

func newDisk() *disk {
	return &disk{queues: map[message.QueueKey][]*message.Delivery{}, byID: map[message.DeliveryID]*message.Delivery{}}
}

// newDelivery makes a delivery that is not on disk yet.
func (k *disk) newDelivery(q message.QueueKey, accepted, due time.Time, expires time.Duration) *message.Delivery {
	k.made++
	d := &message.Delivery{Queue: q, Accepted: accepted, Due: due.Truncate(time.Microsecond), Expires: accepted.Add(expires).Truncate(time.Microsecond)}
	binary.BigEndian.PutUint64(d.ID.Message[8:], k.made)
	if d.Due.After(d.Expires) {
		d.Due = d.Expires
	}
	return d
}

func compareDeliveries(a, b *message.Delivery) int { return positionOf(a).compare(positionOf(b)) }

func (k *disk) put(d *message.Delivery) {
	ds := k.queues[d.Queue]
	i, _ := slices.BinarySearchFunc(ds, d, compareDeliveries)
	k.queues[d.Queue] = slices.Insert(ds, i, d)
	k.byID[d.ID] = d
}

// has reports whether this very version of a delivery is on disk.
func (k *disk) has(d *message.Delivery) bool {
	have := k.byID[d.ID]
	return have != nil && have.Due.Equal(d.Due) && have.Queue == d.Queue
}

// move is the transition of a delivery: to next, or to nothing. false: it is
// not there as it was.
func (k *disk) move(d, next *message.Delivery) bool {
	if !k.has(d) {
		return false
	}
	ds := k.queues[d.Queue]
	i, _ := slices.BinarySearchFunc(ds, d, compareDeliveries)
	k.queues[d.Queue] = slices.Delete(ds, i, i+1)
	delete(k.byID, d.ID)
	if next != nil {
		k.put(next)
	}
	return true
}

func (k *disk) after(q message.QueueKey, c Cursor) []*message.Delivery {
	ds := k.queues[q]
	i := slices.IndexFunc(ds, func(d *message.Delivery) bool {
		return positionOf(d).compare(position{at(c.Due), c.ID}) > 0
	})
	if i < 0 {
		return nil
	}
	return ds[i:]
}

func (k *disk) page(a *Action) (ds []*message.Delivery, more bool) {
	for _, d := range k.after(a.Queue, a.After) {
		if d.Due.After(a.Until) || len(ds) == a.Limit {
			return ds, true
		}
		ds = append(ds, d)
	}
	return ds, false
}

func (k *disk) nextDue(a *Action, ds []*message.Delivery) (time.Time, bool) {
	c := a.After
	if len(ds) > 0 {
		c = positionOf(ds[len(ds)-1]).cursor()
	}
	if rest := k.after(a.Queue, c); len(rest) > 0 {
		return rest[0].Due, true
	}
	return time.Time{}, false
}
