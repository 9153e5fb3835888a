package control_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/node/control"
)

// granted is an answer with one grant and this floor.
func granted(floor int64) func(*exchange.Report) (*exchange.Answer, int) {
	return func(*exchange.Report) (*exchange.Answer, int) {
		return &exchange.Answer{Leader: "c1", Floor: floor, Rank: 1, Members: 2, Revision: 5,
			Grants: []exchange.Grant{{Scope: exchange.Scope{Kind: exchange.Carrier, Carrier: "gmail"}, Holding: exchange.Holding{Share: 100, Burst: 2}}},
			Homes:  []exchange.Home{{Pool: "p", Nodes: []string{"b"}}}}, http.StatusOK
	}
}

func refusing(*exchange.Report) (*exchange.Answer, int) { return nil, http.StatusServiceUnavailable }

func TestExchange(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	l.answers(granted(3000))
	o := w.options("a", "spool-a")
	m := w.start(o)
	until(t, "granted", func() bool { return len(m.node.grants().List) == 1 })
	g := m.node.grants()
	if g.Floor != 3000 || g.Rank != 1 || g.Members != 2 || g.Revision != 5 || g.Lease != m.Status().Lease || g.List[0].Share != 100 {
		t.Errorf("in force: %+v", g)
	}
	if left := time.Until(g.Until); left > exchange.GrantTTL-exchange.GrantMargin || left < time.Second {
		t.Errorf("grants hold for %s", left)
	}
	r := l.reported("the answer is confirmed", func(r *exchange.Report) bool { return r.Applied > 0 && r.Floor == 3000 })
	if r.Applied != r.Serial-1 || r.Term != l.term() || r.Left <= 0 || r.Left > exchange.GrantTTL || r.Queued != 7 || r.Node != "a" {
		t.Errorf("reported %+v", r)
	}
	until(t, "the homes of pools are told", func() bool { homes, _ := m.node.told(); return homes == 1 })
	l.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		a, status := granted(3000)(r)
		a.Drain = true
		return a, status
	})
	until(t, "drained", func() bool { return m.Status().Draining })
	l.answers(refusing)
	until(t, "the grants have run out", func() bool { return m.node.grants().Until.IsZero() })
	if g := m.node.grants(); g.Floor != 3000 || len(g.List) != 0 {
		t.Errorf("in force without a leader: %+v", g)
	}
	if _, unsent := m.node.told(); !containsAny(m.Status().Alarms, "503") || unsent == 0 || m.Metrics().GrantsRunOut != 1 {
		t.Errorf("alarms %q, unsent %d", m.Status().Alarms, unsent)
	}
	l.reported("that no grants are left", func(r *exchange.Report) bool { return r.Applied == 0 && r.Left == 0 })
}

// The time of a grant begins when the report was sent: an answer that took
// longer than it holds grants nothing.
func TestGrantsOfAnAnswerThatTookTooLong(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	l.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		a, status := granted(1000)(r)
		a.TTL = exchange.GrantMargin
		return a, status
	})
	m := w.start(w.options("a", "spool-a"))
	until(t, "answered", func() bool { return m.node.grants().Floor == 1000 })
	if g := m.node.grants(); len(g.List) != 0 || !g.Until.IsZero() {
		t.Errorf("in force: %+v", g)
	}
}

// The negative control.
func TestGrantsForever(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	l.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		a, status := granted(1000)(r)
		a.TTL = exchange.GrantMargin + 100*time.Millisecond
		return a, status
	})
	o := w.options("a", "spool-a")
	o.Unsafe.GrantsForever = true
	m := w.start(o)
	until(t, "granted", func() bool { return len(m.node.grants().List) == 1 })
	l.answers(refusing)
	l.reported("two reports without an answer", func(r *exchange.Report) bool { return r.Serial > 3 })
	if g := m.node.grants(); len(g.List) != 1 || time.Until(g.Until) < time.Hour {
		t.Errorf("grants ran out although that was switched off: %+v", g)
	}
}

// A node counts permits by lease. Under a new registration those of the one
// before must not be reported: the leader would count them as its own.
func TestPermitsOfTheLeaseBefore(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	l.answers(granted(1000))
	m := w.start(w.options("a", "spool-a"))
	until(t, "granted", func() bool { return len(m.node.grants().List) == 1 })
	before := m.Status().Lease
	m.node.mu.Lock()
	m.node.mu.demand = []exchange.Demand{{Scope: exchange.Scope{Kind: exchange.Carrier, Carrier: "gmail"},
		Holding: exchange.Holding{Issued: 9, Void: 3}, Spent: 2, Returned: 1, Kept: 4}}
	m.node.mu.Unlock()
	l.reported("its permits", func(r *exchange.Report) bool {
		return r.Lease == before && len(r.Demands) == 1 && r.Demands[0].Issued == 9
	})
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(before)); err != nil {
		t.Fatal(err)
	}
	r := l.reported("under another lease", func(r *exchange.Report) bool { return r.Lease != before && r.Applied == 0 })
	if d := r.Demands[0]; d.Issued != 0 || d.Void != 0 || d.Spent != 0 || d.Returned != 0 || d.Kept != 4 {
		t.Errorf("reported %+v", d)
	}
	l.reported("once it has an answer under that lease", func(r *exchange.Report) bool {
		return r.Lease != before && r.Applied > 0 && r.Demands[0].Issued == 9 && r.Demands[0].Spent == 2
	})
}

