package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hikyaku/spool/message"
)

// Behind the door, because the door never lets a bad parcel out.

var (
	parcelFrom = Peer{Name: "a", Spool: "0123456789abcdef"}
	parcelTo   = "fedcba9876543210"
	parcelTime = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)
)

// parcelMail is a message with two deliveries that any node would take.
func parcelMail() (*message.Message, []*message.Delivery) {
	m := &message.Message{ID: message.ID{1, 2, 3}, Sender: "from@acme.example", Tenant: "acme", Stream: "news", Pool: "main", Job: "j1", Tags: []string{"t"},
		Metadata: []byte(`{"k":1}`), Accepted: parcelTime, Via: "smtp", Deliveries: 3, Raw: []byte("Subject: a\r\n\r\nb\r\n")}
	q := message.QueueKey{Destination: "x.example", Priority: message.Normal, Tenant: "acme", Stream: "news", Pool: "main", Job: "j1"}
	var ds []*message.Delivery
	for i := range 2 {
		ds = append(ds, &message.Delivery{ID: message.DeliveryID{Message: m.ID, Index: uint16(i)}, Queue: q, Due: parcelTime.Add(time.Duration(i) * time.Minute),
			Accepted: parcelTime, Expires: parcelTime.Add(time.Hour), Attempts: uint16(i), Size: 10,
			Recipients: []message.Recipient{{Address: "u@x.example", Vars: []byte(`{"v":1}`), Metadata: []byte(`{}`), ORcpt: "rfc822;u@x.example", Name: "Ü"}}})
	}
	ds[1].Last = &message.LastAttempt{At: parcelTime, Source: "s", Host: "h", Reply: message.Reply{Code: 451, Text: "later"}}
	return m, ds
}

// wireOf gives a parcel its form without looking at what is in it.
func wireOf(p *Parcel, ms ...*ParcelItem) []byte {
	for _, it := range ms {
		key := appendIDKey(nil, kindMeta, it.Message.ID)
		it.meta = appendMeta(nil, key, it.Message)
		key[0] = kindContent
		it.content = appendContent(nil, key, it.Message)
		it.records = nil
		for _, d := range it.Deliveries {
			it.records = append(it.records, appendDelivery(nil, appendQueueKey(nil, d), d))
		}
		p.Items = append(p.Items, *it)
	}
	p.encodeBody(0)
	return sealWire(append(p.appendHead(nil), p.body...))
}

