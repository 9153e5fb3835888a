package gossip_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/gossip"
)

func TestStartRefuses(t *testing.T) {
	good := gossip.Options{Name: "n", Listen: "127.0.0.1:0", Logger: quiet}
	for name, c := range map[string]struct {
		change func(*gossip.Options)
		want   string
	}{
		"no name":           {func(o *gossip.Options) { o.Name = "" }, "name"},
		"beyond loopback":   {func(o *gossip.Options) { o.Listen = "192.0.2.1:7946" }, "there is no key"},
		"all addresses":     {func(o *gossip.Options) { o.Listen = "0.0.0.0:7946" }, "there is no key"},
		"all addresses v6":  {func(o *gossip.Options) { o.Listen = "[::]:7946" }, "there is no key"},
		"no address":        {func(o *gossip.Options) { o.Listen = ":7946" }, "want an IP address"},
		"a name":            {func(o *gossip.Options) { o.Listen = "gossip.example.net:7946" }, "want an IP address"},
		"no port":           {func(o *gossip.Options) { o.Listen = "127.0.0.1" }, "want address:port"},
		"advertises beyond": {func(o *gossip.Options) { o.Advertise = "192.0.2.1:7946" }, "there is no key"},
		"nothing to advertise": {func(o *gossip.Options) {
			o.Listen, o.Keys = "0.0.0.0:0", [][]byte{key(1)}
		}, "advertise one"},
		"short key":  {func(o *gossip.Options) { o.Keys = [][]byte{[]byte("secret")} }, "16, 24 or 32"},
		"three keys": {func(o *gossip.Options) { o.Keys = [][]byte{key(1), key(2), key(3)} }, "at most 2"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			g, err := gossip.Start(t.Context(), o)
			if err == nil {
				_ = g.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v: want …%s…", err, c.want)
			}
		})
	}
}

func TestMembersHearOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := newFabric(t).cluster(t, 5)
		queues := []gossip.Queue{{Carrier: "", Queued: 9}, {Carrier: "none"}}
		for i := range 100 {
			queues = append(queues, gossip.Queue{Carrier: fmt.Sprintf("carrier-%d", i), Queued: int64(i)})
		}
		gs[2].SetState(gossip.State{Load: 0.456, Queued: 5000, Queues: queues})
		gs[3].SetState(gossip.State{Load: math.NaN(), Queued: -1, Drain: "draining"})
		state := func(g *gossip.Gossip, name string) gossip.Member {
			i := slices.IndexFunc(g.Members(), func(m gossip.Member) bool { return m.Name == name })
			return g.Members()[i]
		}
		for _, g := range gs {
			within(t, time.Minute, "states", func() bool { return state(g, "n3").State.Queued == 5000 && state(g, "n4").State.Drain != "" })
			m := state(g, "n3")
			if m.Address != "10.0.0.3:7946" || m.Version != "1.0.3" || m.State.Load != 0.46 || m.Started.After(m.Since) || m.Heard.Before(m.Since) {
				t.Errorf("%+v", m)
			}
			if q := m.State.Queues; len(q) != 16 || q[0] != (gossip.Queue{Carrier: "carrier-99", Queued: 99}) || q[15].Queued != 84 {
				t.Errorf("the longest queues are %+v", q)
			}
			if d := state(g, "n4").State; d.Drain != "draining" || d.Load != 0 || d.Queued != 0 {
				t.Errorf("n4: %+v", d)
			}
		}
	})
}

// TestStateThatDoesNotFitADatagramIsCut: carriers with long names.
func TestStateThatDoesNotFitADatagramIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := newFabric(t).cluster(t, 2)
		var queues []gossip.Queue
		for i := range 16 {
			queues = append(queues, gossip.Queue{Carrier: strings.Repeat("x", 100) + fmt.Sprint(i), Queued: int64(100 - i)})
		}
		gs[0].SetState(gossip.State{Queued: 1, Queues: queues})
		within(t, 5*time.Second, "state", func() bool { return gs[1].Members()[0].State.Queued == 1 })
		if n := len(gs[1].Members()[0].State.Queues); n == 0 || n >= 16 {
			t.Errorf("%d queues came", n)
		}
	})
}

func TestLeaveIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := newFabric(t).cluster(t, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := gs[3].Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if took := within(t, 2*time.Second, "others know", func() bool { return allSee(gs[:3], 3) }); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if err := gs[3].Close(); err != nil {
			t.Error(err)
		}
		if err := gs[3].Leave(ctx); err != nil {
			t.Errorf("leaving after the end: %v", err)
		}
	})
}

func TestADeadNodeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		gs := f.cluster(t, 5)
		f.setCut(func(from, to string) bool { return (from == "n5") != (to == "n5") })
		took := within(t, 20*time.Second, "others know", func() bool { return allSee(gs[:4], 4) })
		t.Logf("noticed after %s", took)
		if gs[0].Metrics().Lost != 1 {
			t.Error("nobody looks for it")
		}
	})
}

