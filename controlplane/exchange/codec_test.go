package exchange_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
)

func holding(n int64) exchange.Holding {
	return exchange.Holding{Share: n % (exchange.FullShare + 1), Burst: n, LinkBurst: n + 1, Connections: n + 2, Issued: n + 3, Void: n}
}

// everyKind has a scope of each kind with all the fields that it uses.
var everyKind = []exchange.Scope{
	{Kind: exchange.Carrier, Carrier: "google"},
	{Kind: exchange.Carrier, Carrier: "default", Site: "mx.example.net"},
	{Kind: exchange.CarrierPool, Carrier: "google", Pool: "bulk"},
	{Kind: exchange.CarrierSource, Carrier: "google", Source: "s1"},
	{Kind: exchange.Tenant, Tenant: "acme"},
	{Kind: exchange.TenantCarrier, Tenant: "acme", Carrier: "google"},
	{Kind: exchange.Stream, Tenant: "acme", Stream: "bulk"},
	{Kind: exchange.Job, Tenant: "acme", Job: "j-1"},
}

func someReport() *exchange.Report {
	r := &exchange.Report{
		Node: "a1", Lease: math.MaxInt64, Serial: math.MaxUint64, Term: 7, Applied: 6, Left: 4500 * time.Millisecond, Floor: exchange.FullShare,
		Revision: 12, Draining: true, Queued: 1e6, Stranded: 3, PerSecond: 1234.5, SpoolFreePart: 0.25,
		Sources: []exchange.HeldSource{{Source: "s1", Epoch: 4, Released: true, Backlog: 9}, {Source: "s2", Epoch: 1, Fault: "not on this machine"}},
		Signals: []exchange.Signal{{Carrier: "google", Source: "s1", Tenant: "acme", Delivered: 1, Deferred: 2, Bounced: 3, Connected: 4, Refused: math.MaxUint32}, {}},
		Tallies: []exchange.Tally{{Carrier: "default", Site: "mx.example.net", Source: "s1", Tenant: "acme", Stream: "bulk", Job: "j", Domain: "acme.example", Category: "rate", N: 7}, {}},
		Tallied: 41,
		Samples: []exchange.Sample{{Carrier: "google", Source: "s1", Category: "unknown", Phase: "rcpt", Code: 550, Enhanced: "5.7.1", Text: "go away", N: 2}, {}},
	}
	for i, s := range everyKind {
		n := int64(i) * 1000
		r.Demands = append(r.Demands, exchange.Demand{Scope: s, Holding: holding(n), Backlog: n + 1, Used: n + 2, Open: n + 3, Spent: n + 4, Returned: n + 5, Kept: exchange.MaxCount})
	}
	return r
}

func someAnswer() *exchange.Answer {
	a := &exchange.Answer{
		Leader: "c1", Term: 9, Serial: 8, TTL: exchange.GrantTTL, Floor: 300, Rank: 2, Members: 3, Revision: 5, Drain: true,
		Homes: []exchange.Home{{Pool: "bulk", Nodes: []string{"a2", "a1"}}, {Pool: "x", Nodes: []string{}}, {Pool: "bulk", Carrier: "docomo", Nodes: []string{"a3"}}},
	}
	for i, s := range everyKind {
		a.Grants = append(a.Grants, exchange.Grant{Scope: s, Holding: holding(int64(i))})
	}
	return a
}

