package measure

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what a figure depends on. What could not be read is empty or 0.
type Machine struct {
	CPU         string     `json:"cpu"`              // model name
	Cores       int        `json:"cores"`            // logical processors this process may run on
	Quota       float64    `json:"cpu_quota_cores"`  // limit of the control group, 0 if none
	Virtual     bool       `json:"virtual"`          // a hypervisor is below
	Governor    string     `json:"governor"`         // of the clock frequency
	Memory      uint64     `json:"memory_bytes"`     // of the machine
	MemoryLimit uint64     `json:"memory_limit"`     // of the control group, 0 if none
	Kernel      string     `json:"kernel"`           // release: "6.1.0-13-amd64"
	OS          string     `json:"os"`               // "Debian GNU/Linux 12 (bookworm)"
	Arch        string     `json:"arch"`             // GOARCH
	Go          string     `json:"go"`               // version of the benchmark's Go
	FileSystem  string     `json:"file_system"`      // of the data directory: "ext4"
	Device      string     `json:"device"`           // it lies on: "/dev/vda"
	Mount       string     `json:"mount_options"`    // "rw,relatime"
	Spinning    bool       `json:"spinning"`         // the device says it rotates
	WriteCache  string     `json:"write_cache"`      // "write back" or "write through", as the device says
	Load        [3]float64 `json:"load_at_start"`    // load average of 1, 5 and 15 minutes
	Hugepages   string     `json:"transparent_huge"` // "always", "madvise" or "never"
}

// ReadMachine reads the facts of this machine, with the disk that dir lies on.
// dir must exist.
func ReadMachine(dir string) (Machine, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return Machine{}, fmt.Errorf("find the data directory: %w", err)
	}
	return readMachine(os.DirFS("/"), dir), nil
}

func readMachine(root fs.FS, dir string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Arch: runtime.GOARCH, Go: runtime.Version()}
	m.Kernel = readLine(root, "proc/sys/kernel/osrelease")
	m.Governor = readLine(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	m.OS = strings.Trim(field(root, "etc/os-release", "PRETTY_NAME", "="), `"`)
	m.CPU = field(root, "proc/cpuinfo", "model name", ":")
	if m.CPU == "" { // ARM has numbers in place of a name
		m.CPU = strings.TrimSpace(strings.Join([]string{field(root, "proc/cpuinfo", "CPU implementer", ":"), field(root, "proc/cpuinfo", "CPU part", ":")}, " "))
	}
	flags := " " + field(root, "proc/cpuinfo", "flags", ":") + " "
	m.Virtual = strings.Contains(flags, " hypervisor ")
	if kb, ok := strings.CutSuffix(field(root, "proc/meminfo", "MemTotal", ":"), " kB"); ok {
		m.Memory = parseUint(kb) * 1024
	}
	_, _ = fmt.Sscan(readLine(root, "proc/loadavg"), &m.Load[0], &m.Load[1], &m.Load[2])
	_, chosen, _ := strings.Cut(readLine(root, "sys/kernel/mm/transparent_hugepage/enabled"), "[")
	m.Hugepages, _, _ = strings.Cut(chosen, "]")
	m.Quota, m.MemoryLimit = groupLimits(root)
	m.disk(root, dir)
	return m
}

func readLine(root fs.FS, name string) string {
	b, _ := fs.ReadFile(root, name) // what is not there is an unknown fact, not an error
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// field is the value of the first line "key<sep>value" of a file.
func field(root fs.FS, name, key, sep string) string {
	b, _ := fs.ReadFile(root, name)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func parseUint(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// groupLimits are the tightest limits of this process's control group and those
// above it: of cgroup version 2 (cpu.max, memory.max) and of version 1.
func groupLimits(root fs.FS) (cores float64, memory uint64) {
	b, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		// hierarchy-ID:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, mount := range groupMounts(parts[1]) {
			for dir := path.Join(mount, parts[2]); strings.HasPrefix(dir, mount); dir = path.Dir(dir) {
				c, m := limitsIn(root, dir)
				if c > 0 && (cores == 0 || c < cores) {
					cores = c
				}
				if m > 0 && (memory == 0 || m < memory) {
					memory = m
				}
			}
		}
	}
	return cores, memory
}

func groupMounts(controllers string) []string {
	if controllers == "" {
		return []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
	}
	mounts := []string{"sys/fs/cgroup/" + controllers}
	for c := range strings.SplitSeq(controllers, ",") {
		mounts = append(mounts, "sys/fs/cgroup/"+c)
	}
	return mounts
}

func limitsIn(root fs.FS, dir string) (cores float64, memory uint64) {
	quota, period, _ := strings.Cut(readLine(root, path.Join(dir, "cpu.max")), " ")
	if quota == "" {
		quota, period = readLine(root, path.Join(dir, "cpu.cfs_quota_us")), readLine(root, path.Join(dir, "cpu.cfs_period_us"))
	}
	// "max" and -1 mean no limit and do not parse.
	if q, p := parseUint(quota), parseUint(period); q > 0 && p > 0 {
		cores = float64(q) / float64(p)
	}
	memory = parseUint(readLine(root, path.Join(dir, "memory.max")))
	if memory == 0 {
		memory = parseUint(readLine(root, path.Join(dir, "memory.limit_in_bytes")))
	}
	if memory >= 1<<60 { // version 1 says "no limit" as the largest multiple of a page
		memory = 0
	}
	return cores, memory
}

// disk finds the mount that dir lies on: the longest mount point that is a
// prefix of it; of several at one point the last, which hides the others.
func (m *Machine) disk(root fs.FS, dir string) {
	b, _ := fs.ReadFile(root, "proc/self/mountinfo")
	best, number := -1, ""
	for line := range strings.Lines(string(b)) {
		// proc(5): ID parent major:minor root mount-point options [optional…] - type source super-options
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			continue
		}
		point := unescapeMount(left[4])
		if !within(dir, point) || len(point) < best {
			continue
		}
		best, number = len(point), left[2]
		m.FileSystem, m.Device, m.Mount = right[0], unescapeMount(right[1]), left[5]
	}
	if number == "" {
		return
	}
	// A partition has no queue of its own: its disk, one folder up, has.
	for _, queue := range []string{"sys/dev/block/" + number + "/queue/", "sys/dev/block/" + number + "/../queue/"} {
		queue = path.Clean(queue) + "/"
		if rotational := readLine(root, queue+"rotational"); rotational != "" {
			m.Spinning, m.WriteCache = rotational == "1", readLine(root, queue+"write_cache")
			return
		}
	}
}

func within(dir, point string) bool {
	return dir == point || strings.HasPrefix(dir, strings.TrimSuffix(point, "/")+"/")
}

// unescapeMount undoes the octal escapes of blanks and backslashes in mountinfo.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
