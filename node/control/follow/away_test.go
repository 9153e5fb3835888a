package follow_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
	"hikyaku/node/control/follow"
)

const snapshotFile = "policy-snapshot"

func TestStartsFromDiskWithoutEtcd(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "canary-hunter2")
	o := w.options(t.TempDir())
	open(t, o).Close()
	b, err := os.ReadFile(filepath.Join(o.DataDir, snapshotFile))
	if err != nil || strings.Contains(string(b), "hunter2") {
		t.Errorf("the file must hold the policy, with its secrets sealed: %v", err)
	}
	info, _ := os.Stat(filepath.Join(o.DataDir, snapshotFile))
	if info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	w.store.Close()
	w.server.Close()
	o.Wait = 200 * time.Millisecond
	f := open(t, o)
	if s := f.Snapshot(); s.Revision != 1 || s.Routes["a"].Password.Reveal() != "canary-hunter2" || f.Status().Connected {
		t.Errorf("%+v %+v", s, f.Status())
	}
	// Etcd comes back, and so does the follower.
	w.server, w.client = startEtcd(t, w.dir)
	if w.store, err = store.OpenEtcd(t.Context(), w.client, store.Options{Keys: w.keys, Key: w.key, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	reaches(t, f, w.put(t, "b", "x"))
	// A node without a snapshot says what is missing.
	w.store.Close()
	w.server.Close()
	o.DataDir = t.TempDir()
	if _, err := follow.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "there is no policy on disk") {
		t.Error(err)
	}
}

func TestDamagedSnapshotIsPutAside(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "hunter2")
	o := w.options(t.TempDir())
	open(t, o).Close()
	path := filepath.Join(o.DataDir, snapshotFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":     "",
		"cut short": string(good[:len(good)-9]),
		"changed":   strings.Replace(string(good), "a.jp", "b.jp", 1),
		"of others": strings.Replace(string(good), `"cluster":"`, `"cluster":"0`, 1),
		"later":     strings.Replace(string(good), `"format":1`, `"format":2`, 1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, o)
		if f.Snapshot().Revision != 1 || f.Status().Alarm != "" { // etcd has mended it
			t.Errorf("%s: %+v", name, f.Status())
		}
		f.Close()
		if aside, err := os.ReadFile(path + ".damaged"); err != nil || string(aside) != bad {
			t.Errorf("%s: the file must be kept aside: %v", name, err)
		}
		if again, _ := os.ReadFile(path); string(again) != string(good) {
			t.Errorf("%s: the file was not written again", name)
		}
	}
	// Without etcd there is nothing to start with.
	if err := os.WriteFile(path, good[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.Close()
	o.Wait = 100 * time.Millisecond
	if _, err := follow.Open(t.Context(), o); err == nil {
		t.Error("started with a damaged policy")
	}
}

func TestManyRevisionsWhileAway(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "x")
	o := w.options(t.TempDir())
	open(t, o).Close()
	var last int64
	for i := range 150 {
		last = w.put(t, fmt.Sprintf("r%d", i), "x")
	}
	// etcd forgets its own history, and the deltas before the newest base go.
	r, err := w.client.Get(t.Context(), w.keys.PolicyHead())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Compact(t.Context(), r.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Delete(t.Context(), w.keys.PolicyDelta(1), clientv3.WithRange(w.keys.PolicyDelta(100))); err != nil {
		t.Fatal(err)
	}
	f := open(t, o)
	if s := f.Snapshot(); s.Revision != last || len(s.Routes) != 151 || f.Status().Alarm != "" {
		t.Errorf("%d routes at %d; %+v", len(s.Routes), s.Revision, f.Status())
	}
}

func TestInvalidRevisionIsRefusedWhole(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "hunter2")
	o := w.options(t.TempDir())
	f := open(t, o)
	w.forge(t, keyspace.Record{Kind: "Pool", Name: "p", Spec: []byte(`{"sources":[{"name":"typo"}]}`)})
	alarms(t, f, "spec.sources[0].name")
	if f.Snapshot().Revision != 1 || f.Metrics().Refused != 1 {
		t.Errorf("%+v %+v", f.Status(), f.Metrics())
	}
	f.Close()
	// It is refused after a start too, and the one on disk stays.
	f = open(t, o)
	if f.Snapshot().Revision != 1 || !strings.Contains(f.Status().Alarm, "typo") {
		t.Errorf("%+v", f.Status())
	}
	// Mended upon it, all is well.
	w.forge(t, keyspace.Record{Kind: "Pool", Name: "p", Spec: []byte(`{"sources":[{"name":"default"}]}`)})
	reaches(t, f, 3)
	if s := f.Status(); s.Alarm != "" {
		t.Errorf("%+v", s)
	}
	// A secret sealed for another place.
	sealed, _ := w.key.Seal("Route/other password", "hunter2")
	w.forge(t, keyspace.Record{Kind: "Route", Name: "a", Spec: []byte(`{"domains":["a.jp"],"hosts":["h"],"username":"u"}`), Secrets: map[string]string{"password": sealed}})
	alarms(t, f, "open Route/a password")
	if f.Snapshot().Routes["a"].Hosts[0] == "h" {
		t.Error("half of it is in force")
	}
}

