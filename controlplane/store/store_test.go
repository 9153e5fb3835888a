package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string, o store.Options) *store.File {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	f, err := store.OpenFile(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// eachStore runs a test on a store of each kind.
func eachStore(t *testing.T, test func(*testing.T, store.Store)) {
	t.Run("files", func(t *testing.T) { test(t, open(t, t.TempDir(), store.Options{})) })
	t.Run("etcd", func(t *testing.T) {
		w := newWorld(t)
		test(t, w.open(t, w.options()))
	})
}

func route(domain, password string) *policy.Route {
	r := &policy.Route{Domains: []string{domain}, Hosts: []string{"relay.example.net:587"}}
	if password != "" {
		r.Username, r.Password = "u", policy.NewSecret(password)
	}
	return r
}

func put(t testing.TB, s store.Store, name string, spec any) *store.Result {
	t.Helper()
	kind := map[bool]string{true: policy.KindRoute, false: policy.KindPool}[isRoute(spec)]
	r, err := s.Apply(context.Background(), store.Batch{Changes: []store.Change{{Kind: kind, Name: name, Spec: spec}}, Author: "ann", Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func isRoute(spec any) bool { _, ok := spec.(*policy.Route); return ok }

func TestApplyMakesRevisionsThatLast(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, store.Options{})
	if f.Snapshot().Revision != 0 || f.Snapshot().Pools["default"] == nil {
		t.Fatalf("an empty store must hold the defaults at revision 0: %+v", f.Snapshot())
	}
	if r := put(t, f, "r", route("a.jp", "hunter2")); r.Revision != 1 || r.Effects[0].Action != store.Created {
		t.Errorf("%+v", r)
	}
	if r := put(t, f, "r", route("a.jp", "hunter2")); r.Revision != 1 || r.Effects[0].Action != store.Unchanged {
		t.Errorf("the same again must change nothing: %+v", r)
	}
	if r := put(t, f, "r", route("b.jp", "")); r.Revision != 2 || r.Effects[0].Action != store.Changed || !r.Effects[0].SecretChanged {
		t.Errorf("%+v", r)
	}
	f.Close()
	f = open(t, dir, store.Options{})
	got, err := f.Get(context.Background(), policy.KindRoute, "r")
	if err != nil || got.Revision != 2 || got.Spec.(*policy.Route).Domains[0] != "b.jp" || f.Snapshot().Revision != 2 {
		t.Errorf("after opening again: %+v %v", got, err)
	}
	if _, err := f.Get(context.Background(), policy.KindRoute, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	all, rev, _ := f.List(context.Background(), "")
	if none, _, _ := f.List(context.Background(), policy.KindPool); len(all) != 1 || rev != 2 || len(none) != 0 {
		t.Errorf("list: %v at %d, pools %v", all, rev, none)
	}
	h, _ := f.History(context.Background(), 1)
	if len(h) != 1 || h[0].Revision != 2 || h[0].Author != "ann" || h[0].Reason != "test" || !h[0].Time.Equal(start) ||
		len(h[0].Effects) != 1 || h[0].Effects[0] != (store.EffectName{Action: store.Changed, Kind: "Route", Name: "r"}) {
		t.Errorf("history: %+v", h)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) { eachStore(t, testApplyIsAllOrNothing) }

func testApplyIsAllOrNothing(t *testing.T, f store.Store) {
	_, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{
		{Kind: policy.KindSource, Name: "s", Spec: &policy.Source{}},
		{Kind: policy.KindPool, Name: "p", Spec: &policy.Pool{Sources: []policy.PoolMember{{Name: "typo"}}}},
	}})
	var problems policy.Problems
	if !errors.As(err, &problems) || problems[0].Path != "spec.sources[0].name" {
		t.Fatal(err)
	}
	if f.Snapshot().Revision != 0 || f.Snapshot().Sources["s"] != nil {
		t.Error("half a batch was applied")
	}
	// A resource that others refer to cannot go alone, but can go with them.
	put(t, f, "p", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}})
	if _, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{{Kind: policy.KindTenant, Name: "t", Spec: &policy.Tenant{Pool: "p"}}}}); err != nil {
		t.Fatal(err)
	}
	del := store.Change{Kind: policy.KindPool, Name: "p"}
	if _, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{del}}); !errors.As(err, &problems) {
		t.Error(err)
	}
	r, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{del, {Kind: policy.KindTenant, Name: "t"}}})
	if err != nil || r.Effects[0].Action != store.Deleted || r.Effects[0].After != nil {
		t.Errorf("%+v %v", r, err)
	}
}

