package peers

import (
	"net"
	"strconv"
	"testing"
)

// StartDNS starts dnsmasq as an authoritative server for the given records and
// returns its address. Records are dnsmasq options: "--mx-host=example.test,mx.example.test,10",
// "--host-record=mx.example.test,127.0.0.2", "--txt-record=name,text".
func StartDNS(tb testing.TB, records ...string) string {
	tb.Helper()
	bin := Find(tb, "dnsmasq", "dnsmasq-base")
	port := FreePort(tb, "127.0.0.1")
	args := append([]string{"--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--port=" + strconv.Itoa(port), "--local=/test/", "--auth-ttl=60", "--local-ttl=60"}, records...)
	Start(tb, bin, args...)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	Listening(tb, addr)
	return addr
}
