package doctor_test

import (
	"context"
	"testing"
	"time"

	"hikyaku/bench/dns"
	"hikyaku/node/mx"
	"hikyaku/reputation/doctor"
)

// resolver is DNS over real packets.
type resolver struct{ *mx.Resolver }

func (r resolver) MX(ctx context.Context, name string) ([]doctor.MX, error) {
	found, err := r.Resolver.MX(ctx, name)
	out := make([]doctor.MX, len(found))
	for i, m := range found {
		out[i] = doctor.MX(m)
	}
	return out, err
}

// soa makes what is not in the zone not exist.
const soa = `
$TTL 300
.  SOA ns.test. hostmaster.test. 1 3600 600 86400 60
`

// zone serves records on loopback and asks for them.
func zone(t testing.TB, text string) (resolver, *dns.Server) {
	t.Helper()
	s, err := dns.Start(soa+text, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := mx.New(mx.Config{Servers: []string{s.Addr()}, Timeout: 10 * time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return resolver{r}, s
}