func TestApplyRefuses(t *testing.T) { eachStore(t, testApplyRefuses) }

func testApplyRefuses(t *testing.T, f store.Store) {
	put(t, f, "r", route("a.jp", ""))
	var conflict *store.ConflictError
	var problems policy.Problems
	ok := route("b.jp", "")
	for name, tt := range map[string]struct {
		batch store.Batch
		want  any
	}{
		"store moved on":     {store.Batch{Expected: 9, Changes: []store.Change{{Kind: "Route", Name: "r", Spec: ok}}}, &conflict},
		"resource moved on":  {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "r", Spec: ok, Expected: 9}}}, &conflict},
		"exists already":     {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "r", Spec: ok, Expected: store.Absent}}}, &conflict},
		"gone meanwhile":     {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "x", Spec: ok, Expected: 1}}}, &conflict},
		"twice in one batch": {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "x", Spec: ok}, {Kind: "Route", Name: "x", Spec: ok}}}, &problems},
		"unknown kind":       {store.Batch{Changes: []store.Change{{Kind: "Queue", Name: "x", Spec: ok}}}, &problems},
		"spec of another":    {store.Batch{Changes: []store.Change{{Kind: "Pool", Name: "x", Spec: ok}}}, &problems},
		"no spec":            {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "x", Spec: (*policy.Route)(nil)}}}, &problems},
		"delete what is not": {store.Batch{Changes: []store.Change{{Kind: "Route", Name: "x"}}}, nil},
	} {
		_, err := f.Apply(context.Background(), tt.batch)
		if tt.want == nil && !errors.Is(err, store.ErrNotFound) || tt.want != nil && !errors.As(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f.Snapshot().Revision != 1 {
		t.Error("a refused batch made a revision")
	}
	// The right expectation passes.
	if _, err := f.Apply(context.Background(), store.Batch{Expected: 1, Changes: []store.Change{{Kind: "Route", Name: "r", Spec: ok, Expected: 1}}}); err != nil {
		t.Error(err)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, store.Options{})
	r, err := f.Apply(context.Background(), store.Batch{DryRun: true, Changes: []store.Change{{Kind: "Route", Name: "r", Spec: route("a.jp", "")}}})
	if err != nil || r.Revision != 0 || r.Effects[0].Action != store.Created {
		t.Errorf("%+v %v", r, err)
	}
	if got, _ := filepath.Glob(filepath.Join(dir, "r*")); len(got) != 0 {
		t.Errorf("files: %v", got)
	}
}

func TestSecretsStayWhileLeftOut(t *testing.T) { eachStore(t, testSecretsStayWhileLeftOut) }

func testSecretsStayWhileLeftOut(t *testing.T, f store.Store) {
	password := func() string {
		r, err := f.Get(context.Background(), policy.KindRoute, "r")
		if err != nil {
			t.Fatal(err)
		}
		return r.Spec.(*policy.Route).Password.Reveal()
	}
	put(t, f, "r", route("a.jp", "hunter2"))
	edited := route("b.jp", "")
	edited.Username = "u"
	put(t, f, "r", edited)
	if password() != "hunter2" {
		t.Error("the password was lost")
	}
	if edited.Password.Reveal() != "" {
		t.Error("the caller's spec was written to")
	}
	// Editing the hosts must not send the password to a new place.
	elsewhere := route("b.jp", "")
	elsewhere.Username, elsewhere.Hosts = "u", []string{"evil.example.org"}
	_, err := f.Apply(context.Background(), store.Batch{Changes: []store.Change{{Kind: "Route", Name: "r", Spec: elsewhere}}})
	if err == nil || !strings.Contains(err.Error(), "has to be given again") {
		t.Error(err)
	}
}

func TestSecretsAreInPrivateFilesOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	f := open(t, dir, store.Options{})
	put(t, f, "r", route("a.jp", "hunter2"))
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range append(files, dir) {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "r000000000001.json"))
	if strings.Count(string(b), "hunter2") != 1 {
		t.Errorf("the secret must be kept, once: %s", b)
	}
}

