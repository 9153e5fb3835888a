package candidate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// group is a control group of its own for a mail server whose processes do not
// wait for each other: an ended process's CPU time is then in nobody's account
// but the group's.
type group struct {
	dir  string
	read func(dir string) (time.Duration, error)
}

// newGroup makes one, below version 2 or the cpuacct controller of version 1.
func newGroup(name string) (*group, error) {
	const root = "/sys/fs/cgroup"
	g := &group{read: readGroupV2}
	parent := root
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		parent, g.read = filepath.Join(root, "cpuacct"), readGroupV1
		if _, err := os.Stat(filepath.Join(parent, "cpuacct.usage")); err != nil {
			return nil, errors.New("the machine has no control groups that count CPU time")
		}
	}
	var err error
	if g.dir, err = os.MkdirTemp(parent, "hikyaku-"+name+"-"); err != nil {
		return nil, fmt.Errorf("control group: %w", err)
	}
	return g, nil
}

func readGroupV1(dir string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return time.Duration(ns), err
}

func readGroupV2(dir string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, errors.New("cpu.stat has no usage_usec")
}

// cpu is what the group's processes used so far, ended ones too.
func (g *group) cpu() time.Duration {
	d, _ := g.read(g.dir) // the group is there until close
	return d
}

// pids are the group's living processes.
func (g *group) pids() []int {
	b, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// close ends what is left in the group, which only holds what was started in
// it, and removes it.
func (g *group) close() error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids := g.pids()
		if len(pids) == 0 {
			if err := os.Remove(g.dir); err == nil || time.Now().After(deadline) {
				return err
			}
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("control group %s: processes %v do not end", g.dir, pids)
		}
		<-time.After(5 * time.Millisecond)
	}
}
