package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hikyaku/bench/candidate"
)

// Etcd is a cluster of etcd members, each a process of its own.
type Etcd struct {
	binary  string
	members []*member
}

type member struct {
	name, dir, client, peer string
	process                 *candidate.Process
}

// StartEtcd starts n members on a loopback address, with their data under dir.
func StartEtcd(ctx context.Context, binary, dir, host string, n int) (_ *Etcd, err error) {
	e := &Etcd{binary: binary}
	for i := range n {
		m := &member{name: fmt.Sprintf("etcd%d", i), dir: filepath.Join(dir, fmt.Sprintf("etcd%d", i))}
		for _, a := range []*string{&m.client, &m.peer} {
			if *a, err = candidate.FreeAddressOf(host); err != nil {
				return nil, err
			}
		}
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			return nil, err
		}
		e.members = append(e.members, m)
	}
	for i := range e.members {
		if err := e.start(i); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	for i := range e.members {
		if err := e.wait(ctx, i); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// Endpoints are the client addresses.
func (e *Etcd) Endpoints() []string {
	out := make([]string, len(e.members))
	for i, m := range e.members {
		out[i] = m.client
	}
	return out
}

// Process is one member's process.
func (e *Etcd) Process(i int) *candidate.Process { return e.members[i].process }

// Restart starts a member again that was killed, and waits for it.
func (e *Etcd) Restart(ctx context.Context, i int) error {
	if err := e.start(i); err != nil {
		return err
	}
	return e.wait(ctx, i)
}

func (e *Etcd) start(i int) (err error) {
	m := e.members[i]
	var all []string
	for _, o := range e.members {
		all = append(all, o.name+"=http://"+o.peer)
	}
	m.process, err = candidate.StartProcess(e.binary, []string{"dev", "etcd", "--name", m.name, "--data-dir", m.dir,
		"--listen", m.client, "--peer-listen", m.peer, "--members", strings.Join(all, ",")}, candidate.ProcessOptions{})
	return err
}

// wait until the member takes connections; whether it has a leader is its
// clients' to see.
func (e *Etcd) wait(ctx context.Context, i int) error {
	m := e.members[i]
	err := candidate.Until(ctx, 30*time.Second, m.name+" to listen", func() (bool, error) {
		if !m.process.Running() {
			return false, fmt.Errorf("%s has ended", m.name)
		}
		c, err := net.DialTimeout("tcp", m.client, time.Second)
		if err != nil {
			return false, nil
		}
		return true, c.Close()
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, candidate.Tail(m.process.Output(), 4000))
	}
	return nil
}

// Close ends all members. One that is paused is killed.
func (e *Etcd) Close() error {
	for _, m := range e.members {
		if m.process != nil {
			_ = m.process.Kill() // that it was killed is no news
		}
	}
	return nil
}
