package node

import (
	"net"
	"strconv"
	"testing"

	"hikyaku/bench/dns"
	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

// byMX is a world that finds its receivers by DNS. All hosts of the zone are
// on loopback; mail goes to the port given.
func byMX(t *testing.T, zone, addr string, rs ...policy.Resource) (*world, *dns.Server) {
	t.Helper()
	server, err := dns.Start(zone, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, func(c *Config) {
		c.Resolver.Servers = []string{server.Addr()}
		c.Delivery.Port = uint16(p)
		c.Delivery.AllowNetworks = networks("127.0.0.0/8")
	}, append(rs, resource("default", &policy.Carrier{TLS: "none", Addresses: "ipv4"}))...), server
}

func TestWhatDNSSaysDecides(t *testing.T) {
	const zone = `
mx.test.        MX 10 host.test.
host.test.      A 127.0.0.1
implicit.test.  A 127.0.0.1
null.test.      MX 0 .
two.test.       MX 10 dead.test.
two.test.       MX 20 host.test.
dead.test.      A 127.0.0.66
noaddr.test.    MX 10 nothing.test.
nothing.test.   TXT "no address"
own.test.       MX 10 node.test.
broken.test.    A 127.0.0.1
`
	r := receive(t, sink.Options{})
	w, server := byMX(t, zone, r.Addr)
	server.SetFault("broken.test", "MX", &dns.Fault{Rcode: 2})
	for _, c := range []struct {
		domain string
		event  message.EventType
		code   uint16
		status string
	}{
		{"mx.test", message.EventDelivered, 250, "2.0.0"},
		{"implicit.test", message.EventDelivered, 250, "2.0.0"},
		{"two.test", message.EventDelivered, 250, "2.0.0"},
		{"null.test", message.EventBounced, 556, "5.1.10"},
		{"missing.test", message.EventBounced, 550, "5.1.2"},
		{"noaddr.test", message.EventBounced, 550, "5.4.4"},
		{"own.test", message.EventBounced, 554, "5.4.6"},
		{"broken.test", message.EventDeferred, 451, "4.4.3"},
	} {
		id := w.send(mail{from: "", to: []string{"a@" + c.domain}})
		e := w.waitFor(id, c.event, 1)[0]
		if e.Reply == nil || e.Reply.Code != c.code || e.Reply.Enhanced.String() != c.status {
			t.Errorf("%s: %s with %+v, want %d %s", c.domain, e.Type, e.Reply, c.code, c.status)
		}
		if c.event != message.EventDelivered && (e.Reply.Phase != message.PhaseResolve || e.Reply.Fault != message.FaultDNS) {
			t.Errorf("%s: phase %s, fault %s, want resolve and dns", c.domain, e.Reply.Phase, e.Reply.Fault)
		}
		if c.domain == "two.test" && e.Host != "host.test" {
			t.Errorf("two.test was delivered by %s", e.Host)
		}
	}
	// broken.test has an address. SERVFAIL for its MX is not "no MX".
	if n := r.to("a@broken.test"); n != 0 {
		t.Error("a temporary DNS failure fell back to the address")
	}
	w.balance()
}

func TestCarrierIsFoundByMXHost(t *testing.T) {
	r := receive(t, sink.Options{})
	w, _ := byMX(t, "a.test. MX 10 mx.big.test.\nb.test. MX 10 mx.big.test.\nmx.big.test. A 127.0.0.1\n", r.Addr, resource("big", &policy.Carrier{MX: []string{".big.test"}, TLS: "none", Addresses: "ipv4"}))
	for _, d := range []string{"a.test", "b.test"} {
		id := w.send(mail{from: "s@s.test", to: []string{"x@" + d}})
		if e := w.waitFor(id, message.EventDelivered, 1)[0]; e.Carrier != "big" {
			t.Errorf("%s went by carrier %q", d, e.Carrier)
		}
	}
	sites, err := w.Sites(t.Context(), api.ListFilter{Limit: 10})
	if err != nil || len(sites) != 1 || sites[0].Destinations != 2 {
		t.Errorf("sites: %+v, %v: want one for both destinations", sites, err)
	}
}

func TestCarrierIsFoundByTheAddressOfItsMXHost(t *testing.T) {
	r := receive(t, sink.Options{})
	w, _ := byMX(t, "own.test. MX 10 mx.own.test.\nmx.own.test. A 127.0.0.1\nmixed.test. MX 10 mx.own.test.\nmixed.test. MX 20 mx.else.test.\nmx.else.test. A 127.0.1.1\n", r.Addr,
		resource("hoster", &policy.Carrier{MXNetworks: networks("127.0.0.0/24"), TLS: "none"}))
	for domain, want := range map[string]string{"own.test": "hoster", "mixed.test": "default"} {
		id := w.send(mail{to: []string{"a@" + domain}})
		if e := w.waitFor(id, message.EventDelivered, 1)[0]; e.Carrier != want {
			t.Errorf("%s: carrier %s, want %s", domain, e.Carrier, want)
		}
	}
}

func TestSessionIsNotOpenedToWhereItsSiteIsNot(t *testing.T) {
	r := receive(t, sink.Options{})
	w, server := byMX(t, "moved.test. MX 10 old.test.\nstays.test. MX 10 old.test.\nold.test. A 127.0.0.1\nnew.test. A 127.0.0.1\n", r.Addr)
	o := &outbound{d: w.dispatch, carrier: policy.DefaultName, destination: "moved.test", set: w.Policy()}
	o.lane.Source, o.lane.Site = policy.DefaultName, "old.test"
	if target, reply := w.target(t.Context(), o); target == nil || reply != nil {
		t.Fatalf("target: %v", reply)
	}
	if err := server.SetZone("moved.test. MX 10 new.test.\nstays.test. MX 10 old.test.\nold.test. A 127.0.0.1\nnew.test. A 127.0.0.1\n"); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.start() // an empty DNS cache
	o.d, o.set = w.dispatch, w.Policy()
	// A lane of old.test carries stays.test's mail; new.test must not get it.
	if target, reply := w.target(t.Context(), o); target != nil || reply != nil {
		t.Errorf("a session of old.test would connect to %+v (%v)", target, reply)
	}
	id := w.send(mail{from: "s@s.test", to: []string{"x@moved.test"}})
	if e := w.waitFor(id, message.EventDelivered, 1)[0]; e.Host != "new.test" {
		t.Errorf("delivered by %s", e.Host)
	}
}
