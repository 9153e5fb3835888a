package control

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
)

// This file brings addresses to the machine and takes them off, and looks
// whether they are there.

// addressEvery is how often addresses are looked for on the machine, and
// attaching is tried again.
const addressEvery = 5 * time.Second

// attachAtOnce bounds how many addresses are attached or detached at a time.
const attachAtOnce = 8

// sweep takes off what an earlier process left on this machine: other nodes may
// have those addresses by now. What is pinned here stays.
func (c *Control) sweep(ctx context.Context) {
	c.mu.Lock()
	set := c.mu.set
	c.mu.Unlock()
	if c.opt.Attach == nil || set == nil {
		return
	}
	if err := c.opt.Attach.Sweep(ctx, func(source string) bool { return c.fixedHere(set.Sources[source]) }); err != nil {
		c.alarm("sweep", "addresses that an earlier process attached could not be taken off: "+err.Error())
	}
}

// job runs fn under the context of Run's jobs.
func (c *Control) job(fn func(context.Context)) {
	ctx := *c.root.Load()
	c.jobs.Go(func() { fn(ctx) })
}

// attachLocked puts the address on the machine, if need be, and looks whether
// it is there.
func (c *Control) attachLocked(t *tenure) {
	src := t.policy
	c.job(func(ctx context.Context) {
		fault := c.attach(ctx, t, src)
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.phase == attaching || t.phase == ready {
			c.faultLocked(t, fault)
			t.phase = ready
		}
		c.look()
		nudge(c.report)
	})
}

// attach returns why the source cannot be used, or "".
func (c *Control) attach(ctx context.Context, t *tenure, src *policy.Source) string {
	if src.Address == "" {
		return ""
	}
	c.addresses <- struct{}{}
	defer func() { <-c.addresses }()
	t.address.Lock()
	defer t.address.Unlock()
	if t.hold.over.Load() {
		return "" // its address may have been taken off already
	}
	if c.opt.Attach != nil {
		if err := c.opt.Attach.Attach(ctx, t.source, t.epoch, src); err != nil {
			return "attach " + src.Address + ": " + err.Error()
		}
	}
	addr, err := netip.ParseAddr(src.Address)
	if err != nil {
		return err.Error()
	}
	if err := c.opt.OnMachine(addr); err != nil {
		return src.Address + " is not on this machine: " + err.Error()
	}
	return ""
}

func (c *Control) faultLocked(t *tenure, fault string) {
	switch {
	case fault == t.fault:
	case fault == "":
		c.log.Info("a source can be used again", "source", t.source)
	default:
		c.log.Error("a source cannot be used; its mail goes by others", "source", t.source, "error", fault)
	}
	t.fault = fault
}

// bindable says why an address cannot be sent from: no socket can be bound to
// it. That is what counts, whatever the interfaces list.
func bindable(a netip.Addr) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *Control) detach(ctx context.Context, t *tenure, src *policy.Source) {
	if c.opt.Attach == nil || src.Address == "" {
		return
	}
	c.addresses <- struct{}{}
	defer func() { <-c.addresses }()
	t.address.Lock()
	defer t.address.Unlock()
	if err := c.takeOff(ctx, t.source, t.epoch, src); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.fault = err.Error() // it is released all the same: nothing is sent from it
	}
}

// takeOff detaches one address. What fails is tried again by the address loop.
func (c *Control) takeOff(ctx context.Context, name string, epoch int64, src *policy.Source) error {
	alarm := "detach " + name
	err := c.opt.Attach.Detach(ctx, name, epoch, src)
	if err != nil {
		err = fmt.Errorf("the address of source %q could not be taken off this machine: %w", name, err)
		c.alarm(alarm, err.Error())
	} else {
		c.clearAlarm(alarm)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.mu.stuck, name)
	} else {
		c.mu.stuck[name] = max(epoch, c.mu.stuck[name])
	}
	return err
}

// addressLoop looks from time to time whether the addresses are there.
func (c *Control) addressLoop(ctx context.Context) {
	for sleep(ctx, jitter(addressEvery)) {
		c.mu.Lock()
		var list []*tenure
		for _, t := range c.mu.tenures {
			if t.phase == ready && t.policy.Address != "" {
				list = append(list, t)
			}
		}
		c.mu.Unlock()
		for _, t := range list {
			fault := c.stillThere(ctx, t)
			c.mu.Lock()
			if t.phase == ready && fault != t.fault {
				c.faultLocked(t, fault)
				c.look()
			}
			c.mu.Unlock()
		}
		c.mu.Lock()
		stuck := maps.Clone(c.mu.stuck)
		c.mu.Unlock()
		for name, epoch := range stuck {
			_ = c.takeOff(ctx, name, epoch, nil) // an alarm until it succeeds
		}
	}
}

func (c *Control) stillThere(ctx context.Context, t *tenure) string {
	c.mu.Lock()
	src, fault := t.policy, t.fault
	c.mu.Unlock()
	addr, err := netip.ParseAddr(src.Address)
	if err != nil {
		return err.Error()
	}
	err = c.opt.OnMachine(addr)
	switch {
	case err != nil && fault == "":
		return src.Address + " is not on this machine any more: " + err.Error()
	case err != nil && c.opt.Attach == nil:
		return fault
	case err == nil && fault == "":
		return ""
	}
	return c.attach(ctx, t, src)
}
