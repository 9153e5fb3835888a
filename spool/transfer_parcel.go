package spool

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"

	"hikyaku/spool/message"
)

// Parcel is deliveries on the way from one spool to another, with all that is
// known of them, and the messages that they need, each once. On the sender's
// side Pack makes it, on the receiver's ParseParcel.
//
// In its form on the wire the records lie as they lie on disk, with the sums
// that their keys are part of: both sides have the same keys for the same
// things, so that what a record says, where it belongs and that it is whole are
// one check. Around them: four letters and a version, who sends to whom, the
// number of the transfer, a SHA-256 sum of each message's content, and a
// CRC-32C of everything.
type Parcel struct {
	From   Peer   // who sends; its name is for people
	To     string // the receiver's spool
	Number uint64
	Floor  uint64 // the sender's, see Store.Floor
	Jobs   []JobOrderOf
	Items  []ParcelItem
	// Holds are the scopes of holds in force at the sender that keep some of it
	// from going out. Set them before Encode.
	Holds []message.Scope

	// Of a packed parcel: Unfit are those that cannot go, since a record of
	// theirs is unreadable or would be refused; Gone those that are not in the
	// spool as given; Rest those that did not fit any more.
	Unfit, Gone, Rest []*message.Delivery

	packed []offered
	body   []byte
}

// ParcelItem is a message with those of its deliveries that are in a parcel.
type ParcelItem struct {
	Message    *message.Message // without content
	Deliveries []*message.Delivery

	meta, content []byte
	records       [][]byte
}

// JobOrderOf is what stands for a job.
type JobOrderOf struct {
	Tenant string `json:"tenant"`
	Job    string `json:"job"`
	JobOrder
}

// Bytes is about how long the parcel is on the wire.
func (p *Parcel) Bytes() int { return len(p.body) + 256 }

// All are the deliveries in it.
func (p *Parcel) All() []*message.Delivery {
	ds := make([]*message.Delivery, 0, len(p.packed))
	for i := range p.Items {
		ds = append(ds, p.Items[i].Deliveries...)
	}
	return ds
}

// contentBytes is what the messages in it take on disk.
func (p *Parcel) contentBytes() (n int) {
	for i := range p.Items {
		n += len(p.Items[i].meta) + len(p.Items[i].content) + 64
	}
	return n
}

// Deliveries is how many there are in it.
func (p *Parcel) Deliveries() (n int) {
	for i := range p.Items {
		n += len(p.Items[i].Deliveries)
	}
	return n
}

const (
	parcelMagic   = "HKYT"
	ParcelVersion = 1
	maxParcelJobs = MaxTransferDeliveries
)

// errParcel is wrapped by what ParseParcel finds wrong.
var errParcel = fmt.Errorf("%w parcel", ErrInvalid)

// appendHead appends what is known only when the transfer has its number.
func (p *Parcel) appendHead(b []byte) []byte {
	b = append(append(b, parcelMagic...), ParcelVersion)
	b = appendText(b, p.From.Name)
	b = appendText(b, p.From.Spool)
	b = appendText(b, p.To)
	b = binary.AppendUvarint(b, p.Number)
	b = binary.AppendUvarint(b, p.Floor)
	b = binary.AppendUvarint(b, uint64(len(p.Holds)))
	for i := range p.Holds {
		h := &p.Holds[i]
		for _, s := range [...]string{h.Destination, h.Tenant, h.Stream, h.Pool, h.Job, h.Carrier, h.Source} {
			b = appendText(b, s)
		}
	}
	return b
}

// maxParcelHolds bounds the holds named in a parcel.
const maxParcelHolds = 1024

func (p *Parcel) parseHolds(f *fields) error {
	for range int(f.below(maxParcelHolds + 1)) {
		var h message.Scope
		for _, s := range [...]*string{&h.Destination, &h.Tenant, &h.Stream, &h.Pool, &h.Job, &h.Carrier, &h.Source} {
			*s = f.own()
		}
		if h.IsZero() && !f.bad {
			return fmt.Errorf("%w: a hold without a scope", errParcel)
		}
		p.Holds = append(p.Holds, h)
	}
	return nil
}

