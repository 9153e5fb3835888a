package spool

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/spool/message"
)

// The codecs are tested here, behind the door, because the door only ever
// shows them bytes that passed a checksum.

// fuzzed makes values of any type out of fuzz bytes.
type fuzzed struct{ b []byte }

func (f *fuzzed) byte() byte {
	if len(f.b) == 0 {
		return 0
	}
	c := f.b[0]
	f.b = f.b[1:]
	return c
}

func (f *fuzzed) text() string {
	n := min(int(f.byte()), len(f.b))
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}

func (f *fuzzed) bytes() []byte {
	if s := f.text(); s != "" {
		return []byte(s)
	}
	return nil
}

func (f *fuzzed) uint() uint64 {
	var v uint64
	for range f.byte() % 9 {
		v = v<<8 | uint64(f.byte())
	}
	return v
}

func (f *fuzzed) time() time.Time {
	if v := f.uint(); v != 0 {
		return time.UnixMicro(int64(v>>2) - 1<<40).UTC()
	}
	return time.Time{}
}

func (f *fuzzed) reply() message.Reply {
	return message.Reply{
		Code: uint16(f.uint()), Enhanced: message.Enhanced{Class: f.byte() % 6, Subject: uint16(f.uint()), Detail: uint16(f.uint())},
		Text: f.text(), Phase: message.Phase(f.byte() % 15), Fault: message.Fault(f.byte() % 10),
	}
}

func (f *fuzzed) queue() message.QueueKey {
	name := func() string { return string(bytes.ReplaceAll([]byte(f.text()), []byte{0}, []byte{'z'})) }
	return message.QueueKey{
		Destination: "d" + name(), Priority: message.Priority(f.byte() % message.Priorities),
		Tenant: name(), Stream: name(), Pool: name(), Job: name(),
	}
}

func (f *fuzzed) delivery() *message.Delivery {
	d := &message.Delivery{Queue: f.queue(), Due: time.UnixMicro(int64(f.uint() >> 1)).UTC()}
	copy(d.ID.Message[:], f.text())
	d.ID.Index = uint16(f.uint())
	d.Accepted, d.Expires = f.time(), f.time()
	d.Attempts, d.Size = uint16(f.uint()), uint32(f.uint())
	d.Recipients = make([]message.Recipient, f.byte()%5)
	for i := range d.Recipients {
		d.Recipients[i] = message.Recipient{
			Address: f.text(), Name: f.text(), Notify: message.Notify(f.byte() % 16), ORcpt: f.text(), Vars: f.bytes(), Metadata: f.bytes(),
		}
	}
	if f.byte()%2 == 1 {
		d.Last = &message.LastAttempt{At: f.time(), Source: f.text(), Host: f.text(), Reply: f.reply()}
	}
	return d
}

func (f *fuzzed) attachments() (as []message.Attachment) {
	for range f.byte() % 3 {
		as = append(as, message.Attachment{Name: f.text(), ContentType: f.text(), ContentID: f.text(), Content: f.bytes()})
	}
	return as
}

func (f *fuzzed) message() *message.Message {
	m := &message.Message{
		Sender: f.text(), Body: message.Body(f.byte() % 3), UTF8: f.byte()%2 == 1, Return: message.Return(f.byte() % 3), EnvID: f.text(),
		Tenant: f.text(), Stream: f.text(), Pool: f.text(), Job: f.text(), Priority: message.Priority(f.byte() % 3),
		Metadata: f.bytes(), Accepted: f.time(), From: f.text(), Via: f.text(), HeaderFrom: f.text(), Deliveries: uint16(f.uint()),
	}
	for range f.byte() % 4 {
		m.Tags = append(m.Tags, f.text())
	}
	if f.byte()%2 == 0 {
		m.Raw = append([]byte{}, f.bytes()...)
		return m
	}
	t := &message.Template{From: message.Address{Email: f.text(), Name: f.text()}, Subject: f.text(), Text: f.text(), HTML: f.text()}
	if f.byte()%2 == 1 {
		t.ReplyTo = &message.Address{Email: f.text(), Name: f.text()}
	}
	for range f.byte() % 3 {
		t.Headers = append(t.Headers, message.Header{Name: f.text(), Value: f.text()})
	}
	t.Attachments, t.Inline = f.attachments(), f.attachments()
	t.Missing, t.Static, t.Date, t.MessageIDDomain = f.text(), f.byte()%2 == 1, f.time(), f.text()
	m.Template = t
	return m
}

