package budgets

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"hikyaku/controlplane/exchange"
)

// DayKey is a scope as the name of its record of daily counts: its kind and its
// fields, escaped, "carrier-source/docomo//s1". ParseDayKey reads it.
func DayKey(x exchange.Scope) string {
	parts := []string{x.Kind.String()}
	for _, f := range fields(&x) {
		parts = append(parts, url.PathEscape(*f))
	}
	return strings.Join(parts, "/")
}

// fields are those that a scope of its kind has.
func fields(x *exchange.Scope) []*string {
	switch x.Kind {
	case exchange.Carrier:
		return []*string{&x.Carrier, &x.Site}
	case exchange.CarrierPool:
		return []*string{&x.Carrier, &x.Site, &x.Pool}
	case exchange.CarrierSource:
		return []*string{&x.Carrier, &x.Site, &x.Source}
	case exchange.Tenant:
		return []*string{&x.Tenant}
	case exchange.TenantCarrier:
		return []*string{&x.Tenant, &x.Carrier}
	case exchange.Stream:
		return []*string{&x.Tenant, &x.Stream}
	case exchange.Job:
		return []*string{&x.Tenant, &x.Job}
	}
	return nil
}

// ParseDayKey reads what DayKey wrote, and nothing else.
func ParseDayKey(key string) (exchange.Scope, error) {
	parts := strings.Split(key, "/")
	for kind := exchange.Carrier; kind <= exchange.Job; kind++ {
		if kind.String() != parts[0] {
			continue
		}
		x := exchange.Scope{Kind: kind}
		f := fields(&x)
		if len(parts) != len(f)+1 {
			return exchange.Scope{}, fmt.Errorf("daily count %q: want %d fields after %s", key, len(f), kind)
		}
		for i, p := range parts[1:] {
			text, err := url.PathUnescape(p)
			if err != nil {
				return exchange.Scope{}, fmt.Errorf("daily count %q: %w", key, err)
			}
			*f[i] = text
		}
		if DayKey(x) != key {
			return exchange.Scope{}, fmt.Errorf("daily count %q: it is written in another way, as %q", key, DayKey(x))
		}
		return x, nil
	}
	return exchange.Scope{}, errors.New("daily count " + fmt.Sprintf("%q", key) + ": unknown kind")
}
