package measure

import (
	"testing"
	"testing/fstest"
	"time"
)

func files(m map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for k, v := range m {
		out[k] = &fstest.MapFile{Data: []byte(v)}
	}
	return out
}

func TestMachineFacts(t *testing.T) {
	root := files(map[string]string{
		"proc/sys/kernel/osrelease": "6.1.0-13-amd64\n",
		"etc/os-release":            "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"proc/cpuinfo":              "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu hypervisor lm\n",
		"proc/meminfo":              "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
		"proc/loadavg":              "0.50 1.25 2.00 1/234 5678\n",
		"proc/self/cgroup":          "0::/system.slice/bench.service\n",
		"proc/self/mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" +
			"30 22 259:2 / /srv/mail\\040spool rw,noatime - xfs /dev/nvme0n1p2 rw\n" +
			"31 22 0:40 / /srv/mail rw - tmpfs tmpfs rw\n",
		"sys/fs/cgroup/system.slice/bench.service/cpu.max": "150000 100000\n",
		"sys/fs/cgroup/system.slice/cpu.max":               "max 100000\n",
		"sys/fs/cgroup/system.slice/memory.max":            "2147483648\n",
		"sys/fs/cgroup/memory.max":                         "max\n",
		"sys/dev/block/259:2/../queue/rotational":          "", // not a path that fs.FS knows
		"sys/dev/block/259:2/queue/rotational":             "0\n",
		"sys/dev/block/259:2/queue/write_cache":            "write back\n",
		"sys/kernel/mm/transparent_hugepage/enabled":       "always [madvise] never\n",
	})
	m := readMachine(root, "/srv/mail spool/node/data")
	want := Machine{CPU: "AMD EPYC 7B13", Cores: m.Cores, Quota: 1.5, Virtual: true, Memory: 16384000 << 10, MemoryLimit: 2 << 30, Kernel: "6.1.0-13-amd64",
		OS: "Debian GNU/Linux 12 (bookworm)", Arch: m.Arch, Go: m.Go, FileSystem: "xfs", Device: "/dev/nvme0n1p2", Mount: "rw,noatime",
		WriteCache: "write back", Load: [3]float64{0.5, 1.25, 2}, Hugepages: "madvise"}
	if m != want {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	if m := readMachine(root, "/home"); m.Device != "/dev/sda1" || m.FileSystem != "ext4" {
		t.Errorf("/home lies on %s, %s", m.Device, m.FileSystem)
	}
	if m := readMachine(root, "/srv/mailbox"); m.Device != "/dev/sda1" {
		t.Errorf("a folder whose name begins like a mount point lies on %s", m.Device)
	}
	if m := readMachine(fstest.MapFS{}, "/"); m.CPU != "" || m.Quota != 0 || m.Cores < 1 {
		t.Errorf("nothing to read: %+v", m)
	}
}

func TestControlGroupsOfVersion1(t *testing.T) {
	root := files(map[string]string{
		"proc/self/cgroup": "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/\nnonsense\n",
		"sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us":         "50000\n",
		"sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us":        "100000\n",
		"sys/fs/cgroup/cpu/cpu.cfs_quota_us":                   "-1\n",
		"sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes": "1073741824\n",
		"sys/fs/cgroup/memory/memory.limit_in_bytes":           "9223372036854771712\n",
	})
	if c, m := groupLimits(root); c != 0.5 || m != 1<<30 {
		t.Errorf("%g cores, %d bytes", c, m)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("27779 (cat) R 27770 27770 21393 0 -1 4194304 100 0 0 0 7 8 1 2 20 0 3 0 1183254 3133440"))
	f.Add([]byte("1 ((sd-pam) x) S 1"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseStat(b)
		unescapeMount(string(b))
	})
}

func TestParseStat(t *testing.T) {
	s, err := parseStat([]byte("7 (a) S 1 b) R 42 1 1 0 -1 4194304 100 0 0 0 7 8 1 2 20 0 3 0 1183254 3133440"))
	want := stat{parent: 42, state: 'R', user: 70 * time.Millisecond, system: 80 * time.Millisecond, childUser: 10 * time.Millisecond, childSystem: 20 * time.Millisecond, threads: 3}
	if err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
}