func same(t *testing.T, want, got any, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\nof %+v", err, want)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func seeds(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(bytes.Repeat([]byte{1}, 300))
	f.Add(bytes.Repeat([]byte{3, 'a', 0xff, 0}, 200))
	f.Add(bytes.Repeat([]byte{9, 1, 2, 3, 4, 5, 6, 7, 8}, 100))
}

// FuzzRecords: what is encoded decodes to the same, and a changed bit anywhere
// in key or value is noticed.
func FuzzRecords(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		z := &fuzzed{b}
		d := z.delivery()
		key := appendQueueKey(nil, d)
		value := appendDelivery([]byte("before"), key, d)[6:]
		got, err := decodeQueued(key, value)
		same(t, d, got, err)
		if tenant := tenantOfPrefix(key[:len(key)-dueLen-deliveryIDLen]); string(tenant) != d.Queue.Tenant {
			t.Fatalf("tenant %q of %q", tenant, key)
		}
		bit := int(z.uint() % uint64(8*(len(key)+len(value))))
		record := append(bytes.Clone(key), value...)
		record[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeQueued(record[:len(key)], record[len(key):]); err == nil {
			t.Fatalf("bit %d is not noticed", bit)
		}

		index := appendIndexKey(nil, d.ID)
		at := pointerTo(d, z.byte()%2 == 1, key)
		gotAt, err := decodePointer(index, at.append(nil, index))
		if err != nil || !gotAt.sameStanding(&at) || gotAt.sole != at.sole {
			t.Fatalf("pointer %+v became %+v, %v", at, gotAt, err)
		}

		fs := make([]Final, z.byte()%4)
		for i := range fs {
			fs[i] = Final{Recipient: z.text(), State: message.State(z.byte() % 5), Reply: z.reply(), At: z.time(), Attempts: uint16(z.uint())}
		}
		fkey := appendFinalKey(nil, bucketOf(d.Due), d.ID, len(d.Recipients))
		q, gotFs, err := decodeFinals(fkey, appendFinals(nil, fkey, &d.Queue, fs))
		same(t, d.Queue, q, err)
		same(t, fs, gotFs, err)

		m := z.message()
		mkey := appendIDKey(nil, kindMeta, m.ID)
		gotM, err := decodeMeta(mkey, appendMeta(nil, mkey, m), m.ID)
		if err == nil {
			err = decodeContent(mkey, appendContent(nil, mkey, m), gotM)
		}
		same(t, m, gotM, err)

		k := &Idempotency{Tenant: d.Queue.Tenant, Key: z.text(), Expires: z.time(), Answer: z.bytes()}
		copy(k.BodyHash[:], z.text())
		ikey := appendPairKey(nil, kindIdempotency, k.Tenant, k.Key)
		gotK, err := decodeIdempotency(ikey, appendIdempotency(nil, ikey, k))
		same(t, k, gotK, err)

		c := jobCounts{Accepted: int64(z.uint()), Delivered: int64(z.uint()), first: int64(z.uint() >> 1), last: int64(z.uint() >> 1)}
		gotC, err := decodeCounts(c.append(nil))
		if gotC != c || err != nil {
			t.Fatalf("%+v became %+v, %v", c, gotC, err)
		}
	})
}

// FuzzDecode: no decoder panics, whatever bytes carry a right checksum, and
// none takes much more memory than the record has bytes.
func FuzzDecode(f *testing.F) {
	seeds(f)
	z := &fuzzed{bytes.Repeat([]byte{9, 1, 2, 3, 4, 5, 6, 7, 8}, 100)}
	d := z.delivery()
	f.Add(appendDelivery(nil, nil, d))
	f.Add(appendMeta(nil, nil, z.message()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		b = append([]byte{recordVersion}, b...)
		key := b[:len(b)/3]
		value := seal(bytes.Clone(b), 0, key)
		var m message.Message
		_, _ = decodeDelivery(key, value, message.QueueKey{}, time.Time{}, message.DeliveryID{})
		_, _ = decodePointer(key, value)
		_, _, _ = decodeFinals(key, value)
		_, _ = decodeMeta(key, value, m.ID)
		_ = decodeContent(key, value, &m)
		_, _ = decodeIdempotency(key, value)
		_ = decodeJSON(key, value, new(Action))
		_, _ = decodeQueued(b, value)
		_, _ = decodeQueued(append([]byte{kindQueue}, b...), value)
		_, _ = parseQueuePrefix(b)
		_, _, _ = parsePair(b)
		tenantOfPrefix(b)
		if c, err := decodeCounts(b); err == nil {
			if again, err := decodeCounts(c.append(nil)); err != nil || again != c {
				t.Fatalf("%+v %v", again, err)
			}
		}
	})
}

