package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/spool/message"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// inOrder leaves hosts of equal preference as they are.
func inOrder(int, func(i, j int)) {}

func reversed(n int, swap func(i, j int)) {
	for i := range n / 2 {
		swap(i, n-1-i)
	}
}

func (n *network) tried() (out []string) {
	for _, d := range n.dials {
		out = append(out, d.To.String())
	}
	return out
}

func refuseAll(delivery.DialRequest) error { return syscall.ECONNREFUSED }

func TestOrderOfAddresses(t *testing.T) {
	hosts := []delivery.Host{
		{Name: "b", Preference: 20, Addrs: addrs("193.0.0.3")},
		{Name: "a1", Preference: 10, Addrs: addrs("193.0.0.1", "2a00::1")},
		{Name: "a2", Preference: 10, Port: 2525, Addrs: addrs("::ffff:193.0.0.2")},
	}
	for _, tc := range []struct {
		name    string
		shuffle func(int, func(i, j int))
		target  delivery.Target
		want    string
	}{
		{"preference, IPv6 first", inOrder, delivery.Target{}, "[2a00::1]:25 193.0.0.1:25 193.0.0.2:2525 193.0.0.3:25"},
		{"equals at random", reversed, delivery.Target{}, "193.0.0.2:2525 [2a00::1]:25 193.0.0.1:25 193.0.0.3:25"},
		{"prefer IPv4", inOrder, delivery.Target{Addresses: "prefer-ipv4"}, "193.0.0.1:25 [2a00::1]:25 193.0.0.2:2525 193.0.0.3:25"},
		{"IPv4 only", inOrder, delivery.Target{Addresses: "ipv4"}, "193.0.0.1:25 193.0.0.2:2525 193.0.0.3:25"},
		{"IPv6 only", inOrder, delivery.Target{Addresses: "ipv6"}, "[2a00::1]:25"},
		{"family of the source", inOrder, delivery.Target{Source: netip.MustParseAddr("2a00::99")}, "[2a00::1]:25"},
		{"port of the target", inOrder, delivery.Target{Port: 26, Addresses: "ipv4"}, "193.0.0.1:26 193.0.0.2:2525 193.0.0.3:26"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nw := &network{fail: refuseAll}
			c := delivery.New(delivery.Options{Dial: nw.dial, Shuffle: tc.shuffle})
			tc.target.Hosts, tc.target.EHLO = hosts, "out.example"
			ended := c.NewSession(&tc.target, &fixedWork{}).Run(context.Background())
			if got := strings.Join(nw.tried(), " "); got != tc.want {
				t.Errorf("tried %s\nwant  %s", got, tc.want)
			}
			if len(ended.Failures) != len(nw.dials) || ended.Reply.Fault != message.FaultRefused || ended.Reply.Phase != message.PhaseConnect {
				t.Errorf("ended %+v", ended)
			}
		})
	}
}

func TestConnectFaults(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want message.Fault
		text string
	}{
		{syscall.ECONNREFUSED, message.FaultRefused, "451 4.4.1 connection refused"},
		{syscall.ECONNRESET, message.FaultReset, "451 4.4.2 connection reset by the host"},
		{syscall.ETIMEDOUT, message.FaultTimeout, "451 4.4.1 connection timed out"},
		{context.DeadlineExceeded, message.FaultTimeout, "451 4.4.1 connection timed out"},
		{syscall.EHOSTUNREACH, message.FaultNetwork, "451 4.4.1 no route to host"},
		{syscall.ENETUNREACH, message.FaultNetwork, "451 4.4.1 network is unreachable"},
		{syscall.EADDRNOTAVAIL, message.FaultLocal, "451 4.3.5 source not on this host: its address cannot be bound"},
		{syscall.EMFILE, message.FaultLocal, "451 4.3.5 out of file descriptors"},
	} {
		nw := &network{fail: func(delivery.DialRequest) error { return tc.err }}
		c := delivery.New(delivery.Options{Dial: nw.dial})
		ended := c.NewSession(sinkTarget(), &fixedWork{}).Run(context.Background())
		if ended.Reply.Fault != tc.want || ended.Reply.String() != tc.text || ended.Connected {
			t.Errorf("%v: got %s (%s), want %s (%s)", tc.err, ended.Reply.String(), ended.Reply.Fault, tc.text, tc.want)
		}
		if m := c.Metrics(); m.ConnectFailed[tc.want] != 1 || m.Connections != 0 {
			t.Errorf("%v: metrics %+v", tc.err, m)
		}
	}
}

