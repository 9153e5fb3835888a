package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// The form on the wire. All numbers are unsigned varints unless said otherwise.
//
//	magic 'H', 'R' (report) or 'A' (answer)
//	version of the writer, oldest version that can read it
//	sections in rising order of their tag: tag, length, that many bytes
//
// A string stands once, in the section of strings; elsewhere it is its place
// there, counted from 1, and 0 is "".
//
// How N and N-1 understand each other: what a newer version has to say it says
// in sections of its own or behind the fields of the head; a reader skips tags
// that it does not know and what follows a head that it does. The rows of a
// section never change.
const (
	// ContentType is that of reports and answers over HTTP.
	ContentType = "application/vnd.hikyaku.exchange"

	wireVersion    = 1
	wireMinVersion = 1

	tagStrings = 1
	tagHead    = 2
	tagScopes  = 3 // demands or grants
	tagSources = 4
	tagSignals = 5
	tagHomes   = 6
	tagTallies = 7
	tagSamples = 8
	// tagCarrierHomes are homes for one carrier, which readers of before do not
	// know: to them mail waits where it is.
	tagCarrierHomes = 9
	// tagTallied is that of a report whose tallies were sent before. Readers of
	// before count them again.
	tagTallied = 10

	// maxString bounds a string, and maxStrings their number.
	maxString  = 512
	maxStrings = 1 << 16
	// MaxHomes bounds the pools of an answer, MaxHomeNodes the nodes of each.
	MaxHomes     = 4096
	MaxHomeNodes = 16
	// MaxCount bounds whatever is counted, so that sums over all nodes do not
	// overflow.
	MaxCount = 1 << 50
)

// ErrVersion says that the peer's version is too new or too old to be
// understood.
var ErrVersion = errors.New("the peer speaks another version of the exchange")

// The fields of a Scope, by bit.
const (
	hasCarrier = 1 << iota
	hasSite
	hasPool
	hasSource
	hasTenant
	hasStream
	hasJob
)

// scopeFields are the fields that each kind may use.
var scopeFields = [kinds]byte{
	Carrier:       hasCarrier | hasSite,
	CarrierPool:   hasCarrier | hasSite | hasPool,
	CarrierSource: hasCarrier | hasSite | hasSource,
	Tenant:        hasTenant,
	TenantCarrier: hasTenant | hasCarrier,
	Stream:        hasTenant | hasStream,
	Job:           hasTenant | hasJob,
}

// fields gives the scope's texts in the order of their bits.
func (s *Scope) fields() [7]*string {
	return [7]*string{&s.Carrier, &s.Site, &s.Pool, &s.Source, &s.Tenant, &s.Stream, &s.Job}
}

// Check reports a kind that is unknown, or a field that the kind does not use.
func (s *Scope) Check() error {
	if s.Kind >= kinds {
		return fmt.Errorf("scope of unknown kind %d", s.Kind)
	}
	for i, f := range s.fields() {
		if *f != "" && scopeFields[s.Kind]&(1<<i) == 0 {
			return fmt.Errorf("scope of kind %s with %q, which it does not use", s.Kind, *f)
		}
	}
	return nil
}

// writer builds the sections of one message in one buffer. Strings are
// collected meanwhile and written last into the output, before the others.
type writer struct {
	body    []byte // sections but for the strings
	strings []byte
	places  map[string]uint64
	last    [10]cached // rows often repeat the text of the row before
	err     error
}

type cached struct {
	text  string
	place uint64
}

func (w *writer) fail(format string, a ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, a...)
	}
}

func (w *writer) uint(v uint64) { w.body = binary.AppendUvarint(w.body, v) }

// count writes what is never negative. A negative one is the caller's mistake
// and goes out as 0, since a node with a counter that slipped must not lose its
// exchange.
func (w *writer) count(v int64) { w.uint(uint64(min(max(v, 0), MaxCount))) }

func (w *writer) bool(v bool) {
	if v {
		w.uint(1)
	} else {
		w.uint(0)
	}
}

func (w *writer) float(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		v = 0
	}
	w.body = binary.LittleEndian.AppendUint64(w.body, math.Float64bits(v))
}

// text writes a reference. column tells the fields of a row apart.
func (w *writer) text(column int, s string) {
	if s == "" {
		w.uint(0)
		return
	}
	c := &w.last[column]
	if c.place == 0 || c.text != s {
		*c = cached{s, w.place(s)}
	}
	w.uint(c.place)
}

func (w *writer) place(s string) uint64 {
	if p, ok := w.places[s]; ok {
		return p
	}
	if len(s) > maxString {
		w.fail("a text of %d bytes: at most %d", len(s), maxString)
	}
	p := uint64(len(w.places) + 1)
	if p > maxStrings {
		w.fail("more than %d texts", maxStrings)
	}
	w.places[s] = p
	w.strings = binary.AppendUvarint(w.strings, uint64(len(s)))
	w.strings = append(w.strings, s...)
	return p
}

