package gossip_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/gossip"
)

func minute(carrier string) gossip.Warning {
	return gossip.Warning{Carrier: carrier, Source: "s1", Pattern: "421 4.7.0", Until: time.Now().Add(time.Minute)}
}

func TestAWarningEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		var heard atomic.Int64
		o := f.nth(1)
		o.OnWarning = func(w gossip.Warning) {
			if w.From != "n2" || w.Carrier != "docomo" || w.Source != "s1" || w.Pattern != "421 4.7.0" {
				t.Errorf("%+v", w)
			}
			heard.Add(1)
		}
		one, two := start(t, o), start(t, f.nth(2))
		within(t, 15*time.Second, "all see all", func() bool { return len(one.Members()) == 2 && len(two.Members()) == 2 })
		w := minute("docomo")
		w.Until = time.Now().Add(time.Hour)
		began := time.Now()
		if err := two.Warn(w); err != nil {
			t.Fatal(err)
		}
		within(t, time.Second, "heard", func() bool { return len(one.Warnings()) == 1 })
		if left := one.Warnings()[0].Until.Sub(began); left > gossip.MaxWarning+time.Second {
			t.Errorf("it holds for %s", left)
		}
		if len(two.Warnings()) != 1 {
			t.Error("the node itself does not show it")
		}
		// Once more within a second is nothing new, later it is.
		if err := two.Warn(w); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if err := two.Warn(w); err != nil {
			t.Error(err)
		}
		within(t, time.Second, "heard again", func() bool { return heard.Load() == 2 })
		time.Sleep(gossip.MaxWarning)
		if len(one.Warnings())+len(two.Warnings()) != 0 {
			t.Errorf("after their time: %v, %v", one.Warnings(), two.Warnings())
		}
		if n := heard.Load(); n != 2 {
			t.Errorf("told %d times, want 2", n)
		}
	})
}

func TestWarnRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newFabric(t).nth(1))
		for name, w := range map[string]gossip.Warning{
			"no carrier": {Until: time.Now().Add(time.Minute)},
			"over":       {Carrier: "c", Until: time.Now()},
			"long":       {Carrier: strings.Repeat("c", 129), Until: time.Now().Add(time.Minute)},
			"control":    {Carrier: "c", Source: "a\nb", Until: time.Now().Add(time.Minute)},
			"not UTF-8":  {Carrier: "c\xff", Until: time.Now().Add(time.Minute)},
		} {
			if err := g.Warn(w); err == nil {
				t.Errorf("%s: it was sent", name)
			}
		}
		w := gossip.Warning{Carrier: "c", Pattern: "421 Réessayez\r\nplus \xfftard " + strings.Repeat("あ", 100), Until: time.Now().Add(time.Minute)}
		if err := g.Warn(w); err != nil {
			t.Error(err)
		}
		if got := g.Warnings()[0].Pattern; !strings.HasPrefix(got, "421 Réessayez  plus tard ああ") || len(got) > 128 {
			t.Errorf("a stranger's text became %q", got)
		}
		time.Sleep(time.Minute)
		many := 0
		for i := range 100 {
			if err := g.Warn(minute(fmt.Sprint(i))); errors.Is(err, gossip.ErrTooMany) {
				many++
			} else if err != nil {
				t.Error(err)
			}
		}
		if many != 60 {
			t.Errorf("%d of 100 at once were refused, want 60", many)
		}
		if err := g.Close(); err != nil || g.Warn(minute("c")) == nil {
			t.Errorf("a warning after the end: %v", err)
		}
	})
}

// TestWarningsAreBounded: one node can neither fill the table nor push out what
// others say.
func TestWarningsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := newFabric(t).cluster(t, 3)
		for i := range 1000 {
			gs[0].Notify(gs[1].WarningBytes(uint64(i+1), fmt.Sprint("flood", i), 60_000))
		}
		m := gs[0].Metrics()
		if m.Warnings != 256 || m.WarningsDropped < 744 {
			t.Errorf("%+v", m)
		}
		if err := gs[2].Warn(minute("real")); err != nil {
			t.Error(err)
		}
		within(t, time.Second, "heard beside the flood", func() bool { return gs[0].Metrics().Warnings == 257 })
	})
}