func TestAddressesNeverConnectedTo(t *testing.T) {
	forbidden := []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "fe80::1",
		"fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
		"64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a00:1::1", "2001::1",
	}
	for _, a := range forbidden {
		nw := &network{fail: refuseAll}
		target := sinkTarget()
		target.Hosts[0].Addrs = addrs(a)
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if len(nw.dials) != 0 || ended.Reply.Fault != message.FaultLocal || ended.Reply.Code != 550 {
			t.Errorf("%s: dialled %v, %s", a, nw.tried(), ended.Reply.String())
		}
		target.AllowNetworks = allow(netip.PrefixFrom(netip.MustParseAddr(a).Unmap(), 8).Masked().String())
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if len(nw.dials) != 1 {
			t.Errorf("%s: not dialled although its network is allowed", a)
		}
	}
	for _, a := range []string{"8.8.8.8", "193.0.0.1", "172.32.0.1", "100.128.0.1", "2a00::1", "64:ff9b::808:808", "2002:808:808::1"} {
		nw := &network{fail: refuseAll}
		target := sinkTarget()
		target.Hosts[0].Addrs = addrs(a)
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if len(nw.dials) != 1 {
			t.Errorf("%s: a public address was not dialled", a)
		}
	}
}

func TestOwnListenersAreNotConnectedTo(t *testing.T) {
	nw := &network{fail: refuseAll}
	c := delivery.New(delivery.Options{Dial: nw.dial, Own: []netip.AddrPort{netip.AddrPortFrom(sinkAddr, 25)}})
	target := sinkTarget()
	if ended := c.NewSession(target, &fixedWork{}).Run(context.Background()); ended.Reply.Code != 550 || len(nw.dials) != 0 {
		t.Errorf("dialled ourselves: %s", ended.Reply.String())
	}
	target.Port = 26
	c.NewSession(target, &fixedWork{}).Run(context.Background())
	target.Port, target.AllowNetworks = 25, allow("193.0.0.0/24")
	c.NewSession(target, &fixedWork{}).Run(context.Background())
	if want := []string{"193.0.0.1:26", "193.0.0.1:25"}; !reflect.DeepEqual(nw.tried(), want) {
		t.Errorf("dialled %v, want %v", nw.tried(), want)
	}
}

func TestNoUsableAddress(t *testing.T) {
	target := sinkTarget()
	target.Addresses = "ipv6"
	c := delivery.New(delivery.Options{Dial: (&network{}).dial})
	if r := c.NewSession(target, &fixedWork{}).Run(context.Background()).Reply; r.String() != "451 4.4.1 no address of a family that the source can reach" {
		t.Error(r.String())
	}
	target.Hosts = nil
	if r := c.NewSession(target, &fixedWork{}).Run(context.Background()).Reply; r.String() != "451 4.4.1 no address to connect to" {
		t.Error(r.String())
	}
}

func TestConnectAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := sinkTarget()
		for i := range 30 {
			target.Hosts[0].Addrs = append(target.Hosts[0].Addrs, netip.AddrFrom4([4]byte{193, 0, 1, byte(i)}))
		}
		nw := &network{fail: refuseAll}
		delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		if len(nw.dials) != 8 {
			t.Errorf("%d addresses tried in one session", len(nw.dials))
		}
		// Hosts that take the connection and say nothing cost Open in all.
		nw = &network{serve: func(_ int, c *memConn) { _, _ = io.Copy(io.Discard, c) }}
		start := time.Now()
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		nw.wg.Wait()
		if took := time.Since(start); took > 6*time.Minute || ended.Reply.Phase != message.PhaseBanner {
			t.Errorf("took %v: %s", took, ended.Reply.String())
		}
	})
}

func TestDeadHostsAreTriedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{
			fail: func(r delivery.DialRequest) error {
				if r.To.Addr() == sinkAddr {
					return syscall.ECONNREFUSED
				}
				return nil
			},
			serve: func(_ int, c *memConn) { playPlain(c) },
		}
		c := delivery.New(delivery.Options{Dial: nw.dial, Shuffle: inOrder})
		target := sinkTarget()
		target.Hosts = append(target.Hosts, delivery.Host{Name: "mx2.example", Preference: 10, Addrs: addrs("193.0.0.2")})
		run := func() {
			t.Helper()
			if e := c.NewSession(target, &fixedWork{}).Run(context.Background()); !e.Connected {
				t.Fatal(e.Reply.String())
			}
			nw.wg.Wait()
		}
		run()
		run()
		if c.Metrics().DeadHosts != 1 {
			t.Errorf("%d dead hosts remembered", c.Metrics().DeadHosts)
		}
		time.Sleep(11 * time.Minute) // virtual
		run()
		want := []string{"193.0.0.1:25", "193.0.0.2:25", "193.0.0.2:25", "193.0.0.1:25", "193.0.0.2:25"}
		if !slices.Equal(nw.tried(), want) {
			t.Errorf("tried %v, want %v", nw.tried(), want)
		}
	})
}

func TestBrokenTLSIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offers []string
		nw := &network{serve: func(_ int, c *memConn) {
			defer c.Close()
			in := &lines{bufio.NewReader(c)}
			_, _ = io.WriteString(c, "220 x\r\n")
			for {
				line, err := in.next()
				if err != nil {
					return
				}
				verb, _, _ := strings.Cut(line, " ")
				offers = append(offers, verb)
				switch verb {
				case "EHLO":
					_, _ = io.WriteString(c, "250-x\r\n250 STARTTLS\r\n")
				case "STARTTLS":
					_, _ = io.WriteString(c, "220 go\r\n")
					return
				default:
					_, _ = io.WriteString(c, "221 bye\r\n")
					return
				}
			}
		}}
		c := delivery.New(delivery.Options{Dial: nw.dial, BrokenTLSFor: 1000 * time.Hour})
		target := sinkTarget()
		target.TLS = delivery.TLSOpportunistic
		for range 2 {
			c.NewSession(target, &fixedWork{}).Run(context.Background())
		}
		time.Sleep(73 * time.Hour) // virtual: the bound is 72 hours
		c.NewSession(target, &fixedWork{}).Run(context.Background())
		nw.wg.Wait()
		got := strings.Join(offers, " ")
		if want := "EHLO STARTTLS EHLO QUIT EHLO QUIT EHLO STARTTLS EHLO QUIT"; got != want {
			t.Errorf("said %s\nwant %s", got, want)
		}
		if m := c.Metrics(); m.TLSFallback != 2 || m.BrokenTLS != 1 {
			t.Errorf("metrics %+v", m)
		}
	})
}

func TestFailuresAreSummarised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct{ banners, want string }{
			{"554 a|554 b", "554 b"},
			{"554 a|421 b", "421 b"},
			{"421 a|554 b", "421 a"},
			{"421 a|", "421 a"},
			{"554 a|", "451 4.4.2 connection closed by the host without a reply"},
		} {
			banners := strings.Split(tc.banners, "|")
			nw := &network{serve: func(n int, c *memConn) {
				defer c.Close()
				if banners[n] != "" {
					_, _ = io.WriteString(c, banners[n]+"\r\n")
				}
			}}
			target := sinkTarget()
			target.Hosts = append(target.Hosts, delivery.Host{Name: "mx2.example", Preference: 10, Addrs: addrs("193.0.0.2")})
			ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
			nw.wg.Wait()
			if got := ended.Reply.String(); got != tc.want || len(ended.Failures) != 2 {
				t.Errorf("%s: got %s, want %s", tc.banners, got, tc.want)
			}
		}
	})
}

// playPlain is a minimal server with PIPELINING that takes everything.
func playPlain(c *memConn) {
	defer c.Close()
	s := &sink{conn: c}
	s.serve()
}

func TestRealTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from := make(chan string, 1)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			(&sink{conn: c}).serve()
			_ = c.Close()
		}
	}()
	own := l.Addr().(*net.TCPAddr).AddrPort()
	target := &delivery.Target{
		Hosts: []delivery.Host{{Name: "127.0.0.1", Addrs: addrs("127.0.0.1")}},
		Port:  own.Port(), EHLO: "out.example", TLS: delivery.TLSNone, IdleTimeout: time.Millisecond,
		Source: netip.MustParseAddr("127.0.0.1"),
	}
	run := func() (delivery.Ended, *delivery.Result) {
		work := &fixedWork{jobs: []*delivery.Job{makeJob("", []string{"r@b.example"}, "a: b\r\n\r\n")}}
		var kept delivery.Result
		work.keep = func(r *delivery.Result) { kept = *r }
		return delivery.New(delivery.Options{}).NewSession(target, work).Run(context.Background()), &kept
	}
	if e, _ := run(); e.Connected || e.Reply.Fault != message.FaultLocal {
		t.Errorf("connected to loopback without being allowed: %+v", e)
	}
	target.AllowNetworks = allow("127.0.0.0/8")
	e, r := run()
	if !e.Connected || r.HostAddr != own.String() || r.SourceAddr != "127.0.0.1" || r.Host != "127.0.0.1" {
		t.Errorf("%+v %+v", e, r)
	}
	if got := <-from; got != "127.0.0.1" {
		t.Errorf("came from %s", got)
	}
	target.Source = netip.MustParseAddr("193.0.0.99")
	target.AllowNetworks = allow("127.0.0.0/8")
	if e, _ := run(); e.Reply.Fault != message.FaultLocal || !strings.Contains(e.Reply.Text, "source not on this host") || e.Reply.Phase != message.PhaseConnect {
		t.Errorf("bound a foreign address: %s", e.Reply.String())
	}
	target.Source = netip.Addr{}
	_ = l.Close()
	if e, _ := run(); e.Reply.Fault != message.FaultRefused {
		t.Errorf("nobody listens: %s (%s)", e.Reply.String(), e.Reply.Fault)
	}
}

func TestTLSIsDescribed(t *testing.T) {
	for mode, want := range map[delivery.TLSMode]string{
		delivery.TLSOpportunistic: "TLS1.3 TLS_AES_128_GCM_SHA256",
		delivery.TLSVerified:      "TLS1.3 TLS_AES_128_GCM_SHA256 verified",
	} {
		synctest.Test(t, func(t *testing.T) {
			d := loadDialog(t, "testdata/dialog/starttls.txt")
			d.target.TLS = mode
			var got string
			d.work.keep = func(r *delivery.Result) { got = r.TLS }
			d.run(t)
			if got != want {
				t.Errorf("mode %d: %q, want %q", mode, got, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := loadDialog(t, "testdata/dialog/starttls.txt")
		d.target.TLS = delivery.TLSVerified
		d.target.Hosts[0].Name = "other.example"
		got := d.run(t)
		want := "not connected: 451 4.7.5 TLS: tls: failed to verify certificate: x509: certificate is valid for mx.example, not other.example (tls, tls)\n"
		if got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	})
}

func TestParseTLSMode(t *testing.T) {
	for _, s := range []string{"", "none", "opportunistic", "required", "verified", "implicit"} {
		if _, ok := delivery.ParseTLSMode(s); !ok {
			t.Errorf("%q is not known", s)
		}
	}
	if _, ok := delivery.ParseTLSMode("maybe"); ok {
		t.Error("maybe is not a mode")
	}
}

func TestBadEHLOName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := &network{serve: func(_ int, c *memConn) { playPlain(c) }}
		target := sinkTarget()
		target.EHLO = "x\r\nMAIL FROM:<>"
		ended := delivery.New(delivery.Options{Dial: nw.dial}).NewSession(target, &fixedWork{}).Run(context.Background())
		nw.wg.Wait()
		if ended.Reply.Fault != message.FaultLocal || ended.Connected {
			t.Error(fmt.Sprint(ended))
		}
	})
}
