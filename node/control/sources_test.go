package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
	"hikyaku/controlplane/policy"
	"hikyaku/node/control"
)

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

func containsAny(list []string, text string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, text) })
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// source finds a source in a report.
func source(r *exchange.Report, name string) *exchange.HeldSource {
	for i := range r.Sources {
		if r.Sources[i].Source == name {
			return &r.Sources[i]
		}
	}
	return nil
}

func TestOnlyOwnAssignmentsAreUsed(t *testing.T) {
	w := newWorld(t)
	m := w.start(w.options("a", "spool-a"))
	lease := m.Status().Lease
	w.assign("s1", "b", lease, 1, keyspace.Held)           // another node
	w.assign("s2", "a", lease+1, 1, keyspace.Held)         // another lease
	w.assign("pinned", "a", lease, 1, keyspace.Held)       // no matter of the leader
	w.assign("unknown", "a", lease, 1, keyspace.Held)      // policy has none
	w.assign("s1", "a", lease, 2, keyspace.Quarantined)    // not yet
	w.put(w.keys.Source("broken"), "no assignment at all") // an alarm
	until(t, "all was read", func() bool { return containsAny(m.Status().Alarms, "broken") && m.node.hold("pinned") != nil })
	for _, name := range []string{"s1", "s2", "unknown", "broken"} {
		if m.node.hold(name) != nil {
			t.Errorf("%s is used", name)
		}
	}
	wrong := keyspace.Assignment{Source: "s1", Epoch: 3, Node: "a", Lease: lease, Address: "127.0.0.99", State: keyspace.Held}
	w.put(w.keys.Source("s1"), wrong)
	m.given("s2", 5) // seen after it
	if m.node.hold("s1") != nil {
		t.Error("a source is used whose assignment is about another address")
	}
	m.given("s1", 4)
}

func TestRelease(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	m := w.start(w.options("a", "spool-a"))
	h := m.given("s1", 7)
	if !h.Enter() {
		t.Fatal("a use cannot begin")
	}
	l.reported("held in the report", func(r *exchange.Report) bool {
		s := source(r, "s1")
		return s != nil && s.Epoch == 7 && !s.Released
	})
	w.assign("s1", "a", m.Status().Lease, 7, keyspace.Releasing)
	until(t, "nothing new begins", func() bool { return m.node.hold("s1") == nil })
	<-h.Stopped().Done()
	if h.MayUse(time.Now()) || h.Enter() {
		t.Error("the source may still be used")
	}
	if r := l.reported("one more report", func(*exchange.Report) bool { return true }); source(&r, "s1") == nil || source(&r, "s1").Released {
		t.Errorf("reported as %+v while a use is under way", source(&r, "s1"))
	}
	h.Leave()
	l.reported("released", func(r *exchange.Report) bool { s := source(r, "s1"); return s != nil && s.Released && s.Epoch == 7 })

	// What etcd says under the same epoch changes nothing any more.
	w.assign("s1", "a", m.Status().Lease, 7, keyspace.Held)
	m.given("s2", 1)
	if m.node.hold("s1") != nil {
		t.Error("used again under an epoch that was released")
	}
	l.reported("still released", func(r *exchange.Report) bool { s := source(r, "s1"); return s != nil && s.Released })
	m.given("s1", 8)
	if h.MayUse(time.Now()) {
		t.Error("the old right came back with the new one")
	}
}

func TestReleaseIsCutOff(t *testing.T) {
	w := newWorld(t)
	m := w.start(w.options("a", "spool-a"))
	h := m.given("s1", 1)
	if !h.Enter() {
		t.Fatal("a use cannot begin")
	}
	began := time.Now()
	w.assign("s1", "a", m.Status().Lease, 1, keyspace.Releasing)
	<-h.Severed().Done()
	if took := time.Since(began); took < testQuarantine/2 || took > testQuarantine {
		t.Errorf("cut off after %s, want half of %s", took, testQuarantine)
	}
	h.Leave()
	if m.Metrics().CutConnections != 1 {
		t.Errorf("counted %d", m.Metrics().CutConnections)
	}
}

// Taken away without a word: others may use it already.
func TestTakenAwayIsCutAtOnce(t *testing.T) {
	w := newWorld(t)
	m := w.start(w.options("a", "spool-a"))
	h := m.given("s1", 1)
	h.Enter()
	w.assign("s1", "b", 99, 2, keyspace.Held)
	<-h.Severed().Done()
	h.Leave()
	if h.MayUse(time.Now()) {
		t.Error("may be used")
	}
}

// attacher keeps the order of what it is asked for.
type attacher struct {
	mu struct {
		sync.Mutex
		done []string
		fail error
	}
}

func (a *attacher) note(what, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.done = append(a.mu.done, what+" "+name)
	return a.mu.fail
}