func TestQueueKeysSortByDestinationFlowAndTime(t *testing.T) {
	at := func(us int64) time.Time { return time.UnixMicro(us) }
	id := func(b byte) message.DeliveryID { return message.DeliveryID{Message: message.ID{15: b}} }
	ds := []message.Delivery{
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.High, Tenant: "z"}, Due: at(9)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a"}, Due: at(0)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a"}, Due: at(255)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a"}, Due: at(256), ID: id(1)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a"}, Due: at(256), ID: id(2)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a"}, Due: at(math.MaxInt64)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a", Job: "j"}, Due: at(1)},
		{Queue: message.QueueKey{Destination: "a.example", Priority: message.Low, Tenant: "a.b"}, Due: at(1)},
		{Queue: message.QueueKey{Destination: "a.example.org"}, Due: at(1)},
	}
	var last []byte
	for i := range ds {
		key := appendQueueKey(nil, &ds[i])
		if bytes.Compare(last, key) >= 0 {
			t.Errorf("key %d %q is not after %q", i, key, last)
		}
		prefix, due, did, ok := queueTail(key)
		q, ok2 := parseQueuePrefix(prefix)
		if !ok || !ok2 || q != ds[i].Queue || !due.Equal(ds[i].Due) || did != ds[i].ID {
			t.Errorf("key %d does not read back: %+v %v %v", i, q, due, did)
		}
		last = key
	}
}

func TestKeyEnd(t *testing.T) {
	for in, want := range map[string][]byte{"a": []byte("b"), "a\xff": []byte("b"), "a\xfe": []byte("a\xff"), "\xff\xff": nil} {
		if got := keyEnd([]byte(in)); !bytes.Equal(got, want) {
			t.Errorf("end of %q is %q", in, got)
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	prev := -1
	for us := range uint64(100_000) {
		b := latencyBucket(us)
		if b != prev && b != prev+1 {
			t.Fatalf("%d µs: bucket %d after %d", us, b, prev)
		}
		if us > latencyBound(b) || b > 0 && us <= latencyBound(b-1) {
			t.Fatalf("%d µs is in bucket %d, which ends at %d", us, b, latencyBound(b))
		}
		prev = b
	}
	if b := latencyBucket(math.MaxUint64); b != latencyBuckets-1 {
		t.Errorf("the longest is in bucket %d", b)
	}
	var l latency
	for range 99 {
		l.observe(time.Millisecond)
	}
	l.observe(time.Second)
	if s := l.snapshot(); s.Count != 100 || s.P50 < time.Millisecond || s.P50 > 1200*time.Microsecond || s.P99 > 1200*time.Microsecond {
		t.Errorf("%+v", s)
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	z := &fuzzed{bytes.Repeat([]byte{9, 1, 2, 3, 4, 5, 6, 7, 8}, 200)}
	d, m := z.delivery(), z.message()
	fs := []Final{{Recipient: "a@b.example", State: message.Delivered, Reply: message.Reply{Code: 250, Text: "ok"}, At: time.Now()}}
	key, value := make([]byte, 0, 4096), make([]byte, 0, 64<<10)
	if n := testing.AllocsPerRun(100, func() {
		key = appendQueueKey(key[:0], d)
		value = appendDelivery(value[:0], key, d)
		value = appendMeta(value[:0], key, m)
		value = appendContent(value[:0], key, m)
		value = appendFinals(value[:0], key, &d.Queue, fs)
		at := pointerTo(d, true, key)
		value = at.append(value[:0], key)
	}); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
	queueKey := appendQueueKey(nil, d)
	record := appendDelivery(nil, queueKey, d)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := decodeDelivery(queueKey, record, d.Queue, d.Due, d.ID); err != nil {
			t.Error(err)
		}
	}); n > float64(4+2*len(d.Recipients)) { // delivery, recipients, text, last attempt; vars and metadata of each
		t.Errorf("decoding a delivery allocates %v times", n)
	}
}

func TestSharedCountsStayBounded(t *testing.T) {
	c := &committer{shared: map[message.ID]int32{}}
	for i := range maxShared + 500 {
		var id message.ID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		c.shared[id] = int32(i%100 + 2)
	}
	c.trimShared()
	if len(c.shared) != maxShared {
		t.Errorf("%d kept", len(c.shared))
	}
}
