package suppression

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Filter picks entries. Empty fields pick all.
type Filter struct {
	Tenant *string // nil: all lists; "": the global one
	Domain string
	Prefix string // of the address
	Stream string
	Kind   Kind
	Since  time.Time // added at or after
	Until  time.Time // added before
}

// Page is part of a listing, in the order tenant, domain, local part, stream.
type Page struct {
	Entries []Entry
	// Next is the cursor of the next page, "" when this was the last. A page may
	// be short, or empty, and not be the last.
	Next string
}

// maxLook bounds the records that one page looks at, so that a search for what is
// rare gives way now and then.
const maxLook = 100_000

// List gives up to limit entries after a cursor.
func (s *Store) List(f Filter, cursor string, limit int) (Page, error) {
	var page Page
	low, high := f.bounds()
	if cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(after) > maxKey || len(after) == 0 || after[0] != kindEntry {
			return page, fmt.Errorf("%w: not a cursor of this listing", ErrInvalid)
		}
		if after = append(after, 0); bytes.Compare(after, low) > 0 {
			low = after
		}
	}
	if err := s.enter(); err != nil {
		return page, err
	}
	defer s.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		return page, err
	}
	now, looked := s.o.Now(), 0
	var last []byte
	ok := it.First()
	for ok {
		if jump := f.jump(it.Key()); jump != nil {
			ok = it.SeekGE(jump)
			continue
		}
		if len(page.Entries) >= limit || looked >= maxLook {
			page.Next = base64.RawURLEncoding.EncodeToString(last)
			break
		}
		looked++
		last = append(last[:0], it.Key()...)
		if e, live := s.entryAt(it, now); live && f.picks(&e) {
			page.Entries = append(page.Entries, e)
		}
		ok = it.Next()
	}
	return page, errors.Join(it.Error(), it.Close())
}

// within is the part of a key behind the tenant with which all begin that the
// filter picks: a domain, and a beginning of the local part. The prefix is taken
// up to its first "@", since a local part may hold some.
func (f *Filter) within() []byte {
	if f.Domain == "" {
		return nil
	}
	local, _, _ := strings.Cut(f.Prefix, "@")
	return append(append([]byte(f.Domain), 0), local...)
}

// bounds is the range in which the entries lie.
func (f *Filter) bounds() (low, high []byte) {
	low = []byte{kindEntry}
	if f.Tenant == nil {
		return low, []byte{kindEntry + 1}
	}
	low = append(append(append(low, *f.Tenant...), 0), f.within()...)
	return low, after(low)
}

// after is the first key behind all that begin with a prefix.
func after(prefix []byte) []byte {
	b := bytes.Clone(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return nil
}

// jump is where a search for a domain over all tenants goes on, nil for here.
func (f *Filter) jump(k []byte) []byte {
	within := f.within()
	if f.Tenant != nil || within == nil {
		return nil
	}
	tenant, rest, _ := bytes.Cut(k[1:], []byte{0})
	to := append(append([]byte{kindEntry}, tenant...), 0)
	switch {
	case bytes.HasPrefix(rest, within):
		return nil
	case bytes.Compare(rest, within) < 0:
		return append(to, within...)
	}
	return after(to)
}

func (f *Filter) picks(e *Entry) bool {
	switch {
	case f.Stream != "" && e.Stream != f.Stream,
		f.Kind != 0 && e.Kind != f.Kind,
		!f.Since.IsZero() && e.Added.Before(f.Since),
		!f.Until.IsZero() && !e.Added.Before(f.Until),
		!strings.HasPrefix(e.Address, f.Prefix):
		return false
	}
	return true
}