func TestRollback(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, store.Options{Keep: 3})
	put(t, f, "r", route("a.jp", "hunter2"))
	put(t, f, "p", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}})
	put(t, f, "r", route("b.jp", ""))
	r, err := f.Rollback(context.Background(), store.Rollback{To: 1, Author: "bob"})
	if err != nil || r.Revision != 4 || len(r.Effects) != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	got, _ := f.Get(context.Background(), policy.KindRoute, "r")
	if spec := got.Spec.(*policy.Route); spec.Domains[0] != "a.jp" || spec.Password.Reveal() != "hunter2" {
		t.Errorf("%+v", spec)
	}
	if f.Snapshot().Pools["p"] != nil {
		t.Error("what came later must be gone")
	}
	h, _ := f.History(context.Background(), 0)
	if len(h) != 3 || h[0].Reason != "rollback to revision 1" || h[0].Author != "bob" || h[2].Revision != 2 {
		t.Errorf("history, of which three are kept: %+v", h)
	}
	if _, err := f.Rollback(context.Background(), store.Rollback{To: 1}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a revision that is not kept any more: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "r*.json")); len(files) != 3 {
		t.Errorf("files: %v", files)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, store.Options{})
	if _, err := store.OpenFile(dir, store.Options{}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second opening: %v", err)
	}
	put(t, f, "r", route("a.jp", ""))
	put(t, f, "r", route("b.jp", ""))
	f.Close()
	newest := filepath.Join(dir, "r000000000002.json")
	good, _ := os.ReadFile(newest)
	for name, bad := range map[string]string{
		"cut short":   string(good[:len(good)/2]),
		"empty":       "",
		"changed":     strings.Replace(string(good), "b.jp", "c.jp", 1),
		"later":       strings.Replace(string(good), `"format":1`, `"format":2`, 1),
		"other name":  func() string { b, _ := os.ReadFile(filepath.Join(dir, "r000000000001.json")); return string(b) }(),
		"two of them": string(good) + string(good),
	} {
		if err := os.WriteFile(newest, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := store.OpenFile(dir, store.Options{})
		if err == nil || !strings.Contains(err.Error(), "policy revision 2 cannot be read") || !strings.Contains(err.Error(), newest) {
			t.Errorf("%s: %v", name, err)
		}
		if f != nil {
			f.Close()
		}
		if _, err := os.Stat(newest); err != nil {
			t.Errorf("%s: the file must stay: %v", name, err)
		}
	}
	// What the error says to do works.
	if err := os.Rename(newest, filepath.Join(dir, "bad.json")); err != nil {
		t.Fatal(err)
	}
	if f := open(t, dir, store.Options{}); f.Snapshot().Revision != 1 {
		t.Errorf("revision %d", f.Snapshot().Revision)
	}
}

func TestSubscribersSeeEachRevisionInOrder(t *testing.T) {
	eachStore(t, testSubscribersSeeEachRevisionInOrder)
}

func testSubscribersSeeEachRevisionInOrder(t *testing.T, f store.Store) {
	var seen []int64
	stop := f.Subscribe(func(s *policy.Set) { seen = append(seen, s.Revision) })
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { put(t, f, "r"+string(rune('a'+i)), route(string(rune('a'+i))+".jp", "")) })
	}
	wg.Wait()
	for i, rev := range seen {
		if rev != int64(i) {
			t.Fatalf("seen %v", seen)
		}
	}
	if len(seen) != 11 {
		t.Fatalf("seen %v", seen)
	}
	stop()
	put(t, f, "z", route("z.jp", ""))
	if len(seen) != 11 {
		t.Error("called after stop")
	}
}

func TestSeedFillsAnEmptyStoreOnly(t *testing.T) { eachStore(t, testSeedFillsAnEmptyStoreOnly) }

func testSeedFillsAnEmptyStoreOnly(t *testing.T, f store.Store) {
	seed := []policy.Resource{{Kind: "Route", Name: "r", Spec: route("a.jp", "")}}
	if r, err := store.Seed(context.Background(), f, seed, "local", "seed"); err != nil || r.Revision != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if r, err := store.Seed(context.Background(), f, []policy.Resource{{Kind: "Route", Name: "s", Spec: route("b.jp", "")}}, "local", "seed"); err != nil || r != nil {
		t.Errorf("%+v %v", r, err)
	}
	if f.Snapshot().Routes["s"] != nil {
		t.Error("a store that held something was seeded")
	}
}

func TestClosedStoreRefuses(t *testing.T) { eachStore(t, testClosedStoreRefuses) }

func testClosedStoreRefuses(t *testing.T, f store.Store) {
	f.Close()
	if _, err := f.Apply(context.Background(), store.Batch{}); err == nil {
		t.Error("a closed store took a change")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
