package catalogue_test

import (
	"testing"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

// BenchmarkNew is what the catalogue adds to each revision of policy.
func BenchmarkNew(b *testing.B) {
	local := []policy.Resource{carrier("docomo", policy.Carrier{MessagesPerConnection: 7})}
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			if _, problems := policy.New(local); problems != nil {
				b.Fatal(problems)
			}
		}
	})
	b.Run("with", func(b *testing.B) {
		for b.Loop() {
			if _, problems := policy.New(catalogue.Over(local)); problems != nil {
				b.Fatal(problems)
			}
		}
	})
}

func BenchmarkCarrierOf(b *testing.B) {
	s := set(b)
	mx := []string{"alt1.aspmx.l.google.com", "alt2.aspmx.l.google.com", "aspmx.l.google.com"}
	b.ReportAllocs()
	for b.Loop() {
		if s.CarrierOf("shop.example", mx) != "gmail" {
			b.Fatal("another carrier")
		}
	}
}