func TestLaterVersionsAreUnderstoodAsFarAsPossible(t *testing.T) {
	w := newWorld(t)
	f := open(t, w.options(t.TempDir()))
	w.forge(t, keyspace.Record{Kind: "Hologram", Name: "h", Spec: []byte(`{"x":1}`)},
		keyspace.Record{Kind: "Source", Name: "s", Spec: []byte(`{"address":"10.0.0.1","ehlo":"s.example.net","shine":"bright"}`)})
	reaches(t, f, 1)
	if s := f.Snapshot(); s.Sources["s"].Address != "10.0.0.1" || f.Status().Alarm != "" {
		t.Errorf("%+v %+v", s, f.Status())
	}
	// A control plane that would drop what it does not know does not change it.
	reachesStore(t, w.store, 1)
	_, err := w.store.Apply(t.Context(), store.Batch{Changes: []store.Change{{Kind: "Source", Name: "s", Spec: &policy.Source{Address: "10.0.0.2", EHLO: "s.example.net"}}}})
	if err == nil || !strings.Contains(err.Error(), "of a later version") {
		t.Error(err)
	}
	w.put(t, "a", "x")
	reaches(t, f, 2)
	if r, err := w.client.Get(t.Context(), w.keys.PolicyDelta(2)); err != nil || strings.Contains(string(r.Kvs[0].Value), "shine") {
		t.Errorf("%v", err)
	}
}

func reachesStore(t testing.TB, s *store.Etcd, revision int64) {
	t.Helper()
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
	case <-time.After(20 * time.Second):
		t.Fatalf("revision %d does not arrive", revision)
	}
}

// forge writes a revision that no control plane checked.
func (w *world) forge(t testing.TB, records ...keyspace.Record) {
	t.Helper()
	var head keyspace.Head
	if r, err := w.client.Get(t.Context(), w.keys.PolicyHead()); err != nil {
		t.Fatal(err)
	} else if len(r.Kvs) > 0 {
		if head, err = keyspace.DecodeHead(r.Kvs[0].Value); err != nil {
			t.Fatal(err)
		}
	}
	put := forged(t, w.keys, head, records)
	var ops []clientv3.Op
	for k, v := range put {
		ops = append(ops, clientv3.OpPut(k, v))
	}
	if _, err := w.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
}

// forged is the keys of one more revision.
func forged(t testing.TB, keys keyspace.Keys, head keyspace.Head, records []keyspace.Record) map[string]string {
	t.Helper()
	d := &keyspace.Delta{Revision: head.Revision + 1, Previous: head.Sum, ID: keyspace.NewID()}
	for _, r := range records {
		r.Revision = d.Revision
		d.Records = append(d.Records, r)
		d.Effects = append(d.Effects, keyspace.Effect{Action: keyspace.Changed, Kind: r.Kind, Name: r.Name})
	}
	value, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		keys.PolicyHead():            fmt.Sprintf(`{"revision":%d,"base":%d,"sum":%q}`, d.Revision, head.Base, d.Sum),
		keys.PolicyDelta(d.Revision): string(value),
	}
}

