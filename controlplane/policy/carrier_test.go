package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"hikyaku/controlplane/policy"
)

func TestCarrierOfAddresses(t *testing.T) {
	s := mustSet(t,
		resource(t, "Carrier", "host", `{"mx_networks":["192.0.2.0/24","2001:db8::/32"]}`),
		resource(t, "Carrier", "one", `{"mx_networks":["192.0.2.9"]}`),
		resource(t, "Carrier", "google", `{"mx":[".google.com"]}`),
	)
	for _, tt := range []struct {
		mx    string
		addrs []string
		want  string
	}{
		{"mx.a.example", []string{"192.0.2.1", "2001:db8::5"}, "host"},
		{"mx.a.example", []string{"::ffff:192.0.2.1"}, "host"},
		{"mx.a.example", []string{"192.0.2.9"}, "one"}, // the smaller network
		{"mx.a.example", []string{"192.0.2.9", "192.0.2.1"}, "default"},
		{"mx.a.example", []string{"192.0.2.1", "198.51.100.1"}, "default"},
		{"mx.a.example", []string{"198.51.100.1", "192.0.2.1"}, "default"},
		{"mx.a.example", nil, "default"},
		{"mx.google.com", []string{"192.0.2.1"}, "google"},               // a name goes before an address
		{"mx.google.com mx.a.example", []string{"192.0.2.1"}, "default"}, // and a name that matches forbids guessing by address
		{"mx.a.example mx.google.com", []string{"192.0.2.1"}, "default"},
	} {
		var addrs []netip.Addr
		for _, a := range tt.addrs {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		if got := s.CarrierOf("x.jp", strings.Fields(tt.mx), addrs...); got != tt.want {
			t.Errorf("carrier of %s %v: %s, want %s", tt.mx, tt.addrs, got, tt.want)
		}
	}
}

func TestDisabledCarrierLeavesItsMail(t *testing.T) {
	s := mustSet(t,
		resource(t, "Carrier", "off", `{"mx":[".google.com"],"domains":["docomo.ne.jp"],"mx_networks":["192.0.2.0/24"],"odd_local_parts":"quoted","disabled":true}`),
		resource(t, "Carrier", "on", `{"mx":[".google.com"]}`), // what is left out claims nothing
		resource(t, "Route", "r", `{"domains":["r.jp"],"carrier":"off"}`),
		resource(t, "Throttle", "t", `{"carrier":"off","rate":"1/s"}`), // may still be spoken of
	)
	if got := s.CarrierOf("x.jp", []string{"mx.google.com"}); got != "on" {
		t.Errorf("by MX: %s", got)
	}
	if got := s.CarrierOf("docomo.ne.jp", nil, netip.MustParseAddr("192.0.2.1")); got != "default" {
		t.Errorf("by domain and address: %s", got)
	}
	route, _ := s.RouteOf("r.jp")
	if c, got := s.CarrierFor(route, "r.jp", nil); got != "default" || c != s.Carriers["default"] {
		t.Errorf("by route: %s", got)
	}
	if got := s.OddLocalPartsAt("docomo.ne.jp"); got != policy.OddRefuse {
		t.Errorf("odd local parts: %s", got)
	}
}

func TestOddLocalPartsAt(t *testing.T) {
	s := mustSet(t,
		resource(t, "Carrier", "docomo", `{"domains":["docomo.ne.jp"],"odd_local_parts":"quoted"}`),
		resource(t, "Carrier", "mx", `{"mx":[".docomo.ne.jp"],"odd_local_parts":"as-given"}`),
		resource(t, "Route", "r", `{"domains":["*.r.jp"],"carrier":"mx"}`),
	)
	for domain, want := range map[string]string{"docomo.ne.jp": "quoted", "a.r.jp": "as-given", "r.jp": "refuse", "[192.0.2.1]": "refuse", "": "refuse"} {
		if got := s.OddLocalPartsAt(domain); got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
}
