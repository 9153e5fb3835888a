package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hikyaku/controlplane/policy"
)

var errCrash = errors.New("power is gone")

// crashDisk loses power before its operation number "after". What was renamed
// and not yet synced is lost too if lose is set: both happen in life.
type crashDisk struct {
	realDisk
	after int
	lose  bool

	done     int
	unsynced func() error // undoes the last rename
	dead     bool
}

// step counts an operation and reports whether the power is gone.
func (d *crashDisk) step() bool {
	if d.dead {
		return true
	}
	if d.done == d.after {
		d.dead = true
		if d.lose && d.unsynced != nil {
			if err := d.unsynced(); err != nil {
				panic(err)
			}
		}
		return true
	}
	d.done++
	return false
}

func (d *crashDisk) WriteSync(path string, data []byte) error {
	if alive := !d.dead; d.step() {
		if alive { // half of it got out
			if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
				return err
			}
		}
		return errCrash
	}
	return d.realDisk.WriteSync(path, data)
}

func (d *crashDisk) Rename(from, to string) error {
	if d.step() {
		return errCrash
	}
	d.unsynced = func() error { return os.Rename(to, from) }
	return d.realDisk.Rename(from, to)
}

func (d *crashDisk) SyncDir(dir string) error {
	if d.step() {
		return errCrash
	}
	d.unsynced = nil
	return d.realDisk.SyncDir(dir)
}

func (d *crashDisk) Remove(path string) error {
	if d.step() {
		return errCrash
	}
	return d.realDisk.Remove(path)
}

// TestCrashBetweenAnyTwoSteps applies batches until the power goes at each
// operation in turn, and opens what is left.
func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	batch := func(i int) Batch {
		return Batch{Changes: []Change{
			{Kind: policy.KindRoute, Name: "r", Spec: &policy.Route{Domains: []string{fmt.Sprintf("d%d.jp", i)}}},
			{Kind: policy.KindSource, Name: fmt.Sprintf("s%d", i), Spec: &policy.Source{}},
		}}
	}
	const batches = 4
	for after := 0; ; after++ {
		finished := false
		for _, lose := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "policy")
			d := &crashDisk{after: after, lose: lose}
			f, err := OpenFile(dir, Options{disk: d, Keep: 2})
			if err != nil {
				t.Fatal(err)
			}
			acked := int64(0)
			for i := 1; i <= batches; i++ {
				r, err := f.Apply(context.Background(), batch(i))
				if err != nil {
					if !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					break
				}
				acked = r.Revision
			}
			f.Close()
			again, err := OpenFile(dir, Options{Keep: 2})
			if err != nil {
				t.Fatalf("crash before operation %d (lose %v): %v", after, lose, err)
			}
			got := again.Snapshot().Revision
			if got != acked && got != acked+1 {
				t.Errorf("crash before operation %d (lose %v): revision %d after %d was acknowledged", after, lose, got, acked)
			}
			if lose && got != acked {
				t.Errorf("crash before operation %d: an unsynced revision survived its own loss", after)
			}
			for i := int64(1); i <= batches; i++ {
				if (again.Snapshot().Sources[fmt.Sprintf("s%d", i)] != nil) != (i <= got) {
					t.Errorf("crash before operation %d: revision %d is not whole", after, got)
				}
			}
			// It goes on from there.
			if _, err := again.Apply(context.Background(), batch(9)); err != nil {
				t.Errorf("crash before operation %d: %v", after, err)
			}
			again.Close()
			finished = !d.dead
		}
		if finished {
			if want := batches*3 + 2; after != want {
				t.Errorf("the run has %d operations, want %d: does a step go round the disk interface?", after, want)
			}
			return
		}
	}
}

// TestUnknownOutcomeDoesNotBlock: the rename was done, its sync failed, the
// process lives on. The next change must go through.
func TestUnknownOutcomeDoesNotBlock(t *testing.T) {
	dir := t.TempDir()
	d := &crashDisk{after: 2}
	f, err := OpenFile(dir, Options{disk: d})
	if err != nil {
		t.Fatal(err)
	}
	change := func(name string) error {
		_, err := f.Apply(context.Background(), Batch{Changes: []Change{{Kind: policy.KindSource, Name: name, Spec: &policy.Source{}}}})
		return err
	}
	if err := change("a"); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	if f.Snapshot().Revision != 0 {
		t.Error("an unsynced revision came into force")
	}
	d.dead, d.after = false, 1000
	if err := change("b"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again, err := OpenFile(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if s := again.Snapshot(); s.Revision != 1 || s.Sources["a"] != nil || s.Sources["b"] == nil {
		t.Errorf("revision %d, sources %v", s.Revision, s.Sources)
	}
}