// section writes what fill does as a section; the length before it has a fixed
// width, since it is not known yet.
func (w *writer) section(tag uint64, fill func()) {
	w.uint(tag)
	at := len(w.body)
	w.body = append(w.body, 0, 0, 0, 0)
	fill()
	putFixedUvarint(w.body[at:at+4], uint64(len(w.body)-at-4))
}

// putFixedUvarint writes v as a varint of four bytes, which holds 28 bits:
// more than MaxWire needs.
func putFixedUvarint(b []byte, v uint64) {
	b[0], b[1], b[2], b[3] = byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21)&0x7f
}

// rows writes the number of rows, within their bound.
func (w *writer) rows(what string, n, most int) {
	if n > most {
		w.fail("%d %s: at most %d", n, what, most)
	}
	w.uint(uint64(n))
}

// finish appends the message to dst.
func (w *writer) finish(dst []byte, kind byte) ([]byte, error) {
	from := len(dst)
	if w.err != nil {
		return dst, fmt.Errorf("encode exchange: %w", w.err)
	}
	dst = append(dst, 'H', kind, wireVersion, wireMinVersion, tagStrings)
	var n [binary.MaxVarintLen64]byte
	counted := binary.PutUvarint(n[:], uint64(len(w.places)))
	dst = binary.AppendUvarint(dst, uint64(counted+len(w.strings)))
	dst = append(dst, n[:counted]...)
	dst = append(dst, w.strings...)
	dst = append(dst, w.body...)
	if len(dst)-from > MaxWire {
		return dst[:from], fmt.Errorf("encode exchange: %d bytes, at most %d", len(dst)-from, MaxWire)
	}
	return dst, nil
}

func (w *writer) scope(s *Scope) {
	if err := s.Check(); err != nil {
		w.fail("%w", err)
		return
	}
	w.uint(uint64(s.Kind))
	for i, f := range s.fields() {
		if scopeFields[s.Kind]&(1<<i) != 0 {
			w.text(i, *f)
		}
	}
}

func (w *writer) holding(h *Holding) {
	for _, v := range [...]int64{h.Share, h.Burst, h.LinkBurst, h.Connections, h.Issued, h.Void} {
		w.count(v)
	}
}

func newWriter(size int) *writer {
	return &writer{places: make(map[string]uint64, 256), body: make([]byte, 0, size)}
}

// AppendReport appends the report's form on the wire to dst. The error is a
// bound that the report does not keep (MaxScopes, …) or a Scope that is none.
func AppendReport(dst []byte, r *Report) ([]byte, error) {
	w := newWriter(256 + 24*len(r.Demands) + 8*len(r.Sources) + 12*len(r.Signals))
	w.section(tagHead, func() {
		w.text(0, r.Node)
		w.uint(uint64(r.Lease))
		w.uint(r.Serial)
		w.uint(uint64(r.Term))
		w.uint(r.Applied)
		w.count(int64(r.Left))
		w.count(r.Floor)
		w.count(r.Revision)
		w.bool(r.Draining)
		w.count(r.Queued)
		w.count(r.Stranded)
		w.float(r.PerSecond)
		w.float(min(r.SpoolFreePart, 1))
	})
	w.section(tagScopes, func() {
		w.rows("demands", len(r.Demands), MaxScopes)
		for i := range r.Demands {
			d := &r.Demands[i]
			w.scope(&d.Scope)
			w.holding(&d.Holding)
			for _, v := range [...]int64{d.Backlog, d.Used, d.Open, d.Spent, d.Returned, d.Kept} {
				w.count(v)
			}
		}
	})
	w.section(tagSources, func() {
		w.rows("sources", len(r.Sources), MaxSources)
		for i := range r.Sources {
			s := &r.Sources[i]
			w.text(0, s.Source)
			w.count(s.Epoch)
			w.bool(s.Released)
			w.text(1, s.Fault)
			w.count(s.Backlog)
		}
	})
	w.section(tagSignals, func() {
		w.rows("signals", len(r.Signals), MaxSignals)
		for i := range r.Signals {
			s := &r.Signals[i]
			w.text(0, s.Carrier)
			w.text(1, s.Source)
			w.text(2, s.Tenant)
			for _, v := range [...]uint32{s.Delivered, s.Deferred, s.Bounced, s.Connected, s.Refused} {
				w.uint(uint64(v))
			}
		}
	})
	w.tallies(r.Tallies)
	w.samples(r.Samples)
	if r.Tallied != 0 {
		w.section(tagTallied, func() { w.uint(r.Tallied) })
	}
	return w.finish(dst, 'R')
}

func (w *writer) tallies(ts []Tally) {
	w.section(tagTallies, func() {
		w.rows("tallies", len(ts), MaxTallies)
		for i := range ts {
			t := &ts[i]
			for column, s := range [...]string{t.Carrier, t.Site, t.Source, t.Tenant, t.Stream, t.Job, t.Domain, t.Category} {
				w.text(column, s)
			}
			w.uint(uint64(t.N))
		}
	})
}