// Encode gives a packed parcel its form on the wire, as the transfer given.
func (s *Store) Encode(p *Parcel, t *Transfer, name string) []byte {
	p.From, p.To, p.Number, p.Floor = Peer{name, s.nodeID}, t.To.Spool, t.Number, s.Floor(t.To.Spool)
	b := p.appendHead(make([]byte, 0, p.Bytes()))
	b = append(b, p.body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Pack reads what is needed of deliveries that nobody else may have in hand
// meanwhile, up to maxBytes; one message goes in however large it is.
func (s *Store) Pack(ds []*message.Delivery, maxBytes int) (*Parcel, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	p := &Parcel{}
	byMessage := map[message.ID]int{}
	bytes := 0
	for _, d := range ds {
		if len(p.packed) == MaxTransferDeliveries {
			p.Rest = append(p.Rest, d)
			continue
		}
		i, known := byMessage[d.ID.Message]
		if !known {
			item, err := s.packMessage(d.ID.Message)
			switch {
			case errors.Is(err, ErrNotFound):
				p.Gone = append(p.Gone, d) // with its message
				continue
			case errors.Is(err, ErrUnreadable), errors.Is(err, ErrInvalid):
				p.Unfit = append(p.Unfit, d)
				continue
			case err != nil:
				return nil, err
			case bytes > 0 && bytes+len(item.content) > maxBytes:
				p.Rest = append(p.Rest, d)
				continue
			}
			i = len(p.Items)
			p.Items, byMessage[d.ID.Message] = append(p.Items, item), i
			bytes += len(item.content) + len(item.meta)
		}
		n, err := s.packDelivery(p, i, d)
		if err != nil {
			return nil, err
		}
		bytes += n
	}
	p.tidy()
	if err := s.packJobs(p); err != nil {
		return nil, err
	}
	p.encodeBody(bytes)
	return p, nil
}

// packMessage reads the records of a message.
func (s *Store) packMessage(id message.ID) (item ParcelItem, err error) {
	err = s.read(appendIDKey(nil, kindMeta, id), func(key, value []byte) (err error) {
		if item.Message, err = decodeMeta(key, value, id); err == nil {
			item.meta = append([]byte(nil), value...)
		}
		return err
	})
	if err != nil {
		return item, fmt.Errorf("message %s: %w", id, err)
	}
	if err = checkMessage(item.Message); err != nil {
		return item, err
	}
	err = s.read(appendIDKey(nil, kindContent, id), func(key, value []byte) error {
		item.content = append([]byte(nil), value...)
		return checkContent(key, value)
	})
	if err == nil {
		err = checkText(item.Message, item.content)
	}
	if err != nil {
		return item, fmt.Errorf("content of message %s: %w", id, err)
	}
	return item, nil
}

// packDelivery adds d to item i, and returns what it takes.
func (s *Store) packDelivery(p *Parcel, i int, d *message.Delivery) (int, error) {
	item := &p.Items[i]
	key := appendQueueKey(nil, d)
	var record []byte
	var now *message.Delivery
	err := s.read(key, func(key, value []byte) (err error) {
		if now, err = decodeQueued(key, value); err == nil {
			record = append([]byte(nil), value...)
		}
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (now.Attempts != d.Attempts || len(now.Recipients) != len(d.Recipients)):
		p.Gone = append(p.Gone, d)
		return 0, nil
	case errors.Is(err, ErrUnreadable), err == nil && checkDelivery(item.Message, now) != nil:
		p.Unfit = append(p.Unfit, d)
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("delivery %s: %w", d.ID, err)
	}
	d = now
	item.Deliveries, item.records = append(item.Deliveries, d), append(item.records, record)
	at := pointerTo(d, false, key)
	p.packed = append(p.packed, offered{d.ID, at.attempts, at.recipients, at.place})
	return len(record) + len(key), nil
}

// tidy leaves out messages none of whose deliveries can go, and puts the
// deliveries of each into the order of their numbers.
func (p *Parcel) tidy() {
	p.Items = slices.DeleteFunc(p.Items, func(it ParcelItem) bool { return len(it.Deliveries) == 0 })
	for i := range p.Items {
		sort.Sort((*byIndex)(&p.Items[i]))
	}
}

// byIndex sorts the deliveries of an item, with their records.
type byIndex ParcelItem

func (s *byIndex) Len() int           { return len(s.Deliveries) }
func (s *byIndex) Less(i, j int) bool { return s.Deliveries[i].ID.Index < s.Deliveries[j].ID.Index }
func (s *byIndex) Swap(i, j int) {
	s.Deliveries[i], s.Deliveries[j] = s.Deliveries[j], s.Deliveries[i]
	s.records[i], s.records[j] = s.records[j], s.records[i]
}

// packJobs adds what stands for the jobs of the deliveries, so that the
// receiver does not begin where this node stopped.
func (s *Store) packJobs(p *Parcel) error {
	type name struct{ tenant, job string }
	seen := map[name]bool{}
	for i := range p.Items {
		for _, d := range p.Items[i].Deliveries {
			n := name{d.Queue.Tenant, d.Queue.Job}
			if n.job == "" || seen[n] {
				continue
			}
			seen[n] = true
			key := appendPairKey(nil, kindJob, n.tenant, n.job)
			v, err := s.get(key)
			if err != nil {
				return err
			}
			o := JobOrderOf{Tenant: n.tenant, Job: n.job}
			if v != nil && decodeJSON(key, v, &o.JobOrder) == nil {
				p.Jobs = append(p.Jobs, o)
			}
		}
	}
	return nil
}

func (p *Parcel) encodeBody(size int) {
	b := make([]byte, 0, size+1024+64*len(p.packed))
	b = binary.AppendUvarint(b, uint64(len(p.Jobs)))
	for i := range p.Jobs {
		j := &p.Jobs[i]
		text, err := encodeJSON(nil, &j.JobOrder)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		b = appendBytes(appendText(appendText(b, j.Tenant), j.Job), text)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Items)))
	for i := range p.Items {
		it := &p.Items[i]
		b = append(b, it.Message.ID[:]...)
		b = appendBytes(b, it.meta)
		b = appendBytes(b, it.content)
		sum := sha256.Sum256(it.content)
		b = append(b, sum[:]...)
		b = binary.AppendUvarint(b, uint64(len(it.Deliveries)))
		for at, d := range it.Deliveries {
			b = appendQueueName(b, &d.Queue)
			b = appendTime(b, d.Due)
			b = binary.AppendUvarint(b, uint64(d.ID.Index))
			b = appendBytes(b, it.records[at])
		}
	}
	p.body = b
}

// ParseParcel reads and checks a parcel. It trusts nothing: every record must
// be whole and belong where it says, and every field be what this node itself
// would have accepted. What it returns aliases b.
func ParseParcel(b []byte) (*Parcel, error) {
	const least = len(parcelMagic) + 1 + sumLen
	if len(b) < least || string(b[:len(parcelMagic)]) != parcelMagic {
		return nil, fmt.Errorf("%w: not a parcel", errParcel)
	}
	if v := b[len(parcelMagic)]; v != ParcelVersion {
		return nil, fmt.Errorf("%w: version %d, this program knows %d", errParcel, v, ParcelVersion)
	}
	body := b[:len(b)-sumLen]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, fmt.Errorf("%w: checksum differs", errParcel)
	}
	p := &Parcel{}
	f := fields{b: body, off: len(parcelMagic) + 1}
	p.From = Peer{Name: f.own(), Spool: f.own()}
	p.To, p.Number, p.Floor = f.own(), f.uvarint(), f.uvarint()
	if err := p.From.check(); err != nil {
		return nil, fmt.Errorf("%w: sender: %w", errParcel, err)
	}
	if !validNodeID(p.To) || checkNumber(p.Number) != nil || p.Floor > p.Number {
		return nil, fmt.Errorf("%w: transfer %d to %q with floor %d", errParcel, p.Number, p.To, p.Floor)
	}
	if err := p.parseHolds(&f); err != nil {
		return nil, err
	}
	if err := p.parseJobs(&f); err != nil {
		return nil, err
	}
	if err := p.parseItems(&f); err != nil {
		return nil, err
	}
	if err := f.done(); err != nil {
		return nil, fmt.Errorf("%w: %w", errParcel, err)
	}
	return p, nil
}

