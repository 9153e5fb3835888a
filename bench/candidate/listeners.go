package candidate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// onlyLoopback asks the kernel which TCP sockets the processes listen on and
// says which of them others could reach.
func onlyLoopback(pids []int) error {
	var errs []error
	for _, pid := range pids {
		sockets, err := listeners(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		for _, a := range sockets {
			if !a.IP.IsLoopback() {
				errs = append(errs, fmt.Errorf("process %d listens on %s, which is not loopback", pid, a))
			}
		}
	}
	return errors.Join(errs...)
}

// listeners are the TCP sockets on which a process listens.
func listeners(pid int) ([]*net.TCPAddr, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	own := map[string]bool{}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []*net.TCPAddr
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		b, err := os.ReadFile(filepath.Join(proc, table))
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(b)) {
			a, inode, ok := parseListener(line)
			if ok && own[inode] {
				found = append(found, a)
			}
		}
	}
	return found, nil
}

// stateListen is TCP_LISTEN in the kernel's table.
const stateListen = "0A"

// parseListener reads a line of /proc/net/tcp or tcp6: "sl: local remote state
// queues timer retransmits uid timeout inode …".
func parseListener(line string) (a *net.TCPAddr, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != stateListen {
		return nil, "", false
	}
	host, port, found := strings.Cut(f[1], ":")
	ip, err := hex.DecodeString(host)
	if !found || err != nil || len(ip) != net.IPv4len && len(ip) != net.IPv6len {
		return nil, "", false
	}
	// The kernel prints the address as numbers of 32 bits, each read from
	// memory in the machine's byte order.
	for i := 0; i+4 <= len(ip); i += 4 {
		binary.NativeEndian.PutUint32(ip[i:], binary.BigEndian.Uint32(ip[i:]))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	return &net.TCPAddr{IP: ip, Port: int(n)}, f[9], err == nil
}
