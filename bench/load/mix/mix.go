package mix

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"sync/atomic"
	"time"
)

// Mix says what is sent. Everything about a message follows from Seed and its
// number, so a receiver knows what it must get without having been told, and
// two runs of one Mix send the same bytes. The zero value of a field is its
// default. Fields are not changed after Prepare.
type Mix struct {
	Seed       uint64
	Recipients int // in all, numbered from 0; 1 to 100,000,000

	// PerMessage is the recipients of a message; by HTTP, of a request. Default 1.
	PerMessage int
	// Spread, if given, has several such numbers by weight, instead of PerMessage.
	Spread []Count
	// Sizes of content. Default: 4 KiB, plain.
	Sizes []Share
	// Destinations of recipients. Default: few, 50 of them.
	Destinations Destinations
	// Tenants share the messages by weight. Default: one without a login.
	Tenants []Tenant
	// Streams share the messages of all tenants by weight. Default: none is named.
	Streams []Stream
	// Sender is the envelope sender and author. Default load@source.test.
	Sender string
	// Prefix stands before the number in local parts. Default "r".
	Prefix string
	// Job is the job of the messages. Default: none is named.
	Job string
	// Date is the Date header of all messages: the same bytes every time.
	// Default 2026-01-01 00:00 UTC.
	Date time.Time
	// Template makes HTTP requests with a template and variables instead of
	// whole messages.
	Template *Template

	ready   atomic.Bool
	date    string
	spread  spread
	sizes   alias
	tenants alias
	streams alias
	dest    chooser
	corpus  *corpus
}

// Count is a number of recipients and its weight among the messages.
type Count struct {
	Recipients int
	Weight     float64
}

// Kind is the structure of content.
type Kind string

// The kinds.
const (
	// Plain is one text/plain part of ASCII lines, of exactly the size.
	Plain Kind = "plain"
	// Multipart is shaped like real mail: text and HTML in quoted-printable as
	// alternatives, and a base64 attachment. Its size is met within 100 bytes,
	// from 2 KiB on.
	Multipart Kind = "multipart"
)

// Share is a size of content and its weight among the messages.
type Share struct {
	Bytes  int
	Weight float64
	Kind   Kind // default Plain
}

// Tenant is who submits.
type Tenant struct {
	Name     string
	Weight   float64
	Sender   string // default: the mix's
	User     string // SMTP login; none if empty
	Password string
	Key      string // HTTP API key; none if empty
}

// Stream is a traffic class.
type Stream struct {
	Name   string
	Weight float64
}

// Message is one message of the mix.
type Message struct {
	Index  int // of the message
	First  int // number of its first recipient
	Count  int // of recipients: First, First+1, …
	Size   int // of content in bytes
	Kind   Kind
	Tenant *Tenant
	Stream string
	Sender string
}

// Bounds of a mix.
const (
	maxRecipients = 100_000_000
	maxPerMessage = 65_000 // more than any listener's limit
	minBytes      = 512
	maxBytes      = 64 << 20
	minMultipart  = 2048
)

// Prepare checks the mix and builds its tables. load.New calls it; a receiver
// that has the mix alone calls it first. A second call does nothing.
func (m *Mix) Prepare() error {
	if m.ready.Load() {
		return nil
	}
	m.defaults()
	if err := errors.Join(m.check()...); err != nil {
		return fmt.Errorf("mix: %w", err)
	}
	m.date = m.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")
	m.spread = newSpread(m.Spread, m.Seed)
	m.sizes = newAlias(len(m.Sizes), func(i int) float64 { return m.Sizes[i].Weight })
	m.tenants = newAlias(len(m.Tenants), func(i int) float64 { return m.Tenants[i].Weight })
	m.streams = newAlias(len(m.Streams), func(i int) float64 { return m.Streams[i].Weight })
	m.dest = newChooser(m.Destinations, m.Seed)
	m.corpus = newCorpus(m.Seed)
	if m.Template != nil {
		if err := m.Template.prepare(m.corpus); err != nil {
			return fmt.Errorf("mix: template: %w", err)
		}
	}
	m.ready.Store(true)
	return nil
}