func sealWire(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func goodParcel() *Parcel {
	return &Parcel{From: parcelFrom, To: parcelTo, Number: 7, Floor: 5, Holds: []message.Scope{{Tenant: "acme", Carrier: "c"}},
		Jobs: []JobOrderOf{{Tenant: "acme", Job: "j1", JobOrder: JobOrder{State: JobPaused, Updated: parcelTime}}}}
}

func goodWire() []byte {
	m, ds := parcelMail()
	return wireOf(goodParcel(), &ParcelItem{Message: m, Deliveries: ds})
}

var rewriteParcel = flag.Bool("rewrite-parcel", false, "write testdata/parcel-v1.hex anew")

// TestParcelOfVersion1IsRead: nodes of the version before this one send it.
func TestParcelOfVersion1IsRead(t *testing.T) {
	const file = "testdata/parcel-v1.hex"
	got := hex.EncodeToString(goodWire()) + "\n"
	if *rewriteParcel {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("a change of the form on the wire needs another version:\n%s\nwant\n%s", got, want)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseParcel(b)
	if err != nil {
		t.Fatal(err)
	}
	if p.From != parcelFrom || p.To != parcelTo || p.Number != 7 || p.Floor != 5 || len(p.Holds) != 1 || p.Holds[0].Carrier != "c" ||
		len(p.Jobs) != 1 || p.Jobs[0].State != JobPaused || p.Deliveries() != 2 || p.Items[0].Deliveries[1].Last.Reply.Code != 451 {
		t.Errorf("read as %+v", p)
	}
}

// TestParcelRefusesWhatIsNotWellFormed changes one thing at a time.
func TestParcelRefusesWhatIsNotWellFormed(t *testing.T) {
	type change func(p *Parcel, m *message.Message, d *message.Delivery)
	for name, fn := range map[string]change{
		"sender's spool":         func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.From.Spool = "0123" },
		"sender's name":          func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.From.Name = "A B" },
		"receiver":               func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.To = strings.Repeat("z", 16) },
		"number 0":               func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Number, p.Floor = 0, 0 },
		"a huge number":          func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Number = 1 << 63 },
		"floor above the number": func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Floor = 8 },
		"hold on everything":     func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Holds[0] = message.Scope{} },
		"job state":              func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Jobs[0].State = "x" },
		"job name":               func(p *Parcel, _ *message.Message, _ *message.Delivery) { p.Jobs[0].Job = "a b" },
		"no id": func(_ *Parcel, m *message.Message, d *message.Delivery) {
			m.ID, d.ID.Message = message.ID{}, message.ID{}
		},
		"tenant":                   func(_ *Parcel, m *message.Message, d *message.Delivery) { m.Tenant, d.Queue.Tenant = "A", "A" },
		"no tenant":                func(_ *Parcel, m *message.Message, d *message.Delivery) { m.Tenant, d.Queue.Tenant = "", "" },
		"another tenant":           func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Tenant = "other" },
		"stream":                   func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Stream = "a/b" },
		"pool":                     func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Pool = "ä" },
		"job":                      func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Job = "a\tb" },
		"destination in capitals":  func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Destination = "X.example" },
		"destination with a space": func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Destination = "x example" },
		"destination with a dot":   func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Destination = "x.example." },
		"destination literal":      func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Queue.Destination = "[1.2.3.4" },
		"sender":                   func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Sender = "a\r\nRCPT TO:<x@y>@b" },
		"sender without domain":    func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Sender = "a" },
		"envelope id":              func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.EnvID = "a\x00" },
		"tag":                      func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Tags[0] = "\xff" },
		"metadata":                 func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Metadata = []byte("[1]") },
		"bare LF":                  func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Raw = []byte("a: b\r\n\r\nc\n.\r\n") },
		"bare CR":                  func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Raw = []byte("a: b\r\n\r\nc\rd\r\n") },
		"CR at the end":            func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Raw = []byte("a: b\r\n\r\nc\r") },
		"NUL":                      func(_ *Parcel, m *message.Message, _ *message.Delivery) { m.Raw = []byte("a: b\r\n\r\n\x00\r\n") },
		"recipient":                func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Recipients[0].Address = "u\n@x.example" },
		"recipient with a bracket": func(_ *Parcel, _ *message.Message, d *message.Delivery) {
			d.Recipients[0].Address = "u@x> NOTIFY=NEVER"
		},
		"recipient's name":      func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Recipients[0].Name = "a\r\nBcc: x" },
		"original recipient":    func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Recipients[0].ORcpt = "\x7f" },
		"variables":             func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Recipients[0].Vars = []byte("{") },
		"no recipient":          func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.Recipients = nil },
		"the same number twice": func(_ *Parcel, _ *message.Message, d *message.Delivery) { d.ID.Index = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			p := goodParcel()
			m, ds := parcelMail()
			d := ds[1]
			if fn(p, m, d); m.ID.IsZero() {
				ds[0].ID.Message = m.ID
			}
			if m.Tenant != "acme" {
				ds[0].Queue.Tenant = m.Tenant
			}
			_, err := ParseParcel(wireOf(p, &ParcelItem{Message: m, Deliveries: ds}))
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("taken, or another error: %v", err)
			}
		})
	}
	t.Run("the same message twice", func(t *testing.T) {
		m, ds := parcelMail()
		_, err := ParseParcel(wireOf(goodParcel(), &ParcelItem{Message: m, Deliveries: ds[:1]}, &ParcelItem{Message: m, Deliveries: ds[1:]}))
		if !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
	t.Run("nothing in it", func(t *testing.T) {
		if _, err := ParseParcel(wireOf(goodParcel())); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
}

// TestParcelNoticesEachChangedByte: with the sum of the whole put right, so that
// the sums inside are what finds it, or the field's own check.
func TestParcelNoticesEachChangedByte(t *testing.T) {
	good := goodWire()
	want, err := ParseParcel(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x11
		if _, err := ParseParcel(bad); err == nil {
			t.Fatalf("byte %d changed, and nobody noticed", i)
		}
		p, err := ParseParcel(sealWire(bad[:len(bad)-sumLen]))
		if err != nil {
			continue
		}
		// Only what is not a record may change: names, numbers, holds, orders.
		if !bytes.Equal(p.Items[0].content, want.Items[0].content) || !bytes.Equal(p.Items[0].meta, want.Items[0].meta) ||
			!bytes.Equal(p.Items[0].records[0], want.Items[0].records[0]) {
			t.Fatalf("byte %d changed a record", i)
		}
		for at, d := range p.Items[0].Deliveries {
			if w := want.Items[0].Deliveries[at]; d.ID != w.ID || d.Queue != w.Queue || !d.Due.Equal(w.Due) {
				t.Fatalf("byte %d moved a delivery", i)
			}
		}
	}
	for n := range good {
		if _, err := ParseParcel(good[:n]); err == nil {
			t.Fatalf("taken with %d of %d bytes", n, len(good))
		}
	}
}

// FuzzParcel: whatever comes is refused with ErrInvalid, or reads the same when
// it is written again. The outer sum is put right, so that the rest is reached.
// No spool is opened: Pebble's own goroutines would drown what is looked for.
func FuzzParcel(f *testing.F) {
	for _, seed := range parcelSeeds() {
		f.Add(seed[:len(seed)-sumLen])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseParcel(sealWire(b))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("no ErrInvalid: %v", err)
			}
			return
		}
		p.encodeBody(0)
		again := sealWire(append(p.appendHead(nil), p.body...))
		q, err := ParseParcel(again)
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		q.body, p.body = nil, nil
		if d := cmp.Diff(p, q, cmp.AllowUnexported(Parcel{}, ParcelItem{}, offered{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

// parcelSeeds are parcels with raw content and with a template.
func parcelSeeds() [][]byte {
	m, ds := parcelMail()
	m.Raw, m.Template = nil, &message.Template{From: message.Address{Email: "a@b"}, Subject: "s", Attachments: []message.Attachment{{Name: "n", Content: []byte{1}}}}
	return [][]byte{goodWire(), wireOf(&Parcel{From: parcelFrom, To: parcelTo, Number: 1}, &ParcelItem{Message: m, Deliveries: ds})}
}

// TestParcelsThatAreTakenCanBeStored, and leave the spool in order.
func TestParcelsThatAreTakenCanBeStored(t *testing.T) {
	for _, seed := range parcelSeeds() {
		p, err := ParseParcel(seed)
		if err != nil {
			t.Fatal(err)
		}
		storeParcel(t, p)
	}
}

func storeParcel(t *testing.T, p *Parcel) {
	s, err := Open(Options{Dir: "spool", FS: vfs.NewMem(), MemTableSize: 256 << 10, CacheSize: 1 << 20,
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }})
	if err != nil {
		t.Fatal(err)
	}
	p.To = s.NodeID()
	got, err := s.Receive(p, nil)
	if err != nil || got != Stored {
		t.Errorf("%q, %v", got, err)
	}
	for i := range p.Items {
		if _, err := s.Message(p.Items[i].Message.ID); err != nil {
			t.Error(err)
		}
	}
	if r, err := s.Verify(nil); err != nil || !r.OK() || r.Deliveries != int64(p.Deliveries()) {
		t.Errorf("%v %+v", err, r)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