func TestStaleLeader(t *testing.T) {
	w := newWorld(t)
	old := newLeader(w, "c1")
	old.answers(granted(1000))
	m := w.start(w.options("a", "spool-a"))
	until(t, "granted by the first", func() bool { return m.node.grants().Floor == 1000 })
	next := newLeader(w, "c2")
	next.answers(granted(2000))
	until(t, "granted by the second", func() bool { return m.node.grants().Floor == 2000 })
	term := m.Status().Term
	if m.Status().Leader != "c2" {
		t.Errorf("leader %q", m.Status().Leader)
	}
	next.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		a, status := granted(60000)(r)
		a.Term = term - 1
		return a, status
	})
	until(t, "answers of an older term are refused", func() bool { return m.Metrics().StaleAnswers > 0 })
	next.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		a, status := granted(60000)(r)
		a.Serial = r.Serial + 1
		return a, status
	})
	until(t, "answers to something else are refused", func() bool { return containsAny(m.Status().Alarms, "the answer is to report") })
	if g := m.node.grants(); g.Floor != 2000 {
		t.Errorf("in force: %+v", g)
	}
}

func TestFloorAtStart(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		alone bool
		disk  string
		floor int64
	}{
		"never joined":   {false, "", 0},
		"alone":          {true, "", exchange.FullShare},
		"saved":          {false, `{"floor":123,"rank":1,"members":2}`, 123},
		"saved, alone":   {true, `{"floor":123,"rank":1,"members":2}`, 123},
		"damaged":        {true, `{"floor":12`, 0},
		"out of range":   {false, `{"floor":65537}`, 0},
		"no file at all": {false, `null`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options("a", "spool-a")
			o.Alone, o.Node = c.alone, &fakeNode{}
			if c.disk != "" {
				if err := os.WriteFile(filepath.Join(o.DataDir, "control.json"), []byte(c.disk), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := control.New(o)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Status().Floor; got != c.floor {
				t.Errorf("floor %d, want %d", got, c.floor)
			}
			if damaged := len(m.Status().Alarms) > 0; damaged != (name == "damaged" || name == "out of range") {
				t.Errorf("alarms %q", m.Status().Alarms)
			}
		})
	}
}

// INVARIANT: what is confirmed is on disk, and what is used is not above it.
func TestFloorIsDurableBeforeItIsConfirmed(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	l.answers(granted(5000))
	o := w.options("a", "spool-a")
	m := w.start(o)
	l.reported("the first floor is confirmed", func(r *exchange.Report) bool { return r.Floor == 5000 })
	block := filepath.Join(o.DataDir, "control.json.tmp") // nothing can be saved any more
	if err := os.Mkdir(block, 0o700); err != nil {
		t.Fatal(err)
	}
	l.answers(granted(9000))
	until(t, "an alarm", func() bool { return containsAny(m.Status().Alarms, "save the floor") })
	if g := m.node.grants(); g.Floor != 5000 {
		t.Errorf("a floor of %d is used that is not on disk", g.Floor)
	}
	l.answers(granted(1000))
	until(t, "the lower floor is used", func() bool { return m.node.grants().Floor == 1000 })
	_, n := l.last()
	until(t, "two more reports", func() bool { _, now := l.last(); return now >= n+2 })
	if r, _ := l.last(); r.Floor != 5000 {
		t.Errorf("a floor of %d is confirmed that is not on disk", r.Floor)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	l.reported("the lower floor is confirmed", func(r *exchange.Report) bool { return r.Floor == 1000 })
	m.stop()
	again, err := control.New(o) // after a crash
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Status().Floor; got != 1000 {
		t.Errorf("after a crash: floor %d", got)
	}
}

// A node that ends lets the leader know before its lease is gone.
func TestLeavingReleases(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	m := w.start(w.options("a", "spool-a"))
	m.given("s1", 1)
	lease := m.Status().Lease
	l.answers(func(r *exchange.Report) (*exchange.Answer, int) {
		if s := source(r, "s1"); s != nil && s.Released && r.Draining && r.Lease == lease {
			w.assign("s1", "", 0, 2, keyspace.Free)
		}
		return &exchange.Answer{}, http.StatusOK
	})
	began := time.Now()
	m.stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("leaving took %s", took)
	}
	got, err := w.etcd.Get(t.Context(), w.keys.Source("s1"))
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Version < 2 {
		t.Errorf("the leader did not hear of it: %v", err)
	}
}

// Whoever hurries has an exchange at once.
func TestHurry(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	m := w.start(w.options("a", "spool-a"))
	l.reported("the first exchange", func(*exchange.Report) bool { return true })
	for range 30 {
		before, _ := l.last()
		m.Hurry()
		began := time.Now()
		l.reported("the next exchange", func(r *exchange.Report) bool { return r.Serial > before.Serial })
		if time.Since(began) < exchange.Interval/2 {
			return
		}
	}
	t.Error("it never came before its second")
}