// TestARecordingIsNotHeard: nothing that was taken once is taken again, whether
// it has ended or not, nor what is of an earlier process or of a stranger.
func TestARecordingIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		gs := f.cluster(t, 2)
		old := gs[1].WarningBytes(1, "old", 1000)
		gs[0].Notify(old)
		if len(gs[0].Warnings()) != 1 {
			t.Fatal("not heard the first time")
		}
		time.Sleep(2 * time.Second)
		gs[0].Notify(old)
		gs[0].Notify(gs[0].WarningBytes(1, "from myself", 1000))
		stranger := start(t, func() gossip.Options { o := newFabric(t).nth(7); return o }())
		gs[0].Notify(stranger.WarningBytes(1, "of a stranger", 1000))
		if got := gs[0].Warnings(); len(got) != 0 {
			t.Errorf("heard %+v", got)
		}
		if m := gs[0].Metrics(); m.WarningsRepeated != 1 || m.Foreign != 1 {
			t.Errorf("%+v", m)
		}
		// The whole of what a node knew a while ago brings nothing back either.
		if err := gs[1].Warn(gossip.Warning{Carrier: "c", Until: time.Now().Add(2 * time.Second)}); err != nil {
			t.Error(err)
		}
		all := gs[1].Local()
		if !bytes.Contains(all, []byte(`"c":"c"`)) {
			t.Errorf("a synchronisation without the warning: %s", all)
		}
		time.Sleep(3 * time.Second)
		gs[0].Merge(all)
		if got := gs[0].Warnings(); len(got) != 0 {
			t.Errorf("brought back %+v", got)
		}
	})
}

func TestWindow(t *testing.T) {
	var w gossip.Window
	for _, c := range []struct {
		n    uint64
		want bool
	}{{0, false}, {5, true}, {5, false}, {4, true}, {4, false}, {1, true}, {70, true}, {6, false}, {7, true}, {69, true}, {70, false}, {1000, true}, {936, false}, {937, true}, {999, true}, {1001, true}} {
		if got := w.Take(c.n); got != c.want {
			t.Errorf("%d: %v", c.n, got)
		}
	}
}

// TestASlowListenerHoldsNothingUp: and is not called after the end.
func TestASlowListenerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		closed := atomic.Bool{}
		o := f.nth(1)
		o.OnWarning = func(gossip.Warning) {
			if closed.Load() {
				t.Error("called after the end")
			}
			time.Sleep(time.Second)
		}
		one, two := start(t, o), start(t, f.nth(2))
		within(t, 15*time.Second, "all see all", func() bool { return len(one.Members()) == 2 && len(two.Members()) == 2 })
		for i := range 300 {
			one.Notify(two.WarningBytes(uint64(i+1), "c", 60_000))
		}
		if m := one.Metrics(); m.WarningsHeard != 300 || m.WarningsDropped < 40 {
			t.Errorf("%+v", m)
		}
		if err := one.Close(); err != nil {
			t.Error(err)
		}
		closed.Store(true)
		one.Notify(two.WarningBytes(301, "c", 60_000))
		time.Sleep(5 * time.Second)
	})
}

