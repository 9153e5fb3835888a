package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds on the texts of one answer.
const (
	MaxTexts     = 64
	maxTextBytes = 64 << 10 // of all together, which is what a message can hold
)

// ErrLookup says that a question got no answer that can be relied on: whether
// there are such records is not known.
var ErrLookup = errors.New("look-up failed")

// Record is one MX record. Host is "" for the root (RFC 7505).
type Record struct {
	Host       string
	Preference uint16
}

// TXT is the text records of a name, each with its strings joined as they stand.
// No such name and no such records are both an empty answer without an error, as
// for the other look-ups here.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	rec, err := r.records(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	return rec.texts, nil
}

// MX is the MX records of a name by preference, as they stand: without the
// address of the domain in their place.
func (r *Resolver) MX(ctx context.Context, name string) ([]Record, error) {
	rec, err := r.records(ctx, name, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	out := make([]Record, len(rec.mx))
	for i, m := range rec.mx {
		out[i] = Record{Host: m.host, Preference: m.pref}
	}
	return out, nil
}

// A is the IPv4 addresses of a name.
func (r *Resolver) A(ctx context.Context, name string) ([]netip.Addr, error) {
	rec, err := r.records(ctx, name, dns.TypeA)
	if err != nil {
		return nil, err
	}
	return rec.addrs, nil
}

// AAAA is the IPv6 addresses of a name.
func (r *Resolver) AAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	rec, err := r.records(ctx, name, dns.TypeAAAA)
	if err != nil {
		return nil, err
	}
	return rec.addrs, nil
}

// PTR is the names of an address.
func (r *Resolver) PTR(ctx context.Context, a netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return nil, fmt.Errorf("name of %s in the reverse zone: %w", a, err)
	}
	rec, err := r.records(ctx, name, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	return rec.texts, nil
}

// records asks one question. A name that no record can have gets the answer that
// there are none.
func (r *Resolver) records(ctx context.Context, name string, qtype uint16) (*records, error) {
	k := key{plain(name), qtype}
	if !hostName(k.name) {
		return &records{status: noName}, nil
	}
	rec := r.lookup(ctx, k, time.Now())
	if rec.status == failed {
		return nil, fmt.Errorf("%w: %s for %s: %s", ErrLookup, dns.TypeToString[qtype], k.name, rec.why)
	}
	return rec, nil
}

// addText joins the strings of a record (RFC 7208 3.3, RFC 6376 3.6.2.2), which
// the library keeps as a zone file writes them.
func (r *records) addText(v *dns.TXT) {
	var b strings.Builder
	for _, s := range v.Txt {
		unescape(&b, s)
	}
	all := b.Len()
	for _, t := range r.texts {
		all += len(t)
	}
	if len(r.texts) < MaxTexts && all <= maxTextBytes {
		r.texts = append(r.texts, b.String())
	}
}

// unescape undoes \DDD and \X (RFC 1035 5.1).
func unescape(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
}