// own reads a short text as a string of its own, which keeps nothing else alive.
func (f *fields) own() string { return string(f.raw(maxQueueName)) }

// raw reads length-prefixed bytes without copying them.
func (f *fields) raw(limit int) []byte {
	n := f.below(uint64(limit) + 1)
	if n > uint64(len(f.b)-f.off) {
		f.fail()
		return nil
	}
	from := f.off
	f.off += int(n)
	return f.b[from:f.off:f.off]
}

// fixed reads n bytes without copying them.
func (f *fields) fixed(n int) []byte {
	if n > len(f.b)-f.off {
		f.fail()
		return make([]byte, n)
	}
	f.off += n
	return f.b[f.off-n : f.off : f.off]
}

func (p *Parcel) parseJobs(f *fields) error {
	n := int(f.below(maxParcelJobs + 1))
	for range n {
		j := JobOrderOf{Tenant: f.own(), Job: f.own()}
		record := f.raw(64 << 10)
		if f.bad {
			break
		}
		if err := decodeJSON(nil, record, &j.JobOrder); err != nil {
			return fmt.Errorf("%w: order of job %q: %w", errParcel, j.Job, err)
		}
		if !validName(j.Tenant, 1, 64) || !validJob(j.Job) || j.Job == "" || !j.State.valid() {
			return fmt.Errorf("%w: job %q of %q in state %q", errParcel, j.Job, j.Tenant, j.State)
		}
		p.Jobs = append(p.Jobs, j)
	}
	return nil
}

