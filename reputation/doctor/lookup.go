package doctor

import (
	"context"
	"net/netip"
)

// Lookup asks DNS. No such name and no such records are both an empty answer
// without an error; an error says that it is not known.
type Lookup interface {
	// TXT is one text for each record, its strings joined.
	TXT(ctx context.Context, name string) ([]string, error)
	// MX is by preference. Host "" is null MX (RFC 7505).
	MX(ctx context.Context, name string) ([]MX, error)
	A(ctx context.Context, name string) ([]netip.Addr, error)
	AAAA(ctx context.Context, name string) ([]netip.Addr, error)
	PTR(ctx context.Context, a netip.Addr) ([]string, error)
}

// MX is one MX record.
type MX struct {
	Host       string
	Preference uint16
}

// addrs asks for the addresses of the family of a.
func addrs(ctx context.Context, l Lookup, name string, a netip.Addr) ([]netip.Addr, error) {
	if a.Is4() {
		return l.A(ctx, name)
	}
	return l.AAAA(ctx, name)
}
