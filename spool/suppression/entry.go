package suppression

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is where an entry comes from.
type Kind uint8

// The kinds. The numbers are on disk.
const (
	Bounce      Kind = 1
	Complaint   Kind = 2
	Unsubscribe Kind = 3
	Manual      Kind = 4
	Import      Kind = 5

	kinds = 6
)

var kindWords = [kinds]string{Bounce: "bounce", Complaint: "complaint", Unsubscribe: "unsubscribe", Manual: "manual", Import: "import"}

// Kinds are the words, in the order of the numbers.
func Kinds() []string { return append([]string(nil), kindWords[1:]...) }

// String is the word.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return ""
	}
	return kindWords[k]
}

// ParseKind reads a word.
func ParseKind(s string) (Kind, bool) {
	for k, w := range kindWords {
		if w == s && w != "" {
			return Kind(k), true
		}
	}
	return 0, false
}

// Entry says that an address gets no mail of a tenant, or of one of its streams.
type Entry struct {
	Tenant   string // "" is all tenants
	Address  string // as message.SuppressionKey gives it
	Stream   string // "" is all streams
	Kind     Kind
	Category string    // what the reply meant, for a bounce
	Reason   string    // the reply's text, or what a person said; cut at MaxReason
	Event    string    // id of the delivery it comes from
	By       string    // who: a key's name, "node tokyo-1"
	Added    time.Time // zero: now
	Expires  time.Time // zero: never
}

// Ref names an entry.
type Ref struct{ Tenant, Address, Stream string }

// Bounds of an entry, in bytes.
const (
	MaxTenant   = 64
	MaxLocal    = 128 // RFC 5321 4.5.3.1.1 has 64; some carriers and SMTPUTF8 have more
	MaxDomain   = 255
	MaxStream   = 128
	MaxCategory = 32
	MaxReason   = 512
	MaxEvent    = 64
	MaxBy       = 160
)

// ErrInvalid: an entry cannot be stored as it is.
var ErrInvalid = errors.New("invalid")

// Check says what is wrong with a name.
func (r *Ref) Check() error {
	local, domain := splitAddress(r.Address)
	switch {
	case len(r.Tenant) > MaxTenant || bad(r.Tenant):
		return fmt.Errorf("%w tenant %.40q", ErrInvalid, r.Tenant)
	case local == "" || domain == "":
		return fmt.Errorf("%w address %.80q: want local@domain", ErrInvalid, r.Address)
	case len(local) > MaxLocal || len(domain) > MaxDomain || bad(r.Address):
		return fmt.Errorf("%w address %.80q", ErrInvalid, r.Address)
	case len(r.Stream) > MaxStream || bad(r.Stream):
		return fmt.Errorf("%w stream %.40q", ErrInvalid, r.Stream)
	}
	return nil
}

// bad reports whether text has control bytes: NUL separates the parts of a key.
func bad(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return !utf8.ValidString(s)
}

// Ref is the entry's name.
func (e *Entry) Ref() Ref { return Ref{e.Tenant, e.Address, e.Stream} }

// Check says what is wrong with an entry. Texts that are only too long are cut
// when it is stored.
func (e *Entry) Check() error {
	r := e.Ref()
	if err := r.Check(); err != nil {
		return err
	}
	switch {
	case e.Kind == 0 || e.Kind >= kinds:
		return fmt.Errorf("%w kind %d", ErrInvalid, e.Kind)
	case !e.Added.IsZero() && !sane(e.Added), !e.Expires.IsZero() && !sane(e.Expires):
		return fmt.Errorf("%w time: want one of the years 1970 to 2200", ErrInvalid)
	}
	return nil
}

// latest bounds times, so that one foreign stamp cannot leave no later one.
var latest = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

func sane(t time.Time) bool { return t.Unix() > 0 && t.Before(latest) }

// splitAddress cuts at the last "@": a local part may hold some.
func splitAddress(a string) (local, domain string) {
	i := strings.LastIndexByte(a, '@')
	if i < 0 {
		return "", ""
	}
	return a[:i], a[i+1:]
}

// cut shortens text to n bytes at the beginning of a rune, and makes it UTF-8
// without control bytes.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	if !bad(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
