package store_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

func source(n int) store.Change {
	return store.Change{Kind: policy.KindSource, Name: fmt.Sprintf("s%05d", n), Spec: &policy.Source{Address: fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255), EHLO: fmt.Sprintf("s%05d.example.net", n)}}
}

func apply(t testing.TB, s store.Store, cs ...store.Change) *store.Result {
	t.Helper()
	r, err := s.Apply(t.Context(), store.Batch{Changes: cs, Author: "ann", Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reaches waits until a store has a revision in force.
func reaches(t testing.TB, s store.Store, revision int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	there := make(chan struct{})
	var once sync.Once
	stop := s.Subscribe(func(p *policy.Set) {
		if p.Revision >= revision {
			once.Do(func() { close(there) })
		}
	})
	defer stop()
	select {
	case <-there:
	case <-ctx.Done():
		t.Fatalf("revision %d does not arrive; at %d", revision, s.Snapshot().Revision)
	}
}

func TestStoresOverOneEtcdAgree(t *testing.T) {
	w := newWorld(t)
	stores := []*store.Etcd{w.open(t, w.options()), w.open(t, w.options())}
	var falls atomic.Int64
	for _, s := range stores {
		last := int64(-1)
		s.Subscribe(func(p *policy.Set) {
			if p.Revision <= last {
				falls.Add(1)
			}
			last = p.Revision
		})
	}
	const each = 15
	var wg sync.WaitGroup
	for i, s := range stores {
		for j := range each {
			wg.Go(func() {
				r, err := s.Apply(t.Context(), store.Batch{Changes: []store.Change{source(i*each + j)}})
				if err != nil || s.Snapshot().Revision < r.Revision {
					t.Errorf("%+v %v", r, err)
				}
			})
		}
	}
	wg.Wait()
	for _, s := range stores {
		reaches(t, s, 2*each)
		if n := len(s.Snapshot().Sources); n != 2*each+1 || s.Degraded() != "" {
			t.Errorf("%d sources; %s", n, s.Degraded())
		}
	}
	if falls.Load() > 0 {
		t.Error("a subscriber saw a revision fall or repeat")
	}
	p, err := stores[0].VerifyAudit(t.Context())
	if err != nil || p.Revisions != 2*each || p.Revision != 2*each {
		t.Errorf("%+v %v", p, err)
	}
}

func TestOnlyExpectationsConflict(t *testing.T) {
	w := newWorld(t)
	a, b := w.open(t, w.options()), w.open(t, w.options())
	apply(t, a, source(1))
	apply(t, b, source(2))
	var conflict *store.ConflictError
	if _, err := a.Apply(t.Context(), store.Batch{Expected: 1, Changes: []store.Change{source(3)}}); !errors.As(err, &conflict) || conflict.Have != 2 {
		t.Errorf("an author who saw revision 1: %v", err)
	}
	// The resource did not change since revision 1, though others did.
	c := source(1)
	c.Expected = 1
	c.Spec.(*policy.Source).EHLO = "other.example.net"
	if r := apply(t, a, c); r.Revision != 3 {
		t.Errorf("%+v", r)
	}
	if _, err := b.Apply(t.Context(), store.Batch{Changes: []store.Change{c}}); !errors.As(err, &conflict) {
		t.Errorf("an author who saw an older resource: %v", err)
	}
	if r, err := b.Apply(t.Context(), store.Batch{Expected: 3, DryRun: true, Changes: []store.Change{source(9)}}); err != nil || r.Revision != 3 {
		t.Errorf("dry run at the newest revision, which the store had not heard of: %+v %v", r, err)
	}
}

// deaf loses answers: what was asked is done, but the asker hears of a failure.
type deaf struct {
	clientv3.KV
	lose *atomic.Int64
}

func (d deaf) Txn(ctx context.Context) clientv3.Txn { return &deafTxn{d.KV.Txn(ctx), d.lose} }

type deafTxn struct {
	clientv3.Txn
	lose *atomic.Int64
}

func (d *deafTxn) If(c ...clientv3.Cmp) clientv3.Txn  { d.Txn = d.Txn.If(c...); return d }
func (d *deafTxn) Then(o ...clientv3.Op) clientv3.Txn { d.Txn = d.Txn.Then(o...); return d }
func (d *deafTxn) Else(o ...clientv3.Op) clientv3.Txn { d.Txn = d.Txn.Else(o...); return d }

func (d *deafTxn) Commit() (*clientv3.TxnResponse, error) {
	r, err := d.Txn.Commit()
	if err == nil && d.lose.Add(-1) >= 0 {
		return nil, rpctypes.ErrTimeout
	}
	return r, err
}

func TestLostAnswersAreNotRepeatedChanges(t *testing.T) {
	w := newWorld(t)
	other := w.open(t, w.options())
	var lose atomic.Int64
	copied := clientv3.NewCtxClient(t.Context())
	copied.Watcher, copied.KV = w.client.Watcher, deaf{w.client.KV, &lose}
	w.client = copied
	e := w.open(t, w.options())
	for i := range 5 {
		lose.Store(2)
		if r := apply(t, e, source(i)); r.Revision != int64(i+1) {
			t.Fatalf("%+v", r)
		}
		lose.Store(2)
		if err := e.AppendAudit(t.Context(), store.Entry{Action: "hold", Scope: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if err := other.AppendAudit(t.Context(), store.Entry{Action: "release", Scope: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := e.VerifyAudit(t.Context())
	if err != nil || p.Revisions != 5 || p.Orders != 10 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestSecretsAreSealedInEtcd(t *testing.T) {
	w := newWorld(t)
	e := w.open(t, w.options())
	_, private, _ := ed25519.GenerateKey(nil)
	der, _ := x509.MarshalPKCS8PrivateKey(private)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	canaries := []string{"canary-hunter2", strings.Split(key, "\n")[1]}
	apply(t, e,
		store.Change{Kind: "Route", Name: "r", Spec: route("a.jp", canaries[0])},
		store.Change{Kind: "SigningKey", Name: "k", Spec: &policy.SigningKey{Domain: "a.jp", Selector: "s", PrivateKey: policy.NewSecret(key)}})
	for i := range 70 { // beyond a base
		apply(t, e, source(i))
	}
	edited := route("b.jp", "")
	edited.Username = "u"
	apply(t, e, store.Change{Kind: "Route", Name: "r", Spec: edited})
	shown := []any{w.dump(t)}
	list, _, _ := e.List(t.Context(), "")
	diff, err := e.Diff(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	page, err := e.Audit(t.Context(), store.AuditFilter{}, 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	bad := route("c.jp", canaries[0])
	bad.Hosts = []string{"not a host"}
	_, refused := e.Apply(t.Context(), store.Batch{Changes: []store.Change{{Kind: "Route", Name: "r", Spec: bad}}})
	if refused == nil {
		t.Error("a bad route was taken")
	}
	wrong := w
	wrong.key, _ = keyspace.NewKey()
	_, wrongKey := store.OpenEtcd(t.Context(), w.client, wrong.options())
	shown = append(shown, list, diff, page, refused, wrongKey)
	for i, v := range shown {
		b, _ := json.Marshal(v)
		text := fmt.Sprintf("%v %+v %#v %s", v, v, v, b)
		for _, c := range canaries {
			if strings.Contains(text, c) {
				t.Errorf("%d shows %q", i, c)
			}
		}
	}
	// The search finds what is not secret, in deltas and in a base.
	if n := strings.Count(shown[0].(string), "s00007.example.net"); n != 2 {
		t.Errorf("a name that is not secret is found %d times", n)
	}
	// The canaries are there to be found.
	again := w.open(t, w.options())
	r, err := again.Get(t.Context(), "Route", "r")
	if err != nil || r.Spec.(*policy.Route).Password.Reveal() != canaries[0] || again.Snapshot().SigningKeys["k"].PrivateKey.Reveal() != key {
		t.Errorf("the secrets were lost: %v", err)
	}
	for _, x := range diff {
		if x.Kind == "Route" && (x.After.Spec.(*policy.Route).Password.Reveal() == canaries[0] || x.After.Spec.(*policy.Route).Password.IsZero()) {
			t.Error("a diff must say that there is a password, and not hold it")
		}
	}
}

func TestLargestPolicy(t *testing.T) {
	w := newWorld(t)
	e := w.open(t, w.options())
	var cs []store.Change
	for i := range 10_000 {
		cs = append(cs, source(i))
	}
	for i := range 2_000 {
		sum := fmt.Sprintf("%064x", i*7919)
		cs = append(cs, store.Change{Kind: policy.KindTenant, Name: fmt.Sprintf("tenant%04d", i), Spec: &policy.Tenant{
			SenderDomains: []string{fmt.Sprintf("t%d.example.com", i)},
			APIKeys:       []policy.APIKey{{Name: "main", Hash: fmt.Sprintf("sha256:%012d:%s", i, sum)}},
		}})
	}
	began := time.Now()
	if r := apply(t, e, cs...); r.Revision != 1 {
		t.Fatal(r.Revision)
	}
	t.Logf("12,000 resources applied in %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	again := w.open(t, w.options())
	t.Logf("opened in %s", time.Since(began).Round(time.Millisecond))
	if s := again.Snapshot(); len(s.Sources) != 10_001 || len(s.Tenants) != 2_001 {
		t.Errorf("%d sources, %d tenants", len(s.Sources), len(s.Tenants))
	}
	began = time.Now()
	apply(t, e, source(20_000))
	t.Logf("one resource more in %s", time.Since(began).Round(time.Millisecond))
	reaches(t, again, 2)
	if _, err := e.Apply(t.Context(), store.Batch{Reason: noise(3 << 20), Changes: []store.Change{source(20_001)}}); err == nil || !strings.Contains(err.Error(), "at most 1048576 are possible") {
		t.Errorf("a change too large: %.200v", err)
	}
	apply(t, e, source(20_002))
}

// noise cannot be compressed to less than half.
func noise(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(keyspace.NewID())
	}
	return b.String()
}

func TestHistoryOverManyBases(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	clock := start
	o.Now, o.Keep = func() time.Time { return clock }, 50
	e := w.open(t, o)
	for i := range 200 {
		apply(t, e, source(i))
		clock = clock.Add(24 * time.Hour)
	}
	if n := len(w.open(t, o).Snapshot().Sources); n != 201 {
		t.Fatalf("%d sources", n)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Revision 64 is the only base older than 90 days and than 50 revisions.
	for rev, kept := range map[int64]bool{1: false, 63: false, 64: true, 65: true, 127: true, 128: true, 199: true} {
		r, err := e.Rollback(t.Context(), store.Rollback{To: rev, DryRun: true})
		if kept && (err != nil || len(r.Effects) != 200) || !kept && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("back to %d: %v", rev, err)
		}
	}
	h, err := e.History(t.Context(), 0)
	if err != nil || len(h) != 200 || h[199].Revision != 1 || h[199].Effects[0].Name != "s00000" {
		t.Errorf("%d revisions: %v", len(h), err)
	}
	if p, err := e.VerifyAudit(t.Context()); err != nil || p.Revisions != 200 {
		t.Errorf("%+v %v", p, err)
	}
	if n := strings.Count(w.dump(t), "policy/base/"); n != 2*3 {
		t.Errorf("%d keys of bases, want three bases of one part", n)
	}
	d, err := e.Diff(t.Context(), 128, 131)
	if err != nil || len(d) != 3 || d[0].Action != store.Created || d[0].Name != "s00128" {
		t.Errorf("%+v %v", d, err)
	}
	if n := len(w.open(t, o).Snapshot().Sources); n != 201 {
		t.Errorf("%d sources after compaction", n)
	}
}

func TestFilesOfAnOlderVersionAreTakenOver(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "policy")
	f := open(t, dir, store.Options{})
	put(t, f, "r", route("a.jp", "hunter2"))
	put(t, f, "r", route("b.jp", "hunter3"))
	put(t, f, "p", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}})
	f.Close()
	o := w.options()
	o.ImportDir = dir
	e := w.open(t, o)
	if s := e.Snapshot(); s.Revision != 3 || s.Routes["r"].Password.Reveal() != "hunter3" || s.Pools["p"] == nil {
		t.Fatalf("%+v", s)
	}
	h, err := e.History(t.Context(), 0)
	if err != nil || len(h) != 1 || h[0].Author != "ann" || h[0].Revision != 3 || !strings.HasPrefix(h[0].Reason, "test") {
		t.Errorf("%+v %v", h, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the files must be put aside: %v", err)
	}
	if strings.Contains(w.dump(t), "hunter") {
		t.Error("a secret lies open")
	}
	if r := put(t, e, "q", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}}); r.Revision != 4 {
		t.Errorf("%+v", r)
	}
	// The end between writing and renaming, and files that are not of this etcd.
	if err := os.Rename(dir+".imported", dir); err != nil {
		t.Fatal(err)
	}
	if s := w.open(t, o).Snapshot(); s.Revision != 4 {
		t.Errorf("revision %d", s.Revision)
	}
	if _, err := os.Stat(dir + ".imported"); err != nil {
		t.Error(err)
	}
	f = open(t, dir, store.Options{})
	put(t, f, "x", route("x.jp", ""))
	f.Close()
	if s := w.open(t, o).Snapshot(); s.Revision != 4 || s.Routes["x"] != nil {
		t.Errorf("revision %d", s.Revision)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("files that were not taken over must stay: %v", err)
	}
}

func TestWrongClusterIsRefused(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.DataDir = t.TempDir()
	w.open(t, o)
	otherKey, _ := keyspace.NewKey()
	wrongKey := o
	wrongKey.Key = otherKey
	elsewhere := newWorld(t).options()
	elsewhere.DataDir = o.DataDir
	other := newWorld(t)
	other.key = w.key
	other.open(t, other.options())
	otherCluster := other.options()
	otherCluster.DataDir = o.DataDir
	for name, tt := range map[string]struct {
		o    store.Options
		want string
	}{
		"another key":         {wrongKey, "is not the key of cluster"},
		"an empty prefix":     {elsewhere, "etcd holds no cluster"},
		"another cluster":     {otherCluster, "but this machine belongs to"},
		"no key":              {store.Options{Keys: w.keys}, "no cluster key"},
		"a mangled id file":   {o, "holds no cluster id"},
		"no key, wrong files": {store.Options{DataDir: o.DataDir}, "no cluster key"},
	} {
		if name == "a mangled id file" {
			tt.o.DataDir = t.TempDir()
			if err := os.WriteFile(filepath.Join(tt.o.DataDir, keyspace.ClusterFile), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if e, err := store.OpenEtcd(t.Context(), w.client, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
			if e != nil {
				e.Close()
			}
		}
	}
}

// restore puts back what lay under the prefix at an earlier revision of etcd,
// as a restore from a backup does.
func (w world) restore(t testing.TB, rev int64) {
	t.Helper()
	old, err := w.client.Get(t.Context(), w.keys.Prefix(), clientv3.WithPrefix(), clientv3.WithRev(rev))
	if err != nil {
		t.Fatal(err)
	}
	ops := []clientv3.Op{}
	there := map[string]bool{}
	for _, kv := range old.Kvs {
		there[string(kv.Key)] = true
		ops = append(ops, clientv3.OpPut(string(kv.Key), string(kv.Value)))
	}
	now, _ := w.client.Get(t.Context(), w.keys.Prefix(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	for _, kv := range now.Kvs {
		if !there[string(kv.Key)] {
			ops = append(ops, clientv3.OpDelete(string(kv.Key)))
		}
	}
	if _, err := w.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
}

func (w world) revision(t testing.TB) int64 {
	t.Helper()
	r, err := w.client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func TestRestoredBackupIsNotObeyedSilently(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.DataDir = t.TempDir()
	e := w.open(t, o)
	apply(t, e, source(1))
	backup := w.revision(t)
	apply(t, e, source(2))
	apply(t, e, source(3))
	w.restore(t, backup)
	if _, err := e.Apply(t.Context(), store.Batch{Changes: []store.Change{source(4)}}); err == nil || !strings.Contains(err.Error(), "restored from an older backup") {
		t.Errorf("a change upon it: %v", err)
	}
	if s := e.Snapshot(); s.Revision != 3 || s.Sources["s00003"] == nil || !strings.Contains(e.Degraded(), "went back") || e.Metrics().Alarms != 1 {
		t.Errorf("revision %d in force; degraded: %s; %+v", s.Revision, e.Degraded(), e.Metrics())
	}
	e.Close()
	e = w.open(t, o)
	if s := e.Snapshot(); s.Revision != 1 || !strings.Contains(e.Degraded(), "but 3 (") {
		t.Errorf("after a start: revision %d; degraded: %q", s.Revision, e.Degraded())
	}
	if _, err := e.Apply(t.Context(), store.Batch{Changes: []store.Change{source(4)}}); err == nil {
		t.Error("a change upon it was taken after a start")
	}
	r, err := e.AcceptRestored(t.Context(), 0, "ann", "admin", "we know")
	if err != nil || r.Revision != 4 || e.Degraded() != "" || e.Snapshot().Sources["s00001"] == nil {
		t.Errorf("%+v %v; degraded: %q", r, err, e.Degraded())
	}
	if r := apply(t, e, source(4)); r.Revision != 5 {
		t.Errorf("%+v", r)
	}
	if _, err := e.AcceptRestored(t.Context(), 0, "ann", "admin", ""); err == nil {
		t.Error("accepted though nothing went back")
	}
	if _, err := e.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}