func (a *attacher) Attach(_ context.Context, name string, _ int64, _ *policy.Source) error {
	return a.note("attach", name)
}

func (a *attacher) Detach(_ context.Context, name string, _ int64, _ *policy.Source) error {
	return a.note("detach", name)
}

func (a *attacher) Sweep(_ context.Context, keep func(string) bool) error {
	if keep("s1") || !keep("pinned") || keep("gone") {
		return errors.New("the wrong ones are kept")
	}
	return a.note("sweep", "all")
}

func (a *attacher) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.fail = err
}

func (a *attacher) of(name string) (list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.mu.done {
		if strings.HasSuffix(d, " "+name) {
			list = append(list, d)
		}
	}
	return list
}

func TestAddressIsThereFromFirstToLastUse(t *testing.T) {
	w := newWorld(t)
	a := &attacher{}
	o := w.options("a", "spool-a")
	o.Attach = a
	m := w.start(o)
	h := m.given("s1", 1)
	h.Enter()
	if got := a.of("s1"); !slices.Equal(got, []string{"attach s1"}) {
		t.Errorf("before its use: %q", got)
	}
	w.assign("s1", "a", m.Status().Lease, 1, keyspace.Releasing)
	<-h.Stopped().Done()
	if got := a.of("s1"); len(got) != 1 {
		t.Errorf("while a use is under way: %q", got)
	}
	h.Leave()
	until(t, "detached", func() bool { return slices.Equal(a.of("s1"), []string{"attach s1", "detach s1"}) })
	if len(a.of("all")) != 1 || len(m.Status().Alarms) != 0 {
		t.Errorf("swept %q, alarms %q", a.of("all"), m.Status().Alarms)
	}
	m.stop()
	if got := a.of("pinned"); !slices.Equal(got, []string{"attach pinned", "detach pinned"}) {
		t.Errorf("the pinned source: %q", got)
	}
}

func TestAddressThatStays(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	a := &attacher{}
	o := w.options("a", "spool-a")
	o.Attach = a
	m := w.start(o)
	m.given("s1", 1)
	a.set(errors.New("netlink is angry"))
	w.assign("s1", "a", m.Status().Lease, 1, keyspace.Releasing)
	r := l.reported("released with a fault", func(r *exchange.Report) bool { s := source(r, "s1"); return s != nil && s.Released })
	if !strings.Contains(source(&r, "s1").Fault, "angry") || !containsAny(m.Status().Alarms, "angry") {
		t.Errorf("reported %+v, alarms %q", source(&r, "s1"), m.Status().Alarms)
	}
	a.set(nil)
	until(t, "it is taken off at last", func() bool { return !containsAny(m.Status().Alarms, "angry") })
}

func TestFault(t *testing.T) {
	w := newWorld(t)
	l := newLeader(w, "c1")
	o := w.options("a", "spool-a")
	missing := errors.New("cannot assign requested address")
	o.OnMachine = func(a netip.Addr) error {
		if a.String() == addresses["s1"] {
			return missing
		}
		return nil
	}
	m := w.start(o)
	w.assign("s1", "a", m.Status().Lease, 1, keyspace.Held)
	r := l.reported("the fault", func(r *exchange.Report) bool { s := source(r, "s1"); return s != nil && s.Fault != "" })
	if f := source(&r, "s1").Fault; !strings.Contains(f, addresses["s1"]) || !strings.Contains(f, missing.Error()) {
		t.Errorf("fault %q", f)
	}
	m.given("s2", 1)
	if m.node.hold("s1") != nil {
		t.Error("a source is used whose address is not on the machine")
	}
}

// A process that was stopped, or whose clock on the wall was set, finds its
// right over when the monotonic clock says so, and not before.
func TestHoldAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := lease.New(time.Now(), 10*time.Second, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		h := control.NewHold("s1", 1, k)
		time.Sleep(8*time.Second - 1)
		if !h.MayUse(time.Now()) || !h.Enter() {
			t.Error("over before its time")
		}
		time.Sleep(time.Minute) // SIGSTOP … SIGCONT: nothing of ours ran
		if h.MayUse(time.Now()) {
			t.Error("may be used after a pause")
		}
		if k.Renewed(time.Now(), time.Now(), 10*time.Second) || h.MayUse(time.Now()) {
			t.Error("an answer that waited in the socket brought it back")
		}
		h.End()
		h.Leave()
		if h.Enter() {
			t.Error("entered after its end")
		}
	})
}

func BenchmarkMayUse(b *testing.B) {
	k, err := lease.New(time.Now(), time.Hour, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	h := control.NewHold("s1", 1, k)
	for b.Loop() {
		if !h.MayUse(time.Now()) {
			b.Fatal("over")
		}
	}
}
