package attach_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/attach"
)

var quiet = slog.New(slog.DiscardHandler)

// on is a source on an interface.
func on(iface, address string, bits int) *policy.Source {
	return &policy.Source{Address: address, Attach: policy.AttachNetlink, Interface: iface, PrefixLength: bits}
}

// machine is a node's file and interfaces.
type machine struct {
	k    *attach.Interfaces
	file string
	boot string
}

func newMachine(t testing.TB) *machine {
	return &machine{attach.NewInterfaces(), filepath.Join(t.TempDir(), "attached.json"), "boot-1"}
}

// open is a new process on it.
func (m *machine) open(t testing.TB, programs ...string) *attach.Table {
	t.Helper()
	o := attach.Options{File: m.file, Logger: quiet, Programs: programs, CommandTimeout: 5 * time.Second}
	o.Use(m.k, m.boot)
	table, err := attach.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// list is "eth0 192.0.2.1/32, …".
func (m *machine) list() string {
	var out []string
	for key, p := range m.k.Has {
		iface, _, _ := strings.Cut(key, " ")
		out = append(out, iface+" "+p.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (m *machine) want(t testing.TB, want string) {
	t.Helper()
	if got := m.list(); got != want {
		t.Errorf("the interfaces have %q, want %q", got, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestAttachAndDetach(t *testing.T) {
	m := newMachine(t)
	a := m.open(t)
	ctx := t.Context()
	for range 2 { // the second changes nothing
		must(t, a.Attach(ctx, "s4", 1, on("eth0", "192.0.2.1", 0)))
		must(t, a.Attach(ctx, "s6", 1, on("eth0", "2001:db8::1", 64)))
		must(t, a.Attach(ctx, "none", 1, &policy.Source{Address: "192.0.2.9"}))
		must(t, a.Attach(ctx, "local", 1, &policy.Source{}))
	}
	m.want(t, "eth0 192.0.2.1/32, eth0 2001:db8::1/64")
	if want := []string{"eth0 192.0.2.1", "eth0 2001:db8::1"}; !slices.Equal(m.k.Announced, want) {
		t.Errorf("announced %q", m.k.Announced)
	}
	// Somebody took it away; the node asks again.
	delete(m.k.Has, "eth0 192.0.2.1")
	must(t, a.Attach(ctx, "s4", 2, on("eth0", "192.0.2.1", 0)))
	m.want(t, "eth0 192.0.2.1/32, eth0 2001:db8::1/64")
	// A word of before the epoch in force is too late.
	must(t, a.Detach(ctx, "s4", 1, nil))
	m.want(t, "eth0 192.0.2.1/32, eth0 2001:db8::1/64")
	must(t, a.Detach(ctx, "s4", 2, nil))
	must(t, a.Detach(ctx, "s4", 2, nil))
	must(t, a.Detach(ctx, "unknown", 9, nil))
	m.want(t, "eth0 2001:db8::1/64")
	if got := a.Attached(); len(got) != 1 || got[0].Source != "s6" {
		t.Errorf("recorded %+v", got)
	}
	if got := a.Metrics(); got.Attached != 1 || got.Detaches != 1 || got.Failures != 0 || got.Attaches != 9 {
		t.Errorf("%+v", got)
	}
}

func TestWhatWasThereStays(t *testing.T) {
	m := newMachine(t)
	m.k.Has["eth0 192.0.2.1"] = netip.MustParsePrefix("192.0.2.1/24")
	a := m.open(t)
	must(t, a.Attach(t.Context(), "s", 1, on("eth0", "192.0.2.1", 0)))
	must(t, a.Detach(t.Context(), "s", 1, nil))
	m.want(t, "eth0 192.0.2.1/24")
	// Also when it comes there at the very moment.
	m.k.Raced = true
	must(t, a.Attach(t.Context(), "r", 1, on("eth1", "192.0.2.1", 0)))
	must(t, a.Detach(t.Context(), "r", 1, nil))
	m.want(t, "eth0 192.0.2.1/24, eth1 192.0.2.1/32")
}

func TestAChangeUndoesTheOldWay(t *testing.T) {
	m := newMachine(t)
	a := m.open(t)
	ctx := t.Context()
	must(t, a.Attach(ctx, "s", 1, on("eth0", "192.0.2.1", 0)))
	must(t, a.Attach(ctx, "s", 2, on("eth1", "192.0.2.1", 0)))
	m.want(t, "eth1 192.0.2.1/32")
	must(t, a.Attach(ctx, "s", 3, on("eth1", "192.0.2.2", 24)))
	m.want(t, "eth1 192.0.2.2/24")
	// The same address under another name would be taken off by the first.
	err := a.Attach(ctx, "other", 1, on("eth1", "192.0.2.2", 24))
	if err == nil || !strings.Contains(err.Error(), `source "s"`) {
		t.Errorf("%v", err)
	}
	must(t, a.Attach(ctx, "s", 4, &policy.Source{Address: "192.0.2.2"}))
	m.want(t, "")
	must(t, a.Attach(ctx, "other", 2, on("eth1", "192.0.2.2", 24)))
	m.want(t, "eth1 192.0.2.2/24")
}

func TestFailures(t *testing.T) {
	m := newMachine(t)
	a := m.open(t)
	ctx := t.Context()
	broken := errors.New("broken")
	fail := func(what string) { m.k.Fail = map[string]error{what: broken} }
	s := on("eth0", "192.0.2.1", 0)
	for _, what := range []string{"has", "add"} {
		fail(what)
		if err := a.Attach(ctx, "s", 1, s); !errors.Is(err, broken) {
			t.Errorf("%s: %v", what, err)
		}
		if len(a.Attached()) != 0 {
			t.Errorf("%s: recorded", what)
		}
	}
	fail("announce")
	must(t, a.Attach(ctx, "s", 1, s))
	fail("remove")
	if err := a.Detach(ctx, "s", 1, s); !errors.Is(err, broken) || len(a.Attached()) != 1 {
		t.Errorf("%v, recorded %v", err, a.Attached())
	}
	if err := a.Sweep(ctx, nil); !errors.Is(err, broken) {
		t.Errorf("sweep: %v", err)
	}
	m.k.Fail = nil
	must(t, a.Detach(ctx, "s", 1, s))
	m.want(t, "")
	if got := a.Metrics(); got.Failures != 4 || got.AnnounceFailed != 1 {
		t.Errorf("%+v", got)
	}
	for name, bad := range map[string]*policy.Source{
		"no address": on("eth0", "x", 0), "no interface": on("", "192.0.2.1", 0), "prefix": on("eth0", "192.0.2.1", 33),
		"word": {Address: "192.0.2.1", Attach: "arp"},
	} {
		if err := a.Attach(ctx, "b", 1, bad); err == nil {
			t.Errorf("%s was attached", name)
		}
	}
	// What cannot be remembered is not attached.
	must(t, os.Mkdir(m.file+".new", 0o700))
	if err := a.Attach(ctx, "s", 2, s); err == nil || len(a.Attached()) != 0 {
		t.Errorf("%v, recorded %v", err, a.Attached())
	}
	m.want(t, "")
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []attach.Options{{}, {File: "relative"}, {File: "/nowhere/at/all/x", Programs: []string{"ip"}}} {
		if _, err := attach.Open(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// life is what a node does with its addresses, up to the end or a crash.
func life(ctx context.Context, a *attach.Table) (crashed bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(attach.Crash); !ours {
				panic(r)
			}
			crashed = true
		}
	}()
	steps := []func() error{
		func() error { return a.Attach(ctx, "s1", 1, on("eth0", "192.0.2.1", 0)) },
		func() error { return a.Attach(ctx, "s2", 1, on("eth0", "192.0.2.2", 0)) },
		func() error { return a.Attach(ctx, "foreign", 1, on("eth0", "192.0.2.99", 0)) },
		func() error { return a.Detach(ctx, "s1", 1, nil) },
		func() error { return a.Attach(ctx, "s1", 2, on("eth1", "192.0.2.1", 24)) },
		func() error { return a.Attach(ctx, "s2", 2, on("eth1", "192.0.2.3", 0)) },
		func() error { return a.Detach(ctx, "s2", 2, nil) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// TestACrashLeavesNothingBehind stops before and after each thing that is done
// to an interface. The negative control forgets the file: then something is
// left.
func TestACrashLeavesNothingBehind(t *testing.T) {
	left := 0
	for _, forget := range []bool{false, true} {
		for at := 1; ; at++ {
			m := newMachine(t)
			m.k.Has["eth0 192.0.2.99"] = netip.MustParsePrefix("192.0.2.99/24")
			m.k.CrashAt = at
			crashed, err := life(t.Context(), m.open(t))
			must(t, err)
			m.k.CrashAt = 0
			if forget {
				must(t, os.Remove(m.file))
			}
			next := m.open(t)
			must(t, next.Sweep(t.Context(), nil))
			const want = "eth0 192.0.2.99/24"
			switch got := m.list(); {
			case !forget && (got != want || len(next.Attached()) != 0):
				t.Errorf("crash at step %d: left with %q and %+v", at, got, next.Attached())
			case forget && got != want:
				left++
			}
			if !crashed {
				if at < 10 {
					t.Errorf("only %d steps", at)
				}
				break
			}
		}
	}
	if left == 0 {
		t.Error("nothing was left without the file: does the check see anything?")
	}
}

func TestSweepKeepsWhatIsPinned(t *testing.T) {
	m := newMachine(t)
	a := m.open(t)
	for i := range 3 {
		must(t, a.Attach(t.Context(), fmt.Sprint("s", i), 1, on("eth0", fmt.Sprintf("192.0.2.%d", i), 0)))
	}
	next := m.open(t)
	must(t, next.Sweep(t.Context(), func(source string) bool { return source == "s1" }))
	m.want(t, "eth0 192.0.2.1/32")
	// It is known to be ours still.
	must(t, next.Attach(t.Context(), "s1", 2, on("eth0", "192.0.2.1", 0)))
	must(t, next.Detach(t.Context(), "s1", 2, nil))
	m.want(t, "")
}

// TestABootForgetsInterfaces: what the machine itself put there since is not
// ours.
func TestABootForgetsInterfaces(t *testing.T) {
	m := newMachine(t)
	must(t, m.open(t).Attach(t.Context(), "s", 1, on("eth0", "192.0.2.1", 0)))
	m.boot = "boot-2"
	next := m.open(t)
	must(t, next.Sweep(t.Context(), nil))
	m.want(t, "eth0 192.0.2.1/32")
	if len(next.Attached()) != 0 {
		t.Error("it is recorded still")
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "{", "version": `{"version":2}`, "twice": `{"version":1,"records":[{"source":"s","address":"192.0.2.1","interface":"e","prefix_length":32},{"source":"s","address":"192.0.2.1","interface":"e","prefix_length":32}]}`,
		"record": `{"version":1,"records":[{"source":"s","address":"192.0.2.1"}]}`, "program": `{"version":1,"records":[{"source":"s","address":"192.0.2.1","detach_command":["rm"]}]}`,
	} {
		m := newMachine(t)
		must(t, os.WriteFile(m.file, []byte(text), 0o600))
		if got := m.open(t).Attached(); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if b, err := os.ReadFile(m.file + ".damaged"); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// TestManyAtOnce: sources side by side, and calls for one in turn.
func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	a := m.open(t)
	var all sync.WaitGroup
	for i := range 20 {
		for epoch := range int64(3) {
			all.Go(func() {
				s := on("eth0", fmt.Sprintf("192.0.2.%d", i), 0)
				must(t, a.Attach(t.Context(), fmt.Sprint("s", i), epoch, s))
				must(t, a.Detach(t.Context(), fmt.Sprint("s", i), 9, s))
			})
		}
	}
	all.Wait()
	m.want(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Attach(ctx, "s", 1, on("eth0", "192.0.2.1", 0)); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"records":[{"source":"s","epoch":1,"address":"192.0.2.1","interface":"eth0","prefix_length":32,"boot":"b"}]}`))
	f.Add([]byte(`{"version":1,"records":[{"source":"s","epoch":1,"address":"2001:db8::1","detach_command":["/bin/x","1"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := attach.Parse(b)
		if err != nil {
			if strings.HasPrefix(err.Error(), "BUG") {
				t.Error(err)
			}
			return
		}
		text, err := json.Marshal(map[string]any{"version": 1, "records": rs})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := attach.Parse(text); err != nil || len(again) != len(rs) {
			t.Errorf("%s: %v", text, err)
		}
	})
}
