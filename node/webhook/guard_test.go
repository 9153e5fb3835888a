package webhook_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
)

func TestAllowed(t *testing.T) {
	for a, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1:248:1893:25c8:1946": true, "64:ff9b::5db8:d822": true, "2002:5db8:d822::1": true,
		"127.0.0.1": false, "127.255.0.9": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "172.32.0.1": true, "192.168.1.1": false,
		"169.254.169.254": false, "100.100.100.200": false, "192.0.0.192": false, "168.63.129.16": false, "0.0.0.0": false, "0.1.2.3": false,
		"224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false, "::": false, "::1": false, "::127.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:93.184.216.34": true,
		"fe80::1": false, "fe80::1%eth0": false, "2606:2800::1%eth0": false, "fd00:ec2::254": false, "fc00::1": false, "fec0::1": false, "ff02::1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2002:7f00:1::1": false, "2002:a00:1::": false, "2001::1": false,
		// IPv4-translated (RFC 2765), local-use and unassigned blocks: the public Internet is 2000::/3.
		"::ffff:0:127.0.0.1": false, "::ffff:0:10.0.0.1": false, "1::1": false, "4000::1": false, "5f00::1": false, "fd20:ce::254": false, "100:0:0:1::1": false,
	} {
		if got := webhook.Allowed(netip.MustParseAddr(a), nil); got != want {
			t.Errorf("%s: allowed %v, want %v", a, got, want)
		}
	}
	if webhook.Allowed(netip.Addr{}, nil) {
		t.Error("no address is allowed")
	}
	ten := []policy.Network{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}
	if !webhook.Allowed(netip.MustParseAddr("::ffff:10.1.2.3"), ten) || webhook.Allowed(netip.MustParseAddr("10.2.0.1"), ten) {
		t.Error("allow_networks does not decide")
	}
}