// alarms waits for an alarm.
func alarms(t testing.TB, f *follow.Follower, want string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !strings.Contains(f.Status().Alarm, want) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("no alarm %q: %+v", want, f.Status())
		}
	}
}

func TestRestoredBackupDoesNotTakePolicyBack(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "x")
	o := w.options(t.TempDir())
	f := open(t, o)
	reaches(t, f, w.put(t, "b", "x"))
	reaches(t, f, w.put(t, "c", "x"))
	w.store.Close() // it would refuse to go on
	backup := map[string]string{}
	r, err := w.client.Get(t.Context(), w.keys.Policy(), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		backup[string(kv.Key)] = string(kv.Value)
	}
	// Back to revision 1.
	d, err := keyspace.DecodeDelta([]byte(backup[w.keys.PolicyDelta(1)]))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.client.Txn(t.Context()).Then(
		clientv3.OpPut(w.keys.PolicyHead(), fmt.Sprintf(`{"revision":1,"base":0,"sum":%q}`, d.Sum)),
		clientv3.OpDelete(w.keys.PolicyDelta(2)), clientv3.OpDelete(w.keys.PolicyDelta(3))).Commit()
	if err != nil {
		t.Fatal(err)
	}
	alarms(t, f, "went back")
	f.Close()
	f = open(t, o)
	if s := f.Snapshot(); s.Revision != 3 || s.Routes["c"] == nil || f.Metrics().WentBack != 1 {
		t.Errorf("%+v %+v", f.Status(), f.Metrics())
	}
	// A control plane that knows nothing of it goes on, past the node: the node
	// follows, and says what happened.
	fresh, err := store.OpenEtcd(t.Context(), w.client, store.Options{Keys: w.keys, Key: w.key, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	w.store = fresh
	w.put(t, "d", "x")
	w.put(t, "e", "x")
	alarms(t, f, "went back") // revision 3, but another 3
	if f.Snapshot().Routes["e"] != nil {
		t.Error("another revision of the same number was taken")
	}
	reaches(t, f, w.put(t, "f", "x"))
	if s := f.Snapshot(); s.Revision != 4 || s.Routes["e"] == nil || s.Routes["c"] != nil || f.Metrics().Forked != 1 || !strings.Contains(f.Status().Alarm, "not the one this node followed") {
		t.Errorf("%+v %+v", f.Status(), f.Metrics())
	}
	reaches(t, f, w.put(t, "g", "x"))
	if a := f.Status().Alarm; a != "" {
		t.Errorf("the alarm stays: %s", a)
	}
}

func TestAcceptedRestoreReachesNodesThatAreAhead(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "x")
	f := open(t, w.options(t.TempDir()))
	reaches(t, f, w.put(t, "b", "x"))
	d := w.delta(t, 1)
	_, err := w.client.Txn(t.Context()).Then(
		clientv3.OpPut(w.keys.PolicyHead(), fmt.Sprintf(`{"revision":1,"base":0,"sum":%q}`, d.Sum)), clientv3.OpDelete(w.keys.PolicyDelta(2))).Commit()
	if err != nil {
		t.Fatal(err)
	}
	alarms(t, f, "went back")
	r, err := w.store.AcceptRestored(t.Context(), 0, "ann", "admin", "")
	if err != nil || r.Revision != 3 {
		t.Fatalf("%+v %v", r, err)
	}
	reaches(t, f, 3)
	if s := f.Snapshot(); s.Routes["a"] == nil || s.Routes["b"] != nil || f.Status().Alarm != "" {
		t.Errorf("%+v", f.Status())
	}
}

