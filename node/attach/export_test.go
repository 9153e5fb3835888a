package attach

import (
	"errors"
	"net/netip"
	"sync"
)

// Crash is what Interfaces panics with at its turn.
type Crash struct{}

// Interfaces is a kernel in memory.
type Interfaces struct {
	mu        sync.Mutex
	Has       map[string]netip.Prefix // "eth0 192.0.2.1"
	Announced []string
	Fail      map[string]error // by "add", "remove", "has", "announce"
	Raced     bool             // somebody is faster than add
	CrashAt   int              // before or after an operation; 0 never
	steps     int
}

func NewInterfaces() *Interfaces { return &Interfaces{Has: map[string]netip.Prefix{}} }

func at(iface string, a netip.Addr) string { return iface + " " + a.String() }

func (k *Interfaces) step() {
	if k.steps++; k.steps == k.CrashAt {
		panic(Crash{})
	}
}

func (k *Interfaces) has(iface string, a netip.Addr) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.Has[at(iface, a)]
	return ok, k.Fail["has"]
}

func (k *Interfaces) add(iface string, p netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step()
	if err := k.Fail["add"]; err != nil {
		return err
	}
	if _, ok := k.Has[at(iface, p.Addr())]; ok || k.Raced {
		k.Has[at(iface, p.Addr())] = p
		return errThere
	}
	k.Has[at(iface, p.Addr())] = p
	k.step()
	return nil
}

func (k *Interfaces) remove(iface string, p netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step()
	if err := k.Fail["remove"]; err != nil {
		return err
	}
	if k.Has[at(iface, p.Addr())] == p {
		delete(k.Has, at(iface, p.Addr()))
	}
	k.step()
	return nil
}

func (k *Interfaces) announce(iface string, a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.Fail["announce"]; err != nil {
		return err
	}
	k.Announced = append(k.Announced, at(iface, a))
	return nil
}

// Use gives tests another kernel and another boot.
func (o *Options) Use(k *Interfaces, boot string) { o.kernel, o.boot = k, boot }

// Parse is how the file is read; Check says whether each record could be taken off.
func Parse(b []byte) ([]Record, error) {
	rs, err := parse(b)
	for _, r := range rs {
		if r.Program == nil && !r.prefix().IsValid() {
			return rs, errors.New("BUG: a record without a prefix")
		}
	}
	return rs, err
}
