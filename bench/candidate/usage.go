package candidate

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes cost so far.
type Usage struct {
	CPU      time.Duration // user and system, with those children that ended and were waited for
	PeakRSS  int64         // bytes; of several processes the sum of their peaks, an upper bound
	WroteOut int64         // bytes handed to the disk
}

// UsageOf reads what a process cost, its ended children included. It is zero
// for a process that is gone.
func UsageOf(pid int) Usage {
	s, ok := readStat(pid)
	if !ok {
		return Usage{}
	}
	return Usage{
		CPU:      s.cpu,
		PeakRSS:  procField(pid, "status", "VmHWM") << 10,
		WroteOut: procField(pid, "io", "write_bytes"),
	}
}

// TreeUsage adds up a process and its descendants. The kernel adds an ended
// child's CPU and I/O to the parent that waits for it, so nothing is missing
// as long as parents wait for their children.
func TreeUsage(pid int) Usage {
	var sum Usage
	for _, p := range processTree(pid) {
		u := UsageOf(p.pid)
		sum.CPU += u.CPU
		sum.PeakRSS += u.PeakRSS
		sum.WroteOut += u.WroteOut
	}
	return sum
}

// MemoryNow is the memory of processes, in bytes: the proportional set size,
// which counts a page shared by ten processes once, not ten times. Where the
// kernel does not tell it, the resident size.
func MemoryNow(pids []int) int64 {
	var sum int64
	for _, pid := range pids {
		if pss := procField(pid, "smaps_rollup", "Pss"); pss > 0 {
			sum += pss << 10
			continue
		}
		sum += procField(pid, "status", "VmRSS") << 10
	}
	return sum
}

// Tree is a process and its descendants that live now.
func Tree(pid int) []int {
	var pids []int
	for _, p := range processTree(pid) {
		pids = append(pids, p.pid)
	}
	return pids
}

// process names one process for good: a number is used again, with another
// start time.
type process struct {
	pid   int
	start uint64 // clock ticks since boot
}

func (p process) alive() bool {
	s, ok := readStat(p.pid)
	return ok && s.start == p.start && s.state != 'Z'
}

// stat is the part of /proc/<pid>/stat that matters here.
type stat struct {
	state  byte
	parent int
	cpu    time.Duration
	start  uint64
}

// clockTick is the unit of times in stat: USER_HZ, 100 on every Linux port that
// Go runs on.
const clockTick = 10 * time.Millisecond

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, false
	}
	return parseStat(string(b))
}

// parseStat reads a line of proc(5): pid (name) state ppid … . The name may
// hold blanks and parentheses, so fields count from the last ")".
func parseStat(line string) (stat, bool) {
	i := strings.LastIndexByte(line, ')')
	if i < 0 {
		return stat{}, false
	}
	f := strings.Fields(line[i+1:]) // f[0] is field 3
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, false
	}
	s := stat{state: f[0][0]}
	var err error
	if s.parent, err = strconv.Atoi(f[1]); err != nil {
		return stat{}, false
	}
	// Fields 14 to 17: utime, stime, cutime, cstime.
	for _, field := range f[11:15] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return stat{}, false
		}
		s.cpu += time.Duration(ticks) * clockTick
	}
	s.start, err = strconv.ParseUint(f[19], 10, 64)
	return s, err == nil
}

// procField reads "name: 123 …" from a file of a process.
func procField(pid int, file, name string) int64 {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file)) // gone or not ours: 0
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				v, _ := strconv.ParseInt(f[0], 10, 64)
				return v
			}
		}
	}
	return 0
}

// processTree finds a process and its descendants, parents first.
func processTree(root int) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	var tree []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, ok := readStat(pid)
		if !ok {
			continue
		}
		p := process{pid, s.start}
		if pid == root {
			tree = append(tree, p)
			continue
		}
		children[s.parent] = append(children[s.parent], p)
	}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i].pid]...)
	}
	return tree
}
