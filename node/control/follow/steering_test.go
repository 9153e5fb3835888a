package follow_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/node/control/follow"
)

// rests is a record by which a source rests until 2030.
func rests(source string) string {
	return `{"lanes":[{"source":"` + source + `","state":"blocked","rests":"2030-01-01T00:00:00Z","decision":"d1","reason":"told so"}]}`
}

// resting names the sources that rest at a carrier.
func resting(s *policy.Set, carrier string) string {
	if s.Steering() == nil {
		return ""
	}
	var names []string
	for on, c := range s.Steering().Lanes {
		if on.Carrier == carrier && c.State == policy.StateBlocked {
			names = append(names, on.Source)
		}
	}
	return strings.Join(names, " ")
}

func TestFollowsDecisionsInVirtualTime(t *testing.T) {
	key, _ := keyspace.NewKey()
	dir := t.TempDir()
	var e *fake
	options := func() follow.Options {
		return follow.Options{Client: e, Keys: e.keys, Key: key, DataDir: dir, Logger: quiet, Wait: 3 * time.Second}
	}
	synctest.Test(t, func(t *testing.T) {
		e = newFake(t, key)
		e.apply(t, source("a"))
		e.steer("docomo", rests("s1"))
		f, err := follow.Open(t.Context(), options())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		base := f.Snapshot()
		told := 0
		f.Subscribe(func(s *policy.Set) {
			if told++; !s.SamePolicy(base) && s.Revision == base.Revision {
				t.Error("a decision made another policy")
			}
		})
		want := func(what, docomo, au string) {
			t.Helper()
			synctest.Wait()
			if s := f.Snapshot(); resting(s, "docomo") != docomo || resting(s, "au") != au {
				t.Errorf("%s: %q rests at docomo, %q at au; want %q, %q", what, resting(s, "docomo"), resting(s, "au"), docomo, au)
			}
		}
		want("at the start", "s1", "")
		e.steer("au", rests("s2"))
		want("told by the watch", "s1", "s2")
		e.apply(t, source("b"))
		want("under a new policy", "s1", "s2")
		before := told
		e.steer("au", rests("s2"))
		if want("the same again", "s1", "s2"); told != before {
			t.Error("what has not changed was told again")
		}
		e.steer("au", `{"lanes":[{"source":7}]}`)
		want("a record that cannot be read", "s1", "s2")
		if s := f.Status(); !strings.Contains(s.Alarm, `"au"`) {
			t.Errorf("no alarm: %+v", s)
		}
		e.steer("au", "")
		want("deleted", "s1", "")
		if s := f.Status(); s.Alarm != "" || s.Steered != e.rev {
			t.Errorf("%+v, at revision %d", s, e.rev)
		}
		e.set(func(e *fake) { e.deaf = true })
		e.steer("docomo", rests("s3"))
		want("not told", "s1", "")
		time.Sleep(6 * time.Second)
		want("found out within some seconds", "s3", "")
		e.set(func(e *fake) { e.deaf = false })
		e.end()
		e.steer("au", rests("s4"))
		time.Sleep(time.Second)
		want("read anew after a compaction", "s3", "s4")
		e.set(func(e *fake) { e.silent = true })
		time.Sleep(time.Minute)
		want("while etcd is silent", "s3", "s4")
	})
	// A start without etcd: what rested goes on to rest.
	synctest.Test(t, func(t *testing.T) {
		e.silent = true
		e.watches = nil
		f, err := follow.Open(t.Context(), options())
		if err != nil {
			t.Fatal(err)
		}
		if s := f.Snapshot(); resting(s, "docomo") != "s3" || resting(s, "au") != "s4" {
			t.Errorf("after a start without etcd %q and %q rest", resting(s, "docomo"), resting(s, "au"))
		}
		f.Close()
	})
	// etcd as it was in a backup from before: its policy is refused, and with it
	// what was decided then.
	synctest.Test(t, func(t *testing.T) {
		cluster := e.values[e.keys.Cluster()]
		e = newFake(t, key)
		e.values[e.keys.Cluster()] = cluster
		e.apply(t, source("a"))
		e.steer("docomo", rests("old"))
		f, err := follow.Open(t.Context(), options())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s := f.Snapshot(); resting(s, "docomo") != "s3" {
			t.Errorf("out of a backup: %q rests", resting(s, "docomo"))
		}
		f.Close()
	})
}

// A file of decisions that is damaged is put aside, and the node starts.
func TestDamagedDecisionsOnDisk(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "x")
	if _, err := w.client.Put(t.Context(), w.keys.Steering("docomo"), rests("s1")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := open(t, w.options(dir))
	if resting(f.Snapshot(), "docomo") != "s1" {
		t.Fatalf("%+v", f.Snapshot().Steering())
	}
	f.Close()
	path := filepath.Join(dir, "steering-snapshot")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, b[:len(b)/2], []byte(strings.Replace(string(b), "s1", "s2", 1)), []byte("\n\n{}")} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, w.options(dir))
		if resting(f.Snapshot(), "docomo") != "s1" { // etcd has it
			t.Errorf("%q: %+v", damaged, f.Snapshot().Steering())
		}
		f.Close()
		if _, err := os.Stat(path + ".damaged"); err != nil {
			t.Error(err)
		}
	}
	// A real watch, beside the fake one of the other tests.
	f = open(t, w.options(dir))
	changed := make(chan string, 16)
	defer f.Subscribe(func(s *policy.Set) { changed <- resting(s, "docomo") })()
	if _, err := w.client.Txn(t.Context()).Then(clientv3.OpPut(w.keys.Steering("docomo"), rests("s9")), clientv3.OpDelete(w.keys.Steering("au"))).Commit(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-changed:
			if got == "s9" {
				return
			}
		case <-deadline:
			t.Fatal("a change does not arrive")
		}
	}
}