// TestGarbageChangesNothing sends what a stranger can send to real sockets, and
// what a broken member can.
func TestGarbageChangesNothing(t *testing.T) {
	one := start(t, gossip.Options{Name: "n1", Listen: "127.0.0.1:0", Keys: [][]byte{key(1)}, Logger: quiet, Timing: gossip.Local})
	two := start(t, gossip.Options{Name: "n2", Listen: "127.0.0.1:0", Keys: [][]byte{key(1)}, Logger: quiet, Timing: gossip.Local, Join: []string{one.Address()}})
	inTime(t, 10*time.Second, func() bool { return len(one.Members()) == 2 && len(two.Members()) == 2 })
	udp, err := net.Dial("udp", one.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	junk := [][]byte{{0}, {7, 255}, {8, 'x'}, {10}, {12, 0, 0, 0, 0}, {244, 3, 'a', 'b', 'c'}, bytes.Repeat([]byte{0xff}, 1400), []byte("GET / HTTP/1.1\r\n\r\n")}
	for _, b := range junk {
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Dial("tcp", one.Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tcp.Write(b)
		_ = tcp.Close()
	}
	inTime(t, 10*time.Second, func() bool { return one.Metrics().Complaints >= uint64(len(junk)) })
	// Inside the encryption there is no stranger, but there may be a fault.
	for _, text := range []string{"", "x", "\x01", "\x01S", "\x02S{}", "\x01W{}", "\x01S{\"f\":\"n2\",\"n\":1,\"q\":-1}", "\x01W{\"f\":\"n2\",\"n\":1,\"c\":\"c\",\"l\":99999999}", "\x01W" + strings.Repeat("{", 2000), "\x01Snull"} {
		one.Notify([]byte(text))
		one.Merge([]byte(text))
	}
	one.Merge([]byte("\x01A{\"s\":[{\"f\":\"\"}],\"w\":[{\"c\":\"\"}]}"))
	m := one.Metrics()
	if m.Members != 2 || m.Warnings != 0 || m.Gone != 0 || m.Unreadable < 20 {
		t.Errorf("%+v", m)
	}
	if err := two.Warn(minute("still heard")); err != nil {
		t.Fatal(err)
	}
	inTime(t, 5*time.Second, func() bool { return len(one.Warnings()) == 1 })
}

// inTime waits in real time for what sockets bring.
func inTime(t testing.TB, limit time.Duration, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("not within %s", limit)
		}
		<-tick.C
	}
	return time.Since(began)
}

// TestAWarningReachesAllInASecond is on real sockets, with the timing of a
// network and more members than are told at once.
func TestAWarningReachesAllInASecond(t *testing.T) {
	const members = 12
	var gs []*gossip.Gossip
	for i := range members {
		o := gossip.Options{Name: fmt.Sprintf("n%02d", i), Listen: "127.0.0.1:0", Keys: [][]byte{key(1)}, Logger: quiet}
		if i > 0 {
			o.Join = []string{gs[0].Address()}
		}
		gs = append(gs, start(t, o))
	}
	inTime(t, 30*time.Second, func() bool { return allSee(gs, members) })
	var worst time.Duration
	for i := range 10 {
		if err := gs[i].Warn(minute(fmt.Sprint("c", i))); err != nil {
			t.Fatal(err)
		}
		took := inTime(t, 5*time.Second, func() bool {
			for _, g := range gs {
				if len(g.Warnings()) != i+1 {
					return false
				}
			}
			return true
		})
		worst = max(worst, took)
	}
	t.Logf("the slowest of 10 warnings reached all %d members in %s", members, worst)
	if worst > time.Second {
		t.Errorf("a warning took %s", worst)
	}
}

// TestGossipAloneSpreadsAWarning: with nobody told at once but by gossip, in
// virtual time, to more members than fit one round.
func TestGossipAloneSpreadsAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := newFabric(t).cluster(t, 40)
		// One member hears of it as if its datagram alone had come through.
		gs[1].Notify(gs[0].WarningBytes(1, "c", 60_000))
		took := within(t, 3*time.Second, "all know", func() bool {
			for _, g := range gs[1:] {
				if len(g.Warnings()) != 1 {
					return false
				}
			}
			return true
		})
		t.Logf("40 members in %s", took)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x01S{\"f\":\"n\",\"b\":1,\"n\":1,\"l\":0.5,\"q\":10,\"d\":\"draining\",\"c\":[{\"c\":\"docomo\",\"n\":5}]}"))
	f.Add([]byte("\x01W{\"f\":\"n\",\"b\":1,\"n\":1,\"c\":\"docomo\",\"s\":\"s1\",\"p\":\"421\",\"l\":1000}"))
	f.Add([]byte("\x01A{\"s\":[{\"f\":\"n\"}],\"w\":[{\"f\":\"n\"}]}"))
	f.Add([]byte(`{"v":"1.2.3","b":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		again := gossip.Again(b)
		if again == nil || len(again) < 2 || again[0] != 1 {
			return
		}
		if again[1] != 'A' && len(again) > 4*1000 {
			t.Errorf("%d bytes became %d", len(b), len(again))
		}
		if !json.Valid(again[2:]) {
			t.Errorf("%q became %q", b, again)
		}
		if third := gossip.Again(again); len(again) <= 1000 && !bytes.Equal(again, third) {
			t.Errorf("%q became %q, then %q", b, again, third)
		}
	})
}