func (w *world) delta(t testing.TB, revision int64) *keyspace.Delta {
	t.Helper()
	r, err := w.client.Get(t.Context(), w.keys.PolicyDelta(revision))
	if err != nil || len(r.Kvs) != 1 {
		t.Fatal(err)
	}
	d, err := keyspace.DecodeDelta(r.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWrongClusterOrKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "x")
	o := w.options(t.TempDir())
	open(t, o).Close()
	wrong := o
	wrong.Key, _ = keyspace.NewKey()
	if _, err := follow.Open(t.Context(), wrong); !errors.Is(err, keyspace.ErrWrongCluster) {
		t.Errorf("another key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, snapshotFile)); err != nil {
		t.Errorf("the snapshot must stay for the right key: %v", err)
	}
	other := newWorld(t)
	wrong = o
	wrong.Client, wrong.Key = other.client, other.key
	if _, err := follow.Open(t.Context(), wrong); !errors.Is(err, keyspace.ErrWrongCluster) {
		t.Errorf("another cluster: %v", err)
	}
	// The same etcd without its data: mail goes on, with an alarm.
	if _, err := w.client.Delete(t.Context(), w.keys.Cluster()); err != nil {
		t.Fatal(err)
	}
	f := open(t, o)
	if f.Snapshot().Revision != 1 || !strings.Contains(f.Status().Alarm, "holds no cluster") {
		t.Errorf("%+v", f.Status())
	}
	o.DataDir, o.Wait = t.TempDir(), 50*time.Millisecond
	if _, err := follow.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no control plane has been started there yet") {
		t.Errorf("a new node: %v", err)
	}
}

// TestAppliedWithinASecond measures the way from Apply's answer to three nodes.
func TestAppliedWithinASecond(t *testing.T) {
	w := newWorld(t)
	const nodes, changes = 3, 100
	var mu sync.Mutex
	arrived := sync.NewCond(&mu)
	var has [nodes]int64
	for i := range nodes {
		f := open(t, w.options(t.TempDir()))
		t.Cleanup(f.Subscribe(func(s *policy.Set) {
			mu.Lock()
			defer mu.Unlock()
			has[i] = s.Revision
			arrived.Broadcast()
		}))
	}
	var took []time.Duration
	for i := range changes {
		r := w.put(t, fmt.Sprintf("r%d", i%7), fmt.Sprint(i))
		answered := time.Now()
		mu.Lock()
		for slices.Min(has[:]) < r {
			arrived.Wait()
		}
		mu.Unlock()
		took = append(took, time.Since(answered))
	}
	slices.Sort(took)
	p99 := took[changes*99/100]
	t.Logf("from the answer to three nodes, on disk there: median %s, p99 %s", took[changes/2].Round(time.Microsecond), p99.Round(time.Microsecond))
	if p99 > time.Second {
		t.Errorf("p99 %s", p99)
	}
}

func TestFollowsThroughTheLossOfAMember(t *testing.T) {
	members := map[string]string{}
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		members[fmt.Sprintf("m%d", i)] = "http://" + l.Addr().String()
		l.Close()
	}
	servers := make([]*embedded.Server, 3)
	var wg sync.WaitGroup
	for i := range servers {
		name := fmt.Sprintf("m%d", i)
		wg.Go(func() {
			s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Name: name, Peer: members[name], Members: members, Logger: quiet, StartTimeout: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			servers[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var endpoints []string
	for _, s := range servers {
		defer s.Close()
		endpoints = append(endpoints, s.Endpoints()...)
	}
	c, err := store.Connect(t.Context(), store.ConnectOptions{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &world{client: c}
	w.keys, _ = keyspace.New("")
	w.key, _ = keyspace.NewKey()
	if w.store, err = store.OpenEtcd(t.Context(), c, store.Options{Keys: w.keys, Key: w.key, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	defer w.store.Close()
	f := open(t, w.options(t.TempDir()))
	for i, s := range []*embedded.Server{nil, servers[0]} {
		if s != nil {
			s.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		r, err := w.store.Apply(ctx, store.Batch{Changes: []store.Change{{Kind: "Source", Name: fmt.Sprintf("s%d", i), Spec: &policy.Source{}}}})
		cancel()
		if err != nil {
			t.Fatalf("with %d members gone: %v", i, err)
		}
		reaches(t, f, r.Revision)
	}
}
