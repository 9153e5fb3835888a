package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used, or several together.
type Usage struct {
	User    time.Duration `json:"cpu_user_ns"`
	System  time.Duration `json:"cpu_system_ns"`
	RSS     uint64        `json:"rss_bytes"`      // now
	PeakRSS uint64        `json:"peak_rss_bytes"` // of several processes: the largest sum that was seen, shared pages counted in each
	Files   int           `json:"files"`          // open descriptors now
	Threads int           `json:"threads"`        // now
	// What /proc/PID/io knows; not known of another user's process.
	IOKnown bool   `json:"io_known"`
	Wrote   uint64 `json:"write_bytes"` // sent towards the disk by the process itself
	Read    uint64 `json:"read_bytes"`
	Calls   uint64 `json:"io_calls"` // read- and write-like system calls
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Since is what was used after before was read; what is a state and not a count
// (memory, descriptors, threads) stays as it is.
func (u Usage) Since(before Usage) Usage {
	u.User -= before.User
	u.System -= before.System
	u.IOKnown = u.IOKnown && before.IOKnown
	u.Wrote -= min(before.Wrote, u.Wrote)
	u.Read -= min(before.Read, u.Read)
	u.Calls -= min(before.Calls, u.Calls)
	return u
}

// plus adds o: the sum over processes, or over the lives of one.
func (u Usage) plus(o Usage) Usage {
	u.User += o.User
	u.System += o.System
	u.RSS += o.RSS
	u.PeakRSS += o.PeakRSS
	u.Files += o.Files
	u.Threads += o.Threads
	u.IOKnown = u.IOKnown && o.IOKnown
	u.Wrote += o.Wrote
	u.Read += o.Read
	u.Calls += o.Calls
	return u
}

// clockTick is USER_HZ, the unit of times in /proc/PID/stat: 100 a second on
// every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// stat is what is needed of /proc/PID/stat.
type stat struct {
	parent                 int
	state                  byte
	user, system           time.Duration
	childUser, childSystem time.Duration // of children that have ended and were waited for
	threads                int
}

// parseStat reads /proc/PID/stat. The name in parentheses may hold anything,
// parentheses and line ends too, so the fields are counted from the last one.
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errors.New("no process name")
	}
	f := bytes.Fields(b[i+1:]) // from field 3 of proc(5), the state
	if len(f) < 18 {
		return stat{}, fmt.Errorf("%d fields only", len(f))
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(string(f[field-3]), 10, 64)
		return n
	}
	ticks := func(field int) time.Duration { return time.Duration(number(field)) * clockTick }
	return stat{
		state: f[0][0], parent: int(number(4)), threads: int(number(20)),
		user: ticks(14), system: ticks(15), childUser: ticks(16), childSystem: ticks(17),
	}, nil
}

// processes reads /proc, or what stands for it.
type processes struct{ proc fs.FS }

// stat of a process; a zombie has ended and counts as gone, its times too: they
// are its parent's as soon as it waits.
func (p processes) stat(pid int) (stat, error) {
	b, err := fs.ReadFile(p.proc, strconv.Itoa(pid)+"/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// usage reads one process. withChildren adds the CPU of children that it has
// waited for: of a tree of processes they would be missed otherwise.
//
// A process that is ending gives up its memory first and its other pages one by
// one; what is read of it from then on is half of the truth, so it counts as
// gone. Its memory is looked at last: what was there then was there before.
func (p processes) usage(pid int, withChildren bool) (Usage, error) {
	s, err := p.stat(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{User: s.user, System: s.system, Threads: s.threads}
	if withChildren {
		u.User += s.childUser
		u.System += s.childSystem
	}
	dir := strconv.Itoa(pid)
	if fds, err := fs.ReadDir(p.proc, dir+"/fd"); err == nil {
		u.Files = len(fds)
	}
	p.io(dir, withChildren, &u)
	u.PeakRSS, _ = p.kilobytes(dir, "VmHWM")
	rss, ok := p.kilobytes(dir, "VmRSS")
	if !ok {
		return Usage{}, fmt.Errorf("process %d is ending: %w", pid, fs.ErrNotExist)
	}
	u.RSS, u.PeakRSS = rss, max(u.PeakRSS, rss)
	return u, nil
}

// kilobytes is a size in bytes; not ok where the page does not have it.
func (p processes) kilobytes(dir, key string) (n uint64, ok bool) {
	kb, ok := strings.CutSuffix(field(p.proc, dir+"/status", key, ":"), " kB")
	return parseUint(kb) * 1024, ok
}

// io reads what a process has read and written. The kernel adds children that
// were waited for to the process's own page; where they are not wanted the
// pages of the threads are added up instead, which leaves out threads that have
// ended.
func (p processes) io(dir string, withChildren bool, u *Usage) {
	pages := []string{dir + "/io"}
	if threads, err := fs.ReadDir(p.proc, dir+"/task"); err == nil && !withChildren {
		pages = pages[:0]
		for _, t := range threads {
			pages = append(pages, dir+"/task/"+t.Name()+"/io")
		}
	}
	for _, page := range pages {
		b, err := fs.ReadFile(p.proc, page)
		if err != nil {
			continue // a thread that has just ended, or pages that we may not read
		}
		u.IOKnown = true
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch k {
			case "write_bytes":
				u.Wrote += parseUint(v)
			case "read_bytes":
				u.Read += parseUint(v)
			case "syscr", "syscw":
				u.Calls += parseUint(v)
			}
		}
	}
}

// tree is pid and all below it.
func (p processes) tree(pid int) []int {
	entries, err := fs.ReadDir(p.proc, ".")
	if err != nil {
		return []int{pid}
	}
	children := map[int][]int{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := p.stat(n); err == nil && s.state != 'Z' {
			children[s.parent] = append(children[s.parent], n)
		}
	}
	out := []int{pid}
	for i := 0; i < len(out) && i < maxTree; i++ {
		out = append(out, children[out[i]]...)
		delete(children, out[i])
	}
	return out
}

const maxTree = 4096
