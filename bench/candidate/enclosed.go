package candidate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// enclosed is a mail server whose places in the file system are compiled in. It
// runs in a mount namespace of its own (unshare(1)), where its configuration,
// its users, its spool and, if it is not installed as a package, its programs
// and libraries lie where it looks for them. The machine itself is not changed.
type enclosed struct {
	name, version, durability string
	addr                      string
	dir                       string
	process                   *Process
	group                     *group
	log                       string // file, if it does not print
}

// enclosure is how one is started.
type enclosure struct {
	name       string
	program    string // found by Find
	args       []string
	files      map[string]string // by path below the directory
	users      []string          // made up where the machine has them not
	durability string
	log        string
	addr       string
}

// mountScript lays directories over others (over LOWER TARGET), puts them in
// their place (bind SOURCE TARGET), joins a control group and becomes the program.
const mountScript = `set -e
while [ "$1" != -- ]; do
	case $1 in
	over) mount -t overlay overlay -o "lowerdir=$2:$3" "$3" ;;
	bind) mount --bind "$2" "$3" ;;
	join) echo $$ >"$2" ;;
	esac
	shift 3
done
shift
exec "$@"`

// start starts it below dir, which it owns from here on.
func (e enclosure) start(ctx context.Context, dir, version string) (_ *enclosed, err error) {
	c := &enclosed{name: e.name, version: version, durability: e.durability, addr: e.addr, dir: dir}
	if e.log != "" {
		c.log = filepath.Join(dir, e.log)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w\n%s", e.name, err, Tail(c.Output(), 3000)), c.Close())
		}
	}()
	if os.Getuid() != 0 {
		return nil, ErrNeedsRoot
	}
	unshare, err := Find("unshare", "install the Debian package util-linux")
	if err != nil {
		return nil, err
	}
	if err := e.write(dir); err != nil {
		return nil, err
	}
	if c.group, err = newGroup(e.name); err != nil {
		return nil, err
	}
	args := []string{"--mount", "--propagation", "private", "sh", "-c", mountScript, "sh",
		"join", filepath.Join(c.group.dir, "cgroup.procs"), "-",
		"over", filepath.Join(dir, "etc"), "/etc", "over", filepath.Join(dir, "varlib"), "/var/lib",
		"bind", filepath.Join(dir, "spool"), "/var/spool", "bind", filepath.Join(dir, "log"), "/var/log", "bind", filepath.Join(dir, "run"), "/run"}
	if root := peersRoot(e.program); root != "" {
		args = append(args, "over", filepath.Join(root, "usr"), "/usr")
	}
	args = append(append(args, "--", filepath.Join("/usr/sbin", filepath.Base(e.program))), e.args...)
	if c.process, err = StartProcess(unshare, args, ProcessOptions{}); err != nil {
		return nil, err
	}
	if err := listening(ctx, c.process, e.addr); err != nil {
		return nil, err
	}
	return c, onlyLoopback(c.PIDs())
}

// peersRoot is the directory that a program was unpacked in, with usr/sbin
// below it, or "" for one that is installed.
func peersRoot(program string) string {
	root, ok := strings.CutSuffix(filepath.Dir(program), "/usr/sbin")
	if !ok || root == "" {
		return ""
	}
	return root
}

// write makes the directories, the files and the lists of users.
func (e enclosure) write(dir string) error {
	if strings.ContainsAny(dir, ":,\\") {
		return fmt.Errorf("directory %s: a mount option cannot hold its name", dir)
	}
	for _, d := range []string{"etc", "varlib", "spool", "log", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	for i, u := range e.users {
		if !strings.Contains("\n"+string(passwd), "\n"+u+":") {
			passwd = fmt.Appendf(passwd, "%s:x:%d:%d::/var/lib/%s/empty:/usr/sbin/nologin\n", u, firstUser+i, firstUser+i, e.name)
		}
		if !strings.Contains("\n"+string(groups), "\n"+u+":") {
			groups = fmt.Appendf(groups, "%s:x:%d:\n", u, firstUser+i)
		}
	}
	files := map[string]string{"etc/passwd": string(passwd), "etc/group": string(groups)}
	for name, text := range e.files {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// firstUser is the number of the first made-up user: above what Debian gives
// to packages and people, below "nobody".
const firstUser = 64_800

func (c *enclosed) Name() string       { return c.name }
func (c *enclosed) Version() string    { return c.version }
func (c *enclosed) Address() string    { return c.addr }
func (c *enclosed) Durability() string { return c.durability }
func (c *enclosed) PIDs() []int        { return c.group.pids() }

func (c *enclosed) Exited() chan struct{} { return c.process.Exited() }

// Usage is the group's. What ended processes wrote to disk is not known.
func (c *enclosed) Usage() Usage {
	u := Usage{CPU: c.group.cpu()}
	for _, pid := range c.PIDs() {
		u.PeakRSS += UsageOf(pid).PeakRSS
	}
	return u
}

func (c *enclosed) Output() string {
	out := ""
	if c.process != nil {
		out = c.process.Output()
	}
	if c.log != "" {
		b, _ := os.ReadFile(c.log) // none yet is an empty one
		out += string(b)
	}
	return out
}

func (c *enclosed) Close() error {
	if c.process != nil {
		_ = c.process.Stop(5 * time.Second) // its way of ending says nothing at Close
	}
	var err error
	if c.group != nil {
		err = c.group.close()
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
