package follow_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/node/control/follow"
)

// steered is a follower of an etcd that holds decisions about docomo.
func steered(t *testing.T, dir string) (*fake, *follow.Follower, func() follow.Options) {
	key, _ := keyspace.NewKey()
	e := newFake(t, key)
	e.apply(t, source("a"))
	e.steer("docomo", rests("s1"))
	options := func() follow.Options {
		return follow.Options{Client: e, Keys: e.keys, Key: key, DataDir: dir, Logger: quiet, Wait: 3 * time.Second}
	}
	f, err := follow.Open(t.Context(), options())
	if err != nil {
		t.Fatal(err)
	}
	return e, f, options
}

// goBack has etcd be what it was some revisions ago, but for what fn changes, and
// ends all watches, as a restore does.
func (f *fake) goBack(revisions int64, fn func()) {
	f.set(func(f *fake) {
		f.rev -= revisions
		maps.DeleteFunc(f.mods, func(_ string, mod int64) bool { return mod > f.rev })
		fn()
	})
	f.end()
}

// A backup whose policy is today's holds decisions of then. They count, and so do
// those that come after, though their revisions are lower than what was followed:
// whoever orders sets by the revision of what lies over them must not drop them.
func TestDecisionsGoOnAfterARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f, _ := steered(t, t.TempDir())
		defer f.Close()
		for i := range 20 {
			e.steer("au", rests(fmt.Sprint("s", i)))
		}
		synctest.Wait()
		last := int64(0)
		defer f.Subscribe(func(s *policy.Set) {
			if r := s.Steering().Revision; r < last {
				t.Errorf("revision %d of what was decided came after %d", r, last)
			} else {
				last = r
			}
		})()
		e.goBack(15, func() { e.values[e.keys.Steering("au")] = rests("s4") })
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := f.Snapshot(); resting(s, "au") != "s4" || resting(s, "docomo") != "s1" {
			t.Errorf("out of the backup: %q rests at au, %q at docomo", resting(s, "au"), resting(s, "docomo"))
		}
		e.steer("au", rests("new"))
		synctest.Wait()
		if s := f.Snapshot(); resting(s, "au") != "new" {
			t.Errorf("decided since: %q rests at au", resting(s, "au"))
		}
	})
}

// An etcd that has lost its data, or holds a policy of before, says nothing about
// sources: what rested goes on to rest, whichever of the two watches sees it first.
func TestDecisionsStayWhilePolicyIsRefused(t *testing.T) {
	for name, lose := range map[string]func(e *fake){
		"its data is lost": func(e *fake) { clear(e.values) },
		"its policy is of before": func(e *fake) {
			e.values[e.keys.PolicyHead()] = `{"revision":0,"base":0,"sum":""}`
			delete(e.values, e.keys.Steering("docomo"))
		},
	} {
		for range 4 { // the watches begin again at random times
			synctest.Test(t, func(t *testing.T) {
				e, f, _ := steered(t, t.TempDir())
				defer f.Close()
				synctest.Wait()
				e.goBack(2, func() { lose(e) })
				time.Sleep(time.Minute)
				synctest.Wait()
				if s := f.Snapshot(); resting(s, "docomo") != "s1" {
					t.Errorf("%s: %q rests", name, resting(s, "docomo"))
				}
				if s := f.Status(); !strings.Contains(s.Alarm, "etcd") {
					t.Errorf("%s: no alarm: %+v", name, s)
				}
			})
		}
	}
}

// On a bad day something is decided all the time. It is on disk all the same, and
// when etcd goes away what came last is too: the process may end without a word.
func TestDecisionsReachTheDiskInABusyHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		e, f, options := steered(t, dir)
		onDisk := func() string {
			// Another process that starts now, without etcd.
			o := options()
			silent := newFake(t, o.Key)
			silent.silent = true
			o.Client, o.Wait = silent, time.Second
			g, err := follow.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			return resting(g.Snapshot(), "au")
		}
		for i := range 40 {
			e.steer("au", rests(fmt.Sprint("s", i)))
			time.Sleep(250 * time.Millisecond)
		}
		if got := onDisk(); got < "s20" || len(got) < 3 {
			t.Errorf("after ten busy seconds the disk has %q", got)
		}
		e.steer("au", rests("last"))
		synctest.Wait()
		e.set(func(e *fake) { e.silent = true })
		e.end()
		synctest.Wait()
		if got := onDisk(); got != "last" {
			t.Errorf("when etcd went away the disk had %q", got)
		}
		f.Close()
	})
}
