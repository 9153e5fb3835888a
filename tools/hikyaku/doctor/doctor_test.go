package doctor

import (
	"testing"

	"hikyaku/reputation/doctor"
)

func TestTheKeyOfTheNearestDomainSigns(t *testing.T) {
	all := []doctor.Key{{Domain: "example.com", Selector: "a"}, {Domain: "news.example.com", Selector: "b"}}
	for domain, want := range map[string]string{"example.com": "a", "x.example.com": "a", "news.example.com": "b", "x.news.example.com": "b", "example.org": ""} {
		got := ""
		for _, k := range keysFor(domain, all) {
			got += k.Selector
		}
		if got != want {
			t.Errorf("%s is signed by %q, want %q", domain, got, want)
		}
	}
}