func (m *Mix) defaults() {
	if m.PerMessage == 0 {
		m.PerMessage = 1
	}
	if len(m.Spread) == 0 {
		m.Spread = []Count{{m.PerMessage, 1}}
	}
	if len(m.Sizes) == 0 {
		m.Sizes = []Share{{Bytes: 4096, Weight: 1}}
	}
	for i := range m.Sizes {
		if m.Sizes[i].Kind == "" {
			m.Sizes[i].Kind = Plain
		}
	}
	if len(m.Tenants) == 0 {
		m.Tenants = []Tenant{{Weight: 1}}
	}
	if m.Sender == "" {
		m.Sender = "load@source.test"
	}
	if m.Prefix == "" {
		m.Prefix = "r"
	}
	if m.Date.IsZero() {
		m.Date = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	m.Destinations.defaults()
}

func (m *Mix) check() (errs []error) {
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(m.Recipients >= 1 && m.Recipients <= maxRecipients, "recipients %d: want 1 to %d", m.Recipients, maxRecipients)
	for _, c := range m.Spread {
		bad(c.Recipients >= 1 && c.Recipients <= maxPerMessage, "recipients per message %d: want 1 to %d", c.Recipients, maxPerMessage)
		bad(weight(c.Weight), "weight %v of %d recipients per message: want more than 0", c.Weight, c.Recipients)
	}
	for _, s := range m.Sizes {
		least := minBytes
		if s.Kind == Multipart {
			least = minMultipart
		}
		bad(s.Kind == Plain || s.Kind == Multipart, "kind %q: want plain or multipart", s.Kind)
		bad(s.Bytes >= least && s.Bytes <= maxBytes, "size %d: want %d to %d", s.Bytes, least, maxBytes)
		bad(weight(s.Weight), "weight %v of size %d: want more than 0", s.Weight, s.Bytes)
	}
	for _, t := range m.Tenants {
		bad(weight(t.Weight), "weight %v of tenant %q: want more than 0", t.Weight, t.Name)
		bad(t.Sender == "" || mailbox(t.Sender), "sender %q of tenant %q: not an address", t.Sender, t.Name)
	}
	for _, s := range m.Streams {
		bad(weight(s.Weight) && name(s.Name), "stream %q, weight %v: want a name and more than 0", s.Name, s.Weight)
	}
	bad(mailbox(m.Sender), "sender %q: not an address", m.Sender)
	bad(m.Job == "" || name(m.Job), "job %q: want printable ASCII without spaces", m.Job)
	bad(name(m.Prefix) && !strings.ContainsAny(m.Prefix, "0123456789@<>\"(),:;[\\]"), "prefix %q: want letters", m.Prefix)
	return append(errs, m.Destinations.check()...)
}

func weight(w float64) bool { return w > 0 && !math.IsInf(w, 0) }

// name reports whether s can stand in a header or a path as it is.
func name(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// mailbox is as much as we need to be safe on the wire: the mix's own addresses
// are plain ones.
func mailbox(s string) bool {
	at := strings.IndexByte(s, '@')
	return at > 0 && at < len(s)-1 && name(s) && !strings.ContainsAny(s, "<>\"(),:;[\\] ") && strings.Count(s, "@") == 1
}

// Messages is how many messages the recipients make.
func (m *Mix) Messages() int {
	m.mustBeReady()
	i, _ := m.spread.locate(m.Recipients - 1)
	return i + 1
}

// Message is the i-th message, from 0 to Messages()-1.
func (m *Mix) Message(i int) Message {
	m.mustBeReady()
	first, count := m.spread.message(i)
	s := &m.Sizes[m.sizes.pick(m.hash(saltSize, i))]
	t := m.TenantOf(i)
	out := Message{Index: i, First: first, Count: min(count, m.Recipients-first), Size: s.Bytes, Kind: s.Kind, Tenant: t, Sender: t.Sender}
	if out.Sender == "" {
		out.Sender = m.Sender
	}
	if len(m.Streams) > 0 {
		out.Stream = m.Streams[m.streams.pick(m.hash(saltStream, i))].Name
	}
	return out
}

// TenantOf is the tenant of message i.
func (m *Mix) TenantOf(i int) *Tenant {
	if len(m.Tenants) == 1 {
		return &m.Tenants[0]
	}
	return &m.Tenants[m.tenants.pick(m.hash(saltTenant, i))]
}

// Largest is the most recipients of a message.
func (m *Mix) Largest() (n int) {
	for _, c := range m.Spread {
		n = max(n, c.Recipients)
	}
	return n
}

// MessageOf is the message that recipient n belongs to.
func (m *Mix) MessageOf(n int) int {
	m.mustBeReady()
	i, _ := m.spread.locate(n)
	return i
}

// AppendRecipient appends the address of recipient n.
func (m *Mix) AppendRecipient(dst []byte, n int) []byte {
	dst = appendInt(append(dst, m.Prefix...), n)
	return m.dest.appendDomain(append(dst, '@'), n)
}

// Domain is the destination of recipient n.
func (m *Mix) Domain(n int) string {
	m.mustBeReady()
	return string(m.dest.appendDomain(nil, n))
}

func (m *Mix) mustBeReady() {
	if !m.ready.Load() {
		panic("BUG: the mix is used before Prepare")
	}
}

// The salts keep what is drawn for one message independent of each other.
const (
	saltSize = iota + 1
	saltTenant
	saltStream
	saltDestination
	saltContent
	saltVariable
	saltArrival
	saltSpread
	saltCorpus
)

// Chance is a number from 0 up to 1 that belongs to i, for what a source draws:
// gaps between arrivals, waits.
func (m *Mix) Chance(i int) float64 { return unit(m.hash(saltArrival, i)) }

func (m *Mix) hash(salt, i int) uint64 { return hash(m.Seed, salt, i) }

// hash is SplitMix64's finalizer (Steele, Lea and Flood 2014) over a Weyl step:
// a few multiplications, and each bit of its input changes half of the output.
func hash(seed uint64, salt, i int) uint64 {
	x := mix64(seed+uint64(salt)*0x9e3779b97f4a7c15) + uint64(i)*0x9e3779b97f4a7c15
	return mix64(x)
}

func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit maps a hash to [0, 1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// spread maps messages to recipients, and back, without storing either: a
// pattern of counts, drawn once by seed, repeats.
type spread struct {
	first []int // of each message in the pattern; one more at the end: its recipients
}

// patternLen is the messages of a pattern: counts are met in the proportion of
// their weights to a thousandth.
const patternLen = 1024

func newSpread(counts []Count, seed uint64) spread {
	if len(counts) == 1 {
		return spread{first: []int{0, counts[0].Recipients}}
	}
	total := 0.0
	for _, c := range counts {
		total += c.Weight
	}
	pattern := make([]int, 0, patternLen)
	upTo := 0.0
	for _, c := range counts {
		upTo += c.Weight
		for len(pattern) < int(math.Round(upTo/total*patternLen)) {
			pattern = append(pattern, c.Recipients)
		}
	}
	for i := len(pattern) - 1; i > 0; i-- { // Fisher and Yates
		j := int(hash(seed, saltSpread, i) % uint64(i+1))
		pattern[i], pattern[j] = pattern[j], pattern[i]
	}
	s := spread{first: make([]int, 1, len(pattern)+1)}
	for i, n := range pattern {
		s.first = append(s.first, s.first[i]+n)
	}
	return s
}

// message is the first recipient of message i, and how many it has.
func (s *spread) message(i int) (first, count int) {
	n := len(s.first) - 1
	k := i % n
	return i/n*s.first[n] + s.first[k], s.first[k+1] - s.first[k]
}

// locate is the inverse: the message of recipient n, and its place in it.
func (s *spread) locate(n int) (i, place int) {
	messages, recipients := len(s.first)-1, s.first[len(s.first)-1]
	in := n % recipients
	k := 0
	if messages > 1 {
		k = sort.SearchInts(s.first, in+1) - 1
	}
	return n/recipients*messages + k, in - s.first[k]
}
