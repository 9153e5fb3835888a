package attach_test

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"hikyaku/node/attach"
)

const inside = "HIKYAKU_ATTACH_NETNS"

// TestKernel runs the tests of the real interfaces in a network namespace of
// their own, where they can do no harm: this binary starts itself once more. Who
// is not root gets a user namespace with it, where the system allows that.
func TestKernel(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		missing(t, "a network namespace cannot be made; run as root or allow user namespaces: "+err.Error())
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestInNamespace")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// missing skips, or fails where what is missing is required (make test).
func missing(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func TestInNamespace(t *testing.T) {
	if os.Getenv(inside) == "" {
		return // TestKernel runs it
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "va"}, PeerName: "vb"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "va", "vb"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("attach", onRealInterfaces)
	t.Run("subnet", inASubnet)
}

func realTable(t *testing.T, file string) *attach.Table {
	t.Helper()
	a, err := attach.Open(attach.Options{File: file, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func onRealInterfaces(t *testing.T) {
	neighbour := listenOn(t, "vb")
	file := filepath.Join(t.TempDir(), "attached")
	a := realTable(t, file)
	ctx := t.Context()
	for range 2 {
		must(t, a.Attach(ctx, "s4", 1, on("va", "192.0.2.1", 0)))
		must(t, a.Attach(ctx, "s6", 1, on("va", "2001:db8::1", 0)))
		must(t, a.Attach(ctx, "lo", 1, on("lo", "127.0.0.2", 0)))
	}
	if a.Metrics().AnnounceFailed != 0 {
		t.Error("the neighbours were not told")
	}
	// It can be sent from at once, IPv6 too.
	for _, ip := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.2"} {
		if !there(t, ip) {
			t.Errorf("%s is on no interface", ip)
		}
		c, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Errorf("%s cannot be used: %v", ip, err)
			continue
		}
		_ = c.Close()
	}
	mac, err := net.InterfaceByName("va")
	if err != nil {
		t.Fatal(err)
	}
	// The ARP request and the advertisement name the address and its holder.
	h := hex.EncodeToString(mac.HardwareAddr)
	neighbour.hears(t, "0806"+"0001080006040001"+h+"c0000201"+"000000000000"+"c0000201")
	neighbour.hears(t, "ff02"+strings.Repeat("00", 13)+"01"+"8800")
	neighbour.hears(t, "20010db8"+strings.Repeat("00", 11)+"01"+"0201"+h)

	// A process later: what is not kept goes, what was there before stays.
	va, err := netlink.LinkByName("va")
	if err != nil {
		t.Fatal(err)
	}
	must(t, netlink.AddrAdd(va, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 9), Mask: net.CIDRMask(24, 32)}}))
	must(t, a.Attach(ctx, "theirs", 1, on("va", "192.0.2.9", 0)))
	next := realTable(t, file)
	must(t, next.Sweep(ctx, func(source string) bool { return source == "s6" }))
	if there(t, "192.0.2.1") || there(t, "127.0.0.2") || !there(t, "2001:db8::1") || !there(t, "192.0.2.9") {
		t.Error("after the sweep something is wrong")
	}
	must(t, next.Detach(ctx, "s6", 1, nil))
	if there(t, "2001:db8::1") {
		t.Error("2001:db8::1 is left")
	}
	if err := a.Attach(ctx, "gone", 1, on("nowhere", "192.0.2.77", 0)); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
}

// inASubnet: the kernel would take off others with the first of a subnet.
func inASubnet(t *testing.T) {
	const promote = "/proc/sys/net/ipv4/conf/vb/promote_secondaries"
	for _, on := range []string{promote, "/proc/sys/net/ipv4/conf/all/promote_secondaries"} {
		must(t, os.WriteFile(on, []byte("0"), 0))
	}
	a := realTable(t, filepath.Join(t.TempDir(), "attached"))
	ctx := t.Context()
	err := a.Attach(ctx, "a", 1, on("vb", "198.51.100.1", 24))
	if err == nil || !strings.Contains(err.Error(), "promote_secondaries") || there(t, "198.51.100.1") {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(promote, []byte("1"), 0))
	must(t, a.Attach(ctx, "a", 1, on("vb", "198.51.100.1", 24)))
	must(t, a.Attach(ctx, "b", 1, on("vb", "198.51.100.2", 24)))
	must(t, a.Detach(ctx, "a", 1, nil))
	if there(t, "198.51.100.1") || !there(t, "198.51.100.2") {
		t.Error("the wrong ones are there")
	}
	must(t, a.Detach(ctx, "b", 1, nil))
}

func there(t *testing.T, ip string) bool {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if n, ok := l.(*net.IPNet); ok && n.IP.Equal(netip.MustParseAddr(ip).AsSlice()) {
			return true
		}
	}
	return false
}

// ear hears all frames of an interface, and remembers them.
type ear struct {
	fd    int
	heard [][]byte
}

func listenOn(t *testing.T, name string) *ear {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		t.Fatal(err)
	}
	return &ear{fd: fd}
}

// hears waits for a frame that holds the bytes, given in hex.
func (e *ear) hears(t *testing.T, want string) {
	t.Helper()
	b, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(5 * time.Second)
	if err := syscall.SetsockoptTimeval(e.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for time.Now().Before(until) {
		for _, f := range e.heard {
			if bytes.Contains(f, b) {
				return
			}
		}
		if n, _, err := syscall.Recvfrom(e.fd, buf, 0); err == nil {
			e.heard = append(e.heard, bytes.Clone(buf[:n]))
		}
	}
	t.Errorf("the neighbour did not hear %s among %d frames", want, len(e.heard))
}