// TestASplitHeals: after longer than memberlist remembers the dead.
func TestASplitHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		gs := f.cluster(t, 5)
		// The first knows nobody's address but from gossip.
		here := map[string]bool{"n1": true, "n2": true}
		f.setCut(func(from, to string) bool { return here[from] != here[to] })
		within(t, 2*time.Minute, "two halves", func() bool { return allSee(gs[:2], 2) && allSee(gs[2:], 3) })
		time.Sleep(10 * time.Minute)
		if !allSee(gs[:2], 2) || !allSee(gs[2:], 3) {
			t.Error("the halves did not hold")
		}
		if err := gs[0].Warn(gossip.Warning{Carrier: "here", Until: time.Now().Add(time.Minute)}); err != nil {
			t.Error(err)
		}
		f.setCut(nil)
		took := within(t, 30*time.Second, "one cluster again", func() bool { return allSee(gs, 5) })
		t.Logf("healed after %s", took)
		// What was said meanwhile is heard.
		within(t, 30*time.Second, "the warning", func() bool { return len(gs[4].Warnings()) == 1 })
	})
}

func TestStrangersStayOutside(t *testing.T) {
	for name, change := range map[string]func(*gossip.Options){
		"another key":     func(o *gossip.Options) { o.Keys = [][]byte{key(9)} },
		"another cluster": func(o *gossip.Options) { o.Cluster = "d" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				gs := f.cluster(t, 3)
				o := f.nth(4)
				change(&o)
				stranger := start(t, o)
				stranger.SetState(gossip.State{Queued: 1})
				time.Sleep(time.Minute)
				if !allSee(gs, 3) || len(stranger.Members()) != 1 {
					t.Errorf("members: %v", stranger.Members())
				}
				if stranger.Metrics().JoinsFailed == 0 || gs[0].Metrics().Complaints == 0 {
					t.Error("nobody noticed")
				}
			})
		})
	}
}

// rotate goes from one key to the next on a running cluster, in the steps given.
func rotate(t *testing.T, steps ...func(*gossip.Gossip) error) (gs []*gossip.Gossip, lost uint64, heard []int64) {
	f := newFabric(t)
	counts := make([]atomic.Int64, 4)
	for i := range counts {
		o := f.nth(i + 1)
		o.OnWarning = func(gossip.Warning) { counts[i].Add(1) }
		gs = append(gs, start(t, o))
	}
	within(t, 15*time.Second, "all see all", func() bool { return allSee(gs, 4) })
	said := 0
	talk := func() {
		for range 10 {
			if err := gs[said%4].Warn(gossip.Warning{Carrier: fmt.Sprint("c", said), Until: time.Now().Add(10 * time.Second)}); err != nil {
				t.Error(err)
			}
			said++
			pass(500 * time.Millisecond)
		}
	}
	for _, step := range steps {
		talk()
		for _, g := range gs {
			if err := step(g); err != nil {
				t.Fatal(err)
			}
			pass(time.Second) // the nodes are not of one mind meanwhile
		}
	}
	talk()
	pass(30 * time.Second)
	for i, g := range gs {
		lost += g.Metrics().Gone
		heard = append(heard, counts[i].Load())
	}
	return gs, lost, heard
}

func TestKeysAreChangedUnderTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs, lost, heard := rotate(t,
			func(g *gossip.Gossip) error { return g.InstallKey(key(2)) },
			func(g *gossip.Gossip) error { return g.UseKey(key(2)) },
			func(g *gossip.Gossip) error { return g.RemoveKey(key(1)) },
		)
		// Each hears the 40 warnings but its own.
		if lost != 0 || !slices.Equal(heard, []int64{30, 30, 30, 30}) || !allSee(gs, 4) {
			t.Errorf("%d members lost, heard %v", lost, heard)
		}
		if got := gs[0].Keys(); !slices.Equal(got, []string{gossip.KeyID(key(2))}) {
			t.Errorf("keys %v", got)
		}
	})
}

// TestKeysChangedInOneStepLoseMembers is the negative control: without the first
// step, the nodes do not understand each other for a while.
func TestKeysChangedInOneStepLoseMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, heard := rotate(t, func(g *gossip.Gossip) error {
			if err := g.InstallKey(key(2)); err != nil {
				return err
			}
			if err := g.UseKey(key(2)); err != nil {
				return err
			}
			time.Sleep(5 * time.Second)
			if err := g.Warn(gossip.Warning{Carrier: "unheard", Until: time.Now().Add(time.Second)}); err != nil {
				return err
			}
			time.Sleep(5 * time.Second)
			return g.RemoveKey(key(1))
		})
		// 20 by talk, of which 15 are others', and 3 more if all were heard.
		if slices.Equal(heard, []int64{18, 18, 18, 18}) {
			t.Errorf("nothing was lost, heard %v: does the test above test anything?", heard)
		}
	})
}

func TestKeyRingRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newFabric(t).nth(1))
		for what, c := range map[string]struct {
			err  error
			want string
		}{
			"use of a stranger":  {g.UseKey(key(2)), "not installed"},
			"removal of the one": {g.RemoveKey(key(1)), "in use"},
			"short":              {g.InstallKey([]byte("x")), "16, 24 or 32"},
			"again":              {g.InstallKey(key(1)), ""},
			"second":             {g.InstallKey(key(2)), ""},
			"third":              {g.InstallKey(key(3)), "not at its end"},
			"gone":               {g.RemoveKey(key(7)), ""},
		} {
			if (c.err == nil) != (c.want == "") || c.err != nil && !strings.Contains(c.err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", what, c.err, c.want)
			}
		}
	})
	open, err := gossip.Start(t.Context(), gossip.Options{Name: "n", Listen: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	if err := open.InstallKey(key(1)); err == nil || open.Keys() != nil || open.UseKey(key(1)) == nil || open.SetKeys([][]byte{key(1)}) == nil || open.RemoveKey(key(1)) == nil {
		t.Errorf("a ring where there is none: %v", err)
	}
}

func TestSetKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newFabric(t).nth(1))
		ids := func(keys ...[]byte) (out []string) {
			for _, k := range keys {
				out = append(out, gossip.KeyID(k))
			}
			return out
		}
		for _, ring := range [][][]byte{
			{key(1)}, {key(1), key(2)}, {key(2), key(1)}, {key(2)}, // a change
			{key(3), key(4)}, {key(5), key(6)}, {key(6), key(5)}, {key(7)}, // and several slept through
			{key(7), key(7)},
		} {
			want := ids(ring...)
			want = slices.Compact(want)
			for range 2 {
				if err := g.SetKeys(ring); err != nil {
					t.Error(err)
				}
				if got := g.Keys(); !slices.Equal(got, want) {
					t.Errorf("keys %v, want %v", got, want)
				}
			}
		}
		for _, bad := range [][][]byte{nil, {key(1), key(2), key(3)}, {[]byte("x")}, {key(1), nil}} {
			if err := g.SetKeys(bad); err == nil {
				t.Errorf("%d keys were taken", len(bad))
			}
		}
		if got := g.Keys(); !slices.Equal(got, ids(key(7))) {
			t.Errorf("after what was refused the keys are %v", got)
		}
	})
}

// TestANodeComesBack: its new process is heard, though its numbers begin anew,
// and on another address.
func TestANodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		gs := f.cluster(t, 3)
		for i := range 5 {
			gs[2].SetState(gossip.State{Queued: int64(i)})
			if err := gs[2].Warn(gossip.Warning{Carrier: fmt.Sprint(i), Until: time.Now().Add(time.Second)}); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Second)
		}
		if err := gs[2].Close(); err != nil { // without a word
			t.Fatal(err)
		}
		within(t, 20*time.Second, "dead", func() bool { return allSee(gs[:2], 2) })
		o := f.nth(3)
		o.Listen, o.Version = "10.0.0.33:7946", "2.0.0"
		again := start(t, o)
		again.SetState(gossip.State{Queued: 77})
		within(t, 60*time.Second, "back", func() bool {
			m := gs[0].Members()
			return len(m) == 3 && m[2].Address == "10.0.0.33:7946" && m[2].Version == "2.0.0" && m[2].State.Queued == 77
		})
		if err := again.Warn(gossip.Warning{Carrier: "new", Until: time.Now().Add(time.Minute)}); err != nil {
			t.Error(err)
		}
		within(t, time.Second, "its warning", func() bool { return len(gs[0].Warnings()) == 1 })
	})
}

func TestASecondNodeOfANameIsNotTakenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		gs := f.cluster(t, 3)
		o := f.nth(3)
		o.Listen = "10.0.0.99:7946"
		start(t, o)
		within(t, time.Minute, "noticed", func() bool { return gs[0].Metrics().Conflicts > 0 })
		if m := gs[0].Members(); len(m) != 3 || m[2].Address != "10.0.0.3:7946" {
			t.Errorf("members %+v", m)
		}
	})
}

// TestDeadAddressesDoNotKeepOneOut: of many to join, one lives.
func TestDeadAddressesDoNotKeepOneOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		first := start(t, f.nth(1))
		o := f.nth(2)
		o.Join = nil
		second := start(t, o)
		var join []string
		for i := range 40 {
			join = append(join, fmt.Sprintf("10.9.9.%d:7946", i), "not an address")
		}
		second.SetJoin(append(join, first.Address()))
		took := within(t, 10*time.Minute, "joined", func() bool { return len(second.Members()) == 2 })
		t.Logf("joined after %s", took)
	})
}