// onLoopback is webhooks on the machine's own network.
func onLoopback(t *testing.T, lookup func(host string) []string, roots *x509.CertPool) *webhook.Hooks {
	t.Helper()
	h, err := webhook.New(webhook.Options{
		Node: "n1", Store: "ab12", Log: newMemLog(), Dir: t.TempDir(), Roots: roots,
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			var out []netip.Addr
			for _, a := range lookup(host) {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func ping(t *testing.T, h *webhook.Hooks, w *policy.Webhook) webhook.Tested {
	t.Helper()
	h.Apply(&policy.Set{Webhooks: map[string]*policy.Webhook{"h": w}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := h.Test(ctx, "h")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var loopback = []policy.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}

func TestPrivateAddressesAreRefused(t *testing.T) {
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port := u.Port()
	for _, c := range []struct {
		name, url string
		addrs     []string
	}{
		{"loopback", "http://127.0.0.1:" + port, nil},
		{"mapped", "http://[::ffff:127.0.0.1]:" + port, nil},
		{"by name", "http://hooks.test:" + port, []string{"127.0.0.1"}},
		{"one of many", "http://hooks.test:" + port, []string{"93.184.216.34", "127.0.0.1"}},
		{"unspecified", "http://0.0.0.0:" + port, nil},
		{"metadata", "http://169.254.169.254/latest", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := onLoopback(t, func(string) []string { return c.addrs }, nil)
			w := hook("x")
			w.URL = c.url
			if got := ping(t, h, w); got.Status != 0 || !strings.Contains(got.Error, "private, local or reserved") {
				t.Errorf("%+v", got)
			}
		})
	}
	if hits.Load() != 0 {
		t.Fatal("somebody was asked")
	}
	// The negative control: the same server, allowed.
	h := onLoopback(t, func(string) []string { return []string{"127.0.0.1"} }, nil)
	w := hook("x")
	w.URL, w.AllowNetworks = "http://hooks.test:"+port, loopback
	if got := ping(t, h, w); got.Status != 200 || hits.Load() != 1 {
		t.Errorf("allowed: %+v", got)
	}
}

// TestRebindingIsCaughtAtTheSocket gives the judge a public address and the
// socket a private one, which is what a name does that changes its answer
// between two look-ups.
func TestRebindingIsCaughtAtTheSocket(t *testing.T) {
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer s.Close()
	inner := netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
	rebind := func(watch bool) webhook.Tested {
		h := onLoopback(t, func(string) []string { return []string{"93.184.216.34"} }, nil)
		h.SetDial(func(ctx context.Context, _ netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
			if !watch {
				check = func(netip.Addr) error { return nil }
			}
			return webhook.Dial(ctx, inner, check)
		})
		w := hook("hooks.test")
		return ping(t, h, w)
	}
	if got := rebind(true); got.Status != 0 || !strings.Contains(got.Error, "private, local or reserved") || hits.Load() != 0 {
		t.Errorf("%+v", got)
	}
	if got := rebind(false); got.Status != 200 || hits.Load() != 1 {
		t.Errorf("negative control: %+v", got)
	}
}

func TestNamesAreLookedUpForEachConnection(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	defer s.Close()
	n := 0
	h := onLoopback(t, func(string) []string {
		if n++; n > 1 {
			return []string{"10.0.0.1"}
		}
		return []string{"127.0.0.1"}
	}, nil)
	w := hook("x")
	w.URL, w.AllowNetworks = strings.Replace(s.URL, "127.0.0.1", "hooks.test", 1), loopback
	if got := ping(t, h, w); got.Status != 200 {
		t.Errorf("first: %+v", got)
	}
	if got := ping(t, h, w); got.Status != 0 || !strings.Contains(got.Error, "10.0.0.1") {
		t.Errorf("second: %+v", got)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var hits atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer inside.Close()
	for _, code := range []int{301, 302, 307, 308} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL, code) }))
		h := onLoopback(t, nil, nil)
		w := hook("x")
		w.URL, w.AllowNetworks = s.URL, loopback
		if got := ping(t, h, w); got.Status != code || got.Error == "" || hits.Load() != 0 {
			t.Errorf("%d: %+v, %d requests inside", code, got, hits.Load())
		}
		s.Close()
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	w := hook("x")
	w.URL, w.AllowNetworks = strings.Replace(s.URL, "127.0.0.1", "example.com", 1), loopback
	here := func(string) []string { return []string{"127.0.0.1"} }
	if got := ping(t, onLoopback(t, here, nil), w); got.Status != 0 || !strings.Contains(got.Error, "certificate") {
		t.Errorf("unknown authority: %+v", got)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate()) // names example.com and 127.0.0.1
	if got := ping(t, onLoopback(t, here, roots), w); got.Status != 200 {
		t.Errorf("known authority: %+v", got)
	}
	w = hook("x")
	w.URL, w.AllowNetworks = strings.Replace(s.URL, "127.0.0.1", "other.test", 1), loopback
	if got := ping(t, onLoopback(t, here, roots), w); got.Status != 0 || !strings.Contains(got.Error, "other.test") {
		t.Errorf("another name: %+v", got)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
			return
		}
		w.WriteHeader(500)
		for range 1000 {
			if _, err := w.Write([]byte("no\x1b[31m \x00way " + strings.Repeat("y", 10_000))); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	h := onLoopback(t, nil, nil)
	w := hook("x")
	w.URL, w.AllowNetworks = s.URL+"/body", loopback
	if got := ping(t, h, w); got.Status != 500 || len(got.Error) > 250 || !strings.HasPrefix(got.Error, "HTTP 500: no [31m way yyy") {
		t.Errorf("%+v", got)
	}
	w = hook("x")
	w.URL, w.AllowNetworks = s.URL+"/header", loopback
	if got := ping(t, h, w); got.Status != 0 || got.Error == "" {
		t.Errorf("%+v", got)
	}
}

func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	if onLoopback(t, nil, nil).HasProxy() {
		t.Error("a proxy would be asked")
	}
}