func (p *Parcel) parseItems(f *fields) error {
	n := int(f.below(MaxTransferDeliveries + 1))
	total := 0
	seen := make(map[message.ID]bool, n)
	for range n {
		it := ParcelItem{}
		id := message.ID(f.fixed(16))
		it.meta = f.raw(maxField)
		it.content = f.raw(math.MaxInt32)
		sum := [sha256.Size]byte(f.fixed(sha256.Size))
		count := int(f.below(MaxTransferDeliveries + 1))
		if f.bad {
			break
		}
		if total += count; count == 0 || total > MaxTransferDeliveries || seen[id] || id.IsZero() {
			return fmt.Errorf("%w: message %s twice, without deliveries, or more than %d deliveries", errParcel, id, MaxTransferDeliveries)
		}
		seen[id] = true
		if err := it.parseMessage(id, sum); err != nil {
			return fmt.Errorf("%w: message %s: %w", errParcel, id, err)
		}
		if err := it.parseDeliveries(f, count); err != nil {
			return err
		}
		p.Items = append(p.Items, it)
	}
	if total == 0 && !f.bad {
		return fmt.Errorf("%w: nothing in it", errParcel)
	}
	return nil
}

func (it *ParcelItem) parseMessage(id message.ID, sum [sha256.Size]byte) (err error) {
	if it.Message, err = decodeMeta(appendIDKey(nil, kindMeta, id), it.meta, id); err != nil {
		return err
	}
	if err := checkMessage(it.Message); err != nil {
		return err
	}
	if sha256.Sum256(it.content) != sum {
		return errors.New("its content does not have the sum that it was sent with")
	}
	if err := checkContent(appendIDKey(nil, kindContent, id), it.content); err != nil {
		return err
	}
	return checkText(it.Message, it.content)
}

func (it *ParcelItem) parseDeliveries(f *fields, n int) error {
	last := -1
	for range n {
		q := message.QueueKey{Destination: f.own(), Priority: message.Priority(f.below(message.Priorities)),
			Tenant: f.own(), Stream: f.own(), Pool: f.own(), Job: f.own()}
		due, index, record := f.time(), f.below(message.MaxDeliveries), f.raw(maxField)
		if f.bad {
			return nil // done tells
		}
		id := message.DeliveryID{Message: it.Message.ID, Index: uint16(index)}
		if int(index) <= last || due.UnixMicro() < 0 {
			return fmt.Errorf("%w: delivery %s out of order, or due before 1970", errParcel, id)
		}
		last = int(index)
		if err := checkQueue(&q); err != nil {
			return fmt.Errorf("%w: delivery %s: %w", errParcel, id, err)
		}
		probe := message.Delivery{ID: id, Queue: q, Due: due}
		d, err := decodeDelivery(appendQueueKey(nil, &probe), record, q, due, id)
		if err == nil {
			err = checkDelivery(it.Message, d)
		}
		if err != nil {
			return fmt.Errorf("%w: delivery %s: %w", errParcel, id, err)
		}
		it.Deliveries, it.records = append(it.Deliveries, d), append(it.records, record)
	}
	return nil
}