func (w *writer) samples(ss []Sample) {
	w.section(tagSamples, func() {
		w.rows("samples", len(ss), MaxSamples)
		for i := range ss {
			s := &ss[i]
			for column, s := range [...]string{s.Carrier, s.Source, s.Category, s.Phase, s.Enhanced, s.Text} {
				w.text(column, s)
			}
			w.uint(uint64(s.Code))
			w.uint(uint64(s.N))
		}
	})
}

// homes writes those of the homes that are of this section.
func (w *writer) homes(tag uint64, hs []Home, of func(*Home) bool) {
	n := 0
	for i := range hs {
		if of(&hs[i]) {
			n++
		}
	}
	w.section(tag, func() {
		w.rows("pools", n, MaxHomes)
		for i := range hs {
			h := &hs[i]
			if !of(h) {
				continue
			}
			w.text(0, h.Pool)
			if tag == tagCarrierHomes {
				w.text(2, h.Carrier)
			}
			w.rows("nodes of a pool", len(h.Nodes), MaxHomeNodes)
			for _, node := range h.Nodes {
				w.text(1, node)
			}
		}
	})
}

// AppendAnswer appends the answer's form on the wire to dst; errors as in
// AppendReport.
func AppendAnswer(dst []byte, a *Answer) ([]byte, error) {
	w := newWriter(256 + 16*len(a.Grants))
	w.section(tagHead, func() {
		w.text(0, a.Leader)
		w.uint(uint64(a.Term))
		w.uint(a.Serial)
		w.count(int64(a.TTL))
		w.count(a.Floor)
		w.count(a.Rank)
		w.count(a.Members)
		w.count(a.Revision)
		w.bool(a.Drain)
	})
	w.section(tagScopes, func() {
		w.rows("grants", len(a.Grants), MaxScopes)
		for i := range a.Grants {
			w.scope(&a.Grants[i].Scope)
			w.holding(&a.Grants[i].Holding)
		}
	})
	w.homes(tagHomes, a.Homes, func(h *Home) bool { return h.Carrier == "" })
	w.homes(tagCarrierHomes, a.Homes, func(h *Home) bool { return h.Carrier != "" })
	return w.finish(dst, 'A')
}

// DecodeReport reads a report. Whatever the bytes are, it takes memory in
// proportion to their number and does not panic. r is overwritten; the memory of
// its slices is used again.
func DecodeReport(b []byte, r *Report) error {
	*r = Report{Demands: r.Demands[:0], Sources: r.Sources[:0], Signals: r.Signals[:0], Tallies: r.Tallies[:0], Samples: r.Samples[:0]}
	return decode(b, 'R', func(rd *reader, tag uint64) {
		switch tag {
		case tagHead:
			rd.reportHead(r)
		case tagScopes:
			r.Demands = readRows(rd, r.Demands, "demands", MaxScopes, 14, (*reader).demand)
		case tagSources:
			r.Sources = readRows(rd, r.Sources, "sources", MaxSources, 5, (*reader).source)
		case tagSignals:
			r.Signals = readRows(rd, r.Signals, "signals", MaxSignals, 8, (*reader).signal)
		case tagTallies:
			r.Tallies = readRows(rd, r.Tallies, "tallies", MaxTallies, 9, (*reader).tally)
		case tagSamples:
			r.Samples = readRows(rd, r.Samples, "samples", MaxSamples, 8, (*reader).sample)
		case tagTallied:
			r.Tallied = rd.uint()
		}
	})
}

// DecodeAnswer reads an answer, as DecodeReport does a report.
func DecodeAnswer(b []byte, a *Answer) error {
	*a = Answer{Grants: a.Grants[:0], Homes: a.Homes[:0]}
	return decode(b, 'A', func(rd *reader, tag uint64) {
		switch tag {
		case tagHead:
			rd.answerHead(a)
		case tagScopes:
			a.Grants = readRows(rd, a.Grants, "grants", MaxScopes, 8, (*reader).grant)
		case tagHomes:
			a.Homes = readRows(rd, a.Homes, "pools", MaxHomes, 2, (*reader).home)
		case tagCarrierHomes:
			var more []Home
			more = readRows(rd, more, "pools", MaxHomes, 3, (*reader).carrierHome)
			a.Homes = append(a.Homes, more...)
		}
	})
}

func (rd *reader) reportHead(r *Report) {
	r.Node = rd.text()
	r.Lease = rd.int()
	r.Serial = rd.uint()
	r.Term = rd.int()
	r.Applied = rd.uint()
	r.Left = time.Duration(rd.count())
	r.Floor = rd.share()
	r.Revision = rd.count()
	r.Draining = rd.bool()
	r.Queued = rd.count()
	r.Stranded = rd.count()
	r.PerSecond = rd.float(math.MaxFloat64)
	r.SpoolFreePart = rd.float(1)
}

func (rd *reader) answerHead(a *Answer) {
	a.Leader = rd.text()
	a.Term = rd.int()
	a.Serial = rd.uint()
	a.TTL = time.Duration(rd.count())
	a.Floor = rd.share()
	a.Rank = rd.count()
	a.Members = rd.count()
	a.Revision = rd.count()
	a.Drain = rd.bool()
}
