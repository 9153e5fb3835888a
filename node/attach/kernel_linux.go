package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// bootID names this boot of the machine; "" when it cannot be told, which counts
// as one boot.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// linux is the kernel's interfaces by rtnetlink.
type linux struct{}

func newKernel() kernel { return linux{} }

// nodad is IFA_F_NODAD: use the address at once.
const nodad = 0x02

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

func addrOf(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = nodad
	}
	return a
}

func (linux) has(iface string, a netip.Addr) (bool, error) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return false, fmt.Errorf("interface %s: %w", iface, err)
	}
	list, err := netlink.AddrList(link, familyOf(a))
	for range 5 { // the list changed while it was read
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		list, err = netlink.AddrList(link, familyOf(a))
	}
	if err != nil {
		return false, err
	}
	for _, l := range list {
		if got, ok := netip.AddrFromSlice(l.IP); ok && got.Unmap() == a {
			return true, nil
		}
	}
	return false, nil
}

func (linux) add(iface string, p netip.Prefix) error {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", iface, err)
	}
	if err := keepsOthers(iface, p); err != nil {
		return err
	}
	err = netlink.AddrAdd(link, addrOf(p))
	if errors.Is(err, syscall.EEXIST) {
		return errThere
	}
	return err
}

// keepsOthers refuses an address that could not be taken off alone: with the
// first IPv4 address of a subnet the kernel takes off all others of it, unless
// it is told to promote the next.
func keepsOthers(iface string, p netip.Prefix) error {
	if !p.Addr().Is4() || p.IsSingleIP() {
		return nil
	}
	for _, conf := range []string{"all", iface} {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + conf + "/promote_secondaries")
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return nil
		}
	}
	return fmt.Errorf("%s could not be taken off without others of its subnet: set net.ipv4.conf.%s.promote_secondaries=1, or leave prefix_length at 32", p, iface)
}

func (linux) remove(iface string, p netip.Prefix) error {
	link, err := netlink.LinkByName(iface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", iface, err)
	}
	err = netlink.AddrDel(link, addrOf(p))
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func (linux) announce(iface string, a netip.Addr) error {
	i, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	if i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 {
		return nil // nobody to tell, or not by Ethernet
	}
	if a.Is4() {
		return announceARP(i, a)
	}
	return announceND(i, a)
}

// announceARP broadcasts an ARP request for the address by its own holder, the
// form that all hosts take note of (RFC 5227 3).
func announceARP(i *net.Interface, a netip.Addr) error {
	proto := bigEndian(syscall.ETH_P_ARP)
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, int(proto))
	if err != nil {
		return fmt.Errorf("open a socket for ARP: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	ip := a.As4()
	// RFC 826: Ethernet, IPv4, lengths, request; sender; target.
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, i.HardwareAddr...), ip[:]...)
	b = append(append(b, make([]byte, 6)...), ip[:]...)
	to := &syscall.SockaddrLinklayer{Protocol: proto, Ifindex: i.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if err := syscall.Sendto(fd, b, 0, to); err != nil {
		return fmt.Errorf("send ARP: %w", err)
	}
	return nil
}

// announceND sends an unsolicited neighbour advertisement to all nodes of the
// link (RFC 4861 4.4, 7.2.6). The kernel adds the checksum.
func announceND(i *net.Interface, a netip.Addr) error {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("open a socket for ICMPv6: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	ip := a.As16()
	// RFC 4861 7.1.2: anything but a hop limit of 255 is dropped.
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_HOPS, 255); err != nil {
		return fmt.Errorf("set the hop limit: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Addr: ip}); err != nil {
		return fmt.Errorf("bind to %s: %w", a, err)
	}
	const advertisement, override = 136, 0x20
	b := []byte{advertisement, 0, 0, 0, override, 0, 0, 0}
	b = append(b, ip[:]...)
	b = append(append(b, 2, 1), i.HardwareAddr...) // option: target link-layer address
	to := &syscall.SockaddrInet6{ZoneId: uint32(i.Index), Addr: netip.IPv6LinkLocalAllNodes().As16()}
	if err := syscall.Sendto(fd, b, 0, to); err != nil {
		return fmt.Errorf("send a neighbour advertisement: %w", err)
	}
	return nil
}

// bigEndian is a number as the network has it, for the kernel to take as is.
func bigEndian(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