func wireReport(t testing.TB, r *exchange.Report) []byte {
	t.Helper()
	b, err := exchange.AppendReport(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wireAnswer(t testing.TB, a *exchange.Answer) []byte {
	t.Helper()
	b, err := exchange.AppendAnswer(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []*exchange.Report{someReport(), {Node: "a", Demands: []exchange.Demand{}, Sources: []exchange.HeldSource{}, Signals: []exchange.Signal{}, Tallies: []exchange.Tally{}, Samples: []exchange.Sample{}}} {
		got := *someReport() // what was there is overwritten
		if err := exchange.DecodeReport(wireReport(t, want), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("report\n%+v\nis read as\n%+v", want, got)
		}
	}
	for _, want := range []*exchange.Answer{someAnswer(), {Leader: "c", Grants: []exchange.Grant{}, Homes: []exchange.Home{}}} {
		got := *someAnswer()
		if err := exchange.DecodeAnswer(wireAnswer(t, want), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("answer\n%+v\nis read as\n%+v", want, got)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	b, err := exchange.AppendAnswer([]byte("before"), someAnswer())
	if err != nil || !bytes.HasPrefix(b, []byte("before")) || !bytes.Equal(b[6:], wireAnswer(t, someAnswer())) {
		t.Errorf("%q, %v", b[:6], err)
	}
	b, err = exchange.AppendAnswer([]byte("before"), &exchange.Answer{Leader: strings.Repeat("x", 513)})
	if err == nil || string(b) != "before" {
		t.Errorf("after an error %q, %v", b, err)
	}
}

func TestEncoderRefuses(t *testing.T) {
	for name, r := range map[string]*exchange.Report{
		"too many scopes":  {Demands: make([]exchange.Demand, exchange.MaxScopes+1)},
		"too many sources": {Sources: make([]exchange.HeldSource, exchange.MaxSources+1)},
		"too many signals": {Signals: make([]exchange.Signal, exchange.MaxSignals+1)},
		"long text":        {Node: strings.Repeat("x", 513)},
		"unknown kind":     {Demands: []exchange.Demand{{Scope: exchange.Scope{Kind: 99}}}},
		"foreign field":    {Demands: []exchange.Demand{{Scope: exchange.Scope{Kind: exchange.Tenant, Tenant: "t", Pool: "p"}}}},
	} {
		if b, err := exchange.AppendReport(nil, r); err == nil || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// A counter that slipped below zero, or a rate of 0/0, costs no exchange.
func TestEncoderTamesNumbers(t *testing.T) {
	var got exchange.Report
	in := &exchange.Report{Node: "a", Left: -time.Second, Queued: -1, Stranded: math.MaxInt64, PerSecond: math.NaN(), SpoolFreePart: 1.5}
	if err := exchange.DecodeReport(wireReport(t, in), &got); err != nil {
		t.Fatal(err)
	}
	if got.Left != 0 || got.Queued != 0 || got.Stranded != exchange.MaxCount || got.PerSecond != 0 || got.SpoolFreePart != 1 {
		t.Errorf("%+v", got)
	}
}

// frame puts sections together as the codec does: tag, length, content.
func frame(version, oldest uint64, sections ...any) []byte {
	b := binary.AppendUvarint(binary.AppendUvarint([]byte("HR"), version), oldest)
	for i := 0; i < len(sections); i += 2 {
		content := sections[i+1].([]byte)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(sections[i].(int))), uint64(len(content)))
		b = append(b, content...)
	}
	return b
}

// head is a report's: node (place 1), zeros, two floats.
var head = append(append([]byte{1}, make([]byte, 10)...), make([]byte, 16)...)

func TestVersions(t *testing.T) {
	strs := []byte{1, 2, 'a', '1'}
	newer := append(bytes.Clone(head), "fields of version 2"...)
	var r exchange.Report
	for name, b := range map[string][]byte{
		"of this version":                 frame(1, 1, 1, strs, 2, head),
		"newer, with sections at its end": frame(2, 1, 1, strs, 2, head, 70, []byte("new"), 900, []byte{}),
		"newer, with more in its head":    frame(2, 1, 1, strs, 2, newer),
	} {
		if err := exchange.DecodeReport(b, &r); err != nil || r.Node != "a1" {
			t.Errorf("%s: node %q, %v", name, r.Node, err)
		}
	}
	for name, b := range map[string][]byte{
		"newer, and not for this one": frame(3, 2, 1, strs, 2, head),
		"older than any":              frame(0, 0, 1, strs, 2, head),
	} {
		if err := exchange.DecodeReport(b, &r); !errors.Is(err, exchange.ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	strs := []byte{1, 2, 'a', '1'}
	full := wireReport(t, someReport())
	with := func(tag int, content ...byte) []byte { return frame(1, 1, 1, strs, 2, head, tag, content) }
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"an answer":             wireAnswer(t, someAnswer()),
		"too much":              append(bytes.Clone(full), make([]byte, exchange.MaxWire)...),
		"no head":               frame(1, 1, 1, strs),
		"a section twice":       frame(1, 1, 1, strs, 2, head, 2, head),
		"sections out of order": frame(1, 1, 2, head, 1, strs),
		"a place beyond":        frame(1, 1, 1, []byte{0}, 2, head),
		"a text beyond":         frame(1, 1, 1, []byte{1, 200, 'a'}, 2, head),
		"texts without bytes":   frame(1, 1, 1, []byte{0xff, 0xff, 3}, 2, head),
		"rows without bytes":    with(3, 0x80, 0x20),
		"too many rows":         with(3, 0x81, 0x20),
		"bytes behind rows":     with(4, 0, 0),
		"an unknown kind":       with(3, append([]byte{1, 99}, make([]byte, 20)...)...),
		"a share beyond":        with(3, 1, 3, 0, 0x81, 0x80, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"a length beyond":       append(frame(1, 1, 1, strs, 2, head), 3, 50, 0),
		"an endless number":     append([]byte("HR"), bytes.Repeat([]byte{0xff}, 20)...),
		"a share of the disk":   frame(1, 1, 1, strs, 2, append(bytes.Clone(head[:19]), 0, 0, 0, 0, 0, 0, 0, 0x40)),
	} {
		var r exchange.Report
		if err := exchange.DecodeReport(b, &r); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for n := range full {
		var r exchange.Report
		if err := exchange.DecodeReport(full[:n], &r); err == nil && r.Tallied > 0 /* the last section */ {
			t.Errorf("the first %d bytes of %d were taken whole", n, len(full))
		}
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add(wireReport(f, someReport()))
	f.Add(wireReport(f, &exchange.Report{}))
	f.Add(frame(2, 1, 1, []byte{1, 2, 'a', '1'}, 2, head, 90, []byte("new")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again exchange.Report
		if exchange.DecodeReport(b, &r) != nil {
			return
		}
		if len(r.Demands) > exchange.MaxScopes || len(r.Sources) > exchange.MaxSources || len(r.Signals) > exchange.MaxSignals {
			t.Fatal("beyond its bounds")
		}
		for i := range r.Demands {
			if err := r.Demands[i].Check(); err != nil {
				t.Fatal(err)
			}
		}
		if err := exchange.DecodeReport(wireReport(t, &r), &again); err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", again) {
			t.Fatalf("%+v\nturned into\n%+v", r, again)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(wireAnswer(f, someAnswer()))
	f.Add(wireAnswer(f, &exchange.Answer{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again exchange.Answer
		if exchange.DecodeAnswer(b, &a) != nil {
			return
		}
		if len(a.Grants) > exchange.MaxScopes {
			t.Fatal("beyond its bounds")
		}
		if err := exchange.DecodeAnswer(wireAnswer(t, &a), &again); err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", again) {
			t.Fatalf("%+v\nturned into\n%+v", a, again)
		}
	})
}

// busy is the report of a node with 300 carriers × 50 sources at full work:
// something was said by every carrier to every source, and every carrier and
// carrier×pool has a budget.
func busy() *exchange.Report {
	r := &exchange.Report{Node: "node-17", Lease: 7587883131, Serial: 1e6, Term: 812345, Applied: 1e6 - 1, Left: 4 * time.Second, Queued: 2e6, PerSecond: 10_000}
	for c := range 300 {
		carrier := fmt.Sprintf("carrier-%03d", c)
		for p := range 10 {
			r.Demands = append(r.Demands, exchange.Demand{
				Scope:   exchange.Scope{Kind: exchange.CarrierPool, Carrier: carrier, Pool: fmt.Sprintf("pool-%d", p)},
				Holding: exchange.Holding{Share: 21845, Burst: 100, Connections: 50, Issued: 1e5, Void: 9e4}, Backlog: 12345, Used: 33, Open: 20, Spent: 95e3, Returned: 10,
			})
		}
		for s := range 50 {
			r.Signals = append(r.Signals, exchange.Signal{Carrier: carrier, Source: fmt.Sprintf("source-%02d", s), Tenant: "acme", Delivered: uint32(s), Deferred: 1, Connected: 2})
		}
	}
	for s := range 50 {
		r.Sources = append(r.Sources, exchange.HeldSource{Source: fmt.Sprintf("source-%02d", s), Epoch: 3, Backlog: 4000})
	}
	return r
}

func BenchmarkReport(b *testing.B) {
	r := busy()
	wire := wireReport(b, r)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = exchange.AppendReport(buf[:0], r); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(buf)), "wire-bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var got exchange.Report
		for b.Loop() {
			if err := exchange.DecodeReport(wire, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	a := &exchange.Answer{Leader: "c1", Term: 812345, Serial: 1e6, TTL: exchange.GrantTTL}
	for _, d := range busy().Demands {
		a.Grants = append(a.Grants, exchange.Grant{Scope: d.Scope, Holding: d.Holding})
	}
	b.ReportAllocs()
	var buf []byte
	var got exchange.Answer
	for b.Loop() {
		var err error
		if buf, err = exchange.AppendAnswer(buf[:0], a); err != nil {
			b.Fatal(err)
		}
		if err = exchange.DecodeAnswer(buf, &got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(buf)), "wire-bytes")
}
